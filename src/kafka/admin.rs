//! What a cluster, its topics and a group are, as far as a client can see: for `dce topics` and `dce check`. Asks, changes
//! nothing. Each question has its own limit and its own error, so that one refusal does not hide the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::ClientSettings;
use super::raw;
use super::rights::Rights;
use super::topics::{Inspector, TopicError, runtime};
use super::{Deadline, LOOK_AGAIN};

/// The brokers that a first connection told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Id, host and port.
    pub brokers: Vec<(i32, String)>,
    pub answered_in: Duration,
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    pub name: String,
    pub partitions: usize,
    /// Of the partition that has the fewest.
    pub replication: usize,
    /// The fewest replicas of a partition that are in sync now.
    pub in_sync: usize,
    /// Partitions that nobody leads now.
    pub leaderless: usize,
    /// By name; or why the broker does not tell them.
    pub settings: Result<BTreeMap<String, String>, String>,
    /// Offsets from the oldest record to the end, over all partitions, or why they are not known.
    pub records: Result<u64, String>,
}

impl TopicFacts {
    /// Empty where the broker has no such setting, or tells none.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.as_ref().ok().and_then(|settings| settings.get(name)).map_or("", String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.setting(name).parse().ok()
    }
}

/// A consumer group as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFacts {
    /// `Stable`, `Empty`, `Dead` (there is none), …
    pub state: String,
    /// `consumer` for groups of consumers.
    pub kind: String,
    /// How partitions are shared out.
    pub protocol: String,
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `group.instance.id` of a static member; else the client's id. Brokers build a member's id of it and a UUID.
    pub name: String,
    pub host: String,
    /// The topics that it subscribes to.
    pub topics: Vec<String>,
}

/// Asks a cluster.
pub struct Admin {
    inspector: Inspector,
    client: AdminClient<DefaultClientContext>,
}

impl Admin {
    /// Connects in the background: the first question shows whether a broker is there.
    pub fn new(settings: &ClientSettings) -> Result<Self, TopicError> {
        let client = settings.inspector().create().map_err(TopicError::Client)?;
        Ok(Self { inspector: Inspector::new(settings)?, client })
    }

    pub fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// Also the question whether anybody is there.
    pub fn cluster(&self, wait: Duration) -> Result<Cluster, TopicError> {
        let deadline = Deadline::after(wait);
        let metadata = self.inspector.client().fetch_metadata(Some(NO_TOPIC), wait);
        let metadata = metadata.map_err(|error| self.inspector.unanswered(&error, deadline.elapsed()))?;
        let mut brokers: Vec<(i32, String)> = metadata
            .brokers()
            .iter()
            .map(|broker| (broker.id(), format!("{}:{}", broker.host(), broker.port())))
            .collect();
        brokers.sort();
        Ok(Cluster { brokers, answered_in: deadline.elapsed() })
    }

    /// `None` where there is no such topic.
    pub fn topic(&self, topic: &str, wait: Duration) -> Result<Option<TopicFacts>, TopicError> {
        let deadline = Deadline::after(wait);
        // Waits for one that is being made, and says what else is wrong.
        let Some(partitions) = self.inspector.describe(topic, wait)? else { return Ok(None) };
        let metadata = self.inspector.client().fetch_metadata(Some(topic), deadline.remaining());
        let metadata = metadata.map_err(|error| self.inspector.unanswered(&error, deadline.elapsed()))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let all = found.map_or(&[][..], |found| found.partitions());
        let numbers = (0..i32::try_from(partitions).unwrap_or(i32::MAX)).map(|partition| {
            let (low, high) = self.inspector.watermarks(topic, partition, deadline.remaining())?;
            Ok(u64::try_from(high - low).unwrap_or(0))
        });
        let records: Result<u64, TopicError> = numbers.sum();
        Ok(Some(TopicFacts {
            name: topic.to_owned(),
            partitions,
            replication: all.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
            in_sync: all.iter().map(|partition| partition.isr().len()).min().unwrap_or(0),
            leaderless: all.iter().filter(|partition| partition.leader() < 0).count(),
            settings: self.settings(ResourceSpecifier::Topic(topic), deadline.remaining()),
            records: records.map_err(|error| error.to_string()),
        }))
    }

    /// A broker's own settings, or why it does not tell them.
    pub fn broker(&self, id: i32, wait: Duration) -> Result<BTreeMap<String, String>, String> {
        self.settings(ResourceSpecifier::Broker(id), wait)
    }

