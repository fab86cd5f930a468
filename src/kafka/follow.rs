//! Reading by hand: where partitions begin, end and stood at a time, for restores and people's tools; and for the tools what
//! lies between and comes after. Outside of any group, so that nobody is disturbed. Offsets → [`Kept`] records.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{ClientSettings, Consumer, ConsumerEvents, refusal_text};
use super::raw::{FetchQueue, Message};
use super::reader::{ReadError, Span, SpanReader};
use super::{Deadline, LOOK_AGAIN};
use crate::types::ResumeAt;

/// Of records fetched ahead.
const PREFETCH_KBYTES: u32 = 8 * 1024;
/// For the answer of a broker that has been found to be there.
const PENDING_WAIT: Duration = Duration::from_secs(2);
/// Records of one call to the client.
const CHUNK_RECORDS: usize = 1_000;
/// Without a step forward for so long a bounded read is at an end, with the reason.
const STALL_MAX: Duration = Duration::from_secs(30);

/// A record with memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl From<Message<'_>> for Kept {
    fn from(message: Message<'_>) -> Self {
        let headers = message.headers().into_iter();
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp_ms(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.value().map(<[u8]>::to_vec),
            headers: headers.map(|(name, value)| (name, value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

impl Kept {
    /// The last header of that name, as text.
    pub fn header(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        value.as_deref().map(String::from_utf8_lossy)
    }
}

/// The oldest offset of a partition, and where what is committed ends; for [`Lookup::of_undecided`] where the log does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub partition: i32,
    pub low: i64,
    pub end: i64,
}

impl Extent {
    /// Offsets, not records: markers and aborted records have some too.
    pub fn len(self) -> u64 {
        u64::try_from(self.end - self.low).unwrap_or(0)
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// What of it begins at `from`.
    #[must_use]
    pub fn from(self, from: i64) -> Self {
        Self { low: from.clamp(self.low, self.end), ..self }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("the Kafka client cannot be made: {}", refusal_text(.0))]
    Client(KafkaError),
    #[error("{topic}: {doing} failed: {why}")]
    Refused { topic: String, doing: &'static str, why: String },
}

/// What a group has committed in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    pub partition: i32,
    pub offset: i64,
    pub metadata: String,
}

/// Asks for offsets. Neither joins a group nor reads.
pub struct Lookup {
    consumer: Consumer,
}

impl Lookup {
    /// `group` is whose committed offsets can be asked for.
    pub fn new(settings: &ClientSettings, group: &str) -> Result<Self, LookupError> {
        let config = settings.reader(group, PREFETCH_KBYTES);
        let consumer = Consumer::from_config_and_context(&config, ConsumerEvents::default());
        Ok(Self { consumer: consumer.map_err(LookupError::Client)? })
    }

    /// One that sees what no transaction has decided yet: ends are the logs' own, and committed offsets those before the
    /// pending ones, which are not waited for: never to go on from.
    pub fn of_undecided(settings: &ClientSettings, group: &str) -> Result<Self, LookupError> {
        let mut config = settings.reader(group, PREFETCH_KBYTES);
        config.set("isolation.level", "read_uncommitted");
        let consumer = Consumer::from_config_and_context(&config, ConsumerEvents::default());
        Ok(Self { consumer: consumer.map_err(LookupError::Client)? })
    }

    /// Where each of the partitions of each of the topics ends for this lookup; one request a broker.
    pub fn ends(
        &self,
        topics: &[&str],
        partitions: &[i32],
        wait: Duration,
    ) -> Result<BTreeMap<(String, i32), i64>, LookupError> {
        let ends = self.offsets(topics, partitions, Offset::End, wait);
        ends.map_err(|error| self.refused(&topics.join(", "), "asking for the last offsets", &error))
    }

    /// Where each of the partitions has its beginning or end.
    fn offsets(
        &self,
        topics: &[&str],
        partitions: &[i32],
        which: Offset,
        wait: Duration,
    ) -> Result<BTreeMap<(String, i32), i64>, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(topics.len() * partitions.len());
        for topic in topics {
            for partition in partitions {
                list.add_partition_offset(topic, *partition, which)?;
            }
        }
        if list.count() == 0 {
            return Ok(BTreeMap::new());
        }
        // A client that lives long must be asked for its events, or they pile up.
        drop(self.consumer.poll(Duration::ZERO));
        let list = self.consumer.offsets_for_times(list, wait)?;
        self.answered();
        let mut offsets = BTreeMap::new();
        for element in list.elements() {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert((element.topic().to_owned(), element.partition()), offset);
            }
        }
        Ok(offsets)
    }

    /// A broker answers: what the client heard of its connections before is over.
    fn answered(&self) {
        drop(self.consumer.context().take_error());
    }

    /// Where no broker answers, with what the client has heard of its connections.
    fn refused(&self, topic: &str, doing: &'static str, error: &KafkaError) -> LookupError {
        let heard = if is_unanswered(error) { ConsumerEvents::heard(&self.consumer) } else { None };
        let why = heard.map_or_else(|| error.to_string(), |heard| format!("{error}: {heard}"));
        LookupError::Refused { topic: topic.to_owned(), doing, why }
    }

    /// How many the topic has now.
    pub fn partitions(&self, topic: &str, wait: Duration) -> Result<usize, LookupError> {
        const DOING: &str = "asking for its partitions";
        let metadata =
            self.consumer.fetch_metadata(Some(topic), wait).map_err(|error| self.refused(topic, DOING, &error))?;
        self.answered();
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.map(|found| (found.partitions().len(), found.error().map(RDKafkaErrorCode::from))) {
            Some((partitions, None)) if partitions > 0 => Ok(partitions),
            Some((_, Some(code))) => Err(self.refused(topic, DOING, &KafkaError::MetadataFetch(code))),
            Some((_, None)) | None => {
                Err(self.refused(topic, DOING, &KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic)))
            }
        }
    }

    /// Of each of the partitions, in their order; two requests a broker. One that is away, or leads no longer, is waited for.
    pub fn extents(&self, topic: &str, partitions: &[i32], wait: Duration) -> Result<Vec<Extent>, LookupError> {
        let deadline = Deadline::after(wait);
        loop {
            match self.extents_now(topic, partitions, &deadline) {
                Err(error) if may_pass(&error) && deadline.remaining() > LOOK_AGAIN => {
                    std::thread::sleep(LOOK_AGAIN);
                    // A client that lives long may know a leader that is one no more, and asks for another by itself after
                    // minutes.
                    drop(self.consumer.fetch_metadata(Some(topic), deadline.remaining()));
                }
                extents => {
                    return extents
                        .map_err(|error| self.refused(topic, "asking for the first and last offsets", &error));
                }
            }
        }
    }

    fn extents_now(&self, topic: &str, partitions: &[i32], deadline: &Deadline) -> Result<Vec<Extent>, KafkaError> {
        let lows = self.offsets(&[topic], partitions, Offset::Beginning, deadline.remaining())?;
        let ends = self.offsets(&[topic], partitions, Offset::End, deadline.remaining())?;
        let one = |partition: &i32| {
            let place = (topic.to_owned(), *partition);
            let (low, end) = lows.get(&place).zip(ends.get(&place))?;
            Some(Extent { partition: *partition, low: *low, end: *end.max(low) })
        };
        let extents: Option<Vec<Extent>> = partitions.iter().map(one).collect();
        extents.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))
    }

    /// The first offset of each partition whose record is of that time or later; its end where there is none.
    pub fn since(
        &self,
        topic: &str,
        extents: &[Extent],
        time_ms: i64,
        wait: Duration,
    ) -> Result<Vec<Extent>, LookupError> {
        const DOING: &str = "asking for the offsets at a time";
        let mut list = TopicPartitionList::with_capacity(extents.len());
        for extent in extents {
            let added = list.add_partition_offset(topic, extent.partition, Offset::Offset(time_ms.max(0)));
            added.map_err(|error| self.refused(topic, DOING, &error))?;
        }
        let list = self.consumer.offsets_for_times(list, wait).map_err(|error| self.refused(topic, DOING, &error))?;
        self.answered();
        let found: BTreeMap<i32, Offset> =
            list.elements().iter().map(|element| (element.partition(), element.offset())).collect();
        let from = |extent: &Extent| match found.get(&extent.partition) {
            Some(Offset::Offset(offset)) => extent.from(*offset),
            Some(_) | None => extent.from(extent.end),
        };
        Ok(extents.iter().map(from).collect())
    }

    /// What the group has committed; partitions without are left out. Waits for a predecessor's pending transaction.
    pub fn committed(&self, topic: &str, partitions: &[i32], wait: Duration) -> Result<Vec<GroupOffset>, LookupError> {
        const DOING: &str = "asking for the committed offsets";
        // A client that lives long must be asked for its events, or they pile up.
        drop(self.consumer.poll(Duration::ZERO));
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(topic, *partition);
        }
        let list = self.consumer.committed_offsets(list, wait).map_err(|error| self.refused(topic, DOING, &error))?;
        self.answered();
        let mut committed = Vec::new();
        for element in list.elements() {
            element.error().map_err(|error| self.refused(topic, DOING, &error))?;
            if let Offset::Offset(offset) = element.offset() {
                let (partition, metadata) = (element.partition(), element.metadata().to_owned());
                committed.push(GroupOffset { partition, offset, metadata });
            }
        }
        Ok(committed)
    }
}

