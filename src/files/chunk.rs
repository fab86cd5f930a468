//! Records read ahead: their bytes in one buffer, and where each lies in it. Made by one thread, used by another.

use std::collections::HashMap;
use std::ops::Range;

use crate::types::Position;
use crate::wire::row::Envelope;

/// Records in their order.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// How far the input has been read when the chunk was full, in the reader's unit.
    pub done: u64,
}

#[derive(Debug)]
struct Entry {
    position: Position,
    timestamp_ms: Option<i64>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    traceparent: Option<Range<usize>>,
    event_time: Option<i64>,
    fault: Option<Box<str>>,
}

/// A record, borrowed from its chunk or on its way into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub position: Position,
    /// The record's timestamp in milliseconds, where it has one.
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// Null asks for the erasure of the key's customer.
    pub value: Option<&'a [u8]>,
    pub traceparent: Option<&'a [u8]>,
    /// As the record says it, unchecked, where the reader has looked; for showing.
    pub event_time: Option<i64>,
    /// Why these bytes are no record at all: refused as `decode`, whatever they hold.
    pub fault: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// Of a row and the value that it holds.
    pub(super) fn of(position: Position, envelope: &'a Envelope<'_>, value: &'a [u8]) -> Self {
        Self {
            position,
            timestamp_ms: envelope.record_time,
            key: envelope.key.as_deref().map(str::as_bytes),
            value: (!envelope.is_erasure).then_some(value),
            traceparent: None,
            event_time: if envelope.is_erasure { None } else { envelope.event_time },
            fault: None,
        }
    }

    /// Of bytes that are no record.
    pub(super) fn broken(position: Position, value: &'a [u8], why: &'a str) -> Self {
        let value = Some(value);
        Self { position, timestamp_ms: None, key: None, value, traceparent: None, event_time: None, fault: Some(why) }
    }
}

impl Chunk {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Of keys, values and what goes with them.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn push(&mut self, record: &Record<'_>) {
        let mut keep = |part: Option<&[u8]>| {
            part.map(|part| {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(part);
                start..self.bytes.len()
            })
        };
        let (key, value, traceparent) = (keep(record.key), keep(record.value), keep(record.traceparent));
        self.entries.push(Entry {
            position: record.position,
            timestamp_ms: record.timestamp_ms,
            key,
            value,
            traceparent,
            event_time: record.event_time,
            fault: record.fault.map(Box::from),
        });
    }

    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        let part = |range: &Option<Range<usize>>| range.clone().map(|range| &self.bytes[range]);
        self.entries.iter().map(move |entry| Record {
            position: entry.position,
            timestamp_ms: entry.timestamp_ms,
            key: part(&entry.key),
            value: part(&entry.value),
            traceparent: part(&entry.traceparent),
            event_time: entry.event_time,
            fault: entry.fault.as_deref(),
        })
    }
}

/// Numbers a file's records: by their own offsets, which must rise in each partition, or where the file has none by
/// counting from 0 in each partition, as a topic would.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    next: HashMap<i32, i64>,
    /// The records have offsets of their own; unknown before the first.
    is_given: Option<bool>,
}

impl Numbering {
    pub(super) fn place(&mut self, partition: Option<i32>, offset: Option<i64>) -> Result<Position, String> {
        let partition = partition.unwrap_or(0);
        if self.is_given.is_none() && offset.is_some() {
            self.next.clear();
        }
        if *self.is_given.get_or_insert(offset.is_some()) != offset.is_some() {
            return Err(match offset {
                Some(offset) => {
                    format!("has offset {offset}, and records before it have none; give all of them one, or none")
                }
                None => "has no offset, and records before it have one; give all of them one, or none".to_owned(),
            });
        }
        let next = self.next.entry(partition).or_default();
        let offset = offset.unwrap_or(*next);
        if offset < *next {
            return Err(format!(
                "offset {offset} of partition {partition} comes after offset {}; the offsets of a partition must rise, so sort \
                 the file by them and leave out what stands in it twice",
                *next - 1
            ));
        }
        // The largest is no offset that a topic could hold.
        *next = offset.checked_add(1).ok_or_else(|| format!("offset {offset} is too large"))?;
        Ok(Position { partition, offset })
    }

    /// Of what is no record: where it would have stood. Takes a number only where all are counted.
    pub(super) fn place_broken(&mut self) -> Position {
        let next = self.next.entry(0).or_default();
        let offset = *next;
        if self.is_given != Some(true) {
            *next += 1;
        }
        Position { partition: 0, offset }
    }
}
