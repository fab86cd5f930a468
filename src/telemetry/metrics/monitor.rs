//! The monitor's own metrics: counted when windows are published, and shown as the newest windows stand. Segments come and
//! go, so their series are kept here and rendered by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::super::names::{self, Label, MONITOR, Metric};
use crate::wire::drift::{AlertState, DriftAlert, DriftWindow, Outcome};

/// Segments that have series; the page shows the others too.
pub const SEGMENTS_MAX: usize = 300;
/// A segment without a window for so long has no series any more.
const FORGOTTEN_MS: i64 = 86_400_000;
/// The histogram's buckets to one of the windows': two to each doubling.
const FINE_TO_A_BUCKET: usize = 8;
/// Of the windows': 241, from 2^-14 to 2.
const BUCKETS: usize = 31;

/// Who is told of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Receiver {
    Alertmanager,
    Webhook,
}

#[derive(Debug)]
pub(super) struct Series {
    window_seconds: f64,
    /// By metric and the values of its labels.
    counters: BTreeMap<(&'static str, Vec<&'static str>), u64>,
    /// Distances of `all`, those of 0 first.
    distances: [u64; 1 + BUCKETS],
    distances_sum: f64,
    is_active: bool,
    lag: Option<u64>,
    newest_record_ms: Option<i64>,
    segments: BTreeMap<Arc<str>, Standing>,
    /// By segment; of one segment no more than one is open.
    open: BTreeMap<Arc<str>, Arc<str>>,
    inputs: Vec<(&'static str, f64)>,
}

/// The newest window of a segment.
#[derive(Debug)]
struct Standing {
    end_ms: i64,
    outcome: Outcome,
    distances: u64,
    zero: u64,
    ratios: Vec<(Arc<str>, f64)>,
    /// The value of the label, and whether it is the reference's.
    quantiles: Vec<(&'static str, bool, f64)>,
}

impl Series {
    pub(super) fn new(window_seconds: f64) -> Self {
        let mut counters = BTreeMap::new();
        for metric in MONITOR.iter().filter(|metric| metric.kind == names::Kind::Counter) {
            for values in combinations(metric.labels) {
                counters.insert((metric.name, values), 0);
            }
        }
        Self {
            window_seconds,
            counters,
            distances: [0; 1 + BUCKETS],
            distances_sum: 0.0,
            is_active: false,
            lag: None,
            newest_record_ms: None,
            segments: BTreeMap::new(),
            open: BTreeMap::new(),
            inputs: Vec::new(),
        }
    }

    pub(super) fn status(&mut self, is_active: bool, newest_record_ms: Option<i64>, lag: Option<u64>) {
        (self.is_active, self.newest_record_ms, self.lag) = (is_active, newest_record_ms, lag);
        if !is_active {
            // The active one knows.
            self.segments.clear();
            self.open.clear();
            self.inputs.clear();
        }
    }

    pub(super) fn told(&mut self, receiver: Receiver, is_sent: bool) {
        let to = match receiver {
            Receiver::Alertmanager => "alertmanager",
            Receiver::Webhook => "webhook",
        };
        self.count(names::DRIFT_NOTIFICATIONS, &[to, if is_sent { "sent" } else { "failed" }], 1);
    }

    /// Since the session began, in all.
    pub(super) fn checked(&mut self, same: u64, different: u64) {
        for (result, count) in [("same", same), ("different", different)] {
            self.counters.insert((names::DRIFT_CHECKED, vec![result]), count);
        }
    }

    /// Counts a window that was published, and shows it.
    pub(super) fn window(&mut self, window: &DriftWindow) {
        self.count(names::DRIFT_WINDOWS, &[outcome(window.outcome)], 1);
        if window.segment.as_ref() == "all" {
            self.of_all(window);
        }
        self.standing(window);
    }

    fn of_all(&mut self, window: &DriftWindow) {
        let count = |name: &str| window.counts.get(name).copied().unwrap_or(0);
        self.count(names::DRIFT_RECORDS, &["SESSION_CLOSED"], count("closed"));
        self.count(names::DRIFT_RECORDS, &["SESSION_REVISED"], count("revised"));
        self.count(names::DRIFT_RECORDS_LATE, &[], count("late"));
        for reason in ["decode", "kind", "time"] {
            self.count(names::DRIFT_RECORDS_BAD, &[reason], count(&format!("bad.{reason}")));
        }
        for why in ["cold_start", "model_changed", "no_vector", "over"] {
            self.count(names::DRIFT_CUSTOMERS_APART, &[why], count(why));
        }
        self.distances[0] += window.zero;
        for (fine, distances) in &window.buckets {
            if let Some(bucket) = self.distances[1..].get_mut(fine.div_ceil(FINE_TO_A_BUCKET)) {
                *bucket += distances;
                let middle = libm::exp2((number(*fine) - 0.5) / 16.0 - 14.0);
                self.distances_sum += middle * float(*distances);
            }
        }
    }

