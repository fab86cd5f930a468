//! The bench's place on a broker: topics of its own, filled, counted, and deleted at the end.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::clicks::Raw;
use crate::config::Config;
use crate::kafka::client::ClientSettings;
use crate::kafka::topics::{self, Inspector, Purpose, TopicSpec};
use crate::stop::Stop;
use crate::telemetry::Clock;

pub(super) const STOPPED: &str = "stopped before it was done; the bench's topics are deleted";
pub(super) const WAIT: Duration = Duration::from_secs(60);

pub(super) struct Field<'a> {
    config: &'a Config,
    pub(super) client: ClientSettings,
    /// Begins the names of all topics and groups.
    name: String,
    pub(super) partitions: usize,
    topics: Vec<String>,
    /// Names given so far.
    names: u32,
    /// The user's wish: what runs is ended, and the topics go.
    pub(super) stop: Stop,
}

impl<'a> Field<'a> {
    pub(super) fn new(config: &'a Config, partitions: usize, stop: Stop) -> Self {
        let name = format!("dce-bench-{}", Clock::start().wall_ms());
        Self {
            config,
            client: ClientSettings::from(&config.kafka),
            name,
            partitions,
            topics: Vec::new(),
            names: 0,
            stop,
        }
    }

    /// Makes a topic that keeps everything.
    pub(super) fn topic(&mut self, what: &str) -> anyhow::Result<String> {
        let name = self.new_name(what);
        let spec = TopicSpec::new(&name, self.partitions, None, Purpose::Clicks { future_max_ms: 3_600_000 });
        let created = topics::create(&self.client, &[spec], WAIT)?;
        ensure!(created == [name.as_str()], "topic {name} is there already: does another bench run?");
        self.topics.push(name.clone());
        Ok(name)
    }

    fn new_name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{}-{}-{what}", self.name, self.names)
    }

    /// The settings of a pipeline of its own over that input, its topics made.
    pub(super) fn pipeline(&mut self, input: &str) -> anyhow::Result<Config> {
        let mut config = self.config.clone();
        config.app.id = self.new_name("app");
        config.topics.clickstream = input.to_owned();
        config.topics.embeddings = self.topic("embeddings")?;
        config.topics.rejected = self.topic("rejected")?;
        config.topics.state = self.topic("state")?;
        if let Some(live) = &mut config.topics.embeddings_live {
            *live = self.topic("live")?;
        }
        if let Some(sessions) = &mut config.topics.sessions {
            *sessions = self.topic("sessions")?;
        }
        Ok(config)
    }

    /// Writes all records, each partition's in order, and waits until they are stored.
    pub(super) fn fill(&self, topic: &str, records: &[Raw]) -> anyhow::Result<()> {
        let producer: ThreadedProducer<DefaultProducerContext> =
            ThreadedProducer::from_config_and_context(&self.client.plain_producer(), DefaultProducerContext)?;
        for record in records {
            send(&producer, topic, record)?;
        }
        producer.flush(WAIT).with_context(|| format!("topic {topic}: not all records were stored"))
    }

    /// Offsets that the topic's partitions have used in all: records and transaction markers.
    pub(super) fn offsets(&self, topic: &str) -> anyhow::Result<u64> {
        let inspector = Inspector::new(&self.client)?;
        let mut sum = 0;
        for partition in 0..self.partitions {
            let (low, high) = inspector.watermarks(topic, i32::try_from(partition)?, WAIT)?;
            sum += u64::try_from(high - low)?;
        }
        Ok(sum)
    }

    /// Deletes the topics that were made, but those.
    pub(super) fn remove_all_but(&mut self, kept: &[String]) -> anyhow::Result<()> {
        let (kept, gone) = std::mem::take(&mut self.topics).into_iter().partition(|topic| kept.contains(topic));
        self.topics = kept;
        Ok(topics::delete(&self.client, &gone, WAIT)?)
    }
}

/// Hands a record to the producer, and waits where it has no room.
pub(super) fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    record: &Raw,
) -> anyhow::Result<()> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
        .partition(record.partition)
        .timestamp(record.timestamp_ms)
        .key(record.key.as_bytes())
        .payload(&record.value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                record = unsent;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(anyhow!("topic {topic}: {error}")),
        }
    }
}
