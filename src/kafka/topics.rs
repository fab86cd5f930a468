//! Topics: what is there, what must be, and how to make it. Refuses early, with the fix in the message.

use std::cell::Cell;
use std::fmt::Write as _;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Deadline;
use super::client::{ClientSettings, Consumer, ConsumerEvents, refusal_text};

/// How long the controller may take for a first answer; twice as long each further time.
const CONTROLLER_ASK: Duration = Duration::from_secs(5);
const CONTROLLER_PAUSE: Duration = Duration::from_millis(50);

/// Why the topics cannot be worked with. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error("the Kafka client cannot be made: {}", refusal_text(.0))]
    Client(KafkaError),
    #[error(
        "no Kafka broker answered at {bootstrap} within {:.1} s{}: start it, or set kafka.bootstrap to where it is",
        waited.as_secs_f32(), because(why)
    )]
    Unreachable { bootstrap: String, waited: Duration, why: Option<String> },
    #[error("{}", missing_text(bootstrap, topics, *partitions))]
    Missing {
        bootstrap: String,
        topics: Vec<String>,
        /// How many they should have, where that is known.
        partitions: Option<usize>,
    },
    #[error("{}", counts_text(input, *partitions, others))]
    PartitionCounts { input: String, partitions: usize, others: Vec<(String, usize)> },
    #[error("topic {topic}: {why}")]
    Refused { topic: String, why: String },
}

/// Looks at topics; reads nothing.
pub struct Inspector {
    client: Consumer,
    bootstrap: String,
}

impl Inspector {
    /// Connects in the background: the first question shows whether a broker is there.
    pub fn new(settings: &ClientSettings) -> Result<Self, TopicError> {
        let client = Consumer::from_config_and_context(&settings.inspector(), ConsumerEvents::default())
            .map_err(TopicError::Client)?;
        Ok(Self { client, bootstrap: settings.bootstrap.clone() })
    }

    /// The number of partitions; `None` where there is no such topic.
    pub fn describe(&self, topic: &str, wait: Duration) -> Result<Option<usize>, TopicError> {
        let deadline = Deadline::after(wait);
        loop {
            let metadata = self
                .client
                .fetch_metadata(Some(topic), deadline.remaining())
                .map_err(|error| self.unanswered(&error, deadline.elapsed()))?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
            let code = found.error().map(RDKafkaErrorCode::from);
            match code {
                None if !found.partitions().is_empty() => return Ok(Some(found.partitions().len())),
                Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
                // It is being made.
                None | Some(RDKafkaErrorCode::LeaderNotAvailable) if !deadline.passed() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                None => return Err(refused(topic, "its partitions have no leader")),
                Some(code) => return Err(refused(topic, code)),
            }
        }
    }

    /// The broker's name for its cluster.
    pub fn cluster_id(&self, wait: Duration) -> Result<String, TopicError> {
        let deadline = Deadline::after(wait);
        let id = self.client.client().fetch_cluster_id(wait);
        id.ok_or_else(|| {
            let error = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
            self.unanswered(&error, deadline.elapsed())
        })
    }

    /// The id of the topic, which one that is made anew under its name does not have.
    pub fn topic_id(&self, topic: &str, wait: Duration) -> Result<String, TopicError> {
        let id = super::raw::topic_id(self.client.client(), topic, wait);
        id.ok_or_else(|| refused(topic, "the broker does not tell its id"))
    }

    /// The low watermark and the log's own end, which open transactions do not hold back.
    pub fn watermarks(&self, topic: &str, partition: i32, wait: Duration) -> Result<(i64, i64), TopicError> {
        let deadline = Deadline::after(wait);
        let found = self.client.fetch_watermarks(topic, partition, wait);
        found.map_err(|error| self.unanswered(&error, deadline.elapsed()))
    }

