//! What a partition's state is after a restart, a rebalance or an aborted epoch: read from its log, and what the log does
//! not hold yet is done again from the input. Assigned partitions → their states and where to go on.
//!
//! ```text
//!   committed offset ▸ log, up to its high watermark ▸ input, from `redo_from` to the committed offset ▸ go on
//! ```
//! Committed offsets are read first, and read committed, so that a predecessor's pending epoch is decided. The log is read
//! up to the high watermark, not the last stable offset: the markers of the epoch that committed those offsets may still
//! be on their way. What is done again from the input publishes nothing: it was published by the transactions that
//! committed those offsets. With each committed offset stand the number of the epoch that wrote to the log last, so that
//! one without the other is noticed and never carried on from, a fingerprint of the rules and the model, and the ids that
//! nobody had a schema of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::epoch::{self, EpochError, Terms};
use super::history::{History, UnknownIds};
use super::log::LogError;
use super::logged::Logged;
use super::partitions::Partitions;
use super::rest::Beyond;
use super::sink::SinkSettings;
use super::source::{Batch, Committed, Record, SourceError, SourceSettings};
use crate::config::{Delivery, SessionRules};
use crate::kafka::Deadline;
use crate::kafka::follow::{LookupError, Lookups};
use crate::kafka::topics::TopicError;
use crate::model::Model;
use crate::store::{Store, StoreError};
use crate::types::{Position, ResumeAt, fnv1a64};
use crate::wire::avro::{Schemas, framing_id};

mod reading;
mod stored;

pub use reading::{Event, Reading};

/// How long the broker may take for one question.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Times that a broker is asked for one thing, at the least.
const ASKS_MAX: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions, doubling.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why a state could not be had.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error(transparent)]
    Topics(#[from] TopicError),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{topic}/{partition}: the state cannot be completed: its log lacks what the records from offset {begun} on did, and \
         the oldest record is now {oldest}; give {topic} a longer retention, or begin anew under another app.id with new \
         output topics"
    )]
    HistoryGone { topic: String, partition: i32, begun: i64, oldest: i64 },
    #[error(
        "{topic}/{partition}: {error}; if nobody else writes to it, begin anew under another app.id with new topics"
    )]
    Log { topic: String, partition: i32, error: LogError },
    #[error(
        "{topic}/{partition}: the state and the committed offset do not go together: {why}; a transaction was torn, or \
         somebody deleted records or offsets; restore both, or begin anew under another app.id with new topics"
    )]
    Torn { topic: String, partition: i32, why: String },
    #[error(
        "{topic}/{partition}: what is committed was made with other session rules, provisional.every_events or another \
         model, so the past cannot be rebuilt as it was: restore them, or begin anew under another app.id with new \
         output topics"
    )]
    OtherTerms { topic: String, partition: i32 },
    #[error(
        "{topic}/{partition}: the state cannot be rebuilt: the record at offset {offset} was read by the schema of the id {id}, \
         which {why}; bring it back, or begin anew under another app.id with new output topics"
    )]
    SchemaGone { topic: String, partition: i32, offset: i64, id: u32, why: &'static str },
    #[error(
        "{topic} has {partitions} partitions and had {was} when its state was made: customers now come by other partitions than \
         their states are in; key the state anew (docs/operations.md, More partitions), or begin anew under \
         another app.id, with a new topics.state and new output topics"
    )]
    Regrown { topic: String, was: u32, partitions: u32 },
    #[error(
        "{topic}/{partition}: dce state import was begun and has not ended, so the state is not whole: delete {topic}, make \
         it anew (dce topics create), and import again"
    )]
    Importing { topic: String, partition: i32 },
    #[error(
        "{topic}: the committed offset of partitions {partitions:?} has been pending for minutes, in a transaction that nobody \
         decides: see A transaction that hangs in docs/operations.md"
    )]
    Pending { topic: String, partitions: Vec<i32> },
    #[error("stopped while the state was restored")]
    Stopped,
    #[error("the thread that reads the state could not be started, or ended: {0}")]
    Thread(String),
    #[error(
        "{topic}/{partition}: the group has a committed offset ({committed}) that dce did not commit, so what went before \
         it is unknown; use an app.id of its own, or delete the group's offsets"
    )]
    Foreign { topic: String, partition: i32, committed: i64 },
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub partition: i32,
    pub history: History,
    pub resume: ResumeAt,
}

