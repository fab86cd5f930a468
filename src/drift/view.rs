//! What the page asks for, made of the [`Board`]: the state of all segments, and one segment over a span of time, in as
//! many columns as a screen has use for. `[pure]`

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::board::{Board, Input, Point, ROWS, Role, Segment, State, Status, row_bounds, rows_of};
use super::verdict::Statistic;
use crate::wire::drift::{AlertState, DriftAlert, Outcome, ReferenceKind};

/// Columns of a span, at the most.
const COLUMNS_MAX: i64 = 360;
/// Windows of a segment's small picture.
const SPARK: usize = 48;
/// Alerts that are shown; open ones first.
const ALERTS_SHOWN: usize = 60;
const HOUR_MS: i64 = 3_600_000;

/// Asked for every few seconds.
#[derive(Debug, Serialize)]
pub(super) struct Pulse {
    /// What changes when anything else does.
    version: u64,
    now_ms: i64,
    role: Option<&'static str>,
    said_ms: Option<i64>,
    newest_record_ms: Option<i64>,
    lag: Option<u64>,
    away_ms: Option<i64>,
}

/// All segments as they stand.
#[derive(Debug, Serialize)]
pub(super) struct Now {
    version: u64,
    window_ms: i64,
    false_alarm_days: f64,
    source: String,
    instance: String,
    program: &'static str,
    /// From the oldest window that is kept to the newest.
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
    segments: Vec<Standing>,
    alerts: Vec<DriftAlert>,
    open_alerts: usize,
}

#[derive(Debug, Serialize)]
struct Standing {
    name: Arc<str>,
    start: i64,
    end: i64,
    outcome: Outcome,
    reference: Option<ReferenceKind>,
    model: Option<Arc<str>>,
    distances: u64,
    alert: Option<Arc<str>>,
    /// Of the statistic that is nearest to its threshold, or beyond it the farthest.
    ratio: f32,
    statistic: Option<&'static str>,
    quantiles: [f32; 3],
    /// The highest ratio of each of the last windows, with the outcomes.
    spark: Vec<(f32, Outcome)>,
}

