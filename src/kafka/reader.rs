//! Reads spans of partitions once, from an offset up to another one, for rebuilding what was in memory. A client of its
//! own, outside of any group. Spans → [`Messages`].

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Deadline;
use super::client::{ClientSettings, Consumer, ConsumerEvents, refusal_text};
use super::raw::{FetchQueue, Messages};
use crate::types::ResumeAt;

/// How long a fetch is waited for before anything else is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A piece of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub partition: i32,
    pub from: ResumeAt,
    /// Not read any more.
    pub until: ResumeAt,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the Kafka client for reading {topic} cannot be made: {why}")]
    Client { topic: String, why: String },
    #[error("{topic}/{partition}: offset {offset} is not there any more: {why}")]
    OffsetLost { topic: String, partition: i32, offset: i64, why: String },
    #[error("{topic}/{partition}: read up to offset {next} of {until}, then nothing for {} s: {why}", waited.as_secs())]
    Stalled { topic: String, partition: i32, next: i64, until: i64, waited: Duration, why: String },
}

/// How far the reading is, in offsets (aborted records and markers have some too).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// Reads the spans side by side, each partition in order, committed records alone.
pub struct SpanReader {
    consumer: Arc<Consumer>,
    queue: FetchQueue,
    topic: String,
    /// The spans not yet done, by partition; `from` is where each goes on.
    open: BTreeMap<i32, Span>,
    /// Where the log of a partition ended, if that was before its span did.
    ends: BTreeMap<i32, i64>,
    total: u64,
    stall_max: Duration,
}

impl SpanReader {
    /// At most one span a partition. `stall_max`: without a step forward for so long it is an error.
    pub fn start(
        settings: &ClientSettings,
        application: &str,
        topic: &str,
        spans: &[Span],
        prefetch_kbytes: u32,
        stall_max: Duration,
    ) -> Result<Self, ReadError> {
        let client_error = |error: KafkaError| ReadError::Client { topic: topic.to_owned(), why: refusal_text(&error) };
        let config = settings.reader(application, prefetch_kbytes);
        let consumer = Consumer::from_config_and_context(&config, ConsumerEvents::default()).map_err(client_error)?;
        let consumer = Arc::new(consumer);
        let queue = FetchQueue::new(Arc::clone(&consumer));
        let topic_c = CString::new(topic).map_err(|error| client_error(error.into()))?;

        let open: BTreeMap<i32, Span> =
            spans.iter().filter(|span| span.from < span.until).map(|span| (span.partition, *span)).collect();
        let mut list = TopicPartitionList::with_capacity(open.len());
        for span in open.values() {
            queue
                .forward(&topic_c, span.partition)
                .map_err(|error| ReadError::Client { topic: topic.to_owned(), why: error.to_string() })?;
            list.add_partition_offset(topic, span.partition, Offset::Offset(span.from.0)).map_err(client_error)?;
        }
        consumer.assign(&list).map_err(client_error)?;
        let total = open.values().map(|span| span.until.0.abs_diff(span.from.0)).sum();
        Ok(Self { consumer, queue, topic: topic.to_owned(), open, ends: BTreeMap::new(), total, stall_max })
    }

    /// The next records, at least one; `None` when all spans are done.
    pub fn next(&mut self, count_max: usize) -> Result<Option<Messages>, ReadError> {
        self.next_unless(count_max, || false)
    }

    /// The same, and `None` too when `gives_up` says so, which is asked often.
    pub fn next_unless(
        &mut self,
        count_max: usize,
        mut gives_up: impl FnMut() -> bool,
    ) -> Result<Option<Messages>, ReadError> {
        let mut stalled = Deadline::after(self.stall_max);
        let mut position = self.position();
        while !self.open.is_empty() && !gives_up() {
            let mut messages = self.queue.messages();
            let errors = self.queue.take(&mut messages, 1, LOOK_EVERY);
            self.end_spans(errors)?;
            if !messages.is_empty() {
                let errors = self.queue.take(&mut messages, count_max.saturating_sub(1), Duration::ZERO);
                self.keep_wanted(&mut messages);
                self.end_spans(errors)?;
                if !messages.is_empty() {
                    return Ok(Some(messages));
                }
                stalled = Deadline::after(self.stall_max);
            }
            let mut refusal = None;
            while let Some(event) = self.consumer.poll(Duration::ZERO) {
                refusal = event.err().or(refusal);
            }
            if stalled.passed() {
                // Aborted records alone move the position too.
                let now_at = self.position();
                if now_at == position {
                    return Err(self.stall(refusal));
                }
                position = now_at;
                stalled = Deadline::after(self.stall_max);
            }
        }
        Ok(None)
    }

