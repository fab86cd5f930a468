//! Where the partitions stand after a state is put into other topics: as they stood, or keyed anew by another number of
//! partitions or another input. What was exported → heads, committed offsets and records. `[pure]`
//!
//! The state was exported drained: everything below a partition's committed offset is in it, and nothing else is. A customer
//! that moves to another partition therefore takes with it all that its old partition's input did, and none of its new
//! partition's. So where partitions are keyed anew:
//!
//! - **Each begins at an offset of its own** (`begins`): an old partition of a grown topic at its committed offset, a new one
//!   at its first record, and every partition of a new topic at its first record.
//! - **`through` of every customer is where its partition begins.** It is compared with offsets of the partition that the
//!   customer is in now. The old one's number would make the restore skip records of the new one that the customer has not
//!   seen; a smaller one would say that it lacks what nobody can read again.
//! - **Stream time is the earliest of the partitions that its customers came from.** A later one would end silences and freeze
//!   sessions of the slower partition's customers though nobody heard anything later on their line: the import would decide
//!   what only records may. With the earliest one nothing happens before the first record comes, and sessions keep their own
//!   times, so that the faster partition's customers lose nothing by it. Where the number of partitions is multiplied, each
//!   new partition has customers of one old one alone, and its very stream time.
//! - **The epochs begin anew at 1**, for no chain of the old ones is one of the new partition.

use std::collections::BTreeMap;

use super::history::{History, UnknownIds};
use super::log::Head;
use crate::types::{Moment, ResumeAt};

/// A partition as it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stood {
    /// What the group had committed, and what the state was made of.
    pub committed: Option<(ResumeAt, History)>,
    pub head: Option<Head>,
}

impl Stood {
    /// Why it cannot be exported or imported: it was not drained, or its parts do not go together.
    pub fn fault(&self) -> Option<String> {
        match (&self.committed, &self.head) {
            (None, None) => None,
            (None, Some(_)) => Some("its log has records, and no offset is committed".to_owned()),
            (Some(_), None) => Some("an offset is committed, and its log is empty".to_owned()),
            (Some((_, history)), Some(head)) if head.epoch != history.state_epoch => Some(format!(
                "the offset was committed with epoch {}, and its log ends with {}",
                history.state_epoch, head.epoch
            )),
            (Some((resume, _)), Some(head)) if head.resume > resume.0 => {
                Some(format!("its log reaches offset {}, and {} is committed", head.resume, resume.0))
            }
            (Some((resume, _)), Some(head)) if head.redo_from != resume.0 => {
                Some(format!("its log lacks what the input did from offset {} to {}", head.redo_from, resume.0))
            }
            (Some(_), Some(_)) => None,
        }
    }
}

/// A partition as it will stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    pub resume: ResumeAt,
    pub history: History,
    pub head: Head,
}

/// Keys a state anew. Is shown each customer's way first, and says then where the partitions stand.
#[derive(Debug)]
pub struct Rekeying {
    begins: Vec<ResumeAt>,
    stream_times: BTreeMap<i32, Moment>,
    fingerprint: u64,
    /// Of each new partition: customers, and the earliest stream time that they come from.
    moved: BTreeMap<i32, (u64, Moment)>,
}

/// Partitions whose states were made under different terms are no one application's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("its partitions were made with different session rules or models")]
pub struct DifferentTerms;

impl Rekeying {
    /// `begins`: of each new partition the first offset that is read.
    pub fn new<'a>(
        stood: impl IntoIterator<Item = (i32, &'a Stood)>,
        begins: Vec<ResumeAt>,
    ) -> Result<Self, DifferentTerms> {
        let (mut stream_times, mut fingerprint) = (BTreeMap::new(), None);
        for (partition, stood) in stood {
            stream_times.extend(stood.head.map(|head| (partition, head.redo_stream_time)));
            if let Some((_, history)) = &stood.committed
                && *fingerprint.get_or_insert(history.fingerprint) != history.fingerprint
            {
                return Err(DifferentTerms);
            }
        }
        Ok(Self { begins, stream_times, fingerprint: fingerprint.unwrap_or(0), moved: BTreeMap::new() })
    }

