//! Drives the stages for one group member: computes one epoch while the last one commits. Settings, stop → result.
//!
//! ```text
//!   collect(N+1) ▸ compute(N+1) ▸ outcome(N)? ▸ submit(N+1) ▸ …
//!                                    └ not committed: both are void; states and positions go back to what is committed
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::epoch::{self, Body, EpochResult, Partitions, Phase, Terms};
use super::sink::{Encode, Epoch, Outcome, Sink, SinkError, SinkHandle, SinkSettings};
use super::source::{Batch, CollectLimits, History, Source, SourceError, SourceSettings};
use super::state::{self, Restored, StateError};
use crate::config::{Delivery, Encoding, SessionRules};
use crate::health::Health;
use crate::kafka::client::Rebalance;
use crate::model::{Model, ModelError};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::{AbortCause, EpochStats, Metrics, PartitionStats};
use crate::types::{EventTime, ResumeAt, Uptime};
use crate::wire::avro::Schemas;

/// Of an epoch's keys and values.
const EPOCH_BYTES_MAX: usize = 64 << 20;
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

#[derive(Debug, Clone)]
pub struct WorkerSettings {
    pub source: SourceSettings,
    pub sink: SinkSettings,
    pub encoding: Encoding,
    pub rules: SessionRules,
    pub labels: Vec<Arc<str>>,
    pub epoch_events_max: usize,
    pub epoch_wait_max: Duration,
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

/// What ends a worker. A restart may help with the broker's and the sink's.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "{FAILURES_MAX} epochs in a row could not be committed by {id}, last: {why}; does another process run with the \
         same app.id and app.instance, or does the broker refuse the records?"
    )]
    NothingCommits { id: String, why: String },
    #[error("{why}; the process must be restarted")]
    Hung { why: String },
}

/// Runs until the stop is asked for; the epoch under way is finished then.
pub fn run(
    settings: &WorkerSettings,
    model: &mut dyn Model,
    watch: &mut Watch<'_>,
    stop: &Stop,
) -> Result<(), WorkerError> {
    watch.health.not_ready("joining the group");
    let sink = Sink::spawn(settings.sink.clone(), encoder(settings.encoding))?;
    let source = Source::new(&settings.source)?;
    let mut worker = Worker {
        settings,
        model,
        watch,
        schemas: Schemas::released(),
        partitions: Partitions::default(),
        histories: BTreeMap::new(),
        stop,
        under_way: None,
        failures: 0,
        acknowledged: BTreeMap::new(),
        is_astray: false,
        sink,
        source,
    };
    let outcome = worker.until_stopped();
    match outcome {
        // Nothing is under way then, and nothing was half done.
        Err(WorkerError::State(StateError::Stopped)) => Ok(()),
        Ok(()) | Err(_) => outcome,
    }
}

fn encoder(encoding: Encoding) -> Encode {
    Box::new(move |body, out| {
        let encoded = match body {
            Body::Embedding(record) => record.encode_into(encoding, out),
            Body::Session(summary) => summary.encode_into(encoding, out),
            Body::Reject(_) | Body::Erased(_) => Ok(()),
        };
        encoded.expect("embeddings are finite and of unit length before they get here");
    })
}

struct Worker<'w, 's> {
    settings: &'w WorkerSettings,
    model: &'w mut dyn Model,
    watch: &'w mut Watch<'s>,
    schemas: Schemas,
    partitions: Partitions,
    /// The assigned partitions, each with what its state was made of.
    histories: BTreeMap<i32, History>,
    stop: &'w Stop,
    /// Of the epoch that is being committed: its counts, and since when.
    under_way: Option<(EpochStats, Uptime)>,
    /// The client is past records of which nothing was made: nothing is read before it is back.
    is_astray: bool,
    /// Epochs not committed since the last commit.
    failures: u32,
    /// Delivered at least once: where the partitions go on, to be committed once more and waited for before they go.
    acknowledged: BTreeMap<i32, ResumeAt>,
    sink: SinkHandle,
    source: Source,
}

