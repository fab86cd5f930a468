//! The monitor without the world: records → windows → verdicts → alerts, and back from what was published before. `[pure]`

use std::collections::BTreeMap;
use std::sync::Arc;

use super::alarm::Alarm;
use super::board;
use super::collect::{Closed, Collector, Cut, Far};
use super::histogram::{BUCKETS, Histogram, bounds};
use super::judge::{Judge, Rule};
use super::packed::{UnpackError, pack, unpack};
use super::reference::Reference;
use super::verdict::Statistic;
use super::window::{Segment, Window};
use crate::wire::drift::{DriftAlert, DriftCustomer, DriftReference, DriftWindow};

/// A customer is told of where no more of the reference lies as far …
const FAR_SHARE_MAX: f64 = 1e-4;
/// … and the distance is so many times the reference's 99th percentile.
const FAR_RATIO_MIN: f64 = 2.0;
/// Distances that a channel's reference needs, or that of all is taken.
const FAR_REFERENCE_MIN: u64 = 1_000;

/// What the monitor goes by, but for the false alarms that somebody asks for. Measured in docs/drift-statistics.md.
pub fn usual_rule(false_alarm_days: f64) -> Rule {
    Rule {
        false_alarm_days,
        breaches: 2,
        of: 3,
        customers_min: 300,
        // So that a segment of 100 in the mean is judged window by window.
        segment_customers_min: 80,
        merge_max_ms: 3_600_000,
        weeks_min: 2,
        weeks_max: 4,
        w1_log_min: 0.0953,
        exceedance_ratio_min: 1.5,
        zero_share_min: 0.005,
        volume_ratio_min: 2.0,
    }
}

/// What one window gave, to be published together.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub windows: Vec<DriftWindow>,
    pub alerts: Vec<DriftAlert>,
    pub customers: Vec<DriftCustomer>,
}

/// A record on the topic of references.
#[derive(Debug, Clone, PartialEq)]
pub enum Pin {
    Set(DriftReference),
    /// Of the segment.
    Removed(Arc<str>),
}

/// Pins that wait for a window; beyond it the oldest is taken at once.
const PINS_WAIT_MAX: usize = 10_000;

#[derive(Debug)]
pub struct Engine {
    pub collector: Collector,
    judge: Judge,
    alarm: Alarm,
    /// By their offsets: read, and to be taken with the first window that is to know of them. So a window's record says which
    /// pins counted, and judging it again takes the same.
    pins: BTreeMap<i64, Pin>,
    /// Pins from before this offset are taken.
    pins_end: i64,
}

impl Engine {
    pub fn new(cut: Cut, rule: Rule) -> Self {
        let (collector, judge) = (Collector::new(cut), Judge::new(rule));
        Self { collector, judge, alarm: Alarm::default(), pins: BTreeMap::new(), pins_end: 0 }
    }

    /// An alert as it was published last; before the windows.
    pub fn restore_alert(&mut self, alert: DriftAlert) {
        self.alarm.restore(alert);
    }

    /// A window that was judged before; in their order.
    pub fn remember(&mut self, record: &DriftWindow) -> Result<(), UnpackError> {
        let (window, verdict) = unpack(record)?;
        self.take_pins(record.pins_end, window.start_ms);
        self.collector.remember(&window);
        self.judge.remember(&window, &verdict);
        self.judge.set_alarm(&window.segment, record.alert.is_some());
        self.alarm.restore_window(&window, record.outcome);
        Ok(())
    }

    /// Counts from the next window that is judged, and for those that are remembered as it did then.
    pub fn pin(&mut self, offset: i64, pin: Pin) {
        self.pins.insert(offset, pin);
        if self.pins.len() > PINS_WAIT_MAX
            && let Some((first, _)) = self.pins.first_key_value()
        {
            self.take_pins(first + 1, i64::MAX);
        }
    }

    /// Those from before that offset; the windows that follow begin at `next_ms`.
    fn take_pins(&mut self, end: i64, next_ms: i64) {
        while let Some(first) = self.pins.first_entry().filter(|first| *first.key() < end) {
            match first.remove() {
                Pin::Set(reference) => {
                    self.judge.pin(&reference);
                    if reference.accepts {
                        self.alarm.accept(&reference.segment, next_ms);
                    }
                }
                Pin::Removed(segment) => self.judge.unpin(&Segment(segment)),
            }
        }
        self.pins_end = end.max(self.pins_end);
    }

    pub fn firing(&self) -> impl Iterator<Item = &DriftAlert> {
        self.alarm.firing()
    }

