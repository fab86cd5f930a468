//! Where the records come from: a file, or spans of a topic's partitions, read side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::files::FileError;
use crate::files::chunk::{Chunk, Record};
use crate::files::clicks::{self, Limits, Size};
use crate::kafka::client::ClientSettings;
use crate::kafka::reader::{ReadError, Span, SpanReader};
use crate::kafka::topics::{self, Inspector, TopicError};
use crate::pipeline::source::Trace;
use crate::types::{Position, ResumeAt};
use crate::wire;
use crate::wire::avro::Schemas;
use crate::wire::click::Input as Click;

use super::range::{Found, Range, RangeError};

/// The first byte of a value that is framed by a registry's id.
const ID_MARKER: u8 = 0;
/// Needed by the client and used for nothing: it neither joins nor commits.
const GROUP: &str = "dce-replay";
/// For the broker to answer.
const WAIT: Duration = Duration::from_secs(15);
/// Of records fetched ahead where one is wanted.
const OLDEST_KBYTES: u32 = 64;
/// Records of one call to the client.
const FETCH_RECORDS: usize = 1_000;
/// Of records fetched ahead.
const PREFETCH_KBYTES: u32 = 64 * 1024;
/// Without a record for so long a read is at an end, with the reason.
const STALL_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Range(#[from] RangeError),
}

#[derive(Debug)]
pub enum Input {
    File(clicks::Reader),
    Topic(Box<TopicInput>),
}

impl Input {
    pub fn size(&self) -> Size {
        match self {
            Self::File(reader) => reader.size(),
            Self::Topic(topic) => Size::Records(topic.reader.progress().total),
        }
    }

    pub(super) fn next(&mut self, limits: Limits) -> Result<Option<Chunk>, InputError> {
        match self {
            Self::File(reader) => Ok(reader.next(limits)?),
            Self::Topic(topic) => Ok(topic.next(limits)?),
        }
    }

    /// Offsets within the spans that held no record.
    pub(super) fn offsets_without(&self) -> u64 {
        match self {
            Self::File(_) => 0,
            Self::Topic(topic) => topic.offsets_without,
        }
    }
}

/// What is asked for of a topic, as spans of its partitions, and how many of these it has. Refuses what is not there.
pub fn spans(client: &ClientSettings, topic: &str, range: &Range) -> Result<(usize, Vec<Span>), InputError> {
    let inspector = Inspector::new(client)?;
    let partitions = inspector.describe(topic, WAIT)?.ok_or_else(|| TopicError::Missing {
        bootstrap: client.bootstrap.clone(),
        topics: vec![topic.to_owned()],
        partitions: None,
    })?;
    if let Some(kept) = topics::check_kept(client, topic, WAIT)? {
        tracing::info!(topic, retention = kept.text, "the topic does not keep its records for ever");
    }
    let at = |time: Option<i64>| match time {
        Some(ms) => inspector.offsets_at(topic, partitions, ms, WAIT),
        None => Ok(vec![None; partitions]),
    };
    let (since, until) = match range {
        Range::Times { since, until } => (at(*since)?, at(*until)?),
        Range::Offsets(_) => (at(None)?, at(None)?),
    };
    let mut found = Vec::with_capacity(partitions);
    for (partition, (since, until)) in (0..).zip(since.into_iter().zip(until)) {
        let (low, high) = inspector.watermarks(topic, partition, WAIT)?;
        let oldest_ms = if low > 0 && low < high { oldest_ms(client, topic, partition, low, high)? } else { None };
        found.push(Found { partition, low, high, since, until, oldest_ms });
    }
    let spans = range.spans(topic, &found)?;
    if matches!(range, Range::Times { since: None, .. }) {
        for Found { partition, low, .. } in found.iter().filter(|found| found.low > 0) {
            tracing::warn!(
                topic,
                partition,
                oldest = low,
                "records before the oldest were deleted: the replay begins without their history"
            );
        }
    }
    Ok((partitions, spans))
}

/// The timestamp of a partition's oldest record.
fn oldest_ms(
    client: &ClientSettings,
    topic: &str,
    partition: i32,
    low: i64,
    high: i64,
) -> Result<Option<i64>, ReadError> {
    let span = Span { partition, from: ResumeAt(low), until: ResumeAt(high) };
    let mut reader = SpanReader::start(client, GROUP, topic, &[span], OLDEST_KBYTES, STALL_MAX)?;
    let messages = reader.next(1)?;
    Ok(messages.and_then(|messages| messages.iter().next().and_then(|message| message.timestamp_ms())))
}

/// Spans of a topic.
#[derive(Debug)]
pub struct TopicInput {
    reader: SpanReader,
    next: BTreeMap<i32, ResumeAt>,
    offsets_without: u64,
    /// To look at the times of records, which are decoded once more in the pipeline; knows no ids.
    schemas: Schemas,
}

impl TopicInput {
    pub fn start(client: &ClientSettings, topic: &str, spans: &[Span]) -> Result<Self, ReadError> {
        let reader = SpanReader::start(client, GROUP, topic, spans, PREFETCH_KBYTES, STALL_MAX)?;
        let next = spans.iter().map(|span| (span.partition, span.from)).collect();
        Ok(Self { reader, next, offsets_without: 0, schemas: Schemas::released() })
    }

    fn next(&mut self, limits: Limits) -> Result<Option<Chunk>, ReadError> {
        let mut chunk = Chunk::default();
        while chunk.len() < limits.records_max && chunk.bytes() < limits.bytes_max {
            let wanted = FETCH_RECORDS.min(limits.records_max - chunk.len());
            let Some(messages) = self.reader.next(wanted)? else { break };
            for message in messages.iter() {
                let position = Position { partition: message.partition(), offset: message.offset() };
                if let Some(next) = self.next.get_mut(&position.partition) {
                    self.offsets_without += position.offset.abs_diff(next.0);
                    *next = position.resume_after();
                }
                chunk.push(&Record {
                    position,
                    timestamp_ms: message.timestamp_ms(),
                    key: message.key(),
                    value: message.value(),
                    traceparent: Trace::HeaderOf(message).text(),
                    event_time: message.value().and_then(|value| event_time(value, &self.schemas)),
                    fault: None,
                });
            }
        }
        chunk.done = self.reader.progress().done;
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

/// The same of a record that is framed by a registry's id.
pub(super) fn framed_event_time(record: &Record<'_>, schemas: &Schemas) -> Option<i64> {
    let value = record.value.filter(|value| record.fault.is_none() && value.first() == Some(&ID_MARKER))?;
    event_time(value, schemas)
}

fn event_time(value: &[u8], schemas: &Schemas) -> Option<i64> {
    match wire::decode(value, schemas).ok()? {
        Click::Click(click) => Some(click.event_time.ms()),
        Click::Tick(_) => None,
    }
}
