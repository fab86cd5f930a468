//! Restoring a million customers at rest from the state's log, beside a bare consumer of the same topic; and what they take of
//! memory. On the broker that the environment names.
//!
//! `integration/kafka.sh run -- cargo bench --bench restore`; the last line is one JSON object. `CUSTOMERS=N` for another number.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench for people")]
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers of its own making")]
#![expect(clippy::disallowed_methods, reason = "it measures time, on the broker that the environment names")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dce::config::{Config, Delivery, Layers};
use dce::kafka::client::ClientSettings;
use dce::kafka::follow::Lookups;
use dce::kafka::reader::{Span, SpanReader};
use dce::kafka::topics::{self, Inspector, Purpose, TopicSpec};
use dce::model::features::hours;
use dce::pipeline::history::{History, UnknownIds};
use dce::pipeline::log::{Head, Key, begin_rest};
use dce::pipeline::partitions::Partitions;
use dce::pipeline::sink::{OutputTopics, SinkSettings};
use dce::pipeline::source::SourceSettings;
use dce::pipeline::state::{Event, Plan, Reading};
use dce::types::{Moment, ResumeAt};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

const WAIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;
/// Of the shipped bundle.
const STATE: usize = 64;
const EMBEDDING: usize = 64;
const PREFETCH_KBYTES: u32 = 64 << 10;
const TERMS: u64 = 7;

fn main() {
    let Ok(bootstrap) = std::env::var("DCE_TEST_BOOTSTRAP") else {
        println!("no broker: integration/kafka.sh run -- cargo bench --bench restore");
        return;
    };
    let customers: u64 = std::env::var("CUSTOMERS").map_or(1_000_000, |text| text.parse().unwrap());
    let client = ClientSettings::of(&bootstrap);
    let run = std::process::id();
    let (clicks, log, group) = (format!("clicks-{run}"), format!("state-{run}"), format!("restore-{run}"));
    let specs = [(&clicks, Purpose::Log), (&log, Purpose::State)];
    let specs = specs.map(|(name, purpose)| TopicSpec::new(name, PARTITIONS as usize, None, purpose));
    topics::create(&client, &specs, WAIT).unwrap();
    let bytes = fill(&client, &log, customers);
    commit(&client, &clicks, &group);

    // A worker has them for as long as it lives: they find the group's coordinator once.
    let lookups = Lookups::start(&client, &group, &clicks).unwrap();
    assert_eq!(lookups.decided.committed(&clicks, &[0], WAIT).unwrap().len(), 1);
    let plan = || Plan {
        input: SourceSettings {
            client: client.clone(),
            topic: clicks.clone(),
            application: group.clone(),
            slot: "0".to_owned(),
            prefetch_kbytes: PREFETCH_KBYTES,
        },
        sink: SinkSettings {
            client: client.clone(),
            delivery: Delivery::ExactlyOnce,
            transactional_id: format!("{group}-0"),
            transaction_timeout: Duration::from_secs(8),
            buffer_kbytes: 1 << 10,
            input: clicks.clone(),
            topics: OutputTopics {
                embeddings: clicks.clone(),
                live: None,
                sessions: None,
                rejected: clicks.clone(),
                state: log.clone(),
            },
        },
        lookups: Arc::clone(&lookups),
        terms: TERMS,
        store: None,
        cache_bytes: 0,
        doubted: BTreeMap::new(),
    };
    let rules = Config::load(&Layers::default()).unwrap().session;
    let (mut bare, mut restored, mut begun_after, mut per_customer) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for round in 0..5 {
        bare.push(bare_consumer(&client, &log, &group));
        let before = resident_bytes();
        let begun = Instant::now();
        let partitions: Vec<i32> = (0..PARTITIONS).collect();
        let mut reading = Reading::start(plan(), &partitions);
        let mut states = Partitions::default();
        let mut reads_since = None;
        while !reading.wanted.is_empty() {
            if reads_since.is_none() && reading.progress().1 > 0 {
                reads_since = Some(begun.elapsed().as_secs_f64());
            }
            match reading.poll() {
                None => std::thread::sleep(Duration::from_micros(200)),
                Some(Event::Log(found, logged, _)) => states.restore(found.partition, &rules, STATE, *logged).unwrap(),
                Some(Event::Complete(done)) => done.iter().for_each(|partition| _ = reading.wanted.remove(partition)),
                Some(Event::Again(_)) => panic!("nothing is to be done again"),
                Some(Event::Failed(error)) => panic!("{error}"),
            }
        }
        restored.push(begun.elapsed().as_secs_f64());
        begun_after.push(reads_since.unwrap());
        println!("    bare {:.3} s, restore {:.3} s", bare[round], restored[round]);
        // Its client and what that had fetched go with it.
        drop(reading);
        std::thread::sleep(Duration::from_secs(1));
        if round == 0 {
            per_customer = (resident_bytes() - before) / customers as f64;
            assert_eq!(states.rest().0, customers);
            let known = states.states(0, STATE);
            assert!(known.values().all(|state| state.len() == STATE), "the records are such as dce writes");
        }
    }
    let (bare, restored, begun_after) = (median(bare), median(restored), median(begun_after));
    let ratio = bare / restored;
    let allowed = 4 * (STATE + EMBEDDING) + ID_BYTES + 24;
    println!(
        "{customers} customers, {:.0} MB of log in {PARTITIONS} partitions, medians of 5 rounds in turn",
        bytes / 1e6
    );
    println!("  a bare consumer   {:>8.0} MB/s", bytes / bare / 1e6);
    println!(
        "  restore           {:>8.0} MB/s   {:.2} of it; {:.0} customers/s",
        bytes / restored / 1e6,
        ratio,
        customers as f64 / restored
    );
    println!("                    {:>8.0} ms of it until it is known what is to be read", begun_after * 1e3);
    println!(
        "  memory            {per_customer:>8.0} bytes a customer; 4 (H + E) + id + key are {allowed}: {:.2}",
        per_customer / allowed as f64
    );
    println!(
        "{}",
        serde_json::json!({
            "customers": customers, "log_bytes": bytes, "bare_bytes_per_s": bytes / bare, "restore_bytes_per_s": bytes / restored,
            "restore_ratio": ratio, "found_s": begun_after, "customers_per_s": customers as f64 / restored, "customer_bytes": per_customer,
            "customer_bytes_ratio": per_customer / allowed as f64,
        })
    );
}