/// One segment over a span.
#[derive(Debug, Serialize)]
pub(super) struct Detail {
    version: u64,
    name: Arc<str>,
    from: i64,
    to: i64,
    /// Width of a column.
    step_ms: i64,
    columns: Vec<Column>,
    /// The upper bounds of the rows; row 0 begins above 0.
    bounds: Vec<f64>,
    statistics: [&'static str; Statistic::ALL.len()],
    inputs: [&'static str; Input::ALL.len()],
    /// When another model than before was in most records, and which.
    models: Vec<(i64, Arc<str>)>,
    window: Option<Counts>,
    hour: Option<Counts>,
    reference: Option<Compared>,
    scores: BTreeMap<Arc<str>, f64>,
    thresholds: BTreeMap<Arc<str>, f64>,
    effects: BTreeMap<Arc<str>, f64>,
    breaches: Vec<Arc<str>>,
    readings: BTreeMap<Arc<str>, f64>,
    counts: BTreeMap<Arc<str>, u64>,
}

/// Counts by row, from `first_row` on.
#[derive(Debug, Serialize)]
struct Counts {
    start: i64,
    end: i64,
    zero: u64,
    first_row: usize,
    rows: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Compared {
    kind: ReferenceKind,
    zero: u64,
    first_row: usize,
    rows: Box<[u32]>,
}

/// One window, or some that stand close together on the screen.
#[derive(Debug, Serialize)]
struct Column {
    start: i64,
    end: i64,
    windows: usize,
    /// A breach where one is among them, else that of most.
    outcome: Outcome,
    reference: Option<ReferenceKind>,
    in_alert: bool,
    distances: u64,
    customers: u64,
    zero: u64,
    quantiles: [f32; 3],
    /// The highest.
    ratios: [f32; Statistic::ALL.len()],
    /// The mean.
    inputs: [f32; Input::ALL.len()],
    first_row: usize,
    rows: Vec<u64>,
}

impl Pulse {
    pub(super) fn of(board: &Board, now_ms: i64) -> Self {
        let state = board.read();
        let status: Option<Status> = state.status;
        let role = status.map(|status| match status.role {
            Role::Active => "active",
            Role::Standby => "standby",
            Role::Restoring => "restoring",
        });
        Self {
            version: state.version,
            now_ms,
            role,
            said_ms: status.map(|status| status.at_ms),
            newest_record_ms: status.and_then(|status| status.newest_record_ms),
            lag: status.and_then(|status| status.lag),
            away_ms: status.and_then(|status| status.away_ms),
        }
    }
}

impl Now {
    pub(super) fn of(board: &Board) -> Self {
        let state = board.read();
        let points = || state.segments.values().map(|segment| &segment.points);
        let segments = state.segments.iter().filter_map(|(name, segment)| Standing::of(name, segment)).collect();
        // The newest first; of those of one window as they were told.
        let mut alerts = state.alerts.clone();
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.opened_at));
        let (open, resolved): (Vec<_>, Vec<_>) =
            alerts.into_iter().partition(|alert| alert.state == AlertState::Firing);
        let open_alerts = open.len();
        Self {
            version: state.version,
            window_ms: board.about.window_ms,
            false_alarm_days: board.about.false_alarm_days,
            source: board.about.source.clone(),
            instance: board.about.instance.clone(),
            program: env!("CARGO_PKG_VERSION"),
            oldest_ms: points().filter_map(|points| Some(points.front()?.start)).min(),
            newest_ms: points().filter_map(|points| Some(points.back()?.end)).max(),
            segments,
            alerts: open.into_iter().chain(resolved).take(ALERTS_SHOWN).collect(),
            open_alerts,
        }
    }
}

impl Standing {
    fn of(name: &Arc<str>, segment: &Segment) -> Option<Self> {
        let last = segment.points.back()?;
        let (statistic, ratio) = last.worst();
        let spark = segment.points.iter().rev().take(SPARK).rev();
        Some(Self {
            name: Arc::clone(name),
            start: last.start,
            end: last.end,
            outcome: last.outcome,
            reference: last.reference,
            model: last.model.clone(),
            distances: last.distances,
            alert: segment.newest.as_ref().and_then(|newest| newest.alert.clone()),
            ratio,
            statistic: statistic.map(Statistic::as_str),
            quantiles: last.quantiles,
            spark: spark.map(|point| (point.worst().1, point.outcome)).collect(),
        })
    }
}

impl Point {
    /// The highest of its ratios.
    fn worst(&self) -> (Option<Statistic>, f32) {
        let known = Statistic::ALL.into_iter().zip(self.ratios).filter(|(_, ratio)| ratio.is_finite());
        let worst = known.max_by(|(_, one), (_, other)| one.total_cmp(other));
        worst.map_or((None, f32::NAN), |(statistic, ratio)| (Some(statistic), ratio))
    }
}

impl Detail {
    /// `None` where the segment is not known. The span is cut to what is kept.
    pub(super) fn of(board: &Board, name: &str, from: i64, to: i64) -> Option<Self> {
        let state = board.read();
        let (name, segment) = state.segments.get_key_value(name)?;
        let window_ms = board.about.window_ms.max(1);
        let (from, to) = span(&state, from, to);
        let shown = || segment.points.iter().filter(|point| from < point.end && point.start < to);
        // A whole number of windows, so that all columns hold as many.
        let step_ms = (to - from).div_euclid(COLUMNS_MAX * window_ms).max(0) * window_ms + window_ms;
        let mut columns: Vec<Column> = Vec::new();
        for group in shown().collect::<Vec<_>>().chunk_by(|a, b| a.start / step_ms == b.start / step_ms) {
            columns.push(Column::of(group));
        }
        let newest = segment.newest.as_ref();
        Some(Self {
            version: state.version,
            name: Arc::clone(name),
            from,
            to,
            step_ms,
            columns,
            bounds: (0..ROWS).map(|row| row_bounds(row).1).collect(),
            statistics: Statistic::ALL.map(Statistic::as_str),
            inputs: Input::ALL.map(Input::as_str),
            models: model_changes(shown()),
            window: segment.points.back().map(|last| Counts::of([last])).filter(Counts::has_any),
            hour: hour(segment).filter(Counts::has_any),
            reference: segment.reference.as_ref().map(|reference| {
                let (first_row, rows) = rows_of(&reference.buckets);
                Compared { kind: reference.kind, zero: reference.zero, first_row, rows }
            }),
            scores: newest.map(|window| window.scores.clone()).unwrap_or_default(),
            thresholds: newest.map(|window| window.thresholds.clone()).unwrap_or_default(),
            effects: newest.map(|window| window.effects.clone()).unwrap_or_default(),
            breaches: newest.map(|window| window.breaches.clone()).unwrap_or_default(),
            readings: newest.map(|window| window.readings.clone()).unwrap_or_default(),
            counts: newest.map(|window| window.counts.clone()).unwrap_or_default(),
        })
    }
}

/// Within what is kept, and not empty.
fn span(state: &State, from: i64, to: i64) -> (i64, i64) {
    let oldest = state.segments.values().filter_map(|segment| Some(segment.points.front()?.start)).min().unwrap_or(0);
    let newest = state.segments.values().filter_map(Segment::newest_end).max().unwrap_or(0);
    let to = to.clamp(oldest, newest);
    (from.clamp(oldest, to), to)
}

fn hour(segment: &Segment) -> Option<Counts> {
    let end = segment.newest_end()?;
    let newest = segment.points.iter().rev().take_while(|point| point.start >= end - HOUR_MS);
    Some(Counts::of(newest.collect::<Vec<_>>().into_iter().rev()))
}

fn model_changes<'p>(points: impl Iterator<Item = &'p Point>) -> Vec<(i64, Arc<str>)> {
    let mut changes = Vec::new();
    let mut before: Option<&Arc<str>> = None;
    for point in points {
        let Some(model) = &point.model else { continue };
        if before.is_some_and(|before| before != model) {
            changes.push((point.start, Arc::clone(model)));
        }
        before = Some(model);
    }
    changes
}

