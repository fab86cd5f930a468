//! Owns the consumer: collects an epoch's records, hands over rebalances. Kafka → [`Record`]s, [`Rebalance`]s.
//!
//! A rebalance waits for its answer: after [`Rebalance::Assigned`] the caller finds where each partition begins and
//! calls [`Source::assign`]; after [`Rebalance::Revoked`] it finishes its epoch (or drops it, if the partitions are
//! lost) and calls [`Source::unassign`]. Nothing is assigned behind the caller's back. Holding back is not collecting:
//! what is fetched ahead is bounded.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::history::History;
use super::pace::CollectLimits;
use crate::kafka::Deadline;
use crate::kafka::client::{ClientSettings, Consumer, ConsumerEvents, GroupMember, Rebalance};
use crate::kafka::raw::{self, FetchError, FetchQueue, GroupMetadata, Messages};
use crate::kafka::reader::{Progress, ReadError, Span, SpanReader};
use crate::types::{Position, ResumeAt};

/// For the answer that wakes the client; a leader that is away wakes nobody.
const WAKING_MAX: Duration = Duration::from_millis(200);
/// How long records are waited for before the client's own events are looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// W3C says 55; a longer one is not passed on.
const TRACEPARENT_BYTES_MAX: usize = 256;
/// Records of one call to the client; between calls the limits are looked at.
const CHUNK_RECORDS: usize = 1_000;

/// One input record, borrowed from the client's buffers.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub position: Position,
    /// The record's timestamp in milliseconds; `None` where the topic has none.
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// Null asks for the erasure of the key's customer.
    pub value: Option<&'a [u8]>,
    pub trace: Trace<'a>,
}

/// A record's W3C `traceparent` header, which goes on with what the record causes. It is looked for when somebody asks: the
/// client parses the headers of a record at the first question, and few records cause anything.
#[derive(Debug, Clone, Copy)]
pub enum Trace<'a> {
    None,
    Text(&'a [u8]),
    HeaderOf(raw::Message<'a>),
}

impl<'a> Trace<'a> {
    /// A plausible one: it is copied to all that the record causes.
    pub fn text(self) -> Option<&'a [u8]> {
        let text = match self {
            Self::None => None,
            Self::Text(text) => Some(text),
            Self::HeaderOf(message) => message.header(c"traceparent"),
        };
        text.filter(|text| text.len() <= TRACEPARENT_BYTES_MAX)
    }
}

/// Records in the client's own memory, each partition's in order. Keeps the consumer alive: drop it before the source.
#[derive(Debug)]
pub struct Batch {
    messages: Messages,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Of keys and values.
    pub fn bytes(&self) -> usize {
        self.messages.bytes()
    }

    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.messages.iter().map(|message| Record {
            position: Position { partition: message.partition(), offset: message.offset() },
            timestamp_ms: message.timestamp_ms(),
            key: message.key(),
            value: message.value(),
            trace: Trace::HeaderOf(message),
        })
    }

    /// Those that are not null, and their places.
    pub fn values(&self) -> impl Iterator<Item = (Position, &[u8])> {
        self.messages.iter().filter_map(|message| {
            Some((Position { partition: message.partition(), offset: message.offset() }, message.value()?))
        })
    }

    /// Partition, key and value of those that have a key, as bare.
    pub fn keyed(&self) -> impl Iterator<Item = (i32, &[u8], Option<&[u8]>)> {
        self.messages.iter().filter_map(|message| Some((message.partition(), message.key()?, message.value())))
    }

    /// Where each partition's records begin: to read them again.
    pub fn begin(&self) -> Vec<(i32, ResumeAt)> {
        let mut begin: BTreeMap<i32, ResumeAt> = BTreeMap::new();
        for message in self.messages.iter() {
            begin.entry(message.partition()).or_insert(ResumeAt(message.offset()));
        }
        begin.into_iter().collect()
    }
}

/// What a collection gives. The records came before the rebalances.
#[derive(Debug)]
pub struct Collected {
    pub batch: Batch,
    pub rebalances: Vec<Rebalance>,
}

/// Where a group goes on in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub resume: ResumeAt,
    /// `None` where others than `dce` committed.
    pub history: Option<History>,
}

