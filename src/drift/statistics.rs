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