/// What a state depends on beside the records.
pub fn fingerprint(rules: &SessionRules, model: &dyn Model) -> u64 {
    let SessionRules {
        gap_ms,
        allowed_lateness_ms,
        future_max_ms,
        duration_max_ms,
        events_max,
        open_max,
        revisable_max,
        revisions_max,
        provisional_every_events,
    } = rules;
    let durations = format!("{gap_ms} {allowed_lateness_ms} {future_max_ms} {duration_max_ms}");
    let counts = format!("{events_max} {open_max} {revisable_max} {revisions_max} {provisional_every_events}");
    let model = (model.id().as_str(), model.fingerprint());
    fnv1a64(format!("{durations} {counts} {} {:016x}", model.0, model.1).as_bytes())
}

/// What a restore goes by.
#[derive(Debug, Clone)]
pub struct Plan {
    pub input: SourceSettings,
    /// Among its topics the log.
    pub sink: SinkSettings,
    pub lookups: Arc<Lookups>,
    /// See [`fingerprint`].
    pub terms: u64,
    /// `None`: all customers are in memory.
    pub store: Option<Store>,
    /// Of the store's records, what stays in memory of all partitions together.
    pub cache_bytes: usize,
    /// Partitions whose part of the store is not believed, and why.
    pub doubted: BTreeMap<i32, String>,
}

/// Runs records again, those of `wanted` partitions, and drops what they give.
pub fn redo(
    batch: &Batch,
    wanted: &BTreeMap<i32, Restored>,
    states: &mut Partitions,
    beyond: &mut dyn Beyond,
    model: &mut dyn Model,
    schemas: &Schemas,
    terms: &Terms,
) -> Result<(), StateError> {
    epoch::run(states, beyond, model, schemas, terms, to_redo(batch, wanted), |_| ())?;
    Ok(())
}

/// That the records of the input can be read as they were.
pub fn check_schemas(
    topic: &str,
    batch: &Batch,
    wanted: &BTreeMap<i32, Restored>,
    schemas: &Schemas,
) -> Result<(), StateError> {
    to_redo(batch, wanted).try_for_each(|record| check_schema(topic, wanted, schemas, &record))
}

/// Rejected records went into nothing.
pub fn to_redo<'b>(batch: &'b Batch, wanted: &BTreeMap<i32, Restored>) -> impl Iterator<Item = Record<'b>> {
    let is_wanted = |record: &Record<'_>| {
        wanted.contains_key(&record.position.partition) && rejected_for_its_id(wanted, record) != Some(true)
    };
    batch.records().filter(is_wanted)
}

/// Whether the log and the committed offset are of the same epoch. At least once the log may be ahead: its records were
/// acknowledged before the offset was committed, and what it holds was published.
fn goes_together(plan: &Plan, restored: &mut Restored, logged: &Logged) -> Result<(), StateError> {
    let log = &plan.sink.topics.state;
    let Restored { partition, history, resume } = restored;
    if logged.is_importing() {
        return Err(StateError::Importing { topic: log.clone(), partition: *partition });
    }
    if let Some(why) = contradiction(plan.sink.delivery, log, history.state_epoch, *resume, logged) {
        return Err(StateError::Torn { topic: plan.input.topic.clone(), partition: *partition, why });
    }
    if plan.sink.delivery == Delivery::AtLeastOnce {
        let head = logged.head();
        history.state_epoch = head.epoch;
        *resume = (*resume).max(ResumeAt(head.resume));
    }
    Ok(())
}

