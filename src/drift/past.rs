//! What the monitor wrote before, read back at a start: its windows, alerts and pins. Topics → an [`Engine`] that goes on where
//! the last one ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::board;
use super::engine::{Engine, Pin};
use super::packed::LONGEST_MS;
use super::run::{MonitorError, MonitorSettings, Watch};
use crate::kafka::follow::{self, Extent, Lookup, Visit};
use crate::kafka::raw::Message;
use crate::wire::drift::{self, DriftAlert, DriftReference, DriftWindow};

/// For the answer to one question.
pub const WAIT: Duration = Duration::from_secs(15);
/// How far the past is looked at for what references and thresholds are made of.
pub const PAST_MS: i64 = 70 * DAY_MS;
const DAY_MS: i64 = 24 * 3_600_000;

/// Where the engine goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Resume {
    /// End of the newest window that was published; `None` where there is none.
    pub from_ms: Option<i64>,
    /// The newest state of each segment's alert.
    pub alerts: BTreeMap<Arc<str>, DriftAlert>,
    /// Up to which offset pins were read.
    pub references_end: i64,
    /// Windows that this version could not take.
    pub unreadable: u64,
}

/// Fills an engine and the board. `progress` is called every few thousand records, and says whether to go on.
pub fn restore(
    settings: &MonitorSettings,
    lookup: &Lookup,
    engine: &mut Engine,
    watch: Watch<'_>,
    now_ms: i64,
    mut progress: impl FnMut() -> bool,
) -> Result<Resume, MonitorError> {
    let topics = &settings.topics;
    let mut resume = Resume { from_ms: None, alerts: BTreeMap::new(), references_end: 0, unreadable: 0 };
    let alerts = &mut resume.alerts;
    read(settings, lookup, &topics.alerts, None, |message| {
        if let Some(alert) = message.value().and_then(|value| drift::decode::<DriftAlert>(value).ok()) {
            alerts.insert(Arc::clone(&alert.segment), alert.clone());
            watch.metrics.drift_alert_past(&alert);
            watch.board.alert(alert);
        }
        true
    })?;
    for alert in alerts.values() {
        engine.restore_alert(alert.clone());
    }
    resume.references_end = pins(settings, lookup, engine)?;
    let width_ms = settings.cut.width_ms;
    let (mut seen, mut of_other_width) = (0_u64, 0_u64);
    read(settings, lookup, &topics.windows, Some(now_ms - PAST_MS), |message| {
        seen += 1;
        let goes_on = !seen.is_multiple_of(5_000) || progress();
        let Some(value) = message.value() else { return goes_on };
        let record = drift::decode::<DriftWindow>(value).ok();
        // One that has not been yet is nobody's.
        let record = record.filter(|record| record.window_end <= now_ms + width_ms);
        let is_taken = record.as_ref().is_some_and(|record| match record.window_end.checked_sub(record.window_start) {
            Some(width) if width == width_ms => engine.remember(record).is_ok(),
            Some(1..=LONGEST_MS) => {
                of_other_width += 1;
                true
            }
            Some(_) | None => false,
        });
        let Some(record) = record.filter(|_| is_taken) else {
            resume.unreadable += 1;
            return goes_on;
        };
        // What was counted once is not counted again, whatever the width.
        resume.from_ms = resume.from_ms.max(Some(record.window_end));
        // As far back as the page shows.
        if record.window_end > now_ms - board::DAYS * DAY_MS && record.window_end - record.window_start == width_ms {
            watch.metrics.drift_past(&record);
            watch.board.windows([record]);
        }
        goes_on
    })?;
    if of_other_width > 0 {
        tracing::warn!(
            windows = of_other_width,
            width_ms,
            "monitor.window is another one than before: references and thresholds begin anew"
        );
    }
    if resume.unreadable > 0 {
        tracing::warn!(records = resume.unreadable, topic = topics.windows, "windows that cannot be read are left out");
    }
    tracing::info!(windows = seen, from_ms = resume.from_ms, "the monitor's own past is read");
    Ok(resume)
}

/// A record of the topic of references.
pub fn pin(engine: &mut Engine, message: Message<'_>) {
    let segment = message.key().map(String::from_utf8_lossy);
    match (message.value().map(drift::decode::<DriftReference>), segment) {
        (Some(Ok(reference)), _) => engine.pin(message.offset(), Pin::Set(reference)),
        (Some(Err(error)), segment) => tracing::warn!(%error, ?segment, "a pinned reference cannot be read"),
        (None, Some(segment)) => engine.pin(message.offset(), Pin::Removed(segment.into())),
        (None, None) => {}
    }
}

/// What is on the topic of references; gives where that ended.
pub fn pins(settings: &MonitorSettings, lookup: &Lookup, engine: &mut Engine) -> Result<i64, MonitorError> {
    read(settings, lookup, &settings.topics.references, None, |message| {
        pin(engine, message);
        true
    })
}

/// All of the one partition, or what is of that time or later, until `each` says that it is enough; gives where it ended.
pub fn read(
    settings: &MonitorSettings,
    lookup: &Lookup,
    topic: &str,
    since_ms: Option<i64>,
    mut each: impl FnMut(Message<'_>) -> bool,
) -> Result<i64, MonitorError> {
    let mut extents: Vec<Extent> = lookup.extents(topic, &[0], WAIT)?;
    if let Some(since_ms) = since_ms {
        extents = lookup.since(topic, &extents, since_ms, WAIT)?;
    }
    follow::scan(&settings.client, &settings.group, topic, &extents, |message| {
        Ok::<_, MonitorError>(if each(message) { Visit::Next } else { Visit::Enough })
    })?;
    Ok(extents.first().map_or(0, |extent| extent.end))
}
