//! Flags sessions in which a customer's embedding moves further than is usual: a reader as a fraud team would begin one.
//! It reads the live topic, so a session is judged while it is open. `flag_takeovers.py` does the same, line by line.
//! `cargo run --example flag_takeovers -- HOST:PORT [--topic T] [--until-end] [--labels labels.csv]`
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::Context as _;
use dce::wire::avro::Schemas;
use dce::wire::embedding::CustomerEmbedding;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList, error::KafkaError};

const ALWAYS: f64 = 0.99; // Beyond this quantile of the usual distances a session is flagged,
const NEW_DEVICE: f64 = 0.5; // and beyond this one if the customer was never seen with its device.
const OWN_MIN: usize = 20; // With so many distances a customer is measured by his own, else by everybody's.
const ALL_MIN: usize = 200; // Before nothing is usual.
const DISTANCES_MAX: usize = 2000;

#[derive(Default)]
struct Customer {
    sequence: u64,
    last: Option<CustomerEmbedding>, // The last settled one.
    distances: Vec<f64>,             // Between settled ones, in order of size.
    devices: HashSet<String>,
}

#[derive(Default)]
struct Detector {
    customers: HashMap<String, Customer>,
    all: HashMap<i32, Vec<f64>>, // By partition: what is flagged does not depend on how a reader mixes them.
    compared: HashMap<String, bool>, // Sessions, and whether a label says that they are a thief's.
    flagged: HashMap<String, &'static str>,
    gaps: u64,
    repeats: u64,
}

/// Customers, and when a thief's session began.
type Thefts = HashSet<(String, i64)>;

impl Detector {
    fn see(&mut self, partition: i32, record: &CustomerEmbedding, is_stolen: bool) {
        let (id, sequence) = (record.customer_id.as_str(), record.sequence);
        let customer = self.customers.entry(id.to_owned()).or_default();
        if customer.sequence > 0 && sequence <= customer.sequence {
            self.repeats += 1; // Read committed there is none; another reader keeps the first.
            return println!("repeat customer={id} sequence={sequence}");
        }
        if customer.sequence > 0 && sequence > customer.sequence + 1 {
            self.gaps += 1;
            println!("gap customer={id} sequence={sequence} after {}", customer.sequence);
        }
        customer.sequence = sequence;
        let device = record.cause.device_id.as_deref().unwrap_or("").to_owned();
        let all = self.all.entry(partition).or_default();
        // Vectors of two models cannot be compared, and a cold start has nothing before it.
        let last = customer.last.as_ref().filter(|last| last.model == record.model && !record.cold_start);
        let distance = last.map(|last| distance(&last.embedding, &record.embedding));
        if let Some(distance) = distance.filter(|_| all.len() >= ALL_MIN) {
            let is_new = !customer.devices.contains(&device);
            let usual = if customer.distances.len() >= OWN_MIN { &customer.distances } else { &*all };
            let limit = quantile(usual, if is_new { NEW_DEVICE } else { ALWAYS });
            let (uid, as_of) = (record.cause.session_uid.to_string(), record.as_of.ms());
            *self.compared.entry(uid.clone()).or_default() |= is_stolen;
            let why = match (record.gate < 0.5, distance > limit, is_new) {
                (true, ..) => "gate", // The model itself kept the session out of the state.
                (false, true, true) => "new-device",
                (false, true, false) => "distance",
                (false, false, _) => "",
            };
            if !why.is_empty() && !self.flagged.contains_key(&uid) {
                print!("flag customer={id} session={uid} distance={distance:.4} limit={limit:.4}");
                println!(" as_of={as_of} device={device} why={why}");
                self.flagged.insert(uid, why);
            }
        }
        if record.kind.is_settled() && record.gate >= 0.5 {
            if let Some(distance) = distance {
                learn(&mut customer.distances, distance);
                learn(all, distance);
            }
            customer.last = Some(record.clone());
            customer.devices.insert(device);
        }
    }

    fn score(&self) {
        let share = |part: usize, of: usize| format!("{part} of {of} ({:.4})", part as f64 / of.max(1) as f64);
        let stolen = self.compared.values().filter(|stolen| **stolen).count();
        println!("base rate: {} sessions", share(stolen, self.compared.len()));
        for why in ["any", "distance", "gate", "new-device"] {
            let flagged: Vec<_> = self.flagged.iter().filter(|(_, by)| why == "any" || **by == why).collect();
            let right = flagged.iter().filter(|(uid, _)| self.compared[*uid]).count();
            println!("why={why}: precision {}, recall {}", share(right, flagged.len()), share(right, stolen));
        }
    }
}

/// 1 − cosine; the vectors have unit length.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    1.0 - a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
}

fn learn(distances: &mut Vec<f64>, distance: f64) {
    distances.insert(distances.partition_point(|other| *other < distance), distance);
    if distances.len() > DISTANCES_MAX {
        *distances = distances.iter().copied().step_by(2).collect(); // Its quantiles stay, and what is new weighs more.
    }
}

fn quantile(distances: &[f64], share: f64) -> f64 {
    distances[(distances.len() as f64 * share) as usize]
}

/// The thefts in a `labels.csv`.
fn read_labels(path: &String) -> anyhow::Result<Thefts> {
    let text = std::fs::read_to_string(path).with_context(|| path.clone())?;
    let theft = |line: &str| match line.split(',').collect::<Vec<_>>()[..] {
        ["owner", customer, _, at, "1", _] => Some((customer.to_owned(), at.parse().ok()?)),
        _ => None,
    };
    Ok(text.lines().filter_map(theft).collect())
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    let usage = "usage: flag_takeovers HOST:PORT [--topic T] [--until-end] [--labels labels.csv]";
    let bootstrap = arguments.first().filter(|first| !first.starts_with('-')).context(usage)?;
    let topic = value("--topic").map_or("customer-embeddings-live", String::as_str);
    let labels = value("--labels").map(read_labels).transpose()?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "flag-takeovers")
        .set("isolation.level", "read_committed") // Without it records of aborted epochs are seen, and come again.
        .set("enable.auto.commit", "false") // What it learns is in memory, so it begins at the beginning.
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(15))?;
    let mut ahead: HashSet<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    anyhow::ensure!(!ahead.is_empty(), "topic {topic} does not exist");
    let mut list = TopicPartitionList::new();
    ahead.iter().try_for_each(|partition| list.add_partition_offset(topic, *partition, Offset::Beginning))?;
    consumer.assign(&list)?;
    let (schemas, mut detector, mut records) = (Schemas::released(), Detector::default(), 0_u64);
    let until_end = arguments.iter().any(|argument| argument == "--until-end");
    while !(until_end && ahead.is_empty()) {
        let message = match consumer.poll(Duration::from_secs(1)) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ahead.remove(&partition);
                continue;
            }
            Some(message) => message?,
        };
        records += 1;
        let Some(value) = message.payload() else {
            detector.customers.remove(&*String::from_utf8_lossy(message.key().unwrap_or_default())); // Erased.
            continue;
        };
        let record = CustomerEmbedding::decode(value, &schemas)?;
        let session = (record.customer_id.as_str().to_owned(), record.cause.session_start.ms());
        let is_stolen = labels.as_ref().is_some_and(|thefts| thefts.contains(&session));
        detector.see(message.partition(), &record, is_stolen);
    }
    let (compared, flagged) = (detector.compared.len(), detector.flagged.len());
    print!("read {records} records; compared {compared} sessions, flagged {flagged}; ");
    println!("{} gaps, {} repeats", detector.gaps, detector.repeats);
    labels.iter().for_each(|_| detector.score());
    Ok(())
}