/// What of a partition's log and its committed offset cannot be, both read up to their end. `state_epoch` and `resume` stand
/// with the offset; where none is committed they are 0 and the beginning.
pub fn contradiction(
    delivery: Delivery,
    log: &str,
    state_epoch: u64,
    resume: ResumeAt,
    logged: &Logged,
) -> Option<String> {
    let head = logged.head();
    let other_epochs =
        || Some(format!("the offset was committed with epoch {state_epoch}, and the log ends with {}", head.epoch));
    match delivery {
        Delivery::AtLeastOnce if head.epoch < state_epoch => other_epochs(),
        Delivery::AtLeastOnce => None,
        Delivery::ExactlyOnce if state_epoch == 0 && head.epoch > 0 => Some(format!(
            "nothing of {log} is committed, yet it has {} epochs: is it another application's?",
            head.epoch
        )),
        Delivery::ExactlyOnce if head.epoch != state_epoch => other_epochs(),
        Delivery::ExactlyOnce if head.resume > resume.0 => {
            Some(format!("the log reaches offset {}, and {} is committed", head.resume, resume.0))
        }
        Delivery::ExactlyOnce => logged.contradiction(),
    }
}

/// Whether the record was rejected when it was first read, since nobody had a schema of its id; `None` where it is framed by
/// none, or that is forgotten.
fn rejected_for_its_id(restored: &BTreeMap<i32, Restored>, record: &Record<'_>) -> Option<bool> {
    let id = framing_id(record.value?)?;
    restored.get(&record.position.partition)?.history.unknown.rejected(id, record.position.offset)
}

/// A record that was read must be read again, or the state is another one.
fn check_schema(
    topic: &str,
    restored: &BTreeMap<i32, Restored>,
    schemas: &Schemas,
    record: &Record<'_>,
) -> Result<(), StateError> {
    let Some(id) = record.value.and_then(|value| schemas.unknown(value)) else { return Ok(()) };
    if rejected_for_its_id(restored, record) != Some(false) {
        return Ok(());
    }
    let Position { partition, offset } = record.position;
    let why = if schemas.expects_ids() {
        "the schema registry does not know any more"
    } else {
        "came from a schema registry, and registry.url names none any more"
    };
    Err(StateError::SchemaGone { topic: topic.to_owned(), partition, offset, id, why })
}

/// Asks again a broker that is away for a while, or whose partitions have no leader yet: [`ASKS_MAX`] times, and for
/// [`PATIENCE`] where it answers at once.
fn patiently<T, E: fmt::Display>(
    gives_up: impl Fn() -> bool,
    mut ask: impl FnMut() -> Result<T, E>,
) -> Result<T, StateError>
where
    StateError: From<E>,
{
    let (patience, mut pause) = (Deadline::after(PATIENCE), PAUSE_MIN);
    for asked in 1.. {
        match ask() {
            _ if gives_up() => return Err(StateError::Stopped),
            Err(error) if asked < ASKS_MAX || !patience.passed() => {
                tracing::warn!(%error, asked, "the broker does not answer: asking again");
                std::thread::sleep(pause);
                pause = (2 * pause).min(PAUSE_MAX);
            }
            answered => return Ok(answered?),
        }
    }
    unreachable!("the last answer is returned whatever it is")
}

