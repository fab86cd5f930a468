//! A session as it stands, for those who follow the steps: what goes on its records, and its content for the encoder.
//! `[pure]`

use std::sync::Arc;

use super::{Event, Session, Snapshot, Tags};
use crate::pipeline::encode::SessionInput;
use crate::types::{CustomerId, EventTime};
use crate::wire::embedding::Cause;

pub(super) fn snapshot(
    name: &CustomerId,
    session: &Session,
    sequence: Option<u64>,
    event_ids: Vec<Arc<str>>,
    input: SessionInput,
) -> Snapshot {
    let first = &session.events[0].tags;
    let mut tags = Tags::clone(first);
    for event in &session.events[1..] {
        if !Arc::ptr_eq(&event.tags, first) {
            tags.channel = tags.channel.or_else(|| event.tags.channel.clone());
            tags.device = tags.device.or_else(|| event.tags.device.clone());
            for (name, value) in &event.tags.labels {
                tags.labels.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(value));
            }
        }
    }
    let cause = Cause {
        session_uid: Arc::clone(&session.uid),
        revision: session.publications.saturating_sub(1),
        session_id: session.key.strip_prefix("s:").map(Arc::from),
        device_id: tags.device,
        channel: tags.channel,
        session_start: session.start(),
        session_end: session.end(),
        closed_at: session.reason.and_then(|_| session.closed_at.ms()).and_then(EventTime::parse),
        opened_by: session.opened_by,
        close_reason: session.reason,
        event_count: count(session.events.len()),
        unknown_count: count(session.events.iter().filter(|e| e.unknown).count()),
    };
    Snapshot {
        serial: session.serial,
        customer: name.clone(),
        key: Arc::clone(&session.key),
        sequence,
        cause,
        labels: tags.labels,
        event_ids,
        input,
        context: session.events[0].context.clone(),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The rows of the events from the `from`-th on.
pub(super) fn encoder_input(events: &[Event], from: usize) -> SessionInput {
    let mut previous = from.checked_sub(1).map(|at| events[at].time);
    let events = &events[from..];
    let Some(first) = events.first() else { return SessionInput::default() };
    let mut input = SessionInput::with_room(events.len(), first.fields().len(), first.numbers().len());
    for event in events {
        input.push(event.fields(), event.numbers(), event.time, previous);
        previous = Some(event.time);
    }
    input
}
