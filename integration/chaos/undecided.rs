//! Where in a commit a worker was stopped, by what the broker shows: the product has no hooks for it.

use std::collections::BTreeMap;
use std::time::Duration;

use dce::kafka::client::ClientSettings;
use dce::kafka::follow::Lookup;

/// For one answer of a broker on the same machine; above what live workers' own commits take.
const ANSWER: Duration = Duration::from_millis(400);
/// Between two looks: a live worker has decided its transaction by then.
const BETWEEN: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// No transaction stays open.
    Outside,
    /// Records are there that no transaction has decided.
    InTransaction,
    /// The group's offsets, too: all that lacked was the commit.
    OffsetsSent,
}

/// Two lookups: one waits for what is not decided, the other does not.
pub(super) struct Undecided {
    decided: Lookup,
    all: Lookup,
    input: String,
    outputs: Vec<String>,
    partitions: Vec<i32>,
}

impl Undecided {
    pub(super) fn new(settings: &ClientSettings, group: &str, input: &str, outputs: &[&str], partitions: i32) -> Self {
        Self {
            decided: Lookup::new(settings, group).expect("a client"),
            all: Lookup::of_undecided(settings, group).expect("a client"),
            input: input.to_owned(),
            outputs: outputs.iter().map(|topic| (*topic).to_owned()).collect(),
            partitions: (0..partitions).collect(),
        }
    }

    /// Whether the group has sent offsets, and neither committed nor aborted them.
    pub(super) fn is_pending(&self) -> bool {
        self.decided.committed(&self.input, &self.partitions, ANSWER).is_err()
            && self.all.committed(&self.input, &self.partitions, ANSWER).is_ok()
    }

    /// A broker that does not answer shows nothing.
    pub(super) fn look(&self) -> Stopped {
        if self.is_pending() {
            return Stopped::OffsetsSent;
        }
        let Some(before) = self.open(ANSWER) else { return Stopped::Outside };
        std::thread::sleep(BETWEEN);
        let Some(after) = self.open(ANSWER) else { return Stopped::Outside };
        if before.iter().any(|(place, since)| after.get(place) == Some(since)) {
            Stopped::InTransaction
        } else {
            Stopped::Outside
        }
    }

    /// Partitions of the outputs with records that are not decided, and from which offset on.
    pub(super) fn open(&self, wait: Duration) -> Option<BTreeMap<(String, i32), i64>> {
        let topics: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        let mut decided = self.decided.ends(&topics, &self.partitions, wait).ok()?;
        let all = self.all.ends(&topics, &self.partitions, wait).ok()?;
        decided.retain(|place, end| all.get(place).is_some_and(|all| *all > *end));
        Some(decided)
    }

    /// What the group has not committed of the input: partition, committed offset, end.
    pub(super) fn behind(&self, wait: Duration) -> Option<Vec<(i32, i64, i64)>> {
        let committed = self.all.committed(&self.input, &self.partitions, wait).ok()?;
        let ends = self.all.ends(&[&self.input], &self.partitions, wait).ok()?;
        let offset = |partition| committed.iter().find(|group| group.partition == partition).map_or(0, |g| g.offset);
        let all = ends.iter().map(|((_, partition), end)| (*partition, offset(*partition), *end));
        Some(all.filter(|(_, offset, end)| offset < end).collect())
    }
}
