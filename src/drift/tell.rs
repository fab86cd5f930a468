//! The webhook's thread: reads `drift-alerts` from where its group has come to, posts what is to be told, and notes it.

use std::thread::JoinHandle;
use std::time::Duration;

use super::notify::{NotifyError, Webhook, is_told_to_webhook};
use super::past::WAIT;
use super::reader::Source;
use super::run::{MonitorError, MonitorSettings};
use crate::kafka::follow::{Lookup, Visit};
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

/// Of the address in the settings, where there is one. A group that has noted nothing begins with what comes from now on.
pub fn webhook(
    settings: &MonitorSettings,
    lookup: &Lookup,
    metrics: &Metrics,
) -> Result<Option<WebhookThread>, MonitorError> {
    let Some(webhook) = Webhook::new(&settings.receivers) else { return Ok(None) };
    let topic = settings.topics.alerts.clone();
    let noted = Lookup::new(&settings.client, &format!("{}-webhook", settings.group))?;
    let end = lookup.extents(&topic, &[0], WAIT)?.first().map_or(0, |extent| extent.end);
    let begin = match noted.committed(&topic, &[0], WAIT)?.first() {
        Some(committed) => committed.offset.min(end),
        None => {
            noted.commit(&topic, 0, end)?;
            end
        }
    };
    let stop = Stop::new();
    let (until, settings, told) = (stop.clone(), settings.clone(), attempts(metrics, Receiver::Webhook));
    let thread = std::thread::Builder::new().name("webhook".to_owned()).spawn(move || {
        let mut begin = begin;
        while !until.is_stopped() {
            if let Err(error) = follow(&settings, &topic, (&webhook, &told), &noted, &mut begin, &until) {
                tracing::warn!(%error, "alerts for the webhook cannot be read; it is tried again");
                _ = until.wait(AGAIN);
            }
        }
    });
    Ok(Some(WebhookThread { stop, thread: Some(thread.map_err(MonitorError::Thread)?) }))
}

fn follow(
    settings: &MonitorSettings,
    topic: &str,
    (webhook, attempted): (&Webhook, &Attempted<'_>),
    noted: &Lookup,
    next: &mut i64,
    stop: &Stop,
) -> Result<(), MonitorError> {
    let mut source = Source::from(settings, topic, *next)?;
    let mut turns = 0_u32;
    while !stop.is_stopped() {
        let mut failed = None;
        // The broker forgets what a group without members has not noted for a week.
        turns += 1;
        if turns >= NOTE_TURNS {
            turns = 0;
            noted.commit(topic, 0, *next)?;
        }
        source.next(TURN, |message| {
            let alert = message.value().and_then(|value| decode::<DriftAlert>(value).ok());
            let told = match alert.filter(is_told_to_webhook) {
                Some(alert) => webhook.tell(&alert, stop, attempted),
                None => true,
            };
            if !told {
                return Visit::Enough;
            }
            *next = message.offset() + 1;
            failed = noted.commit(topic, 0, *next).err();
            if failed.is_some() { Visit::Enough } else { Visit::Next }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    Ok(())
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
