//! The judge on streams of windows: what it tells, what it must not tell, and that a restart changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::histogram::Histogram;
use super::judge::{Judge, Rule};
use super::verdict::{Statistic, Verdict};
use super::window::{Segment, Window, count};
use crate::wire::drift::{DriftReference, Outcome, ReferenceKind};

const WIDTH_MS: i64 = 5 * 60 * 1000;
const DAY: i64 = 288;
const WEEK: i64 = 7 * DAY;
/// Windows in a row without a breach that end an alert.
const CLEAN: u32 = 6;

fn rule() -> Rule {
    Rule {
        false_alarm_days: 30.0,
        breaches: 2,
        of: 3,
        customers_min: 300,
        segment_customers_min: 80,
        merge_max_ms: 60 * 60 * 1000,
        weeks_min: 2,
        weeks_max: 4,
        w1_log_min: 0.0953,
        exceedance_ratio_min: 1.5,
        zero_share_min: 0.01,
        volume_ratio_min: 1.5,
    }
}

/// A bank's customers: by number of the window always the same.
#[derive(Clone)]
pub(super) struct World {
    pub(super) random: u64,
}

impl World {
    fn unit(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Distances about exp(−3.4), a factor of some hundred wide; a day and a night.
    fn window(&mut self, segment: &str, number: i64, customers: f64, jumping: f64) -> Window {
        let time_of_day = (number % DAY) as f64 / DAY as f64;
        let season = 1.0 + 0.4 * libm::cos(std::f64::consts::TAU * (time_of_day - 0.6));
        let wanted = customers * season * (0.95 + 0.1 * self.unit());
        let customers = (1..).take_while(|customer| f64::from(*customer) <= wanted).last().unwrap_or(0_u32).into();
        let mut shifts = Histogram::default();
        for _ in 0..customers {
            let hump = self.unit() + self.unit() + self.unit() - 1.5;
            let distance = if self.unit() < jumping { 1.0 } else { libm::exp(-3.4 + 2.2 * hump) };
            shifts.record(distance).expect("a distance");
        }
        let counts = BTreeMap::from([(Arc::from(count::CUSTOMERS), customers)]);
        let (segment, start_ms) = (Segment(segment.into()), number * WIDTH_MS);
        let end_ms = start_ms + WIDTH_MS;
        Window { segment, start_ms, end_ms, model: Some("bank@1".into()), shifts, counts, is_partial: false }
    }

    pub(super) fn both(&mut self, number: i64, jumping: f64) -> Vec<Window> {
        vec![self.window("all", number, 400.0, jumping), self.window("channel=web", number, 110.0, jumping)]
    }
}

/// Alerts as the monitor keeps them.
#[derive(Clone, Default)]
struct Alarms(BTreeMap<Segment, (bool, u32)>);

impl Alarms {
    /// Whether the segment's is open after the window.
    fn after(&mut self, window: &Window, verdict: &Verdict) -> bool {
        let (is_open, clean) = self.0.entry(window.segment.clone()).or_default();
        match verdict.outcome {
            Outcome::Breach => (*is_open, *clean) = (*is_open || verdict.pages, 0),
            Outcome::Ok => {
                *clean += 1;
                *is_open &= *clean < CLEAN;
            }
            Outcome::Insufficient | Outcome::NoReference => {}
        }
        *is_open
    }
}

/// As records on a topic hold them.
type Record = (Window, Verdict, bool);

fn run(judge: &mut Judge, alarms: &mut Alarms, windows: &[Window]) -> Vec<Record> {
    let verdicts = judge.judge(windows);
    let mut records = Vec::new();
    for (window, verdict) in windows.iter().zip(verdicts) {
        let is_open = alarms.after(window, &verdict);
        judge.set_alarm(&window.segment, is_open);
        records.push((window.clone(), verdict, is_open));
    }
    records
}

fn jumping(number: i64) -> f64 {
    if (23 * DAY + 100..23 * DAY + 130).contains(&number) { 0.05 } else { 0.0 }
}

fn pin(judge: &mut Judge, world: &World) {
    let pinned = world.clone().window("all", 0, 50_000.0, 0.0);
    judge.pin(&DriftReference {
        segment: Arc::clone(&pinned.segment.0),
        model: pinned.model.clone(),
        from: 0,
        to: 7 * DAY * WIDTH_MS,
        pinned_at: 20 * DAY * WIDTH_MS,
        accepts: false,
        zero: pinned.shifts.zero(),
        buckets: pinned.shifts.filled().collect(),
    });
}

/// Three and a half weeks, a takeover wave within: told in time, and a judge that starts anew in the midst of it says the same.
#[test]
fn a_restart_changes_nothing_and_jumpers_are_told_in_two_windows() {
    let mut world = World { random: 5 };
    let (mut judge, mut alarms) = (Judge::new(rule()), Alarms::default());
    pin(&mut judge, &world);
    let mut records = Vec::new();
    let mut restarted: Option<(Judge, Alarms)> = None;
    for number in 0..25 * DAY {
        let windows = world.both(number, jumping(number));
        // While the alert is open.
        if number == 23 * DAY + 110 {
            let mut other = Judge::new(rule());
            pin(&mut other, &World { random: 5 });
            for (window, verdict, is_open) in &records {
                // What a record does not hold.
                other.remember(window, &Verdict { told: None, pages: false, ..Verdict::clone(verdict) });
                other.set_alarm(&window.segment, *is_open);
            }
            restarted = Some((other, alarms.clone()));
        }
        let new = run(&mut judge, &mut alarms, &windows);
        if let Some((other, alarms)) = &mut restarted {
            assert_eq!(run(other, alarms, &windows), new, "window {number}");
        }
        records.extend(new);
    }
    let told = records.iter().find(|(window, _, is_open)| *is_open && window.segment.is_all()).expect("it is told");
    assert_eq!(told.0.start_ms / WIDTH_MS, 23 * DAY + 101, "{:?}", told.1);
    let about = told.1.told.expect("a breach");
    assert_eq!((about.statistic, about.since_ms / WIDTH_MS), (Statistic::Exceedance, 23 * DAY + 100));
    assert_eq!(told.1.reference, Some(ReferenceKind::SameHour));
    assert!(records.iter().any(|(_, verdict, _)| verdict.score(Statistic::Creep).is_some()));
    naively(&records);
}

/// k of m by the records alone, and nothing pages while there are no weeks.
fn naively(records: &[Record]) {
    for segment in ["all", "channel=web"] {
        let mut last: BTreeMap<Statistic, Vec<bool>> = BTreeMap::new();
        let mut kind = None;
        let of = records.iter().filter(|(window, ..)| window.segment.as_str() == segment);
        for (window, verdict, _) in of {
            if verdict.reference != kind {
                last.clear();
                kind = verdict.reference;
            }
            let mut is_breach = false;
            for score in &verdict.scores {
                let beyond = score.threshold.is_some_and(|threshold| score.value > threshold);
                let effect = match score.statistic {
                    Statistic::W1Log | Statistic::Creep => score.effect >= 0.0953,
                    Statistic::Exceedance => score.effect >= 1.5,
                    Statistic::Zero => score.effect >= 0.01,
                    Statistic::Volume => !(1.0 / 1.5..1.5).contains(&score.effect),
                };
                let seen = last.entry(score.statistic).or_default();
                seen.push(beyond && effect);
                let three = &seen[seen.len().saturating_sub(3)..];
                is_breach |= beyond && effect && three.iter().filter(|one| **one).count() >= 2;
            }
            assert_eq!(verdict.outcome == Outcome::Breach, is_breach, "{segment} at {}: {verdict:?}", window.start_ms);
            assert!(!verdict.pages || verdict.reference == Some(ReferenceKind::SameHour), "{verdict:?}");
            let is_early = window.start_ms < 2 * WEEK * WIDTH_MS;
            assert!(!is_early || verdict.reference != Some(ReferenceKind::SameHour));
        }
    }
}

/// Four weeks of the same seed: at one false alarm in 30 days, a third of other fortnights would have one.
#[test]
fn a_quiet_fortnight_has_no_alarm() {
    let mut world = World { random: 11 };
    let (mut judge, mut alarms) = (Judge::new(rule()), Alarms::default());
    let mut scored = 0;
    for number in 0..5 * WEEK {
        for (window, verdict, is_open) in run(&mut judge, &mut alarms, &world.both(number, 0.0)) {
            assert!(!is_open, "{} at {number}: {verdict:?}", window.segment.as_str());
            scored += u32::from(number >= 3 * WEEK && verdict.outcome == Outcome::Ok);
        }
    }
    assert!(scored > 6500, "{scored}");
}

#[test]
fn what_is_half_counted_or_too_little_is_never_ok() {
    let mut world = World { random: 1 };
    let mut judge = Judge::new(rule());
    let mut verdicts = Vec::new();
    for number in 0..DAY {
        let mut window = world.window("all", number, 400.0, 0.0);
        window.is_partial = number % 2 == 0;
        verdicts.push((window.is_partial, judge.judge(&[window]).remove(0)));
    }
    for (is_partial, verdict) in verdicts {
        assert!(!is_partial || (verdict.outcome == Outcome::Insufficient && verdict.scores.is_empty()));
    }
    // 12 customers: not even an hour's are enough.
    let mut judge = Judge::new(rule());
    for number in 0..WEEK {
        let verdict = judge.judge(&[world.window("all", number, 12.0, 0.0)]).remove(0);
        assert_eq!(verdict.outcome, Outcome::Insufficient);
        assert!(verdict.windows <= 12, "{verdict:?}");
    }
}

#[test]
fn thin_windows_are_put_together_up_to_an_hour() {
    let mut world = World { random: 1 };
    let mut judge = Judge::new(rule());
    for number in 0..2 * DAY {
        judge.judge(&[world.window("all", number, 60.0, 0.0)]);
    }
    let mut since_judged = 0;
    for number in 2 * DAY..3 * DAY {
        let verdict = judge.judge(&[world.window("all", number, 60.0, 0.0)]).remove(0);
        since_judged += 1;
        assert_eq!(verdict.windows, since_judged, "{verdict:?}");
        match verdict.outcome {
            Outcome::Ok | Outcome::Breach => since_judged = 0,
            Outcome::Insufficient => assert!(since_judged < 12),
            Outcome::NoReference => panic!("there is the day before: {verdict:?}"),
        }
    }
}

#[test]
fn without_a_past_there_is_no_reference_and_an_alerts_windows_make_none() {
    let mut world = World { random: 1 };
    let (mut quiet, mut alarmed) = (Judge::new(rule()), Judge::new(rule()));
    for number in 0..DAY {
        let windows = [world.window("all", number, 600.0, 0.0)];
        let verdict = quiet.judge(&windows).remove(0);
        assert_eq!(verdict.outcome == Outcome::NoReference, verdict.reference.is_none());
        assert!(number > 10 || verdict.outcome == Outcome::NoReference);
        assert_eq!(alarmed.judge(&windows).remove(0).reference, None);
        alarmed.set_alarm(&Segment::all(), true);
    }
    let warmup = quiet.reference(&Segment::all(), DAY * WIDTH_MS).expect("a day");
    assert_eq!(warmup.kind, ReferenceKind::Warmup);
    assert!(warmup.counts[count::CUSTOMERS] > 500.0);
    assert_eq!(alarmed.reference(&Segment::all(), DAY * WIDTH_MS), None);
}

#[test]
fn another_model_restarts_the_reference_but_a_single_window_of_it_does_not() {
    let mut world = World { random: 1 };
    let mut judge = Judge::new(rule());
    let mut at = |judge: &mut Judge, number: i64, model: &str| {
        let window = Window { model: Some(model.into()), ..world.window("all", number, 600.0, 0.0) };
        judge.judge(&[window]).remove(0)
    };
    for number in 0..DAY {
        at(&mut judge, number, "bank@1");
    }
    assert!(at(&mut judge, DAY, "bank@2").reference.is_some());
    assert!(at(&mut judge, DAY + 1, "bank@1").reference.is_some());
    for number in DAY + 2..DAY + 4 {
        assert!(at(&mut judge, number, "bank@2").reference.is_some());
    }
    assert_eq!(at(&mut judge, DAY + 4, "bank@2").outcome, Outcome::NoReference);
}

#[test]
fn a_pinned_reference_stands_in_while_there_are_no_weeks() {
    let mut world = World { random: 1 };
    let mut judge = Judge::new(rule());
    pin(&mut judge, &world);
    let verdict = judge.judge(&[world.window("all", 0, 600.0, 0.0)]).remove(0);
    assert_eq!((verdict.outcome, verdict.reference), (Outcome::Ok, Some(ReferenceKind::Pinned)));
    judge.unpin(&Segment::all());
    let verdict = judge.judge(&[world.window("all", 1, 600.0, 0.0)]).remove(0);
    assert_eq!(verdict.outcome, Outcome::NoReference);
}

#[test]
fn nobody_left_is_told_by_the_numbers() {
    let mut world = World { random: 3 };
    let (mut judge, mut alarms) = (Judge::new(rule()), Alarms::default());
    for number in 0..3 * WEEK {
        run(&mut judge, &mut alarms, &[world.window("all", number, 600.0, 0.0)]);
    }
    let mut gone = |number| run(&mut judge, &mut alarms, &[world.window("all", number, 0.0, 0.0)]).remove(0);
    assert_eq!(gone(3 * WEEK).1.outcome, Outcome::Insufficient);
    let (_, verdict, is_open) = gone(3 * WEEK + 1);
    assert!(is_open && verdict.outcome == Outcome::Breach, "{verdict:?}");
    assert_eq!(verdict.told.map(|told| told.statistic), Some(Statistic::Volume));
}
