//! One of several does the work, the others stand by: a topic of one partition is the lease, and whoever the group assigns it
//! to holds it. The broker decides, and notices who died. What the holder writes must be fenced besides, by a transactional
//! id: one that sleeps does not know that it has lost the lease. What it notes is fenced by its membership.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Deadline;
use super::client::{ClientSettings, Consumer, ConsumerEvents, GroupMember, Rebalance, refusal_text};
use super::raw::GroupMetadata;

const PARTITION: i32 = 0;
/// Where no broker answers nobody gives an id.
const JOIN_MAX: Duration = Duration::from_secs(3);
/// As long as the answer to a farewell.
const LEAVE_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);
/// It reads nothing.
const PREFETCH_KBYTES: u32 = 64;

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("the Kafka client for the group {group} cannot be made: {why}")]
    Client { group: String, why: String },
    #[error("the group {group}: {why}")]
    Refused { group: String, why: String },
}

/// Membership in the group.
pub struct Lease {
    consumer: Arc<Consumer>,
    group: String,
    topic: String,
    is_held: Arc<AtomicBool>,
}

/// How far the group has come in a topic that its holder reads by hand.
#[derive(Clone)]
pub struct Notes {
    consumer: Arc<Consumer>,
    group: String,
    topic: String,
    is_held: Arc<AtomicBool>,
}

impl Lease {
    /// Joins in the background.
    pub fn join(settings: &ClientSettings, group: &str, topic: &str) -> Result<Self, LeaseError> {
        let client = |why: String| LeaseError::Client { group: group.to_owned(), why };
        let member = GroupMember { application: group, slot: "", prefetch_kbytes: PREFETCH_KBYTES };
        let mut config = settings.group_member(&member);
        // Whoever leaves is replaced at once; there is nothing to come back to.
        config.remove("group.instance.id");
        let consumer = Consumer::from_config_and_context(&config, ConsumerEvents::default())
            .map_err(|error| client(refusal_text(&error)))?;
        consumer.subscribe(&[topic]).map_err(|error| client(error.to_string()))?;
        let consumer = Arc::new(consumer);
        Ok(Self { consumer, group: group.to_owned(), topic: topic.to_owned(), is_held: Arc::default() })
    }

    /// Whether it is held now. To be asked at least every few seconds: who does not ask counts as dead after
    /// `max.poll.interval.ms`.
    pub fn is_held(&mut self, wait: Duration) -> Result<bool, LeaseError> {
        // Nothing is fetched: what comes are the client's own events.
        drop(self.consumer.poll(wait));
        for rebalance in self.consumer.context().take_rebalances() {
            self.answer(&rebalance)?;
        }
        Ok(self.is_held.load(Ordering::SeqCst))
    }

    /// Whether a broker answers, or what it is that keeps it from that.
    pub fn reach(&self, wait: Duration) -> Result<(), String> {
        let asked = self.consumer.fetch_metadata(Some(&self.topic), wait);
        let told = |error: rdkafka::error::KafkaError| {
            let code = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
            self.consumer.context().take_error().unwrap_or(code)
        };
        asked.map(drop).map_err(told)
    }

    pub fn notes(&self, topic: &str) -> Notes {
        let (consumer, is_held) = (Arc::clone(&self.consumer), Arc::clone(&self.is_held));
        Notes { consumer, group: self.group.clone(), topic: topic.to_owned(), is_held }
    }

    /// Whether the id that the group gave this member is so within `wait`.
    fn until(&mut self, wait: Duration, is_so: impl Fn(&str) -> bool) -> bool {
        let deadline = Deadline::after(wait);
        loop {
            if GroupMetadata::of(&self.consumer).is_some_and(|metadata| is_so(&metadata.member())) {
                return true;
            }
            if deadline.passed() || self.is_held(LOOK).is_err() {
                return false;
            }
        }
    }

    fn answer(&mut self, rebalance: &Rebalance) -> Result<(), LeaseError> {
        let refused = |error: rdkafka::error::KafkaError| LeaseError::Refused {
            group: self.group.clone(),
            why: error.to_string(),
        };
        match rebalance {
            Rebalance::Assigned(partitions) => {
                let mut list = TopicPartitionList::new();
                for partition in partitions {
                    list.add_partition_offset(&self.topic, *partition, Offset::End).map_err(refused)?;
                }
                self.consumer.incremental_assign(&list).map_err(refused)?;
                self.consumer.pause(&list).map_err(refused)?;
                self.is_held.fetch_or(partitions.contains(&PARTITION), Ordering::SeqCst);
            }
            Rebalance::Revoked { partitions, .. } => {
                let mut list = TopicPartitionList::new();
                for partition in partitions {
                    list.add_partition(&self.topic, *partition);
                }
                // Before the client joins anew: as a member again it could note what is another's.
                self.is_held.fetch_and(!partitions.contains(&PARTITION), Ordering::SeqCst);
                self.consumer.incremental_unassign(&list).map_err(refused)?;
            }
        }
        Ok(())
    }
}

impl Notes {
    /// That all before `offset` is done. Refused where another holds the lease by now: here as soon as this process knows,
    /// and until then by the broker, for which it is no member.
    pub fn note(&self, offset: i64) -> Result<(), LeaseError> {
        if !self.is_held.load(Ordering::SeqCst) {
            let why = format!("noting {}: the lease is lost", self.topic);
            return Err(LeaseError::Refused { group: self.group.clone(), why });
        }
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.topic, PARTITION, Offset::Offset(offset))
            .map_err(|error| self.refused(&error))?;
        self.consumer.commit(&list, CommitMode::Sync).map_err(|error| self.refused(&error))
    }

    /// What was noted last; `None` where nothing was, or the broker has forgotten it.
    pub fn noted(&self, wait: Duration) -> Result<Option<i64>, LeaseError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.topic, PARTITION);
        let list = self.consumer.committed_offsets(list, wait).map_err(|error| self.refused(&error))?;
        let found = list.find_partition(&self.topic, PARTITION);
        found.map_or(Ok(None), |element| {
            element.error().map_err(|error| self.refused(&error))?;
            Ok(if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None })
        })
    }

    fn refused(&self, error: &rdkafka::error::KafkaError) -> LeaseError {
        LeaseError::Refused { group: self.group.clone(), why: format!("noting {}: {error}", self.topic) }
    }
}

impl std::fmt::Debug for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notes").field("group", &self.group).field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    /// Leaves the group, for who does not is waited for in its next rebalance for a session's timeout. Closing alone (2.12.1)
    /// says nothing of it for a member without a partition, and drops the first answer of the group, with the id that it has
    /// given away by then (KIP-394). Unsubscribing says it, once a rebalance under way is answered.
    fn drop(&mut self) {
        if self.until(JOIN_MAX, |member| !member.is_empty()) {
            self.consumer.unsubscribe();
            self.until(LEAVE_MAX, str::is_empty);
        }
        self.consumer.context().close();
        ConsumerEvents::all_answered(&self.consumer);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("group", &self.group).field("is_held", &self.is_held).finish_non_exhaustive()
    }
}
