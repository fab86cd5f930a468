//! The webhook's thread: reads `drift-alerts`, posts what is to be told from where the group has come to, and notes it.

use std::thread::JoinHandle;
use std::time::Duration;

use super::notify::{Heard, NotifyError, Webhook};
use super::past::WAIT;
use super::reader::Source;
use super::run::{MonitorError, MonitorSettings};
use crate::kafka::follow::{Lookup, Visit};
use crate::kafka::lease::{Lease, Notes};
use crate::stop::Stop;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::monitor::Receiver;
use crate::wire::drift::{DriftAlert, decode};

const TURN: Duration = Duration::from_millis(200);
/// About an hour.
const NOTE_TURNS: u32 = 18_000;
/// Between two attempts to go on after an error of Kafka's.
const AGAIN: Duration = Duration::from_secs(5);

/// Hears of each attempt: the address, and what went wrong.
type Attempted<'a> = dyn Fn(&str, Result<(), &NotifyError>) + 'a;

/// Ends with its owner.
#[derive(Debug)]
pub struct WebhookThread {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Drop for WebhookThread {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Of the address in the settings, where there is one. Where nothing is noted it begins with what comes from now on.
pub fn webhook(
    settings: &MonitorSettings,
    lookup: &Lookup,
    lease: &Lease,
    metrics: &Metrics,
) -> Result<Option<WebhookThread>, MonitorError> {
    let Some(webhook) = Webhook::new(&settings.receivers) else { return Ok(None) };
    let notes = lease.notes(&settings.topics.alerts);
    let Some(extent) = lookup.extents(&settings.topics.alerts, &[0], WAIT)?.first().copied() else { return Ok(None) };
    let told_until = match notes.noted(WAIT)? {
        Some(noted) => noted.min(extent.end),
        None => {
            notes.note(extent.end)?;
            extent.end
        }
    };
    let stop = Stop::new();
    let (until, settings, attempted) = (stop.clone(), settings.clone(), attempts(metrics, Receiver::Webhook));
    let thread = std::thread::Builder::new().name("webhook".to_owned()).spawn(move || {
        let mut desk = Desk { webhook, notes, heard: Heard::default(), next: extent.low, told_until };
        while !until.is_stopped() {
            if let Err(error) = desk.follow(&settings, &attempted, &until) {
                tracing::warn!(%error, "alerts for the webhook cannot be read or noted; it is tried again");
                _ = until.wait(AGAIN);
            }
        }
    });
    Ok(Some(WebhookThread { stop, thread: Some(thread.map_err(MonitorError::Thread)?) }))
}

/// Reads all of the topic: what was told says which alerts the receiver knows.
struct Desk {
    webhook: Webhook,
    notes: Notes,
    heard: Heard,
    /// The offset to be read next.
    next: i64,
    /// All before it is told.
    told_until: i64,
}

impl Desk {
    fn follow(
        &mut self,
        settings: &MonitorSettings,
        attempted: &Attempted<'_>,
        stop: &Stop,
    ) -> Result<(), MonitorError> {
        let mut source = Source::from(settings, &settings.topics.alerts, self.next)?;
        let mut turns = 0_u32;
        while !stop.is_stopped() {
            // The broker forgets what has not been noted for a week.
            turns += 1;
            if turns >= NOTE_TURNS {
                turns = 0;
                self.notes.note(self.told_until)?;
            }
            let mut failed = None;
            source.next(TURN, |message| {
                let alert = message.value().and_then(|value| decode::<DriftAlert>(value).ok());
                if message.offset() >= self.told_until {
                    let due = alert.as_ref().map(|alert| self.heard.due(alert)).unwrap_or_default();
                    if !due.iter().all(|alert| self.webhook.tell(alert, stop, attempted)) {
                        return Visit::Enough;
                    }
                    self.told_until = message.offset() + 1;
                    failed = self.notes.note(self.told_until).err();
                }
                alert.iter().for_each(|alert| self.heard.heard(alert));
                self.next = message.offset() + 1;
                if failed.is_some() { Visit::Enough } else { Visit::Next }
            })?;
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// For who tells: each attempt is counted, and logged.
pub fn attempts(
    metrics: &Metrics,
    receiver: Receiver,
) -> impl Fn(&str, Result<(), &NotifyError>) + Send + use<> + 'static {
    let metrics = metrics.of_worker(0);
    move |url, result| {
        metrics.drift_told(receiver, result.is_ok());
        match result {
            Ok(()) => tracing::debug!(url, "alerts told"),
            Err(error) => tracing::warn!(%error, "alerts could not be told"),
        }
    }
}