/// `customer-` and eight digits.
const ID_BYTES: usize = 17;

/// A customer of one session, as `dce` writes it. Where the layouts change, the check in `main` fails.
fn record(number: u64) -> Vec<u8> {
    let time = 1_700_000_000_000 + number * 1_000;
    let mut into = begin_rest(1_000);
    into.number(1); // sequence
    into.number(time + 1); // frozen_at
    into.number(0); // floor
    into.count(1); // ends
    into.fixed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    into.number(time);
    into.count(1);
    (0..3).for_each(|_| into.count(0)); // tags, open, folded
    let vector =
        |salt: u64, len: usize| -> Vec<f32> { (0..len as u64).map(|at| hours((number + at) * salt)).collect() };
    into.option(Some(()), |into, ()| {
        into.option(Some(()), |into, ()| {
            (0..3).for_each(|_| into.number(time));
            into.floats(&vector(7_919, STATE));
        });
        into.option(Some(()), |into, ()| {
            into.number(time);
            into.floats(&vector(104_729, EMBEDDING));
        });
        into.count(0);
        into.count(0);
    });
    into.into_bytes()
}

/// Gives the bytes of keys and values.
fn fill(client: &ClientSettings, log: &str, customers: u64) -> f64 {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ThreadedProducer::from_config_and_context(&client.plain_producer(), DefaultProducerContext).unwrap();
    let mut bytes = 0;
    let mut send = |partition: i32, key: &[u8], value: &[u8]| {
        bytes += key.len() + value.len();
        let mut record = BaseRecord::to(log).partition(partition).key(key).payload(value);
        while let Err((_, unsent)) = producer.send(record) {
            record = unsent;
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    for number in 0..customers {
        let key = Key::Rest(&format!("customer-{number:08}")).pack();
        send((number % PARTITIONS as u64) as i32, &key, &record(number));
    }
    for partition in 0..PARTITIONS {
        let logged = (customers + PARTITIONS as u64 - 1 - partition as u64) / PARTITIONS as u64;
        let head = Head {
            epoch: 1,
            before: 0,
            resume: 1_000,
            redo_from: 1_000,
            redo_stream_time: Moment::from_bits(1),
            logged,
        };
        send(partition, &Key::Head.pack(), &head.pack());
    }
    producer.flush(WAIT).unwrap();
    bytes as f64
}

/// As a worker would have committed.
fn commit(client: &ClientSettings, clicks: &str, group: &str) {
    let consumer: BaseConsumer = client.reader(group, 1 << 10).create().unwrap();
    let history = History {
        begun: ResumeAt(0),
        fingerprint: TERMS,
        state_epoch: 1,
        partitions: 4,
        unknown: UnknownIds::default(),
    };
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let mut element = list.add_partition(clicks, partition);
        element.set_offset(Offset::Offset(1_000)).unwrap();
        element.set_metadata(history.to_metadata());
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

/// Seconds to read the topic and do nothing with it.
fn bare_consumer(client: &ClientSettings, log: &str, group: &str) -> f64 {
    let begun = Instant::now();
    let inspector = Inspector::new(client).unwrap();
    let spans: Vec<Span> = (0..PARTITIONS)
        .map(|partition| {
            let (low, high) = inspector.watermarks(log, partition, WAIT).unwrap();
            Span { partition, from: ResumeAt(low), until: ResumeAt(high) }
        })
        .collect();
    let mut reader = SpanReader::start(client, group, log, &spans, PREFETCH_KBYTES, WAIT).unwrap();
    while reader.next(2_000).unwrap().is_some() {}
    begun.elapsed().as_secs_f64()
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4_096.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
