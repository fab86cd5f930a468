//! As fast as it goes over a topic that is already full: a bare librdkafka loop that copies it, the pipeline without a
//! model, and the pipeline. In turn, since the machine and the broker's caches change; medians count.

use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::field::{Field, STOPPED, WAIT};
use super::measure::{Speed, cpu_s, now};
use crate::cli::run::worker_settings;
use crate::config::Config;
use crate::health::Health;
use crate::kafka::client::{Consumer, ConsumerEvents, Producer, ProducerEvents};
use crate::kafka::client::{TRANSACTION_TIMEOUT, Transactional};
use crate::kafka::raw;
use crate::model::Model;
use crate::pipeline::worker::{self, Watch};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::{EpochStats, Metrics};

/// Copies before those that count: so many that are no faster than the best of them in a row, and at the most.
const SLOWER_IN_A_ROW: u32 = 4;
const WARM_UPS_MAX: u32 = 40;

/// From the first commit to the last: connecting and joining are not what is measured.
#[derive(Debug, Default)]
struct Lap {
    begun: Option<(Instant, f64)>,
    /// Before the first commit, and in all.
    first: u64,
    done: u64,
    speed: Option<Speed>,
}

impl Lap {
    fn committed(&mut self, records: u64) {
        self.done += records;
        let Some((begun, cpu)) = self.begun else {
            self.begun = Some((now(), cpu_s()));
            self.first = self.done;
            return;
        };
        let records = (self.done - self.first) as f64;
        let speed = Speed { per_s: records / begun.elapsed().as_secs_f64(), cpu_ns: (cpu_s() - cpu) * 1e9 / records };
        self.speed = Some(speed);
    }

    fn speed(&self) -> anyhow::Result<Speed> {
        self.speed.context("all records went through in one epoch: more of them are needed (--events)")
    }
}

/// What a run of the pipeline did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    pub(super) speed: Speed,
    /// To all topics together.
    pub(super) written: u64,
    pub(super) epochs: u64,
}

/// The pipeline over all records of its input.
fn pipeline(config: &Config, model: &mut dyn Model, records: u64, wish: &Stop) -> anyhow::Result<Ran> {
    let (clock, stop, metrics) = (Clock::start(), Stop::new(), Metrics::new());
    let health = Health::new(clock.uptime());
    let (mut lap, mut written, mut epochs) = (Lap::default(), 0, 0);
    let mut committed = |stats: &EpochStats| {
        lap.committed(stats.records);
        written += stats.embeddings.iter().sum::<u64>() + stats.rejects.iter().sum::<u64>();
        epochs += 1;
        if lap.done >= records || wish.is_stopped() {
            stop.stop();
        }
    };
    let mut watch = Watch { clock, health: &health, metrics: &metrics, committed: &mut committed };
    worker::run(&worker_settings(config), model, &mut watch, &stop)?;
    ensure!(!wish.is_stopped(), STOPPED);
    Ok(Ran { speed: lap.speed()?, written, epochs })
}

/// The limit: batches of the client's own call, each record sent on as it is, the same size of transactions. No group,
/// no offsets, no other threads than the client's.
fn copy(field: &Field<'_>, from: &str, to: &str, (records, epoch): (u64, usize)) -> anyhow::Result<Speed> {
    let client = &field.client;
    let consumer = Consumer::from_config_and_context(&client.reader("dce-bench", 32 << 10), ConsumerEvents::default())?;
    let consumer = Arc::new(consumer);
    let mut queue = raw::FetchQueue::new(Arc::clone(&consumer));
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(field.partitions)? {
        queue.forward(&CString::new(from)?, partition)?;
        list.add_partition_offset(from, partition, Offset::Beginning)?;
    }
    let transactional = Transactional { id: to, timeout: TRANSACTION_TIMEOUT, buffer_kbytes: 128 << 10 };
    let producer = Producer::from_config_and_context(&client.transactional(&transactional), ProducerEvents::default())?;
    producer.init_transactions(WAIT)?;
    consumer.assign(&list)?;
    let mut lap = Lap::default();
    while lap.done < records {
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
        lap.committed(messages.len() as u64);
    }
    lap.speed()
}

/// Copies, uncounted, until that grows no faster: a broker that has just begun still compiles itself, and holds the copy up
/// more than the pipeline.
pub(super) fn warm_up(field: &mut Field<'_>, input: &str, size: (u64, usize)) -> anyhow::Result<()> {
    let (mut best, mut slower) = (0.0, 0);
    for _ in 0..WARM_UPS_MAX {
        let to = field.topic("copy")?;
        let speed = copy(field, input, &to, size)?.per_s;
        field.remove_all_but(&[input.to_owned()])?;
        slower = if speed > best { 0 } else { slower + 1 };
        best = speed.max(best);
        if slower == SLOWER_IN_A_ROW {
            break;
        }
    }
    Ok(())
}

/// All three in turn: the copy, the pipeline without a model, the pipeline.
pub(super) fn rounds(
    field: &mut Field<'_>,
    input: &str,
    (null, model): (&mut dyn Model, &mut dyn Model),
    (rounds, records): (usize, u64),
) -> anyhow::Result<[Vec<Ran>; 3]> {
    let mut ran: [Vec<Ran>; 3] = Default::default();
    for _ in 0..rounds {
        let to = field.topic("copy")?;
        let config = field.pipeline(input)?;
        let epoch = config.epoch.events_max;
        let speed = copy(field, input, &to, (records, epoch))?;
        ran[0].push(Ran { speed, written: records, epochs: records.div_ceil(epoch as u64) });
        ran[1].push(pipeline(&config, null, records, &field.stop)?);
        let config = field.pipeline(input)?;
        ran[2].push(pipeline(&config, model, records, &field.stop)?);
        field.remove_all_but(&[input.to_owned()])?;
    }
    Ok(ran)
}
