//! How large a score must be, from the monitor's own past scores. `[pure]`
//!
//! What is judged is the k-th largest of the last m scores, each in units of what is usual at its time of the day. Its greatest value in
//! each hour is kept for four weeks. Runs of the greatest tenth of those hours are clusters, of which the greatest value counts: its
//! square falls off about exponentially, and the threshold is read off that tail far beyond what was ever seen. This is peaks over
//! threshold (Davison and Smith 1990) with declustering by runs (Smith and Weissman 1994) and shape 0, on the square, for which
//! scores of many customers, nearly normal, have that shape. The uncertainty of the tail's scale is put into the threshold: it is the
//! predictive quantile, so that the chance of a false alarm, in the mean over all pasts that could have been, is the one asked for.

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
/// So many hours without one of the tail end a cluster.
const CLUSTER_ENDS: i64 = 8;

const HALF_HOUR_MS: i64 = HOUR_MS / 2;
const HALF_HOURS: usize = 48;
/// The usual counts as so many scores of each half hour's.
const USUAL_WEIGHT: f64 = 20.0;
/// Older scores of a half hour fade beyond so many.
const SCORES_KEPT: f64 = 240.0;

/// How large one statistic's scores of one segment are at each half hour of workdays and of weekends.
#[derive(Debug, Clone)]
pub struct Season {
    /// Scores, and the sum of their squares.
    half_hours: Vec<(f64, f64)>,
}

impl Default for Season {
    fn default() -> Self {
        Self { half_hours: vec![(0.0, 0.0); 2 * HALF_HOURS] }
    }
}

impl Season {
    pub fn add(&mut self, start_ms: i64, value: f64) {
        let (scores, squares) = &mut self.half_hours[place_of(start_ms)];
        *scores += 1.0;
        *squares += value * value;
        if *scores > SCORES_KEPT {
            *scores /= 2.0;
            *squares /= 2.0;
        }
    }

    /// By how much scores are larger at this time than usual; 1 where they are not.
    pub fn scale(&self, start_ms: i64) -> f64 {
        let (scores, squares) = self.half_hours[place_of(start_ms)];
        let (all_scores, all_squares) =
            self.half_hours.iter().fold((0.0, 0.0), |(n, sum), (scores, squares)| (n + scores, sum + squares));
        if all_squares <= 0.0 {
            return 1.0;
        }
        let usual = all_squares / all_scores;
        ((squares + USUAL_WEIGHT * usual) / ((scores + USUAL_WEIGHT) * usual)).sqrt().max(1.0)
    }
}

fn place_of(start_ms: i64) -> usize {
    let half_hours = start_ms.div_euclid(HALF_HOUR_MS);
    // 1970-01-01 was a Thursday.
    let is_weekend = matches!(half_hours.div_euclid(48).rem_euclid(7), 2 | 3);
    let place = usize::try_from(half_hours.rem_euclid(48)).expect("less than 48, and not negative");
    if is_weekend { HALF_HOURS + place } else { place }
}

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

    pub fn is_enough(&self) -> bool {
        self.hours.len() >= HOURS_OWN_MIN
    }
}

