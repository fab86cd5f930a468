//! Prints the embeddings of a topic as they are committed, one line each: a reader as a fraud team would write one.
//! `cargo run --example print_embeddings -- HOST:PORT [TOPIC]`
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own")]

use std::time::Duration;

use anyhow::Context as _;
use dce::wire::avro::Schemas;
use dce::wire::embedding::CustomerEmbedding;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().context("usage: print_embeddings HOST:PORT [TOPIC]")?;
    let topic = arguments.next().unwrap_or_else(|| "customer-embeddings".to_owned());
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("group.id", "print-embeddings")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed") // Without it records of aborted epochs are seen, and come again.
        .create()?;
    consumer.subscribe(&[&topic])?;
    let schemas = Schemas::released();
    loop {
        let Some(message) = consumer.poll(Duration::from_secs(1)) else { continue };
        let message = message?;
        let customer = String::from_utf8_lossy(message.key().unwrap_or_default());
        let Some(value) = message.payload() else {
            println!("{customer}  erased");
            continue;
        };
        let record = CustomerEmbedding::decode(value, &schemas)?;
        let shift = record.cosine_shift.map_or("first".to_owned(), |shift| format!("moved {shift:.4}"));
        println!(
            "{customer}  #{}  {}  {} events  {shift}  [{:.3}, {:.3}, …] by {}",
            record.sequence,
            record.kind.as_str(),
            record.cause.event_count,
            record.embedding[0],
            record.embedding[1],
            record.model.as_str(),
        );
    }
}