impl Counts {
    fn of<'p>(points: impl IntoIterator<Item = &'p Point>) -> Self {
        let points: Vec<&Point> = points.into_iter().collect();
        let (first_row, rows) = summed(&points);
        Self {
            start: points.first().map_or(0, |point| point.start),
            end: points.last().map_or(0, |point| point.end),
            zero: points.iter().map(|point| point.zero).sum(),
            first_row,
            rows,
        }
    }

    fn has_any(&self) -> bool {
        self.zero > 0 || !self.rows.is_empty()
    }
}

fn summed(points: &[&Point]) -> (usize, Vec<u64>) {
    let filled = || points.iter().filter(|point| !point.rows.is_empty());
    let Some(first) = filled().map(|point| point.first_row).min() else { return (0, Vec::new()) };
    let end = filled().map(|point| point.first_row + point.rows.len()).max().unwrap_or(first);
    let mut rows = vec![0; end - first];
    for point in filled() {
        for (row, count) in rows[point.first_row - first..].iter_mut().zip(&point.rows) {
            *row += u64::from(*count);
        }
    }
    (first, rows)
}

impl Column {
    fn of(points: &[&Point]) -> Self {
        let (first, last) = (points[0], points[points.len() - 1]);
        let (first_row, rows) = summed(points);
        let zero = points.iter().map(|point| point.zero).sum();
        let quantiles = match points {
            [one] => one.quantiles,
            _ => [0.5, 0.9, 0.99].map(|share| quantile(share, zero, first_row, &rows)),
        };
        Self {
            start: first.start,
            end: last.end,
            windows: points.len(),
            outcome: outcome(points),
            reference: last.reference,
            in_alert: points.iter().any(|point| point.in_alert),
            distances: points.iter().map(|point| point.distances).sum(),
            customers: points.iter().map(|point| point.customers).sum(),
            zero,
            quantiles,
            ratios: std::array::from_fn(|which| highest(points.iter().map(|point| point.ratios[which]))),
            inputs: std::array::from_fn(|which| mean(points.iter().map(|point| point.inputs[which]))),
            first_row,
            rows,
        }
    }
}

