//! Finds what states are made of, in a thread of its own, while the worker goes on with its other partitions: where the
//! group stands, the logs, side by side, then the input that must be done again. Kafka → [`Event`]s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use super::{ANSWER_MAX, Plan, Restored, StateError, goes_together, patiently, start};
use crate::config::Delivery;
use crate::kafka::follow::Lookup;
use crate::kafka::reader::Span;
use crate::kafka::topics::Inspector;
use crate::pipeline::history::History;
use crate::pipeline::partitions::Logged;
use crate::pipeline::source::{Batch, Committed, Rebuild};
use crate::pipeline::succession;
use crate::types::ResumeAt;

/// Without a record for so long a restore is at an end, with the reason.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Records of one step: what the worker's other partitions wait for.
const STEP_RECORDS: usize = 2_000;
/// Steps that are read ahead of the worker.
const STEPS_AHEAD: usize = 4;

/// Where a partition stands, before its log is read.
#[derive(Debug)]
struct Found {
    restored: Restored,
    /// Offset of the input.
    oldest: i64,
}

/// What comes of the reading, in this order for each partition.
#[derive(Debug)]
pub enum Event {
    /// All of its log.
    Log(Restored, Box<Logged>),
    /// Records to be done again, of partitions whose logs came.
    Again(Batch),
    /// Nothing more is to be done again.
    Complete(Vec<i32>),
    Failed(StateError),
}

/// A restore under way.
#[derive(Debug)]
pub struct Reading {
    /// The partitions that are still wanted and not complete.
    pub wanted: BTreeSet<i32>,
    /// Those of them whose logs have come, and where they go on.
    pub restored: BTreeMap<i32, Restored>,
    events: Receiver<Event>,
    progress: Arc<Progress>,
}

/// In offsets, of the logs and of the input.
#[derive(Debug, Default)]
struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    is_cancelled: AtomicBool,
}

impl Reading {
    pub fn start(plan: Plan, partitions: &[i32]) -> Self {
        let wanted: BTreeSet<i32> = partitions.iter().copied().collect();
        let partitions = partitions.to_vec();
        let progress = Arc::new(Progress::default());
        let (sender, events) = sync_channel(STEPS_AHEAD);
        let of_thread = (Arc::clone(&progress), sender.clone());
        let spawned = std::thread::Builder::new().name("restore".to_owned()).spawn(move || {
            let (progress, events) = of_thread;
            if let Err(error) = read(&plan, &partitions, &progress, &events) {
                drop(events.send(Event::Failed(error)));
            }
        });
        if let Err(error) = spawned {
            drop(sender.send(Event::Failed(StateError::Thread(error.to_string()))));
        }
        Self { wanted, restored: BTreeMap::new(), events, progress }
    }

    /// What came next, if something did; does not wait.
    pub fn poll(&mut self) -> Option<Event> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) if self.wanted.is_empty() => None,
            Err(TryRecvError::Disconnected) => Some(Event::Failed(StateError::Thread("it panicked".to_owned()))),
        }
    }

    /// Offsets read, and all of them as far as is known.
    pub fn progress(&self) -> (u64, u64) {
        (self.progress.done.load(Ordering::Relaxed), self.progress.total.load(Ordering::Relaxed))
    }
}

impl Drop for Reading {
    /// The thread ends by itself, and is not waited for: a broker may keep it.
    fn drop(&mut self) {
        self.progress.is_cancelled.store(true, Ordering::Relaxed);
    }
}

