//! How large a score must be, from the monitor's own past scores. `[pure]`
//!
//! What is judged is the k-th largest of the last m scores. Its greatest value in each hour is kept for four weeks; the largest
//! tenth of those, squared, fall off about exponentially, and the threshold is read off that tail far beyond what was ever
//! seen: peaks over threshold (Davison and Smith 1990) with shape 0, on the square, for which the scores of many customers, nearly
//! normal, have that shape. The uncertainty of the tail's scale is put into the threshold: it is the predictive quantile, so that
//! the chance of a false alarm, in the mean over all pasts that could have been, is the one that was asked for.

use std::collections::VecDeque;

pub const HOUR_MS: i64 = 60 * 60 * 1000;
/// Hours kept: four weeks.
const HOURS_KEPT: usize = 28 * 24;
/// Hours of its own that a segment needs: one week. Until then all segments' hours stand for its own.
const HOURS_OWN_MIN: usize = 7 * 24;
/// Without so many hours, of all segments together, there is no threshold.
const HOURS_MIN: usize = 100;
/// One in so many of the hours is the tail.
const TAIL_ONE_IN: usize = 10;

/// The greatest values of one statistic of one segment, by hour.
#[derive(Debug, Default, Clone)]
pub struct Maxima {
    /// Hours since 1970, ascending.
    hours: VecDeque<(i64, f64)>,
}

impl Maxima {
    /// In order of time.
    pub fn add(&mut self, start_ms: i64, value: f64) {
        let hour = start_ms.div_euclid(HOUR_MS);
        match self.hours.back_mut() {
            Some((last, greatest)) if *last == hour => *greatest = greatest.max(value),
            Some(_) | None => self.hours.push_back((hour, value)),
        }
        while self.hours.len() > HOURS_KEPT {
            self.hours.pop_front();
        }
    }

    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.hours.iter().map(|(_, value)| *value)
    }

    pub fn is_enough(&self) -> bool {
        self.hours.len() >= HOURS_OWN_MIN
    }
}

/// The value that the greatest of an hour exceeds with this chance; `None` where the past is too short.
pub fn threshold(mut values: Vec<f64>, chance: f64) -> Option<f64> {
    if values.len() < HOURS_MIN {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let beyond = values.len() / TAIL_ONE_IN;
    let (rest, tail) = values.split_at(values.len() - beyond);
    let base = rest.last()?.powi(2);
    let scale = tail.iter().map(|value| value.powi(2) - base).sum::<f64>() / beyond as f64;
    let share = beyond as f64 / values.len() as f64;
    if chance >= share {
        return Some(base.sqrt());
    }
    // The scale's posterior is a gamma distribution, so the next value's tail is Pareto's: (1 + x/(n·scale))^−n.
    let n = beyond as f64;
    let reach = n * (libm::exp(libm::log(share / chance) / n) - 1.0);
    Some((base + scale * reach).sqrt())
}
