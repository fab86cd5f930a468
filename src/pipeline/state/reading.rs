//! Finds what states are made of, in a thread of its own, while the worker goes on with its other partitions: where the
//! group stands, the logs, side by side, then the input that must be done again. Kafka → [`Event`]s.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::stored::{self, Stored, TakeError};
use super::{ANSWER_MAX, Plan, Restored, StateError, contradiction, goes_together, patiently, start};
use crate::config::Delivery;
use crate::kafka::follow::{self, Extent};
use crate::kafka::reader::Span;
use crate::kafka::topics;
use crate::pipeline::history::History;
use crate::pipeline::logged::Logged;
use crate::pipeline::shelf::Held;
use crate::pipeline::source::{Batch, Committed, Rebuild, SourceSettings};
use crate::pipeline::succession;
use crate::telemetry::Clock;
use crate::types::ResumeAt;

/// Without a record for so long a restore is at an end, with the reason.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Records of one step: what the worker's other partitions wait for.
const STEP_RECORDS: usize = 2_000;
/// Steps that are read ahead of the worker.
const STEPS_AHEAD: usize = 4;

/// Clients that read the logs side by side: each keeps up to two cores busy.
const READERS_MAX: usize = 4;
/// For fewer it is not worth making one.
const READER_RECORDS_MIN: u64 = 50_000;
/// For how many customers there is place before their records come, over all partitions: it costs 17 to 34 bytes each.
const EXPECTED_CUSTOMERS_MAX: usize = 4 << 20;

/// Where a partition stands, before its log is read.
#[derive(Debug, Clone)]
struct Found {
    restored: Restored,
    /// Offset of the input.
    oldest: i64,
}

/// What comes of the reading, in this order for each partition.
#[derive(Debug)]
pub enum Event {
    /// All of its log, and the local store that has the customers at rest of it.
    Log(Restored, Box<Logged>, Option<Held>),
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
    /// Partitions that are somebody else's by now.
    unwanted: Mutex<BTreeSet<i32>>,
}