impl Worker<'_, '_> {
    fn until_stopped(&mut self) -> Result<(), WorkerError> {
        while !self.stop.is_stopped() {
            self.turn()?;
        }
        tracing::info!("stopping: the epoch under way is finished");
        self.finish()?;
        self.commit_acknowledged();
        Ok(())
    }

    fn turn(&mut self) -> Result<(), WorkerError> {
        let waiting = self.watch.clock.uptime();
        self.watch.health.progress(waiting, "collect");
        let collected = self.source.collect(&CollectLimits {
            events_max: self.settings.epoch_events_max,
            bytes_max: EPOCH_BYTES_MAX,
            wait_max: self.settings.epoch_wait_max,
            idle_max: if self.under_way.is_some() { IDLE_COMMITTING_MAX } else { IDLE_MAX },
        })?;
        if collected.batch.is_empty() {
            if self.under_way.is_some() {
                self.outcome(Duration::ZERO)?;
            }
        } else {
            self.epoch(collected.batch, waiting)?;
        }
        for rebalance in collected.rebalances {
            self.answer(&rebalance)?;
        }
        Ok(())
    }

    /// Computes an epoch, and commits it once the one before is.
    fn epoch(&mut self, batch: Batch, waiting: Uptime) -> Result<(), WorkerError> {
        if self.is_astray {
            drop(batch);
            return if self.finish()? {
                self.go_back(AbortCause::Rebalance, "records could not be read again after the membership was lost")
            } else {
                Ok(())
            };
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
            Err(error) => return Err(error.into()),
        };
        let clock = self.watch.clock;
        let terms = self.terms();
        let mut laps = [clock.uptime(); 4];
        let result = epoch::run(&mut self.partitions, self.model, &self.schemas, &terms, batch.records(), |phase| {
            laps[match phase {
                Phase::Sessionize => 1,
                Phase::Encode => 2,
                Phase::Fold => 3,
            }] = clock.uptime();
        })?;
        drop(batch);
        let mut stats = self.stats(&result);
        let between = |from: Uptime, to: Uptime| Duration::from_millis(to.0.saturating_sub(from.0));
        stats.phases.wait = between(waiting, laps[0]);
        stats.phases.sessionize = between(laps[0], laps[1]);
        stats.phases.encode = between(laps[1], laps[2]);
        stats.phases.fold = between(laps[2], laps[3]);
        if !self.finish()? {
            return Ok(()); // Computed on top of a void epoch: void too.
        }
        self.sink.submit(Epoch { result, group, histories: self.histories.clone() });
        self.under_way = Some((stats, clock.uptime()));
        Ok(())
    }

    fn terms(&self) -> Terms {
        Terms {
            rules: self.settings.rules.clone(),
            labels: self.settings.labels.clone(),
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
            customers: sessions.customers() as u64,
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
            Some(Outcome::Committed(_)) => {
                self.failures = 0;
                self.committed();
                return Ok(true);
            }
            Some(Outcome::Aborted { why }) => (AbortCause::Broker, why, false),
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
            self.sink = Sink::spawn(self.settings.sink.clone(), encoder(self.settings.encoding))?;
        }
        self.go_back(cause, &why)?;
        Ok(false)
    }

    fn committed(&mut self) {
        let Some((mut stats, since)) = self.under_way.take() else { return };
        let now = self.watch.clock.uptime();
        stats.phases.commit = Duration::from_millis(now.0.saturating_sub(since.0));
        if self.settings.sink.delivery == Delivery::AtLeastOnce {
            let resumed = stats.partitions.iter().map(|p| (p.partition, p.resume));
            let positions = self.with_histories(resumed.clone());
            self.acknowledged.extend(resumed);
            if let Err(error) = self.source.commit(&positions, false) {
                tracing::warn!(%error, "offsets were not committed: after a crash these records come again");
            }
        }
        self.watch.metrics.epoch_committed(&stats, self.watch.clock.wall_ms());
        for partition in &stats.partitions {
            if let Some(end) = self.source.cached_end(partition.partition) {
                let lag = u64::try_from(end.saturating_sub(partition.resume.0)).unwrap_or(0);
                self.watch.metrics.consumer_lag(partition.partition, lag);
            }
        }
        (self.watch.committed)(&stats);
    }

