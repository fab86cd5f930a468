//! From the moment at which a click is due to the moment at which a reader of committed records holds the embedding
//! that it caused. Open loop: clicks are due at a steady rate whatever the pipeline does, and one that is sent late counts
//! from when it was due, so that a pipeline that stalls cannot hide it (no coordinated omission).

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::producer::{DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

use super::clicks::Raw;
use super::field::{Field, STOPPED, WAIT, send};
use super::measure::{cpu_s, now, quantile};
use crate::cli::run::worker_settings;
use crate::config::{Config, Delivery};
use crate::health::Health;
use crate::kafka::client::{ClientSettings, Consumer, ConsumerEvents};
use crate::kafka::raw::FetchQueue;
use crate::model::Model;
use crate::pipeline::worker::{self, Watch};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::{EpochStats, Metrics};

/// What a load gave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Clicks a second, offered, and gone through.
    pub(super) offered: f64,
    pub(super) through: f64,
    pub(super) embeddings: usize,
    /// Milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) epochs: u64,
    /// Of keys and values read, and of the markers between them.
    pub(super) data_bytes: u64,
    pub(super) marker_bytes: u64,
    /// CPU of this process a click, that of the load and of the reader included, in nanoseconds.
    pub(super) cpu_ns: f64,
}

/// A control batch of one record: 61 bytes of batch header, 17 of record.
const MARKER_BYTES: u64 = 78;
/// Samples of the beginning that do not count: connections and caches.
const WARM_UP: f64 = 0.1;

/// What the reader needs of an embedding.
#[derive(Deserialize)]
struct Cause {
    source_partition: usize,
    source_offset: usize,
}

/// One load: `rate` clicks a second, `None` for all at once.
pub(super) fn point(
    field: &mut Field<'_>,
    model: &mut dyn Model,
    records: &[Raw],
    delivery: Delivery,
    rate: Option<f64>,
) -> anyhow::Result<Point> {
    let input = field.topic("input")?;
    let mut config = field.pipeline(&input)?;
    config.delivery = delivery;
    let shared = Shared::new(&field.stop);
    let begun = now();
    let (client, partitions) = (field.client.clone(), field.partitions);
    let (ran, load, read) = std::thread::scope(|scope| {
        let load = scope.spawn(|| shared.or_stop(offer(&client, &input, records, rate, &shared)));
        let read = scope.spawn(|| shared.or_stop(read(&client, &config, partitions, records, &shared)));
        let ran = shared.or_stop(run(&config, model, records.len() as u64, &shared));
        (ran, load.join(), read.join())
    });
    ensure!(!field.stop.is_stopped(), STOPPED);
    let (ran, load, read) = (ran?, flat(load)?, flat(read)?);
    let first_due = load.first_due;
    // Where each partition's k-th record was due.
    let mut due: Vec<Vec<f64>> = vec![Vec::new(); partitions];
    for (n, record) in records.iter().enumerate() {
        due[usize::try_from(record.partition)?].push(rate.map_or(0.0, |rate| n as f64 / rate));
    }
    let start = first_due.duration_since(begun).as_secs_f64();
    let mut latencies = Vec::with_capacity(read.seen.len());
    let warm = rate.map_or(0.0, |rate| records.len() as f64 / rate * WARM_UP);
    for (partition, offset, at) in &read.seen {
        let due = due[*partition].get(*offset).copied().context("an embedding of a record that was not written")?;
        if due >= warm {
            latencies.push((at.duration_since(begun).as_secs_f64() - start - due) * 1e3);
        }
    }
    latencies.sort_by(f64::total_cmp);
    let used = field.offsets(&config.topics.embeddings)?;
    let markers = used.saturating_sub(read.table_records);
    field.remove_all_but(&[])?;
    Ok(Point {
        offered: rate.unwrap_or(f64::INFINITY),
        through: ran.through,
        embeddings: latencies.len(),
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        p999: quantile(&latencies, 0.999),
        epochs: ran.epochs,
        data_bytes: read.bytes,
        marker_bytes: markers * MARKER_BYTES,
        cpu_ns: ran.cpu_ns,
    })
}

fn flat<T>(joined: std::thread::Result<anyhow::Result<T>>) -> anyhow::Result<T> {
    joined.map_err(|_| anyhow!("a thread of the bench panicked"))?
}

/// What the three threads tell each other.
struct Shared {
    /// Partitions are assigned: the load may begin.
    ready: AtomicBool,
    /// One has failed: the others end.
    failed: AtomicBool,
    /// The user's.
    wish: Stop,
    /// Embeddings that the pipeline has written; known when it is done.
    expected: AtomicU64,
    done: AtomicBool,
}

impl Shared {
    fn new(wish: &Stop) -> Self {
        Self {
            ready: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            wish: wish.clone(),
            expected: AtomicU64::new(0),
            done: AtomicBool::new(false),
        }
    }

    fn or_stop<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        if result.is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
        result
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst) || self.wish.is_stopped()
    }
}

