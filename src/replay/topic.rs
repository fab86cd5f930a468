//! Results into a topic: every record in order, by an idempotent producer outside of transactions. A record of a
//! topic goes to its input's partition number, of which both topics have as many; one of a file to that of its key, as
//! Java's producers choose it.

use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};

use crate::config::Encoding;
use crate::kafka::Deadline;
use crate::kafka::client::{ClientSettings, Producer, ProducerEvents};
use crate::kafka::topics::{Inspector, TopicError};
use crate::types::{CustomerId, Position};
use crate::wire::embedding::{CustomerEmbedding, SessionSummary};
use crate::wire::error::EncodeError;

/// For the broker to answer, or to take a record.
const WAIT: Duration = Duration::from_secs(15);
/// For all that is still under way at the end.
const FLUSH_MAX: Duration = Duration::from_secs(300);
/// How long a full send buffer is waited for at a time.
const FULL_BUFFER_WAIT: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
pub enum TopicWriteError {
    #[error("the Kafka producer cannot be made: {0}")]
    Client(KafkaError),
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error("topic {topic} holds {records} records already; give another topic, or --append to write behind them")]
    NotEmpty { topic: String, records: u64 },
    #[error(
        "topic {topic} is one that dce run writes ({records} records are in it): a replay would mix with what is live; \
         give another topic, and point readers to it"
    )]
    Live { topic: String, records: u64 },
    #[error("topic {topic} is the input; give another topic")]
    IsInput { topic: String },
    #[error("{topic}: a record was not delivered: {why}; what came before it may be there")]
    Delivery { topic: String, why: String },
    #[error("{topic}: a record cannot be written: {why}")]
    Record { topic: String, why: EncodeError },
}

/// A topic that is written.
pub struct TopicOutput {
    producer: Producer,
    topic: String,
    /// Records go to their input's partition number.
    keeps_partitions: bool,
    encoding: Encoding,
    buffer: Vec<u8>,
    bytes: u64,
}

/// What a topic is asked for, and what it may not be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub topic: &'a str,
    pub encoding: Encoding,
    /// The topic that is replayed and its number of partitions; `None` for a file.
    pub input: Option<(&'a str, usize)>,
    /// May hold records already.
    pub appends: bool,
    /// Topics that are never written: clickstream and input.
    pub inputs: &'a [&'a str],
    /// Topics of the pipeline, written only while they are empty.
    pub live: &'a [&'a str],
}

/// Looks at the topic and makes a producer for it.
pub fn open(client: &ClientSettings, wanted: &Wanted<'_>) -> Result<TopicOutput, TopicWriteError> {
    let topic = wanted.topic.to_owned();
    if wanted.inputs.contains(&wanted.topic) {
        return Err(TopicWriteError::IsInput { topic });
    }
    let inspector = Inspector::new(client)?;
    let partitions = inspector.describe(&topic, WAIT)?.ok_or_else(|| TopicError::Missing {
        bootstrap: client.bootstrap.clone(),
        topics: vec![topic.clone()],
        partitions: wanted.input.map(|(_, partitions)| partitions),
    })?;
    if let Some((input, input_partitions)) = wanted.input
        && input_partitions != partitions
    {
        let (input, others) = (input.to_owned(), vec![(topic, partitions)]);
        return Err(TopicError::PartitionCounts { input, partitions: input_partitions, others }.into());
    }
    let mut records = 0;
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        let (low, high) = inspector.watermarks(&topic, partition, WAIT)?;
        records += low.abs_diff(high);
    }
    if records > 0 && wanted.live.contains(&wanted.topic) {
        return Err(TopicWriteError::Live { topic, records });
    }
    if records > 0 && !wanted.appends {
        return Err(TopicWriteError::NotEmpty { topic, records });
    }
    let config = client.plain_producer();
    let producer =
        Producer::from_config_and_context(&config, ProducerEvents::default()).map_err(TopicWriteError::Client)?;
    let keeps_partitions = wanted.input.is_some();
    if !keeps_partitions {
        tracing::info!(topic, partitions, "records go to the partition of their key (murmur2)");
    }
    Ok(TopicOutput { producer, topic, keeps_partitions, encoding: wanted.encoding, buffer: Vec::new(), bytes: 0 })
}

