//! The monitor within the demo: the real engine and page, fed by the demo's own reader instead of a consumer group. It has no
//! weeks to learn from: after a while it takes what it has seen for the bank's ways, and draws three quiet weeks from that.

use std::sync::Arc;

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

use crate::drift::board::{About, Board, Role, Status};
use crate::drift::collect::Cut;
use crate::drift::engine::{Engine, Judged, usual_rule};
use crate::drift::histogram::{Histogram, bounds};
use crate::drift::window::{Segment, Window, count};
use crate::wire::avro::Schemas;
use crate::wire::drift::{AlertState, DriftAlert};

/// A bank's five minutes.
const WIDTH_MS: i64 = 5_000;
const LATENESS_MS: i64 = 1_000;
/// Windows of the past that is drawn, and how many.
const PAST_WIDTH_MS: i64 = 10 * 60_000;
const PAST_WINDOWS: i64 = 3 * 7 * 24 * 6;
/// Distances that a window needs to be learned from.
const LEARNED_MIN: u64 = 50;
const FALSE_ALARM_DAYS: f64 = 30.0;

/// What the view tells of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// Windows judged since it has learned; `None` before.
    pub(super) judged: Option<u64>,
    /// The newest state of the alert on all customers.
    pub(super) alert: Option<DriftAlert>,
    /// Every alert that opened: its segment.
    pub(super) opened: Vec<Arc<str>>,
}

pub(super) struct Drift {
    engine: Engine,
    board: Arc<Board>,
    learned: Vec<Vec<Window>>,
    pub(super) told: Told,
}

impl Drift {
    pub(super) fn new(source: &str, now_ms: i64) -> Self {
        let cut = Cut {
            width_ms: WIDTH_MS,
            lateness_ms: LATENESS_MS,
            future_ms: 300_000,
            segments_max: 20,
            customers_max: 1 << 20,
        };
        let mut engine = Engine::new(cut, usual_rule(FALSE_ALARM_DAYS));
        engine.collector.begin(now_ms);
        let about = About {
            window_ms: WIDTH_MS,
            false_alarm_days: FALSE_ALARM_DAYS,
            source: source.to_owned(),
            instance: "demo".to_owned(),
        };
        Self { engine, board: Arc::new(Board::new(about)), learned: Vec::new(), told: Told::default() }
    }

    pub(super) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    pub(super) fn record(&mut self, value: &[u8], published_ms: i64, partition: i32, schemas: &Schemas) {
        self.engine.collector.record(value, published_ms, partition, schemas);
    }

    /// Closes what is over. The demo's reader has read all that was published half a second ago.
    /// Says whether there were any.
    pub(super) fn advance(&mut self, now_ms: i64) -> bool {
        self.board.status(Status {
            role: Role::Active,
            newest_record_ms: Some(now_ms),
            lag: Some(0),
            away_ms: None,
            at_ms: now_ms,
        });
        let all = self.engine.collector.close(now_ms - 500);
        let is_any = !all.is_empty();
        for closed in all {
            if self.told.judged.is_some() {
                let judged = self.engine.judge(&closed.windows, &closed.farthest);
                self.publish(judged);
            } else {
                self.learned.push(closed.windows);
            }
        }
        is_any
    }

    /// What was seen until now is usual.
    pub(super) fn learn(&mut self, now_ms: i64) {
        let mut segments: Vec<(Segment, Past)> = Vec::new();
        for window in self.learned.iter().flatten().filter(|window| window.shifts.len() >= LEARNED_MIN) {
            match segments.iter_mut().find(|(segment, _)| *segment == window.segment) {
                Some((_, past)) => past.add(window),
                None => segments.push((window.segment.clone(), Past::of(window))),
            }
        }
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let end = now_ms.div_euclid(PAST_WIDTH_MS) * PAST_WIDTH_MS;
        for number in (1..=PAST_WINDOWS).rev() {
            let start_ms = end - number * PAST_WIDTH_MS;
            let windows: Vec<Window> =
                segments.iter().map(|(segment, past)| past.draw(segment, start_ms, &mut random)).collect();
            let judged = self.engine.judge(&windows, &[]);
            // The last day of it is shown.
            if number <= 144 {
                self.board.windows(judged.windows);
            }
        }
        self.told.judged = Some(0);
    }

    fn publish(&mut self, judged: Judged) {
        self.told.judged = self.told.judged.map(|windows| windows + 1);
        for alert in judged.alerts {
            if alert.state == AlertState::Firing && alert.updated_at == alert.opened_at {
                self.told.opened.push(Arc::clone(&alert.segment));
            }
            if alert.segment.as_ref() == Segment::ALL || self.told.alert.is_none() {
                self.told.alert = Some(alert.clone());
            }
            self.board.alert(alert);
        }
        let references = self.engine.shown_references(&judged.windows);
        self.board.windows(judged.windows);
        self.board.references(references);
    }
}

/// Of one segment: windows put together, from which others are drawn.
struct Past {
    shifts: Histogram,
    windows: u64,
    last: Window,
    counts: std::collections::BTreeMap<Arc<str>, u64>,
}

impl Past {
    fn of(window: &Window) -> Self {
        let mut past = Self {
            shifts: Histogram::default(),
            windows: 0,
            last: window.clone(),
            counts: std::collections::BTreeMap::new(),
        };
        past.add(window);
        past
    }

    fn add(&mut self, window: &Window) {
        self.shifts.merge(&window.shifts);
        self.windows += 1;
        for (name, number) in &window.counts {
            *self.counts.entry(Arc::clone(name)).or_default() += number;
        }
        self.last = window.clone();
    }

    /// As many distances as the last window has, from all that were seen.
    fn draw(&self, segment: &Segment, start_ms: i64, random: &mut Pcg64Mcg) -> Window {
        let all = self.shifts.len();
        let mut ends: Vec<(u64, Option<usize>)> = vec![(self.shifts.zero(), None)];
        for (bucket, number) in self.shifts.filled() {
            ends.push((ends[ends.len() - 1].0 + number, Some(bucket)));
        }
        let mut shifts = Histogram::default();
        for _ in 0..self.last.shifts.len() {
            let rank = random.random_range(0..all);
            let place = ends.partition_point(|(end, _)| *end <= rank);
            let distance = ends[place].1.map_or(0.0, |bucket| bounds(bucket).1);
            shifts.record(distance).expect("a bucket's bound is a distance");
        }
        let mean = |number: &u64| number / self.windows;
        let mut counts: std::collections::BTreeMap<Arc<str>, u64> =
            self.counts.iter().map(|(name, number)| (Arc::clone(name), mean(number))).collect();
        counts.insert(count::CUSTOMERS.into(), self.last.count(count::CUSTOMERS));
        Window {
            segment: segment.clone(),
            start_ms,
            end_ms: start_ms + PAST_WIDTH_MS,
            model: self.last.model.clone(),
            shifts,
            counts,
            is_partial: false,
        }
    }
}