struct Load {
    first_due: Instant,
}

fn offer(
    client: &ClientSettings,
    topic: &str,
    records: &[Raw],
    rate: Option<f64>,
    shared: &Shared,
) -> anyhow::Result<Load> {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ThreadedProducer::from_config_and_context(&client.plain_producer(), DefaultProducerContext)?;
    // Or its first record would wait for a second until the client looks for the topic: a user's producer knows it.
    producer.client().fetch_metadata(Some(topic), WAIT)?;
    while !shared.ready.load(Ordering::SeqCst) && !shared.has_failed() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let first_due = now();
    for (n, record) in records.iter().enumerate() {
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(n as f64 / rate);
            let early = due.saturating_sub(first_due.elapsed());
            // Below that, a sleep is longer than what it waits for.
            if early > Duration::from_micros(200) {
                std::thread::sleep(early);
            }
        }
        if n % 1_024 == 0 && shared.has_failed() {
            break;
        }
        send(&producer, topic, record)?;
    }
    producer.flush(WAIT)?;
    Ok(Load { first_due })
}

struct Through {
    through: f64,
    epochs: u64,
    cpu_ns: f64,
}

fn run(config: &Config, model: &mut dyn Model, records: u64, shared: &Shared) -> anyhow::Result<Through> {
    let (clock, stop, metrics) = (Clock::start(), Stop::new(), Metrics::new());
    let health = Health::new(clock.uptime());
    let (mut done, mut embeddings, mut epochs, mut first) = (0, 0, 0, None);
    let mut committed = |stats: &EpochStats| {
        if first.is_none() {
            first = Some((now(), cpu_s(), stats.records));
        }
        done += stats.records;
        embeddings += stats.embeddings.iter().sum::<u64>();
        epochs += 1;
        if done >= records {
            stop.stop();
        }
    };
    let mut watch = Watch { clock, health: &health, metrics: &metrics, committed: &mut committed };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while health.readiness(clock.uptime()).is_err() && !shared.has_failed() && !stop.is_stopped() {
                std::thread::sleep(Duration::from_millis(1));
            }
            shared.ready.store(true, Ordering::SeqCst);
            while !shared.has_failed() && !stop.wait(Duration::from_millis(50)) {}
            stop.stop();
        });
        let ran = worker::run(&worker_settings(config), model, &mut watch, &stop);
        stop.stop();
        ran
    })?;
    let (begun, cpu, before) = first.context("nothing was committed")?;
    let counted = (done - before).max(1) as f64;
    let through =
        Through { through: counted / begun.elapsed().as_secs_f64(), epochs, cpu_ns: (cpu_s() - cpu) * 1e9 / counted };
    shared.expected.store(embeddings, Ordering::SeqCst);
    shared.done.store(true, Ordering::SeqCst);
    Ok(through)
}

#[derive(Default)]
struct Read {
    /// Source partition and offset, and when it was read.
    seen: Vec<(usize, usize, Instant)>,
    bytes: u64,
    table_records: u64,
}

/// Every embedding: of the live topic where there is one, since it holds the table's too.
fn read(
    client: &ClientSettings,
    config: &Config,
    partitions: usize,
    records: &[Raw],
    shared: &Shared,
) -> anyhow::Result<Read> {
    ensure!(config.encoding == crate::config::Encoding::Json, "the latency is measured with encoding = \"json\"");
    let topic = config.topics.embeddings_live.as_ref().unwrap_or(&config.topics.embeddings);
    let consumer = Consumer::from_config_and_context(&client.reader("dce-bench", 32 << 10), ConsumerEvents::default())?;
    let consumer = Arc::new(consumer);
    let mut queue = FetchQueue::new(Arc::clone(&consumer));
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions)? {
        queue.forward(&CString::new(topic.as_str())?, partition)?;
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut read = Read { seen: Vec::with_capacity(records.len() / 4), ..Read::default() };
    let mut since_done: Option<Instant> = None;
    while !shared.has_failed() {
        let mut messages = queue.messages();
        queue.take(&mut messages, 1, Duration::from_millis(20));
        queue.take(&mut messages, 1_000, Duration::ZERO);
        let at = now();
        for message in messages.iter() {
            let value = message.value().unwrap_or_default();
            let cause: Cause = serde_json::from_slice(value).context("an output that is no embedding")?;
            read.seen.push((cause.source_partition, cause.source_offset, at));
            read.bytes += (value.len() + message.key().map_or(0, <[u8]>::len)) as u64;
            read.table_records += u64::from(config.topics.embeddings_live.is_none());
        }
        if shared.done.load(Ordering::SeqCst) {
            if read.seen.len() as u64 >= shared.expected.load(Ordering::SeqCst) {
                break;
            }
            let since = *since_done.get_or_insert(at);
            ensure!(
                since.elapsed() < WAIT,
                "{} embeddings of {} came",
                read.seen.len(),
                shared.expected.load(Ordering::SeqCst)
            );
        }
    }
    Ok(read)
}
