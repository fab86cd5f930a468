//! Distances that the real pipeline gave for a generated bank, by half hour of the day, workdays and weekends apart.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use dce::drift::histogram::{BUCKETS, Histogram};
use serde::Deserialize;

pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const HALF_HOURS: usize = 48;
/// Half hours of workdays, then of weekends.
pub(crate) const BINS: usize = 2 * HALF_HOURS;
/// A distance of exactly 0.
pub(crate) const ZERO: u8 = 255;
/// Fewer are no bin.
const BIN_MIN: usize = 60;

/// One session's end: who, how far the embedding moved, on which channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) customer: u32,
    /// Of the histogram, or [`ZERO`].
    pub(crate) bucket: u8,
    pub(crate) is_web: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Bank {
    pub(crate) bins: Vec<Vec<Entry>>,
    /// Without neighbours'.
    own: Vec<Vec<Entry>>,
    /// Sessions of a bin in the mean of its days; its own, without neighbours'.
    pub(crate) rates: [f64; BINS],
    pub(crate) customers: usize,
    /// How far an embedding jumps that becomes another customer's.
    pub(crate) jumps: Vec<u8>,
}

/// What a scenario does to the same sessions, and so to any distance: quantile by quantile.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Buckets farther, by bucket.
    pub(crate) buckets: [f64; BUCKETS],
    /// Factors of the median distance and of the number of sessions.
    pub(crate) median: f64,
    pub(crate) number: f64,
}

impl Change {
    pub(crate) fn between(before: &Bank, after: &Bank) -> Self {
        let sorted = |bank: &Bank| {
            let all = bank.own.iter().flatten().map(|entry| entry.bucket).filter(|bucket| *bucket != ZERO);
            let mut all: Vec<f64> = all.map(f64::from).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let (before_all, after_all) = (sorted(before), sorted(after));
        let (n, m) = (before_all.len(), after_all.len());
        let mut buckets = [0.0; BUCKETS];
        for (bucket, change) in buckets.iter_mut().enumerate() {
            let low = before_all.partition_point(|other| *other < bucket as f64);
            let high = before_all.partition_point(|other| *other <= bucket as f64);
            // The scenario's at the ranks of this bucket.
            let there = &after_all[low * m / n..(high * m).div_ceil(n)];
            if high > low {
                *change = there.iter().sum::<f64>() / there.len() as f64 - bucket as f64;
            }
        }
        let median = libm::exp((after_all[m / 2] - before_all[n / 2]) * std::f64::consts::LN_2 / 16.0);
        Self { buckets, median, number: m as f64 / n as f64 }
    }
}

#[derive(Deserialize)]
struct Row<'a> {
    customer_id: &'a str,
    kind: &'a str,
    channel: &'a str,
    cosine_shift: Option<f64>,
    closed_at: i64,
    #[serde(borrow)]
    embedding: &'a serde_json::value::RawValue,
}