/// Two that stay: a client of its own takes half a second to find the group's coordinator.
#[derive(Debug)]
pub struct Lookups {
    pub decided: Lookup,
    /// See [`Lookup::of_undecided`].
    pub undecided: Lookup,
}

impl Lookups {
    /// Finds the coordinator in the background.
    pub fn start(settings: &ClientSettings, group: &str, topic: &str) -> Result<Arc<Self>, LookupError> {
        let decided = Lookup::new(settings, group)?;
        let lookups = Arc::new(Self { decided, undecided: Lookup::of_undecided(settings, group)? });
        let (early, topic) = (Arc::clone(&lookups), topic.to_owned());
        let thread = std::thread::Builder::new().name("lookups".to_owned()).spawn(move || {
            // What fails is asked again by who needs it.
            drop(early.undecided.committed(&topic, &[0], PENDING_WAIT));
            drop(early.decided.committed(&topic, &[0], PENDING_WAIT));
        });
        drop(thread);
        Ok(lookups)
    }
}

/// Of which of the partitions the group's offset has been pending for `wait`, in a transaction that nobody decides. An error
/// where the broker does not answer at all.
pub fn pending(
    settings: &ClientSettings,
    group: &str,
    topic: &str,
    partitions: &[i32],
    wait: Duration,
) -> Result<Vec<i32>, LookupError> {
    let decided = Lookup::new(settings, group)?;
    let Err(error) = decided.committed(topic, partitions, wait) else { return Ok(Vec::new()) };
    // One that does not wait for decisions is answered, if anybody is there.
    if Lookup::of_undecided(settings, group)?.committed(topic, partitions, PENDING_WAIT).is_err() {
        return Err(error);
    }
    let is_pending = |partition: &i32| decided.committed(topic, &[*partition], PENDING_WAIT).is_err();
    Ok(partitions.iter().copied().filter(is_pending).collect())
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

/// Whether the same question may be answered a little later.
fn may_pass(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerNotAvailable
                | RDKafkaErrorCode::NetworkException
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::RequestTimedOut
        )
    )
}

