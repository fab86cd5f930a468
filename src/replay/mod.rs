//! A bounded run of the pipeline, for backfills: clicks from a file or a span of a topic, through the same stages from an
//! empty state, to a file, a topic or nowhere. Takes [`Input`] and [`Outputs`], gives a [`Summary`].
//!
//! ```text
//! reader thread   file or topic ─▶ Chunk ─┐
//! this thread                             └─▶ epoch ─▶ outputs ─┐
//! writer thread                                                 └─▶ encode, compress ─▶ file or topic
//! ```
//! A chunk is an epoch. What leaves is a function of the records alone, so its size decides nothing but the speed. All
//! queues are short, so memory goes with the customers, not with the length of the input.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::SessionRules;
use crate::files::chunk::{Chunk, Record};
use crate::files::clicks::{Limits, Size};
use crate::model::Model;
use crate::pipeline::epoch::{self, Body, Epoch, EpochError, Origin, Output, Phase, Reject, Terms};
use crate::pipeline::partitions::Partitions;
use crate::pipeline::rest::Nothing;
use crate::pipeline::source::{self, Trace};
use crate::registry::{Event, RegistryError, Resolver};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::types::{Moment, Position, RejectReason};

pub mod range;
mod input;
pub mod outputs;
mod topic;
mod summary;

pub use input::{Input, InputError, TopicInput, spans};
pub use outputs::{OutputError, Outputs, Sink};
pub use summary::Summary;
pub use topic::{TopicOutput, TopicWriteError, Wanted, open as open_topic};

/// Chunks and results that wait for the next thread.
const WAITING_MAX: usize = 2;
/// How often the wish to stop is looked at while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A chunk ends at so many bytes, whatever the number of its records.
const CHUNK_BYTES_MAX: usize = 64 << 20;
/// Each partition has a state of its own, so a file may not invent any number of them.
pub const PARTITIONS_MAX: usize = 10_000;

/// How to replay.
#[derive(Debug, Clone)]
pub struct Settings {
    pub rules: SessionRules,
    /// The attributes that go on the records.
    pub labels: Vec<Arc<str>>,
    /// Records of an epoch, 1 or more.
    pub epoch_events: usize,
    /// Close what is open at the end, as a TICK at infinity does.
    pub close_open: bool,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// In the unit of `size`.
    pub done: u64,
    pub size: Size,
    pub records: u64,
    /// Nothing goes on until the schema registry answers.
    pub waits_for_registry: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the input names more than {PARTITIONS_MAX} partitions; is its column partition one?")]
    Partitions,
    #[error("stopped after {records} records")]
    Stopped { records: u64 },
    #[error("the {0} thread cannot be started: {1}")]
    Thread(&'static str, std::io::Error),
    #[error("the {0} thread has panicked")]
    Panicked(&'static str),
}

/// What goes on beside it.
pub struct Watch<'w> {
    pub clock: Clock,
    /// Ends it, without any output.
    pub stop: &'w Stop,
    /// Called after each epoch, and while the schema registry is waited for.
    pub progress: &'w mut dyn FnMut(&Progress),
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("clock", &self.clock).field("stop", &self.stop).finish_non_exhaustive()
    }
}

