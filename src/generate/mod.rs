//! A synthetic bank: its customers' clicks in order of arrival, and the labels apart. Takes [`Params`], gives [`Record`]s
//! one by one and [`Label`]s beside them; the same parameters give the same bytes on every machine. Memory goes with the
//! customers and their open sessions, not with the number of events. `docs/generate.md` says what is modelled. `[pure]`
//!
//! ```text
//! persona ─▶ next visit ─▶ plan: intent, walk over the pages, logout ─▶ arrivals: disorder, duplicates ─▶ Record
//!    ▲            │              ▲                                              └─▶ Label, when the last one is out
//! finance ────────┴── takeover ──┘
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use crate::types::{ClickKind, EventTime};
use crate::wire::click::ClickEvent;

mod random;
mod calendar;
mod pages;
mod intents;
mod persona;
mod finance;
mod scenario;
mod takeover;
mod walk;
mod plan;
mod dirt;
mod open;
mod labels;
mod bank;
pub mod live;
mod json;
mod partition;
#[cfg(test)]
mod tests;

pub use bank::Bank;
pub use dirt::Dirt;
pub use json::write_json;
pub use labels::Label;
pub use live::{Fault, Live, LiveParams, LiveRecord, Truth};
pub use partition::{murmur2, partition_of};
pub use scenario::{Change, Scenario};

/// What bank, how long, and how dirty its stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    pub seed: u64,
    pub customers: u32,
    /// When the bank opens: milliseconds since the epoch.
    pub start: i64,
    /// No visit begins later than this many days after the start. Takeovers lie within it, and the labels' splits are
    /// shares of it.
    pub days: f64,
    /// Visits go on after `days` all the same, until `events_max`.
    pub open_end: bool,
    /// The stream ends after this many records.
    pub events_max: Option<u64>,
    /// Share of the apps that send a session id; a session of the others is known by channel and device.
    pub session_id_share: f64,
    /// Share of the customers that are robbed once within `days`.
    pub takeovers: f64,
    /// Share of the customers for whom an aggregator fetches balances.
    pub aggregators: f64,
    pub dirt: Dirt,
    pub scenarios: Vec<Scenario>,
}

impl Params {
    /// A thousand customers for thirty days from 1 January 2026, a clean stream.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            customers: 1000,
            start: 1_767_225_600_000,
            days: 30.0,
            open_end: false,
            events_max: None,
            session_id_share: 0.7,
            takeovers: 0.02,
            aggregators: 0.004,
            dirt: Dirt::CLEAN,
            scenarios: Vec::new(),
        }
    }
}

/// A click as the bank knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Click {
    pub event_id: String,
    /// The key of its record too.
    pub customer_id: Arc<str>,
    /// Milliseconds since the epoch.
    pub event_time: i64,
    pub kind: ClickKind,
    pub name: &'static str,
    pub channel: &'static str,
    pub device_id: Arc<str>,
    pub session_id: Option<Arc<str>>,
    /// On a LOGIN alone.
    pub context: Vec<(&'static str, f64)>,
    pub attributes: Vec<(&'static str, Cow<'static, str>)>,
}

impl Click {
    /// As `wire` writes it. `None` for a time before 1970, which no bank of [`Params`] that begins after has.
    pub fn event(&self) -> Option<ClickEvent<'_>> {
        Some(ClickEvent {
            event_id: Cow::Borrowed(&self.event_id),
            customer_id: Some(Cow::Borrowed(&self.customer_id)),
            event_time: EventTime::parse(self.event_time)?,
            kind: self.kind,
            name: Cow::Borrowed(self.name),
            channel: Some(Cow::Borrowed(self.channel)),
            session_id: self.session_id.as_deref().map(Cow::Borrowed),
            device_id: Some(Cow::Borrowed(&self.device_id)),
            context: self.context.iter().map(|(name, value)| (Cow::Borrowed(*name), *value)).collect(),
            attributes: self
                .attributes
                .iter()
                .map(|(name, text)| (Cow::Borrowed(*name), Cow::Borrowed(text.as_ref())))
                .collect(),
        })
    }
}

/// A click and when it arrives at the topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub click: Click,
    /// Milliseconds since the epoch; never falls from one record to the next.
    pub record_time: i64,
}
