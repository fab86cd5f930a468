//! What a record costs the monitor: read, told apart by segment and counted, on one core, in CPU time. `cargo bench --bench monitor`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers of its own"
)]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::collections::BTreeMap;

use dce::config::Encoding;
use dce::drift::collect::{Collector, Cut};
use dce::types::{CloseReason, CustomerId, EventTime, ModelId, OpenedBy, Position};
use dce::wire::avro::Schemas;
use dce::wire::embedding::{Cause, CustomerEmbedding, EmbeddingKind};

const RECORDS: usize = 100_000;
const DIMENSION: usize = 64;
const ROUNDS: usize = 5;

fn record(number: usize) -> CustomerEmbedding {
    let time = |ms: usize| EventTime::parse(ms as i64).unwrap();
    let mut embedding: Vec<f32> = (0..DIMENSION).map(|place| ((number * 31 + place * 17) % 97) as f32 - 48.0).collect();
    let length = embedding.iter().map(|value| value * value).sum::<f32>().sqrt();
    embedding.iter_mut().for_each(|value| *value /= length);
    let closed_at = 1_000_000_000 + number;
    CustomerEmbedding {
        customer_id: CustomerId::parse(&format!("customer-{number}")).unwrap(),
        sequence: 7,
        kind: EmbeddingKind::SessionClosed,
        embedding,
        model: ModelId::parse("bank-small@1").unwrap(),
        cosine_shift: Some((number % 1_000) as f64 / 5_000.0),
        gate: 1.0,
        previous_as_of: Some(time(closed_at - 7_200_000)),
        scores: BTreeMap::from([("takeover".into(), vec![0.01_f32])]),
        cold_start: false,
        cause: Cause {
            session_uid: format!("event-{number}").into(),
            revision: 0,
            session_id: Some(format!("session-{number}").into()),
            device_id: Some("device".into()),
            channel: Some(if number.is_multiple_of(2) { "web".into() } else { "mobile".into() }),
            session_start: time(closed_at - 60_000),
            session_end: time(closed_at),
            closed_at: Some(time(closed_at)),
            opened_by: OpenedBy::Login,
            close_reason: Some(CloseReason::Logout),
            event_count: 12,
            unknown_count: 0,
        },
        labels: BTreeMap::from([("country".into(), ["de", "at", "ch"][number % 3].into())]),
        as_of: time(closed_at),
        emitted_at: closed_at as i64,
        source: Position { partition: 0, offset: number as i64 },
    }
}

/// Nanoseconds of this process on a CPU.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn main() {
    let schemas = Schemas::released();
    for encoding in [Encoding::Json, Encoding::Avro] {
        let values: Vec<Vec<u8>> = (0..RECORDS)
            .map(|number| {
                let mut value = Vec::new();
                record(number).encode_into(encoding, &mut value).unwrap();
                value
            })
            .collect();
        let bytes = values.iter().map(Vec::len).sum::<usize>() / RECORDS;
        let mut costs: Vec<u64> = (0..ROUNDS)
            .map(|_| {
                let mut collector = Collector::new(Cut {
                    width_ms: 300_000,
                    lateness_ms: 120_000,
                    future_ms: 300_000,
                    segments_max: 100,
                    customers_max: 4 << 20,
                });
                collector.begin(900_000_000);
                let before = cpu_ns();
                for (number, value) in values.iter().enumerate() {
                    collector.record(value, 1_000_000_500 + number as i64, (number % 4) as i32, &schemas);
                }
                let cost = (cpu_ns() - before) / RECORDS as u64;
                assert!(collector.close(1_003_000_000).iter().any(|closed| !closed.windows.is_empty()));
                cost
            })
            .collect();
        costs.sort_unstable();
        let cost = costs[ROUNDS / 2];
        println!(
            "{encoding:?}: {cost} ns of CPU a record of {bytes} bytes ({DIMENSION} numbers), {} k/s on one core",
            1_000_000 / cost.max(1)
        );
    }
}