#[derive(Debug, Clone)]
pub struct SourceSettings {
    pub client: ClientSettings,
    pub topic: String,
    /// The consumer group.
    pub application: String,
    /// Which member: stays the same over restarts.
    pub slot: String,
    /// Of records fetched ahead, over all partitions.
    pub prefetch_kbytes: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the Kafka consumer of {topic} cannot be made: {why}")]
    Client { topic: String, why: String },
    /// The client is of no more use, as when another process took the same slot.
    #[error("the Kafka consumer failed for good: {why}")]
    Fatal { why: String },
    #[error(
        "{topic}/{partition}: the offset to go on from is not there any more ({why}): records were deleted before they \
         were read; give the topic a longer retention, and begin anew under another app.id with new output topics"
    )]
    OffsetLost { topic: String, partition: i32, why: String },
    #[error("{topic}/{partition}: cannot be read at offset {offset}: {why}")]
    Unreadable { topic: String, partition: i32, offset: i64, why: String },
    #[error("not a member of the group at the moment: nothing can be committed")]
    NotMember,
    #[error("joined the group anew: others may have had the partitions meanwhile")]
    JoinedAnew,
    /// Asking again may help.
    #[error("{doing} failed: {why}")]
    Broker { doing: &'static str, why: String },
    #[error("rebuild: {0}")]
    Rebuild(#[from] ReadError),
}

/// One member of the group.
pub struct Source {
    consumer: Arc<Consumer>,
    queue: FetchQueue,
    topic: String,
    topic_c: CString,
    /// Handed over and not yet answered.
    unanswered: Vec<Rebalance>,
    /// What the group called this member when it was asked last; empty without partitions.
    member: String,
    /// Until when records may wait that have come since the last collection.
    gathering: Deadline,
}

impl Source {
    /// Subscribes; the first rebalance comes with a collection.
    pub fn new(settings: &SourceSettings) -> Result<Self, SourceError> {
        let client_error =
            |error: KafkaError| SourceError::Client { topic: settings.topic.clone(), why: error.to_string() };
        let member = GroupMember {
            application: &settings.application,
            slot: &settings.slot,
            prefetch_kbytes: settings.prefetch_kbytes,
        };
        let config = settings.client.group_member(&member);
        let consumer = Consumer::from_config_and_context(&config, ConsumerEvents::default()).map_err(client_error)?;
        let consumer = Arc::new(consumer);
        let queue = FetchQueue::new(Arc::clone(&consumer));
        let topic_c = CString::new(settings.topic.as_str()).map_err(|error| client_error(error.into()))?;
        let source = Self {
            consumer,
            queue,
            topic: settings.topic.clone(),
            topic_c,
            unanswered: Vec::new(),
            member: String::new(),
            gathering: Deadline::after(Duration::ZERO),
        };
        source.consumer.subscribe(&[&settings.topic]).map_err(client_error)?;
        Ok(source)
    }

    /// Waits for records, and gives them with the rebalances that came meanwhile.
    pub fn collect(&mut self, limits: &CollectLimits) -> Result<Collected, SourceError> {
        let collected = self.collect_until(limits);
        self.gathering = Deadline::after(limits.wait_max);
        collected
    }

    fn collect_until(&mut self, limits: &CollectLimits) -> Result<Collected, SourceError> {
        let mut messages = self.queue.messages();
        let idle = Deadline::after(limits.idle_max);
        // What the caller computed for as long as they may wait has made them wait enough: they are taken as they are.
        self.take(&mut messages, 1, Duration::ZERO)?;
        let mut collecting = (!messages.is_empty()).then_some(self.gathering);
        loop {
            let rebalances = self.serve_events()?;
            if !rebalances.is_empty() {
                return Ok(Collected { batch: Batch { messages }, rebalances });
            }
            let Some(deadline) = collecting else {
                let wait = idle.remaining().min(LOOK_EVERY);
                self.take(&mut messages, 1, wait)?;
                if !messages.is_empty() {
                    collecting = Some(Deadline::after(limits.wait_max));
                } else if idle.passed() {
                    break;
                }
                continue;
            };
            let room = limits.events_max.saturating_sub(messages.len());
            if room == 0 || messages.bytes() >= limits.bytes_max {
                break;
            }
            let wait = limits.left(deadline, messages.len()).min(LOOK_EVERY);
            let chunk = room.min(CHUNK_RECORDS);
            let before = messages.len();
            self.take(&mut messages, chunk, wait)?;
            let is_over = limits.left(deadline, messages.len()).is_zero();
            if is_over && (messages.len() - before < chunk || !wait.is_zero()) {
                break;
            }
        }
        Ok(Collected { batch: Batch { messages }, rebalances: Vec::new() })
    }

    /// Answers [`Rebalance::Assigned`], with all of its partitions.
    pub fn assign(&mut self, partitions: &[(i32, ResumeAt)]) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (partition, ResumeAt(offset)) in partitions {
            self.queue
                .forward(&self.topic_c, *partition)
                .map_err(|error| SourceError::Broker { doing: "assigning", why: error.to_string() })?;
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))
                .map_err(|error| broker("assigning", &error))?;
        }
        self.answered(|rebalance| matches!(rebalance, Rebalance::Assigned(_)));
        self.consumer.incremental_assign(&list).map_err(|error| broker("assigning", &error))
    }

    /// Answers [`Rebalance::Revoked`], with all of its partitions. Records of theirs that were fetched ahead are gone.
    pub fn unassign(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.answered(|rebalance| matches!(rebalance, Rebalance::Revoked { .. }));
        if self.consumer.assignment().is_ok_and(|assigned| assigned.count() == partitions.len()) {
            self.member.clear();
        }
        self.consumer.incremental_unassign(&self.list(partitions)).map_err(|error| broker("unassigning", &error))
    }

    /// Answers [`Rebalance::Assigned`], with all of its partitions: nothing of them is fetched before [`Self::resume`].
    pub fn assign_paused(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            self.queue
                .forward(&self.topic_c, *partition)
                .map_err(|error| SourceError::Broker { doing: "assigning", why: error.to_string() })?;
            // Anywhere: it is sought before it is resumed. But never at a logical offset: its lookup, outdated by the pause,
            // is repeated half a second later, after the seek, and moves the partition there.
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(0))
                .map_err(|error| broker("assigning", &error))?;
        }
        self.answered(|rebalance| matches!(rebalance, Rebalance::Assigned(_)));
        self.consumer.incremental_assign(&list).map_err(|error| broker("assigning", &error))?;
        self.pause(partitions)
    }

    /// Nothing is fetched of the partitions until they are resumed; what was fetched is dropped. They are assigned.
    pub fn pause(&self, partitions: &[i32]) -> Result<(), SourceError> {
        self.consumer.pause(&self.list(partitions)).map_err(|error| broker("pausing", &error))
    }

    /// Goes on with partitions that were paused, there.
    pub fn resume(&mut self, partitions: &[(i32, ResumeAt)], wait: Duration) -> Result<(), SourceError> {
        let deadline = Deadline::after(wait);
        // The client refuses as long as it has not begun with a partition that was assigned a moment ago.
        while let Err(error) = self.seek(partitions, deadline.remaining()) {
            if deadline.passed() {
                return Err(error);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let partitions: Vec<i32> = partitions.iter().map(|(partition, _)| *partition).collect();
        self.consumer.resume(&self.list(&partitions)).map_err(|error| broker("resuming", &error))?;
        self.wake(&partitions);
        Ok(())
    }

    /// The client's thread for a broker from which nothing is fetched sleeps for up to a second, and a partition that is
    /// resumed does not wake it. A question does; the answer is of no interest, nor is there always one.
    fn wake(&self, partitions: &[i32]) {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        let listed =
            partitions.iter().try_for_each(|partition| list.add_partition_offset(&self.topic, *partition, Offset::End));
        if let Err(error) = listed.and_then(|()| self.consumer.offsets_for_times(list, WAKING_MAX).map(drop)) {
            tracing::debug!(%error, ?partitions, "the client was not woken: it begins within a second");
        }
    }

    /// Goes on elsewhere, as after an aborted epoch: back at what was committed. The partitions are assigned.
    pub fn seek(&mut self, partitions: &[(i32, ResumeAt)], wait: Duration) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (partition, ResumeAt(offset)) in partitions {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))
                .map_err(|error| broker("seeking", &error))?;
        }
        let list = self.consumer.seek_partitions(list, wait).map_err(|error| broker("seeking", &error))?;
        each_well(&list, "seeking")
    }

    /// Where the group goes on; `None` where it has committed nothing. Offsets in a predecessor's open transaction are
    /// waited for, so that the answer is final.
    pub fn committed(&self, partitions: &[i32], wait: Duration) -> Result<Vec<(i32, Option<Committed>)>, SourceError> {
        const DOING: &str = "reading the committed offsets";
        let list =
            self.consumer.committed_offsets(self.list(partitions), wait).map_err(|error| broker(DOING, &error))?;
        each_well(&list, DOING)?;
        let committed = list.elements().into_iter().map(|element| {
            let offset = match element.offset() {
                Offset::Offset(offset) => {
                    Some(Committed { resume: ResumeAt(offset), history: History::parse(element.metadata()) })
                }
                Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
            };
            (element.partition(), offset)
        });
        Ok(committed.collect())
    }

    /// Commits positions outside of a transaction: for delivery at least once. Without `wait` the request is only sent.
    pub fn commit(&self, positions: &BTreeMap<i32, (ResumeAt, History)>, wait: bool) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (partition, (ResumeAt(offset), history)) in positions {
            let mut element = list.add_partition(&self.topic, *partition);
            element.set_offset(Offset::Offset(*offset)).map_err(|error| broker("committing", &error))?;
            element.set_metadata(history.to_metadata());
        }
        let mode = if wait { CommitMode::Sync } else { CommitMode::Async };
        self.consumer.commit(&list, mode).map_err(|error| broker("committing", &error))
    }

    /// The oldest offset, and where what is committed ends.
    pub fn watermarks(&self, partition: i32, wait: Duration) -> Result<(i64, i64), SourceError> {
        self.consumer
            .fetch_watermarks(&self.topic, partition, wait)
            .map_err(|error| broker("reading the watermarks", &error))
    }

    /// The partition's end as of the last fetch, for lag; asks nobody.
    pub fn cached_end(&self, partition: i32) -> Option<i64> {
        raw::cached_watermarks(self.consumer.client(), &self.topic_c, partition).map(|(_, high)| high)
    }

    /// Who this member is right now: for the epoch whose records were collected last, before the next collection.
    ///
    /// # Errors
    /// [`SourceError::JoinedAnew`], once, where the group has another name for it than before: the client tells of no loss
    /// where it is forgotten in the midst of a rebalance, and joins again with its partitions.
    pub fn group_metadata(&mut self) -> Result<GroupMetadata, SourceError> {
        let metadata = GroupMetadata::of(&self.consumer).ok_or(SourceError::NotMember)?;
        let member = metadata.member();
        if metadata.generation() < 0 || member.is_empty() {
            return Err(SourceError::NotMember);
        }
        let before = std::mem::replace(&mut self.member, member);
        if before.is_empty() || before == self.member { Ok(metadata) } else { Err(SourceError::JoinedAnew) }
    }

    /// Keeps the membership alive while the caller is busy for long; rebalances wait for the next collection.
    pub fn stay(&mut self) -> Result<(), SourceError> {
        match self.consumer.poll(Duration::ZERO) {
            Some(event) => self.judge_event(event.map(|_| ())),
            None => Ok(()),
        }
    }

    /// Whether the group waits for an answer to a rebalance, given already or by the next collection.
    pub fn rebalance_waits(&self) -> bool {
        !self.unanswered.is_empty() || self.consumer.context().has_rebalances()
    }

    /// Whether partitions were lost, and that has not been answered yet.
    pub fn loss_waits(&self) -> bool {
        let is_lost = |rebalance: &Rebalance| matches!(rebalance, Rebalance::Revoked { lost: true, .. });
        self.unanswered.iter().any(is_lost) || self.consumer.context().lost_partitions()
    }

    /// Rebalances and errors of the client; must be looked at often, or the group takes this member for dead.
    fn serve_events(&mut self) -> Result<Vec<Rebalance>, SourceError> {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            self.judge_event(event.map(|_| ()))?;
        }
        let mut rebalances = self.consumer.context().take_rebalances();
        let mut answer = Ok(());
        rebalances.retain(|rebalance| match rebalance {
            Rebalance::Assigned(partitions) if partitions.is_empty() => {
                answer = self.consumer.incremental_assign(&TopicPartitionList::new());
                false
            }
            Rebalance::Revoked { partitions, .. } if partitions.is_empty() => {
                answer = self.consumer.incremental_unassign(&TopicPartitionList::new());
                false
            }
            Rebalance::Assigned(_) | Rebalance::Revoked { .. } => true,
        });
        answer.map_err(|error| broker("answering a rebalance", &error))?;
        self.unanswered.extend(rebalances.iter().cloned());
        Ok(rebalances)
    }

    /// Records come by the queue alone: one that does not would be missing.
    fn judge_event(&self, event: Result<(), KafkaError>) -> Result<(), SourceError> {
        match event {
            Err(error) => self.judge(&error),
            Ok(()) => Err(SourceError::Fatal {
                why: "a record came past the queue: the topic was made anew while it was read".to_owned(),
            }),
        }
    }

    fn judge(&self, error: &KafkaError) -> Result<(), SourceError> {
        if let Some((_, why)) = self.consumer.client().fatal_error() {
            return Err(SourceError::Fatal { why });
        }
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::InvalidTopic,
            ) => Err(SourceError::Fatal { why: format!("{}: {error}", self.topic) }),
            _ => {
                // librdkafka goes on by itself: brokers come back, members rejoin.
                tracing::warn!(%error, topic = self.topic, "consumer error");
                Ok(())
            }
        }
    }

    fn take(&mut self, messages: &mut Messages, count_max: usize, wait: Duration) -> Result<(), SourceError> {
        for FetchError { partition, offset, code, text } in self.queue.take(messages, count_max, wait) {
            match code {
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                    return Err(SourceError::OffsetLost { topic: self.topic.clone(), partition, why: text });
                }
                // While leaders move or come back.
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::BrokerTransportFailure => {
                    tracing::warn!(partition, offset, why = text, "fetch failed");
                }
                _ => {
                    return Err(SourceError::Unreadable { topic: self.topic.clone(), partition, offset, why: text });
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self, kind: impl Fn(&Rebalance) -> bool) {
        if let Some(index) = self.unanswered.iter().position(kind) {
            self.unanswered.remove(index);
        }
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }
}

impl Drop for Source {
    /// Answers what is left, since closing waits for it. A static member stays in the group until its session ends.
    fn drop(&mut self) {
        self.consumer.context().close();
        self.unanswered.extend(self.consumer.context().take_rebalances());
        for rebalance in std::mem::take(&mut self.unanswered) {
            let answer = match rebalance {
                Rebalance::Assigned(_) => self.consumer.incremental_assign(&TopicPartitionList::new()),
                Rebalance::Revoked { partitions, .. } => self.consumer.incremental_unassign(&self.list(&partitions)),
            };
            if let Err(error) = answer {
                tracing::debug!(%error, "rebalance while closing");
            }
        }
        ConsumerEvents::all_answered(&self.consumer);
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("topic", &self.topic)
            .field("unanswered", &self.unanswered)
            .finish_non_exhaustive()
    }
}

/// Reads spans of a topic, to restore what was in memory; outside of the group.
#[derive(Debug)]
pub struct Rebuild {
    reader: SpanReader,
}

impl Rebuild {
    /// `stall_max`: without a step forward for so long it is an error, which says why.
    pub fn start(
        settings: &SourceSettings,
        topic: &str,
        spans: &[Span],
        stall_max: Duration,
    ) -> Result<Self, SourceError> {
        let reader = SpanReader::start(
            &settings.client,
            &settings.application,
            topic,
            spans,
            settings.prefetch_kbytes,
            stall_max,
        )?;
        Ok(Self { reader })
    }

    /// The next records, at least one; `None` when all spans are done, or `gives_up` says so, which is asked often.
    pub fn next(&mut self, events_max: usize, gives_up: impl FnMut() -> bool) -> Result<Option<Batch>, SourceError> {
        Ok(self.reader.next_unless(events_max, gives_up)?.map(|messages| Batch { messages }))
    }

    /// Whether more may come of the partition.
    pub fn reads(&self, partition: i32) -> bool {
        self.reader.reads(partition)
    }

    pub fn progress(&self) -> Progress {
        self.reader.progress()
    }
}

fn broker(doing: &'static str, error: &KafkaError) -> SourceError {
    SourceError::Broker { doing, why: error.to_string() }
}

fn each_well(list: &TopicPartitionList, doing: &'static str) -> Result<(), SourceError> {
    list.elements().iter().try_for_each(|element| {
        element.error().map_err(|error| SourceError::Broker {
            doing,
            why: format!("{}/{}: {error}", element.topic(), element.partition()),
        })
    })
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
