//! What was judged once is judged the same again: from the first window on, or from any other, with pins and alerts in between.

use super::again::{Again, Compared, Span};
use super::collect::Cut;
use super::engine::{Engine, Pin, usual_rule};
use super::judge_tests::World;
use super::packed::pin;
use crate::wire::drift::{AlertState, DriftAlert, DriftWindow};

const WIDTH_MS: i64 = 5 * 60 * 1000;
const DAY: i64 = 288;
const DAY_MS: i64 = DAY * WIDTH_MS;

fn engine(false_alarm_days: f64) -> Engine {
    let (width_ms, lateness_ms, future_ms) = (WIDTH_MS, 60_000, 60_000);
    let cut = Cut { width_ms, lateness_ms, future_ms, segments_max: 10, customers_max: 1 << 20 };
    Engine::new(cut, usual_rule(false_alarm_days))
}

/// What a monitor wrote in its life.
#[derive(Default)]
struct Topics {
    windows: Vec<DriftWindow>,
    alerts: Vec<DriftAlert>,
    pins: Vec<(i64, Pin)>,
}

impl Topics {
    /// As a monitor that starts anew has it.
    fn restored(&self, false_alarm_days: f64) -> Engine {
        let mut engine = engine(false_alarm_days);
        self.alerts.iter().for_each(|alert| engine.restore_alert(alert.clone()));
        self.pins.iter().for_each(|(offset, pin)| engine.pin(*offset, pin.clone()));
        self.windows.iter().for_each(|window| engine.remember(window).expect("a window"));
        engine
    }

    /// The windows of a time, of which some customers jump.
    fn lived(&mut self, engine: &mut Engine, world: &mut World, number: i64, jumping: f64) {
        let judged = engine.judge(&world.both(number, jumping), &[]);
        self.windows.extend(judged.windows);
        self.alerts.extend(judged.alerts);
    }

    fn pinned(&mut self, engine: &mut Engine, pin: Pin) {
        // Markers of transactions have offsets too.
        let offset = 2 * i64::try_from(self.pins.len()).expect("few");
        self.pins.push((offset, pin.clone()));
        engine.pin(offset, pin);
    }

    fn again(&self, from_ms: Option<i64>, false_alarm_days: f64) -> Vec<Compared> {
        let span = Span { from_ms, to_ms: None, width_ms: WIDTH_MS };
        let mut engine = engine(false_alarm_days);
        let first = span.first_ms().unwrap_or(i64::MIN);
        let before = self.alerts.iter().filter(|alert| alert.updated_at <= first);
        before.for_each(|alert| engine.restore_alert(alert.clone()));
        self.pins.iter().for_each(|(offset, pin)| engine.pin(*offset, pin.clone()));
        let mut again = Again::new(engine, span);
        let mut all: Vec<Compared> = self.windows.iter().filter_map(|window| again.record(window.clone())).collect();
        all.extend(again.end());
        assert_eq!(again.left_out, 0);
        all
    }
}

/// Sixteen days: a week is pinned, half the customers jump, that is accepted, and some of them jump no more; with two restarts.
fn life() -> Topics {
    let mut world = World { random: 5 };
    let (mut topics, mut engine) = (Topics::default(), engine(30.0));
    for number in 0..16 * DAY {
        let windows = &topics.windows;
        if number == 8 * DAY + 7 {
            let week: Vec<DriftWindow> = windows.iter().filter(|w| w.segment.as_ref() == "all").cloned().collect();
            let week = pin(&week, number * WIDTH_MS, false).expect("windows").expect("distances");
            topics.pinned(&mut engine, Pin::Set(week));
        } else if number == 15 * DAY + 90 {
            let hours = &windows[windows.len() - 40..];
            let hours: Vec<DriftWindow> = hours.iter().filter(|w| w.segment.as_ref() == "all").cloned().collect();
            let hours = pin(&hours, number * WIDTH_MS, true).expect("windows").expect("distances");
            topics.pinned(&mut engine, Pin::Set(hours));
        } else if number == 15 * DAY + 200 {
            topics.pinned(&mut engine, Pin::Removed("all".into()));
        } else if number == 15 * DAY + 60 || number == 15 * DAY + 140 {
            engine = topics.restored(30.0);
        }
        let jumping = if number < 15 * DAY + 50 { 0.0 } else { 0.5 };
        topics.lived(&mut engine, &mut world, number, jumping);
    }
    topics
}

