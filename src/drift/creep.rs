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