fn outcome(points: &[&Point]) -> Outcome {
    let order = [Outcome::Ok, Outcome::Insufficient, Outcome::NoReference];
    if points.iter().any(|point| point.outcome == Outcome::Breach) {
        return Outcome::Breach;
    }
    let count = |outcome: &Outcome| points.iter().filter(|point| point.outcome == *outcome).count();
    // The first of those with most.
    order.into_iter().rev().max_by_key(count).unwrap_or(Outcome::Insufficient)
}

fn highest(values: impl Iterator<Item = f32>) -> f32 {
    // NaN gives way to a number.
    values.fold(f32::NAN, f32::max)
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (mut sum, mut count) = (0.0, 0.0_f32);
    for value in values.filter(|value| value.is_finite()) {
        (sum, count) = (sum + value, count + 1.0);
    }
    if count > 0.0 { sum / count } else { f32::NAN }
}

/// As the histogram's, between a row's bounds on the log scale.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a line on a screen")]
fn quantile(of: f64, zero: u64, first_row: usize, rows: &[u64]) -> f32 {
    let all = zero + rows.iter().sum::<u64>();
    if all == 0 {
        return f32::NAN;
    }
    let rank = of * all as f64;
    let mut below = zero as f64;
    if rank <= below {
        return 0.0;
    }
    for (row, count) in rows.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if rank <= below + count {
            let (low, high) = row_bounds(first_row + row);
            let within = (rank - below) / count;
            return if low > 0.0 { low * (high / low).powf(within) } else { high * within } as f32;
        }
        below += count;
    }
    f32::NAN
}

#[cfg(test)]
mod tests {
    use super::super::board::Reference;
    use super::super::board::tests::{MINUTES_5, alert, board, window};
    use super::*;
    use crate::wire::drift::DriftWindow;

    #[test]
    fn a_long_span_is_in_few_columns_and_loses_nobody() {
        let board = board();
        board.windows((0..1_000).map(|number| window("all", number, &[(100, 5), (140, 3)])));
        let detail = Detail::of(&board, "all", i64::MIN, i64::MAX).expect("it is known");
        assert_eq!((detail.from, detail.to, detail.step_ms), (0, 1_000 * MINUTES_5, 3 * MINUTES_5));
        assert_eq!(detail.columns.len(), 334);
        assert_eq!(detail.columns.iter().map(|column| column.distances).sum::<u64>(), 9_000);
        assert_eq!(detail.columns.iter().flat_map(|column| &column.rows).sum::<u64>(), 8_000);
        let column = &detail.columns[0];
        assert_eq!((column.windows, column.zero, column.first_row, column.rows[0]), (3, 3, 25, 15));
        let (low, high) = row_bounds(25);
        assert!((low..=high).contains(&f64::from(column.quantiles[0])), "{:?} in {low} to {high}", column.quantiles);
        let short = Detail::of(&board, "all", 990 * MINUTES_5, 995 * MINUTES_5).expect("it is known");
        assert_eq!((short.columns.len(), short.step_ms), (5, MINUTES_5));
        assert!(Detail::of(&board, "al", 0, 1).is_none());
    }

