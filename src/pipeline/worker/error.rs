//! What ends a worker before it is told to stop.

use crate::pipeline::epoch::EpochError;
use crate::pipeline::producers::ProducerError;
use crate::pipeline::source::SourceError;
use crate::pipeline::state::StateError;
use crate::registry::RegistryError;
use crate::store::StoreError;

use super::FAILURES_MAX;

/// What ends a worker. A restart may help with the broker's and the sink's.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Sink(#[from] ProducerError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the Kafka producer of {topic} cannot be made: {why}")]
    Ticker { topic: String, why: String },
    #[error("a customer's record could not be read from the local store: {why}")]
    LocalStore { partition: i32, why: String },
    #[error(
        "{FAILURES_MAX} epochs in a row could not be committed by {id}, last: {why}; does another process run with the \
         same app.id and app.instance, or does the broker refuse the records?"
    )]
    NothingCommits { id: String, why: String },
    #[error("{why}; the process must be restarted")]
    Hung { why: String },
}

impl WorkerError {
    /// It was told to, while nothing was computed, or what was left open is for its successor to decide.
    pub(super) fn is_stop(&self) -> bool {
        matches!(self, Self::State(StateError::Stopped) | Self::Sink(ProducerError::Stopped { .. }))
    }
}
