//! Drives the stages for one group member: computes one epoch while the last one commits. Settings, stop → result.
//!
//! ```text
//!   collect(N+1) ▸ compute(N+1) ▸ outcome(N)? ▸ submit(N+1) ▸ …
//!                                    └ not committed: both are void; states and positions go back to what is committed
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::epoch::{self, Body, EpochError, EpochResult, Phase, Terms};
use super::history::History;
use super::log::StateRecord;
use super::pace::{CollectLimits, Pace, Spare};
use super::partitions::Partitions;
use super::rest::Nothing;
use super::shelf::{Shelf, ShelfSettings};
use super::sink::{Epoch, Outcome, Sink, SinkHandle, SinkSettings};
use super::source::{Batch, Record, Source, SourceError, SourceSettings};
use super::state::{Reading, StateError};
use crate::config::{Delivery, Encoding, Registry, SessionRules};
use crate::health::Health;
use crate::kafka::Deadline;
use crate::kafka::client::close_member;
use crate::kafka::follow::Lookups;
use crate::kafka::raw::GroupMetadata;
use crate::model::Model;
use crate::registry::{self, Interrupted, Resolver};
use crate::stop::Stop;
use crate::store::Store;
use crate::telemetry::Clock;
use crate::telemetry::metrics::{AbortCause, EpochStats, Metrics, PartitionStats};
use crate::types::{EventTime, Position, ResumeAt, Uptime};

mod error;
mod again;
mod moves;
mod rows;
mod ticks;
mod written;

pub use error::WorkerError;
use rows::beyond;
use ticks::Ticker;
use written::{Written, encoder, written};

/// How long an idle worker waits for records before it looks at its other duties.
const IDLE_MAX: Duration = Duration::from_millis(50);
/// The same while an epoch is under way, so that its commit is seen when it happens.
const IDLE_COMMITTING_MAX: Duration = Duration::from_millis(1);
/// How long an outcome is waited for at a time.
const OUTCOME_LOOK: Duration = Duration::from_millis(500);
/// How long going back to an offset may take.
const SEEK_MAX: Duration = Duration::from_secs(30);
/// Epochs that were not committed, in a row, before the worker gives up: what the broker never takes is not tried for ever.
const FAILURES_MAX: u32 = 10;
/// How often an idle worker looks for what should be written of the state.
const LOOK_EVERY_MS: u64 = 10_000;

#[derive(Debug, Clone)]
pub struct WorkerSettings {
    pub source: SourceSettings,
    pub sink: SinkSettings,
    pub encoding: Encoding,
    /// There must be one for [`Encoding::Confluent`].
    pub registry: Option<Registry>,
    pub rules: SessionRules,
    pub labels: Vec<Arc<str>>,
    pub epoch_events_max: usize,
    /// Of keys and values.
    pub epoch_bytes_max: usize,
    pub epoch_wait_max: Duration,
    /// Partitions in which nothing comes for so long get a TICK; `None`: never.
    pub idle_after: Option<Duration>,
    /// `None`: all customers are in memory.
    pub store: Option<LocalStore>,
}

/// Where the customers at rest are that memory does not hold.
#[derive(Debug, Clone)]
pub struct LocalStore {
    pub store: Store,
    /// Of their records, what stays in memory, about.
    pub cache_bytes: usize,
}

/// Who watches the worker.
pub struct Watch<'a> {
    pub clock: Clock,
    pub health: &'a Health,
    pub metrics: &'a Metrics,
    /// After each commit.
    pub committed: &'a mut dyn FnMut(&EpochStats),
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch<'_> {
    /// What the registry does while it is asked.
    fn registry(&self, event: &registry::Event<'_>) {
        self.health.progress(self.clock.uptime(), "schema registry");
        match event {
            registry::Event::Answered(answer) => self.metrics.registry_answered(*answer),
            registry::Event::Asking => {}
            registry::Event::Waiting(error) => {
                self.health.not_ready(format!("waiting for the schema registry: {error}"));
                self.metrics.registry_waiting(true);
            }
        }
    }
}

/// Runs until the stop is asked for; the epoch under way is finished then.
pub fn run(
    settings: &WorkerSettings,
    model: &mut dyn Model,
    watch: &mut Watch<'_>,
    stop: &Stop,
) -> Result<(), WorkerError> {
    match work(settings, model, watch, stop) {
        Err(error) if error.is_stop() => Ok(()),
        outcome => outcome,
    }
}

