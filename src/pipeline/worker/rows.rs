//! The worker and its local store: what is handed over, what leaves the memory, and a store that is not to be believed.

use super::{FAILURES_MAX, Worker, WorkerError};
use crate::pipeline::epoch::EpochResult;
use crate::pipeline::log::StateRecord;
use crate::pipeline::rest::{Beyond, BeyondError, Nothing};
use crate::pipeline::shelf::Shelf;
use crate::telemetry::metrics::AbortCause;

/// Where records are read that memory does not hold.
pub(super) fn beyond<'b>(shelf: &'b mut Option<Shelf>, nothing: &'b mut Nothing) -> &'b mut dyn Beyond {
    match shelf {
        Some(shelf) => shelf,
        None => nothing,
    }
}

impl Worker<'_, '_> {
    /// What an epoch that goes to the sink is to leave in the store, once it is committed.
    pub(super) fn to_shelve(&self, result: &EpochResult) -> Vec<StateRecord> {
        let Some(shelf) = &self.shelf else { return Vec::new() };
        for (partition, _) in &result.resume {
            if let Some(head) = self.partitions.head(*partition) {
                shelf.submits(*partition, head.epoch);
            }
        }
        result.state.clone()
    }

    /// What the store has by now may leave the memory.
    pub(super) fn look_at_shelf(&mut self) -> Result<(), WorkerError> {
        let Some(shelf) = &mut self.shelf else { return Ok(()) };
        for (partition, epoch) in shelf.written()? {
            self.partitions.is_beyond(partition, epoch);
        }
        self.watch.metrics.local_store(shelf.bytes(), shelf.take_reads());
        Ok(())
    }

    /// Damage costs the partition's part of the store, which the log fills anew; a disk that refuses ends the worker.
    pub(super) fn doubt(&mut self, error: &BeyondError) -> Result<(), WorkerError> {
        if !error.is_damage {
            return Err(WorkerError::LocalStore { partition: error.partition, why: error.why.clone() });
        }
        self.doubted.insert(error.partition, error.why.clone());
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            let id = self.settings.sink.transactional_id.clone();
            return Err(WorkerError::NothingCommits { id, why: error.why.clone() });
        }
        // A restore that met it begins anew with all that it was doing: nothing else was computed on top of that.
        let reading = self.restoring.iter().find(|reading| reading.wanted.contains(&error.partition));
        if let Some(wanted) = reading.map(|reading| reading.wanted.iter().copied().collect::<Vec<i32>>()) {
            self.forget(&wanted)?;
            self.begin(&wanted);
            return Ok(());
        }
        // The epoch under way was computed before; what is not committed of it goes back by itself.
        if !self.finish()? {
            return Ok(());
        }
        self.go_back(AbortCause::Store, &error.why)
    }
}
