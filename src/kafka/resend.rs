//! Sends chosen records again, together with a mark for each that says where it went: in one transaction, so that a record
//! is there exactly if its mark is. The transactional id keeps two senders apart: the later one ends the earlier.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use super::Deadline;
use super::client::{ClientSettings, Transactional, refusal_text};

/// The broker aborts what is open for longer.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
const BUFFER_KBYTES: u32 = 64 * 1024;
/// What the client sends at least, by its own default.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// Of a record beside its key and value.
const OVERHEAD_BYTES: usize = 16 * 1024;

/// A record to send, stamped by the client's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    #[error("the Kafka producer cannot be made: {}", refusal_text(.0))]
    Client(KafkaError),
    #[error("{doing} failed: {why}; nothing of these {count} records was sent")]
    Refused { doing: &'static str, count: usize, why: String },
    /// The commit's answer got lost.
    #[error("whether these {count} records were sent is not known ({why}): look at them with dce rejects")]
    Unknown { count: usize, why: String },
}

/// What became of each record, in the order of arrival.
#[derive(Debug, Default)]
struct Reports {
    done: Mutex<Vec<(usize, Result<i64, String>)>>,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Result<i64, String>)>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "rdkafka", facility, "{message}");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let done = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, message)) => Err(format!("{}/{}: {error}", message.topic(), message.partition())),
        };
        self.lock().push((index, done));
    }
}

pub struct Resender {
    producer: ThreadedProducer<Reports>,
    wait: Duration,
}

impl Resender {
    /// `largest`: bytes of the largest record's key and value. Ends what a sender of the same id left open.
    pub fn new(settings: &ClientSettings, id: &str, largest: usize, wait: Duration) -> Result<Self, ResendError> {
        let transaction = Transactional { id, timeout: TRANSACTION_TIMEOUT, buffer_kbytes: BUFFER_KBYTES };
        let mut config = settings.transactional(&transaction);
        // The offsets that the marks tell come with the reports.
        config.set("delivery.report.only.error", "false");
        if largest + OVERHEAD_BYTES > RECORD_BYTES_MAX {
            config.set("message.max.bytes", (largest + OVERHEAD_BYTES).to_string());
        }
        let producer: ThreadedProducer<Reports> =
            ThreadedProducer::from_config_and_context(&config, Reports::default()).map_err(ResendError::Client)?;
        let begun = producer.init_transactions(wait);
        begun.map_err(|error| refused("beginning", 0, &error))?;
        Ok(Self { producer, wait })
    }

    /// All of them to `topic` with their marks to `marks`, or none.
    pub fn send(
        &mut self,
        topic: &str,
        records: &[Outgoing],
        marks: &str,
        mark: impl Fn(usize, i64) -> Outgoing,
    ) -> Result<(), ResendError> {
        let count = records.len();
        self.producer.begin_transaction().map_err(|error| refused("beginning", count, &error))?;
        let sent = self.records_and_marks(topic, records, marks, mark);
        if let Err(error) = sent {
            // What cannot be aborted here, the broker aborts.
            drop(self.producer.abort_transaction(self.wait));
            return Err(error);
        }
        match self.producer.commit_transaction(self.wait) {
            Ok(()) => Ok(()),
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                drop(self.producer.abort_transaction(self.wait));
                Err(ResendError::Refused { doing: "the commit", count, why: error.to_string() })
            }
            Err(error) => Err(ResendError::Unknown { count, why: error.to_string() }),
        }
    }

    fn records_and_marks(
        &self,
        topic: &str,
        records: &[Outgoing],
        marks: &str,
        mark: impl Fn(usize, i64) -> Outgoing,
    ) -> Result<(), ResendError> {
        let offsets = self.deliver(topic, records)?;
        let all: Vec<Outgoing> = offsets.iter().enumerate().map(|(index, offset)| mark(index, *offset)).collect();
        self.deliver(marks, &all)?;
        Ok(())
    }

    /// The offsets that they got.
    fn deliver(&self, topic: &str, records: &[Outgoing]) -> Result<Vec<i64>, ResendError> {
        let count = records.len();
        let deadline = Deadline::after(self.wait);
        for (index, outgoing) in records.iter().enumerate() {
            let mut record: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(topic, index).partition(outgoing.partition);
            record.key = outgoing.key.as_deref();
            record.payload = outgoing.value.as_deref();
            let headers = outgoing.headers.iter();
            record.headers =
                Some(headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(value) })
                }));
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) if !deadline.passed() => {
                        record = unsent;
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err((error, _)) => return Err(refused("sending", count, &error)),
                }
            }
        }
        self.producer.flush(deadline.remaining()).map_err(|error| refused("sending", count, &error))?;
        let mut reports = std::mem::take(&mut *self.producer.context().lock());
        while reports.len() < count && !deadline.passed() {
            std::thread::sleep(Duration::from_millis(5));
            reports.append(&mut *self.producer.context().lock());
        }
        reports.sort_by_key(|(index, _)| *index);
        if reports.len() < count {
            let why = format!("{} of them were acknowledged in time", reports.len());
            return Err(ResendError::Refused { doing: "sending", count, why });
        }
        let offsets = reports.into_iter().map(|(_, done)| done);
        offsets.collect::<Result<_, _>>().map_err(|why| ResendError::Refused { doing: "sending", count, why })
    }
}

impl std::fmt::Debug for Resender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resender").finish_non_exhaustive()
    }
}

fn refused(doing: &'static str, count: usize, error: &KafkaError) -> ResendError {
    ResendError::Refused { doing, count, why: error.to_string() }
}