/// Runs the input to its end, and publishes the outputs. `resolver` has the schemas of files already, and gets those of ids
/// as records need them.
pub fn run(
    settings: &Settings,
    model: &mut dyn Model,
    resolver: &mut Resolver,
    input: Input,
    outputs: Outputs,
    watch: Watch<'_>,
) -> Result<Summary, ReplayError> {
    let Watch { clock, stop, progress } = watch;
    let size = input.size();
    let limits = Limits { records_max: settings.epoch_events.max(1), bytes_max: CHUNK_BYTES_MAX };
    let (chunk_sender, chunks) = sync_channel(WAITING_MAX);
    let (result_sender, results) = sync_channel(WAITING_MAX);
    let reader = spawn("reader", move || read(input, limits, &chunk_sender, clock))?;
    let writer = spawn("writer", move || write(outputs, &results, clock))?;
    let mut run = Run {
        settings,
        model,
        resolver,
        clock,
        partitions: Partitions::default(),
        last: BTreeMap::new(),
        summary: Summary::new(clock.uptime()),
    };
    let computed = run.all(chunks, result_sender, stop, |done, records, waits_for_registry| {
        progress(&Progress { done, size, records, waits_for_registry });
    });
    let written = joined("writer", writer);
    // A reader may wait for a pipe, so nobody waits for it then.
    computed?;
    let (outputs, busy_ms) = written??;
    let read = joined("reader", reader)?;
    run.summary.read(&read, size);
    run.summary.write_ms = busy_ms;
    run.summary.states(&run.partitions);
    let written = outputs.finish()?;
    run.summary.written(written, clock.uptime());
    Ok(run.summary)
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ReplayError> {
    let thread = std::thread::Builder::new().name(format!("replay-{name}"));
    thread.spawn(work).map_err(|error| ReplayError::Thread(name, error))
}

fn joined<T>(name: &'static str, thread: JoinHandle<T>) -> Result<T, ReplayError> {
    thread.join().map_err(|_| ReplayError::Panicked(name))
}

/// What the reader's thread has to say at its end.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    done: u64,
    /// Keys and values.
    bytes: u64,
    /// Offsets without a record: marks of transactions, records that were never committed.
    offsets_without: u64,
    busy_ms: u64,
}

/// What the reader sends: a chunk, `None` at the end, or why there is no end. A closed queue alone says nothing.
type Fed = Result<Option<Chunk>, InputError>;

fn read(mut input: Input, limits: Limits, chunks: &SyncSender<Fed>, clock: Clock) -> Read {
    let mut read = Read::default();
    loop {
        let begun = clock.uptime();
        let next = input.next(limits);
        read.busy_ms += clock.uptime().0 - begun.0;
        if let Ok(Some(chunk)) = &next {
            read.done = chunk.done;
            read.bytes += chunk.bytes() as u64;
        }
        let is_last = !matches!(next, Ok(Some(_)));
        if chunks.send(next).is_err() || is_last {
            break;
        }
    }
    read.offsets_without = input.offsets_without();
    read
}

/// Gives the outputs back, not yet published, and how long writing took.
fn write(mut outputs: Outputs, results: &Receiver<Vec<Output>>, clock: Clock) -> Result<(Outputs, u64), OutputError> {
    let mut busy_ms = 0;
    while let Ok(result) = results.recv() {
        let begun = clock.uptime();
        for output in &result {
            outputs.write(output)?;
        }
        busy_ms += clock.uptime().0 - begun.0;
    }
    Ok((outputs, busy_ms))
}

struct Run<'r> {
    settings: &'r Settings,
    model: &'r mut dyn Model,
    resolver: &'r mut Resolver,
    clock: Clock,
    partitions: Partitions,
    /// The last record of each partition.
    last: BTreeMap<i32, Position>,
    summary: Summary,
}