    /// Of each partition the first offset whose record is stamped `ms` or later; `None` where there is none.
    pub fn offsets_at(
        &self,
        topic: &str,
        partitions: usize,
        ms: i64,
        wait: Duration,
    ) -> Result<Vec<Option<i64>>, TopicError> {
        let mut asked = TopicPartitionList::with_capacity(partitions);
        for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            asked.add_partition_offset(topic, partition, Offset::Offset(ms)).map_err(TopicError::Client)?;
        }
        let answer = self.client.offsets_for_times(asked, wait).map_err(|error| self.unanswered(&error, wait))?;
        let mut offsets = vec![None; partitions];
        for element in answer.elements() {
            element.error().map_err(|error| refused(topic, error))?;
            let place = usize::try_from(element.partition()).ok().and_then(|place| offsets.get_mut(place));
            if let (Some(place), Offset::Offset(offset)) = (place, element.offset()) {
                *place = Some(offset);
            }
        }
        Ok(offsets)
    }

    /// The input's number of partitions, which each of the outputs must have too.
    pub fn check(&self, input: &str, outputs: &[&str], wait: Duration) -> Result<usize, TopicError> {
        let deadline = Deadline::after(wait);
        let partitions = self.describe(input, deadline.remaining())?;
        let mut missing = Vec::new();
        let mut others = Vec::new();
        if partitions.is_none() {
            missing.push(input.to_owned());
        }
        for output in outputs {
            match self.describe(output, deadline.remaining())? {
                None => missing.push((*output).to_owned()),
                Some(count) if partitions.is_some_and(|partitions| partitions != count) => {
                    others.push(((*output).to_owned(), count));
                }
                Some(_) => {}
            }
        }
        match partitions {
            Some(partitions) if missing.is_empty() && others.is_empty() => Ok(partitions),
            Some(partitions) if missing.is_empty() => {
                Err(TopicError::PartitionCounts { input: input.to_owned(), partitions, others })
            }
            Some(_) | None => {
                Err(TopicError::Missing { bootstrap: self.bootstrap.clone(), topics: missing, partitions })
            }
        }
    }

    pub(super) fn client(&self) -> &Consumer {
        &self.client
    }

    pub(super) fn unanswered(&self, error: &KafkaError, waited: Duration) -> TopicError {
        let heard = ConsumerEvents::heard(&self.client);
        let why = heard.or_else(|| error.rdkafka_error_code().map(|code| code.to_string()));
        TopicError::Unreachable { bootstrap: self.bootstrap.clone(), waited, why }
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

/// A topic as it should be made. What is not said here is the broker's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: usize,
    /// `None`: the broker's default.
    pub replication: Option<i32>,
    pub settings: Vec<(&'static str, String)>,
}

pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Of the monitor's windows: as far back as it looks.
pub(super) const WINDOWS_KEPT_MS: u64 = 70 * DAY_MS;

/// What a topic is for, which says how it is cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The input. A record whose own timestamp lies further ahead than that is refused by the broker, so that "beyond
    /// the record's timestamp" means something.
    Clicks { future_max_ms: u64 },
    /// The newest record a customer. Compacted, but not for a day: a reader that was away for so long sees them all.
    Table,
    /// Every record, for a day.
    Live,
    /// Every record, for the broker's default time.
    Log,
    /// Small segments, so that little is read again at a restart.
    State,
    /// Ten weeks.
    DriftWindows,
    /// The newest record a key, and all for so long.
    Compacted { lag_ms: u64 },
}

impl TopicSpec {
    pub fn new(name: &str, partitions: usize, replication: Option<i32>, purpose: Purpose) -> Self {
        let text = |value: u64| value.to_string();
        let settings = match purpose {
            Purpose::Clicks { future_max_ms } => {
                // Kept, so that history can be replayed; a restart needs the last days alone.
                vec![
                    ("cleanup.policy", "delete".to_owned()),
                    ("retention.ms", "-1".to_owned()),
                    ("message.timestamp.after.max.ms", text(future_max_ms)),
                ]
            }
            Purpose::Table => return Self::new(name, partitions, replication, Purpose::Compacted { lag_ms: DAY_MS }),
            Purpose::Live => vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", text(DAY_MS))],
            Purpose::Log => vec![("cleanup.policy", "delete".to_owned())],
            Purpose::State => vec![
                ("cleanup.policy", "compact".to_owned()),
                ("segment.bytes", text(64 << 20)),
                ("segment.ms", text(DAY_MS / 24)),
                ("min.cleanable.dirty.ratio", "0.1".to_owned()),
                ("max.compaction.lag.ms", text(DAY_MS / 4)),
            ],
            Purpose::DriftWindows => {
                vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", text(WINDOWS_KEPT_MS))]
            }
            Purpose::Compacted { lag_ms } => {
                vec![("cleanup.policy", "compact".to_owned()), ("min.compaction.lag.ms", text(lag_ms))]
            }
        };
        Self { name: name.to_owned(), partitions, replication, settings }
    }
}

/// How long a topic keeps its records, where that is not for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Milliseconds, where there is a limit of time.
    pub ms: Option<u64>,
    /// The limits, as the broker writes them.
    pub text: String,
}

