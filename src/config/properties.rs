//! librdkafka's own settings: which of them a user may not touch and why, and which are secrets.

use std::collections::BTreeMap;
use std::fmt;

/// Settings of a client by librdkafka's names. Their values stay out of logs where they are secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(super) fn insert(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(key, value)| (key, if is_secret(key) { "(hidden)" } else { value }));
        f.debug_map().entries(shown).finish()
    }
}

/// Passwords, keys and tokens: never printed or logged.
pub(super) fn is_secret(key: &str) -> bool {
    ["password", "secret", ".pem", "sasl.oauthbearer.config", "sasl.jaas", "token"]
        .iter()
        .any(|part| key.contains(part))
}

const BY_APP: &str = "it is made of app.id and app.instance";
const BY_EPOCH: &str = "offsets are committed in the epoch's transaction alone";
const BY_BOUND: &str = "memory is bounded by the epoch's size, and a full queue would tear an epoch";

/// What `dce` sets itself, and why nobody else may. Sorted by subject.
pub(super) const OWNED: [(&str, &str); 27] = [
    ("bootstrap.servers", "it is kafka.bootstrap"),
    ("metadata.broker.list", "it is kafka.bootstrap"),
    ("group.id", BY_APP),
    ("group.instance.id", BY_APP),
    ("transactional.id", BY_APP),
    ("group.protocol", "static membership needs the classic protocol in this librdkafka"),
    ("group.remote.assignor", "static membership needs the classic protocol in this librdkafka"),
    ("partition.assignment.strategy", "partitions are handed over one by one, by cooperative-sticky"),
    ("enable.auto.commit", BY_EPOCH),
    ("auto.commit.enable", BY_EPOCH),
    ("auto.commit.interval.ms", BY_EPOCH),
    ("enable.auto.offset.store", BY_EPOCH),
    ("offset.store.method", BY_EPOCH),
    ("auto.offset.reset", "lost offsets must stop a worker instead of skipping or repeating records"),
    ("isolation.level", "a worker that reads what is not committed would publish what never happened"),
    ("enable.partition.eof", "only the restore of state asks for it"),
    ("enable.idempotence", "transactions need it"),
    ("acks", "transactions need all of them"),
    ("request.required.acks", "transactions need all of them"),
    ("enable.gapless.guarantee", "it ends the process where an epoch can be repeated"),
    (
        "transaction.timeout.ms",
        "it must stay below the session's time-out, or a zombie's transaction outlives its partitions",
    ),
    ("message.timeout.ms", "it follows from the transaction's time-out"),
    ("delivery.timeout.ms", "it follows from the transaction's time-out"),
    ("delivery.report.only.error", "a commit would wait for reports that nobody reads"),
    ("queue.buffering.max.messages", BY_BOUND),
    ("partitioner", "outputs go to the partition of their input"),
    ("plugin.library.paths", "interceptors would run inside transactions"),
];

/// Why a setting is not the user's to make; `None` if it is.
pub(super) fn owned_because(key: &str) -> Option<&'static str> {
    OWNED.iter().find(|(owned, _)| *owned == key).map(|(_, why)| *why)
}

/// The shortest `session.timeout.ms`: above the transaction's time-out (8 s), with room for one heartbeat.
pub(super) const SESSION_TIMEOUT_MS_MIN: u64 = 10_000;