/// The value that the greatest of an hour begins to exceed with this chance; `None` where the past is too short.
pub fn threshold<'a>(series: impl Iterator<Item = &'a Maxima> + Clone, chance: f64) -> Option<f64> {
    let mut values: Vec<f64> = series.clone().flat_map(|maxima| maxima.hours.iter().map(|(_, value)| *value)).collect();
    if values.len() < HOURS_MIN {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let base = values[values.len() - 1 - values.len() / TAIL_ONE_IN];
    let (mut hours, mut clusters, mut excess) = (0.0, 0.0, 0.0);
    for maxima in series {
        let mut last = None;
        for (hour, value) in maxima.hours.iter().filter(|(_, value)| *value > base) {
            if last.is_none_or(|last| hour - last > CLUSTER_ENDS) {
                clusters += 1.0;
            }
            last = Some(*hour);
            hours += 1.0;
            excess += value.powi(2) - base.powi(2);
        }
    }
    let share = hours / values.len() as f64;
    if clusters == 0.0 || chance >= share {
        return Some(base);
    }
    // The scale's posterior is a gamma distribution, so the next value's tail is Pareto's: (1 + x/(n·scale))^−n.
    let reach = clusters * (libm::exp(libm::log(share / chance) / clusters) - 1.0);
    Some((base.powi(2) + excess / hours * reach).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in (0, 1), always the same.
    fn uniforms(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        }
    }

    fn past(values: impl IntoIterator<Item = f64>) -> Maxima {
        let mut maxima = Maxima::default();
        values.into_iter().zip(0..).for_each(|(value, hour)| maxima.add(hour * HOUR_MS, value));
        maxima
    }

    #[test]
    fn there_is_no_threshold_without_a_past() {
        assert_eq!(threshold(std::iter::empty(), 1e-3), None);
        assert_eq!(threshold([past([1.0; HOURS_MIN - 1])].iter(), 1e-3), None);
        // Of several segments together there is.
        let halves = [past([1.0; HOURS_MIN / 2]), past([1.0; HOURS_MIN / 2])];
        assert_eq!(threshold(halves.iter(), 1e-3), Some(1.0));
    }

    /// Squares that are exponential: the true chance is known. Of hours that do not hang together it is rather less than asked for,
    /// for their clusters are counted as if they did.
    #[test]
    fn the_chance_is_about_the_asked_one_in_the_mean_over_pasts() {
        let mut uniform = uniforms(3);
        for asked in [1e-3, 1e-4, 1e-5] {
            let mut chance = 0.0;
            for _ in 0..300 {
                let values: Vec<f64> = (0..HOURS_KEPT).map(|_| (-libm::log(uniform())).sqrt()).collect();
                let found = threshold([past(values)].iter(), asked).expect("a long past");
                chance += libm::exp(-found.powi(2)) / 300.0;
            }
            let ratio = chance / asked;
            assert!((0.3..1.1).contains(&ratio), "asked {asked}: {ratio} times as often");
        }
    }

    #[test]
    fn a_past_of_few_episodes_has_a_higher_threshold() {
        let alone = past((0..600).map(|hour| if hour % 10 == 0 { 2.0 + f64::from(hour % 7) / 7.0 } else { 1.0 }));
        let together = past((0..600).map(|hour| if hour < 60 { 2.0 + f64::from(hour % 7) / 7.0 } else { 1.0 }));
        let [alone, together] = [alone, together].map(|past| threshold([past].iter(), 1e-5).expect("a long past"));
        assert!(together > alone, "{together} and {alone}");
    }

    #[test]
    fn the_greatest_of_an_hour_counts_and_old_hours_go() {
        let mut maxima = Maxima::default();
        for (minute, value) in [(0, 1.0), (5, 3.0), (59, 2.0), (60, 0.5)] {
            maxima.add(minute * 60_000, value);
        }
        assert_eq!(Vec::from(maxima.hours.clone()), [(0, 3.0), (1, 0.5)]);
        (2..1400).for_each(|hour| maxima.add(hour * HOUR_MS, 1.0));
        assert_eq!(maxima.hours.len(), HOURS_KEPT);
    }

    #[test]
    fn a_time_of_the_day_with_larger_scores_has_a_larger_scale() {
        let mut season = Season::default();
        assert_eq!(season.scale(0), 1.0);
        for day in 0..28 {
            for half_hour in 0..48 {
                for _ in 0..6 {
                    season.add((day * 48 + half_hour) * HALF_HOUR_MS, if half_hour == 12 { 3.0 } else { 1.0 });
                }
            }
        }
        // A Thursday, and a Saturday.
        let (workday, weekend) = (season.scale(12 * HALF_HOUR_MS), season.scale((2 * 48 + 12) * HALF_HOUR_MS));
        assert!((2.2..2.8).contains(&workday) && (2.0..2.8).contains(&weekend), "{workday} and {weekend}");
        assert_eq!(season.scale(13 * HALF_HOUR_MS), 1.0, "no time has a smaller one than usual");
    }
}