fn is_unanswered(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

/// When the record at that offset, decided or not, was stamped, in milliseconds since the epoch; `None` where none came
/// within `wait`, or it has no time.
pub fn stamped_at(
    settings: &ClientSettings,
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
    wait: Duration,
) -> Result<Option<i64>, LookupError> {
    const DOING: &str = "reading a record";
    let lookup = Lookup::of_undecided(settings, group)?;
    let consumer = &lookup.consumer;
    let refused = |error: KafkaError| lookup.refused(topic, DOING, &error);
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).map_err(refused)?;
    consumer.assign(&list).map_err(refused)?;
    let deadline = Deadline::after(wait);
    while !deadline.passed() {
        match consumer.poll(deadline.remaining()) {
            Some(Ok(message)) => return Ok(message.timestamp().to_millis()),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            // The client goes on by itself.
            Some(Err(_)) | None => {}
        }
    }
    Ok(None)
}

/// What a visitor of records wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    Next,
    Enough,
}

/// Shows every committed record of the extents, each partition's in order, until there are no more or the visitor has
/// enough; says whether it has.
pub fn scan<E: From<ReadError>>(
    settings: &ClientSettings,
    group: &str,
    topic: &str,
    extents: &[Extent],
    mut visit: impl FnMut(Message<'_>) -> Result<Visit, E>,
) -> Result<Visit, E> {
    let span =
        |extent: &Extent| Span { partition: extent.partition, from: ResumeAt(extent.low), until: ResumeAt(extent.end) };
    let spans: Vec<Span> = extents.iter().map(span).filter(|span| span.from < span.until).collect();
    if spans.is_empty() {
        return Ok(Visit::Next);
    }
    let mut reader = SpanReader::start(settings, group, topic, &spans, PREFETCH_KBYTES, STALL_MAX)?;
    while let Some(messages) = reader.next(CHUNK_RECORDS)? {
        for message in messages.iter() {
            if visit(message)? == Visit::Enough {
                return Ok(Visit::Enough);
            }
        }
    }
    Ok(Visit::Next)
}

/// The last `count` records of the extents that are wanted, by time. Reads from the end in windows that widen, since
/// markers have offsets too and not every record is wanted.
pub fn last(
    settings: &ClientSettings,
    group: &str,
    topic: &str,
    extents: &[Extent],
    count: usize,
    wanted: impl Fn(Message<'_>) -> bool,
) -> Result<Vec<Kept>, ReadError> {
    let (mut before, mut width) = (0, i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(2).max(64));
    let mut found: BTreeMap<i32, Vec<Kept>> = BTreeMap::new();
    loop {
        // Those that have too few, and more in front of what was read.
        let has_more = |extent: &&Extent| {
            extent.end - extent.low > before && found.get(&extent.partition).is_none_or(|kept| kept.len() < count)
        };
        let windows: Vec<Extent> =
            extents.iter().filter(has_more).map(|extent| extent.from(extent.end.saturating_sub(width))).collect();
        if windows.is_empty() {
            break;
        }
        for window in &windows {
            found.insert(window.partition, Vec::new());
        }
        scan(settings, group, topic, &windows, |message| {
            if wanted(message) {
                let kept = found.entry(message.partition()).or_default();
                kept.push(message.into());
                // Bounded, and seldom moved.
                if kept.len() >= count.saturating_mul(2).max(1_024) {
                    kept.drain(..kept.len() - count);
                }
            }
            Ok::<_, ReadError>(Visit::Next)
        })?;
        before = width;
        width = width.saturating_mul(8);
    }
    let mut all: Vec<Kept> = found.into_values().flatten().collect();
    all.sort_by_key(|kept| (kept.timestamp_ms, kept.partition, kept.offset));
    all.drain(..all.len().saturating_sub(count));
    Ok(all)
}

/// Reads on from where it was put, as records come.
pub struct Follower {
    consumer: Arc<Consumer>,
    queue: FetchQueue,
    topic: String,
    trouble: Option<String>,
    /// The offset after the last one that was read or is known to hold nothing, by partition.
    next: BTreeMap<i32, i64>,
}

impl Follower {
    /// From the beginning of each extent.
    pub fn start(settings: &ClientSettings, group: &str, topic: &str, extents: &[Extent]) -> Result<Self, ReadError> {
        let client_error = |error: KafkaError| ReadError::Client { topic: topic.to_owned(), why: refusal_text(&error) };
        let config = settings.reader(group, PREFETCH_KBYTES);
        let consumer = Consumer::from_config_and_context(&config, ConsumerEvents::default()).map_err(client_error)?;
        let consumer = Arc::new(consumer);
        let queue = FetchQueue::new(Arc::clone(&consumer));
        let topic_c = CString::new(topic).map_err(|error| client_error(error.into()))?;
        let mut list = TopicPartitionList::with_capacity(extents.len());
        for extent in extents {
            queue
                .forward(&topic_c, extent.partition)
                .map_err(|error| ReadError::Client { topic: topic.to_owned(), why: error.to_string() })?;
            list.add_partition_offset(topic, extent.partition, Offset::Offset(extent.low)).map_err(client_error)?;
        }
        consumer.assign(&list).map_err(client_error)?;
        let next = extents.iter().map(|extent| (extent.partition, extent.low)).collect();
        Ok(Self { consumer, queue, topic: topic.to_owned(), trouble: None, next })
    }

    /// Shows what comes within `wait`.
    pub fn next<E: From<ReadError>>(
        &mut self,
        wait: Duration,
        mut visit: impl FnMut(Message<'_>) -> Result<Visit, E>,
    ) -> Result<Visit, E> {
        let mut messages = self.queue.messages();
        // The first as soon as it is there, and the rest of what is there with it.
        let mut errors = self.queue.take(&mut messages, 1, wait);
        if !messages.is_empty() {
            errors.extend(self.queue.take(&mut messages, CHUNK_RECORDS, Duration::ZERO));
        }
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            drop(event);
        }
        for message in messages.iter() {
            self.next.insert(message.partition(), message.offset() + 1);
            if visit(message)? == Visit::Enough {
                return Ok(Visit::Enough);
            }
        }
        for error in errors {
            let (partition, offset, why) = (error.partition, error.offset, error.text);
            match error.code {
                RDKafkaErrorCode::PartitionEOF => {
                    let next = self.next.entry(partition).or_default();
                    *next = offset.max(*next);
                }
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                    return Err(ReadError::OffsetLost { topic: self.topic.clone(), partition, offset, why }.into());
                }
                _ => self.trouble = Some(format!("{}/{partition}: {why}", self.topic)),
            }
        }
        Ok(Visit::Next)
    }

    /// Up to where each partition has been read: what is committed below it has been shown.
    pub fn next_offsets(&self) -> &BTreeMap<i32, i64> {
        &self.next
    }

    /// What went wrong since the last call of this; the client goes on by itself.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take().or_else(|| self.consumer.context().take_error())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.consumer.context().close();
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("topic", &self.topic).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is woken by it must see whether nobody listens, or somebody and is mute.
    #[test]
    fn a_broker_that_does_not_answer_is_told_with_what_the_connection_says() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).expect("a port");
        let lookup = Lookup::new(&ClientSettings::of(&closed.to_string()), "g").expect("a client");
        let wait = Duration::from_millis(300);
        let extents = lookup.extents("t", &[0], wait).expect_err("nobody is there").to_string();
        let committed = lookup.committed("t", &[0], wait).expect_err("nobody is there").to_string();
        let partitions = lookup.partitions("t", wait).expect_err("nobody is there").to_string();
        for told in [extents, committed, partitions] {
            assert!(told.starts_with("t: asking for ") && told.contains("Connection refused"), "{told}");
        }
    }
}
