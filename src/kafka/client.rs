//! Settings of the clients, by what they are for, and what they say on their own: log lines, errors and rebalances.
//! The order in a client: what `dce` tunes, then what the user sets, then what exactly-once stands on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::Deadline;
use crate::config;

/// Of one epoch. Below the shortest session timeout (10 s), so that a member's transaction has ended when its partitions
/// go on to another.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(8);

/// A group's part of the client that ends without an answer has ended by then.
const ENDING_MAX: Duration = Duration::from_secs(3);
const ENDING_LOOK: Duration = Duration::from_millis(5);
/// Closing takes some milliseconds, and seconds where a rebalance is under way.
const CLOSE_MAX: Duration = Duration::from_secs(10);

pub type Consumer = BaseConsumer<ConsumerEvents>;
pub type Producer = ThreadedProducer<ProducerEvents>;

/// Where the brokers are, and what the user adds to each kind of client (security, buffers).
#[derive(Clone, Default)]
pub struct ClientSettings {
    /// host:port, separated by commas.
    pub bootstrap: String,
    /// For clients that neither read nor write.
    pub common: BTreeMap<String, String>,
    /// For consumers; `common` is contained.
    pub consumer: BTreeMap<String, String>,
    /// For producers; `common` is contained.
    pub producer: BTreeMap<String, String>,
}

impl fmt::Debug for ClientSettings {
    /// Names alone: values may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("bootstrap", &self.bootstrap)
            .field("common", &self.common.keys())
            .field("consumer", &self.consumer.keys())
            .field("producer", &self.producer.keys())
            .finish()
    }
}

impl From<&config::Kafka> for ClientSettings {
    fn from(kafka: &config::Kafka) -> Self {
        let map = |properties: &config::Properties| {
            properties.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        Self {
            bootstrap: kafka.bootstrap.clone(),
            common: map(&kafka.common),
            consumer: map(&kafka.consumer),
            producer: map(&kafka.producer),
        }
    }
}

impl ClientSettings {
    /// Without anything added.
    pub fn of(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned(), ..Self::default() }
    }

    /// For metadata, watermarks and topics: reads uncommitted, so that a high watermark is the log's own end.
    pub fn inspector(&self) -> ClientConfig {
        let mut config = self.config(&self.common, &[]);
        config.set("isolation.level", "read_uncommitted");
        config
    }

    /// For a member of the group `application` that commits through a producer.
    pub fn group_member(&self, member: &GroupMember<'_>) -> ClientConfig {
        let mut config = self.config(
            &self.consumer,
            &[
                // Above the transaction's timeout, so that a member's transaction has ended when its partitions go on.
                ("session.timeout.ms", "10000"),
                // That others come or go is heard with its answer, and while a rebalance goes on the partitions that move wait.
                ("heartbeat.interval.ms", "300"),
                // At the default of 1 s a full queue is a hole of 1 s in the stream.
                ("fetch.queue.backoff.ms", "5"),
                // The broker gathers for a moment. At the default of one byte a client and its broker answer each other
                // thousands of times a second, and between them took three quarters of a loaded machine.
                ("fetch.min.bytes", "65536"),
                ("fetch.wait.max.ms", "5"),
                ("queued.max.messages.kbytes", &member.prefetch_kbytes.to_string()),
            ],
        );
        config
            .set("group.id", member.application)
            .set("group.instance.id", format!("{}-{}", member.application, member.slot))
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "cooperative-sticky")
            // Also makes the committed offsets stable ones: those of a predecessor's open transaction are waited for.
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            // A lost offset stops loudly; the first start says explicitly where it begins.
            .set("auto.offset.reset", "error");
        config
    }

    /// For reading partitions by hand from explicit offsets. The group's name is needed by the client and used for
    /// nothing: it neither joins nor commits.
    pub fn reader(&self, application: &str, prefetch_kbytes: u32) -> ClientConfig {
        let mut config = self.config(
            &self.consumer,
            &[
                ("fetch.queue.backoff.ms", "5"),
                ("queued.max.messages.kbytes", &prefetch_kbytes.to_string()),
                // The end of a partition is told by an empty answer, which the broker holds back for so long.
                ("fetch.wait.max.ms", "50"),
            ],
        );
        config.remove("group.instance.id");
        config
            .set("group.id", application)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error");
        config
    }

    /// For transactions under one id.
    pub fn transactional(&self, transaction: &Transactional<'_>) -> ClientConfig {
        let mut config = self.config(
            &self.producer,
            &[
                // Costs nothing at a commit, which flushes with a linger of 0.
                ("linger.ms", "20"),
                ("compression.codec", "lz4"),
                // While the markers of the last transaction are being written, AddOffsets is refused: ask again soon.
                // Back to back, 1 ms commits an epoch of one record in 3.8 ms (p50), 5 ms in 8.6.
                ("retry.backoff.ms", "1"),
                ("retry.backoff.max.ms", "100"),
                ("queue.buffering.max.kbytes", &transaction.buffer_kbytes.to_string()),
                ("partitioner", "murmur2_random"),
            ],
        );
        config
            .set("transactional.id", transaction.id)
            .set("transaction.timeout.ms", transaction.timeout.as_millis().to_string())
            // The epoch bounds the number of messages.
            .set("queue.buffering.max.messages", "0")
            // With reports of successes a commit would wait for each to be handled.
            .set("delivery.report.only.error", "true");
        config
    }

    /// For outputs without transactions: in order and once each while the producer lives, by idempotence.
    pub fn acknowledged(&self, buffer_kbytes: u32) -> ClientConfig {
        let mut config = self.config(
            &self.producer,
            &[
                // As for transactions: each epoch is flushed.
                ("linger.ms", "20"),
                ("compression.codec", "lz4"),
                ("queue.buffering.max.kbytes", &buffer_kbytes.to_string()),
                ("partitioner", "murmur2_random"),
            ],
        );
        config
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "0")
            .set("delivery.report.only.error", "true");
        config
    }

    /// For records outside of transactions: generated clicks, ticks, drift.
    pub fn plain_producer(&self) -> ClientConfig {
        let mut config = self.config(&self.producer, &[("linger.ms", "5"), ("compression.codec", "lz4")]);
        // Java's default partitioner, so that both put a customer into one partition.
        config.set("partitioner", "murmur2_random").set("enable.idempotence", "true");
        config
    }

    fn config(&self, user: &BTreeMap<String, String>, tuned: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        // Disconnects are logged at this level, and the sink must hear of them.
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("client.id", "dce");
        for (key, value) in tuned {
            config.set(*key, *value);
        }
        for (key, value) in user {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }
}

