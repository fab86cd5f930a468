//! What a partition's state was made of, as far as the input alone does not say it: kept with the committed offset, so that
//! a rebuild decides as it was decided at first. [`History`] ⇄ the offset's metadata. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::types::ResumeAt;

/// Ids of a partition that are remembered as unknown: a broker takes 4,096 bytes of metadata. Beyond it the earliest are
/// forgotten, and a rebuild believes what the registry says then.
pub const UNKNOWN_IDS_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The first offset that went into it.
    pub begun: ResumeAt,
    /// Of the session rules and the model.
    pub fingerprint: u64,
    /// The last epoch that wrote to the state's log; 0: none has.
    pub state_epoch: u64,
    /// That the input had: a customer's partition follows from it. 0: not known.
    pub partitions: u32,
    pub unknown: UnknownIds,
}

/// Records that were rejected because nobody had a schema of their id, which somebody may have later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownIds {
    /// Of each id, the offset before which its records were rejected.
    before: BTreeMap<u32, i64>,
    /// There were others too.
    forgotten: bool,
}

impl UnknownIds {
    pub fn reject(&mut self, id: u32, offset: i64) {
        self.before.insert(id, offset + 1);
        while self.before.len() > UNKNOWN_IDS_MAX {
            let earliest = self.before.iter().min_by_key(|(_, before)| **before).map(|(id, _)| *id);
            earliest.map(|id| self.before.remove(&id));
            self.forgotten = true;
        }
    }

    /// Whether a record of the id was rejected; `None` where that is forgotten.
    pub fn rejected(&self, id: u32, offset: i64) -> Option<bool> {
        match self.before.get(&id) {
            Some(before) => Some(offset < *before),
            None if self.forgotten => None,
            None => Some(false),
        }
    }
}

/// Who committed it stands at the end of the metadata.
const WRITER: &str = " by=";

/// The metadata with the transactional id of who commits it: a successor ends what that one left open.
pub fn signed(metadata: &str, transactional_id: &str) -> String {
    format!("{metadata}{WRITER}{transactional_id}")
}

/// Whose transaction committed it; `None` where it was none, or the metadata is not ours.
pub fn writer(metadata: &str) -> Option<&str> {
    metadata.strip_prefix("dce ")?.rsplit_once(WRITER).map(|(_, id)| id)
}

impl History {
    pub fn to_metadata(&self) -> String {
        let mut text = format!("dce from={} terms={:016x}", self.begun.0, self.fingerprint);
        if self.state_epoch > 0 {
            _ = write!(text, " state={}", self.state_epoch);
        }
        if self.partitions > 0 {
            _ = write!(text, " of={}", self.partitions);
        }
        let UnknownIds { before, forgotten } = &self.unknown;
        if !before.is_empty() {
            let ids: Vec<String> = before.iter().map(|(id, before)| format!("{id}<{before}")).collect();
            _ = write!(text, " unknown={}{}", ids.join(","), if *forgotten { ",more" } else { "" });
        }
        text
    }

    pub fn parse(metadata: &str) -> Option<Self> {
        let metadata = metadata.rsplit_once(WRITER).map_or(metadata, |(history, _)| history);
        let (begun, rest) = metadata.strip_prefix("dce from=")?.split_once(" terms=")?;
        let (terms, ids) = rest.split_once(" unknown=").unwrap_or((rest, ""));
        let (terms, partitions) = terms.split_once(" of=").unwrap_or((terms, "0"));
        let (terms, state_epoch) = terms.split_once(" state=").unwrap_or((terms, "0"));
        let mut unknown = UnknownIds::default();
        for part in ids.split(',').filter(|part| !part.is_empty()) {
            if part == "more" {
                unknown.forgotten = true;
            } else {
                let (id, before) = part.split_once('<')?;
                unknown.before.insert(id.parse().ok()?, before.parse().ok()?);
            }
        }
        let fingerprint = u64::from_str_radix(terms, 16).ok()?;
        let (state_epoch, partitions) = (state_epoch.parse().ok()?, partitions.parse().ok()?);
        Some(Self { begun: ResumeAt(begun.parse().ok()?), fingerprint, state_epoch, partitions, unknown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(unknown: UnknownIds) -> History {
        History { begun: ResumeAt(41), fingerprint: 0xfe, state_epoch: 0, partitions: 0, unknown }
    }

    #[test]
    fn it_survives_its_metadata() {
        let mut unknown = UnknownIds::default();
        assert_eq!(history(unknown.clone()).to_metadata(), "dce from=41 terms=00000000000000fe");
        for round in 0..3 {
            let it = History { state_epoch: u64::from(round) * 9, partitions: round * 4, ..history(unknown.clone()) };
            let signed = signed(&it.to_metadata(), "dce-0");
            assert_eq!((History::parse(&signed), writer(&signed)), (Some(it.clone()), Some("dce-0")));
            assert_eq!(writer(&it.to_metadata()), None);
            assert_eq!(History::parse(&it.to_metadata()), Some(it));
            unknown.reject(round * 7, i64::from(round));
        }
        for foreign in [
            "",
            "dce from=41",
            "dce from=x terms=0",
            "something else",
            "dce from=1 terms=0 unknown=x",
            "dce from=1 terms=0 x",
            "another's by=dce-0",
        ] {
            assert_eq!((History::parse(foreign), writer(foreign)), (None, None), "{foreign}");
        }
    }

    #[test]
    fn what_was_rejected_stays_so_and_what_came_later_does_not() {
        let mut unknown = UnknownIds::default();
        assert_eq!(unknown.rejected(7, 0), Some(false));
        unknown.reject(7, 5);
        unknown.reject(7, 9);
        let said = [0, 9, 10].map(|offset| unknown.rejected(7, offset));
        assert_eq!(said, [Some(true), Some(true), Some(false)]);
    }

    #[test]
    fn a_flood_of_ids_fits_into_what_a_broker_takes() {
        let mut unknown = UnknownIds::default();
        for id in 0..10_000 {
            unknown.reject(i32::MAX.cast_unsigned() - id, i64::MAX - 20_000 + i64::from(id));
        }
        let it = history(unknown);
        // The longest id is one of app.id, a hyphen, app.instance and a worker's number.
        let metadata = signed(&it.to_metadata(), &"x".repeat(245));
        assert!(metadata.len() < 4_096, "{}", metadata.len());
        assert_eq!(it.unknown.rejected(i32::MAX.cast_unsigned(), 0), None, "the earliest are forgotten");
        assert_eq!(it.unknown.rejected(i32::MAX.cast_unsigned() - 9_999, 0), Some(true));
        assert_eq!(History::parse(&it.to_metadata()), Some(it));
    }
}
