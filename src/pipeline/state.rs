//! What a partition's state is after a restart: rebuilt in memory from the input itself, since all that `dce` publishes is
//! a function of the input records. Assigned partitions → their states and where to go on.
//!
//! Committed offsets are read first, and read committed, so that a predecessor's pending epoch is decided. Then the
//! records from the first that ever went into the state up to the committed offset are run again, and what they give is
//! dropped: it was published by the transactions that committed those offsets. The first offset and a fingerprint of the
//! rules and the model are kept with each committed offset, so that a history that retention has eaten, or one that was
//! made by other terms, is noticed and never carried on from; so are the ids that nobody had a schema of.
//!
//! Deliberately absent: anything on disk. The input must be kept as long as its state is wanted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::epoch::{self, Partitions, Terms};
use super::history::{History, UnknownIds};
use super::source::{Committed, Rebuild, Record, Source, SourceError, SourceSettings};
use crate::config::SessionRules;
use crate::kafka::reader::Span;
use crate::model::{Model, ModelError};
use crate::registry::{self, Interrupted, Resolver};
use crate::stop::Stop;
use crate::types::{Position, ResumeAt, fnv1a64};
use crate::wire::avro::{Schemas, framing_id};

/// How long the broker may take for one question.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Times that a broker is asked for one thing.
const ASKS_MAX: u32 = 4;
/// Without a record for so long a rebuild is at an end, with the reason.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Records of one rebuilding epoch.
const EPOCH_RECORDS: usize = 10_000;

/// Why a state could not be had.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "{topic}/{partition}: the state cannot be rebuilt: it began at offset {begun}, and the oldest record is now \
         {oldest}; give {topic} a longer retention, or begin anew under another app.id with new output topics"
    )]
    HistoryGone { topic: String, partition: i32, begun: i64, oldest: i64 },
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
    #[error("stopped while the state was rebuilt")]
    Stopped,
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

/// What a rebuild is at.
#[derive(Debug)]
pub enum Step<'a> {
    /// Records done, and all of them.
    Records(u64, u64),
    Registry(registry::Event<'a>),
}

/// Rebuilds the partitions' states. `step` is told now and then, and says whether to stop.
#[expect(clippy::too_many_arguments, reason = "all that a worker has, for one call")]
pub fn restore(
    source: &mut Source,
    settings: &SourceSettings,
    partitions: &[i32],
    states: &mut Partitions,
    model: &mut dyn Model,
    resolver: &mut Resolver,
    terms: &Terms,
    stop: &Stop,
    mut step: impl FnMut(Step<'_>) -> bool,
) -> Result<Vec<Restored>, StateError> {
    let mut restored = BTreeMap::new();
    let terms_now = fingerprint(&terms.rules, model);
    for (partition, committed) in patiently(&mut step, || source.committed(partitions, ANSWER_MAX))? {
        let (oldest, _) = patiently(&mut step, || source.watermarks(partition, ANSWER_MAX))?;
        states.open(partition, &terms.rules);
        restored.insert(partition, start(&settings.topic, partition, committed, oldest, terms_now)?);
    }
    let spans: Vec<Span> = restored
        .values()
        .filter(|r| r.history.begun < r.resume)
        .map(|r| Span { partition: r.partition, from: r.history.begun, until: r.resume })
        .collect();
    if !spans.is_empty() {
        let mut rebuild = Rebuild::start(settings, &spans, STALL_MAX)?;
        while let Some(batch) = rebuild.next(EPOCH_RECORDS)? {
            // Rejected records went into nothing.
            let records = || batch.records().filter(|record| rejected_for_its_id(&restored, record) != Some(true));
            let mut stayed = Ok(());
            let prepared = resolver.prepare(records().filter_map(|record| record.value), stop, &mut |event| {
                stayed = source.stay();
                step(Step::Registry(event)) || stayed.is_err()
            });
            stayed?;
            if let Err(Interrupted::Stopped | Interrupted::GaveUp) = prepared {
                return Err(StateError::Stopped);
            }
            for record in records() {
                check_schema(&settings.topic, &restored, resolver.schemas(), &record)?;
            }
            epoch::run(states, model, resolver.schemas(), terms, records(), |_| ())?;
            source.stay()?;
            let progress = rebuild.progress();
            if step(Step::Records(progress.done, progress.total)) {
                return Err(StateError::Stopped);
            }
        }
    }
    Ok(restored.into_values().collect())
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

/// Asks a broker that is away for a while again, up to [`ASKS_MAX`] times.
fn patiently<T>(
    step: &mut impl FnMut(Step<'_>) -> bool,
    mut ask: impl FnMut() -> Result<T, SourceError>,
) -> Result<T, StateError> {
    for asked in 1.. {
        match ask() {
            Err(SourceError::Broker { doing, why }) if asked < ASKS_MAX => {
                tracing::warn!(doing, why, asked, "the broker does not answer: asking again");
                if step(Step::Records(0, 0)) {
                    return Err(StateError::Stopped);
                }
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
) -> Result<Restored, StateError> {
    let topic = || topic.to_owned();
    let Some(Committed { resume, history }) = committed else {
        let begun = ResumeAt(oldest);
        return Ok(Restored {
            partition,
            history: History { begun, fingerprint, unknown: UnknownIds::default() },
            resume: begun,
        });
    };
    let Some(history) = history else {
        return Err(StateError::Foreign { topic: topic(), partition, committed: resume.0 });
    };
    if history.begun.0 < oldest {
        return Err(StateError::HistoryGone { topic: topic(), partition, begun: history.begun.0, oldest });
    }
    if history.fingerprint != fingerprint {
        return Err(StateError::OtherTerms { topic: topic(), partition });
    }
    Ok(Restored { partition, history, resume })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_goes_on_only_from_a_whole_history_under_the_same_terms() {
        let history = |begun| History { begun: ResumeAt(begun), fingerprint: 7, unknown: UnknownIds::default() };
        let committed = |history| Some(Committed { resume: ResumeAt(90), history });
        let start =
            |committed, oldest, terms| start("clicks", 3, committed, oldest, terms).map_err(|error| error.to_string());
        let at = |begun, resume| Ok(Restored { partition: 3, history: history(begun), resume: ResumeAt(resume) });
        assert_eq!(start(None, 0, 7), at(0, 0));
        assert_eq!(start(None, 40, 7), at(40, 40), "a first start begins with the oldest record");
        assert_eq!(start(committed(Some(history(40))), 40, 7), at(40, 90));
        let gone = start(committed(Some(history(40))), 41, 7).unwrap_err();
        assert!(gone.contains("began at offset 40, and the oldest record is now 41"), "{gone}");
        assert!(start(committed(Some(history(40))), 40, 8).unwrap_err().contains("other session rules"));
        assert!(start(committed(None), 0, 7).unwrap_err().contains("that dce did not commit"));
    }

    #[test]
    fn a_record_that_was_read_must_be_readable_and_one_that_was_rejected_stays_so() {
        let mut unknown = UnknownIds::default();
        unknown.reject(9, 4);
        let history = History { begun: ResumeAt(0), fingerprint: 7, unknown };
        let restored = BTreeMap::from([(3, Restored { partition: 3, history, resume: ResumeAt(90) })]);
        let value = [0, 0, 0, 0, 9, 1];
        let at = |offset| Record {
            position: Position { partition: 3, offset },
            timestamp_ms: None,
            key: None,
            value: Some(&value),
            traceparent: None,
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
