//! The monitor's records, on `drift-windows`, `drift-alerts`, `drift-references` and `drift-customers`: JSON, one object, by
//! these names. A window's record holds all that a restart needs of it: what was counted, and how it was judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::DecodeError;

/// How a window was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    Ok,
    /// Beyond a threshold and an effect size.
    Breach,
    /// Too few customers, or not counted whole.
    Insufficient,
    /// Nothing to compare with yet.
    NoReference,
}

/// What a window is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReferenceKind {
    /// The same hour of the week in past weeks.
    SameHour,
    /// The 24 hours before, while there are no past weeks. It never pages.
    Warmup,
    /// What somebody pinned.
    Pinned,
}

/// One segment's window: counted, and judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftWindow {
    /// `all`, `channel=web`, `model=bank@3`, `label.country=de`.
    pub segment: Arc<str>,
    /// Milliseconds since 1970-01-01 UTC: the closed_at of what it holds is at or after it.
    pub window_start: i64,
    /// And before this.
    pub window_end: i64,
    /// Of most of its records; null where there is none.
    pub model: Option<Arc<str>>,
    pub outcome: Outcome,
    pub reference: Option<ReferenceKind>,
    /// Distances in the reference.
    pub reference_count: u64,
    /// Distances of exactly 0.
    pub zero: u64,
    /// The buckets that hold something: [bucket, count], ascending. Bucket b holds distances above 2^((b−1)/16 − 14), and up
    /// to 2^(b/16 − 14); bucket 0 all up to 2^−14.
    pub buckets: Vec<(usize, u64)>,
    /// Everything else that was counted, by name; what is 0 is not there.
    pub counts: BTreeMap<Arc<str>, u64>,
    /// By statistic: the score, on the scale of its threshold.
    pub scores: BTreeMap<Arc<str>, f64>,
    /// What a score must pass to be a breach; not there while there is no calibration.
    pub thresholds: BTreeMap<Arc<str>, f64>,
    /// How far it is in units that people read: ratios and shares.
    pub effects: BTreeMap<Arc<str>, f64>,
    /// The statistics that were beyond both threshold and effect size in this window.
    #[serde(default)]
    pub breaches: Vec<Arc<str>>,
    /// Of the distances: p50, p90, p99, and theirs in the reference (p50_before, …); and what others alert on, for comparison
    /// alone: ks, psi, ad, w1.
    pub readings: BTreeMap<Arc<str>, f64>,
    /// Pins from before this offset of `drift-references` counted; what was pinned there or later came too late for it.
    #[serde(default)]
    pub pins_end: i64,
    /// The alert that is open on this segment after this window.
    pub alert: Option<Arc<str>>,
}

/// Whether an alert is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertState {
    Firing,
    Resolved,
}

/// A part of the axis whose share changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MovedBin {
    /// Distances above `low` and up to `high`; both 0: exactly 0.
    pub low: f64,
    pub high: f64,
    /// Of the windows in breach, in [0, 1].
    pub share: f64,
    pub share_before: f64,
}

/// An input that changed together with the distances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Companion {
    /// `unknown_share`, `reject_share.decode`, `volume`, …
    pub input: String,
    pub value: f64,
    pub before: f64,
    /// In standard errors.
    pub score: f64,
    /// `unknown names in events: 1 in 5, before 1 in 200`.
    pub words: String,
}

/// An alert as it stands: the value on `drift-alerts`, keyed by the segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftAlert {
    /// `<segment>/<start of the first window in breach>`.
    pub id: Arc<str>,
    pub segment: Arc<str>,
    pub state: AlertState,
    /// What told first.
    pub statistic: Arc<str>,
    /// Start of the first window in breach, and the end of the window that opened it.
    pub since: i64,
    pub opened_at: i64,
    /// End of the newest window that changed it.
    pub updated_at: i64,
    pub resolved_at: Option<i64>,
    /// Windows in breach.
    pub breaches: u32,
    /// Of the newest window in breach.
    pub value: f64,
    pub threshold: f64,
    pub effect: f64,
    pub customers: u64,
    pub model: Option<Arc<str>>,
    pub reference: Option<ReferenceKind>,
    pub reference_count: u64,
    /// In one sentence, for people.
    pub summary: String,
    pub moved: Vec<MovedBin>,
    pub companions: Vec<Companion>,
}

/// A customer whose embedding moved far beyond what is usual: the value on `drift-customers`, keyed by the customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftCustomer {
    pub customer_id: String,
    /// Of the embedding record that it is about.
    pub sequence: u64,
    pub session_uid: String,
    pub channel: Option<String>,
    pub model: Arc<str>,
    pub closed_at: i64,
    pub cosine_shift: f64,
    /// With what weight the session went into the state, in [0, 1].
    pub gate: f32,
    /// Whose reference it is measured by.
    pub segment: Arc<str>,
    /// The reference's 99th percentile, and which of its distances lie as far or farther: a share in [0, 1].
    pub usual_p99: f64,
    pub usual_share: f64,
    pub window_start: i64,
}

/// A pinned reference: the value on `drift-references`, keyed by the segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftReference {
    pub segment: Arc<str>,
    pub model: Option<Arc<str>>,
    /// Of the windows that it holds.
    pub from: i64,
    pub to: i64,
    pub pinned_at: i64,
    /// What was before is no reference any more, and an alert that was open is over.
    #[serde(default)]
    pub accepts: bool,
    pub zero: u64,
    pub buckets: Vec<(usize, u64)>,
}

/// Of a record of the monitor, in JSON.
pub fn decode<'a, R: Deserialize<'a>>(bytes: &'a [u8]) -> Result<R, DecodeError> {
    serde_json::from_slice(bytes).map_err(|fault| DecodeError::NotResolved { why: fault.to_string() })
}

/// Its bytes.
pub fn encode<R: Serialize>(record: &R) -> Vec<u8> {
    serde_json::to_vec(record).expect("a buffer takes every record whose keys are strings")
}