    #[test]
    fn a_breach_is_seen_however_short() {
        let board = board();
        let with = |outcome, number| DriftWindow { outcome, ..window("all", number, &[(100, 5)]) };
        board.windows((0..1_000).map(|number| with(Outcome::Ok, number)));
        board.windows([with(Outcome::Breach, 301), with(Outcome::Insufficient, 306), with(Outcome::Insufficient, 307)]);
        let detail = Detail::of(&board, "all", 0, i64::MAX).expect("it is known");
        assert_eq!(
            [100, 101, 102].map(|column: usize| detail.columns[column].outcome),
            [Outcome::Breach, Outcome::Ok, Outcome::Insufficient]
        );
    }

    #[test]
    fn models_that_change_are_marked_and_gaps_are_none() {
        let board = board();
        let of =
            |number, model: Option<&str>| DriftWindow { model: model.map(Into::into), ..window("all", number, &[]) };
        board.windows([of(0, Some("bank@1")), of(1, None), of(2, Some("bank@1")), of(3, Some("bank@2"))]);
        let detail = Detail::of(&board, "all", 0, i64::MAX).expect("it is known");
        assert_eq!(detail.models, [(3 * MINUTES_5, Arc::from("bank@2"))]);
    }

    #[test]
    fn what_cannot_be_said_is_null() {
        let board = board();
        assert_eq!(serde_json::to_value(Now::of(&board)).unwrap()["segments"], serde_json::json!([]));
        let empty = DriftWindow { zero: 0, scores: BTreeMap::new(), ..window("all", 0, &[]) };
        board.windows([empty]);
        let now = serde_json::to_value(Now::of(&board)).unwrap();
        assert_eq!(now["segments"][0]["ratio"], serde_json::Value::Null);
        assert_eq!(now["segments"][0]["quantiles"], serde_json::json!([null, null, null]));
        let detail = serde_json::to_value(Detail::of(&board, "all", 0, i64::MAX)).unwrap();
        assert_eq!((&detail["window"], &detail["hour"], &detail["reference"]), (&().into(), &().into(), &().into()));
    }

    #[test]
    fn open_alerts_come_first_and_the_hour_is_summed() {
        let board = board();
        board.alert(alert("channel=web", 5, AlertState::Firing));
        board.alert(alert("all", 9, AlertState::Resolved));
        board.windows((0..20).map(|number| window("all", number, &[(100, 5)])));
        let kind = ReferenceKind::Pinned;
        board.references([(Arc::from("all"), Reference { kind, zero: 2, buckets: vec![(100, 50)] })]);
        board.references([(Arc::from("nobody"), Reference { kind, zero: 0, buckets: Vec::new() })]);
        let now = Now::of(&board);
        assert_eq!(
            now.alerts.iter().map(|alert| alert.segment.as_ref()).collect::<Vec<&str>>(),
            ["channel=web", "all"]
        );
        assert_eq!((now.open_alerts, now.segments.len()), (1, 1));
        let detail = Detail::of(&board, "all", 0, i64::MAX).expect("it is known");
        let hour = detail.hour.expect("there are windows");
        assert_eq!((hour.start, hour.end, hour.zero, hour.rows), (8 * MINUTES_5, 20 * MINUTES_5, 12, vec![60]));
        assert_eq!(detail.window.expect("there are windows").rows, [5]);
        assert_eq!(detail.reference.map(|reference| (reference.zero, reference.rows[0])), Some((2, 50)));
    }

    #[test]
    fn the_pulse_says_what_the_engine_said() {
        let board = board();
        let before = serde_json::to_value(Pulse::of(&board, 7)).unwrap();
        assert_eq!((&before["role"], &before["now_ms"]), (&().into(), &7.into()));
        board.status(Status { role: Role::Standby, newest_record_ms: None, lag: Some(3), away_ms: Some(2), at_ms: 5 });
        let after = serde_json::to_value(Pulse::of(&board, 9)).unwrap();
        assert_eq!((&after["role"], &after["said_ms"], &after["lag"]), (&"standby".into(), &5.into(), &3.into()));
        assert_eq!((&before["away_ms"], &after["away_ms"]), (&().into(), &2.into()));
        assert_eq!(after["version"], before["version"], "a status alone changes no picture");
    }
}
