//! Publishes an epoch's result and its offsets in one transaction, on a thread of its own, while the caller computes
//! the next. [`Epoch`] → [`Outcome`].
//!
//! ```text
//! caller    submit(N) ── collects and computes N+1 ───── outcome() ── submit(N+1)
//! thread      begin ▸ records ▸ offsets ▸ commit ─────────┘             begin ▸ …
//! ```
//! At least once there is no transaction: records are flushed, and the caller commits the offsets then.
//! One epoch is under way at a time: the next is handed over only when this one is known to be committed, so nothing
//! that was computed on top of a lost epoch can leave.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::epoch::{Body, EpochResult, Output, Reject};
use super::history::{self, History};
use super::producers::{Making, ProducerError, Producers};
use crate::config::Delivery;
use crate::kafka::Deadline;
use crate::kafka::client::{ClientSettings, ProducerEvents};
use crate::kafka::errors::{Call, CallError, TransactionError, repeat};
use crate::kafka::raw::{self, GroupMetadata};
use crate::stop::Stop;
use crate::wire::embedding::SessionSummary;

/// A commit that took longer, or lost a connection, may have been repeated by the client. Its producer is replaced: a
/// request that is still on its way could decide the next transaction (KAFKA-17754).
const DOUBTFUL_COMMIT: Duration = Duration::from_secs(1);
/// What the thread may take beyond its own deadlines before it counts as hung.
const HANG_GRACE: Duration = Duration::from_secs(4);
/// A longer key of a reject that is too large goes the way of its value.
const KEPT_KEY_BYTES_MAX: usize = 1_024;
/// After which a sink that begins looks whether it is still wanted.
const READY_LOOK: Duration = Duration::from_millis(50);
/// After which a flush beside the offsets looks whether it is still wanted.
const FLUSH_SLICE: Duration = Duration::from_millis(10);
/// How long a full send buffer is waited for at a time.
const FULL_BUFFER_WAIT: Duration = Duration::from_millis(1);

/// Writes the value of an embedding or a session; the buffer comes empty.
pub type Encode = Box<dyn Fn(&Body, &mut Vec<u8>) + Send>;

#[derive(Debug, Clone)]
pub struct SinkSettings {
    pub client: ClientSettings,
    /// At least once, an outcome of `Committed` means acknowledged: the caller commits the offsets.
    pub delivery: Delivery,
    /// Of the worker; its transactions take turns under this and another one ([`super::producers::transactional_ids`]). Stays the same over
    /// restarts, so that a new holder ends what the old one left open.
    pub transactional_id: String,
    /// Below the session timeout of the source.
    pub transaction_timeout: Duration,
    /// Of records not yet acknowledged.
    pub buffer_kbytes: u32,
    /// Whose offsets are committed.
    pub input: String,
    pub topics: OutputTopics,
}

#[derive(Debug, Clone)]
pub struct OutputTopics {
    /// The table: settled embeddings.
    pub embeddings: String,
    /// Every embedding in order, where provisional ones are wanted.
    pub live: Option<String>,
    pub sessions: Option<String>,
    pub rejected: String,
    /// The log of the state.
    pub state: String,
}

impl SinkSettings {
    fn making(&self) -> Making<'_> {
        Making {
            client: &self.client,
            delivery: self.delivery,
            id: &self.transactional_id,
            transaction_timeout: self.transaction_timeout,
            buffer_kbytes: self.buffer_kbytes,
        }
    }
}

impl OutputTopics {
    /// All that a transaction may write to.
    pub fn written(&self) -> Vec<&str> {
        let Self { embeddings, live, sessions, rejected, state } = self;
        let optional = [live, sessions].into_iter().filter_map(|topic| topic.as_deref());
        [embeddings.as_str(), rejected.as_str(), state.as_str()].into_iter().chain(optional).collect()
    }
}

/// What is committed together, and who does it.
#[derive(Debug)]
pub struct Epoch {
    pub result: EpochResult,
    /// Taken after the poll that gave the epoch's last record.
    pub group: GroupMetadata,
    /// Kept with the committed offsets; a partition without one keeps nothing.
    pub histories: BTreeMap<i32, History>,
}

