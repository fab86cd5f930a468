//! Flags sessions in which a customer's embedding moves further than is usual: a reader as a fraud team would begin one.
//! It reads the live topic, so a session is judged while it is open. `flag_takeovers.py` does the same, line by line; the
//! judgement stands in `detector.rs`.
//! `cargo run --example flag_takeovers -- HOST:PORT [--topic T] [--until-end] [--labels labels.csv]`
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own")]

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use dce::wire::avro::Schemas;
use dce::wire::embedding::CustomerEmbedding;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList, error::KafkaError};

mod detector;

use detector::Detector;

/// Customers, and when a thief's session began.
type Thefts = HashSet<(String, i64)>;

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