impl Run<'_> {
    /// Owns the ends of both queues, so that they are closed when it returns.
    fn all(
        &mut self,
        chunks: Receiver<Fed>,
        results: SyncSender<Vec<Output>>,
        stop: &Stop,
        mut watch: impl FnMut(u64, u64, bool),
    ) -> Result<(), ReplayError> {
        let stopped = |records| Err(ReplayError::Stopped { records });
        let mut done = 0;
        loop {
            if stop.is_stopped() {
                return stopped(self.summary.records);
            }
            let chunk = match chunks.recv_timeout(LOOK_EVERY) {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                // Before anything is closed: what lies behind the error might have gone on.
                Ok(Err(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Err(ReplayError::Panicked("reader")),
            };
            let records = self.summary.records;
            let values = chunk.records().filter(|record| record.fault.is_none()).filter_map(|record| record.value);
            let prepared = self.resolver.prepare(values, stop, &mut |event| {
                if matches!(event, Event::Waiting(_)) {
                    watch(done, records, true);
                }
                false
            });
            if prepared.is_err() {
                return stopped(records);
            }
            done = chunk.done;
            let outputs = self.epoch(&chunk)?;
            if results.send(outputs).is_err() {
                // The writer says why.
                return Ok(());
            }
            watch(done, self.summary.records, false);
        }
        if self.settings.close_open {
            for position in self.last.values().copied().collect::<Vec<_>>() {
                let outputs = self.close_open(position)?;
                if results.send(outputs).is_err() {
                    return Ok(());
                }
            }
        }
        if stop.is_stopped() { stopped(self.summary.records) } else { Ok(()) }
    }

    fn terms(&self) -> Terms {
        let Settings { rules, labels, .. } = self.settings;
        Terms { rules: rules.clone(), labels: labels.clone(), summaries: true, emitted_at: self.clock.wall_ms() }
    }

    fn epoch(&mut self, chunk: &Chunk) -> Result<Vec<Output>, ReplayError> {
        for record in chunk.records() {
            let Position { partition, .. } = record.position;
            if self.last.insert(partition, record.position).is_none() {
                if self.last.len() > PARTITIONS_MAX {
                    return Err(ReplayError::Partitions);
                }
                self.partitions.open(partition, &self.settings.rules);
            }
            // The reader knows no ids.
            let event_time = record.event_time.or_else(|| input::framed_event_time(&record, self.resolver.schemas()));
            self.summary.record(&Record { event_time, ..record }, &self.settings.rules);
        }
        let terms = self.terms();
        let records = chunk.records().filter(|record| record.fault.is_none()).map(as_source);
        let (clock, times) = (self.clock, &mut self.summary.phases_ms);
        let mut since = clock.uptime();
        let result = epoch::run(
            &mut self.partitions,
            &mut Nothing,
            self.model,
            self.resolver.schemas(),
            &terms,
            records,
            |phase| {
                let now = clock.uptime();
                times[phase as usize] += now.0 - since.0;
                since = now;
            },
        )?;
        self.summary.duplicates += result.duplicates;
        let outputs = with_faults(chunk, result.outputs);
        self.summary.outputs(&outputs);
        Ok(outputs)
    }

    /// A TICK at infinity for the partition of this record, its last one.
    fn close_open(&mut self, position: Position) -> Result<Vec<Output>, ReplayError> {
        let terms = self.terms();
        let mut epoch = Epoch::begin(&mut self.partitions, self.model, &terms);
        epoch.tick(Origin { position, timestamp_ms: None, trace: Trace::None }, Moment::INFINITY);
        let outputs = epoch.finish(self.model, |_| ())?.outputs;
        self.summary.outputs(&outputs);
        Ok(outputs)
    }
}

/// Their places in [`Summary::phases_ms`].
const _: () = assert!(Phase::Sessionize as usize == 0 && Phase::Encode as usize == 1 && Phase::Fold as usize == 2);

fn as_source<'a>(record: Record<'a>) -> source::Record<'a> {
    let Record { position, timestamp_ms, key, value, traceparent, .. } = record;
    let trace = traceparent.map_or(Trace::None, Trace::Text);
    source::Record { position, timestamp_ms, key, value, trace }
}

/// The outputs, and among them, in the records' order, a reject for each record that is none.
fn with_faults(chunk: &Chunk, outputs: Vec<Output>) -> Vec<Output> {
    if chunk.records().all(|record| record.fault.is_none()) {
        return outputs;
    }
    // Faults may stand on offsets of other records, so it is the record's place in the chunk that counts.
    let places: HashMap<Position, usize> = chunk
        .records()
        .enumerate()
        .filter(|(_, record)| record.fault.is_none())
        .map(|(place, record)| (record.position, place))
        .collect();
    let mut faults = chunk.records().enumerate().filter(|(_, record)| record.fault.is_some()).peekable();
    let mut merged = Vec::with_capacity(outputs.len());
    for output in outputs {
        let place = places.get(&output.cause).copied().unwrap_or(usize::MAX);
        while let Some((_, record)) = faults.next_if(|(at, _)| *at < place) {
            merged.push(fault(&record));
        }
        merged.push(output);
    }
    merged.extend(faults.map(|(_, record)| fault(&record)));
    merged
}

fn fault(record: &Record<'_>) -> Output {
    let reject = Reject {
        reason: RejectReason::Decode,
        detail: record.fault.unwrap_or_default().to_owned(),
        stage: "decode",
        key: record.key.map(Box::from),
        value: record.value.map(Box::from),
        timestamp_ms: record.timestamp_ms,
    };
    let (cause, timestamp_ms) = (record.position, record.timestamp_ms);
    Output { cause, timestamp_ms, traceparent: None, body: Body::Reject(Box::new(reject)) }
}
