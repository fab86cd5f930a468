//! What an error of a transactional call asks for. The call's own flags decide; where a commit's answer got lost, nothing
//! is assumed.

use std::fmt;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};

use super::Deadline;

/// The four classes; each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The same call again, and no other in between.
    #[error("not answered yet: {0}")]
    Retry(CallError),
    /// Abort the transaction, drop the epoch; the producer stays good.
    #[error("the transaction must be aborted: {0}")]
    Abort(CallError),
    /// The producer is of no more use; the transaction was not committed.
    #[error("the producer must be replaced: {0}")]
    Fatal(CallError),
    /// The transaction may have been committed or not: replace the producer (which decides it), then read the committed
    /// offsets again.
    #[error("whether the transaction was committed is unknown: {0}")]
    UnknownOutcome(CallError),
}

/// Which transactional call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Init,
    Begin,
    SendOffsets,
    Commit,
    Abort,
}

/// An error as librdkafka gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    pub code: RDKafkaErrorCode,
    pub fatal: bool,
    pub retriable: bool,
    pub requires_abort: bool,
    pub text: String,
}

impl CallError {
    /// Puts the error into its class.
    pub fn class(self, call: Call) -> TransactionError {
        match self.code {
            // Two calls at once on one producer: ours to prevent, and to be retried for ever if it were not seen.
            RDKafkaErrorCode::Conflict | RDKafkaErrorCode::PreviousInProgress => return TransactionError::Fatal(self),
            _ => {}
        }
        if call == Call::Commit && (self.fatal || self.end_not_answered()) {
            return TransactionError::UnknownOutcome(self);
        }
        if self.fatal {
            TransactionError::Fatal(self)
        } else if self.retriable {
            TransactionError::Retry(self)
        } else if self.requires_abort && call != Call::Abort {
            TransactionError::Abort(self)
        } else {
            TransactionError::Fatal(self)
        }
    }

    /// A commit's EndTxn that failed without the coordinator's word that it was not done. A fatal error is of this kind
    /// too: the coordinator may have answered a repeated request, whose first one went through.
    fn end_not_answered(&self) -> bool {
        let refused =
            matches!(self.code, RDKafkaErrorCode::UnknownProducerId | RDKafkaErrorCode::InvalidProducerIdMapping);
        !refused && !self.retriable && self.text.starts_with("EndTxn ")
    }
}

impl From<&RDKafkaError> for CallError {
    fn from(error: &RDKafkaError) -> Self {
        Self {
            code: error.code(),
            fatal: error.is_fatal(),
            retriable: error.is_retriable(),
            requires_abort: error.txn_requires_abort(),
            text: error.string(),
        }
    }
}

impl From<&KafkaError> for CallError {
    /// An error without flags is fatal, as librdkafka's manual asks.
    fn from(error: &KafkaError) -> Self {
        if let KafkaError::Transaction(error) = error {
            return error.into();
        }
        Self {
            code: error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail),
            fatal: true,
            retriable: false,
            requires_abort: false,
            text: error.to_string(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.text, self.code)
    }
}

/// Calls until there is an answer that is not "call again", or the deadline has passed. A commit without one is unknown.
pub fn repeat(
    call: Call,
    deadline: &Deadline,
    mut attempt: impl FnMut(Duration) -> Result<(), CallError>,
) -> Result<(), TransactionError> {
    loop {
        let Err(error) = attempt(deadline.remaining()) else { return Ok(()) };
        match error.class(call) {
            TransactionError::Retry(_) if !deadline.passed() => {}
            TransactionError::Retry(error) if call == Call::Commit => {
                return Err(TransactionError::UnknownOutcome(error));
            }
            class => return Err(class),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: RDKafkaErrorCode, flags: &str, text: &str) -> CallError {
        CallError {
            code,
            fatal: flags.contains('f'),
            retriable: flags.contains('r'),
            requires_abort: flags.contains('a'),
            text: text.to_owned(),
        }
    }

    fn check(call: Call, error: CallError, class: &str) {
        let given = format!("{:?}", error.clone().class(call));
        assert!(given.starts_with(class), "{call:?} with {error:?} is {class}, not {given}");
    }

    #[test]
    fn the_flags_decide() {
        use RDKafkaErrorCode as Code;
        for call in [Call::Init, Call::SendOffsets, Call::Commit, Call::Abort] {
            check(call, error(Code::OperationTimedOut, "r", "Timed out"), "Retry");
            check(call, error(Code::Conflict, "r", "conflicting call"), "Fatal");
            check(call, error(Code::Fail, "", "no flag at all"), "Fatal");
        }
        check(Call::SendOffsets, error(Code::IllegalGeneration, "a", "illegal generation"), "Abort");
        check(Call::SendOffsets, error(Code::Fenced, "f", "fenced"), "Fatal");
        check(Call::Commit, error(Code::Inconsistent, "a", "1 message failed delivery"), "Abort");
        check(Call::Abort, error(Code::InvalidTransactionalState, "a", "an abort cannot be aborted"), "Fatal");
    }

    #[test]
    fn a_commit_without_a_clear_answer_is_unknown() {
        use RDKafkaErrorCode as Code;
        check(Call::Commit, error(Code::Fenced, "f", "Failed to end transaction: fenced"), "UnknownOutcome");
        let lost = "EndTxn failed with _TIMED_OUT but transaction had already failed due to: timeout";
        check(Call::Commit, error(Code::OperationTimedOut, "a", lost), "UnknownOutcome");
        let refused = "EndTxn commit failed: unknown producer id";
        check(Call::Commit, error(Code::UnknownProducerId, "a", refused), "Abort");
        check(Call::Commit, error(Code::Unknown, "a", "EndTxn commit failed: unknown server error"), "UnknownOutcome");
    }
}