fn work(
    settings: &WorkerSettings,
    model: &mut dyn Model,
    watch: &mut Watch<'_>,
    stop: &Stop,
) -> Result<(), WorkerError> {
    let resolver = Resolver::new(settings.registry.as_ref())?;
    let Some(written) = written(settings, &resolver, watch, stop)? else { return Ok(()) };
    watch.health.not_ready("joining the group");
    let sink = Sink::spawn(settings.sink.clone(), encoder(written), stop)?;
    let SourceSettings { client, application, topic, .. } = &settings.source;
    let lookups = Lookups::start(client, application, topic).map_err(StateError::from)?;
    let source = Source::new(&settings.source)?;
    let shelf = settings.store.as_ref().map(|local| {
        let settings = ShelfSettings {
            is_fenced: settings.sink.delivery == Delivery::ExactlyOnce,
            store: local.store.clone(),
            client: settings.source.client.clone(),
            application: settings.source.application.clone(),
            log: settings.sink.topics.state.clone(),
        };
        Shelf::start(settings, watch.clock)
    });
    let mut worker = Worker {
        settings,
        model,
        watch,
        resolver,
        written,
        partitions: Partitions::with_cache(settings.store.as_ref().map_or(0, |local| local.cache_bytes)),
        shelf: shelf.transpose()?,
        ticker: Ticker::new(settings)?,
        lookups,
        doubted: BTreeMap::new(),
        histories: BTreeMap::new(),
        positions: BTreeMap::new(),
        restoring: Vec::new(),
        said: Uptime(0),
        looked: Uptime(0),
        stop,
        under_way: None,
        pace: Pace::default(),
        failures: 0,
        acknowledged: BTreeMap::new(),
        is_astray: false,
        sink,
        source,
    };
    let outcome = worker.until_stopped();
    close_member(worker.source);
    outcome
}

struct Worker<'w, 's> {
    settings: &'w WorkerSettings,
    model: &'w mut dyn Model,
    watch: &'w mut Watch<'s>,
    resolver: Resolver,
    written: Written,
    partitions: Partitions,
    /// Where the customers are that memory does not hold.
    shelf: Option<Shelf>,
    ticker: Option<Ticker>,
    lookups: Arc<Lookups>,
    /// Partitions whose part of the store is to be filled anew, and why.
    doubted: BTreeMap<i32, String>,
    /// The assigned partitions, each with what its state was made of.
    histories: BTreeMap<i32, History>,
    /// Where each goes on, with what has been computed.
    positions: BTreeMap<i32, ResumeAt>,
    /// Restores under way.
    restoring: Vec<Reading>,
    /// When it was last said how far they are.
    said: Uptime,
    /// When customers that have been dirty for long were looked for last, while nothing came.
    looked: Uptime,
    stop: &'w Stop,
    /// Of the epoch that is being committed: its counts, and since when.
    under_way: Option<UnderWay>,
    /// The client is past records of which nothing was made: nothing is read before it is back.
    is_astray: bool,
    pace: Pace,
    /// Epochs not committed since the last commit.
    failures: u32,
    /// Delivered at least once: where the partitions go on, to be committed once more and waited for before they go.
    acknowledged: BTreeMap<i32, (ResumeAt, History)>,
    sink: SinkHandle,
    source: Source,
}

/// An epoch that is being committed.
struct UnderWay {
    stats: EpochStats,
    since: Uptime,
    /// Delivered at least once: what is to be committed of it, as things stood when it was computed.
    positions: BTreeMap<i32, (ResumeAt, History)>,
    /// For the local store, where there is one.
    state: Vec<StateRecord>,
    /// For the next one.
    spare: Spare,
}

/// Whether an epoch can be computed.
enum Prepared {
    Ready,
    /// What it would be computed on top of was not committed, or the stop came.
    Void,
    /// Something else has to be done first, and the records are to be read again.
    NotYet,
}

impl Worker<'_, '_> {
    fn until_stopped(&mut self) -> Result<(), WorkerError> {
        while !self.stop.is_stopped() {
            self.turn()?;
        }
        tracing::info!("stopping: the epoch under way is finished");
        if self.finish()? {
            self.write_state(true)?;
        }
        self.commit_acknowledged();
        Ok(())
    }

