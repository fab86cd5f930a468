//! A slow change that no comparison with the weeks before shows: each day as a whole against the pinned reference, by a test
//! that may be looked at every day for ever. `[pure]`
//!
//! A day hits if its distances are farther from the pinned ones than the effect's floor. Without creep no more than one day in
//! three hits, whatever happened before: two days of a weekend may. The evidence is an e-detector of Shiryaev and Roberts' form
//! (Shin, Ramdas and Rinaldo 2024, E-detectors: a nonparametric framework for sequential change detection): each day
//! E ← (E + 1) × (2.7 after a hit, 0.15 after a miss), which is the bet that nine days in ten hit. Without creep E grows by no more
//! than 1 a day in the mean, so a threshold of N is passed no more often than once in N days, however the days depend on each other.

use super::histogram::Histogram;
use super::statistics::Shift;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Of the days, hits without creep: at most; and what is bet on.
const HITS_WITHOUT: f64 = 1.0 / 3.0;
const HITS_BET: f64 = 0.9;
/// A day with fewer distances does not count.
const DISTANCES_MIN: u64 = 1000;
/// Evidence is kept at most so many times its threshold, so that it fades within days of what it told.
const EVIDENCE_MAX: f64 = 3.0;

#[derive(Debug, Clone)]
pub struct Creep {
    pinned: Histogram,
    /// Whole days from here on count.
    from_ms: i64,
    day: Option<i64>,
    today: Histogram,
    evidence: f64,
    /// Of the last day that counted.
    effect: Option<f64>,
}

impl Creep {
    pub fn new(pinned: Histogram, pinned_at_ms: i64) -> Self {
        let from_ms = pinned_at_ms.div_euclid(DAY_MS) * DAY_MS + DAY_MS;
        Self { pinned, from_ms, day: None, today: Histogram::default(), evidence: 0.0, effect: None }
    }

    /// Windows come in order of time. Gives the evidence and the last day's distance once there was a day.
    pub fn add(&mut self, start_ms: i64, shifts: &Histogram, floor: f64, threshold: f64) -> Option<(f64, f64)> {
        if start_ms >= self.from_ms {
            let day = start_ms.div_euclid(DAY_MS);
            if self.day.is_some_and(|before| before < day) {
                self.close(floor, threshold);
            }
            self.day = Some(day);
            self.today.merge(shifts);
        }
        Some((self.evidence, self.effect?))
    }

    fn close(&mut self, floor: f64, threshold: f64) {
        let today = std::mem::take(&mut self.today);
        if today.moved() < DISTANCES_MIN {
            return;
        }
        let Some(shift) = Shift::of(&today, &self.pinned) else { return };
        let factor =
            if shift.w1_log >= floor { HITS_BET / HITS_WITHOUT } else { (1.0 - HITS_BET) / (1.0 - HITS_WITHOUT) };
        self.evidence = ((self.evidence + 1.0) * factor).min(EVIDENCE_MAX * threshold);
        self.effect = Some(shift.w1_log);
    }

    /// What was judged before a restart.
    pub fn resume(&mut self, evidence: f64, effect: f64) {
        self.evidence = evidence;
        self.effect = Some(effect);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: f64 = 0.0953;

    fn day(moved_by: usize) -> Histogram {
        Histogram::of(0, (60..180).map(|bucket| (bucket + moved_by, 10))).expect("each once")
    }

    /// Gives the evidence after each day but the last.
    fn run(days: &[bool], threshold: f64) -> Vec<f64> {
        let mut creep = Creep::new(day(0), 0);
        let windows = days.iter().zip(1..);
        let evidence = windows.map(|(is_far, number)| {
            let shifts = day(if *is_far { 4 } else { 0 });
            creep.add(number * DAY_MS, &shifts, FLOOR, threshold).map_or(0.0, |(evidence, _)| evidence)
        });
        evidence.skip(1).collect()
    }

    #[test]
    fn days_that_stay_far_are_told_within_days_and_forgotten_within_days() {
        let mut days = vec![false; 30];
        days.extend([true; 12]);
        days.extend([false; 6]);
        let evidence = run(&days, 1000.0);
        let told = evidence.iter().position(|evidence| *evidence >= 1000.0).expect("it is told");
        assert!((33..40).contains(&told), "on day {told}: {evidence:?}");
        assert!(evidence[evidence.len() - 3] < 1000.0, "{evidence:?}");
        assert!(evidence.iter().all(|evidence| *evidence <= 3000.0));
    }

    /// One day in three at random, which is the most that no creep may be: in the mean over runs no more than once in so many days.
    #[test]
    fn it_is_wrong_no_more_often_than_asked() {
        let mut state = 1_u64;
        let (mut days_until, runs) = (0_usize, 200);
        for _ in 0..runs {
            let days: Vec<bool> = (0..2000)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33).is_multiple_of(3)
                })
                .collect();
            let evidence = evidence_of(&days, 100.0);
            days_until += evidence.iter().position(|evidence| *evidence >= 100.0).unwrap_or(days.len());
        }
        let mean = days_until as f64 / f64::from(runs);
        assert!(mean >= 100.0, "once in {mean} days");
    }

    /// As [`Creep::close`] does, on days that are known to hit.
    fn evidence_of(days: &[bool], threshold: f64) -> Vec<f64> {
        let mut evidence = 0.0;
        let next = |is_hit: &bool| {
            let factor = if *is_hit { HITS_BET / HITS_WITHOUT } else { (1.0 - HITS_BET) / (1.0 - HITS_WITHOUT) };
            evidence = f64::min((evidence + 1.0) * factor, EVIDENCE_MAX * threshold);
            evidence
        };
        days.iter().map(next).collect()
    }

    #[test]
    fn weekends_alone_are_no_creep() {
        let days: Vec<bool> = (0..364).map(|day| day % 7 >= 5).collect();
        assert!(run(&days, 150.0).iter().all(|evidence| *evidence < 150.0));
    }

    #[test]
    fn days_before_the_pin_and_thin_days_do_not_count() {
        let mut creep = Creep::new(day(0), 10 * DAY_MS + 1);
        for early in 0..11 {
            assert_eq!(creep.add(early * DAY_MS, &day(8), FLOOR, 100.0), None);
        }
        let thin = Histogram::of(0, [(100, DISTANCES_MIN - 1)]).expect("a bucket");
        for later in 11..20 {
            assert_eq!(creep.add(later * DAY_MS, &thin, FLOOR, 100.0), None);
        }
        creep.resume(7.0, 0.2);
        assert_eq!(creep.add(20 * DAY_MS, &thin, FLOOR, 100.0), Some((7.0, 0.2)));
    }
}