/// Whether the input keeps what a restart reads: a compacted topic does not, and is refused; of one that does not keep its
/// records for ever the answer says how long. A broker that does not tell its settings is believed.
pub fn check_kept(settings: &ClientSettings, topic: &str, wait: Duration) -> Result<Option<Kept>, TopicError> {
    let Some(config) = config_of(settings, topic, wait)? else { return Ok(None) };
    let value = |name: &str| config.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    if value("cleanup.policy").contains("compact") {
        let why = "is compacted, so records of the past are not there when they are read again; it must have cleanup.policy=delete";
        return Err(refused(topic, why));
    }
    let finite = ["retention.ms", "retention.bytes"].map(|name| (name, value(name)));
    let finite: Vec<String> = finite
        .into_iter()
        .filter(|(_, value)| !matches!(value.as_str(), "-1" | ""))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let ms = value("retention.ms").parse().ok();
    Ok((!finite.is_empty()).then(|| Kept { ms, text: finite.join(", ") }))
}

/// How long a compacted topic keeps a deletion for those who read it late (`delete.retention.ms`); the broker's default where it
/// does not tell.
pub fn deletions_kept_ms(settings: &ClientSettings, topic: &str, wait: Duration) -> Result<i64, TopicError> {
    let config = config_of(settings, topic, wait)?;
    let value = config.and_then(|config| config.get("delete.retention.ms")?.value.clone()?.parse().ok());
    Ok(value.unwrap_or(DAY_MS.cast_signed()))
}

/// `None` where the broker does not tell them. One that does not answer is an error.
fn config_of(settings: &ClientSettings, topic: &str, wait: Duration) -> Result<Option<ConfigResource>, TopicError> {
    let resource = [ResourceSpecifier::Topic(topic)];
    let told = ask_controller(settings, wait, |admin, options| admin.describe_configs(&resource, options))?;
    Ok(told.ok().and_then(|mut all| all.pop()).and_then(Result::ok))
}

/// Nobody has said anything to the question.
fn is_unanswered(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown | Code::NotController)
}

