//! Single records into a topic, outside of transactions and without waiting. What did not get there is told when it is asked.

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::producer::{BaseRecord, Producer as _};

use super::client::{ClientSettings, Producer, ProducerEvents, refusal_text};

/// What a broker has not taken by then says nothing any more.
const STALE_MS: &str = "5000";

#[expect(missing_debug_implementations, reason = "a client has none")]
pub struct Appender {
    producer: Producer,
    topic: String,
}

impl Appender {
    /// An error is one of the settings, without their values.
    pub fn new(settings: &ClientSettings, topic: &str) -> Result<Self, String> {
        let mut config = settings.plain_producer();
        // One that comes twice is one; an idempotent producer can be of no more use.
        config.set("enable.idempotence", "false").set("message.timeout.ms", STALE_MS);
        let producer = Producer::from_config_and_context(&config, ProducerEvents::default());
        Ok(Self { producer: producer.map_err(|error| refusal_text(&error))?, topic: topic.to_owned() })
    }

    /// Hands a record without a key to the client.
    pub fn append(&self, partition: i32, value: &[u8]) -> Result<(), String> {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic).partition(partition).payload(value);
        self.producer.send(record).map_err(|(error, _)| format!("{}/{partition}: {error}", self.topic))
    }

    /// Why the last record was not delivered, since the last call of this.
    pub fn take_failure(&self) -> Option<String> {
        self.producer.client().context().take_last_failure()
    }
}
