//! Verdicts → alerts: one a segment, which opens once, is brought up to date, and resolves. `[pure]`

use std::collections::BTreeMap;
use std::sync::Arc;

use super::companions;
use super::histogram::{BUCKETS, Histogram, bounds};
use super::reference::Reference;
use super::verdict::{Score, Verdict};
use super::window::{Window, count};
use super::words::{self, Told};
use crate::wire::drift::{AlertState, DriftAlert, MovedBin, Outcome};

/// Windows in a row that must be well before an alert is over.
pub const CLEAN_WINDOWS: u32 = 6;
/// Bins that an alert names.
const MOVED_MAX: usize = 3;
/// Buckets of the histogram in one bin that an alert names: a doubling.
const BUCKETS_A_BIN: usize = 16;

#[derive(Debug)]
struct Alert {
    told: DriftAlert,
    clean: u32,
    /// Of the windows in breach.
    shifts: Histogram,
}

/// The alerts that are open.
#[derive(Debug, Default)]
pub struct Alarm {
    open: BTreeMap<Arc<str>, Alert>,
}

impl Alarm {
    /// As it stood when the monitor ended.
    pub fn restore(&mut self, alert: DriftAlert) {
        match alert.state {
            AlertState::Firing => {
                let segment = Arc::clone(&alert.segment);
                self.open.insert(segment, Alert { told: alert, clean: 0, shifts: Histogram::default() });
            }
            AlertState::Resolved => drop(self.open.remove(&alert.segment)),
        }
    }

    /// Windows that were well since the alert's last breach, for [`Self::restore`]d ones.
    pub fn restore_clean(&mut self, segment: &str, outcome: Outcome, window_end: i64) {
        if let Some(alert) = self.open.get_mut(segment)
            && window_end > alert.told.updated_at
            && outcome == Outcome::Ok
        {
            alert.clean += 1;
        }
    }

    pub fn open_on(&self, segment: &str) -> Option<&DriftAlert> {
        self.open.get(segment).map(|alert| &alert.told)
    }

    pub fn firing(&self) -> impl Iterator<Item = &DriftAlert> {
        self.open.values().map(|alert| &alert.told)
    }

    /// The alert as it stands after this window, where the window changed it.
    pub fn judged(&mut self, window: &Window, verdict: &Verdict, against: Option<&Reference>) -> Option<DriftAlert> {
        let segment = window.segment.as_str();
        match verdict.outcome {
            Outcome::Breach if verdict.pages => self.breach(window, verdict, against),
            // In the warm-up nobody is woken.
            Outcome::Breach | Outcome::Insufficient => None,
            Outcome::Ok => {
                let alert = self.open.get_mut(segment)?;
                alert.clean += 1;
                (alert.clean >= CLEAN_WINDOWS).then(|| self.resolve(window, None)).flatten()
            }
            // What it was compared with is no more: the model is another one.
            Outcome::NoReference => {
                let is_other_model = self.open_on(segment).is_some_and(|alert| alert.model != window.model);
                is_other_model.then(|| self.resolve(window, Some("the model is another one now"))).flatten()
            }
        }
    }

    fn breach(&mut self, window: &Window, verdict: &Verdict, against: Option<&Reference>) -> Option<DriftAlert> {
        let against = against?;
        let worst = worst(verdict)?;
        let segment = &window.segment.0;
        let alert = self.open.entry(Arc::clone(segment)).or_insert_with(|| Alert {
            told: new_alert(window, verdict, worst),
            clean: 0,
            shifts: Histogram::default(),
        });
        alert.clean = 0;
        alert.shifts.merge(&window.shifts);
        let told = &mut alert.told;
        told.updated_at = window.end_ms;
        told.breaches += 1;
        told.value = worst.value;
        told.threshold = worst.threshold.unwrap_or_default();
        told.effect = worst.effect;
        told.customers = window.count(count::CUSTOMERS);
        told.model.clone_from(&window.model);
        told.reference = verdict.reference;
        told.reference_count = verdict.reference_count;
        told.moved = moved(&alert.shifts, &against.shifts);
        told.companions = companions::of(window, against);
        told.summary = words::summary(&Told { alert: told, worst, now: &alert.shifts, against });
        Some(told.clone())
    }

    fn resolve(&mut self, window: &Window, why: Option<&str>) -> Option<DriftAlert> {
        let mut told = self.open.remove(window.segment.as_str())?.told;
        told.state = AlertState::Resolved;
        told.updated_at = window.end_ms;
        told.resolved_at = Some(window.end_ms);
        if let Some(why) = why {
            told.summary = format!("over: {why}. It was: {}", told.summary);
        }
        Some(told)
    }
}

fn new_alert(window: &Window, verdict: &Verdict, worst: &Score) -> DriftAlert {
    // It takes several windows to open one, and windows may have been put together.
    let since = verdict.told.map_or(window.start_ms, |told| told.since_ms);
    DriftAlert {
        id: format!("{}/{since}", window.segment.as_str()).into(),
        segment: Arc::clone(&window.segment.0),
        state: AlertState::Firing,
        statistic: worst.statistic.as_str().into(),
        since,
        opened_at: window.end_ms,
        updated_at: window.end_ms,
        resolved_at: None,
        breaches: 0,
        value: 0.0,
        threshold: 0.0,
        effect: 0.0,
        customers: 0,
        model: None,
        reference: None,
        reference_count: 0,
        summary: String::new(),
        moved: Vec::new(),
        companions: Vec::new(),
    }
}

/// What the breach is about.
fn worst(verdict: &Verdict) -> Option<&Score> {
    verdict.score(verdict.told?.statistic)
}

/// The parts of the axis whose share of all distances changed most, the largest change first.
fn moved(now: &Histogram, before: &Histogram) -> Vec<MovedBin> {
    if now.is_empty() || before.is_empty() {
        return Vec::new();
    }
    let (all, all_before) = (now.len() as f64, before.len() as f64);
    let zero = MovedBin {
        low: 0.0,
        high: 0.0,
        share: now.zero() as f64 / all,
        share_before: before.zero() as f64 / all_before,
    };
    let part = |histogram: &Histogram, bin: usize| {
        let end = (bin + BUCKETS_A_BIN).min(BUCKETS);
        histogram.counts()[bin..end].iter().sum::<u64>() as f64
    };
    let mut bins: Vec<MovedBin> = (0..BUCKETS)
        .step_by(BUCKETS_A_BIN)
        .map(|bin| MovedBin {
            low: bounds(bin).0,
            high: bounds((bin + BUCKETS_A_BIN).min(BUCKETS) - 1).1,
            share: part(now, bin) / all,
            share_before: part(before, bin) / all_before,
        })
        .chain([zero])
        .filter(|bin| bin.share != bin.share_before)
        .collect();
    bins.sort_by(|a, b| {
        let change = |bin: &MovedBin| (bin.share - bin.share_before).abs();
        change(b).total_cmp(&change(a)).then_with(|| a.low.total_cmp(&b.low))
    });
    bins.truncate(MOVED_MAX);
    bins
}
