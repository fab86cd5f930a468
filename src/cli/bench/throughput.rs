//! As fast as it goes over a topic that is already full: a bare librdkafka loop that copies it, the pipeline without a
//! model, and the pipeline. In turn, since the machine and the broker's caches change; medians count.

use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::clicks::Raw;
use super::field::{Field, STOPPED, WAIT};
use super::measure::{Speed, cpu_s, now};
use crate::cli::run::worker_settings;
use crate::cli::workers::side_by_side;
use crate::health::Health;
use crate::kafka::client::{Consumer, ConsumerEvents, Producer, ProducerEvents};
use crate::kafka::client::{TRANSACTION_TIMEOUT, Transactional};
use crate::kafka::raw;
use crate::model::Model;
use crate::pipeline::worker::{self, Watch};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::{EpochStats, Metrics};

/// From when all have committed once until the first of them is done: connecting and joining are not what is measured, nor
/// one that is left alone.
#[derive(Debug)]
struct Lap {
    /// Who have not committed yet.
    waited_for: usize,
    begun: Option<(Instant, f64)>,
    done: u64,
    is_over: bool,
    speed: Option<Speed>,
}

impl Lap {
    fn of(racers: usize) -> Mutex<Self> {
        Mutex::new(Self { waited_for: racers, begun: None, done: 0, is_over: false, speed: None })
    }

    fn committed(&mut self, records: u64, is_first: bool, is_last: bool) {
        if let (Some((begun, cpu)), false) = (self.begun, self.is_over) {
            self.done += records;
            let done = self.done as f64;
            let speed = Speed { per_s: done / begun.elapsed().as_secs_f64(), cpu_ns: (cpu_s() - cpu) * 1e9 / done };
            self.speed = Some(speed);
        }
        self.waited_for -= usize::from(is_first);
        if self.waited_for == 0 && self.begun.is_none() {
            self.begun = Some((now(), cpu_s()));
        }
        self.is_over |= is_last;
    }

    fn speed(lap: Mutex<Self>) -> anyhow::Result<Speed> {
        let lap = lap.into_inner().unwrap_or_else(PoisonError::into_inner);
        lap.speed.context("all records went through in one epoch: more of them are needed (--events)")
    }
}

/// Where one of them is.
#[derive(Debug)]
struct Progress<'l> {
    lap: &'l Mutex<Lap>,
    /// One has ended, whatever for.
    stop: &'l Stop,
    done: u64,
    records: u64,
}

impl Progress<'_> {
    /// Whether that was all. Whoever is first waits for the others to begin.
    fn committed(&mut self, records: u64) -> bool {
        let is_first = self.done == 0 && records > 0;
        self.done += records;
        let is_last = self.done >= self.records;
        self.lap().committed(records, is_first, is_last);
        while is_first && self.lap().waited_for > 0 && !self.stop.wait(Duration::from_millis(1)) {}
        is_last
    }

    fn lap(&self) -> MutexGuard<'_, Lap> {
        self.lap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one reads: a topic of its own, filled.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) topic: String,
    pub(super) partitions: usize,
    pub(super) records: u64,
}

/// What a run of the pipeline did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    pub(super) speed: Speed,
    /// To all topics together.
    pub(super) written: u64,
    pub(super) epochs: u64,
}

/// The pipeline over all records of its inputs, a worker each.
fn pipeline(field: &mut Field<'_>, shares: &[Share], models: Vec<&mut (dyn Model + Send)>) -> anyhow::Result<Ran> {
    let (lap, ended) = (Lap::of(shares.len()), Stop::new());
    let (written, epochs) = (AtomicU64::new(0), AtomicU64::new(0));
    let wish = field.stop.clone();
    let mut workers = Vec::new();
    for (share, model) in shares.iter().zip(models) {
        workers.push((
            field.pipeline(&share.topic, share.partitions)?,
            Progress { lap: &lap, stop: &ended, done: 0, records: share.records },
            model,
        ));
    }
    side_by_side(workers, &ended, |_, (config, mut progress, model)| {
        let (clock, stop, metrics) = (Clock::start(), Stop::new(), Metrics::new());
        let health = Health::new(clock.uptime());
        let mut committed = |stats: &EpochStats| {
            let records = stats.embeddings.iter().sum::<u64>() + stats.rejects.iter().sum::<u64>();
            written.fetch_add(records, Ordering::Relaxed);
            epochs.fetch_add(1, Ordering::Relaxed);
            if progress.committed(stats.records) || wish.is_stopped() {
                stop.stop();
            }
        };
        let mut watch = Watch { clock, health: &health, metrics: &metrics, committed: &mut committed };
        Ok(worker::run(&worker_settings(&config), model, &mut watch, &stop)?)
    })?;
    ensure!(!wish.is_stopped(), STOPPED);
    Ok(Ran { speed: Lap::speed(lap)?, written: written.into_inner(), epochs: epochs.into_inner() })
}

