//! Windows and verdicts as records, and back, so that a restart reads from its own topic what it had judged. `[pure]`

use std::collections::BTreeMap;
use std::sync::Arc;

use super::histogram::Histogram;
use super::reference::Reference;
use super::statistics::Customary;
use super::verdict::{Score, Statistic, Verdict};
use super::window::{Segment, Window};
use crate::wire::drift::{DriftReference, DriftWindow};

/// What a record says of a window that this version cannot take.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnpackError {
    #[error("{segment}, window of {start}: a bucket that is none, or twice")]
    Buckets { segment: Arc<str>, start: i64 },
    #[error("{segment}: a window from {start} to {end}")]
    Times { segment: Arc<str>, start: i64, end: i64 },
}

/// `monitor.window` is an hour at the most.
pub const LONGEST_MS: i64 = 3_600_000;
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];
/// In [`DriftWindow::counts`] where it is partial.
const PARTIAL: &str = "partial";
const MERGED: &str = "windows";
const PAGES: &str = "pages";

/// `pins_end` as in the record; `alert` is the one that is open after it.
pub fn pack(
    window: &Window,
    verdict: &Verdict,
    reference: Option<&Reference>,
    pins_end: i64,
    alert: Option<Arc<str>>,
) -> DriftWindow {
    let mut counts = window.counts.clone();
    let flags =
        [(PARTIAL, u64::from(window.is_partial)), (MERGED, verdict.windows.into()), (PAGES, verdict.pages.into())];
    counts.extend(flags.into_iter().filter(|(_, flag)| *flag > 0).map(|(name, flag)| (Arc::from(name), flag)));
    let map = |value: &dyn Fn(&Score) -> Option<f64>| -> BTreeMap<Arc<str>, f64> {
        let scores = verdict.scores.iter();
        scores.filter_map(|score| Some((score.statistic.as_str().into(), value(score)?))).collect()
    };
    let mut readings: BTreeMap<Arc<str>, f64> = BTreeMap::new();
    for (name, share) in QUANTILES {
        readings.extend(window.shifts.quantile(share).map(|value| (name.into(), value)));
        let before = reference.and_then(|reference| reference.shifts.quantile(share));
        readings.extend(before.map(|value| (format!("{name}_before").into(), value)));
    }
    // Nothing alerts by them: for comparison alone.
    if let Some(customary) = reference.and_then(|reference| Customary::of(&window.shifts, &reference.shifts)) {
        let Customary { ks, psi, ad, w1 } = customary;
        let named =
            [("ks", ks), ("psi", psi), ("ad", ad), ("w1", w1)].into_iter().filter(|(_, value)| value.is_finite());
        readings.extend(named.map(|(name, value)| (Arc::from(name), value)));
    }
    DriftWindow {
        segment: Arc::clone(&window.segment.0),
        window_start: window.start_ms,
        window_end: window.end_ms,
        model: window.model.clone(),
        outcome: verdict.outcome,
        reference: verdict.reference,
        reference_count: verdict.reference_count,
        zero: window.shifts.zero(),
        buckets: window.shifts.filled().collect(),
        counts,
        scores: map(&|score| Some(score.value)),
        thresholds: map(&|score| score.threshold),
        effects: map(&|score| Some(score.effect)),
        breaches: verdict
            .scores
            .iter()
            .filter(|score| score.is_breach)
            .map(|score| score.statistic.as_str().into())
            .collect(),
        readings,
        pins_end,
        alert,
    }
}

pub fn unpack(record: &DriftWindow) -> Result<(Window, Verdict), UnpackError> {
    let (start, end) = (record.window_start, record.window_end);
    if start < 0 || end <= start || end - start > LONGEST_MS {
        return Err(UnpackError::Times { segment: Arc::clone(&record.segment), start, end });
    }
    let shifts = Histogram::of(record.zero, record.buckets.iter().copied())
        .ok_or_else(|| UnpackError::Buckets { segment: Arc::clone(&record.segment), start })?;
    let mut counts = record.counts.clone();
    let mut flag = |name: &str| counts.remove(name).unwrap_or(0);
    let (partial, windows, pages) = (flag(PARTIAL), flag(MERGED), flag(PAGES));
    let scores = Statistic::ALL.into_iter().filter_map(|statistic| {
        let value = |map: &BTreeMap<Arc<str>, f64>| map.get(statistic.as_str()).copied();
        Some(Score {
            statistic,
            value: value(&record.scores)?,
            threshold: value(&record.thresholds),
            effect: value(&record.effects).unwrap_or_default(),
            is_breach: record.breaches.iter().any(|name| name.as_ref() == statistic.as_str()),
        })
    });
    let verdict = Verdict {
        outcome: record.outcome,
        reference: record.reference,
        reference_count: record.reference_count,
        windows: u32::try_from(windows).unwrap_or(u32::MAX),
        pages: pages > 0,
        scores: scores.collect(),
        told: None,
    };
    let window = Window {
        segment: Segment(Arc::clone(&record.segment)),
        start_ms: start,
        end_ms: end,
        model: record.model.clone(),
        shifts,
        counts,
        is_partial: partial > 0,
    };
    Ok((window, verdict))
}

/// The windows of a segment as a reference to pin, of one model: that of the last. `None` where they hold no distances.
pub fn pin(windows: &[DriftWindow], pinned_at: i64, accepts: bool) -> Result<Option<DriftReference>, UnpackError> {
    let Some(last) = windows.iter().rev().find(|window| window.model.is_some()) else { return Ok(None) };
    let mut shifts = Histogram::default();
    let (mut from, mut to) = (i64::MAX, i64::MIN);
    for record in windows.iter().filter(|record| record.model == last.model) {
        let (window, _) = unpack(record)?;
        shifts.merge(&window.shifts);
        (from, to) = (from.min(window.start_ms), to.max(window.end_ms));
    }
    Ok((!shifts.is_empty()).then(|| DriftReference {
        segment: Arc::clone(&last.segment),
        model: last.model.clone(),
        from,
        to,
        pinned_at,
        accepts,
        zero: shifts.zero(),
        buckets: shifts.filled().collect(),
    }))
}
