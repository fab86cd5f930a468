//! One of several does the work, the others stand by: a topic of one partition is the lease, and whoever the group assigns it
//! to holds it. The broker decides, and notices who died. What the holder writes must be fenced besides, by a transactional
//! id: one that sleeps does not know that it has lost the lease.

use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{ClientSettings, Consumer, ConsumerEvents, GroupMember, Rebalance, refusal_text};

const PARTITION: i32 = 0;
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
    consumer: std::sync::Arc<Consumer>,
    group: String,
    topic: String,
    is_held: bool,
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
        let consumer = std::sync::Arc::new(consumer);
        Ok(Self { consumer, group: group.to_owned(), topic: topic.to_owned(), is_held: false })
    }

    /// Whether it is held now. To be asked at least every few seconds: who does not ask counts as dead after
    /// `max.poll.interval.ms`.
    pub fn is_held(&mut self, wait: Duration) -> Result<bool, LeaseError> {
        // Nothing is fetched: what comes are the client's own events.
        drop(self.consumer.poll(wait));
        for rebalance in self.consumer.context().take_rebalances() {
            self.answer(&rebalance)?;
        }
        Ok(self.is_held)
    }

    /// What the client said last that went wrong, told once.
    pub fn take_trouble(&self) -> Option<String> {
        self.consumer.context().take_error()
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
                self.is_held |= partitions.contains(&PARTITION);
            }
            Rebalance::Revoked { partitions, .. } => {
                let mut list = TopicPartitionList::new();
                for partition in partitions {
                    list.add_partition(&self.topic, *partition);
                }
                self.consumer.incremental_unassign(&list).map_err(refused)?;
                self.is_held &= !partitions.contains(&PARTITION);
            }
        }
        Ok(())
    }
}

impl Drop for Lease {
    /// Leaves the group.
    fn drop(&mut self) {
        self.consumer.context().close();
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("group", &self.group).field("is_held", &self.is_held).finish_non_exhaustive()
    }
}