/// What became of an epoch.
#[derive(Debug)]
pub enum Outcome {
    Committed(Receipt),
    /// Nothing of it is visible. The epoch and all that was computed on top of it is void: go back to the committed
    /// offsets and the state at them. The sink goes on.
    Aborted {
        why: String,
    },
    /// Nothing of it is visible, for the group is of another generation by now. The sink goes on, and who has had the
    /// partitions all the while may submit it again, as a member of that one.
    Stale {
        why: String,
        epoch: Box<Epoch>,
    },
    /// Nothing of it is visible, and the sink is at its end: as for an abort, with a new sink.
    Fatal {
        why: String,
    },
    /// It may be visible or not, and the sink is at its end. A new sink (which decides it), then the committed offsets.
    UnknownOutcome {
        why: String,
    },
    /// A call to the client does not come back. End the process: a restart is the one way out.
    Hung {
        why: String,
    },
}

/// Of a committed epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Written to the table, live, sessions, rejected and state topics together.
    pub records: u64,
    /// Of their keys and values.
    pub bytes: u64,
    /// Until all records were handed to the client.
    pub produce: Duration,
    /// From then on: offsets and commit.
    pub commit: Duration,
}

/// The caller's end.
#[derive(Debug)]
pub struct SinkHandle {
    epochs: Option<SyncSender<Epoch>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
    /// Since when an epoch is under way, and until when it may be.
    under_way: Option<Deadline>,
    /// The longest that an epoch can take by the thread's own deadlines, and some.
    epoch_max: Duration,
}

impl SinkHandle {
    /// Hands an epoch over; does not wait.
    ///
    /// # Panics
    /// When the outcome of the one before has not been taken.
    pub fn submit(&mut self, epoch: Epoch) {
        assert!(self.under_way.is_none(), "the outcome of the epoch before decides whether this one counts");
        self.under_way = Some(Deadline::after(self.epoch_max));
        if let Some(epochs) = &self.epochs {
            // An ended thread shows as an outcome.
            drop(epochs.try_send(epoch));
        }
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The outcome of the epoch that is under way; `None` if there is none within `wait`, or no epoch.
    pub fn outcome(&mut self, wait: Duration) -> Option<Outcome> {
        let deadline = self.under_way?;
        let outcome = match self.outcomes.recv_timeout(wait) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) if !deadline.passed() => return None,
            Err(RecvTimeoutError::Timeout) => {
                // The thread cannot be waited for any more.
                self.thread = None;
                Outcome::Hung { why: format!("a transaction's call has not come back for {:?}", deadline.elapsed()) }
            }
            Err(RecvTimeoutError::Disconnected) => {
                Outcome::UnknownOutcome { why: "the sink's thread has ended".to_owned() }
            }
        };
        self.under_way = None;
        Some(outcome)
    }
}

impl Drop for SinkHandle {
    /// Waits for the thread, unless it may be hung; an epoch under way is finished by it.
    fn drop(&mut self) {
        self.epochs = None;
        let Some(thread) = self.thread.take() else { return };
        if let Some(deadline) = self.under_way
            && self.outcomes.recv_timeout(deadline.remaining()).is_err_and(|error| error == RecvTimeoutError::Timeout)
        {
            return;
        }
        if thread.join().is_err() {
            tracing::error!("the sink's thread panicked");
        }
    }
}

/// The producer's owner: lives on the sink's thread.
pub struct Sink {
    settings: SinkSettings,
    encode: Encode,
    producers: Producers,
    /// Of one value.
    buffer: Vec<u8>,
}