/// The whole of it. Ends early, and well, where nobody listens any more.
fn read(plan: &Plan, partitions: &[i32], progress: &Progress, events: &SyncSender<Event>) -> Result<(), StateError> {
    // What the last owners did must be decided before anything is believed.
    succession::end_left_open(&plan.input, &plan.sink, partitions);
    let found = find(plan, partitions, progress)?;
    let logs = read_logs(plan, &found, progress)?;
    let (mut spans, mut complete) = (Vec::new(), Vec::new());
    for ((partition, found), logged) in found.into_iter().zip(logs.into_values()) {
        let Found { mut restored, oldest } = found;
        goes_together(plan, &mut restored, &logged)?;
        let (from, until) = (ResumeAt(logged.head().redo_from), restored.resume);
        if from < until {
            if from.0 < oldest {
                let topic = plan.input.topic.clone();
                return Err(StateError::HistoryGone { topic, partition, begun: from.0, oldest });
            }
            spans.push(Span { partition, from, until });
        } else {
            complete.push(partition);
        }
        if events.send(Event::Log(restored, Box::new(logged))).is_err() {
            return Ok(());
        }
    }
    if events.send(Event::Complete(complete)).is_err() || spans.is_empty() {
        return Ok(());
    }
    progress.total.fetch_add(spans.iter().map(|span| span.until.0.abs_diff(span.from.0)).sum(), Ordering::Relaxed);
    let logs_done = progress.done.load(Ordering::Relaxed);
    let mut reader = Rebuild::start(&plan.input, &plan.input.topic, &spans, STALL_MAX)?;
    let mut open: Vec<i32> = spans.iter().map(|span| span.partition).collect();
    while let Some(batch) = reader.next(STEP_RECORDS, || progress.is_cancelled.load(Ordering::Relaxed))? {
        let complete = open.extract_if(.., |partition| !reader.reads(*partition)).collect();
        progress.done.store(logs_done + reader.progress().done, Ordering::Relaxed);
        if events.send(Event::Again(batch)).is_err() || events.send(Event::Complete(complete)).is_err() {
            return Ok(());
        }
    }
    // Where the last records were markers.
    drop(events.send(Event::Complete(open)));
    Ok(())
}

/// Where the group stands in the partitions.
fn find(plan: &Plan, partitions: &[i32], progress: &Progress) -> Result<BTreeMap<i32, Found>, StateError> {
    let is_cancelled = || progress.is_cancelled.load(Ordering::Relaxed);
    let topic = &plan.input.topic;
    let lookup = Lookup::new(&plan.input.client, &plan.input.application)?;
    let inspector = Inspector::new(&plan.input.client)?;
    let partition_count = patiently(is_cancelled, || inspector.describe(topic, ANSWER_MAX))?.unwrap_or(0);
    let partition_count = u32::try_from(partition_count).unwrap_or(u32::MAX);
    let committed = patiently(is_cancelled, || lookup.committed(topic, partitions, ANSWER_MAX))?;
    let extents = patiently(is_cancelled, || lookup.extents(topic, partitions, ANSWER_MAX))?;
    let mut found = BTreeMap::new();
    for extent in extents {
        let of_partition = committed.iter().find(|committed| committed.partition == extent.partition);
        let committed = of_partition.map(|committed| Committed {
            resume: ResumeAt(committed.offset),
            history: History::parse(&committed.metadata),
        });
        let restored = start(topic, extent.partition, committed, extent.low, plan.terms, partition_count)?;
        found.insert(extent.partition, Found { restored, oldest: extent.low });
    }
    Ok(found)
}

/// The logs from their beginning up to their high watermark.
fn read_logs(
    plan: &Plan,
    found: &BTreeMap<i32, Found>,
    progress: &Progress,
) -> Result<BTreeMap<i32, Logged>, StateError> {
    let is_cancelled = || progress.is_cancelled.load(Ordering::Relaxed);
    let log = &plan.sink.topics.state;
    let is_fenced = plan.sink.delivery == Delivery::ExactlyOnce;
    let mut logs = BTreeMap::new();
    let mut spans = Vec::new();
    let inspector = Inspector::new(&plan.input.client)?;
    for (partition, found) in found {
        logs.insert(*partition, Logged::new(found.restored.history.begun.0, is_fenced));
        let (from, until) = patiently(is_cancelled, || inspector.watermarks(log, *partition, ANSWER_MAX))?;
        if from < until {
            spans.push(Span { partition: *partition, from: ResumeAt(from), until: ResumeAt(until) });
            logs.entry(*partition).and_modify(|logged| logged.expect(until.abs_diff(from)));
        }
    }
    if spans.is_empty() {
        return Ok(logs);
    }
    progress.total.store(spans.iter().map(|span| span.until.0.abs_diff(span.from.0)).sum(), Ordering::Relaxed);
    let mut reader = Rebuild::start(&plan.input, log, &spans, STALL_MAX)?;
    while let Some(batch) = reader.next(STEP_RECORDS, is_cancelled)? {
        for record in batch.records() {
            let partition = record.position.partition;
            let (Some(logged), Some(key)) = (logs.get_mut(&partition), record.key) else { continue };
            logged.take(key, record.value).map_err(|error| StateError::Log { topic: log.clone(), partition, error })?;
        }
        progress.done.store(reader.progress().done, Ordering::Relaxed);
    }
    if is_cancelled() { Err(StateError::Stopped) } else { Ok(logs) }
}