impl TopicOutput {
    pub(super) fn embedding(
        &mut self,
        embedding: &CustomerEmbedding,
        traceparent: Option<&[u8]>,
    ) -> Result<(), TopicWriteError> {
        self.buffer.clear();
        embedding.encode_into(self.encoding, &mut self.buffer).map_err(|why| self.unwritable(why))?;
        self.send(&embedding.customer_id, embedding.source, true, traceparent).map_err(|error| self.failed(&error))
    }

    pub(super) fn session(
        &mut self,
        session: &SessionSummary,
        cause: Position,
        traceparent: Option<&[u8]>,
    ) -> Result<(), TopicWriteError> {
        self.buffer.clear();
        session.encode_into(self.encoding, &mut self.buffer).map_err(|why| self.unwritable(why))?;
        match self.send(&session.customer_id, cause, true, traceparent) {
            // As the pipeline does: without its events' ids rather than not at all.
            Err(error) if is_too_large(&error) && !session.event_ids.is_empty() => {
                let short = SessionSummary { event_ids: Vec::new(), ..session.clone() };
                self.session(&short, cause, traceparent)
            }
            sent => sent.map_err(|error| self.failed(&error)),
        }
    }

    pub(super) fn tombstone(
        &mut self,
        customer: &CustomerId,
        cause: Position,
        traceparent: Option<&[u8]>,
    ) -> Result<(), TopicWriteError> {
        self.send(customer, cause, false, traceparent).map_err(|error| self.failed(&error))
    }

    /// Waits until all is stored. Gives the bytes of keys and values.
    pub(super) fn finish(self) -> Result<u64, TopicWriteError> {
        let flushed = self.producer.flush(FLUSH_MAX);
        self.check_delivered()?;
        flushed.map_err(|error| self.failed(&error))?;
        Ok(self.bytes)
    }

    /// Sends the buffer, or a null value.
    fn send(
        &mut self,
        customer: &CustomerId,
        cause: Position,
        has_value: bool,
        traceparent: Option<&[u8]>,
    ) -> Result<(), KafkaError> {
        let key = customer.as_str().as_bytes();
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic).key(key);
        record.payload = has_value.then_some(self.buffer.as_slice());
        record.partition = self.keeps_partitions.then_some(cause.partition);
        record.headers = traceparent
            .map(|value| OwnedHeaders::new_with_capacity(1).insert(Header { key: "traceparent", value: Some(value) }));
        let deadline = Deadline::after(FLUSH_MAX);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) if !deadline.passed() => {
                    record = unsent;
                    std::thread::sleep(FULL_BUFFER_WAIT);
                }
                Err((error, _)) => return Err(error),
            }
        }
        self.bytes += (key.len() + if has_value { self.buffer.len() } else { 0 }) as u64;
        Ok(())
    }

    fn check_delivered(&self) -> Result<(), TopicWriteError> {
        let events = self.producer.client().context();
        match events.take_last_failure() {
            None => Ok(()),
            Some(why) => Err(TopicWriteError::Delivery { topic: self.topic.clone(), why }),
        }
    }

    fn failed(&self, error: &KafkaError) -> TopicWriteError {
        let why = self.producer.client().context().take_last_failure().unwrap_or_else(|| error.to_string());
        TopicWriteError::Delivery { topic: self.topic.clone(), why }
    }

    fn unwritable(&self, why: EncodeError) -> TopicWriteError {
        TopicWriteError::Record { topic: self.topic.clone(), why }
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

impl std::fmt::Debug for TopicOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicOutput").field("topic", &self.topic).finish_non_exhaustive()
    }
}