    /// A customer goes from one of the old partitions to one of the new.
    pub fn moves(&mut self, from: i32, to: i32) {
        let stream_time = self.stream_times.get(&from).copied().unwrap_or(Moment::NEVER);
        let (count, earliest) = self.moved.entry(to).or_insert((0, stream_time));
        *count += 1;
        *earliest = stream_time.min(*earliest);
    }

    /// Where the new partitions stand, in their order.
    pub fn stands(&self) -> Vec<Stands> {
        let partitions = u32::try_from(self.begins.len()).unwrap_or(u32::MAX);
        let stands = (0..).zip(&self.begins).map(|(partition, begins)| {
            let (logged, stream_time) = self.moved.get(&partition).copied().unwrap_or((0, Moment::NEVER));
            // What was rejected lies below, and is not read again.
            let unknown = UnknownIds::default();
            Stands {
                resume: *begins,
                history: History { begun: *begins, fingerprint: self.fingerprint, state_epoch: 1, partitions, unknown },
                head: Head {
                    epoch: 1,
                    before: begins.0,
                    resume: begins.0,
                    redo_from: begins.0,
                    redo_stream_time: stream_time,
                    logged,
                },
            }
        });
        stands.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stood(resume: i64, epoch: u64, stream_time: u64) -> Stood {
        let history = History {
            begun: ResumeAt(0),
            fingerprint: 7,
            state_epoch: epoch,
            partitions: 2,
            unknown: UnknownIds::default(),
        };
        let head = Head {
            epoch,
            before: 0,
            resume,
            redo_from: resume,
            redo_stream_time: Moment::from_bits(stream_time),
            logged: 1,
        };
        Stood { committed: Some((ResumeAt(resume), history)), head: Some(head) }
    }

    #[test]
    fn what_is_not_drained_or_torn_is_a_fault() {
        assert_eq!(stood(90, 3, 5).fault(), None);
        assert_eq!(Stood { committed: None, head: None }.fault(), None);
        let fault = |change: fn(&mut Stood)| {
            let mut it = stood(90, 3, 5);
            change(&mut it);
            it.fault().unwrap()
        };
        let said = fault(|it| it.head.as_mut().unwrap().redo_from = 60);
        assert_eq!(said, "its log lacks what the input did from offset 60 to 90");
        assert!(fault(|it| it.head.as_mut().unwrap().resume = 91).contains("reaches offset 91, and 90 is committed"));
        assert!(fault(|it| it.head.as_mut().unwrap().epoch = 4).contains("with epoch 3, and its log ends with 4"));
        assert!(fault(|it| it.head = None).contains("its log is empty"));
        assert!(fault(|it| it.committed = None).contains("no offset is committed"));
    }

    #[test]
    fn a_new_partition_has_the_earliest_stream_time_that_its_customers_come_from() {
        let old = [(0, stood(90, 3, 500)), (1, stood(70, 9, 400))];
        let begins = [90, 70, 0, 4].map(ResumeAt).to_vec();
        let mut rekeying = Rekeying::new(old.iter().map(|(p, stood)| (*p, stood)), begins).unwrap();
        for (from, to) in [(0, 0), (0, 2), (1, 2), (0, 2), (1, 1)] {
            rekeying.moves(from, to);
        }
        let stands = rekeying.stands();
        let said: Vec<_> =
            stands.iter().map(|s| (s.head.logged, s.head.redo_stream_time.to_bits(), s.resume.0)).collect();
        assert_eq!(said, [(1, 500, 90), (1, 400, 70), (3, 400, 0), (0, 0, 4)]);
        for Stands { resume, history, head } in stands {
            assert_eq!((history.begun, history.state_epoch, history.partitions), (resume, head.epoch, 4));
            let committed = Some((resume, history));
            assert_eq!(Stood { committed, head: Some(head) }.fault(), None, "it can be exported again");
        }
    }

    #[test]
    fn states_of_different_terms_are_not_put_together() {
        let mut other = stood(70, 9, 400);
        other.committed.as_mut().unwrap().1.fingerprint = 8;
        let old = [(0, stood(90, 3, 500)), (1, other)];
        let said = Rekeying::new(old.iter().map(|(p, stood)| (*p, stood)), Vec::new()).unwrap_err();
        assert_eq!(said, DifferentTerms);
    }
}
