//! Each statistic of one window as one number on a scale of its own, by the number of customers, and as an effect that people
//! read. `[pure]`

use super::histogram::Histogram;
use super::statistics::Shift;
use super::verdict::Statistic;

/// Two windows of any size differ at least as much as samples of so many: the world itself wanders.
const WANDER: f64 = 10_000.0;
/// And their numbers of customers by so much.
const WANDER_VOLUME: f64 = 0.1;
/// Fewer customers than this are expected: their number is not judged.
const EXPECTED_MIN: f64 = 20.0;
/// Makes the square root of a small count nearly normal: Anscombe (1948).
const ANSCOMBE: f64 = 0.375;
/// Ratios are no greater than this, so that they are finite.
const RATIO_MAX: f64 = 1e6;

/// A statistic without its threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub statistic: Statistic,
    pub value: f64,
    pub effect: f64,
}

/// Of the distances: what can be computed of W1Log, Exceedance and Zero.
pub fn shape(window: &Histogram, reference: &Histogram) -> Vec<Measured> {
    let mut all = Vec::with_capacity(4);
    if let Some(shift) = Shift::of(window, reference) {
        let (n, m) = (window.moved() as f64, reference.moved() as f64);
        let wander = ((1.0 / n + 1.0 / m + 1.0 / WANDER) / (1.0 / n + 1.0 / m)).sqrt();
        let by_chance = shift.w1_log_by_chance * wander;
        // A reference all in one bucket has no spread: then every difference is beyond chance.
        let value = if by_chance > 0.0 { shift.w1_log / by_chance } else { shift.w1_log * RATIO_MAX };
        all.push(Measured { statistic: Statistic::W1Log, value, effect: shift.w1_log });
        let value = beyond(shift.exceedance * n, shift.tail * n, n, m);
        let effect = (shift.exceedance / shift.tail.max(1.0 / m)).min(RATIO_MAX);
        all.push(Measured { statistic: Statistic::Exceedance, value, effect });
    }
    if !window.is_empty() && !reference.is_empty() {
        let (n, m) = (window.len() as f64, reference.len() as f64);
        let (now, before) = (window.zero() as f64 / n, reference.zero() as f64 / m);
        let value = beyond(window.zero() as f64, before * n, n, m);
        all.push(Measured { statistic: Statistic::Zero, value, effect: now - before });
    }
    all
}

/// Standard errors that a count of n is above what the reference of m makes expect; 0 where it is below.
fn beyond(count: f64, expected: f64, n: f64, m: f64) -> f64 {
    let apart = 2.0 * ((count + ANSCOMBE).sqrt() - (expected + ANSCOMBE).sqrt());
    (apart / (1.0 + n / m + n / WANDER).sqrt()).max(0.0)
}

/// Of the number of customers; `None` where too few are expected to tell.
pub fn volume(customers: u64, expected: f64, windows: u64) -> Option<Measured> {
    if expected < EXPECTED_MIN || windows == 0 {
        return None;
    }
    let customers = customers as f64;
    // As for any count, and beyond chance by the wandering.
    let apart = 2.0 * ((customers + ANSCOMBE).sqrt() - (expected + ANSCOMBE).sqrt()).abs();
    let by_chance = ((1.0 + WANDER_VOLUME * WANDER_VOLUME * expected) * (1.0 + 1.0 / windows as f64)).sqrt();
    let effect = (customers / expected).min(RATIO_MAX);
    Some(Measured { statistic: Statistic::Volume, value: apart / by_chance, effect })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(n: u64, zero: u64) -> Histogram {
        Histogram::of(zero, (40..200).map(|bucket| (bucket, n))).expect("each once")
    }

    fn value(measured: &[Measured], statistic: Statistic) -> Option<f64> {
        measured.iter().find(|measured| measured.statistic == statistic).map(|measured| measured.value)
    }

    #[test]
    fn where_nothing_moved_the_zeros_tell_alone() {
        let stuck = Histogram::of(500, []).expect("no bucket");
        let measured = shape(&stuck, &spread(100, 0));
        assert_eq!(measured.len(), 1);
        assert!(value(&measured, Statistic::Zero).expect("it can be told") > 20.0, "{measured:?}");
        assert_eq!(measured[0].effect, 1.0);
        assert_eq!(shape(&Histogram::default(), &spread(100, 0)), Vec::new());
        assert_eq!(shape(&spread(100, 0), &Histogram::default()), Vec::new());
    }

    #[test]
    fn the_same_effect_of_more_customers_scores_more() {
        let moved = |n: u64| Histogram::of(0, (42..202).map(|bucket| (bucket, n))).expect("each once");
        let [few, many] = [1, 4].map(|n| shape(&moved(n), &spread(1000, 0)));
        let (few, many) = (value(&few, Statistic::W1Log), value(&many, Statistic::W1Log));
        let ratio = many.expect("told") / few.expect("told");
        assert!((1.9..=2.0).contains(&ratio), "as the root of the number: {ratio}");
    }

    #[test]
    fn a_count_as_expected_scores_0_and_below_too() {
        let measured = shape(&spread(5, 0), &spread(1000, 1000));
        assert_eq!(value(&measured, Statistic::Zero), Some(0.0));
        assert!(value(&measured, Statistic::Exceedance).expect("told") < 0.1);
    }

    #[test]
    fn numbers_of_customers_count_both_ways() {
        let score = |customers| volume(customers, 400.0, 20).expect("enough are expected");
        assert!(score(400).value < 0.01);
        assert!(score(200).value > 2.0 && score(800).value > 2.0);
        assert_eq!(score(200).effect, 0.5);
        assert!(score(0).value > 5.0, "{:?}", score(0));
        assert_eq!(volume(5, EXPECTED_MIN - 1.0, 20), None);
        assert_eq!(volume(500, 400.0, 0), None);
    }
}