/// The limit: batches of the client's own call, each record sent on as it is, the same size of transactions. No group,
/// no offsets, no other threads than the client's.
fn copies(field: &mut Field<'_>, shares: &[Share], epoch: usize) -> anyhow::Result<Ran> {
    let (lap, ended) = (Lap::of(shares.len()), Stop::new());
    let mut loops = Vec::new();
    for share in shares {
        loops.push((
            field.topic("copy", share.partitions)?,
            share,
            Progress { lap: &lap, stop: &ended, done: 0, records: share.records },
        ));
    }
    let (field, epochs) = (&*field, AtomicU64::new(0));
    side_by_side(loops, &ended, |_, (to, share, progress)| copy(field, share, &to, epoch, progress, &epochs))?;
    let written = shares.iter().map(|share| share.records).sum();
    Ok(Ran { speed: Lap::speed(lap)?, written, epochs: epochs.into_inner() })
}

fn copy(
    field: &Field<'_>,
    share: &Share,
    to: &str,
    epoch: usize,
    mut progress: Progress<'_>,
    epochs: &AtomicU64,
) -> anyhow::Result<()> {
    let from = share.topic.as_str();
    let client = &field.client;
    let consumer = Consumer::from_config_and_context(&client.reader("dce-bench", 32 << 10), ConsumerEvents::default())?;
    let consumer = Arc::new(consumer);
    let mut queue = raw::FetchQueue::new(Arc::clone(&consumer));
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(share.partitions)? {
        queue.forward(&CString::new(from)?, partition)?;
        list.add_partition_offset(from, partition, Offset::Beginning)?;
    }
    let transactional = Transactional { id: to, timeout: TRANSACTION_TIMEOUT, buffer_kbytes: 128 << 10 };
    let producer = Producer::from_config_and_context(&client.transactional(&transactional), ProducerEvents::default())?;
    producer.init_transactions(WAIT)?;
    consumer.assign(&list)?;
    loop {
        ensure!(!field.stop.is_stopped(), STOPPED);
        let mut messages = queue.messages();
        queue.take(&mut messages, epoch, Duration::from_millis(5));
        if messages.is_empty() {
            continue;
        }
        producer.begin_transaction()?;
        for message in messages.iter() {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(to).partition(message.partition());
            (record.key, record.payload) = (message.key(), message.value());
            producer.send(record).map_err(|(error, _)| error)?;
        }
        raw::commit_transaction(producer.client(), WAIT).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        epochs.fetch_add(1, Ordering::Relaxed);
        if progress.committed(messages.len() as u64) {
            return Ok(());
        }
    }
}

/// The records as full topics, one for each of so many side by side: partition p is one of the topic p mod so many.
pub(super) fn shares(field: &mut Field<'_>, raws: &[Raw], side: usize) -> anyhow::Result<Vec<Share>> {
    let of = i32::try_from(side)?;
    let share = |share| {
        let own = || raws.iter().filter(move |raw| raw.partition % of == share);
        let partitions = (usize::try_from(share)?..field.partitions).step_by(side).count();
        let topic = field.topic("clicks", partitions)?;
        field.fill(&topic, own().map(|raw| (raw.partition / of, raw)))?;
        Ok(Share { topic, partitions, records: own().count() as u64 })
    };
    (0..of).map(share).collect()
}

/// All three in turn, side by side as many times as there are inputs: the copy, the pipeline without a model, the pipeline.
pub(super) fn round(
    field: &mut Field<'_>,
    shares: &[Share],
    nulls: Vec<&mut (dyn Model + Send)>,
    models: Vec<&mut (dyn Model + Send)>,
    epoch: usize,
) -> anyhow::Result<[Ran; 3]> {
    let copied = copies(field, shares, epoch)?;
    let without = pipeline(field, shares, nulls)?;
    let whole = pipeline(field, shares, models)?;
    Ok([copied, without, whole])
}
