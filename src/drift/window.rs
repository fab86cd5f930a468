//! What is counted of one segment in one window of `closed_at`. `[pure]`

use std::collections::BTreeMap;
use std::sync::Arc;

use super::histogram::Histogram;

/// A part of the traffic that is watched by itself: `all`, `channel=web`, `model=bank@3`, `label.country=de`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(pub Arc<str>);

impl Segment {
    pub const ALL: &'static str = "all";

    pub fn all() -> Self {
        Self(Self::ALL.into())
    }

    pub fn is_all(&self) -> bool {
        self.0.as_ref() == Self::ALL
    }

    /// Numbers that say something: of models and labels one takes the customers of another when it is released.
    pub fn has_own_numbers(&self) -> bool {
        self.is_all() || self.0.starts_with("channel=")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The names of [`Window::counts`]. Of what is 0 there is none.
pub mod count {
    /// Customers with a SESSION_CLOSED in the window; each is counted once in the distances or in one of the next five.
    pub const CUSTOMERS: &str = "customers";
    /// Their first embedding ever.
    pub const COLD_START: &str = "cold_start";
    /// No distance, for the model is another one than before.
    pub const MODEL_CHANGED: &str = "model_changed";
    /// A vector of length 0, of another dimension than most, or a distance that is none.
    pub const NO_VECTOR: &str = "no_vector";
    /// SESSION_CLOSED records, all of each customer.
    pub const CLOSED: &str = "closed";
    /// SESSION_REVISED records.
    pub const REVISED: &str = "revised";
    /// SESSION_CLOSED records with a gate below one half.
    pub const GATED: &str = "gated";
    /// Records that came too late for their window, by the time that they were published at.
    pub const LATE: &str = "late";
    /// Events of the closed sessions, and those with an unknown value.
    pub const EVENTS: &str = "events";
    pub const UNKNOWN_EVENTS: &str = "unknown_events";
    /// Closed sessions by reason: `close.LOGOUT`; by length: `length.3` has 2^3 to 2^4 − 1 events; by the hours since the
    /// embedding before: `stale.5` has 2^5 to 2^6 − 1 h, `stale.0` less than 2; by the seconds from closing to publishing.
    pub const CLOSE: &str = "close.";
    pub const LENGTH: &str = "length.";
    pub const STALE: &str = "stale.";
    pub const DELAY: &str = "delay.";
    /// SESSION_CLOSED records by the size of their vectors: `dimension.128`.
    pub const DIMENSION: &str = "dimension.";
    /// Records that are none of an embedding, by why: `bad.decode`, `bad.kind`, `bad.time`. Of the segment `all` alone.
    pub const BAD: &str = "bad.";
    /// Customers beyond what one window holds, without their distances. Of the segment `all` alone.
    pub const OVER: &str = "over";
    /// Rejected clicks by reason: `reject.decode`. Of the segment `all` alone.
    pub const REJECT: &str = "reject.";
}

/// One segment's window, counted whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    pub segment: Segment,
    /// Milliseconds since 1970-01-01 UTC; a multiple of the width.
    pub start_ms: i64,
    pub end_ms: i64,
    /// `name@version` of most of its records.
    pub model: Option<Arc<str>>,
    /// Distances of customers from their last embedding, one a customer.
    pub shifts: Histogram,
    /// By the names of [`count`].
    pub counts: BTreeMap<Arc<str>, u64>,
    /// The monitor was not there for all of it.
    pub is_partial: bool,
}

impl Window {
    /// The size of most vectors; the smallest of several.
    pub fn dimension(&self) -> Option<usize> {
        let counted = self.counts.iter().filter_map(|(name, records)| {
            let dimension: usize = name.strip_prefix(count::DIMENSION)?.parse().ok()?;
            Some((dimension, *records))
        });
        counted.max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0))).map(|(dimension, _)| dimension)
    }

    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }
}