#[test]
fn what_was_judged_is_judged_the_same_again() {
    let topics = life();
    let opened: Vec<&DriftAlert> = topics.alerts.iter().filter(|alert| alert.updated_at == alert.opened_at).collect();
    let accepted = topics.alerts.iter().filter(|alert| alert.state == AlertState::Resolved);
    let accepted: Vec<&DriftAlert> =
        accepted.filter(|alert| alert.summary.starts_with("over: somebody said")).collect();
    assert_eq!(opened.iter().map(|alert| alert.segment.as_ref()).collect::<Vec<_>>(), ["all", "channel=web"]);
    assert_eq!(accepted.iter().map(|alert| alert.segment.as_ref()).collect::<Vec<_>>(), ["all"]);
    // From the first on; in the midst of the alert; between the pin and its end; and not at a window's start.
    for from in [None, Some(15 * DAY + 70), Some(15 * DAY + 90), Some(15 * DAY + 150)] {
        let from_ms = from.map(|number| number * WIDTH_MS - 1);
        let again = topics.again(from_ms, 30.0);
        let judged_from = from.unwrap_or(0) * WIDTH_MS;
        let stored = topics.windows.iter().filter(|window| window.window_start >= judged_from).count();
        assert_eq!(again.iter().map(|compared| compared.stored.len()).sum::<usize>(), stored);
        for Compared { stored, now } in &again {
            let different = stored.iter().zip(&now.windows).find(|(stored, now)| stored != now);
            let said =
                different.map(|(stored, now)| (stored.window_start, (&stored.outcome, &stored.scores), &now.scores));
            assert_eq!(said, None, "from {from:?}");
        }
        let told: Vec<&DriftAlert> = again.iter().flat_map(|compared| &compared.now.alerts).collect();
        let lived: Vec<&DriftAlert> = topics.alerts.iter().filter(|alert| alert.updated_at > judged_from).collect();
        assert!(told == lived, "from {from:?}: {} alerts and {}", told.len(), lived.len());
    }
}

#[test]
fn other_settings_judge_otherwise() {
    let topics = life();
    let again = topics.again(Some(15 * DAY_MS), 365.0);
    let changed = again.iter().flat_map(|compared| compared.stored.iter().zip(&compared.now.windows));
    let higher = changed.filter(|(stored, now)| {
        now.thresholds.iter().any(|(statistic, threshold)| *threshold > stored.thresholds[statistic])
    });
    assert!(higher.count() > 100, "thresholds are higher where fewer false alarms are borne");
}

#[test]
fn windows_that_do_not_fit_are_left_out_and_counted() {
    let mut world = World { random: 5 };
    let (mut topics, mut live) = (Topics::default(), engine(30.0));
    (0..4).for_each(|number| topics.lived(&mut live, &mut world, number, 0.0));
    let span = Span { from_ms: None, to_ms: Some(3 * WIDTH_MS), width_ms: WIDTH_MS };
    let mut again = Again::new(engine(30.0), span);
    let mut judged = 0;
    let wider = DriftWindow { window_end: 3 * WIDTH_MS, ..topics.windows[2].clone() };
    let broken = DriftWindow { buckets: vec![(7, 1), (7, 1)], ..topics.windows[2].clone() };
    for record in [&topics.windows[..4], &[wider, broken, topics.windows[1].clone()], &topics.windows[4..]].concat() {
        judged += again.record(record).map_or(0, |compared| compared.now.windows.len());
    }
    judged += again.end().map_or(0, |compared| compared.now.windows.len());
    assert_eq!((judged, again.left_out), (6, 3), "three times of two segments; the fourth begins at the span's end");
}