    fn with_histories(&self, positions: impl Iterator<Item = (i32, ResumeAt)>) -> Vec<(i32, ResumeAt, History)> {
        positions.filter_map(|(p, resume)| Some((p, resume, *self.histories.get(&p)?))).collect()
    }

    /// Before partitions go to somebody else, or the process ends.
    fn commit_acknowledged(&mut self) {
        let acknowledged = std::mem::take(&mut self.acknowledged);
        let positions = self.with_histories(acknowledged.into_iter());
        if !positions.is_empty()
            && let Err(error) = self.source.commit(&positions, true)
        {
            tracing::warn!(%error, "the last offsets were not committed: their records come again");
        }
    }

    /// The epoch under way and all on top of it are void: states and positions as committed.
    fn go_back(&mut self, cause: AbortCause, why: &str) -> Result<(), WorkerError> {
        tracing::warn!(why, "an epoch was not committed: going back to what is");
        self.under_way = None;
        self.acknowledged.clear();
        self.watch.metrics.epoch_aborted(cause);
        let assigned: Vec<i32> = self.histories.keys().copied().collect();
        if assigned.is_empty() {
            return Ok(());
        }
        let restored = self.restore(&assigned)?;
        let positions: Vec<(i32, ResumeAt)> = restored.iter().map(|r| (r.partition, r.resume)).collect();
        self.source.seek(&positions, SEEK_MAX)?;
        self.is_astray = false;
        self.watch.health.ready();
        Ok(())
    }

    fn answer(&mut self, rebalance: &Rebalance) -> Result<(), WorkerError> {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                // What commits now would be read as committed or not, at random.
                self.finish()?;
                let restored = self.restore(partitions)?;
                let starts: Vec<(i32, ResumeAt)> = restored.iter().map(|r| (r.partition, r.resume)).collect();
                self.source.assign(&starts)?;
                tracing::info!(?partitions, "partitions assigned");
                self.watch.health.ready();
            }
            Rebalance::Revoked { partitions, lost } => {
                if self.settings.sink.delivery == Delivery::AtLeastOnce && !lost {
                    self.finish()?;
                    self.commit_acknowledged();
                }
                for partition in partitions {
                    self.histories.remove(partition);
                    self.acknowledged.remove(partition);
                }
                self.finish()?;
                for partition in partitions {
                    self.partitions.close(*partition);
                    self.watch.metrics.revoked(*partition);
                }
                self.source.unassign(partitions)?;
                tracing::info!(?partitions, lost, "partitions revoked");
                if self.histories.is_empty() {
                    self.watch.health.not_ready("no partition is assigned");
                }
            }
        }
        Ok(())
    }

    fn restore(&mut self, partitions: &[i32]) -> Result<Vec<Restored>, WorkerError> {
        let terms = self.terms();
        let watch = &self.watch;
        watch.health.not_ready(format!("restoring {} partitions", partitions.len()));
        let (stop, mut logged) = (self.stop, watch.clock.uptime());
        let restored = state::restore(
            &mut self.source,
            &self.settings.source,
            partitions,
            &mut self.partitions,
            self.model,
            &self.schemas,
            &terms,
            |done, total| {
                let now = watch.clock.uptime();
                watch.health.progress(now, "restore");
                if now.0 - logged.0 >= 5_000 {
                    logged = now;
                    tracing::info!(done, total, "rebuilding the state from the input");
                }
                stop.is_stopped()
            },
        )?;
        for r in &restored {
            self.histories.insert(r.partition, r.history);
            self.watch.metrics.assigned(r.partition, self.watch.clock.wall_ms());
            if let Some(stats) = self.partition_stats(r.partition, r.resume) {
                self.watch.metrics.restored(stats);
            }
        }
        Ok(restored)
    }
}
