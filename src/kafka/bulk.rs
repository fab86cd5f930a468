//! Writes many records in one transaction after the other, with a group's offsets in the last of them. The transactional id
//! keeps two writers apart: the later one ends the earlier.

use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Deadline;
use super::client::{ClientSettings, Producer, ProducerEvents, Transactional, refusal_text};
use super::errors::{self, Call, CallError, TransactionError};
use super::follow::GroupOffset;
use super::raw::{self, GroupMetadata};

/// The broker aborts what is open for longer. A transaction of [`TRANSACTION_BYTES`] takes a second or two.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Of one transaction's keys and values, about.
const TRANSACTION_BYTES: usize = 64 << 20;
const BUFFER_KBYTES: u32 = 64 * 1024;
/// How long a full send buffer is waited for at a time.
const FULL_BUFFER_WAIT: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    #[error("the Kafka producer {id} cannot be made: {why}")]
    Client { id: String, why: String },
    #[error("{doing} failed: {why}")]
    Refused { doing: &'static str, why: String },
    /// The commit's answer got lost.
    #[error("whether the last transaction was committed is not known: {why}")]
    Unknown { why: String },
    /// What was open is decided; where a commit was under way, nobody says how.
    #[error(
        "the producer {id} was ended by a later one of that id, or by the broker after {} s without a step: {why}",
        TRANSACTION_TIMEOUT.as_secs()
    )]
    Fenced { id: String, why: String },
}

/// One record of a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a str)],
}

pub struct Bulk {
    producer: Producer,
    id: String,
    topic: String,
    /// Of the open transaction; `None`: none is open.
    open_bytes: Option<usize>,
}

impl Bulk {
    /// To the partitions of one topic. Ends what a writer of the same id left open.
    pub fn new(settings: &ClientSettings, id: &str, topic: &str) -> Result<Self, BulkError> {
        let transaction = Transactional { id, timeout: TRANSACTION_TIMEOUT, buffer_kbytes: BUFFER_KBYTES };
        let config = settings.transactional(&transaction);
        let producer = Producer::from_config_and_context(&config, ProducerEvents::default());
        let producer = producer.map_err(|error| BulkError::Client { id: id.to_owned(), why: refusal_text(&error) })?;
        repeat(Call::Init, |wait| producer.init_transactions(wait).map_err(|error| CallError::from(&error)))
            .map_err(|error| refused("starting transactions", &error))?;
        Ok(Self { producer, id: id.to_owned(), topic: topic.to_owned(), open_bytes: None })
    }

    /// The next record; a transaction that has grown large is committed first.
    pub fn send(&mut self, partition: i32, key: &[u8], value: Option<&[u8]>) -> Result<(), BulkError> {
        if self.open_bytes.is_some_and(|bytes| bytes >= TRANSACTION_BYTES) {
            self.commit()?;
        }
        let topic = self.topic.clone();
        self.add(&Piece { topic: &topic, partition, key, value, headers: &[] })
    }

    /// A record to any topic, into the open transaction, however large that has grown.
    pub fn add(&mut self, piece: &Piece<'_>) -> Result<(), BulkError> {
        let Piece { topic, partition, key, value, headers } = *piece;
        self.begin()?;
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition).key(key);
        record.payload = value;
        if !headers.is_empty() {
            let all = OwnedHeaders::new_with_capacity(headers.len());
            let headers = headers.iter().fold(all, |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
            record = record.headers(headers);
        }
        let deadline = Deadline::after(TRANSACTION_TIMEOUT);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) if !deadline.passed() => {
                    record = unsent;
                    std::thread::sleep(FULL_BUFFER_WAIT);
                }
                Err((error, _)) => {
                    return Err(self.ended(BulkError::Refused { doing: "sending", why: error.to_string() }));
                }
            }
        }
        self.open_bytes = self.open_bytes.map(|bytes| bytes + key.len() + value.map_or(0, <[u8]>::len));
        Ok(())
    }

    /// Commits what was sent, if anything was.
    pub fn commit(&mut self) -> Result<(), BulkError> {
        if self.open_bytes.is_none() {
            return Ok(());
        }
        let client = self.producer.client();
        match repeat(Call::Commit, |wait| raw::commit_transaction(client, wait)) {
            Ok(()) => self.open_bytes = None,
            Err(error @ (TransactionError::UnknownOutcome(_) | TransactionError::Retry(_))) => {
                // Nothing may be called after it.
                self.open_bytes = None;
                return Err(self.ended(BulkError::Unknown { why: self.why(&error) }));
            }
            Err(error @ (TransactionError::Abort(_) | TransactionError::Fatal(_))) => {
                return Err(self.ended(BulkError::Refused { doing: "a commit", why: self.why(&error) }));
            }
        }
        Ok(())
    }

    /// Commits what was sent, and with it the offsets of a group that has no members.
    pub fn commit_with(&mut self, group: &str, topic: &str, offsets: &[GroupOffset]) -> Result<(), BulkError> {
        const DOING: &str = "committing offsets";
        self.begin()?;
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for GroupOffset { partition, offset, metadata } in offsets {
            let mut element = list.add_partition(topic, *partition);
            element
                .set_offset(Offset::Offset(*offset))
                .map_err(|error| BulkError::Refused { doing: DOING, why: error.to_string() })?;
            element.set_metadata(metadata.as_str());
        }
        let group = GroupMetadata::without_membership(group)
            .ok_or_else(|| BulkError::Refused { doing: DOING, why: format!("{group:?} can be no group's name") })?;
        let client = self.producer.client();
        repeat(Call::SendOffsets, |wait| raw::send_offsets(client, &list, &group, wait))
            .map_err(|error| self.ended(refused(DOING, &error)))?;
        self.commit()
    }

    fn begin(&mut self) -> Result<(), BulkError> {
        if self.open_bytes.is_none() {
            self.producer.begin_transaction().map_err(|error| {
                self.ended(BulkError::Refused { doing: "beginning a transaction", why: error.to_string() })
            })?;
            self.open_bytes = Some(0);
        }
        Ok(())
    }

    /// Where a later writer of the id has ended this one, that is why anything fails.
    fn ended(&self, error: BulkError) -> BulkError {
        match self.producer.client().fatal_error() {
            Some((RDKafkaErrorCode::Fenced, why)) => BulkError::Fenced { id: self.id.clone(), why },
            Some(_) | None => error,
        }
    }

    fn why(&self, error: &TransactionError) -> String {
        match self.producer.client().context().take_last_failure() {
            Some(failure) => format!("{error}; {failure}"),
            None => error.to_string(),
        }
    }
}

impl Drop for Bulk {
    /// What is open is aborted: at once, or by the broker.
    fn drop(&mut self) {
        if self.open_bytes.is_some() {
            drop(self.producer.abort_transaction(TRANSACTION_TIMEOUT));
        }
    }
}

impl std::fmt::Debug for Bulk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bulk").field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn refused(doing: &'static str, error: &TransactionError) -> BulkError {
    BulkError::Refused { doing, why: error.to_string() }
}

/// Within the transaction's time.
fn repeat(call: Call, attempt: impl FnMut(Duration) -> Result<(), CallError>) -> Result<(), TransactionError> {
    errors::repeat(call, &Deadline::after(TRANSACTION_TIMEOUT), attempt)
}
