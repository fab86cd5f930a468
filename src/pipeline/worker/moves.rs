//! Partitions that come, go, or have to go back to what is committed: their states and positions.

use super::{SEEK_MAX, Worker, WorkerError};
use crate::config::Delivery;
use crate::kafka::client::Rebalance;
use crate::pipeline::state::{self, Onto, Plan, Restored, Step};
use crate::registry;
use crate::telemetry::metrics::AbortCause;
use crate::types::ResumeAt;

impl Worker<'_, '_> {
    /// The epoch under way and all on top of it are void: states and positions as committed.
    pub(super) fn go_back(&mut self, cause: AbortCause, why: &str) -> Result<(), WorkerError> {
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

    pub(super) fn answer(&mut self, rebalance: &Rebalance) -> Result<(), WorkerError> {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                // What commits now would be read as committed or not, at random.
                self.finish()?;
                self.acknowledged.retain(|partition, _| !partitions.contains(partition));
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
                    self.positions.remove(partition);
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
                    self.is_astray = false;
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
        let (stop, mut logged, mut waited) = (self.stop, watch.clock.uptime(), false);
        let plan = Plan {
            input: &self.settings.source,
            log: &self.settings.sink.topics.state,
            delivery: self.settings.sink.delivery,
            stop,
        };
        let restored = state::restore(
            &plan,
            &mut self.source,
            partitions,
            Onto { states: &mut self.partitions, model: self.model, resolver: &mut self.resolver, terms: &terms },
            |step| {
                let now = watch.clock.uptime();
                watch.health.progress(now, "restore");
                match step {
                    Step::Log(done, total) | Step::Records(done, total) if now.0 - logged.0 >= 5_000 => {
                        logged = now;
                        let from = if matches!(step, Step::Log(..)) { "its log" } else { "the input" };
                        tracing::info!(done, total, "restoring the state from {from}");
                    }
                    Step::Log(..) | Step::Records(..) => {}
                    Step::Registry(event) => {
                        watch.registry(&event);
                        waited |= matches!(event, registry::Event::Waiting(_));
                        return stop.is_stopped();
                    }
                }
                if std::mem::take(&mut waited) {
                    watch.metrics.registry_waiting(false);
                    watch.health.not_ready(format!("restoring {} partitions", partitions.len()));
                }
                stop.is_stopped()
            },
        )?;
        self.watch.metrics.registry_waiting(false);
        for r in &restored {
            self.histories.insert(r.partition, r.history.clone());
            self.positions.insert(r.partition, r.resume);
            self.watch.metrics.assigned(r.partition, self.watch.clock.wall_ms());
            if let Some(stats) = self.partition_stats(r.partition, r.resume) {
                self.watch.metrics.restored(stats);
            }
        }
        Ok(restored)
    }
}
