//! What the page shows, in memory: the engine writes windows, alerts, references and how it stands; requests read. `[pure]`
//!
//! Of each segment the newest window is kept whole; of the older ones the readings and coarser counts (4 rows a doubling),
//! some 300 bytes a window. The limits are [`DAYS`], [`SEGMENTS_MAX`] and [`POINTS_MAX`]: 14 days of 5 minutes for 62
//! segments, in at most 80 MB; where there are more segments, their past is shorter.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use super::histogram::{BUCKETS, Histogram, bounds};
use super::verdict::Statistic;
use super::window::count;
use crate::wire::drift::{AlertState, DriftAlert, DriftWindow, Outcome, ReferenceKind};

/// How far the past reaches.
pub const DAYS: i64 = 14;
/// More than these, and the one whose newest window is the oldest is forgotten.
pub const SEGMENTS_MAX: usize = 512;
/// Windows of all segments together; each segment keeps its share.
pub const POINTS_MAX: usize = 250_000;
/// Alerts; beyond it the oldest resolved one is forgotten.
pub const ALERTS_MAX: usize = 500;

const DAY_MS: i64 = 86_400_000;
/// Buckets to a row of the heat map.
pub(super) const BUCKETS_PER_ROW: usize = 4;
/// Bucket 0, and the rest by fours.
pub(super) const ROWS: usize = 1 + (BUCKETS - 1) / BUCKETS_PER_ROW;

/// What does not change while the monitor runs.
#[derive(Debug, Clone)]
pub struct About {
    pub window_ms: i64,
    /// At most one false alarm in so many days, over all segments.
    pub false_alarm_days: f64,
    /// The topic of the embeddings.
    pub source: String,
    /// Which monitor this is.
    pub instance: String,
}

/// What the monitor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It reads and judges.
    Active,
    /// Another instance does.
    Standby,
    /// It reads its own windows back.
    Restoring,
}

/// How the engine stands, by its own word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Status {
    pub role: Role,
    /// `closed_at` of the newest record read, in milliseconds since 1970-01-01 UTC.
    pub newest_record_ms: Option<i64>,
    /// Records that are not read yet.
    pub lag: Option<u64>,
    /// Since when Kafka does not answer.
    pub away_ms: Option<i64>,
    /// When it says so, by the wall clock.
    pub at_ms: i64,
}

/// What a segment is compared with now.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    pub kind: ReferenceKind,
    pub zero: u64,
    /// As in [`DriftWindow::buckets`].
    pub buckets: Vec<(usize, u64)>,
}

/// The distances' inputs that a person looks at beside them. Each is a share in [0, 1], and NaN where nothing can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Zero,
    ColdStart,
    ModelChanged,
    UnknownEvents,
    Gated,
    Revised,
    Late,
    Rejected,
}

impl Input {
    pub(super) const ALL: [Self; 8] = [
        Self::Zero,
        Self::ColdStart,
        Self::ModelChanged,
        Self::UnknownEvents,
        Self::Gated,
        Self::Revised,
        Self::Late,
        Self::Rejected,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::ColdStart => "cold_start",
            Self::ModelChanged => "model_changed",
            Self::UnknownEvents => "unknown_events",
            Self::Gated => "gated",
            Self::Revised => "revised",
            Self::Late => "late",
            Self::Rejected => "rejected",
        }
    }

    fn of(self, window: &DriftWindow, distances: u64) -> f32 {
        let count = |name: &str| window.counts.get(name).copied().unwrap_or(0);
        let rejects = || window.counts.iter().filter(|(name, _)| name.starts_with(count::REJECT)).map(|(_, n)| n).sum();
        let (part, all) = match self {
            Self::Zero => (window.zero, distances),
            Self::ColdStart => (count(count::COLD_START), count(count::CUSTOMERS)),
            Self::ModelChanged => (count(count::MODEL_CHANGED), count(count::CUSTOMERS)),
            Self::UnknownEvents => (count(count::UNKNOWN_EVENTS), count(count::EVENTS)),
            Self::Gated => (count(count::GATED), count(count::CLOSED)),
            Self::Revised => (count(count::REVISED), count(count::CLOSED) + count(count::REVISED)),
            Self::Late => (count(count::LATE), count(count::CLOSED) + count(count::LATE)),
            Self::Rejected => {
                let rejects = rejects();
                (rejects, rejects + count(count::EVENTS))
            }
        };
        share(part, all)
    }
}