    /// Whether more may come of the partition.
    pub fn reads(&self, partition: i32) -> bool {
        self.open.contains_key(&partition)
    }

    pub fn progress(&self) -> Progress {
        let left: u64 = self.open.values().map(|span| span.until.0.abs_diff(span.from.0)).sum();
        Progress { done: self.total - left, total: self.total }
    }

    /// Drops records outside of the spans, and ends the spans whose last record is here.
    fn keep_wanted(&mut self, messages: &mut Messages) {
        let mut ended = Vec::new();
        messages.retain(|message| {
            let Some(span) = self.open.get_mut(&message.partition()) else { return false };
            let wanted = message.offset() < span.until.0;
            span.from = ResumeAt((message.offset() + 1).min(span.until.0));
            if span.from == span.until {
                ended.extend(self.open.remove(&message.partition()));
            }
            wanted
        });
        self.pause(&ended);
    }

    /// The end of a partition ends its span too, where the span does not go further: what is between the last record
    /// and the span's end are markers and aborted records.
    fn end_spans(&mut self, errors: Vec<super::raw::FetchError>) -> Result<(), ReadError> {
        for error in errors {
            let Some(span) = self.open.get(&error.partition).copied() else { continue };
            match error.code {
                RDKafkaErrorCode::PartitionEOF if error.offset >= span.until.0 => {
                    self.open.remove(&error.partition);
                    self.pause(&[span]);
                }
                RDKafkaErrorCode::PartitionEOF => {
                    self.ends.insert(error.partition, error.offset);
                }
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                    return Err(ReadError::OffsetLost {
                        topic: self.topic.clone(),
                        partition: error.partition,
                        offset: span.from.0,
                        why: error.text,
                    });
                }
                _ => {
                    tracing::warn!(partition = error.partition, offset = error.offset, why = error.text, "fetch failed")
                }
            }
        }
        Ok(())
    }

    fn pause(&self, spans: &[Span]) {
        let mut list = TopicPartitionList::with_capacity(spans.len());
        for span in spans {
            list.add_partition(&self.topic, span.partition);
        }
        if let Err(error) = self.consumer.pause(&list) {
            // Reads on; what comes is dropped.
            tracing::debug!(%error, "a partition that is done cannot be paused");
        }
    }

    fn position(&self) -> Vec<(i32, Option<i64>)> {
        let list = self.consumer.position().unwrap_or_default();
        list.elements().iter().map(|element| (element.partition(), element.offset().to_raw())).collect()
    }

    fn stall(&self, refusal: Option<KafkaError>) -> ReadError {
        let span = self.open.values().next().expect("a span is open, or nothing could stall");
        let end = self.ends.get(&span.partition);
        let why = match (end, refusal.map(|error| error.to_string()).or_else(|| self.consumer.context().last_error())) {
            (Some(end), _) => format!(
                "what is committed ends at offset {end}; a transaction may hang there (dce check shows it), or the \
                 partition was cut"
            ),
            (None, Some(why)) => why,
            (None, None) => "nothing came, and no error".to_owned(),
        };
        ReadError::Stalled {
            topic: self.topic.clone(),
            partition: span.partition,
            next: span.from.0,
            until: span.until.0,
            waited: self.stall_max,
            why,
        }
    }
}

impl Drop for SpanReader {
    fn drop(&mut self) {
        self.consumer.context().close();
    }
}

impl std::fmt::Debug for SpanReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanReader").field("topic", &self.topic).field("open", &self.open).finish_non_exhaustive()
    }
}
