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
    /// Somebody said that this is how it is to be.
    is_accepted: bool,
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
                self.open
                    .insert(segment, Alert { told: alert, clean: 0, is_accepted: false, shifts: Histogram::default() });
            }
            AlertState::Resolved => drop(self.open.remove(&alert.segment)),
        }
    }

    /// A window of the past, for [`Self::restore`]d ones: those in breach, and those that were well since.
    pub fn restore_window(&mut self, window: &Window, outcome: Outcome) {
        let Some(alert) = self.open.get_mut(window.segment.as_str()) else { return };
        match outcome {
            Outcome::Breach if window.end_ms >= alert.told.opened_at => alert.shifts.merge(&window.shifts),
            Outcome::Ok | Outcome::NoReference if window.end_ms > alert.told.updated_at => alert.clean += 1,
            Outcome::Breach | Outcome::Ok | Outcome::NoReference | Outcome::Insufficient => {}
        }
    }

    /// What has opened by the beginning of the next window is over with it.
    pub fn accept(&mut self, segment: &str, next_ms: i64) {
        if let Some(alert) = self.open.get_mut(segment) {
            alert.is_accepted |= alert.told.opened_at <= next_ms;
        }
    }

    /// Those whose segments have no window any more.
    pub fn gone(&mut self, windows: &[Window]) -> Vec<DriftAlert> {
        let Some(any) = windows.first() else { return Vec::new() };
        let is_there = |segment: &str| windows.iter().any(|window| window.segment.as_str() == segment);
        let gone: Vec<Arc<str>> = self.open.keys().filter(|segment| !is_there(segment)).cloned().collect();
        let why = "nothing has come of this segment for long";
        gone.iter().filter_map(|segment| self.resolve(segment, any.end_ms, Some(why))).collect()
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
        if self.open.get(segment).is_some_and(|alert| alert.is_accepted) {
            return self.resolve(segment, window.end_ms, Some("somebody said that this is how it is to be"));
        }
        match verdict.outcome {
            Outcome::Breach if verdict.pages => self.breach(window, verdict, against),
            // In the warm-up nobody is woken.
            Outcome::Breach | Outcome::Insufficient => None,
            Outcome::Ok => {
                let alert = self.open.get_mut(segment)?;
                alert.clean += 1;
                (alert.clean >= CLEAN_WINDOWS).then(|| self.resolve(segment, window.end_ms, None)).flatten()
            }
            // What it was compared with is no more. While it is open nothing else would come to compare with.
            Outcome::NoReference => {
                let alert = self.open.get_mut(segment)?;
                alert.clean += 1;
                let why = match (alert.told.model != window.model, alert.clean >= CLEAN_WINDOWS) {
                    (true, _) => "the model is another one now",
                    (false, true) => "there is nothing to compare with any more",
                    (false, false) => return None,
                };
                self.resolve(segment, window.end_ms, Some(why))
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
            is_accepted: false,
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
        told.reference = Some(against.kind);
        told.reference_count = against.shifts.len();
        told.moved = moved(&alert.shifts, &against.shifts);
        told.companions = companions::of(window, against);
        told.summary = words::summary(&Told { alert: told, worst, now: &alert.shifts, against });
        Some(told.clone())
    }

    fn resolve(&mut self, segment: &str, end_ms: i64, why: Option<&str>) -> Option<DriftAlert> {
        let mut told = self.open.remove(segment)?.told;
        told.state = AlertState::Resolved;
        told.updated_at = end_ms;
        told.resolved_at = Some(end_ms);
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

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::drift::reference::{Names, Past};
    use crate::drift::verdict::{Statistic, Told};
    use crate::drift::window::Segment;
    use crate::wire::drift::ReferenceKind;

    const MINUTE: i64 = 60_000;

    fn histogram(bucket: usize, zero: u64) -> Histogram {
        Histogram::of(zero, [(bucket, 1_000 - zero)]).expect("a bucket")
    }

    fn window(number: i64, shifts: Histogram, unknown: u64) -> Window {
        let counts = [(count::CUSTOMERS, 1_000), (count::EVENTS, 10_000), (count::UNKNOWN_EVENTS, unknown)];
        Window {
            segment: Segment("channel=web".into()),
            start_ms: number * 5 * MINUTE,
            end_ms: (number + 1) * 5 * MINUTE,
            model: Some("bank@1".into()),
            shifts,
            counts: counts.into_iter().map(|(name, number)| (name.into(), number)).collect(),
            is_partial: false,
        }
    }

    fn verdict(outcome: Outcome, statistic: Statistic, pages: bool) -> Verdict {
        let score = Score { statistic, value: 12.0, threshold: Some(4.0), effect: 0.7, is_breach: true };
        let is_breach = outcome == Outcome::Breach;
        Verdict {
            outcome,
            reference: Some(ReferenceKind::SameHour),
            reference_count: 100_000,
            windows: 1,
            pages,
            scores: vec![score],
            told: is_breach.then_some(Told { statistic, since_ms: 0 }),
        }
    }

    /// Of two weeks, at the same hour as [`window`]'s.
    fn reference() -> Reference {
        const WEEK: i64 = 7 * 24 * 60 * MINUTE;
        let (mut past, mut names) = (Past::default(), Names::default());
        let quiet = |number| window(number, histogram(100, 10), 50);
        for week in [0, WEEK] {
            past.add(&quiet(week / (5 * MINUTE)), &mut names);
        }
        past.same_hour(2 * WEEK, 2, 4, &names).expect("two weeks")
    }

    /// One letter a window: b breach, w breach in the warm-up, . well, i insufficient, n no reference, m none since the model is
    /// another, a accepted just before.
    fn check(script: &str, expect: Expect) {
        let mut alarm = Alarm::default();
        let mut said = String::new();
        for (number, letter) in (0..).zip(script.chars()) {
            let mut window = window(number, histogram(116, 0), 900);
            let of = |outcome, pages| verdict(outcome, Statistic::W1Log, pages);
            let verdict = match letter {
                'b' => of(Outcome::Breach, true),
                'w' => of(Outcome::Breach, false),
                '.' => of(Outcome::Ok, false),
                'i' => of(Outcome::Insufficient, false),
                'n' => of(Outcome::NoReference, false),
                'a' => {
                    alarm.accept("channel=web", window.start_ms);
                    of(Outcome::Breach, true)
                }
                _ => {
                    window.model = Some("bank@2".into());
                    of(Outcome::NoReference, false)
                }
            };
            if let Some(alert) = alarm.judged(&window, &verdict, Some(&reference())) {
                let (state, breaches) = (alert.state, alert.breaches);
                said += &format!("{number}: {state:?} {} since {}, {breaches} in breach\n", alert.id, alert.since);
            }
            assert_eq!(alarm.open_on("channel=web").is_some(), alarm.firing().count() == 1);
        }
        expect.assert_eq(&said);
    }

    #[test]
    fn it_opens_once_is_brought_up_to_date_and_ends_after_six_that_are_well() {
        check(
            ".bb..b.i.....",
            expect![[r#"
                1: Firing channel=web/0 since 0, 1 in breach
                2: Firing channel=web/0 since 0, 2 in breach
                5: Firing channel=web/0 since 0, 3 in breach
                12: Resolved channel=web/0 since 0, 3 in breach
            "#]],
        );
    }

    #[test]
    fn the_warm_up_wakes_nobody_and_another_model_ends_an_alert() {
        check("ww..w", expect![[""]]);
        check(
            "b.m.",
            expect![[r#"
                0: Firing channel=web/0 since 0, 1 in breach
                2: Resolved channel=web/0 since 0, 1 in breach
            "#]],
        );
    }

    #[test]
    fn it_ends_where_nothing_is_left_to_compare_with_or_to_count() {
        check(
            "bnnnnnn",
            expect![[r#"
                0: Firing channel=web/0 since 0, 1 in breach
                6: Resolved channel=web/0 since 0, 1 in breach
            "#]],
        );
        check(
            "bba",
            expect![[r#"
                0: Firing channel=web/0 since 0, 1 in breach
                1: Firing channel=web/0 since 0, 2 in breach
                2: Resolved channel=web/0 since 0, 2 in breach
            "#]],
        );
        let mut alarm = Alarm::default();
        let breach = verdict(Outcome::Breach, Statistic::W1Log, true);
        let there = window(0, histogram(116, 0), 900);
        alarm.judged(&there, &breach, Some(&reference())).expect("opened");
        assert_eq!(alarm.gone(std::slice::from_ref(&there)), []);
        let other = Window { segment: Segment::all(), ..there };
        assert_eq!(alarm.gone(&[other]).len(), 1);
        assert_eq!(alarm.firing().count(), 0);
    }

    #[test]
    fn it_goes_on_where_it_ended() {
        let mut alarm = Alarm::default();
        let breach = verdict(Outcome::Breach, Statistic::W1Log, true);
        let told = alarm.judged(&window(0, histogram(116, 0), 900), &breach, Some(&reference())).expect("opened");
        let mut again = Alarm::default();
        again.restore(told.clone());
        // Those before the alert's own say nothing of it.
        again.restore_window(&window(0, histogram(116, 0), 900), Outcome::Breach);
        for number in 1..=4 {
            again.restore_window(&window(number, histogram(100, 0), 50), Outcome::Ok);
        }
        let well = verdict(Outcome::Ok, Statistic::W1Log, false);
        assert_eq!(again.judged(&window(5, histogram(100, 0), 50), &well, None), None);
        let over = again.judged(&window(6, histogram(100, 0), 50), &well, None).expect("the sixth");
        assert_eq!((over.state, over.id), (AlertState::Resolved, told.id));
    }

    /// The sentence of each statistic.
    #[test]
    fn it_says_what_is_so() {
        let mut said = String::new();
        let shifted = [
            (Statistic::W1Log, histogram(116, 0), 50),
            (Statistic::Exceedance, histogram(116, 0), 900),
            (Statistic::Zero, histogram(100, 30), 50),
            (Statistic::Volume, histogram(100, 0), 50),
            (Statistic::Creep, histogram(90, 0), 50),
        ];
        for (statistic, shifts, unknown) in shifted {
            let verdict = verdict(Outcome::Breach, statistic, true);
            let told = Alarm::default().judged(&window(0, shifts, unknown), &verdict, Some(&reference()));
            let told = told.expect("opened");
            said += &format!("{}\n", told.summary);
            for bin in &told.moved {
                let (now, before) = (bin.share * 100.0, bin.share_before * 100.0);
                said += &format!("  {:.1e} to {:.1e}: {now:.1} %, before {before:.1} %\n", bin.low, bin.high);
            }
        }
        expect![[r#"
            channel=web: embeddings move farther than usual: the median is 0.0091, usually 0.0045 (×2.00); 1000 customers a window against the same hour of past weeks
              7.5e-3 to 1.5e-2: 100.0 %, before 0.0 %
              3.7e-3 to 7.5e-3: 0.0 %, before 99.0 %
              0.0e0 to 0.0e0: 0.0 %, before 1.0 %
            channel=web: 100 % of the embeddings moved farther than 0.0046, usually none; 1000 customers a window against the same hour of past weeks; at the same time values in events that the model does not know: 9.0 %, before 0.50 %
              7.5e-3 to 1.5e-2: 100.0 %, before 0.0 %
              3.7e-3 to 7.5e-3: 0.0 %, before 99.0 %
              0.0e0 to 0.0e0: 0.0 %, before 1.0 %
            channel=web: 3.0 % of the embeddings did not move at all, usually 1.0 %; 1000 customers a window against the same hour of past weeks
              3.7e-3 to 7.5e-3: 97.0 %, before 99.0 %
              0.0e0 to 0.0e0: 3.0 %, before 1.0 %
            channel=web: 1000 embeddings a window, usually 1000; 1000 customers a window against the same hour of past weeks
              3.7e-3 to 7.5e-3: 100.0 %, before 99.0 %
              0.0e0 to 0.0e0: 0.0 %, before 1.0 %
            channel=web: embeddings have slowly come to move less far than usual: the 90th percentile is 0.0030, usually 0.0046 (×0.65); 1000 customers a window against the same hour of past weeks
              1.9e-3 to 3.7e-3: 100.0 %, before 0.0 %
              3.7e-3 to 7.5e-3: 0.0 %, before 99.0 %
              0.0e0 to 0.0e0: 0.0 %, before 1.0 %
        "#]].assert_eq(&said);
    }
}