    fn turn(&mut self) -> Result<(), WorkerError> {
        let waiting = self.watch.clock.uptime();
        self.watch.health.progress(waiting, "collect");
        self.look_at_shelf()?;
        let is_restoring = !self.restoring.is_empty() && self.restore_some()?;
        let collected = self.source.collect(&CollectLimits {
            events_max: self.settings.epoch_events_max,
            bytes_max: self.settings.epoch_bytes_max,
            wait_max: self.settings.epoch_wait_max,
            spare: self.under_way.as_ref().map(|under_way| under_way.spare),
            idle_max: match (is_restoring, self.under_way.is_some() || !self.restoring.is_empty()) {
                (true, _) => Duration::ZERO,
                (false, true) => IDLE_COMMITTING_MAX,
                (false, false) => IDLE_MAX,
            },
        })?;
        if collected.batch.is_empty() {
            if self.under_way.is_some() {
                self.outcome(Duration::ZERO)?;
            } else if waiting.0.saturating_sub(self.looked.0) >= LOOK_EVERY_MS && collected.rebalances.is_empty() {
                self.looked = waiting;
                self.write_state(false)?;
            }
            // The records that were let go of may have been the last for long.
            if self.is_astray && collected.rebalances.is_empty() {
                self.find_back()?;
            }
        } else {
            self.epoch(collected.batch, waiting)?;
        }
        for rebalance in collected.rebalances {
            self.answer(&rebalance)?;
        }
        self.tick();
        Ok(())
    }

