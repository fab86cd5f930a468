//! How far embeddings moved, counted: cosine distances in [0, 2] in fixed buckets on a log scale, exact to merge and to
//! subtract. `[pure]`
//!
//! ```text
//! zero │ below 2⁻¹⁴ │ 240 buckets, 16 to each doubling │ up to 2
//! ```
//! Bounds are those of Prometheus' native histograms of schema 4 (2^(i/16)). Bucket `i` holds (bound i − 1, bound i].

/// Buckets to each doubling.
const PER_DOUBLING: usize = 16;
/// The smallest bound is 2 to the power of this; the greatest is 2.
const LOWEST_POWER: i32 = -14;
const DOUBLINGS: usize = 15;
/// The one below the smallest bound, and those above it.
pub const BUCKETS: usize = 1 + DOUBLINGS * PER_DOUBLING;
/// The greatest cosine distance.
pub const DISTANCE_MAX: f64 = 2.0;

/// 2^(i/16): written down, so that every machine has the same bounds.
const STEPS: [f64; PER_DOUBLING] = [
    1.0,
    1.044_273_782_427_413_8,
    1.090_507_732_665_257_7,
    1.138_788_634_756_691_6,
    1.189_207_115_002_721,
    1.241_857_812_073_484,
    1.296_839_554_651_009_6,
    1.354_255_546_936_892_7,
    std::f64::consts::SQRT_2,
    1.476_826_145_939_499_3,
    1.542_210_825_407_940_7,
    1.610_490_331_949_254_3,
    1.681_792_830_507_429,
    1.756_252_160_373_299_5,
    1.834_008_086_409_342_4,
    1.915_206_561_397_147_3,
];

/// Counts of distances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// Exactly 0: the embedding did not move at all.
    zero: u64,
    counts: Box<[u64; BUCKETS]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { zero: 0, counts: Box::new([0; BUCKETS]) }
    }
}

/// What is no distance.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is no cosine distance, which lies in [0, 2]")]
pub struct NoDistance(pub f64);

/// More was to be taken out than is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bucket {bucket} has {has}, and {taken} were to be taken out")]
pub struct NotWithin {
    pub bucket: usize,
    pub has: u64,
    pub taken: u64,
}

impl Histogram {
    pub fn record(&mut self, distance: f64) -> Result<(), NoDistance> {
        match bucket_of(distance)? {
            None => self.zero += 1,
            Some(bucket) => self.counts[bucket] += 1,
        }
        Ok(())
    }

    /// Distances in all, those of exactly 0 included.
    pub fn len(&self) -> u64 {
        self.zero + self.moved()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Distances of exactly 0.
    pub fn zero(&self) -> u64 {
        self.zero
    }

    /// Distances above 0.
    pub fn moved(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// By bucket, from the smallest distances on, without those of exactly 0.
    pub fn counts(&self) -> &[u64; BUCKETS] {
        &self.counts
    }

    pub fn merge(&mut self, other: &Self) {
        self.zero += other.zero;
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
    }

    /// Takes out what was merged before; nothing is changed where that cannot be.
    pub fn subtract(&mut self, other: &Self) -> Result<(), NotWithin> {
        let pairs = || self.counts.iter().zip(other.counts.iter()).enumerate();
        if let Some((bucket, (has, taken))) = pairs().find(|(_, (has, taken))| has < taken) {
            return Err(NotWithin { bucket, has: *has, taken: *taken });
        }
        self.zero =
            self.zero.checked_sub(other.zero).ok_or(NotWithin { bucket: 0, has: self.zero, taken: other.zero })?;
        for (count, less) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count -= less;
        }
        Ok(())
    }

    /// The distance that a share of all does not exceed, in [0, 2]: between a bucket's bounds on the log scale. `None`
    /// where there is none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.len();
        if all == 0 {
            return None;
        }
        let rank = share.clamp(0.0, 1.0) * all as f64;
        let mut below = self.zero as f64;
        if rank <= below {
            return Some(0.0);
        }
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if rank <= below + count {
                let (low, high) = bounds(bucket);
                let within = (rank - below) / count;
                // The lowest bucket reaches down to 0, which has no logarithm.
                return Some(if low > 0.0 { low * (high / low).powf(within) } else { high * within });
            }
            below += count;
        }
        Some(DISTANCE_MAX)
    }

    /// Buckets that hold something, and how many; with [`Self::zero`] all there is.
    pub fn filled(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(bucket, count)| (bucket, *count))
    }

    /// From what [`Self::filled`] gave; `None` where a bucket is none, or stands twice.
    pub fn of(zero: u64, filled: impl IntoIterator<Item = (usize, u64)>) -> Option<Self> {
        let mut histogram = Self { zero, ..Self::default() };
        for (bucket, count) in filled {
            let place = histogram.counts.get_mut(bucket)?;
            if *place != 0 {
                return None;
            }
            *place = count;
        }
        Some(histogram)
    }
}

/// A bucket's bounds: what it holds is above the first and at most the second.
pub fn bounds(bucket: usize) -> (f64, f64) {
    (bucket.checked_sub(1).map_or(0.0, upper), upper(bucket))
}