fn start(
    topic: &str,
    partition: i32,
    committed: Option<Committed>,
    oldest: i64,
    fingerprint: u64,
    partitions: u32,
) -> Result<Restored, StateError> {
    let topic = || topic.to_owned();
    let Some(Committed { resume, history }) = committed else {
        let begun = ResumeAt(oldest);
        return Ok(Restored {
            partition,
            history: History { begun, fingerprint, state_epoch: 0, partitions, unknown: UnknownIds::default() },
            resume: begun,
        });
    };
    let Some(mut history) = history else {
        return Err(StateError::Foreign { topic: topic(), partition, committed: resume.0 });
    };
    let was = std::mem::replace(&mut history.partitions, partitions);
    if was != 0 && was != partitions {
        return Err(StateError::Regrown { topic: topic(), was, partitions });
    }
    if history.fingerprint != fingerprint {
        return Err(StateError::OtherTerms { topic: topic(), partition });
    }
    Ok(Restored { partition, history, resume })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::source::Trace;

    #[test]
    fn a_state_goes_on_only_from_a_whole_history_under_the_same_terms() {
        let history = |begun| History {
            begun: ResumeAt(begun),
            fingerprint: 7,
            state_epoch: 0,
            partitions: 4,
            unknown: UnknownIds::default(),
        };
        let committed = |history| Some(Committed { resume: ResumeAt(90), history });
        let start = |committed, oldest, terms| {
            start("clicks", 3, committed, oldest, terms, 4).map_err(|error| error.to_string())
        };
        let grown =
            super::start("clicks", 3, committed(Some(history(40))), 40, 7, 8).map_err(|error| error.to_string());
        assert!(grown.unwrap_err().starts_with("clicks has 8 partitions and had 4"));
        let at = |begun, resume| Ok(Restored { partition: 3, history: history(begun), resume: ResumeAt(resume) });
        assert_eq!(start(None, 0, 7), at(0, 0));
        assert_eq!(start(None, 40, 7), at(40, 40), "a first start begins with the oldest record");
        assert_eq!(start(committed(Some(history(40))), 40, 7), at(40, 90));
        assert!(start(committed(Some(history(40))), 40, 8).unwrap_err().contains("other session rules"));
        assert!(start(committed(None), 0, 7).unwrap_err().contains("that dce did not commit"));
    }

    #[test]
    fn a_broker_that_is_not_ready_is_asked_again() {
        let mut asked = 0;
        let found = patiently(
            || false,
            || {
                asked += 1;
                if asked < 6 {
                    Err(TopicError::Refused { topic: "t".to_owned(), why: "no leader".to_owned() })
                } else {
                    Ok(7)
                }
            },
        );
        assert_eq!((found.unwrap(), asked), (7, 6));
        let stopped: Result<(), _> = patiently(|| true, || Ok::<_, TopicError>(()));
        assert!(matches!(stopped, Err(StateError::Stopped)));
    }

    #[test]
    fn a_record_that_was_read_must_be_readable_and_one_that_was_rejected_stays_so() {
        let mut unknown = UnknownIds::default();
        unknown.reject(9, 4);
        let history = History { begun: ResumeAt(0), fingerprint: 7, state_epoch: 0, partitions: 4, unknown };
        let restored = BTreeMap::from([(3, Restored { partition: 3, history, resume: ResumeAt(90) })]);
        let value = [0, 0, 0, 0, 9, 1];
        let at = |offset| Record {
            position: Position { partition: 3, offset },
            timestamp_ms: None,
            key: None,
            value: Some(&value),
            trace: Trace::None,
        };
        assert_eq!([4, 5].map(|offset| rejected_for_its_id(&restored, &at(offset))), [Some(true), Some(false)]);
        let mut schemas = Schemas::released();
        let check = |schemas: &Schemas| check_schema("clicks", &restored, schemas, &at(5)).map_err(|e| e.to_string());
        assert!(check(&schemas).unwrap_err().contains("offset 5 was read by the schema of the id 9, which came from"));
        schemas.no_such_id(9);
        assert!(check(&schemas).unwrap_err().contains("which the schema registry does not know any more"));
        schemas.register_id(9, r#""string""#, &[]).unwrap();
        assert_eq!(check(&schemas), Ok(()), "whatever it is, it was that then");
        let plain = Record { value: Some(b"{}"), ..at(5) };
        assert!(check_schema("clicks", &restored, &Schemas::released(), &plain).is_ok());
    }
}
