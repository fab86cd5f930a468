//! How far a window's distances are from a reference's: what alerts, and the customary measures beside it. `[pure]`
//!
//! `F` is the share of distances up to a bucket's upper bound, of those above 0. Everything is computed from counts alone, so
//! that the same windows give the same bits.

use super::histogram::{BUCKETS, Histogram, bounds};

/// The share of the reference's distances that lie above the bound whose exceedance is watched.
pub const TAIL: f64 = 0.01;
/// Quantile bins of the population stability index.
const PSI_BINS: u32 = 10;
/// A share of no count, so that its logarithm is finite.
const PSI_FLOOR: f64 = 1e-4;

/// The mean of |x| of a standard normal x, √(2/π).
const NORMAL_MEAN_ABS: f64 = 0.797_884_560_802_865_4;

/// Of a window against a reference, both with some distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// Wasserstein-1 between the distributions of ln(distance), of distances above 0: 0.095 where all moved 10 % farther.
    /// Source: Villani, Optimal Transport (2009), on one axis the area between the two distribution functions.
    pub w1_log: f64,
    /// What w1_log is in the mean between two samples of these sizes from the reference's distribution, by the normal limit of
    /// F at each bound: the sum of √(2/π · F(1 − F) · (1/n + 1/m)).
    pub w1_log_by_chance: f64,
    /// The window's share above [`Self::tail_bound`].
    pub exceedance: f64,
    /// The reference's share above it: [`TAIL`] at the most.
    pub tail: f64,
    /// The smallest bound above which lies no more than [`TAIL`] of the reference.
    pub tail_bound: f64,
    /// Shares of distances of exactly 0: the window's, the reference's.
    pub zero: f64,
    pub zero_before: f64,
}

impl Shift {
    /// `None` where one of them holds no distance above 0.
    pub fn of(window: &Histogram, reference: &Histogram) -> Option<Self> {
        let (now, before) = (shares(window)?, shares(reference)?);
        let width = std::f64::consts::LN_2 / 16.0;
        let w1_log = differences(&now, &before).map(|difference| difference.abs() * width).sum();
        let bucket = tail_bucket(&before);
        let above = |shares: &[f64; BUCKETS]| shares[bucket + 1..].iter().sum::<f64>();
        let zero = |histogram: &Histogram| histogram.zero() as f64 / histogram.len() as f64;
        let sizes = 1.0 / window.moved() as f64 + 1.0 / reference.moved() as f64;
        let spread = cumulative(&before).map(|share| (share * (1.0 - share)).max(0.0).sqrt() * width).sum::<f64>();
        Some(Self {
            w1_log,
            w1_log_by_chance: NORMAL_MEAN_ABS * spread * sizes.sqrt(),
            exceedance: above(&now),
            tail: above(&before),
            tail_bound: bounds(bucket).1,
            zero: zero(window),
            zero_before: zero(reference),
        })
    }
}

/// The measures that others alert on, for the comparison alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Customary {
    /// Kolmogorov–Smirnov: the largest difference of the distribution functions, at the buckets' bounds.
    pub ks: f64,
    /// Population stability index over ten quantile bins of the reference.
    pub psi: f64,
    /// Anderson–Darling, two samples, on the buckets as ties: Scholz and Stephens (1987), equation 7, unstandardised.
    pub ad: f64,
    /// Wasserstein-1 of the distances themselves, each at its bucket's middle.
    pub w1: f64,
}

impl Customary {
    /// `None` where one of them holds no distance above 0.
    pub fn of(window: &Histogram, reference: &Histogram) -> Option<Self> {
        let (now, before) = (shares(window)?, shares(reference)?);
        let ks = differences(&now, &before).fold(0.0, |most: f64, difference| most.max(difference.abs()));
        let w1 = differences(&now, &before)
            .enumerate()
            .map(|(bucket, difference)| difference.abs() * (middle(bucket + 1) - middle(bucket)))
            .sum();
        Some(Self { ks, psi: psi(&now, &before), ad: anderson_darling(window, reference), w1 })
    }
}

/// Of the distances above 0, by bucket.
fn shares(histogram: &Histogram) -> Option<[f64; BUCKETS]> {
    let moved = histogram.moved();
    (moved > 0).then(|| histogram.counts().map(|count| count as f64 / moved as f64))
}

/// F of the one less F of the other at each bound but the last, where both are 1.
fn differences<'a>(now: &'a [f64; BUCKETS], before: &'a [f64; BUCKETS]) -> impl Iterator<Item = f64> + 'a {
    let pairs = now.iter().zip(before).take(BUCKETS - 1);
    pairs.scan(0.0, |difference, (now, before)| {
        *difference += now - before;
        Some(*difference)
    })
}

/// F at each bound but the last, where it is 1.
fn cumulative(shares: &[f64; BUCKETS]) -> impl Iterator<Item = f64> {
    shares.iter().take(BUCKETS - 1).scan(0.0, |sum, share| {
        *sum += share;
        Some(*sum)
    })
}