    /// Shows a window of the past, or a new one, without counting it.
    pub(super) fn standing(&mut self, window: &DriftWindow) {
        if self.segments.get(&window.segment).is_some_and(|known| known.end_ms > window.window_end) {
            return;
        }
        if window.segment.as_ref() == "all" {
            self.inputs = inputs(window);
        }
        let ratio = |(statistic, threshold): (&Arc<str>, &f64)| {
            let score = window.scores.get(statistic).filter(|_| *threshold > 0.0)?;
            Some((Arc::clone(statistic), score / threshold))
        };
        let quantile = |(label, key): (&'static str, &str)| Some((label, window.readings.get(key).copied()?));
        let read = |suffix: &str, is_reference: bool| {
            let keys = [("0.5", "p50"), ("0.9", "p90"), ("0.99", "p99")];
            let found = keys.map(|(label, key)| quantile((label, &format!("{key}{suffix}"))));
            found.into_iter().flatten().map(move |(label, value)| (label, is_reference, value)).collect::<Vec<_>>()
        };
        let standing = Standing {
            end_ms: window.window_end,
            outcome: window.outcome,
            distances: window.zero + window.buckets.iter().map(|(_, count)| count).sum::<u64>(),
            zero: window.zero,
            ratios: window.thresholds.iter().filter_map(ratio).collect(),
            quantiles: [read("", false), read("_before", true)].concat(),
        };
        self.segments.insert(Arc::clone(&window.segment), standing);
        let newest = self.segments.values().map(|standing| standing.end_ms).max().unwrap_or(0);
        self.segments.retain(|_, standing| standing.end_ms > newest - FORGOTTEN_MS);
        while self.segments.len() > SEGMENTS_MAX {
            let oldest = self.segments.iter().min_by_key(|(_, standing)| standing.end_ms).map(|(name, _)| name);
            let Some(oldest) = oldest.cloned() else { break };
            self.segments.remove(&oldest);
        }
    }

    /// Counts an alert that opened or was resolved.
    pub(super) fn alert(&mut self, alert: &DriftAlert) {
        let was_open = self.open.get(&alert.segment) == Some(&alert.id);
        match alert.state {
            AlertState::Firing if !was_open => self.count(names::DRIFT_ALERTS, &["FIRING"], 1),
            AlertState::Resolved if was_open => self.count(names::DRIFT_ALERTS, &["RESOLVED"], 1),
            AlertState::Firing | AlertState::Resolved => {}
        }
        self.alert_standing(alert);
    }

    pub(super) fn alert_standing(&mut self, alert: &DriftAlert) {
        match alert.state {
            AlertState::Firing => _ = self.open.insert(Arc::clone(&alert.segment), Arc::clone(&alert.id)),
            AlertState::Resolved => _ = self.open.remove(&alert.segment),
        }
    }

    fn count(&mut self, name: &'static str, values: &[&'static str], more: u64) {
        *self.counters.entry((name, values.to_vec())).or_default() += more;
    }

