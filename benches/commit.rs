//! What a transaction alone costs: epochs of one record a partition, committed back to back.
//!
//! `integration/kafka.sh run -- cargo bench --bench commit`; the last line is one JSON object.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench for people")]
#![expect(clippy::disallowed_methods, reason = "it measures time, on the broker that the environment names")]

#[path = "../integration/copier.rs"]
mod copier;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use copier::Copier;
use dce::kafka::client::ClientSettings;
use dce::kafka::topics::{self, Purpose, TopicSpec};
use dce::pipeline::epoch::EpochResult;
use dce::pipeline::sink::{Epoch, Outcome};

const WAIT: Duration = Duration::from_secs(60);
const PARTITIONS: usize = 8;
const EPOCHS: usize = 1_000;

fn main() {
    let Ok(bootstrap) = std::env::var("DCE_TEST_BOOTSTRAP") else {
        println!("no broker: integration/kafka.sh run -- cargo bench --bench commit");
        return;
    };
    let client = ClientSettings::of(&bootstrap);
    let run = std::process::id();

    let mut results = serde_json::Map::new();
    for partitions in [1, PARTITIONS] {
        let times = commits(&client, run, partitions);
        let at = |percent: usize| times[EPOCHS * percent / 100];
        // An AddPartitionsToTxn that comes before the last transaction's markers are written waits for 20 ms.
        let waited = times.iter().filter(|ms| **ms > 20.0).count() as f64 / EPOCHS as f64 * 100.0;
        let (p50, p90, p99) = (at(50), at(90), at(99));
        println!(
            "epoch of one record in each of {partitions} partitions, back to back: p50 {p50:.2} ms, p90 {p90:.2} ms, \
             p99 {p99:.2} ms; {waited:.1} % over 20 ms"
        );
        results.insert(format!("commit_{partitions}_p50_ms"), p50.into());
        results.insert(format!("commit_{partitions}_p99_ms"), p99.into());
    }

    println!("{}", serde_json::Value::Object(results));
}

fn topic(client: &ClientSettings, name: &str, partitions: usize) -> String {
    let spec = TopicSpec::new(name, partitions, Some(1), Purpose::Log);
    topics::create(client, &[spec], WAIT).unwrap();
    name.to_owned()
}

/// Milliseconds from handing an epoch over to knowing that it is committed, sorted.
fn commits(client: &ClientSettings, run: u32, partitions: usize) -> Vec<f64> {
    let from = topic(client, &format!("bench-c{partitions}-in-{run}"), partitions);
    let to = topic(client, &format!("bench-c{partitions}-out-{run}"), partitions);
    let mut copier = Copier::new(client, &format!("bench-c{partitions}-{run}"), "0", &from, &to);
    while copier.owned.is_empty() {
        copier.step();
    }
    let mut times = Vec::with_capacity(EPOCHS);
    for n in 0..EPOCHS + 50 {
        let result = one_each(partitions, n);
        let group = copier.source.group_metadata().unwrap();
        let begun = Instant::now();
        copier.sink.submit(Epoch { result, group, histories: BTreeMap::new() });
        let outcome = copier.sink.outcome(WAIT).unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        // The first ones open connections.
        if n >= 50 {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        // A member that does not look is taken for dead.
        copier.limits.idle_max = Duration::ZERO;
        copier.step();
    }
    times.sort_by(f64::total_cmp);
    times
}

fn one_each(partitions: usize, n: usize) -> EpochResult {
    let mut result = EpochResult::default();
    for partition in 0..i32::try_from(partitions).unwrap() {
        let position = dce::types::Position { partition, offset: i64::try_from(n).unwrap() };
        result.outputs.push(copier::output(position, "customer", "x", None));
        result.resume.push((partition, position.resume_after()));
    }
    result
}
