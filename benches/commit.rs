//! What transactions cost: epochs committed back to back by one producer and by two in turn, the bytes of markers beside
//! those of records, and for how long one that nobody ends holds up a reader and the next owner of its offsets.
//!
//! `integration/kafka.sh run -- cargo bench --bench commit`; the last line is one JSON object.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench for people")]
#![expect(clippy::disallowed_methods, reason = "it measures time, on the broker that the environment names")]

#[path = "../integration/copier.rs"]
mod copier;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use copier::Copier;
use dce::kafka::client::{ClientSettings, Consumer, ConsumerEvents, Producer, ProducerEvents, Transactional};
use dce::kafka::fence::fence;
use dce::kafka::follow::Lookup;
use dce::kafka::raw::{self, GroupMetadata};
use dce::kafka::topics::{self, Purpose, TopicSpec};
use dce::pipeline::epoch::EpochResult;
use dce::pipeline::sink::{Epoch, Outcome, Sink, SinkHandle};
use dce::stop::Stop;
use dce::types::Position;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

const WAIT: Duration = Duration::from_secs(60);
/// The first epochs open connections.
const WARM_UP: usize = 50;
/// Of a record whose bytes are counted: about an embedding of 64 numbers, which no codec makes smaller.
const VALUE_BYTES: usize = 400;
/// Epochs whose bytes are counted.
const COUNTED: usize = 500;

fn main() {
    let Ok(bootstrap) = std::env::var("DCE_TEST_BOOTSTRAP") else {
        println!("no broker: integration/kafka.sh run -- cargo bench --bench commit");
        return;
    };
    let client = ClientSettings::of(&bootstrap);
    let mut results = serde_json::Map::new();

    for (partitions, epochs) in [(1, 1_000), (8, 1_000), (64, 300)] {
        for producers in [1, 2] {
            let mut bed = Bed::new(&client, &format!("c{partitions}-{producers}"), partitions, producers);
            let times = bed.commits(epochs, 1, 1);
            let at = |percent: usize| times[epochs * percent / 100];
            // An AddPartitionsToTxn that comes before the last transaction's markers are written waits for 20 ms.
            let waited = times.iter().filter(|ms| **ms > 20.0).count() as f64 / epochs as f64 * 100.0;
            let (p50, p90, p99) = (at(50), at(90), at(99));
            println!(
                "epoch of one record in each of {partitions} partitions, back to back, by {producers}: p50 {p50:.2} ms, \
                 p90 {p90:.2} ms, p99 {p99:.2} ms; {waited:.1} % over 20 ms"
            );
            results.insert(format!("commit_{partitions}_by_{producers}_p50_ms"), p50.into());
            results.insert(format!("commit_{partitions}_by_{producers}_p99_ms"), p99.into());
        }
    }
    match std::env::var("DCE_TEST_KAFKA_DIR") {
        Ok(dir) => bytes(&client, &Path::new(&dir).join("data"), &mut results),
        Err(_) => println!("bytes are counted in the broker's own files: not where it is not ours"),
    }
    for fenced in [false, true] {
        let [reader, successor] =
            [Held::Reader, Held::Successor].map(|held| held_up(&client, held, fenced).as_secs_f64());
        let by = if fenced { "by its id" } else { "by the broker, at its timeout" };
        println!(
            "left open, ended {by}: a reader waits for {reader:.2} s, the next owner of the offsets for {successor:.2} s"
        );
        let name = if fenced { "fenced" } else { "left" };
        results.insert(format!("{name}_reader_s"), reader.into());
        results.insert(format!("{name}_successor_s"), successor.into());
    }
    println!("{}", serde_json::Value::Object(results));
}

fn topic(client: &ClientSettings, name: &str, partitions: usize) -> String {
    let name = format!("bench-{name}-{}", std::process::id());
    let spec = TopicSpec::new(&name, partitions, Some(1), Purpose::Log);
    topics::create(client, &[spec], WAIT).unwrap();
    name
}

/// A member of a group and its sinks.
struct Bed {
    copier: Copier,
    others: Vec<SinkHandle>,
    partitions: usize,
    to: String,
}

impl Bed {
    fn new(client: &ClientSettings, name: &str, partitions: usize, producers: usize) -> Self {
        let from = topic(client, &format!("{name}-in"), partitions);
        let to = topic(client, &format!("{name}-out"), partitions);
        let mut copier = Copier::new(client, &from, "0", &from, &to);
        while copier.owned.is_empty() {
            copier.step();
        }
        let other = |n| {
            let settings = Copier::sink_settings(client, &format!("{from}-0-{n}"), &from, &to);
            Sink::spawn(settings, Box::new(copier::encode), &Stop::new()).unwrap()
        };
        Self { others: (1..producers).map(other).collect(), copier, partitions, to }
    }

