//! Partitions that come, go, or have to go back to what is committed. Restoring goes on beside the epochs of the other
//! partitions: a thread reads, and between two epochs the worker takes one step of what was read.

use std::sync::Arc;

use super::rows::beyond;
use super::{SEEK_MAX, Worker, WorkerError};
use crate::config::Delivery;
use crate::kafka::client::Rebalance;
use crate::pipeline::epoch::EpochError;
use crate::pipeline::rest::Nothing;
use crate::pipeline::shelf::Held;
use crate::pipeline::state::{self, Event, Plan, Reading, StateError, fingerprint};
use crate::registry::{self, Interrupted};
use crate::telemetry::metrics::AbortCause;

/// How often a restore says how far it is.
const SAY_EVERY_MS: u64 = 5_000;

impl Worker<'_, '_> {
    /// The epoch under way and all on top of it are void: states and positions as committed.
    pub(super) fn go_back(&mut self, cause: AbortCause, why: &str) -> Result<(), WorkerError> {
        tracing::warn!(why, "an epoch was not committed: going back to what is");
        self.under_way = None;
        self.acknowledged.clear();
        self.is_astray = false;
        self.watch.metrics.epoch_aborted(cause);
        let assigned: Vec<i32> = self.histories.keys().copied().collect();
        if assigned.is_empty() {
            return Ok(());
        }
        self.source.pause(&assigned)?;
        self.forget(&assigned)?;
        self.begin(&assigned);
        self.say_readiness();
        Ok(())
    }

