//! Randomness that is the same on every machine and in every year: PCG-64 (XSL-RR, as `rand_pcg::Pcg64` fixes it), with
//! distributions of our own over it, since those of a library may change with its version, and logarithms and
//! exponentials from `libm`, since the platform's may differ in the last bit.

use rand::Rng;
use rand_pcg::Pcg64;

/// What a stream of random numbers is for: each purpose has its own, so that dirt does not change what customers do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Persona = 1,
    Session = 2,
    Return = 3,
    Arrival = 4,
    Takeover = 5,
    Live = 6,
}

#[derive(Debug)]
pub(super) struct Random(Pcg64);

impl Random {
    /// The numbers of one purpose, one customer and one of its sessions.
    pub(super) fn new(seed: u64, purpose: Purpose, customer: u64, ordinal: u64) -> Self {
        let stream = (u128::from(mix(seed, purpose as u64)) << 64) | u128::from(mix(customer, ordinal));
        let state = (u128::from(mix(seed ^ customer.rotate_left(32), ordinal)) << 64) | u128::from(seed);
        Self(Pcg64::new(state, stream))
    }

    /// In [0, 1), with 53 bits.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// In [0, count).
    pub(super) fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(count)) >> 64) as u64
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Milliseconds between two numbers of seconds.
    pub(super) fn ms_between(&mut self, low_s: f64, high_s: f64) -> i64 {
        whole(1000.0 * self.between(low_s, high_s))
    }

    /// Mean 0, variance 1 (Box and Muller).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    pub(super) fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * libm::exp(sigma * self.normal())
    }

    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(1.0 - self.unit())
    }

    /// An index, with a probability in proportion to its weight; the last one if all are zero.
    pub(super) fn pick(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len() - 1
    }
}

/// A hash of two numbers (the finalizer of SplitMix64 over their sum), for what must not depend on an order of drawing.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash as a number in [0, 1).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
pub(super) fn unit_of(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// The whole part; beyond the range, the range's end.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, which is what is wanted")]
pub(super) fn whole(x: f64) -> i64 {
    x as i64
}

/// Times and counts of this module lie below 2^53.
#[expect(clippy::cast_precision_loss, reason = "times and counts lie below 2^53")]
pub(super) fn real(x: i64) -> f64 {
    x as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_same_for_ever() {
        let mut random = Random::new(1, Purpose::Session, 2, 3);
        let drawn: Vec<u64> = (0..3).map(|_| random.below(1_000_000)).collect();
        expect_test::expect!["[461979, 472570, 377353] -0.936941"]
            .assert_eq(&format!("{drawn:?} {:.6}", random.normal()));
    }

    #[test]
    fn the_distributions_have_their_means() {
        let mut random = Random::new(7, Purpose::Session, 0, 0);
        let mean = |draw: &mut dyn FnMut() -> f64| (0..40_000).map(|_| draw()).sum::<f64>() / 40_000.0;
        assert!((mean(&mut || random.unit()) - 0.5).abs() < 0.01);
        assert!(mean(&mut || random.normal()).abs() < 0.02);
        assert!((mean(&mut || random.exponential(3.0)) - 3.0).abs() < 0.06);
        let third = mean(&mut || if random.pick(&[1.0, 2.0]) == 0 { 1.0 } else { 0.0 });
        assert!((third - 1.0 / 3.0).abs() < 0.01);
    }
}
