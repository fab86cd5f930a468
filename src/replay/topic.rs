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
    /// The id that values are framed by, for [`Encoding::Confluent`].
    id: Option<u32>,
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
    Ok(TopicOutput {
        producer,
        topic,
        keeps_partitions,
        encoding: wanted.encoding,
        id: None,
        buffer: Vec::new(),
        bytes: 0,
    })
}

impl TopicOutput {
    pub(super) fn frame_by(&mut self, id: Option<u32>) {
        self.id = id;
    }

    pub(super) fn embedding(
        &mut self,
        embedding: &CustomerEmbedding,
        traceparent: Option<&[u8]>,
    ) -> Result<(), TopicWriteError> {
        self.buffer.clear();
        let encoded = match self.id {
            Some(id) => embedding.encode_by_id(id, &mut self.buffer),
            None => embedding.encode_into(self.encoding, &mut self.buffer),
        };
        encoded.map_err(|why| self.unwritable(why))?;
        let sent = self.send(&embedding.customer_id, embedding.source, true, traceparent, None)?;
        sent.map_err(|error| self.failed(&error))
    }

    pub(super) fn session(
        &mut self,
        session: &SessionSummary,
        cause: Position,
        traceparent: Option<&[u8]>,
    ) -> Result<(), TopicWriteError> {
        self.encode_session(session)?;
        let sent = match self.send(&session.customer_id, cause, true, traceparent, None)? {
            // As the pipeline does: without its events' ids rather than not at all.
            Err(error) if is_too_large(&error) && !session.event_ids.is_empty() => {
                let short = SessionSummary { event_ids: Vec::new(), ..session.clone() };
                self.encode_session(&short)?;
                self.send(&session.customer_id, cause, true, traceparent, Some(session.event_ids.len()))?
            }
            sent => sent,
        };
        sent.map_err(|error| self.failed(&error))
    }

    fn encode_session(&mut self, session: &SessionSummary) -> Result<(), TopicWriteError> {
        self.buffer.clear();
        let encoded = match self.id {
            Some(id) => session.encode_by_id(id, &mut self.buffer),
            None => session.encode_into(self.encoding, &mut self.buffer),
        };
        encoded.map_err(|why| self.unwritable(why))
    }

    pub(super) fn tombstone(
        &mut self,
        customer: &CustomerId,
        cause: Position,
        traceparent: Option<&[u8]>,
    ) -> Result<(), TopicWriteError> {
        self.send(customer, cause, false, traceparent, None)?.map_err(|error| self.failed(&error))
    }

    /// Waits until all is stored. Gives the bytes of keys and values.
    pub(super) fn finish(self) -> Result<u64, TopicWriteError> {
        let flushed = self.producer.flush(FLUSH_MAX);
        self.check_delivered()?;
        flushed.map_err(|error| self.failed(&error))?;
        Ok(self.bytes)
    }

    /// Sends the buffer, or a null value; the inner error is this record's. One before that was not delivered ends it too, and
    /// now: at the end there may be a night's work behind it.
    fn send(
        &mut self,
        customer: &CustomerId,
        cause: Position,
        has_value: bool,
        traceparent: Option<&[u8]>,
        ids_left_out: Option<usize>,
    ) -> Result<Result<(), KafkaError>, TopicWriteError> {
        self.check_delivered()?;
        let key = customer.as_str().as_bytes();
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic).key(key);
        record.payload = has_value.then_some(self.buffer.as_slice());
        record.partition = self.keeps_partitions.then_some(cause.partition);
        record.headers = headers(traceparent, ids_left_out);
        let deadline = Deadline::after(FLUSH_MAX);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) if !deadline.passed() => {
                    record = unsent;
                    self.check_delivered()?;
                    std::thread::sleep(FULL_BUFFER_WAIT);
                }
                Err((error, _)) => return Ok(Err(error)),
            }
        }
        self.bytes += (key.len() + if has_value { self.buffer.len() } else { 0 }) as u64;
        Ok(Ok(()))
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

/// As the pipeline's.
fn headers(traceparent: Option<&[u8]>, ids_left_out: Option<usize>) -> Option<OwnedHeaders> {
    let mut headers = traceparent
        .map(|value| OwnedHeaders::new_with_capacity(2).insert(Header { key: "traceparent", value: Some(value) }));
    if let Some(count) = ids_left_out {
        let value = count.to_string();
        let header = Header { key: "dce-event-ids-left-out", value: Some(value.as_bytes()) };
        headers = Some(headers.unwrap_or_default().insert(header));
    }
    headers
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

impl std::fmt::Debug for TopicOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicOutput").field("topic", &self.topic).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cannot be delivered is said by the next record, not at the end.
    #[test]
    fn a_failed_delivery_ends_it_at_the_next_record() {
        let mut config = rdkafka::ClientConfig::new();
        // Nobody listens there.
        config.set("bootstrap.servers", "127.0.0.1:1").set("message.timeout.ms", "20");
        let producer = Producer::from_config_and_context(&config, ProducerEvents::default()).unwrap();
        let mut output = TopicOutput {
            producer,
            topic: "t".to_owned(),
            keeps_partitions: false,
            encoding: Encoding::Json,
            id: None,
            buffer: Vec::new(),
            bytes: 0,
        };
        let ana = CustomerId::parse("ana").unwrap();
        let deadline = Deadline::after(WAIT);
        let error = loop {
            assert!(!deadline.passed(), "no failure was seen");
            match output.tombstone(&ana, Position { partition: 0, offset: 0 }, None) {
                Ok(()) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.starts_with("t: a record was not delivered: t/"), "{error}");
    }

    #[test]
    fn headers_are_the_pipelines() {
        use rdkafka::message::Headers as _;
        let found = |traceparent, count| {
            let headers = headers(traceparent, count)?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let parts =
                headers.iter().map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default()));
            Some(parts.collect::<Vec<_>>())
        };
        let header = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(found(None, None), None);
        assert_eq!(found(Some(b"00-a"), None), Some(vec![header("traceparent", "00-a")]));
        assert_eq!(found(None, Some(7)), Some(vec![header("dce-event-ids-left-out", "7")]));
        let both = vec![header("traceparent", "00-a"), header("dce-event-ids-left-out", "7")];
        assert_eq!(found(Some(b"00-a"), Some(7)), Some(both));
    }
}
