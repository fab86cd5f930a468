//! What Kafka alone costs: small epochs committed back to back, and records copied through source and sink with nothing
//! between them, beside the barest loop of the same client (batches in, records out, the same transactions).
//!
//! `integration/kafka.sh run -- cargo bench --bench kafka_loop [-- RECORDS]`; the last line is one JSON object.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench for people")]
#![expect(clippy::disallowed_methods, reason = "it measures time, on the broker that the environment names")]

#[path = "../integration/copier.rs"]
mod copier;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use copier::Copier;
use dce::kafka::client::{ClientSettings, TRANSACTION_TIMEOUT, Transactional};
use dce::kafka::raw;
use dce::kafka::topics::{self, Purpose, TopicSpec};
use dce::pipeline::epoch::EpochResult;
use dce::pipeline::sink::{Epoch, Outcome};
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

const WAIT: Duration = Duration::from_secs(60);
const PARTITIONS: usize = 8;
const EPOCHS: usize = 1_000;
const ROUNDS: usize = 3;
/// About a click as JSON.
const VALUE_BYTES: usize = 250;

fn main() {
    let Ok(bootstrap) = std::env::var("DCE_TEST_BOOTSTRAP") else {
        println!("no broker: integration/kafka.sh run -- cargo bench --bench kafka_loop");
        return;
    };
    let records = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
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

    let from = topic(&client, &format!("bench-in-{run}"), PARTITIONS);
    fill(&client, &from, records);
    // In turn, since the machine and the broker's caches change; the best round of each counts.
    let mut best = [Speed::default(); 2];
    for round in 0..ROUNDS {
        let to = topic(&client, &format!("bench-bare-{run}-{round}"), PARTITIONS);
        let bare = Speed::of(records, || bare(&client, &from, &to, records));
        let to = topic(&client, &format!("bench-loop-{run}-{round}"), PARTITIONS);
        let looped = Speed::of(records, || looped(&client, &format!("bench-{run}-{round}"), &from, &to, records));
        println!("{records} records of {VALUE_BYTES} bytes: bare loop {bare}; source and sink {looped}");
        best = [best[0].better(bare), best[1].better(looped)];
    }
    results.insert("bare_records_per_s".to_owned(), best[0].per_s.round().into());
    results.insert("loop_records_per_s".to_owned(), best[1].per_s.round().into());
    results.insert("bare_cpu_ns".to_owned(), best[0].cpu_ns.round().into());
    results.insert("loop_cpu_ns".to_owned(), best[1].cpu_ns.round().into());
    results.insert("loop_to_bare".to_owned(), (best[1].per_s / best[0].per_s).into());
    println!("{}", serde_json::Value::Object(results));
}

#[derive(Clone, Copy)]
struct Speed {
    per_s: f64,
    /// Of this process, the client's threads included, a record.
    cpu_ns: f64,
}

impl Default for Speed {
    fn default() -> Self {
        Self { per_s: 0.0, cpu_ns: f64::INFINITY }
    }
}

impl Speed {
    fn of(records: usize, run: impl FnOnce() -> f64) -> Self {
        let before = cpu_s();
        let seconds = run();
        Self { per_s: records as f64 / seconds, cpu_ns: (cpu_s() - before) * 1e9 / records as f64 }
    }

    fn better(self, other: Self) -> Self {
        Self { per_s: self.per_s.max(other.per_s), cpu_ns: self.cpu_ns.min(other.cpu_ns) }
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}/s, {:.0} ns of CPU each", self.per_s, self.cpu_ns)
    }
}

/// Seconds that this process has used, by the kernel's count of hundredths.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn topic(client: &ClientSettings, name: &str, partitions: usize) -> String {
    let spec = TopicSpec::new(name, partitions, Some(1), Purpose::Log);
    topics::create(client, &[spec], WAIT).unwrap();
    name.to_owned()
}

fn fill(client: &ClientSettings, topic: &str, records: usize) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ThreadedProducer::from_config_and_context(&client.plain_producer(), DefaultProducerContext).unwrap();
    let value: String = (0..VALUE_BYTES).map(|n| char::from(b'a' + u8::try_from(n * 7 % 26).unwrap())).collect();
    for n in 0..records {
        let key = format!("customer-{}", n % 10_000);
        let mut record =
            BaseRecord::to(topic).partition(i32::try_from(n % 10_000 % PARTITIONS).unwrap()).key(&key).payload(&value);
        while let Err((_, unsent)) = producer.send(record) {
            record = unsent;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    producer.flush(WAIT).unwrap();
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

fn looped(client: &ClientSettings, application: &str, from: &str, to: &str, records: usize) -> f64 {
    let mut copier = Copier::new(client, application, "0", from, to);
    while copier.owned.is_empty() {
        copier.step();
    }
    let begun = Instant::now();
    while copier.committed < records as u64 {
        copier.step();
    }
    copier.finish();
    begun.elapsed().as_secs_f64()
}

/// Without a group, threads or any work on a record: batches of the client's own call, each record sent on.
fn bare(client: &ClientSettings, from: &str, to: &str, records: usize) -> f64 {
    use dce::kafka::client::{Consumer, ConsumerEvents, Producer, ProducerEvents};
    use rdkafka::consumer::Consumer as _;
    let config: ClientConfig = client.reader("bench-bare", 32 << 10);
    let consumer = std::sync::Arc::new(Consumer::from_config_and_context(&config, ConsumerEvents::default()).unwrap());
    let mut queue = raw::FetchQueue::new(std::sync::Arc::clone(&consumer));
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(PARTITIONS).unwrap() {
        queue.forward(&std::ffi::CString::new(from).unwrap(), partition).unwrap();
        list.add_partition_offset(from, partition, Offset::Beginning).unwrap();
    }
    let transactional = Transactional { id: to, timeout: TRANSACTION_TIMEOUT, buffer_kbytes: 128 << 10 };
    let config = client.transactional(&transactional);
    let producer = Producer::from_config_and_context(&config, ProducerEvents::default()).unwrap();
    producer.init_transactions(WAIT).unwrap();
    consumer.assign(&list).unwrap();
    let begun = Instant::now();
    let mut done = 0;
    while done < records {
        let mut messages = queue.messages();
        queue.take(&mut messages, 10_000, Duration::from_millis(5));
        if messages.is_empty() {
            continue;
        }
        producer.begin_transaction().unwrap();
        for message in messages.iter() {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(to).partition(message.partition());
            (record.key, record.payload) = (message.key(), message.value());
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        raw::commit_transaction(producer.client(), WAIT).unwrap();
        done += messages.len();
    }
    begun.elapsed().as_secs_f64()
}
