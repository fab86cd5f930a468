//! The monitor's windows against a naive count, whatever the order in which partitions are read and however often it starts anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dce::config::Encoding;
use dce::drift::collect::{Collector, Cut};
use dce::drift::histogram::Histogram;
use dce::drift::window::{Window, count};
use dce::types::{CloseReason, CustomerId, EventTime, ModelId, OpenedBy, Position};
use dce::wire::avro::Schemas;
use dce::wire::embedding::{Cause, CustomerEmbedding, EmbeddingKind};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

const WIDTH_MS: i64 = 300_000;
const LATENESS_MS: i64 = 120_000;
const START_MS: i64 = 1_767_225_600_000;

fn cut() -> Cut {
    Cut { width_ms: WIDTH_MS, lateness_ms: LATENESS_MS, future_ms: 300_000, segments_max: 50, customers_max: 1_000_000 }
}

/// One record on the embeddings topic.
#[derive(Debug, Clone)]
struct Published {
    partition: i32,
    at_ms: i64,
    value: Vec<u8>,
    /// What it is, where it is an embedding.
    embedding: Option<CustomerEmbedding>,
}

fn embedding(random: &mut Pcg64Mcg, at_ms: i64) -> CustomerEmbedding {
    let number = random.random_range(0..60);
    let kind = match random.random_range(0..10) {
        0 => EmbeddingKind::Provisional,
        1 => EmbeddingKind::SessionRevised,
        _ => EmbeddingKind::SessionClosed,
    };
    let back_ms = match random.random_range(0..12) {
        0 => random.random_range(0..2 * WIDTH_MS),
        1 => -random.random_range(0..400_000_i64),
        _ => random.random_range(0..20_000),
    };
    let shift = match random.random_range(0..8) {
        0 => None,
        1 => Some(0.0),
        _ => Some(random.random_range(0.0..0.5_f64).powi(3)),
    };
    let closed_at = (at_ms - back_ms).max(0);
    let event_count = random.random_range(1..40);
    let label = ["de", "at", "ch"][random.random_range(0..3)];
    CustomerEmbedding {
        customer_id: CustomerId::parse(&format!("c{number}")).unwrap(),
        sequence: 1,
        kind,
        embedding: match random.random_range(0..30) {
            0 => vec![0.0, 0.0],
            1 if at_ms > START_MS + 3 * WIDTH_MS => vec![1.0, 0.0, 0.0],
            _ => vec![0.6, 0.8],
        },
        model: ModelId::parse("bank@1").unwrap(),
        cosine_shift: shift,
        gate: random.random_range(0.0..1.0),
        previous_as_of: (number % 3 > 0).then(|| EventTime::parse(closed_at.saturating_sub(7_200_000)).unwrap()),
        scores: BTreeMap::new(),
        cold_start: shift.is_none() && number % 2 == 0,
        cause: Cause {
            session_uid: "e\"1".into(),
            revision: 0,
            session_id: None,
            device_id: None,
            channel: (number % 5 > 0).then(|| Arc::from(if number % 2 == 0 { "web" } else { "mobile" })),
            session_start: EventTime::parse(closed_at.saturating_sub(60_000)).unwrap(),
            session_end: EventTime::parse(closed_at).unwrap(),
            closed_at: (kind != EmbeddingKind::Provisional).then(|| EventTime::parse(closed_at).unwrap()),
            opened_by: OpenedBy::Login,
            close_reason: Some(CloseReason::Logout),
            event_count,
            unknown_count: random.random_range(0..=event_count.min(3)),
        },
        labels: BTreeMap::from([(Arc::from("country"), Arc::from(label))]),
        as_of: EventTime::parse(closed_at).unwrap(),
        emitted_at: at_ms,
        source: Position { partition: 0, offset: 0 },
    }
}