/// One window of one segment, as far as its past is shown.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) outcome: Outcome,
    pub(super) reference: Option<ReferenceKind>,
    pub(super) model: Option<Arc<str>>,
    /// An alert was open after it.
    pub(super) in_alert: bool,
    /// Those of exactly 0 included.
    pub(super) distances: u64,
    pub(super) zero: u64,
    pub(super) customers: u64,
    /// p50, p90, p99 of the distances.
    pub(super) quantiles: [f32; 3],
    /// Score over threshold, by the order of [`Statistic::ALL`].
    pub(super) ratios: [f32; Statistic::ALL.len()],
    /// By the order of [`Input::ALL`].
    pub(super) inputs: [f32; Input::ALL.len()],
    /// Counts by row of the heat map, from `first_row` on.
    pub(super) first_row: usize,
    pub(super) rows: Box<[u32]>,
}

#[derive(Debug, Default)]
pub(super) struct Segment {
    /// In the order of time.
    pub(super) points: VecDeque<Point>,
    pub(super) newest: Option<DriftWindow>,
    pub(super) reference: Option<Reference>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) segments: BTreeMap<Arc<str>, Segment>,
    /// In the order in which they opened.
    pub(super) alerts: Vec<DriftAlert>,
    pub(super) status: Option<Status>,
    /// Rises with each change but the status.
    pub(super) version: u64,
}

/// Shared by the engine, which writes, and the page, which reads.
#[derive(Debug)]
pub struct Board {
    pub(super) about: About,
    state: Mutex<State>,
}

impl Board {
    pub fn new(about: About) -> Self {
        Self { about, state: Mutex::default() }
    }

    /// Another monitor knows better from now on.
    pub fn clear(&self) {
        let mut state = self.write();
        state.segments.clear();
        state.alerts.clear();
    }

    /// Adds them. One that was there by the same segment and start is replaced, as after a restart.
    pub fn windows(&self, windows: impl IntoIterator<Item = DriftWindow>) {
        let mut state = self.write();
        for window in windows {
            state.add(window);
        }
        state.forget(POINTS_MAX);
    }

    /// As it stands now, newly opened, changed or resolved.
    pub fn alert(&self, alert: DriftAlert) {
        let mut state = self.write();
        match state.alerts.iter_mut().find(|known| known.id == alert.id) {
            Some(known) => *known = alert,
            None => state.alerts.push(alert),
        }
        state.alerts.sort_by_key(|alert| alert.opened_at);
        while state.alerts.len() > ALERTS_MAX {
            let resolved = state.alerts.iter().position(|alert| alert.state == AlertState::Resolved);
            state.alerts.remove(resolved.unwrap_or(0));
        }
    }

    /// What these segments are compared with from now on. Of a segment without a window there is nothing to compare.
    pub fn references(&self, references: impl IntoIterator<Item = (Arc<str>, Reference)>) {
        let mut state = self.write();
        for (segment, reference) in references {
            if let Some(segment) = state.segments.get_mut(&segment) {
                segment.reference = Some(reference);
            }
        }
    }

    /// Said every few seconds while the engine runs: the page says so when it falls silent.
    pub fn status(&self, status: Status) {
        self.read().status = Some(status);
    }

    pub(super) fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    fn write(&self) -> MutexGuard<'_, State> {
        let mut state = self.read();
        state.version += 1;
        state
    }
}

impl State {
    fn add(&mut self, window: DriftWindow) {
        let mut point = Point::of(&window);
        let segment = self.segments.entry(Arc::clone(&window.segment)).or_default();
        // One text of the model's name for all windows that have it.
        let known = segment
            .points
            .back()
            .and_then(|last| last.model.as_ref())
            .filter(|known| Some(*known) == window.model.as_ref());
        point.model = known.cloned().or(point.model);
        match segment.points.binary_search_by_key(&point.start, |known| known.start) {
            Ok(at) => segment.points[at] = point,
            Err(at) => segment.points.insert(at, point),
        }
        if segment.newest.as_ref().is_none_or(|newest| newest.window_start <= window.window_start) {
            segment.newest = Some(window);
        }
    }

    /// What lies beyond the limits.
    fn forget(&mut self, points_max: usize) {
        let newest = self.segments.values().filter_map(Segment::newest_end).max().unwrap_or(0);
        self.segments.retain(|_, segment| segment.newest_end().is_some_and(|end| end > newest - DAYS * DAY_MS));
        while self.segments.len() > SEGMENTS_MAX {
            let oldest = self.segments.iter().min_by_key(|(_, segment)| segment.newest_end()).map(|(name, _)| name);
            let Some(oldest) = oldest.cloned() else { break };
            self.segments.remove(&oldest);
        }
        let share = points_max / self.segments.len().max(1);
        for segment in self.segments.values_mut() {
            while segment.points.len() > share
                || segment.points.front().is_some_and(|point| point.end <= newest - DAYS * DAY_MS)
            {
                segment.points.pop_front();
            }
        }
    }
}

