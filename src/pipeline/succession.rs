//! What the last owner of newly assigned partitions left open. Partitions → those who were fenced.
//!
//! A worker that is killed in mid-transaction ends nothing, and nobody else has its transactional id until it is started
//! again. So its records hold up whoever reads committed ones, and its offsets whoever takes its partitions, until the
//! broker gives the transaction up: 8 s, and up to 10 more. Who committed last stands in the metadata of the committed
//! offsets; what is still undecided after a second is ended by that id.
//!
//! Deliberately absent: a look at whether that worker lives. If it does it hangs, or it would have ended its transaction
//! before its partitions moved on; being fenced costs it a rebuild and no record.

use std::collections::BTreeSet;
use std::time::Duration;

use super::history;
use super::producers::transactional_ids;
use super::sink::SinkSettings;
use super::source::SourceSettings;
use crate::config::Delivery;
use crate::kafka::Deadline;
use crate::kafka::fence::{FenceError, fence};
use crate::kafka::follow::{Lookup, LookupError, Lookups};

/// How long a transaction may take to end by itself: a commit that was answered writes its markers for some milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the broker may take for one question.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long ending one transaction may take.
const FENCE_MAX: Duration = Duration::from_secs(5);

/// Waits until all that the last owners did in the partitions is decided, or ends it: mostly some milliseconds, a
/// second and a half where something is ended, 5 s more for each question that no broker answers. What cannot be ended
/// here is left to the broker, which does it in time.
pub fn end_left_open(source: &SourceSettings, sink: &SinkSettings, lookups: &Lookups, partitions: &[i32]) {
    let succession = Succession { source, sink, lookups, partitions };
    let settled = match sink.delivery {
        Delivery::ExactlyOnce => succession.settle(),
        Delivery::AtLeastOnce => Ok(()),
    };
    if let Err(error) = settled {
        tracing::warn!(%error, ?partitions, "whether a transaction was left open is not known: the broker ends it in time");
    }
}

#[derive(Debug, thiserror::Error)]
enum SuccessionError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Fence(#[from] FenceError),
    #[error("the thread that ends a transaction panicked")]
    Panicked,
}

/// What is taken over, and by whom.
struct Succession<'a> {
    source: &'a SourceSettings,
    sink: &'a SinkSettings,
    lookups: &'a Lookups,
    partitions: &'a [i32],
}

impl Succession<'_> {
    /// Where nobody else committed last there is nothing to wait for: making a producer of one's own id has ended what was
    /// open under it.
    fn settle(&self) -> Result<(), SuccessionError> {
        let Lookups { decided, undecided } = self.lookups;
        let last_owners = self.last_owners()?;
        if last_owners.is_empty() {
            return Ok(());
        }
        let patience = Deadline::after(PATIENCE);
        if self.outputs_are_decided(undecided, decided, &patience)?
            && decided.committed(&self.source.topic, self.partitions, patience.remaining().max(LOOK_EVERY)).is_ok()
        {
            return Ok(());
        }
        // A coordinator that does not answer at all is no sign of an open transaction.
        let mut ids = Vec::new();
        for id in self.last_owners()? {
            let (partitions, waited) = (self.partitions, patience.elapsed());
            tracing::warn!(
                id,
                ?partitions,
                ?waited,
                "the last owner of these partitions left a transaction open: it is ended by its id"
            );
            ids.extend(transactional_ids(&id));
        }
        self.end(&ids)
    }

    /// All of them side by side: one that cannot be ended holds up no other.
    fn end(&self, ids: &[String]) -> Result<(), SuccessionError> {
        let client = &self.sink.client;
        std::thread::scope(|scope| {
            let fences: Vec<_> = ids.iter().map(|id| scope.spawn(move || fence(client, id, FENCE_MAX))).collect();
            // All are waited for; the first that failed is told.
            fences.into_iter().try_for_each(|fence| match fence.join() {
                Ok(ended) => ended.map_err(SuccessionError::from),
                Err(_) => Err(SuccessionError::Panicked),
            })
        })
    }

    /// Those who committed last, but for ourselves. An id of another application is nobody's business here, whoever wrote
    /// it there.
    fn last_owners(&self) -> Result<BTreeSet<String>, LookupError> {
        let committed = self.lookups.undecided.committed(&self.source.topic, self.partitions, ANSWER_MAX)?;
        let ids = committed.iter().filter_map(|committed| history::writer(&committed.metadata));
        Ok(ids.filter(|id| self.is_fellow(id)).map(str::to_owned).collect())
    }

    fn is_fellow(&self, id: &str) -> bool {
        let of_application = id.strip_prefix(&self.source.application).is_some_and(|rest| rest.starts_with('-'));
        of_application && id != self.sink.transactional_id
    }

    /// Whether all records that are there now are decided before patience ends. Those that come later are not the last
    /// owners'.
    fn outputs_are_decided(
        &self,
        undecided: &Lookup,
        decided: &Lookup,
        patience: &Deadline,
    ) -> Result<bool, LookupError> {
        let outputs = self.sink.topics.written();
        let ends = undecided.ends(&outputs, self.partitions, ANSWER_MAX)?;
        loop {
            let now = decided.ends(&outputs, self.partitions, ANSWER_MAX)?;
            if ends.iter().all(|(place, end)| now.get(place).is_some_and(|now| now >= end)) {
                return Ok(true);
            }
            if patience.passed() {
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::client::ClientSettings;
    use crate::pipeline::sink::OutputTopics;

    #[test]
    fn only_fellows_are_fenced() {
        let client = ClientSettings::of("127.0.0.1:1");
        let source = SourceSettings {
            client: client.clone(),
            topic: "clicks".to_owned(),
            application: "dce".to_owned(),
            slot: "1".to_owned(),
            prefetch_kbytes: 1,
        };
        let sink = SinkSettings {
            client,
            delivery: Delivery::ExactlyOnce,
            transactional_id: "dce-1".to_owned(),
            transaction_timeout: PATIENCE,
            buffer_kbytes: 1,
            input: "clicks".to_owned(),
            topics: OutputTopics {
                embeddings: "embeddings".to_owned(),
                live: None,
                sessions: None,
                rejected: "rejected".to_owned(),
                state: "state".to_owned(),
            },
        };
        let lookups = Lookups::start(&source.client, "dce", "clicks").unwrap();
        let it = Succession { source: &source, sink: &sink, lookups: &lookups, partitions: &[0] };
        let fellows = ["dce-0", "dce-a.b", "dce-1", "dce", "dce2-0", "payments-0", ""].map(|id| it.is_fellow(id));
        assert_eq!(fellows, [true, true, false, false, false, false, false]);
    }
}