impl Progress {
    fn is_unwanted(&self, partition: i32) -> bool {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner).contains(&partition)
    }
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

    /// A partition is not wanted any more: its part of the local store is let go of.
    pub fn leave(&mut self, partition: i32) {
        self.wanted.remove(&partition);
        self.restored.remove(&partition);
        self.progress.unwanted.lock().unwrap_or_else(PoisonError::into_inner).insert(partition);
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
    succession::end_left_open(&plan.input, &plan.sink, &plan.lookups, partitions);
    let mut found = find(plan, partitions, progress)?;
    let mut logs = read_logs(plan, &found, progress, &plan.doubted)?;
    // What goes wrong with a local store's help is tried without it first.
    let doubted: BTreeMap<i32, String> = logs
        .iter()
        .filter_map(|(partition, log)| Some((*partition, log.doubt(plan, found.get(partition)?)?)))
        .collect();
    if !doubted.is_empty() {
        logs.retain(|partition, _| !doubted.contains_key(partition));
        let again = found.iter().filter(|(partition, _)| doubted.contains_key(partition));
        let again = again.map(|(partition, found)| (*partition, found.clone())).collect();
        logs.append(&mut read_logs(plan, &again, progress, &doubted)?);
    }
    let (mut spans, mut complete) = (Vec::new(), Vec::new());
    for (partition, log) in logs {
        let Some(Found { mut restored, oldest }) = found.remove(&partition) else { continue };
        let Log { logged, held, .. } = log;
        goes_together(plan, &mut restored, &logged)?;
        held.as_ref().map_or(Ok(()), Held::trust)?;
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
        if events.send(Event::Log(restored, Box::new(logged), held)).is_err() {
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
    let lookup = &plan.lookups.decided;
    let partition_count = patiently(is_cancelled, || lookup.partitions(topic, ANSWER_MAX))?;
    let partition_count = u32::try_from(partition_count).unwrap_or(u32::MAX);
    let committed = patiently(is_cancelled, || lookup.committed(topic, partitions, ANSWER_MAX));
    let committed = committed.map_err(|error| {
        let plan = &plan.input;
        match follow::pending(&plan.client, &plan.application, topic, partitions, Duration::from_secs(1)) {
            Ok(pending) if !pending.is_empty() => StateError::Pending { topic: topic.clone(), partitions: pending },
            Ok(_) | Err(_) => error,
        }
    })?;
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

/// A partition's log, as far as it is read.
struct Log {
    logged: Logged,
    /// Until all is read.
    stored: Option<Stored>,
    /// From then on.
    held: Option<Held>,
    /// What is wrong, though it may be the local store's fault alone.
    doubt: Option<String>,
    /// The log was read from a store's mark on.
    is_believed: bool,
}

impl Log {
    fn take<'r>(&mut self, mut records: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>) -> Result<(), TakeError> {
        match &mut self.stored {
            None => Ok(self.logged.take_all(records)?),
            Some(stored) => records.try_for_each(|(key, value)| stored.take(&mut self.logged, key, value)),
        }
    }

    /// All records were taken.
    fn finish(&mut self) -> Result<(), TakeError> {
        match self.stored.take() {
            None => self.logged.fit(),
            Some(stored) => self.held = Some(stored.finish(&mut self.logged)?),
        }
        Ok(())
    }

    /// An error is only a doubt where a local store may be behind it.
    fn met(&mut self, met: Result<(), TakeError>, failed: impl Fn(TakeError) -> StateError) -> Result<(), StateError> {
        match met {
            Ok(()) => Ok(()),
            Err(TakeError::Store(error)) if !error.is_damage() => Err(error.into()),
            Err(error) if self.is_believed => {
                self.doubt.get_or_insert(error.to_string());
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Why its local store is not to be believed.
    fn doubt(&self, plan: &Plan, found: &Found) -> Option<String> {
        let Restored { history, resume, .. } = &found.restored;
        let log = &plan.sink.topics.state;
        let contradiction = || contradiction(plan.sink.delivery, log, history.state_epoch, *resume, &self.logged);
        if self.is_believed { self.doubt.clone().or_else(contradiction) } else { None }
    }
}

/// The logs, from their beginning or their local store's mark up to their high watermark.
fn read_logs(
    plan: &Plan,
    found: &BTreeMap<i32, Found>,
    progress: &Progress,
    doubted: &BTreeMap<i32, String>,
) -> Result<BTreeMap<i32, Log>, StateError> {
    let is_cancelled = || progress.is_cancelled.load(Ordering::Relaxed);
    let log = &plan.sink.topics.state;
    let is_fenced = plan.sink.delivery == Delivery::ExactlyOnce;
    let (mut logs, mut spans) = (BTreeMap::new(), Vec::new());
    let now_ms = Clock::start().wall_ms();
    let deletions_kept_ms = match &plan.store {
        Some(_) => patiently(is_cancelled, || topics::deletions_kept_ms(&plan.input.client, log, ANSWER_MAX))?,
        None => 0,
    };
    let count = found.len();
    let partitions: Vec<i32> = found.keys().copied().collect();
    // The log's own ends: what is not decided there yet is waited for.
    let extents = patiently(is_cancelled, || plan.lookups.undecided.extents(log, &partitions, ANSWER_MAX))?;
    for ((partition, found), Extent { low, end, .. }) in found.iter().zip(extents) {
        let history = &found.restored.history;
        let begun = history.begun.0;
        let extent = || stored::Extent {
            low,
            end,
            begun,
            is_fenced,
            epoch: history.state_epoch,
            deletions_kept_ms,
            now_ms,
            partitions: count,
            cache_bytes: plan.cache_bytes,
        };
        let (logged, stored) = match &plan.store {
            None => {
                let mut logged = Logged::new(begun, is_fenced);
                // A log counts on over the years, whatever was compacted: its offsets say only how many come at the most.
                let records = usize::try_from(end.abs_diff(low)).unwrap_or(usize::MAX);
                logged.expect(records.min(EXPECTED_CUSTOMERS_MAX / count));
                (logged, None)
            }
            Some(store) => {
                let doubt = doubted.get(partition).map(String::as_str);
                let gives_up = || is_cancelled() || progress.is_unwanted(*partition);
                match Stored::open(store, *partition, extent(), doubt, gives_up) {
                    Err(StateError::Stopped) if !is_cancelled() => continue,
                    opened => {
                        let (stored, logged) = opened?;
                        (logged, Some(stored))
                    }
                }
            }
        };
        let from = stored.as_ref().map_or(low, Stored::from);
        if from < end {
            spans.push(Span { partition: *partition, from: ResumeAt(from), until: ResumeAt(end) });
        }
        let is_believed = stored.as_ref().is_some_and(|stored| stored.is_believed);
        logs.insert(*partition, Log { logged, stored, held: None, doubt: None, is_believed });
    }
    progress.total.store(spans.iter().map(|span| span.until.0.abs_diff(span.from.0)).sum(), Ordering::Relaxed);
    progress.done.store(0, Ordering::Relaxed);
    read_side_by_side(plan, &spans, logs, progress)
}

/// By several readers, each of some of the partitions: one client unpacks with one thread, and takes what comes with another.
fn read_side_by_side(
    plan: &Plan,
    spans: &[Span],
    mut logs: BTreeMap<i32, Log>,
    progress: &Progress,
) -> Result<BTreeMap<i32, Log>, StateError> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let worth = usize::try_from(progress.total.load(Ordering::Relaxed) / READER_RECORDS_MIN).unwrap_or(usize::MAX);
    let count = READERS_MAX.min(cores).min(spans.len()).min(worth).max(1);
    let mut shares: Vec<(Vec<Span>, BTreeMap<i32, Log>)> = (0..count).map(|_| Default::default()).collect();
    for (share, span) in (0..count).cycle().zip(spans) {
        shares[share].0.push(*span);
        shares[share].1.extend(logs.remove_entry(&span.partition));
    }
    // Those of which nothing is to be read.
    shares[0].1.append(&mut logs);
    let input = &SourceSettings {
        prefetch_kbytes: plan.input.prefetch_kbytes / u32::try_from(count).unwrap_or(u32::MAX),
        ..plan.input.clone()
    };
    let shares =
        side_by_side(shares, |(spans, logs), has_failed| read_share(plan, input, &spans, logs, progress, has_failed));
    for mut read in shares? {
        logs.append(&mut read);
    }
    Ok(logs)
}

/// Each share in a thread of its own. Who fails, or panics, is what comes of it, and the others are told by `has_failed`.
fn side_by_side<S: Send, T: Send>(
    shares: Vec<S>,
    read: impl Fn(S, &AtomicBool) -> Result<T, StateError> + Sync,
) -> Result<Vec<T>, StateError> {
    let (read, has_failed) = (&read, &AtomicBool::new(false));
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for share in shares {
            let read = move || {
                let read = catch_unwind(AssertUnwindSafe(|| read(share, has_failed)));
                let read = read.unwrap_or_else(|_| Err(StateError::Thread("it panicked".to_owned())));
                has_failed.fetch_or(read.is_err(), Ordering::Relaxed);
                read
            };
            let reader = std::thread::Builder::new().name("restore-log".to_owned()).spawn_scoped(scope, read);
            readers.push(reader.map_err(|error| {
                has_failed.store(true, Ordering::Relaxed);
                StateError::Thread(error.to_string())
            })?);
        }
        let (mut all, mut first_error) = (Vec::new(), None);
        for reader in readers {
            match reader.join().expect("panics are caught") {
                Ok(read) => all.push(read),
                // Who was stopped by another one's failure tells nothing.
                Err(error) if matches!(first_error, None | Some(StateError::Stopped)) => first_error = Some(error),
                Err(_) => {}
            }
        }
        first_error.map_or(Ok(all), Err)
    })
}

fn read_share(
    plan: &Plan,
    input: &SourceSettings,
    spans: &[Span],
    mut logs: BTreeMap<i32, Log>,
    progress: &Progress,
    has_failed: &AtomicBool,
) -> Result<BTreeMap<i32, Log>, StateError> {
    let gives_up = || progress.is_cancelled.load(Ordering::Relaxed) || has_failed.load(Ordering::Relaxed);
    let log = &plan.sink.topics.state;
    let failed = |partition: i32| {
        move |error: TakeError| match error {
            TakeError::Log(error) => StateError::Log { topic: log.clone(), partition, error },
            TakeError::Store(error) => error.into(),
        }
    };
    if !spans.is_empty() {
        let mut reader = Rebuild::start(input, log, spans, STALL_MAX)?;
        let mut done = 0;
        while let Some(batch) = reader.next(STEP_RECORDS, gives_up)? {
            logs.retain(|partition, _| !progress.is_unwanted(*partition));
            let mut records = batch.keyed().peekable();
            while let Some((partition, ..)) = records.peek().copied() {
                let of_partition = std::iter::from_fn(|| records.next_if(|(of, ..)| *of == partition));
                let of_partition = of_partition.map(|(_, key, value)| (key, value));
                match logs.get_mut(&partition).filter(|log| log.doubt.is_none()) {
                    None => of_partition.for_each(drop),
                    Some(log) => {
                        let met = log.take(of_partition);
                        log.met(met, failed(partition))?;
                    }
                }
            }
            let read = reader.progress().done;
            progress.done.fetch_add(read - std::mem::replace(&mut done, read), Ordering::Relaxed);
        }
    }
    if gives_up() {
        return Err(StateError::Stopped);
    }
    for (partition, log) in &mut logs {
        if log.doubt.is_none() {
            let met = log.finish();
            log.met(met, failed(*partition))?;
        }
    }
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Deadline;

    const WAIT: Duration = Duration::from_secs(20);

    /// Reads on until another one has failed.
    fn stopped(has_failed: &AtomicBool, patient: &Deadline) -> StateError {
        while !has_failed.load(Ordering::Relaxed) && !patient.passed() {
            std::thread::yield_now();
        }
        StateError::Stopped
    }

    #[test]
    fn readers_give_what_each_has_read() {
        let read = side_by_side(vec![1, 2, 3], |share, _| Ok(share * 10));
        assert_eq!(read.expect("none fails"), [10, 20, 30]);
    }

    /// Whichever it is.
    #[test]
    fn a_reader_that_fails_ends_the_others_and_is_what_is_told() {
        let patient = Deadline::after(WAIT);
        for failing in 0..3 {
            let read = |share, has_failed: &AtomicBool| -> Result<(), StateError> {
                let error = if share == failing {
                    StateError::Thread("broken".to_owned())
                } else {
                    stopped(has_failed, &patient)
                };
                Err(error)
            };
            let error = side_by_side(vec![0, 1, 2], read).unwrap_err();
            assert!(error.to_string().ends_with("or ended: broken"), "{error}");
            let read = |share, has_failed: &AtomicBool| -> Result<(), StateError> {
                assert_ne!(share, failing, "on purpose");
                Err(stopped(has_failed, &patient))
            };
            let error = side_by_side(vec![0, 1, 2], read).unwrap_err();
            assert!(error.to_string().ends_with("or ended: it panicked"), "{error}");
        }
        assert!(!patient.passed(), "they are told at once");
    }
}