/// Why a client cannot be made, without the values of its settings: a password may be among them.
pub fn refusal_text(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, key, _) => format!("{key}: {why}"),
        other => other.to_string(),
    }
}

/// One member of the application's group. `slot` stays the same over restarts: its owner gets its partitions back
/// without a rebalance, and fences whoever has the same.
#[derive(Debug, Clone, Copy)]
pub struct GroupMember<'a> {
    pub application: &'a str,
    pub slot: &'a str,
    /// Of records fetched ahead, over all partitions.
    pub prefetch_kbytes: u32,
}

#[derive(Debug, Clone, Copy)]
pub struct Transactional<'a> {
    pub id: &'a str,
    /// The broker aborts what is open for longer.
    pub timeout: Duration,
    /// Of records not yet acknowledged.
    pub buffer_kbytes: u32,
}

/// A change of what a member reads, as the group decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebalance {
    Assigned(Vec<i32>),
    Revoked {
        partitions: Vec<i32>,
        /// Another member may own them already: nothing of them may be committed.
        lost: bool,
    },
}

/// What a consumer's client says between records. Rebalances are recorded here and answered by whoever owns the
/// consumer, outside of the callback.
#[derive(Debug, Default)]
pub struct ConsumerEvents {
    rebalances: Mutex<Vec<Rebalance>>,
    closing: AtomicBool,
    /// Closing, without a further answer: it has no partition, or gave one already.
    may_end: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl ConsumerEvents {
    pub fn take_rebalances(&self) -> Vec<Rebalance> {
        std::mem::take(&mut *lock(&self.rebalances))
    }

    /// Whether one waits to be taken.
    pub fn has_rebalances(&self) -> bool {
        !lock(&self.rebalances).is_empty()
    }

    /// Whether one that waits says that partitions were lost.
    pub fn lost_partitions(&self) -> bool {
        lock(&self.rebalances).iter().any(|rebalance| matches!(rebalance, Rebalance::Revoked { lost: true, .. }))
    }

    /// From now on rebalances are answered at once: nobody will.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// After [`Self::close`], when what was handed over before is answered, and before the consumer goes: the client drops
    /// this question, too, once its part for the group has ended.
    pub fn all_answered(consumer: &Consumer) {
        let is_empty = consumer.assignment().is_ok_and(|assigned| assigned.count() == 0);
        consumer.context().may_end.store(is_empty, Ordering::SeqCst);
    }

    /// The last error that the client reported, such as a refused connection.
    pub fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// The same, told once.
    pub fn take_error(&self) -> Option<String> {
        lock(&self.last_error).take()
    }

    /// The last error of a consumer whose events nobody asks for: they are looked through first, one a poll.
    pub fn heard(consumer: &Consumer) -> Option<String> {
        for _ in 0..100 {
            if consumer.poll(Duration::ZERO).is_none() && consumer.context().last_error().is_some() {
                break;
            }
        }
        consumer.context().last_error()
    }
}

/// Drops the member of a group for good. What the client is asked while it closes it may leave unanswered for ever, so after
/// ten seconds it is left to the end of the process: what it did is committed, or will be done again.
pub fn close_member(member: impl Send + 'static) {
    if !drop_within(member, CLOSE_MAX) {
        tracing::warn!(waited = ?CLOSE_MAX, "the Kafka consumer does not close: it is left to the end of the process");
    }
}

/// Whether it was over in time.
fn drop_within(what: impl Send + 'static, wait: Duration) -> bool {
    let (closed, closing) = sync_channel::<()>(1);
    let spawned = std::thread::Builder::new().name("close".to_owned()).spawn(move || {
        drop(what);
        drop(closed);
    });
    spawned.is_err() || closing.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected)
}