    fn settings(&self, resource: ResourceSpecifier<'_>, wait: Duration) -> Result<BTreeMap<String, String>, String> {
        let options = AdminOptions::new().request_timeout(Some(wait));
        let runtime = runtime().map_err(|error| error.to_string())?;
        let described = runtime.block_on(self.client.describe_configs(&[resource], &options));
        let described = described.map_err(|error| error.to_string())?.pop();
        let config: ConfigResource =
            described.ok_or_else(|| "the broker gave no answer".to_owned())?.map_err(|code| code.to_string())?;
        let entries = config.entries.into_iter();
        Ok(entries.filter_map(|entry| entry.value.map(|value| (entry.name, value))).collect())
    }

    /// What this user may do with a topic; `None` where there is none, and why the broker does not tell.
    pub fn topic_rights(&self, topic: &str, wait: Duration) -> Result<Option<Rights>, String> {
        allowed(raw::topic_rights(self.client.inner(), topic, wait))
    }

    /// The same with a group, which need not be there.
    pub fn group_rights(&self, group: &str, wait: Duration) -> Result<Option<Rights>, String> {
        let deadline = Deadline::after(wait);
        loop {
            match raw::group_rights(self.client.inner(), group, deadline.remaining()) {
                Err(code) if is_seeking_coordinator(code) && deadline.remaining() > LOOK_AGAIN => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                told => return allowed(told),
            }
        }
    }

    /// `None` where the broker knows no such group.
    pub fn group(&self, group: &str, wait: Duration) -> Result<Option<GroupFacts>, TopicError> {
        let deadline = Deadline::after(wait);
        let list = loop {
            match self.inspector.client().fetch_group_list(Some(group), deadline.remaining()) {
                Err(KafkaError::GroupListFetch(code))
                    if is_seeking_coordinator(code) && deadline.remaining() > LOOK_AGAIN =>
                {
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(error) => return Err(self.inspector.unanswered(&error, deadline.elapsed())),
                Ok(list) => break list,
            }
        };
        let found = list.groups().iter().find(|found| found.name() == group && found.state() != "Dead");
        Ok(found.map(|found| GroupFacts {
            state: found.state().to_owned(),
            kind: found.protocol_type().to_owned(),
            protocol: found.protocol().to_owned(),
            members: found
                .members()
                .iter()
                .map(|member| Member {
                    name: member_name(member.id()).to_owned(),
                    host: member.client_host().trim_start_matches('/').to_owned(),
                    topics: subscribed(member.metadata().unwrap_or_default()).unwrap_or_default(),
                })
                .collect(),
        }))
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("inspector", &self.inspector).finish_non_exhaustive()
    }
}

/// A broker that has just started, or has no group yet, is still looking for its groups.
fn is_seeking_coordinator(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::CoordinatorLoadInProgress
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::NotCoordinator
    )
}

/// Who may not even look may do nothing.
fn allowed(told: Result<Rights, RDKafkaErrorCode>) -> Result<Option<Rights>, String> {
    match told {
        Err(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
            Ok(Some(Rights::default()))
        }
        Err(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(None),
        Err(code) => Err(code.to_string()),
        Ok(rights) => Ok(Some(rights)),
    }
}

/// Asked for so that the answer has the brokers and no list of all topics. No topic can have this name.
const NO_TOPIC: &str = "..";

fn member_name(id: &str) -> &str {
    const UUID_LEN: usize = 36;
    let cut = id.len().checked_sub(UUID_LEN + 1);
    match cut.and_then(|cut| id.split_at_checked(cut)) {
        Some((name, rest)) if rest.starts_with('-') && rest[1..].bytes().filter(|byte| *byte == b'-').count() == 4 => {
            name
        }
        Some(_) | None => id,
    }
}

/// The topics of a member's subscription: a version (16 bits), a count (32 bits), then each name with its length (16).
fn subscribed(metadata: &[u8]) -> Option<Vec<String>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (len, name) = rest.split_first_chunk::<2>()?;
        let (name, next) = name.split_at_checked(u16::from_be_bytes(*len).into())?;
        topics.push(String::from_utf8_lossy(name).into_owned());
        rest = next;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_member_s_id_begins_with_its_name() {
        assert_eq!(member_name("dce-0-6e1b5a1c-9a3c-4d53-9a55-0a2f6d1a7c11"), "dce-0");
        for other in ["", "dce", "6e1b5a1c-9a3c-4d53-9a55-0a2f6d1a7c11", "dce-0-without-any-uuid-but-long-enough-xx"] {
            assert_eq!(member_name(other), other);
        }
    }

    #[test]
    fn a_subscription_is_read_and_a_broken_one_is_none() {
        let bytes = b"\0\x01\0\0\0\x02\0\x06clicks\0\x01x\xff\xff\xff\xff";
        assert_eq!(subscribed(bytes), Some(vec!["clicks".to_owned(), "x".to_owned()]));
        for end in 0..15 {
            assert_eq!(subscribed(&bytes[..end]), None, "{end}");
        }
    }
}