fn stream(random: &mut Pcg64Mcg) -> Vec<Published> {
    // The models' dimension is what the first record says, in whatever order partitions are read: let it be the same.
    let mut first = embedding(random, START_MS);
    (first.kind, first.embedding) = (EmbeddingKind::SessionClosed, vec![0.6, 0.8]);
    (first.cause.closed_at, first.previous_as_of) = (EventTime::parse(START_MS), None);
    let mut at_ms = START_MS;
    let mut all: Vec<Published> = Vec::new();
    for place in 0..random.random_range(50..600) {
        at_ms += random.random_range(0..8_000);
        let made = if place == 0 { first.clone() } else { embedding(random, at_ms) };
        let number: i32 = made.customer_id.as_str()[1..].parse().unwrap();
        let mut published = Published { partition: number % 3, at_ms, value: Vec::new(), embedding: Some(made) };
        if place > 0 && random.random_range(0..40) == 0 {
            published.value = b"{\"customer_id\":".to_vec();
            published.embedding = None;
        } else {
            let encoding = if random.random_range(0..2) == 0 { Encoding::Json } else { Encoding::Avro };
            published.embedding.as_ref().unwrap().encode_into(encoding, &mut published.value).unwrap();
        }
        all.push(published);
    }
    all
}

/// In ten lines and a few: each record to its window, by the rule alone.
#[derive(Debug, Default, PartialEq)]
struct Naive {
    shifts: Histogram,
    counts: BTreeMap<String, u64>,
}

fn naive(all: &[Published]) -> BTreeMap<i64, BTreeMap<String, Naive>> {
    let mut windows: BTreeMap<i64, BTreeMap<String, Naive>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for record in all {
        let published_in = record.at_ms / WIDTH_MS * WIDTH_MS;
        let mut add = |start: i64, segments: &[String], name: &str, n: u64| {
            for segment in segments.iter().filter(|_| n > 0) {
                let naive = windows.entry(start).or_default().entry(segment.clone()).or_default();
                *naive.counts.entry(name.to_owned()).or_default() += n;
            }
        };
        let all_customers = ["all".to_owned()];
        let Some(it) = &record.embedding else {
            add(published_in, &all_customers, "bad.decode", 1);
            continue;
        };
        if it.kind == EmbeddingKind::Provisional {
            continue;
        }
        let closed_at = it.cause.closed_at.unwrap().ms();
        if closed_at > record.at_ms + 300_000 {
            add(published_in, &all_customers, "bad.time", 1);
            continue;
        }
        let mut segments = vec!["all".to_owned(), format!("model={}", it.model.as_str())];
        segments.extend(it.cause.channel.iter().map(|channel| format!("channel={channel}")));
        segments.extend(it.labels.iter().map(|(name, value)| format!("label.{name}={value}")));
        let start = closed_at / WIDTH_MS * WIDTH_MS;
        if record.at_ms >= start + WIDTH_MS + LATENESS_MS {
            add(published_in, &segments, count::LATE, 1);
            continue;
        }
        if it.kind == EmbeddingKind::SessionRevised {
            add(start, &segments, count::REVISED, 1);
            continue;
        }
        let power = |number: i64| (0..15).rev().find(|power| number >= 1 << power).unwrap_or(0);
        add(start, &segments, count::CLOSED, 1);
        add(start, &segments, count::GATED, u64::from(it.gate < 0.5));
        add(start, &segments, count::EVENTS, it.cause.event_count.into());
        add(start, &segments, count::UNKNOWN_EVENTS, it.cause.unknown_count.into());
        add(start, &segments, "close.LOGOUT", 1);
        add(start, &segments, &format!("dimension.{}", it.embedding.len()), 1);
        add(start, &segments, &format!("length.{}", power(it.cause.event_count.into())), 1);
        add(start, &segments, &format!("delay.{}", power((record.at_ms - closed_at) / 1_000)), 1);
        if it.previous_as_of.is_some() {
            add(start, &segments, "stale.1", 1);
        }
        if !seen.insert((start, it.customer_id.as_str().to_owned())) {
            continue;
        }
        add(start, &segments, count::CUSTOMERS, 1);
        let squares: f32 = it.embedding.iter().map(|number| number * number).sum();
        let is_unit = (squares - 1.0).abs() < 0.01;
        match it.cosine_shift {
            _ if !is_unit || it.embedding.len() != 2 => add(start, &segments, count::NO_VECTOR, 1),
            None if it.cold_start => add(start, &segments, count::COLD_START, 1),
            None => add(start, &segments, count::MODEL_CHANGED, 1),
            Some(shift) => {
                for segment in segments {
                    let naive = windows.entry(start).or_default().entry(segment).or_default();
                    naive.shifts.record(shift).unwrap();
                }
            }
        }
    }
    windows
}