impl Sink {
    /// Makes the producer, ends what a predecessor of the same id left open, and starts the thread. Waits for all that:
    /// up to twice the transaction's timeout, and no longer than until the stop is asked for.
    pub fn spawn(settings: SinkSettings, encode: Encode, stop: &Stop) -> Result<SinkHandle, ProducerError> {
        // A doubtful producer is replaced first (twice the timeout), then the epoch, then perhaps its abort.
        let epoch_max = settings.transaction_timeout * 4 + HANG_GRACE;
        let id = settings.transactional_id.clone();
        let (epoch_sender, epochs) = sync_channel(1);
        let (outcome_sender, outcomes) = sync_channel(1);
        let (ready_sender, ready) = sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("sink-{id}")).spawn(move || {
            match Producers::connect(settings.making()) {
                Ok(producers) => {
                    drop(ready_sender.send(Ok(())));
                    let sink = Self { settings, encode, producers, buffer: Vec::new() };
                    sink.run(&epochs, &outcome_sender);
                }
                Err(error) => drop(ready_sender.send(Err(error))),
            }
        });
        let thread = thread.map_err(|error| ProducerError::Client { id: id.clone(), why: error.to_string() })?;
        let deadline = Deadline::after(epoch_max);
        loop {
            match ready.recv_timeout(deadline.remaining().min(READY_LOOK)) {
                Ok(begun) => break begun?,
                // Nothing was begun: its thread ends when it finds nobody, or with the process.
                Err(RecvTimeoutError::Timeout) if stop.is_stopped() => return Err(ProducerError::Stopped { id }),
                Err(RecvTimeoutError::Timeout) if !deadline.passed() => {}
                Err(_) => {
                    let why = format!("the client has not answered for {:?}", deadline.elapsed());
                    return Err(ProducerError::Init { id, why });
                }
            }
        }
        Ok(SinkHandle { epochs: Some(epoch_sender), outcomes, thread: Some(thread), under_way: None, epoch_max })
    }

    fn run(mut self, epochs: &Receiver<Epoch>, outcomes: &SyncSender<Outcome>) {
        while let Ok(epoch) = epochs.recv() {
            let EpochResult { outputs, resume, state, .. } = &epoch.result;
            let (outcome, doubtful) = if outputs.is_empty() && resume.is_empty() && state.is_empty() {
                (Outcome::Committed(Receipt::default()), false)
            } else if epoch.group.generation() < 0 {
                // Brokers do not check a generation of −1: a member that was thrown out would commit unfenced.
                (Outcome::Aborted { why: "no member of the group when the epoch was collected".to_owned() }, false)
            } else {
                match self.publish(&epoch) {
                    Ok(receipt) => {
                        let disconnected = self.events().take_disconnected();
                        (Outcome::Committed(receipt), disconnected || receipt.commit > DOUBTFUL_COMMIT)
                    }
                    // After a failed delivery the old producer's next transaction would fail too, by its sequence.
                    Err(error) => {
                        let is_stale = is_stale(&error);
                        match self.outcome_of(error) {
                            Outcome::Aborted { why } if is_stale => {
                                (Outcome::Stale { why, epoch: Box::new(epoch) }, true)
                            }
                            outcome => (outcome, true),
                        }
                    }
                }
            };
            let goes_on = matches!(outcome, Outcome::Committed(_) | Outcome::Aborted { .. } | Outcome::Stale { .. });
            if outcomes.send(outcome).is_err() || !goes_on {
                return;
            }
            if doubtful {
                tracing::warn!(
                    id = self.settings.transactional_id,
                    "a transaction was aborted or in doubt: new producer"
                );
                if let Err(error) = self.producers.replace(self.settings.making()) {
                    // Told as the outcome of the next epoch, of which nothing was begun.
                    if epochs.recv().is_ok() {
                        drop(outcomes.send(Outcome::Fatal { why: error.to_string() }));
                    }
                    return;
                }
            }
            self.producers.turn();
        }
    }

    fn publish(&mut self, epoch: &Epoch) -> Result<Receipt, TransactionError> {
        let result = &epoch.result;
        let deadline = Deadline::after(self.settings.transaction_timeout);
        if self.settings.delivery == Delivery::AtLeastOnce {
            return self.publish_acknowledged(result, &deadline);
        }
        // A connection that was lost while the other one had its turn is no doubt about this transaction.
        self.events().take_disconnected();
        self.producers.current().begin_transaction().map_err(|error| CallError::from(&error).class(Call::Begin))?;
        let mut receipt = Receipt::default();
        for output in &result.outputs {
            self.produce(output, &deadline, &mut receipt)?;
        }
        self.produce_state(result, &deadline, &mut receipt)?;
        receipt.produce = deadline.elapsed();
        if !result.resume.is_empty() {
            let offsets = self.offsets(epoch)?;
            let client = self.producers.current().client();
            let is_sent = AtomicBool::new(false);
            std::thread::scope(|scope| {
                // Records linger until somebody flushes them: they go out beside the offsets, not behind them.
                scope.spawn(|| {
                    loop {
                        if raw::flush(client, FLUSH_SLICE) || is_sent.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
                let sent = repeat(Call::SendOffsets, &deadline, |wait| {
                    raw::send_offsets(client, &offsets, &epoch.group, wait)
                });
                is_sent.store(true, Ordering::Relaxed);
                sent
            })?;
        }
        repeat(Call::Commit, &deadline, |wait| raw::commit_transaction(self.producers.current().client(), wait))?;
        receipt.commit = deadline.elapsed().saturating_sub(receipt.produce);
        Ok(receipt)
    }

    /// Without a transaction: what is acknowledged is there, whatever becomes of the rest.
    fn publish_acknowledged(&mut self, result: &EpochResult, deadline: &Deadline) -> Result<Receipt, TransactionError> {
        self.events().take_last_failure();
        let mut receipt = Receipt::default();
        for output in &result.outputs {
            self.produce(output, deadline, &mut receipt)?;
        }
        receipt.produce = deadline.elapsed();
        let mut flushed = raw::flush(self.producers.current().client(), deadline.remaining());
        if flushed && !result.state.is_empty() {
            // What the state says was published is acknowledged by then.
            self.produce_state(result, deadline, &mut receipt)?;
            flushed = raw::flush(self.producers.current().client(), deadline.remaining());
        }
        receipt.commit = deadline.elapsed().saturating_sub(receipt.produce);
        let failure = self.events().take_last_failure();
        let (code, text) = match (flushed, failure) {
            (true, None) => return Ok(receipt),
            (_, Some(failure)) => (RDKafkaErrorCode::Fail, failure),
            (false, None) => {
                let text = format!("not all records were acknowledged within {:?}", self.settings.transaction_timeout);
                (RDKafkaErrorCode::OperationTimedOut, text)
            }
        };
        let error = CallError { code, fatal: false, retriable: false, requires_abort: true, text };
        Err(TransactionError::Abort(error))
    }

    /// To the topics that the body belongs to, at the partition number of its cause.
    fn produce(&mut self, output: &Output, deadline: &Deadline, receipt: &mut Receipt) -> Result<(), TransactionError> {
        let topics = &self.settings.topics;
        let live = topics.live.as_deref();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let partition = output.cause.partition;
        let traceparent = output.traceparent.as_deref();
        let sent = match &output.body {
            Body::Embedding(embedding) => {
                (self.encode)(&output.body, &mut buffer);
                let key = embedding.customer_id.as_str().as_bytes();
                let table = embedding.kind.is_settled().then_some(topics.embeddings.as_str());
                live.into_iter().chain(table).try_for_each(|topic| {
                    self.send(topic, partition, Some(key), Some(&buffer), traced(traceparent), deadline, receipt)
                })
            }
            Body::Session(session) => match &topics.sessions {
                Some(topic) => {
                    (self.encode)(&output.body, &mut buffer);
                    let key = session.customer_id.as_str().as_bytes();
                    match self.send(topic, partition, Some(key), Some(&buffer), traced(traceparent), deadline, receipt)
                    {
                        // A thousand long ids may be larger than what the client sends: all but they go.
                        Err(TransactionError::Abort(error)) if is_too_large(&error) => {
                            let headers = with(
                                traced(traceparent).unwrap_or_default(),
                                "dce-event-ids-left-out",
                                session.event_ids.len().to_string().as_bytes(),
                            );
                            let short = SessionSummary { event_ids: Vec::new(), ..SessionSummary::clone(session) };
                            buffer.clear();
                            (self.encode)(&Body::Session(Box::new(short)), &mut buffer);
                            self.send(topic, partition, Some(key), Some(&buffer), Some(headers), deadline, receipt)
                        }
                        sent => sent,
                    }
                }
                None => Ok(()),
            },
            Body::Erased(customer) => {
                let key = customer.as_str().as_bytes();
                live.into_iter().chain([topics.embeddings.as_str()]).try_for_each(|topic| {
                    self.send(topic, partition, Some(key), None, traced(traceparent), deadline, receipt)
                })
            }
            Body::Reject(reject) => {
                let headers = || self.reject_headers(output, reject);
                let (key, value) = (reject.key.as_deref(), reject.value.as_deref());
                let topic = &topics.rejected;
                match self.send(topic, partition, key, value, Some(headers()), deadline, receipt) {
                    // With its headers it is larger than what the client sends: the rest stays where it came from.
                    Err(TransactionError::Abort(error)) if is_too_large(&error) => {
                        let bytes = len(value).to_string();
                        let mut headers = with(headers(), "dce-value-left-out", bytes.as_bytes());
                        let short = key.filter(|key| key.len() <= KEPT_KEY_BYTES_MAX);
                        if short.is_none() {
                            headers = with(headers, "dce-key-left-out", len(key).to_string().as_bytes());
                        }
                        self.send(topic, partition, short, None, Some(headers), deadline, receipt)
                    }
                    sent => sent,
                }
            }
        };
        self.buffer = buffer;
        sent
    }

    fn produce_state(
        &self,
        result: &EpochResult,
        deadline: &Deadline,
        receipt: &mut Receipt,
    ) -> Result<(), TransactionError> {
        result.state.iter().try_for_each(|record| {
            let (key, value) = (Some(&*record.key), record.value.as_deref());
            self.send(&self.settings.topics.state, record.partition, key, value, None, deadline, receipt)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one record's parts, and what is common to all")]
    fn send(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
        deadline: &Deadline,
        receipt: &mut Receipt,
    ) -> Result<(), TransactionError> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
        record.key = key;
        record.payload = value;
        record.headers = headers;
        loop {
            match self.producers.current().send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) if !deadline.passed() => {
                    record = unsent;
                    std::thread::sleep(FULL_BUFFER_WAIT);
                }
                Err((error, _)) => return Err(self.refusal(topic, &error)),
            }
        }
        receipt.records += 1;
        receipt.bytes += len(key) + len(value);
        Ok(())
    }

    /// A record that the client does not take: its transaction has failed, or its producer.
    fn refusal(&self, topic: &str, error: &KafkaError) -> TransactionError {
        let fatal = self.producers.current().client().fatal_error();
        let (code, text) = fatal.clone().unwrap_or_else(|| {
            (error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail), format!("a record for {topic}: {error}"))
        });
        let fatal = fatal.is_some();
        let error = CallError { code, fatal, retriable: false, requires_abort: !fatal, text };
        if fatal { TransactionError::Fatal(error) } else { TransactionError::Abort(error) }
    }

    fn reject_headers(&self, output: &Output, reject: &Reject) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(8);
        headers = with(headers, "dce-reason", reject.reason.as_str().as_bytes());
        headers = with(headers, "dce-detail", reject.detail.as_bytes());
        headers = with(headers, "dce-stage", reject.stage.as_bytes());
        headers = with(headers, "dce-source-topic", self.settings.input.as_bytes());
        headers = with(headers, "dce-source-partition", output.cause.partition.to_string().as_bytes());
        headers = with(headers, "dce-source-offset", output.cause.offset.to_string().as_bytes());
        if let Some(timestamp) = reject.timestamp_ms {
            headers = with(headers, "dce-source-timestamp", timestamp.to_string().as_bytes());
        }
        match output.traceparent.as_deref() {
            Some(traceparent) => with(headers, "traceparent", traceparent),
            None => headers,
        }
    }

    fn offsets(&self, epoch: &Epoch) -> Result<TopicPartitionList, TransactionError> {
        let mut list = TopicPartitionList::with_capacity(epoch.result.resume.len());
        for (partition, resume) in &epoch.result.resume {
            let mut element = list.add_partition(&self.settings.input, *partition);
            element
                .set_offset(Offset::Offset(resume.0))
                .map_err(|error| CallError::from(&error).class(Call::SendOffsets))?;
            if let Some(history) = epoch.histories.get(partition) {
                element.set_metadata(history::signed(&history.to_metadata(), &self.settings.transactional_id));
            }
        }
        Ok(list)
    }

    /// Aborts where that is what the error asks for.
    fn outcome_of(&self, error: TransactionError) -> Outcome {
        let mut why = error.to_string();
        if let Some(failure) = self.events().take_last_failure() {
            why = format!("{why}; {failure}");
        }
        match error {
            TransactionError::UnknownOutcome(_) => return Outcome::UnknownOutcome { why },
            // Its deadline has passed: the call is still under way in the client, so nothing else may be called.
            TransactionError::Retry(_) | TransactionError::Fatal(_) => return Outcome::Fatal { why },
            TransactionError::Abort(_) => {}
        }
        if self.settings.delivery == Delivery::AtLeastOnce {
            // Nothing to abort: some of it may be there, and comes again.
            return Outcome::Aborted { why };
        }
        let deadline = Deadline::after(self.settings.transaction_timeout);
        let aborted = repeat(Call::Abort, &deadline, |wait| {
            self.producers.current().abort_transaction(wait).map_err(|error| CallError::from(&error))
        });
        match aborted {
            Ok(()) => Outcome::Aborted { why },
            Err(error) => Outcome::Fatal { why: format!("{why}; then the abort failed: {error}") },
        }
    }

    fn events(&self) -> &ProducerEvents {
        self.producers.current().client().context()
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn is_too_large(error: &CallError) -> bool {
    error.code == RDKafkaErrorCode::MessageSizeTooLarge
}

/// The group has gone on, or is about to: the offsets of an older generation are not taken.
fn is_stale(error: &TransactionError) -> bool {
    let codes = [RDKafkaErrorCode::IllegalGeneration, RDKafkaErrorCode::RebalanceInProgress];
    matches!(error, TransactionError::Abort(error) if codes.contains(&error.code))
}

fn traced(traceparent: Option<&[u8]>) -> Option<OwnedHeaders> {
    traceparent.map(|traceparent| with(OwnedHeaders::new_with_capacity(1), "traceparent", traceparent))
}

fn with(headers: OwnedHeaders, key: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

fn len(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(0, |bytes| bytes.len() as u64)
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
