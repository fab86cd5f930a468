//! What a partition's state is after a restart: rebuilt in memory from the input itself, since all that `dce` publishes is
//! a function of the input records. Assigned partitions → their states and where to go on.
//!
//! Committed offsets are read first, and read committed, so that a predecessor's pending epoch is decided. Then the
//! records from the first that ever went into the state up to the committed offset are run again, and what they give is
//! dropped: it was published by the transactions that committed those offsets. The first offset is kept with each
//! committed one, so that a history that retention has eaten is noticed and never carried on from.
//!
//! Deliberately absent: anything on disk. The input must be kept as long as its state is wanted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::epoch::{self, Partitions, Terms};
use super::source::{Committed, Rebuild, Source, SourceError, SourceSettings};
use crate::kafka::reader::Span;
use crate::model::{Model, ModelError};
use crate::types::ResumeAt;
use crate::wire::avro::Schemas;

/// How long the broker may take for one question.
const ANSWER_MAX: Duration = Duration::from_secs(30);
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
        "{topic}/{partition}: the group has a committed offset ({committed}) that dce did not commit, so what went before \
         it is unknown; use an app.id of its own, or delete the group's offsets"
    )]
    Foreign { topic: String, partition: i32, committed: i64 },
}

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    pub partition: i32,
    /// The first offset of its state.
    pub begun: ResumeAt,
    pub resume: ResumeAt,
}

/// Rebuilds the partitions' states. `step` is called now and then with the records done and all of them.
#[expect(clippy::too_many_arguments, reason = "all that a worker has, for one call")]
pub fn restore(
    source: &mut Source,
    settings: &SourceSettings,
    partitions: &[i32],
    states: &mut Partitions,
    model: &mut dyn Model,
    schemas: &Schemas,
    terms: &Terms,
    mut step: impl FnMut(u64, u64),
) -> Result<Vec<Restored>, StateError> {
    let mut restored = BTreeMap::new();
    for (partition, committed) in source.committed(partitions, ANSWER_MAX)? {
        let (oldest, _) = source.watermarks(partition, ANSWER_MAX)?;
        states.open(partition, &terms.rules);
        restored.insert(partition, start(&settings.topic, partition, committed, oldest)?);
    }
    let spans: Vec<Span> = restored
        .values()
        .filter(|r| r.begun < r.resume)
        .map(|r| Span { partition: r.partition, from: r.begun, until: r.resume })
        .collect();
    if !spans.is_empty() {
        let mut rebuild = Rebuild::start(settings, &spans, STALL_MAX)?;
        while let Some(batch) = rebuild.next(EPOCH_RECORDS)? {
            epoch::run(states, model, schemas, terms, batch.records(), |_| ())?;
            source.stay()?;
            let progress = rebuild.progress();
            step(progress.done, progress.total);
        }
    }
    Ok(restored.into_values().collect())
}

fn start(topic: &str, partition: i32, committed: Option<Committed>, oldest: i64) -> Result<Restored, StateError> {
    match committed {
        None => Ok(Restored { partition, begun: ResumeAt(oldest), resume: ResumeAt(oldest) }),
        Some(Committed { resume, begun: None }) => {
            Err(StateError::Foreign { topic: topic.to_owned(), partition, committed: resume.0 })
        }
        Some(Committed { begun: Some(begun), .. }) if begun.0 < oldest => {
            Err(StateError::HistoryGone { topic: topic.to_owned(), partition, begun: begun.0, oldest })
        }
        Some(Committed { resume, begun: Some(begun) }) => Ok(Restored { partition, begun, resume }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(begun: Option<i64>) -> Option<Committed> {
        Some(Committed { resume: ResumeAt(90), begun: begun.map(ResumeAt) })
    }

    #[test]
    fn a_state_goes_on_only_from_a_whole_history() {
        let start = |committed, oldest| start("clicks", 3, committed, oldest).map_err(|error| error.to_string());
        let at = |begun, resume| Ok(Restored { partition: 3, begun: ResumeAt(begun), resume: ResumeAt(resume) });
        assert_eq!(start(None, 0), at(0, 0));
        assert_eq!(start(None, 40), at(40, 40), "a first start begins with the oldest record");
        assert_eq!(start(committed(Some(40)), 40), at(40, 90));
        assert!(
            start(committed(Some(40)), 41).unwrap_err().contains("began at offset 40, and the oldest record is now 41")
        );
        assert!(start(committed(None), 0).unwrap_err().contains("that dce did not commit"));
    }
}