impl ClientContext for ConsumerEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "rdkafka", %error, reason, "client error");
        // "All brokers are down" would hide why.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *lock(&self.last_error) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for ConsumerEvents {
    fn rebalance(&self, consumer: &Consumer, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::SeqCst) {
            // One that comes late finds nobody, and the answer would be waited for without end (2.12.1: the group's part of
            // the client drops what it is told when it has ended). With partitions it cannot end before it is answered;
            // without it may be about to.
            let ending = Deadline::after(ENDING_MAX);
            while self.may_end.load(Ordering::SeqCst) && !consumer.closed() && !ending.passed() {
                std::thread::sleep(ENDING_LOOK);
            }
            if consumer.closed() {
                return;
            }
            let answer = if assigned {
                consumer.incremental_assign(&TopicPartitionList::new())
            } else {
                consumer.incremental_unassign(list)
            };
            if let Err(error) = answer {
                tracing::debug!(%error, "rebalance while closing");
            }
            // That may have been the last one, so a further one may find nobody.
            self.may_end.store(true, Ordering::SeqCst);
            return;
        }
        let mut partitions: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        partitions.sort_unstable();
        lock(&self.rebalances).push(if assigned {
            Rebalance::Assigned(partitions)
        } else {
            Rebalance::Revoked { partitions, lost: consumer.assignment_lost() }
        });
    }
}

/// What a producer's client says on its own.
#[derive(Debug, Default)]
pub struct ProducerEvents {
    disconnected: AtomicBool,
    last_failure: Mutex<Option<String>>,
}

impl ProducerEvents {
    /// Whether a connection was lost since the last call of this. A request on it may still be done later.
    pub fn take_disconnected(&self) -> bool {
        self.disconnected.swap(false, Ordering::SeqCst)
    }

    /// Why the last record was not delivered, since the last call of this.
    pub fn take_last_failure(&self) -> Option<String> {
        lock(&self.last_failure).take()
    }
}

impl ClientContext for ProducerEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // librdkafka reports the loss of a connection as an error event only where nothing was in flight.
        if facility == "FAIL" || facility == "REQTMOUT" {
            self.disconnected.store(true, Ordering::SeqCst);
        }
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::OperationTimedOut
            )
        ) {
            self.disconnected.store(true, Ordering::SeqCst);
        }
        tracing::debug!(target: "rdkafka", %error, reason, "client error");
    }
}

impl ProducerContext for ProducerEvents {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: Self::DeliveryOpaque) {
        if let Err((error, message)) = result {
            use rdkafka::Message as _;
            let failure = format!("{}/{}: {error}", message.topic(), message.partition());
            *lock(&self.last_failure) = Some(failure);
        }
    }
}

fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(target: "rdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(target: "rdkafka", facility, "{message}"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(target: "rdkafka", facility, "{message}"),
    }
}

/// A value behind a lock is replaced whole, so one that a panic left behind is good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use rdkafka::config::FromClientConfigAndContext as _;

    use super::*;

    /// The client would wait without end for an answer's arrival. No broker is needed.
    #[test]
    fn what_a_closing_consumer_is_asked_waits_for_its_end_and_stays_unanswered() {
        const LOOKS: u32 = 20;
        let settings = ClientSettings::of("127.0.0.1:1");
        let member = GroupMember { application: "app", slot: "0", prefetch_kbytes: 1 << 10 };
        let config = settings.group_member(&member);
        let consumer = Consumer::from_config_and_context(&config, ConsumerEvents::default()).expect("a client");
        consumer.context().close();
        ConsumerEvents::all_answered(&consumer);
        std::thread::scope(|scope| {
            let ask = || {
                let mut list = TopicPartitionList::new();
                list.add_partition("clicks", 0);
                let kind = RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
                consumer.context().rebalance(&consumer, kind, &mut list);
                assert!(consumer.closed(), "nobody is told anything before");
            };
            let asked = scope.spawn(ask);
            for _ in 0..LOOKS {
                std::thread::sleep(ENDING_LOOK);
                assert!(!asked.is_finished(), "it waits");
            }
            consumer.close_queue().expect("open until now");
            let deadline = Deadline::after(CLOSE_MAX);
            while !consumer.closed() {
                assert!(!deadline.passed(), "it closes");
                drop(consumer.poll(ENDING_LOOK));
            }
            asked.join().expect("nothing was answered");
            scope.spawn(ask).join().expect("not afterwards either");
        });
        assert!(consumer.context().take_rebalances().is_empty());
    }

    #[test]
    fn what_does_not_close_is_left() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Drop for Stuck {
            fn drop(&mut self) {
                _ = self.0.recv();
            }
        }
        let (until, stuck) = sync_channel(0);
        assert!(!drop_within(Stuck(stuck), Duration::from_millis(20)));
        drop(until);
        let (until, ends) = sync_channel(0);
        drop(until);
        assert!(drop_within(Stuck(ends), CLOSE_MAX));
    }
}