    /// Computes an epoch, and commits it once the one before is.
    fn epoch(&mut self, batch: Batch, waiting: Uptime) -> Result<(), WorkerError> {
        if self.is_astray {
            drop(batch);
            return self.find_back();
        }
        let group = match self.source.group_metadata() {
            Ok(group) => group,
            // Thrown out of the group: the partitions are somebody else's by now, and a rebalance will say so. Until then
            // the records are read again, for nothing was made of them.
            Err(SourceError::NotMember) => {
                let again = batch.begin();
                drop(batch);
                self.watch.metrics.epoch_aborted(AbortCause::Rebalance);
                self.is_astray = self.source.seek(&again, SEEK_MAX).is_err();
                return Ok(());
            }
            Err(SourceError::JoinedAnew) => {
                drop(batch);
                return self.joined_anew();
            }
            Err(error) => return Err(error.into()),
        };
        match self.prepare(&batch)? {
            Prepared::Ready => {}
            Prepared::Void => return Ok(()),
            Prepared::NotYet => {
                let again = batch.begin();
                drop(batch);
                self.is_astray = self.source.seek(&again, SEEK_MAX).is_err();
                return Ok(());
            }
        }
        let (clock, computing) = (self.watch.clock, Deadline::after(Duration::ZERO));
        let terms = self.terms();
        let (mut laps, mut nothing) = ([clock.uptime(); 4], Nothing);
        // What was fetched before its partition was paused comes again, and nothing is taken twice.
        let positions = &self.positions;
        let is_next = |record: &Record<'_>| {
            positions.get(&record.position.partition).is_some_and(|resume| record.position.offset >= resume.0)
        };
        let records = batch.records().filter(is_next);
        let beyond = beyond(&mut self.shelf, &mut nothing);
        let schemas = self.resolver.schemas();
        let run = epoch::run(&mut self.partitions, beyond, self.model, schemas, &terms, records, |phase| {
            laps[match phase {
                Phase::Sessionize => 1,
                Phase::Encode => 2,
                Phase::Fold => 3,
            }] = clock.uptime();
        });
        drop(batch);
        let result = match run {
            Err(EpochError::Beyond(error)) => return self.doubt(&error),
            run => run?,
        };
        self.pace.computed(result.records, computing.elapsed());
        self.note_progress(&result);
        if let Some(ticker) = &mut self.ticker {
            result.resume.iter().for_each(|(partition, _)| ticker.heard(*partition));
        }
        let mut stats = self.stats(&result);
        let between = |from: Uptime, to: Uptime| Duration::from_millis(to.0.saturating_sub(from.0));
        stats.phases.wait = between(waiting, laps[0]);
        stats.phases.sessionize = between(laps[0], laps[1]);
        stats.phases.encode = between(laps[1], laps[2]);
        stats.phases.fold = between(laps[2], laps[3]);
        if !self.finish()? {
            return Ok(()); // Computed on top of a void epoch: void too.
        }
        self.submit(result, stats, group);
        Ok(())
    }

    fn submit(&mut self, result: EpochResult, stats: EpochStats, group: GroupMetadata) {
        let positions = match self.settings.sink.delivery {
            Delivery::ExactlyOnce => BTreeMap::new(),
            Delivery::AtLeastOnce => result
                .resume
                .iter()
                .filter_map(|(partition, resume)| Some((*partition, (*resume, self.histories.get(partition)?.clone()))))
                .collect(),
        };
        let state = self.to_shelve(&result);
        self.sink.submit(Epoch { result, group, histories: self.histories.clone() });
        let (since, spare) = (self.watch.clock.uptime(), self.pace.spare());
        self.under_way = Some(UnderWay { stats, since, positions, state, spare });
    }

    /// Where the partitions stand with this result.
    fn note_progress(&mut self, result: &EpochResult) {
        for (partition, resume) in &result.resume {
            self.positions.insert(*partition, *resume);
            if let (Some(history), Some(head)) = (self.histories.get_mut(partition), self.partitions.head(*partition)) {
                history.state_epoch = head.epoch;
            }
        }
    }

    /// Epochs of no record: writes customers that have been dirty for long, or `all` that are.
    fn write_state(&mut self, all: bool) -> Result<(), WorkerError> {
        let clock = self.watch.clock.wall_ms();
        for (partition, resume) in self.positions.clone() {
            loop {
                // Thrown out, the partitions are somebody else's, who does again from the input what is not written.
                let group = match self.source.group_metadata() {
                    Ok(group) => group,
                    Err(SourceError::JoinedAnew) => return self.joined_anew(),
                    Err(_) => return Ok(()),
                };
                let state = self.partitions.settle(partition, resume.0, clock, all);
                if state.is_empty() {
                    break;
                }
                let result = EpochResult { resume: vec![(partition, resume)], state, ..EpochResult::default() };
                self.note_progress(&result);
                if !self.finish()? {
                    return Ok(());
                }
                self.submit(result, EpochStats::default(), group);
                if !all {
                    break;
                }
            }
        }
        self.finish()?;
        Ok(())
    }

    /// The client is past records of which nothing was made.
    fn find_back(&mut self) -> Result<(), WorkerError> {
        if self.finish()? && self.is_astray {
            self.go_back(AbortCause::Rebalance, "records could not be read again after the membership was lost")?;
        }
        Ok(())
    }

    /// Has the schemas that the records need, and waits for a registry that is away.
    fn prepare(&mut self, batch: &Batch) -> Result<Prepared, WorkerError> {
        let ids = self.resolver.needs(batch.values().map(|(_, value)| value));
        if ids.is_empty() {
            self.note_unknown_ids(batch);
            return Ok(Prepared::Ready);
        }
        // It may take long: what is computed is committed, or is known not to be.
        if !self.finish()? {
            return Ok(Prepared::Void);
        }
        let Self { resolver, source, watch, stop, .. } = self;
        let (mut stayed, mut waited) = (Ok(()), false);
        let fetched = resolver.fetch(&ids, stop, &mut |event| {
            watch.registry(&event);
            waited |= matches!(event, registry::Event::Waiting(_));
            stayed = source.stay();
            // The group waits for the answer to a rebalance, which must not wait for a registry that is slow or away.
            let is_wait = !matches!(event, registry::Event::Answered(_));
            stayed.is_err() || (is_wait && source.rebalance_waits())
        });
        stayed?;
        if waited {
            watch.metrics.registry_waiting(false);
            watch.health.ready();
        }
        Ok(match fetched {
            Ok(()) => {
                self.note_unknown_ids(batch);
                Prepared::Ready
            }
            Err(Interrupted::Stopped) => Prepared::Void,
            Err(Interrupted::GaveUp) => Prepared::NotYet,
        })
    }

    /// Their records are rejected now, and must be again when the state is rebuilt, whatever is known by then.
    fn note_unknown_ids(&mut self, batch: &Batch) {
        for (Position { partition, offset }, value) in batch.values() {
            if let Some(id) = self.resolver.schemas().unknown(value)
                && let Some(history) = self.histories.get_mut(&partition)
            {
                history.unknown.reject(id, offset);
            }
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            rules: self.settings.rules.clone(),
            labels: self.settings.labels.clone(),
            summaries: self.settings.sink.topics.sessions.is_some(),
            emitted_at: self.watch.clock.wall_ms(),
        }
    }

    fn stats(&self, result: &EpochResult) -> EpochStats {
        let mut stats = EpochStats { records: result.records, duplicates: result.duplicates, ..EpochStats::default() };
        for output in &result.outputs {
            match &output.body {
                Body::Embedding(record) => stats.embedding(record, output.timestamp_ms),
                Body::Reject(reject) => stats.reject(reject.reason),
                Body::Erased(_) => stats.erasures += 1,
                Body::Session(_) => {}
            }
        }
        stats.partitions = result.resume.iter().filter_map(|(p, resume)| self.partition_stats(*p, *resume)).collect();
        stats
    }

    fn partition_stats(&self, partition: i32, resume: ResumeAt) -> Option<PartitionStats> {
        let sessions = self.partitions.sessions().get(&partition)?;
        Some(PartitionStats {
            partition,
            resume,
            stream_time: sessions.stream_time().ms().and_then(EventTime::parse),
            open_sessions: sessions.open_sessions() as u64,
            customers: sessions.customers(),
        })
    }

    /// Waits for the epoch under way; false where it was not committed, and the worker has gone back.
    fn finish(&mut self) -> Result<bool, WorkerError> {
        while self.under_way.is_some() {
            self.watch.health.progress(self.watch.clock.uptime(), "commit");
            if !self.outcome(OUTCOME_LOOK)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the outcome if it comes within `wait`; false where it was not a commit.
    fn outcome(&mut self, wait: Duration) -> Result<bool, WorkerError> {
        let (cause, why, is_sink_lost) = match self.sink.outcome(wait) {
            None => return Ok(true),
            Some(Outcome::Committed(receipt)) => {
                self.pace.committed(receipt.produce + receipt.commit);
                self.failures = 0;
                self.committed();
                return Ok(true);
            }
            Some(Outcome::Aborted { why }) => (AbortCause::Broker, why, false),
            Some(Outcome::Stale { why, epoch }) => match self.again(*epoch)? {
                true => return Ok(true),
                false => (AbortCause::Rebalance, why, false),
            },
            Some(Outcome::Fatal { why }) => (AbortCause::Fatal, why, true),
            Some(Outcome::UnknownOutcome { why }) => (AbortCause::UnknownOutcome, why, true),
            Some(Outcome::Hung { why }) => return Err(WorkerError::Hung { why }),
        };
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            return Err(WorkerError::NothingCommits { id: self.settings.sink.transactional_id.clone(), why });
        }
        if is_sink_lost {
            // The new one, by its id, decides what the old one left open; only then are the offsets final.
            let sink = Sink::spawn(self.settings.sink.clone(), encoder(self.written), self.stop);
            self.sink =
                sink.inspect_err(|_| tracing::warn!(why, "an epoch was not committed, and no other sink is there"))?;
        }
        self.go_back(cause, &why)?;
        Ok(false)
    }

    fn committed(&mut self) {
        let Some(UnderWay { mut stats, since, mut positions, state, spare: _ }) = self.under_way.take() else { return };
        if let Some(shelf) = &mut self.shelf {
            shelf.write(state);
        }
        let now = self.watch.clock.uptime();
        stats.phases.commit = Duration::from_millis(now.0.saturating_sub(since.0));
        // What was lost meanwhile is somebody else's to commit.
        positions.retain(|partition, _| self.histories.contains_key(partition));
        if !positions.is_empty() {
            if let Err(error) = self.source.commit(&positions, false) {
                tracing::warn!(%error, "offsets were not committed: after a crash these records come again");
            }
            self.acknowledged.extend(positions);
        }
        self.watch.metrics.epoch_committed(&stats, self.watch.clock.wall_ms());
        let (at_rest, bytes) = self.partitions.rest();
        self.watch.metrics.at_rest(at_rest, bytes);
        for partition in &stats.partitions {
            if let Some(end) = self.source.cached_end(partition.partition) {
                let lag = u64::try_from(end.saturating_sub(partition.resume.0)).unwrap_or(0);
                self.watch.metrics.consumer_lag(partition.partition, lag);
            }
        }
        (self.watch.committed)(&stats);
    }

    /// Before partitions go to somebody else, or the process ends.
    fn commit_acknowledged(&mut self) {
        let positions = std::mem::take(&mut self.acknowledged);
        if !positions.is_empty()
            && let Err(error) = self.source.commit(&positions, true)
        {
            tracing::warn!(%error, "the last offsets were not committed: their records come again");
        }
    }
}