/// The first bucket above which no more than [`TAIL`] lies.
fn tail_bucket(shares: &[f64; BUCKETS]) -> usize {
    let mut above = 0.0;
    for bucket in (0..BUCKETS).rev() {
        above += shares[bucket];
        if above > TAIL {
            return bucket;
        }
    }
    0
}

/// On the axis of the distances: between the bounds, as far from each by factor.
fn middle(bucket: usize) -> f64 {
    let (low, high) = bounds(bucket.min(BUCKETS - 1));
    if low > 0.0 { (low * high).sqrt() } else { high / 2.0 }
}

fn psi(now: &[f64; BUCKETS], before: &[f64; BUCKETS]) -> f64 {
    let (mut sum, mut seen, mut bin, mut now_in, mut before_in) = (0.0, 0.0, 1, 0.0, 0.0);
    for bucket in 0..BUCKETS {
        seen += before[bucket];
        now_in += now[bucket];
        before_in += before[bucket];
        let is_last = bucket == BUCKETS - 1;
        if is_last || seen >= f64::from(bin) / f64::from(PSI_BINS) {
            let (n, b) = (f64::max(now_in, PSI_FLOOR), f64::max(before_in, PSI_FLOOR));
            sum += (n - b) * libm::log(n / b);
            (now_in, before_in) = (0.0, 0.0);
            while !is_last && seen >= f64::from(bin) / f64::from(PSI_BINS) {
                bin += 1;
            }
        }
    }
    sum
}