    pub(super) fn answer(&mut self, rebalance: &Rebalance) -> Result<(), WorkerError> {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                // What commits now would be read as committed or not, at random.
                self.finish()?;
                self.forget(partitions)?;
                // The group does not wait for the restore.
                self.source.assign_paused(partitions)?;
                self.begin(partitions);
                tracing::info!(?partitions, "partitions assigned");
            }
            Rebalance::Revoked { partitions, lost } => {
                if self.settings.sink.delivery == Delivery::AtLeastOnce && !lost {
                    self.finish()?;
                    self.commit_acknowledged();
                }
                for partition in partitions {
                    self.histories.remove(partition);
                }
                self.finish()?;
                self.forget(partitions)?;
                for partition in partitions {
                    self.watch.metrics.revoked(*partition);
                }
                self.source.unassign(partitions)?;
                tracing::info!(?partitions, lost, "partitions revoked");
                if self.histories.is_empty() {
                    self.is_astray = false;
                }
            }
        }
        self.say_readiness();
        Ok(())
    }

    /// Drops all that is known of the partitions; a restore of theirs is cancelled.
    pub(super) fn forget(&mut self, partitions: &[i32]) -> Result<(), WorkerError> {
        for partition in partitions {
            self.histories.remove(partition);
            self.positions.remove(partition);
            self.acknowledged.remove(partition);
            self.partitions.close(*partition);
            if let Some(shelf) = &mut self.shelf {
                shelf.close(*partition)?;
            }
            for reading in &mut self.restoring {
                reading.leave(*partition);
            }
        }
        self.restoring.retain(|reading| !reading.wanted.is_empty());
        self.show_progress();
        let (at_rest, bytes) = self.partitions.rest();
        self.watch.metrics.at_rest(at_rest, bytes);
        Ok(())
    }

    pub(super) fn begin(&mut self, partitions: &[i32]) {
        let plan = Plan {
            input: self.settings.source.clone(),
            sink: self.settings.sink.clone(),
            lookups: Arc::clone(&self.lookups),
            terms: fingerprint(&self.settings.rules, self.model),
            store: self.settings.store.as_ref().map(|local| local.store.clone()),
            cache_bytes: self.settings.store.as_ref().map_or(0, |local| local.cache_bytes),
            doubted: partitions.iter().filter_map(|partition| self.doubted.remove_entry(partition)).collect(),
        };
        self.restoring.push(Reading::start(plan, partitions));
    }

    /// Takes a step of each restore that is under way; false where nothing has come.
    pub(super) fn restore_some(&mut self) -> Result<bool, WorkerError> {
        let mut came = false;
        for at in 0..self.restoring.len() {
            // What comes of one may end others.
            let Some(event) = self.restoring.get_mut(at).and_then(Reading::poll) else { continue };
            came = true;
            match event {
                Event::Log(restored, logged, held) => self.take_log(at, restored, *logged, held)?,
                Event::Again(batch) => self.take_again(at, &batch)?,
                Event::Complete(partitions) => self.take_complete(at, &partitions)?,
                Event::Failed(error) => return Err(error.into()),
            }
        }
        self.restoring.retain(|reading| !reading.wanted.is_empty());
        let (done, total) = self.show_progress();
        let now = self.watch.clock.uptime();
        if total > 0 && now.0 - self.said.0 >= SAY_EVERY_MS {
            self.said = now;
            tracing::info!(done, total, "restoring: offsets of the state's log and of the input");
        }
        Ok(came)
    }

    /// Offsets read, and all of them.
    fn show_progress(&self) -> (u64, u64) {
        let add = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
        let (done, total) = self.restoring.iter().map(Reading::progress).fold((0, 0), add);
        let partitions = self.restoring.iter().map(|reading| reading.wanted.len()).sum();
        self.watch.metrics.restoring(partitions, total.saturating_sub(done));
        (done, total)
    }

    fn take_log(
        &mut self,
        at: usize,
        restored: state::Restored,
        logged: crate::pipeline::logged::Logged,
        held: Option<Held>,
    ) -> Result<(), WorkerError> {
        let partition = restored.partition;
        let reading = &mut self.restoring[at];
        if !reading.wanted.contains(&partition) {
            return Ok(());
        }
        reading.restored.insert(partition, restored);
        let state_len = self.model.shape().state;
        let topic = || self.settings.sink.topics.state.clone();
        if let (Some(shelf), Some(held)) = (&mut self.shelf, held) {
            shelf.open(partition, held, logged.head().epoch);
        }
        self.partitions
            .restore(partition, &self.settings.rules, state_len, logged)
            .map_err(|error| StateError::Log { topic: topic(), partition, error })?;
        Ok(())
    }

    /// Runs records again, once the schemas that they need are there.
    fn take_again(&mut self, at: usize, batch: &crate::pipeline::source::Batch) -> Result<(), WorkerError> {
        let terms = self.terms();
        let Self { restoring, resolver, source, watch, stop, partitions, shelf, model, settings, .. } = self;
        let wanted = &restoring[at].restored;
        watch.health.progress(watch.clock.uptime(), "restore");
        let (mut stayed, mut waited) = (Ok(()), false);
        let values = state::to_redo(batch, wanted).filter_map(|record| record.value);
        let prepared = resolver.prepare(values, stop, &mut |event| {
            watch.registry(&event);
            waited |= matches!(event, registry::Event::Waiting(_));
            stayed = source.stay();
            stayed.is_err() || stop.is_stopped()
        });
        stayed?;
        if waited {
            watch.metrics.registry_waiting(false);
        }
        if let Err(Interrupted::Stopped | Interrupted::GaveUp) = prepared {
            return Err(StateError::Stopped.into());
        }
        let schemas = resolver.schemas();
        state::check_schemas(&settings.source.topic, batch, wanted, schemas)?;
        let redone = state::redo(batch, wanted, partitions, beyond(shelf, &mut Nothing), *model, schemas, &terms);
        if let Err(StateError::Epoch(EpochError::Beyond(error))) = redone {
            return self.doubt(&error);
        }
        redone?;
        if waited {
            self.say_readiness();
        }
        Ok(())
    }

    /// The partitions go on.
    fn take_complete(&mut self, at: usize, partitions: &[i32]) -> Result<(), WorkerError> {
        let mut starts = Vec::new();
        for partition in partitions {
            let reading = &mut self.restoring[at];
            reading.wanted.remove(partition);
            let Some(restored) = reading.restored.remove(partition) else { continue };
            self.partitions.redone(*partition);
            self.histories.insert(*partition, restored.history);
            self.positions.insert(*partition, restored.resume);
            self.watch.metrics.assigned(*partition, self.watch.clock.wall_ms());
            if let Some(stats) = self.partition_stats(*partition, restored.resume) {
                self.watch.metrics.restored(stats);
            }
            starts.push((*partition, restored.resume));
        }
        if !starts.is_empty() {
            self.source.resume(&starts, SEEK_MAX)?;
            tracing::info!(partitions = ?starts.iter().map(|(p, _)| p).collect::<Vec<_>>(), "partitions restored");
        }
        self.say_readiness();
        Ok(())
    }

    /// Ready is who has partitions to work on.
    fn say_readiness(&self) {
        let restoring: usize = self.restoring.iter().map(|reading| reading.wanted.len()).sum();
        match (self.histories.is_empty(), restoring) {
            (false, _) => self.watch.health.ready(),
            (true, 0) => self.watch.health.not_ready("no partition is assigned"),
            (true, restoring) => self.watch.health.not_ready(format!("restoring {restoring} partitions")),
        }
    }
}