impl Segment {
    pub(super) fn newest_end(&self) -> Option<i64> {
        self.points.back().map(|point| point.end)
    }
}

impl Point {
    fn of(window: &DriftWindow) -> Self {
        let histogram = Histogram::of(window.zero, window.buckets.iter().copied()).unwrap_or_default();
        let distances = histogram.len();
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are more than a screen shows")]
        let quantiles = [0.5, 0.9, 0.99].map(|share| histogram.quantile(share).map_or(f32::NAN, |value| value as f32));
        let (first_row, rows) = rows_of(&window.buckets);
        Self {
            start: window.window_start,
            end: window.window_end,
            outcome: window.outcome,
            reference: window.reference,
            model: window.model.clone(),
            in_alert: window.alert.is_some(),
            distances,
            zero: window.zero,
            customers: window.counts.get(count::CUSTOMERS).copied().unwrap_or(distances),
            quantiles,
            ratios: Statistic::ALL.map(|statistic| ratio(window, statistic)),
            inputs: Input::ALL.map(|input| input.of(window, distances)),
            first_row,
            rows,
        }
    }
}

/// NaN where there is no score, or no threshold yet.
fn ratio(window: &DriftWindow, statistic: Statistic) -> f32 {
    let of = |map: &BTreeMap<Arc<str>, f64>| map.get(statistic.as_str()).copied();
    match (of(&window.scores), of(&window.thresholds)) {
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are more than a screen shows")]
        (Some(score), Some(threshold)) if threshold > 0.0 => (score / threshold) as f32,
        _ => f32::NAN,
    }
}

/// What a row holds is above the first and at most the second.
pub(super) fn row_bounds(row: usize) -> (f64, f64) {
    let last = row * BUCKETS_PER_ROW;
    let first = (last + 1).saturating_sub(BUCKETS_PER_ROW).min(last);
    (bounds(first).0, bounds(last).1)
}

fn row_of(bucket: usize) -> usize {
    bucket.div_ceil(BUCKETS_PER_ROW)
}

