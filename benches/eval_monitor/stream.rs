//! A stream of windows of a large bank: its numbers by the season, its distances drawn from the real pipeline's.

use std::collections::BTreeMap;
use std::sync::Arc;

use dce::drift::histogram::{BUCKETS, Histogram};
use dce::drift::window::{Segment, Window, count};

use crate::bank::{BINS, Bank, Entry, ZERO, bin_of};

pub(crate) const WINDOW_MS: i64 = 5 * 60 * 1000;
/// Customers of a window, in the mean of a week.
const CUSTOMERS: f64 = 850.0;
/// Versions of the app, as shares of the customers; the first is a segment of 100 customers a window.
const APPS: [f64; 3] = [0.118, 0.30, 0.582];
const SEGMENTS: [&str; 6] = ["all", "channel=web", "channel=mobile", "label.app=1", "label.app=2", "label.app=3"];
/// The segment of 100.
pub(crate) const SMALL: usize = 3;
/// The world wanders: standard deviations of ln, of distances and of numbers from day to day, and of numbers from window to window.
const WANDER_DISTANCE: f64 = 0.03;
const WANDER_NUMBER: f64 = 0.05;
const FLICKER_NUMBER: f64 = 0.03;
/// What is left of the wandering after a window: a day's memory.
const MEMORY: f64 = 1.0 - 1.0 / 288.0;
/// Buckets to a factor of e.
const PER_E: f64 = 16.0 / std::f64::consts::LN_2;

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Box and Muller's.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.unit())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    /// Close enough for means of 10 and more; exact below.
    fn poisson(&mut self, mean: f64) -> usize {
        if mean < 30.0 {
            let (mut count, mut product, limit) = (0, self.unit(), libm::exp(-mean));
            while product > limit {
                product *= self.unit();
                count += 1;
            }
            return count;
        }
        (mean + mean.sqrt() * self.normal()).round().max(0.0) as usize
    }
}

/// What happens to the world.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Event<'a> {
    /// ln of the factor of all distances, and of those of the segment of 100.
    pub(crate) ln_all: f64,
    pub(crate) ln_small: f64,
    pub(crate) jumping: f64,
    pub(crate) frozen: f64,
    /// ln of the factor of the number of customers.
    pub(crate) ln_number: f64,
    /// Buckets farther, by bucket.
    pub(crate) change: Option<&'a [f64; BUCKETS]>,
}

#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) random: Random,
    pub(crate) bank: Bank,
    /// Customers of a window, by bin.
    pub(crate) numbers: [f64; BINS],
    wander: f64,
    wander_number: f64,
}

impl Stream {
    pub(crate) fn new(bank: &Bank, seed: u64) -> Self {
        let mut random = Random(seed);
        let is_in: Vec<bool> = (0..bank.customers).map(|_| random.unit() < 0.7).collect();
        let mean = (bank.rates[..BINS / 2].iter().sum::<f64>() * 5.0
            + bank.rates[BINS / 2..].iter().sum::<f64>() * 2.0)
            / (7 * BINS / 2) as f64;
        let numbers = bank.rates.map(|rate| CUSTOMERS * rate / mean);
        let (wander, wander_number) = (WANDER_DISTANCE * random.normal(), WANDER_NUMBER * random.normal());
        Self { bank: bank.of(&is_in), random, numbers, wander, wander_number }
    }

    /// Customers of a window in the mean: on the line between the middles of half hours.
    pub(crate) fn number(&self, start_ms: i64) -> f64 {
        let (before, after, off) = around(start_ms);
        self.numbers[before] * (1.0 - off) + self.numbers[after] * off
    }

    /// All segments' windows of a start.
    pub(crate) fn windows(&mut self, start_ms: i64, event: &Event<'_>) -> Vec<Window> {
        let step = (1.0 - MEMORY * MEMORY).sqrt();
        self.wander = MEMORY * self.wander + step * WANDER_DISTANCE * self.random.normal();
        self.wander_number = MEMORY * self.wander_number + step * WANDER_NUMBER * self.random.normal();
        let (before, after, off) = around(start_ms);
        let ln_number = self.wander_number + FLICKER_NUMBER * self.random.normal() + event.ln_number;
        let number = self.random.poisson(self.number(start_ms) * libm::exp(ln_number));
        let mut counts = [[0_u64; 256]; SEGMENTS.len()];
        for _ in 0..number {
            let entries = &self.bank.bins[if self.random.unit() < off { after } else { before }];
            let Entry { is_web, bucket, .. } = entries[self.random.below(entries.len())];
            let app = self.random.unit();
            let app = if app < APPS[0] {
                0
            } else if app < APPS[0] + APPS[1] {
                1
            } else {
                2
            };
            let change = self.random.unit();
            let mut bucket = if change < event.jumping {
                self.bank.jumps[self.random.below(self.bank.jumps.len())]
            } else if change < event.jumping + event.frozen {
                ZERO
            } else {
                bucket
            };
            if bucket != ZERO {
                let ln = self.wander + event.ln_all + if app == 0 { event.ln_small } else { 0.0 };
                let change = event.change.map_or(0.0, |change| change[usize::from(bucket)]);
                let moved = (f64::from(bucket) + change + ln * PER_E + self.random.unit()).floor();
                bucket = moved.clamp(0.0, (BUCKETS - 1) as f64) as u8;
            }
            for segment in [0, if is_web { 1 } else { 2 }, SMALL + app] {
                counts[segment][usize::from(bucket)] += 1;
            }
        }
        counts.iter().zip(SEGMENTS).map(|(counts, segment)| window(segment, start_ms, counts)).collect()
    }
}

/// The half hours in whose middles' midst a window lies, and how near the later one it is.
fn around(start_ms: i64) -> (usize, usize, f64) {
    let (middle_ms, half_ms) = (start_ms + WINDOW_MS / 2, 15 * 60 * 1000);
    let off = (middle_ms - half_ms).rem_euclid(2 * half_ms) as f64 / (2 * half_ms) as f64;
    (bin_of(middle_ms - half_ms), bin_of(middle_ms + half_ms), off)
}

fn window(segment: &str, start_ms: i64, counts: &[u64; 256]) -> Window {
    let filled = counts[..BUCKETS].iter().enumerate().filter(|(_, count)| **count > 0);
    let shifts = Histogram::of(counts[usize::from(ZERO)], filled.map(|(bucket, count)| (bucket, *count)));
    let shifts = shifts.expect("each bucket once");
    let counts = BTreeMap::from([(Arc::from(count::CUSTOMERS), shifts.len())]);
    let (segment, end_ms) = (Segment(segment.into()), start_ms + WINDOW_MS);
    Window { segment, start_ms, end_ms, model: None, shifts, counts, is_partial: false }
}
