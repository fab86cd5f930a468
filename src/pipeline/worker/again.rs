//! An epoch whose offsets were not taken since the group has another generation: others came or went, and the partitions that
//! stay here are nobody else's. It is committed as it is, as a member of the new generation.
//!
//! A member that the group has thrown out hears of it as a loss, or, in the midst of a rebalance, only by another name that it
//! is given when it joins again ([`SourceError::JoinedAnew`]). Where neither is so, the partitions were here all the while.
//! Where there is no newer generation yet, it is waited for.

use std::time::Duration;

use super::{FAILURES_MAX, Worker, WorkerError};
use crate::kafka::Deadline;
use crate::pipeline::sink::Epoch;
use crate::pipeline::source::SourceError;
use crate::telemetry::metrics::AbortCause;

/// For the group to come to a generation of which this is a member. Members that are slow to join keep it for longer.
const REJOIN_MAX: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Worker<'_, '_> {
    /// Submits the epoch again; false where it may not be.
    pub(super) fn again(&mut self, epoch: Epoch) -> Result<bool, WorkerError> {
        if self.failures + 1 >= FAILURES_MAX {
            return Ok(false);
        }
        let deadline = Deadline::after(REJOIN_MAX);
        while !deadline.passed() && !self.stop.is_stopped() {
            self.watch.health.progress(self.watch.clock.uptime(), "rejoin");
            // Hears of a loss, if there is one; it is answered later.
            self.source.stay()?;
            if self.source.loss_waits() {
                break;
            }
            match self.source.group_metadata() {
                Ok(group) if group.generation() > epoch.group.generation() => {
                    self.failures += 1;
                    self.watch.metrics.epoch_aborted(AbortCause::Rebalance);
                    tracing::info!(
                        generation = group.generation(),
                        "an epoch is committed again, as a member of this generation"
                    );
                    self.sink.submit(Epoch { group, ..epoch });
                    return Ok(true);
                }
                Ok(_) => std::thread::sleep(LOOK_EVERY),
                Err(SourceError::NotMember | SourceError::JoinedAnew) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Others may have gone on with the partitions: back to what is committed of them.
    pub(super) fn joined_anew(&mut self) -> Result<(), WorkerError> {
        if self.finish()? {
            self.go_back(AbortCause::Rebalance, "the group had forgotten this member, and it has joined anew")?;
        }
        Ok(())
    }
}