pub(super) fn rows_of(buckets: &[(usize, u64)]) -> (usize, Box<[u32]>) {
    let within =
        || buckets.iter().filter(|(bucket, _)| *bucket < BUCKETS).map(|(bucket, count)| (row_of(*bucket), count));
    let (Some(first), Some(last)) = (within().map(|(row, _)| row).min(), within().map(|(row, _)| row).max()) else {
        return (0, Box::default());
    };
    let mut rows = vec![0_u32; last - first + 1];
    for (row, count) in within() {
        let place = &mut rows[row - first];
        *place = place.saturating_add(u32::try_from(*count).unwrap_or(u32::MAX));
    }
    (first, rows.into())
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a share on a screen")]
fn share(part: u64, all: u64) -> f32 {
    if all == 0 { f32::NAN } else { (part as f64 / all as f64) as f32 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::drift) const MINUTES_5: i64 = 300_000;

    pub(in crate::drift) fn board() -> Board {
        Board::new(About {
            window_ms: MINUTES_5,
            false_alarm_days: 30.0,
            source: "customer-embeddings".to_owned(),
            instance: "one".to_owned(),
        })
    }

    /// The window of so many from the start.
    pub(in crate::drift) fn window(segment: &str, number: i64, buckets: &[(usize, u64)]) -> DriftWindow {
        DriftWindow {
            segment: segment.into(),
            window_start: number * MINUTES_5,
            window_end: (number + 1) * MINUTES_5,
            model: Some("bank@1".into()),
            outcome: Outcome::Ok,
            reference: Some(ReferenceKind::SameHour),
            reference_count: 100,
            zero: 1,
            buckets: buckets.to_vec(),
            counts: [("events", 10), ("unknown_events", 1)].map(|(name, count)| (Arc::from(name), count)).into(),
            scores: [("w1_log", 3.0), ("zero", 1.0)].map(|(name, score)| (Arc::from(name), score)).into(),
            thresholds: [(Arc::from("w1_log"), 2.0)].into(),
            effects: BTreeMap::new(),
            breaches: Vec::new(),
            readings: BTreeMap::new(),
            pins_end: 0,
            alert: None,
        }
    }

    pub(in crate::drift) fn alert(segment: &str, opened_at: i64, state: AlertState) -> DriftAlert {
        DriftAlert {
            id: format!("{segment}/{opened_at}").into(),
            segment: segment.into(),
            state,
            statistic: "w1_log".into(),
            since: opened_at,
            opened_at,
            updated_at: opened_at,
            resolved_at: (state == AlertState::Resolved).then_some(opened_at + 1),
            breaches: 1,
            value: 3.0,
            threshold: 2.0,
            effect: 0.3,
            customers: 100,
            model: None,
            reference: None,
            reference_count: 0,
            summary: "<b>moved</b>".to_owned(),
            moved: Vec::new(),
            companions: Vec::new(),
        }
    }

    #[test]
    fn windows_stand_in_order_and_once() {
        let board = board();
        board.windows([2, 0, 1].map(|number| window("all", number, &[(100, 5)])));
        board.windows([window("all", 1, &[(100, 7)])]);
        let state = board.read();
        let segment = &state.segments["all"];
        let known: Vec<(i64, u64)> = segment.points.iter().map(|point| (point.start, point.distances)).collect();
        assert_eq!(known, [(0, 6), (MINUTES_5, 8), (2 * MINUTES_5, 6)]);
        assert_eq!(segment.newest.as_ref().map(|newest| newest.window_start), Some(2 * MINUTES_5));
        let models: Vec<_> = segment.points.iter().filter_map(|point| point.model.as_ref()).collect();
        assert!(Arc::ptr_eq(models[0], models[1]), "a model's name is kept once");
    }

    #[test]
    fn the_past_and_the_segments_are_limited() {
        let board = board();
        let days = |days: i64| days * DAY_MS / MINUTES_5;
        board.windows([window("ended", 0, &[]), window("all", 0, &[]), window("all", days(DAYS), &[])]);
        board.windows([window("all", days(DAYS) + 1, &[])]);
        assert_eq!(board.read().segments.keys().map(AsRef::as_ref).collect::<Vec<&str>>(), ["all"]);
        assert_eq!(board.read().segments["all"].points.len(), 2);
        let many = i64::try_from(SEGMENTS_MAX).unwrap() + 9;
        board.windows((0..many).map(|number| window(&format!("label.n={number:03}"), days(DAYS) + 2 + number, &[])));
        let state = &mut board.read();
        assert_eq!(state.segments.len(), SEGMENTS_MAX);
        assert!(!state.segments.contains_key("label.n=008"), "the oldest went");
        assert!(state.segments.contains_key("label.n=009"));
        for number in 0..10 {
            state.add(window("label.n=100", days(DAYS) + 1_000 + number, &[]));
        }
        state.forget(3 * SEGMENTS_MAX);
        assert_eq!(state.segments["label.n=100"].points.len(), 3, "its share of all");
    }

    #[test]
    fn of_too_many_alerts_open_ones_stay() {
        let board = board();
        board.alert(alert("all", 0, AlertState::Firing));
        for number in 1..=i64::try_from(ALERTS_MAX).unwrap() {
            board.alert(alert("channel=web", number, AlertState::Resolved));
        }
        let state = board.read();
        assert_eq!(state.alerts.len(), ALERTS_MAX);
        assert_eq!((state.alerts[0].state, state.alerts[1].opened_at), (AlertState::Firing, 2));
    }

    #[test]
    fn an_alert_is_what_was_said_last() {
        let board = board();
        board.alert(alert("all", 0, AlertState::Firing));
        board.alert(alert("all", 0, AlertState::Resolved));
        assert_eq!(board.read().alerts.iter().map(|alert| alert.state).collect::<Vec<_>>(), [AlertState::Resolved]);
    }

    #[test]
    fn rows_hold_their_buckets() {
        for bucket in 0..BUCKETS {
            let (low, high) = row_bounds(row_of(bucket));
            assert!(low <= bounds(bucket).0 && bounds(bucket).1 <= high, "bucket {bucket} in {low} to {high}");
        }
        assert_eq!((row_of(BUCKETS - 1), row_bounds(ROWS - 1).1), (ROWS - 1, 2.0));
        let (first, rows) = rows_of(&[(97, 1), (100, 2), (101, 4), (240, 8), (999, 16)]);
        assert_eq!(
            (first, rows[0], rows[1], rows.iter().sum::<u32>()),
            (25, 3, 4, 15),
            "what is no bucket is left out"
        );
    }

    #[test]
    fn shares_and_ratios_are_said_where_there_are_any() {
        let point = Point::of(&window("all", 0, &[(100, 9)]));
        let input = |input: Input| point.inputs[Input::ALL.iter().position(|one| *one == input).unwrap()];
        assert_eq!((input(Input::Zero), input(Input::UnknownEvents)), (0.1, 0.1));
        assert!(input(Input::ColdStart).is_nan(), "no customers are counted");
        assert_eq!(point.ratios[Statistic::W1Log as usize], 1.5);
        assert!(point.ratios[Statistic::Zero as usize].is_nan(), "it has no threshold yet");
    }
}