fn anderson_darling(window: &Histogram, reference: &Histogram) -> f64 {
    let (n, m) = (window.moved() as f64, reference.moved() as f64);
    let all = n + m;
    let (mut in_window, mut in_all, mut sum_window, mut sum_reference) = (0.0, 0.0, 0.0, 0.0);
    for (window, reference) in window.counts().iter().zip(reference.counts()) {
        let (w, both) = (*window as f64, (window + reference) as f64);
        // Midranks, as for ties.
        let (below, below_window) = (in_all + both / 2.0, in_window + w / 2.0);
        let weight = below * (all - below) - all * both / 4.0;
        if both > 0.0 && weight > 0.0 {
            let below_reference = below - below_window;
            sum_window += both / all * (all * below_window - below * n).powi(2) / weight;
            sum_reference += both / all * (all * below_reference - below * m).powi(2) / weight;
        }
        (in_window, in_all) = (in_window + w, in_all + both);
    }
    (all - 1.0) / all * (sum_window / n + sum_reference / m)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sums of some hundred terms in another order.
    const TOLERANCE: f64 = 1e-9;
    const WIDTH: f64 = std::f64::consts::LN_2 / 16.0;

    #[test]
    fn nothing_is_said_of_nothing() {
        let (empty, zeros, some) = (of(&[]), of(&[0.0]), of(&[0.1]));
        for nothing in [&empty, &zeros] {
            assert_eq!(Shift::of(nothing, &some), None);
            assert_eq!(Shift::of(&some, nothing), None);
            assert_eq!(Customary::of(nothing, &some), None);
        }
    }

    #[test]
    fn all_a_tenth_farther_is_a_tenth() {
        // On bounds, two buckets up: 9.05 %.
        let before: Vec<f64> = (20..220).map(|bucket| bounds(bucket).1).collect();
        let now: Vec<f64> = (22..222).map(|bucket| bounds(bucket).1).collect();
        let shift = Shift::of(&of(&now), &of(&before)).expect("both hold some");
        assert!((shift.w1_log - 2.0 * WIDTH).abs() < TOLERANCE, "{shift:?}");
    }

    /// The mean over samples of what two of them are apart.
    #[test]
    fn chance_alone_is_as_large_as_it_says() {
        let mut state = 7_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut draw = |n: usize| {
            // Three uniforms' sum on the log scale: a hump, a factor of some hundred wide.
            let all: Vec<f64> = (0..n).map(|_| libm::exp(-7.0 + 2.0 * (uniform() + uniform() + uniform()))).collect();
            of(&all)
        };
        for (n, m) in [(100, 20_000), (850, 20_000), (850, 2000)] {
            let (mut apart, mut expected) = (0.0, 0.0);
            for _ in 0..100 {
                let shift = Shift::of(&draw(n), &draw(m)).expect("both hold some");
                apart += shift.w1_log;
                expected += shift.w1_log_by_chance;
            }
            let ratio = apart / expected;
            assert!((0.9..1.1).contains(&ratio), "{n} and {m}: {ratio}");
        }
    }

    proptest! {
        #[test]
        fn the_tail_is_the_smallest_that_holds_a_hundredth(now in some(), before in some()) {
            let shift = Shift::of(&of(&now), &of(&before)).expect("both hold some");
            let share = |all: &[f64], bound: f64| {
                let moved = all.iter().filter(|distance| **distance > 0.0);
                moved.clone().filter(|distance| **distance > bound).count() as f64 / moved.count() as f64
            };
            prop_assert!((shift.exceedance - share(&now, shift.tail_bound)).abs() < TOLERANCE);
            prop_assert!((shift.tail - share(&before, shift.tail_bound)).abs() < TOLERANCE);
            prop_assert!(shift.tail <= TAIL + TOLERANCE);
            let bucket = (0..BUCKETS).find(|bucket| bounds(*bucket).1 == shift.tail_bound).expect("a bound");
            prop_assert!(bucket == 0 || share(&before, bounds(bucket - 1).1) > TAIL);
            let zeros = |all: &[f64]| all.iter().filter(|distance| **distance == 0.0).count() as f64 / all.len() as f64;
            prop_assert_eq!((shift.zero, shift.zero_before), (zeros(&now), zeros(&before)));
        }

        /// Lists of one length, sorted: the mean of the differences, each value at most a bucket off.
        #[test]
        fn wasserstein_is_a_buckets_width_from_the_sorted_lists(pairs in proptest::collection::vec((moved(), moved()), 1..60)) {
            let (mut now, mut before): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let shift = Shift::of(&of(&now), &of(&before)).expect("both hold some");
            let customary = Customary::of(&of(&now), &of(&before)).expect("both hold some");
            now.sort_by(f64::total_cmp);
            before.sort_by(f64::total_cmp);
            let mean = |scale: &dyn Fn(f64) -> f64| {
                let apart = now.iter().zip(&before).map(|(now, before)| (scale(*now) - scale(*before)).abs());
                apart.sum::<f64>() / now.len() as f64
            };
            prop_assert!((shift.w1_log - mean(&libm::log)).abs() <= WIDTH + TOLERANCE);
            let rounded = |distance: f64| middle(bucket(distance));
            prop_assert!((customary.w1 - mean(&rounded)).abs() < TOLERANCE);
        }

        #[test]
        fn kolmogorov_smirnov_is_that_of_the_rounded_lists(now in some(), before in some()) {
            let customary = Customary::of(&of(&now), &of(&before)).expect("both hold some");
            let (now, before) = (buckets(&now), buckets(&before));
            let share = |all: &[usize], bound: usize| {
                all.iter().filter(|bucket| **bucket <= bound).count() as f64 / all.len() as f64
            };
            let truth = (0..BUCKETS).map(|bound| (share(&now, bound) - share(&before, bound)).abs()).fold(0.0, f64::max);
            prop_assert!((customary.ks - truth).abs() < TOLERANCE, "{} for {truth}", customary.ks);
        }

        /// Equation 7 as it is written, by counting.
        #[test]
        fn anderson_darling_is_that_of_the_rounded_lists(now in some(), before in some()) {
            let customary = Customary::of(&of(&now), &of(&before)).expect("both hold some");
            let samples = [buckets(&now), buckets(&before)];
            let mut all: Vec<usize> = samples.concat();
            all.sort_unstable();
            let n = all.len() as f64;
            let midrank = |sample: &[usize], z: usize| {
                let below = sample.iter().filter(|bucket| **bucket < z).count() as f64;
                below + sample.iter().filter(|bucket| **bucket == z).count() as f64 / 2.0
            };
            let mut distinct = all.clone();
            distinct.dedup();
            let mut truth = 0.0;
            for sample in &samples {
                let size = sample.len() as f64;
                for z in &distinct {
                    let ties = all.iter().filter(|bucket| *bucket == z).count() as f64;
                    let b = midrank(&all, *z);
                    let weight = b * (n - b) - n * ties / 4.0;
                    if weight > 0.0 {
                        truth += ties / n * (n * midrank(sample, *z) - size * b).powi(2) / weight / size;
                    }
                }
            }
            truth *= (n - 1.0) / n;
            prop_assert!((customary.ad - truth).abs() <= 1e-6 * truth.max(1.0), "{} for {truth}", customary.ad);
        }

        #[test]
        fn of_the_same_all_are_0(all in some()) {
            let (shift, customary) = (Shift::of(&of(&all), &of(&all)), Customary::of(&of(&all), &of(&all)));
            prop_assert_eq!(shift.map(|shift| (shift.w1_log, shift.exceedance - shift.tail)), Some((0.0, 0.0)));
            let Customary { ks, psi, w1, .. } = customary.expect("it holds some");
            prop_assert_eq!((ks, psi, w1), (0.0, 0.0, 0.0));
        }
    }

    fn moved() -> impl Strategy<Value = f64> {
        prop_oneof![1e-4..2.0_f64, 1e-4..1e-2_f64]
    }

    /// At least one above 0.
    fn some() -> impl Strategy<Value = Vec<f64>> {
        (proptest::collection::vec(prop_oneof![1 => Just(0.0), 6 => moved()], 0..120), moved())
            .prop_map(|(rest, first)| [vec![first], rest].concat())
    }

    fn bucket(distance: f64) -> usize {
        of(&[distance]).filled().next().expect("above 0").0
    }

    fn buckets(distances: &[f64]) -> Vec<usize> {
        distances.iter().filter(|distance| **distance > 0.0).map(|distance| bucket(*distance)).collect()
    }

    fn of(distances: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        distances.iter().for_each(|distance| histogram.record(*distance).expect("a distance"));
        histogram
    }
}