/// Asks what a client sends to the cluster's controller, for a while, then again with a new client. A client whose first
/// answer named no controller, as that of a broker which has just come back may, does not ask who it is before the
/// request's time is over (librdkafka 2.12.1); by then the next one is told.
fn ask_controller<T, F: Future<Output = KafkaResult<T>>>(
    settings: &ClientSettings,
    wait: Duration,
    ask: impl Fn(&AdminClient<DefaultClientContext>, &AdminOptions) -> F,
) -> Result<KafkaResult<T>, TopicError> {
    let (deadline, mut at_most) = (Deadline::after(wait), CONTROLLER_ASK);
    let runtime = runtime()?;
    loop {
        let admin: AdminClient<DefaultClientContext> = settings.inspector().create().map_err(TopicError::Client)?;
        let wait = Some(deadline.remaining().clamp(Duration::from_millis(1), at_most));
        let options = AdminOptions::new().request_timeout(wait).operation_timeout(wait);
        match runtime.block_on(ask(&admin, &options)) {
            Err(KafkaError::AdminOp(code)) if is_unanswered(code) => std::thread::sleep(CONTROLLER_PAUSE),
            answered => return Ok(answered),
        }
        if deadline.passed() {
            let (bootstrap, waited) = (settings.bootstrap.clone(), deadline.elapsed());
            return Err(TopicError::Unreachable { bootstrap, waited, why: Some("no controller answers".to_owned()) });
        }
        at_most *= 2;
    }
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, TopicError> {
    let built = tokio::runtime::Builder::new_current_thread().build();
    built.map_err(|error| TopicError::Client(KafkaError::ClientCreation(error.to_string())))
}

/// Makes the topics that are not there, and waits until the broker shows them. Those that are there stay as they are.
/// Gives the names of the new ones.
pub fn create(settings: &ClientSettings, specs: &[TopicSpec], wait: Duration) -> Result<Vec<String>, TopicError> {
    let deadline = Deadline::after(wait);
    let inspector = Inspector::new(settings)?;
    let mut absent = Vec::new();
    for spec in specs {
        if inspector.describe(&spec.name, deadline.remaining())?.is_none() {
            absent.push(spec);
        }
    }
    let asked = Cell::new(0);
    let topics: Vec<NewTopic<'_>> = absent.iter().map(|spec| new_topic(spec)).collect();
    let results = if topics.is_empty() {
        Vec::new()
    } else {
        let ask = |admin: &AdminClient<DefaultClientContext>, options: &AdminOptions| {
            asked.set(asked.get() + 1);
            admin.create_topics(&topics, options)
        };
        ask_controller(settings, deadline.remaining(), ask)?
            .map_err(|error| inspector.unanswered(&error, deadline.elapsed()))?
    };
    let mut created = Vec::new();
    for result in results {
        match result {
            Ok(topic) => created.push(topic),
            // Most likely by the question whose answer was waited for no longer.
            Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) if asked.get() > 1 => created.push(topic),
            // Another one was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(refused(&topic, format!("cannot be created: {code}"))),
        }
    }
    for spec in absent {
        while inspector.describe(&spec.name, deadline.remaining())?.is_none() {
            if deadline.passed() {
                return Err(refused(&spec.name, "created, but the broker does not show it"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(created)
}

/// Deletes topics; one that is not there is no error.
pub fn delete(settings: &ClientSettings, names: &[String], wait: Duration) -> Result<(), TopicError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    let results = ask_controller(settings, wait, |admin, options| admin.delete_topics(&names, options))?
        .map_err(TopicError::Client)?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((topic, code)) => return Err(refused(&topic, format!("cannot be deleted: {code}"))),
        }
    }
    Ok(())
}

fn new_topic(spec: &TopicSpec) -> NewTopic<'_> {
    let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
    let replication = TopicReplication::Fixed(spec.replication.unwrap_or(-1));
    spec.settings
        .iter()
        .fold(NewTopic::new(&spec.name, partitions, replication), |topic, (key, value)| topic.set(key, value))
}

fn refused(topic: &str, why: impl ToString) -> TopicError {
    TopicError::Refused { topic: topic.to_owned(), why: why.to_string() }
}

fn because(why: &Option<String>) -> String {
    why.as_ref().map_or_else(String::new, |why| format!(" ({why})"))
}

fn missing_text(bootstrap: &str, topics: &[String], partitions: Option<usize>) -> String {
    let mut text = match topics {
        [topic] => format!("topic {topic} does not exist on {bootstrap}; start with --create-topics, or make it:"),
        _ => format!(
            "topics {} do not exist on {bootstrap}; start with --create-topics, or make them:",
            topics.join(", ")
        ),
    };
    let partitions = partitions.map_or_else(|| "N".to_owned(), |partitions| partitions.to_string());
    for topic in topics {
        let made = write!(
            text,
            "\n  kafka-topics.sh --bootstrap-server {bootstrap} --create --topic {topic} --partitions {partitions}"
        );
        made.expect("a String takes all that is written");
    }
    text
}

fn counts_text(input: &str, partitions: usize, others: &[(String, usize)]) -> String {
    let others: Vec<String> = others.iter().map(|(topic, count)| format!("{topic} has {count}")).collect();
    format!(
        "topic {input} has {partitions} partitions, but {}: records go out to the partition number they came in by, so \
         the numbers must be equal; make the output topics anew with {partitions} partitions",
        others.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_wrong_address_is_named_with_the_time_and_the_reason() {
        let inspector = Inspector::new(&ClientSettings::of("127.0.0.1:1")).expect("no broker is needed for this");
        let error = inspector.describe("clicks", Duration::from_millis(300)).expect_err("nobody listens there");
        let text = error.to_string();
        assert!(text.starts_with("no Kafka broker answered at 127.0.0.1:1 within 0.3"), "{text}");
        assert!(text.contains("refused"), "{text}");
    }

    #[test]
    fn missing_topics_and_other_partition_counts_are_refused() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        for (topic, partitions) in [("clicks", 4), ("embeddings", 4), ("rejected", 3)] {
            cluster.create_topic(topic, partitions, 1).expect("a topic");
        }
        let bootstrap = cluster.bootstrap_servers();
        let inspector = Inspector::new(&ClientSettings::of(&bootstrap)).expect("a client");

        assert_eq!(inspector.check("clicks", &["embeddings"], WAIT).expect("all is well"), 4);
        assert_eq!(
            inspector.check("clicks", &["sessions", "embeddings"], WAIT).expect_err("missing").to_string(),
            format!(
                "topic sessions does not exist on {bootstrap}; start with --create-topics, or make it:\n  \
                 kafka-topics.sh --bootstrap-server {bootstrap} --create --topic sessions --partitions 4"
            )
        );
        let text = inspector.check("clicks", &["embeddings", "rejected"], WAIT).expect_err("3 for 4").to_string();
        assert!(text.starts_with("topic clicks has 4 partitions, but rejected has 3:"), "{text}");
    }
}