/// Reads the stream as partitions come, in an order of its own, and is killed now and then.
fn collected(all: &[Published], random: &mut Pcg64Mcg, restarts: usize) -> Vec<Window> {
    let schemas = Schemas::released();
    let until = all.last().unwrap().at_ms + 10 * WIDTH_MS;
    let mut kept: Vec<Window> = Vec::new();
    let mut ends: Vec<i64> = (0..restarts).map(|_| random.random_range(START_MS + 3 * WIDTH_MS..until)).collect();
    ends.sort_unstable();
    ends.push(until);
    for end in ends {
        let mut collector = Collector::new(cut());
        for window in &kept {
            collector.remember(window);
        }
        let from = kept.last().map_or(START_MS - 4 * WIDTH_MS, |window| window.end_ms);
        collector.begin(from);
        let mut queues: Vec<Vec<&Published>> = (0..3)
            .map(|partition| {
                let wanted = |record: &&Published| {
                    record.partition == partition && record.at_ms >= from - 600_000 && record.at_ms < end
                };
                all.iter().rev().filter(wanted).collect()
            })
            .collect();
        while queues.iter().any(|queue| !queue.is_empty()) {
            let next = queues[random.random_range(0..3)].pop();
            if let Some(record) = next {
                collector.record(&record.value, record.at_ms, record.partition, &schemas);
            }
        }
        kept.extend(collector.close(end).into_iter().flat_map(|closed| closed.windows));
    }
    kept
}

#[test]
fn windows_are_a_function_of_the_topic() {
    let seeds = std::env::var("DCE_TEST_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let all = stream(&mut random);
        let calm = collected(&all, &mut random, 0);
        let restarts = random.random_range(1..5);
        let restarted = collected(&all, &mut random, restarts);
        assert!(calm == restarted, "seed {seed}, {restarts} restarts");
        let expected = naive(&all);
        let mut got: BTreeMap<i64, BTreeMap<String, Naive>> = BTreeMap::new();
        for window in calm.into_iter().filter(|window| !window.counts.is_empty()) {
            let counts = window.counts.iter().map(|(name, count)| (name.to_string(), *count)).collect();
            let by_segment = got.entry(window.start_ms).or_default();
            by_segment.insert(window.segment.as_str().to_owned(), Naive { shifts: window.shifts, counts });
        }
        same(&got, &expected, seed);
    }
}

/// Says the first difference alone: a histogram has hundreds of buckets.
fn same(got: &BTreeMap<i64, BTreeMap<String, Naive>>, expected: &BTreeMap<i64, BTreeMap<String, Naive>>, seed: u64) {
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "seed {seed}: the windows");
    for (start, expected) in expected {
        let got = &got[start];
        assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "seed {seed}, {start}");
        for (segment, expected) in expected {
            let got = &got[segment];
            assert_eq!(got.counts, expected.counts, "seed {seed}, {start}, {segment}");
            let filled = |naive: &Naive| naive.shifts.filled().collect::<Vec<_>>();
            assert_eq!(filled(got), filled(expected), "seed {seed}, {start}, {segment}");
            assert_eq!(got.shifts.zero(), expected.shifts.zero(), "seed {seed}, {start}, {segment}");
        }
    }
}