    pub(super) fn render(&self, text: &mut String) {
        for metric in &MONITOR {
            _ = write!(text, "# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, metric.help, metric.kind.as_str());
            if metric.name == names::DRIFT_DISTANCES {
                self.render_distances(text);
            }
            for ((_, values), count) in self.counters.iter().filter(|((name, _), _)| *name == metric.name) {
                sample(text, metric, values, float(*count));
            }
            self.render_gauge(text, metric);
        }
    }

    fn render_distances(&self, text: &mut String) {
        let name = names::DRIFT_DISTANCES;
        let mut below = 0;
        for (bucket, count) in self.distances.iter().enumerate() {
            below += count;
            let bound = bucket.checked_sub(1).map_or(0.0, |bucket| libm::exp2(number(bucket) / 2.0 - 14.0));
            _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {below}");
        _ = writeln!(text, "{name}_sum {}\n{name}_count {below}", self.distances_sum);
    }

    fn render_gauge(&self, text: &mut String, metric: &Metric) {
        let mut plain = |value: f64| sample(text, metric, &[], value);
        match metric.name {
            names::DRIFT_ACTIVE => plain(f64::from(u8::from(self.is_active))),
            names::DRIFT_LAG_RECORDS => self.lag.into_iter().for_each(|lag| plain(float(lag))),
            names::DRIFT_NEWEST_RECORD => self.newest_record_ms.into_iter().for_each(|ms| plain(seconds(ms))),
            names::DRIFT_WINDOW_SECONDS => plain(self.window_seconds),
            names::DRIFT_SEGMENTS => plain(number(self.segments.len())),
            names::DRIFT_ALERTS_OPEN => plain(number(self.open.len())),
            names::DRIFT_INPUT_SHARE => {
                for (input, share) in &self.inputs {
                    sample(text, metric, &[input], *share);
                }
            }
            _ => {
                for (segment, standing) in &self.segments {
                    self.render_segment(text, metric, segment, standing);
                }
            }
        }
    }

    fn render_segment(&self, text: &mut String, metric: &Metric, segment: &str, standing: &Standing) {
        let mut of = |more: &[&str], value: f64| sample(text, metric, &[&[segment], more].concat(), value);
        match metric.name {
            names::DRIFT_LAST_WINDOW_END => of(&[], seconds(standing.end_ms)),
            names::DRIFT_CUSTOMERS => of(&[], float(standing.distances)),
            names::DRIFT_ZERO_SHARE if standing.distances > 0 => {
                of(&[], float(standing.zero) / float(standing.distances))
            }
            names::DRIFT_ALERT_OPEN => of(&[], f64::from(u8::from(self.open.contains_key(segment)))),
            names::DRIFT_OUTCOME => {
                for each in [Outcome::Ok, Outcome::Breach, Outcome::Insufficient, Outcome::NoReference] {
                    of(&[outcome(each)], f64::from(u8::from(standing.outcome == each)));
                }
            }
            names::DRIFT_SCORE_RATIO => standing.ratios.iter().for_each(|(statistic, ratio)| of(&[statistic], *ratio)),
            names::DRIFT_DISTANCE_QUANTILE | names::DRIFT_REFERENCE_QUANTILE => {
                let wanted = metric.name == names::DRIFT_REFERENCE_QUANTILE;
                let those = standing.quantiles.iter().filter(|(_, is_reference, _)| *is_reference == wanted);
                those.for_each(|(quantile, _, value)| of(&[quantile], *value));
            }
            _ => {}
        }
    }
}

/// Shares by the window's counts; of what there is nothing there is no share.
fn inputs(window: &DriftWindow) -> Vec<(&'static str, f64)> {
    let count = |name: &str| window.counts.get(name).copied().unwrap_or(0);
    let rejected = window.counts.iter().filter(|(name, _)| name.starts_with("reject.")).map(|(_, count)| count).sum();
    let closed = count("closed");
    let of = [
        ("cold_start", count("cold_start"), count("customers")),
        ("unknown_events", count("unknown_events"), count("events")),
        ("gated", count("gated"), closed),
        ("revised", count("revised"), closed + count("revised")),
        ("late", count("late"), closed + count("late")),
        ("rejected", rejected, count("events") + rejected),
    ];
    of.into_iter().filter(|(_, _, all)| *all > 0).map(|(name, part, all)| (name, float(part) / float(all))).collect()
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "OK",
        Outcome::Breach => "BREACH",
        Outcome::Insufficient => "INSUFFICIENT",
        Outcome::NoReference => "NO_REFERENCE",
    }
}

/// All there can be of labels whose values are closed sets.
fn combinations(labels: &[Label]) -> Vec<Vec<&'static str>> {
    let mut all: Vec<Vec<&'static str>> = vec![Vec::new()];
    for (_, values) in labels {
        let with =
            |start: &Vec<&'static str>| values.iter().map(|value| [start.as_slice(), &[*value]].concat()).collect();
        all = all.iter().flat_map(|start| -> Vec<Vec<&'static str>> { with(start) }).collect();
    }
    all
}

fn sample(text: &mut String, metric: &Metric, values: &[&str], value: f64) {
    text.push_str(metric.name);
    for (number, ((label, _), value)) in metric.labels.iter().zip(values).enumerate() {
        // Names of segments come from clicks.
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        _ = write!(text, "{}{label}=\"{escaped}\"", if number == 0 { '{' } else { ',' });
    }
    text.push_str(if values.is_empty() { " " } else { "} " });
    _ = writeln!(text, "{value}");
}

#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds are far below 2^53")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a number of few digits")]
fn number(count: usize) -> f64 {
    count as f64
}