fn upper(bucket: usize) -> f64 {
    let doublings = i32::try_from(bucket / PER_DOUBLING).unwrap_or(i32::MAX);
    // A power of two is exact.
    STEPS[bucket % PER_DOUBLING] * 2.0_f64.powi(LOWEST_POWER + doublings)
}

/// `None` for exactly 0.
fn bucket_of(distance: f64) -> Result<Option<usize>, NoDistance> {
    if !(0.0..=DISTANCE_MAX).contains(&distance) {
        return Err(NoDistance(distance));
    }
    if distance == 0.0 {
        return Ok(None);
    }
    let lowest = 2.0_f64.powi(LOWEST_POWER);
    if distance <= lowest {
        return Ok(Some(0));
    }
    // distance = mantissa × 2^exponent, mantissa in [1, 2).
    let bits = distance.to_bits();
    let exponent = i32::try_from((bits >> 52) & 0x7ff).unwrap_or(0) - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // Steps that are smaller: a bound belongs to the bucket below it.
    let step = STEPS.partition_point(|bound| *bound < mantissa);
    let doublings = usize::try_from(exponent - LOWEST_POWER).unwrap_or(0);
    Ok(Some(doublings * PER_DOUBLING + step))
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank in a short list")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_those_of_schema_4() {
        assert_eq!(bounds(0), (0.0, 2.0_f64.powi(-14)));
        assert_eq!(bounds(BUCKETS - 1).1, DISTANCE_MAX);
        for bucket in 1..BUCKETS {
            let (low, high) = bounds(bucket);
            assert!((high / low - 2.0_f64.powf(1.0 / 16.0)).abs() < 1e-14, "bucket {bucket}: {low} to {high}");
        }
    }

    #[test]
    fn what_is_no_distance_is_not_counted() {
        let mut histogram = Histogram::default();
        for wrong in [-1e-9, 2.000_001, f64::NAN, f64::INFINITY] {
            assert!(histogram.record(wrong).is_err(), "{wrong}");
        }
        assert!(histogram.is_empty());
        assert_eq!(histogram.quantile(0.5), None);
        histogram.record(-0.0).expect("it is 0");
        assert_eq!((histogram.zero(), histogram.len()), (1, 1));
    }

    #[test]
    fn nothing_is_taken_out_that_is_not_in() {
        let mut one = Histogram::of(1, [(7, 2)]).expect("a bucket");
        let before = one.clone();
        assert!(one.subtract(&Histogram::of(0, [(7, 3)]).expect("a bucket")).is_err());
        assert!(one.subtract(&Histogram::of(2, [(7, 1)]).expect("a bucket")).is_err());
        assert_eq!(one, before);
        assert_eq!(Histogram::of(0, [(BUCKETS, 1)]), None);
        assert_eq!(Histogram::of(0, [(3, 1), (3, 1)]), None);
    }

    proptest! {
        #[test]
        fn a_distance_lies_within_its_bucket(distance in prop_oneof![0.0..2.0_f64, 0.0..1e-3_f64, Just(2.0), Just(0.0)]) {
            match bucket_of(distance).expect("a distance") {
                None => prop_assert_eq!(distance, 0.0),
                Some(bucket) => {
                    let (low, high) = bounds(bucket);
                    prop_assert!(low < distance && distance <= high, "{} in {:?}", distance, (low, high));
                }
            }
        }

        #[test]
        fn bounds_fall_into_the_bucket_below_them(bucket in 0..BUCKETS) {
            prop_assert_eq!(bucket_of(bounds(bucket).1), Ok(Some(bucket)));
        }

        #[test]
        fn merging_and_subtracting_are_exact(one in distances(), two in distances()) {
            let (a, b) = (of(&one), of(&two));
            let mut both = a.clone();
            both.merge(&b);
            prop_assert_eq!(&both, &of(&[one, two].concat()));
            both.subtract(&b).expect("it was merged");
            prop_assert_eq!(&both, &a);
            prop_assert_eq!(Histogram::of(a.zero(), a.filled()), Some(a));
        }

        /// Within the bucket of the value that a sorted list has at that rank.
        #[test]
        fn a_quantile_is_a_buckets_width_from_the_true_one(mut all in distances(), share in 0.0..=1.0_f64) {
            prop_assume!(!all.is_empty());
            all.sort_by(f64::total_cmp);
            let rank = (share * all.len() as f64).ceil().max(1.0) as usize - 1;
            let (truth, found) = (all[rank], of(&all).quantile(share).expect("not empty"));
            match bucket_of(truth).expect("a distance") {
                None => prop_assert_eq!(found, 0.0),
                Some(bucket) => {
                    let (low, high) = bounds(bucket);
                    prop_assert!(low * (1.0 - 1e-12) <= found && found <= high * (1.0 + 1e-12), "{} for {}", found, truth);
                }
            }
        }
    }

    fn distances() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(prop_oneof![Just(0.0), 0.0..2.0_f64, 0.0..1e-4_f64], 0..40)
    }

    fn of(distances: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        for distance in distances {
            histogram.record(*distance).expect("a distance");
        }
        histogram
    }
}