impl Bank {
    /// Of a replay's embeddings, those that closed on days `from` to `until` after the first.
    pub(crate) fn read(path: &Path, first_ms: i64, from: i64, until: i64) -> Self {
        let file = File::open(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        let mut entries = vec![Vec::new(); BINS];
        let mut vectors: Vec<(String, Vec<f32>)> = Vec::new();
        let mut sessions = 0_usize;
        for line in BufReader::new(file).lines() {
            let line = line.expect("a line");
            let row: Row<'_> = serde_json::from_str(&line).expect("an embedding");
            let day = (row.closed_at - first_ms).div_euclid(DAY_MS);
            let Some(distance) = row.cosine_shift else { continue };
            if row.kind != "SESSION_CLOSED" || day < from || day >= until {
                continue;
            }
            sessions += 1;
            if sessions.is_multiple_of(61) {
                vectors
                    .push((row.customer_id.to_owned(), serde_json::from_str(row.embedding.get()).expect("a vector")));
            }
            let customer = row.customer_id.trim_start_matches('c').parse().expect("c and a number");
            let entry = Entry { customer, bucket: bucket(distance), is_web: row.channel == "web" };
            entries[bin_of(row.closed_at)].push(entry);
        }
        let weekends = (from..until).filter(|day| is_weekend(first_ms + day * DAY_MS)).count() as f64;
        let days = [(until - from) as f64 - weekends, weekends];
        let rates = std::array::from_fn(|bin| entries[bin].len() as f64 / days[bin / HALF_HOURS].max(1.0));
        let customers = entries.iter().flatten().map(|entry| entry.customer as usize + 1).max().unwrap_or(0);
        Self { bins: widened(&entries), own: entries, rates, customers, jumps: jumps(&vectors) }
    }

    /// What is left of it with some of its customers.
    pub(crate) fn of(&self, is_in: &[bool]) -> Self {
        let kept = |bin: &Vec<Entry>| -> Vec<Entry> {
            bin.iter().filter(|entry| is_in.get(entry.customer as usize).copied().unwrap_or(false)).copied().collect()
        };
        let bins: Vec<Vec<Entry>> = self.bins.iter().map(kept).collect();
        Self { bins, own: Vec::new(), rates: self.rates, customers: self.customers, jumps: self.jumps.clone() }
    }
}

/// The season is smooth, and what one bank of few customers does in one half hour is not: the half hours of an hour around
/// have their part, the nearer the more; and more of them where there are too few, and those of the other kind of day.
fn widened(entries: &[Vec<Entry>]) -> Vec<Vec<Entry>> {
    let around = |bin: usize, reach: usize| {
        let (kind, half_hour) = (bin / HALF_HOURS, bin % HALF_HOURS);
        let near = |step: usize| &entries[kind * HALF_HOURS + (half_hour + HALF_HOURS + step - reach) % HALF_HOURS];
        let parts = (0..=2 * reach).map(|step| (step, reach + 1 - step.abs_diff(reach)));
        parts.flat_map(|(step, times)| (0..times).flat_map(move |_| near(step).iter().copied())).collect::<Vec<_>>()
    };
    let found = |bin: usize| {
        let wider = [2, 6, 20].into_iter().flat_map(|reach| [(bin, reach), ((bin + HALF_HOURS) % BINS, reach)]);
        let mut found = wider.map(|(bin, reach)| around(bin, reach));
        found.find(|found| found.len() >= BIN_MIN).expect("a bank of some customers")
    };
    (0..BINS).map(found).collect()
}

/// Distances between vectors of different customers.
fn jumps(vectors: &[(String, Vec<f32>)]) -> Vec<u8> {
    let cosine = |one: &[f32], two: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(one, two) / (dot(one, one) * dot(two, two)).sqrt()
    };
    let pairs = vectors.windows(2).filter(|pair| pair[0].0 != pair[1].0);
    pairs.map(|pair| bucket((1.0 - cosine(&pair[0].1, &pair[1].1)).clamp(0.0, 2.0))).collect()
}

fn bucket(distance: f64) -> u8 {
    let mut histogram = Histogram::default();
    histogram.record(distance).expect("a cosine distance");
    histogram.filled().next().map_or(ZERO, |(bucket, _)| u8::try_from(bucket).expect("241 buckets"))
}

pub(crate) fn is_weekend(ms: i64) -> bool {
    // 1970-01-01 was a Thursday.
    matches!(ms.div_euclid(DAY_MS).rem_euclid(7), 2 | 3)
}

pub(crate) fn bin_of(ms: i64) -> usize {
    let half_hour = usize::try_from(ms.rem_euclid(DAY_MS) / (DAY_MS / HALF_HOURS as i64)).expect("not negative");
    usize::from(is_weekend(ms)) * HALF_HOURS + half_hour
}

const _: () = assert!(BUCKETS < ZERO as usize);