    /// Milliseconds from handing an epoch over to knowing that it is committed, sorted. Each is handed over when the one
    /// before is known to be.
    fn commits(&mut self, epochs: usize, each: usize, value_bytes: usize) -> Vec<f64> {
        let mut times = Vec::with_capacity(epochs);
        for n in 0..epochs + WARM_UP {
            let result = self.result(n, each, value_bytes);
            let group = self.copier.source.group_metadata().unwrap();
            let turn = n % (self.others.len() + 1);
            let sink = if turn == 0 { &mut self.copier.sink } else { &mut self.others[turn - 1] };
            let begun = Instant::now();
            sink.submit(Epoch { result, group, histories: BTreeMap::new() });
            let outcome = sink.outcome(WAIT).unwrap();
            assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
            if n >= WARM_UP {
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            // A member that does not look is taken for dead.
            self.copier.limits.idle_max = Duration::ZERO;
            self.copier.step();
        }
        times.sort_by(f64::total_cmp);
        times
    }

    fn result(&self, n: usize, each: usize, value_bytes: usize) -> EpochResult {
        let mut result = EpochResult::default();
        for partition in 0..i32::try_from(self.partitions).unwrap() {
            let position = Position { partition, offset: i64::try_from(n).unwrap() };
            let value =
                |record: usize| noise((n * 64 + usize::try_from(partition).unwrap()) * 1_000 + record, value_bytes);
            result.outputs.extend((0..each).map(|record| copier::output(position, "customer", &value(record), None)));
            result.resume.push((partition, position.resume_after()));
        }
        result
    }
}

/// Text that no codec makes much smaller.
fn noise(seed: usize, bytes: usize) -> String {
    let mut state = seed as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 33).to_be_bytes()[7] % 90)
    };
    (0..bytes).map(|_| next()).collect()
}

/// What an epoch leaves on the broker's disk.
fn bytes(client: &ClientSettings, data: &Path, results: &mut serde_json::Map<String, serde_json::Value>) {
    for each in [1, 10, 100] {
        let mut bed = Bed::new(client, &format!("b{each}"), 8, 1);
        let before = ["__consumer_offsets", "__transaction_state"].map(|topic| log_bytes(data, topic));
        bed.commits(COUNTED, each, VALUE_BYTES);
        let epochs = (COUNTED + WARM_UP) as u64;
        let [records, markers] = log_bytes(data, &bed.to).map(|bytes| bytes / epochs);
        let [offsets, states] = ["__consumer_offsets", "__transaction_state"].map(|topic| log_bytes(data, topic));
        let offsets = (offsets.iter().sum::<u64>() - before[0].iter().sum::<u64>()) / epochs;
        let states = (states.iter().sum::<u64>() - before[1].iter().sum::<u64>()) / epochs;
        println!(
            "epoch of {each} records of {VALUE_BYTES} bytes in each of 8 partitions: {records} bytes of records, {markers} of \
             their markers, {offsets} of offsets and their markers, {states} of the coordinator's log"
        );
        results.insert(format!("bytes_{each}_records"), records.into());
        results.insert(format!("bytes_{each}_markers"), markers.into());
        results.insert(format!("bytes_{each}_offsets"), offsets.into());
        results.insert(format!("bytes_{each}_coordinator"), states.into());
    }
}

/// Of the segments of all partitions of a topic: batches of records, and control batches (markers).
fn log_bytes(data: &Path, topic: &str) -> [u64; 2] {
    let mut sums = [0, 0];
    let folders = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let of_topic = |path: &Path| {
        path.file_name().unwrap().to_str().unwrap().rsplit_once('-').is_some_and(|(name, _)| name == topic)
    };
    for folder in folders.filter(|path| of_topic(path)) {
        for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read(file).unwrap();
                let mut at = 0;
                // A batch: offset 8, length 4, leader epoch 4, magic 1, CRC 4, attributes 2 (bit 5: control), …
                while let Some(head) = log.get(at..at + 23) {
                    let length = u32::from_be_bytes(head[8..12].try_into().unwrap()) as usize + 12;
                    let is_control = head[22] & 0x20 != 0;
                    if length == 12 {
                        break;
                    }
                    sums[usize::from(is_control)] += length as u64;
                    at += length;
                }
            }
        }
    }
    sums
}

/// Who waits for a transaction to end.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// Of committed records.
    Reader,
    /// Who asks for the offsets to go on from.
    Successor,
}

/// From the death of a producer in mid-transaction until the one who waits goes on.
fn held_up(client: &ClientSettings, held: Held, fenced: bool) -> Duration {
    let name = format!("{held:?}-{fenced}").to_lowercase();
    let (from, to) = (topic(client, &format!("{name}-in"), 1), topic(client, &format!("{name}-out"), 1));
    let transactional =
        Transactional { id: &from, timeout: dce::kafka::client::TRANSACTION_TIMEOUT, buffer_kbytes: 64 };
    let config = client.transactional(&transactional);
    let producer = Producer::from_config_and_context(&config, ProducerEvents::default()).unwrap();
    producer.init_transactions(WAIT).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::to(&to).partition(0).key("k").payload("half")).unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&from, 0, Offset::Offset(1)).unwrap();
    let group = GroupMetadata::without_membership(&from).unwrap();
    assert!(raw::flush(producer.client(), WAIT));
    raw::send_offsets(producer.client(), &offsets, &group, WAIT).unwrap();
    // Nothing of this ends the transaction, as nothing does of a process that is killed.
    drop(producer);

    let plain = Producer::from_config_and_context(&client.plain_producer(), ProducerEvents::default()).unwrap();
    plain.send(BaseRecord::to(&to).partition(0).key("k").payload("whole")).unwrap();
    assert!(raw::flush(plain.client(), WAIT));
    let reader = Consumer::from_config_and_context(&client.reader("bench", 1_024), ConsumerEvents::default()).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&to, 0, Offset::Beginning).unwrap();
    reader.assign(&list).unwrap();
    let lookup = Lookup::new(client, &from).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        if fenced {
            scope.spawn(|| fence(client, &from, WAIT).unwrap());
        }
        match held {
            Held::Successor => drop(lookup.committed(&from, &[0], WAIT).unwrap()),
            Held::Reader => loop {
                if let Some(Ok(message)) = reader.poll(WAIT) {
                    assert_eq!(message.payload(), Some(&b"whole"[..]));
                    break;
                }
            },
        }
        begun.elapsed()
    })
}