    /// What the segment's newest window is compared with.
    pub fn reference(&self, segment: &Segment, start_ms: i64) -> Option<Arc<Reference>> {
        self.judge.reference(segment, start_ms)
    }

    /// What the segments of these windows are compared with, for the board.
    pub fn shown_references(&self, windows: &[DriftWindow]) -> Vec<(Arc<str>, board::Reference)> {
        let shown = |window: &DriftWindow| {
            let reference = self.reference(&Segment(Arc::clone(&window.segment)), window.window_start)?;
            let (kind, shifts) = (reference.kind, &reference.shifts);
            let shown = board::Reference { kind, zero: shifts.zero(), buckets: shifts.filled().collect() };
            Some((Arc::clone(&window.segment), shown))
        };
        windows.iter().filter_map(shown).collect()
    }

    /// Closes and judges all windows that can hold nothing more: all records published before `until_ms` are here.
    pub fn close(&mut self, until_ms: i64) -> Vec<Judged> {
        let closed = self.collector.close(until_ms);
        closed.into_iter().map(|Closed { windows, farthest }| self.judge(&windows, &farthest)).collect()
    }

    /// All segments' windows of one time, with the customers that moved farthest in it.
    pub fn judge(&mut self, windows: &[Window], farthest: &[Far]) -> Judged {
        let all = self.pins.last_key_value().map_or(self.pins_end, |(last, _)| last + 1);
        self.judge_with(windows, farthest, all)
    }

    /// The same by the pins from before that offset alone.
    pub fn judge_with(&mut self, windows: &[Window], farthest: &[Far], pins_end: i64) -> Judged {
        if let Some(first) = windows.first() {
            self.take_pins(pins_end, first.start_ms);
        }
        // As it was before these windows became part of it.
        let references: Vec<_> =
            windows.iter().map(|window| self.judge.reference(&window.segment, window.start_ms)).collect();
        let verdicts = self.judge.judge(windows);
        let mut judged = Judged { windows: Vec::new(), alerts: Vec::new(), customers: Vec::new() };
        for ((window, verdict), reference) in windows.iter().zip(&verdicts).zip(&references) {
            // The slow change is one from what was pinned.
            let is_creep = verdict.told.is_some_and(|told| told.statistic == Statistic::Creep);
            let pinned = is_creep.then(|| self.judge.pinned(&window.segment)).flatten();
            let changed = self.alarm.judged(window, verdict, pinned.as_deref().or(reference.as_deref()));
            let open = self.alarm.open_on(window.segment.as_str()).map(|alert| Arc::clone(&alert.id));
            self.judge.set_alarm(&window.segment, open.is_some());
            judged.alerts.extend(changed);
            judged.windows.push(pack(window, verdict, reference.as_deref(), self.pins_end, open));
        }
        judged.alerts.extend(self.alarm.gone(windows));
        let by_segment = |name: &str| {
            let place = windows.iter().position(|window| window.segment.as_str() == name)?;
            Some((&windows[place], references[place].as_deref()?))
        };
        judged.customers = farthest.iter().filter_map(|far| far_customer(far, &by_segment)).collect();
        judged
    }
}

fn far_customer<'a>(
    far: &Far,
    by_segment: &dyn Fn(&str) -> Option<(&'a Window, &'a Reference)>,
) -> Option<DriftCustomer> {
    let of_channel = far.channel.as_ref().and_then(|channel| by_segment(&format!("channel={channel}")));
    let of_channel = of_channel.filter(|(_, reference)| reference.shifts.len() >= FAR_REFERENCE_MIN);
    let (window, reference) = of_channel.or_else(|| by_segment(Segment::ALL))?;
    let p99 = reference.shifts.quantile(0.99)?;
    let share = share_from(&reference.shifts, far.cosine_shift);
    (share <= FAR_SHARE_MAX && far.cosine_shift >= FAR_RATIO_MIN * p99).then(|| DriftCustomer {
        customer_id: far.customer_id.clone(),
        sequence: far.sequence,
        session_uid: far.session_uid.clone(),
        channel: far.channel.clone(),
        model: Arc::clone(&far.model),
        closed_at: far.closed_at,
        cosine_shift: far.cosine_shift,
        gate: far.gate,
        segment: Arc::clone(&window.segment.0),
        usual_p99: p99,
        usual_share: share,
        window_start: window.start_ms,
    })
}

/// Of all distances those in the bucket of this one or beyond.
fn share_from(histogram: &Histogram, distance: f64) -> f64 {
    let first = (0..BUCKETS).find(|bucket| distance <= bounds(*bucket).1).unwrap_or(BUCKETS - 1);
    histogram.counts()[first..].iter().sum::<u64>() as f64 / histogram.len().max(1) as f64
}
