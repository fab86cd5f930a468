//! What a replay did, in numbers.

use std::collections::BTreeMap;

use crate::config::SessionRules;
use crate::files::chunk::Record;
use crate::files::clicks::Size;
use crate::pipeline::epoch::{Body, Output};
use crate::pipeline::partitions::Partitions;
use crate::types::{CloseReason, RejectReason, Uptime};
use crate::wire::embedding::EmbeddingKind;

use super::Read;
use super::outputs::Written;

/// Counts, bytes and times of one run.
#[derive(Debug, Clone)]
pub struct Summary {
    begun: Uptime,
    pub records: u64,
    pub partitions: usize,
    /// By the reason that closed them; a revision is none of these.
    pub sessions: BTreeMap<&'static str, u64>,
    pub revised: u64,
    pub provisional: u64,
    pub embeddings: u64,
    /// By reason; duplicates apart.
    pub rejects: BTreeMap<&'static str, u64>,
    pub duplicates: u64,
    pub erased: u64,
    pub customers: usize,
    pub open_sessions: usize,
    /// Offsets within what was asked for that held no record.
    pub offsets_without: u64,
    /// Of the input: of a file as it stands on the disk where that is known, else of keys and values.
    pub bytes_in: u64,
    pub bytes_embeddings: u64,
    pub bytes_sessions: u64,
    /// Milliseconds since the epoch, of records that were not too far in the future.
    pub first_event_time: Option<i64>,
    pub last_event_time: Option<i64>,
    pub seconds: f64,
    /// How long the threads worked: reading; sessions, encoding, folding; writing.
    pub read_ms: u64,
    pub phases_ms: [u64; 3],
    pub write_ms: u64,
}

impl Summary {
    pub(super) fn new(begun: Uptime) -> Self {
        let zeros = |names: &[&'static str]| names.iter().map(|name| (*name, 0)).collect();
        Self {
            begun,
            records: 0,
            partitions: 0,
            sessions: zeros(&CloseReason::ALL.map(CloseReason::as_str)),
            revised: 0,
            provisional: 0,
            embeddings: 0,
            rejects: zeros(&RejectReason::ALL.map(RejectReason::as_str)),
            duplicates: 0,
            erased: 0,
            customers: 0,
            open_sessions: 0,
            offsets_without: 0,
            bytes_in: 0,
            bytes_embeddings: 0,
            bytes_sessions: 0,
            first_event_time: None,
            last_event_time: None,
            seconds: 0.0,
            read_ms: 0,
            phases_ms: [0; 3],
            write_ms: 0,
        }
    }

    pub fn sessions_closed(&self) -> u64 {
        self.sessions.values().sum()
    }

    pub fn rejected(&self) -> u64 {
        self.rejects.values().sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn events_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.records as f64 / self.seconds } else { 0.0 }
    }

    pub(super) fn record(&mut self, record: &Record<'_>, rules: &SessionRules) {
        self.records += 1;
        let Some(time) = record.event_time else { return };
        let ahead = record.timestamp_ms.map_or(0, |recorded| i128::from(time) - i128::from(recorded));
        if record.fault.is_none() && time >= 0 && ahead <= i128::from(rules.future_max_ms) {
            self.first_event_time = Some(self.first_event_time.map_or(time, |first| first.min(time)));
            self.last_event_time = self.last_event_time.max(Some(time));
        }
    }

    pub(super) fn outputs(&mut self, outputs: &[Output]) {
        for output in outputs {
            match &output.body {
                Body::Embedding(embedding) => {
                    self.embeddings += 1;
                    match embedding.kind {
                        EmbeddingKind::Provisional => self.provisional += 1,
                        EmbeddingKind::SessionRevised => self.revised += 1,
                        EmbeddingKind::SessionClosed => {
                            let reason = embedding.cause.close_reason.map_or("", CloseReason::as_str);
                            *self.sessions.entry(reason).or_default() += 1;
                        }
                    }
                }
                Body::Session(_) => {}
                Body::Reject(reject) => *self.rejects.entry(reject.reason.as_str()).or_default() += 1,
                Body::Erased(_) => self.erased += 1,
            }
        }
    }

    pub(super) fn read(&mut self, read: &Read, size: Size) {
        self.bytes_in = match size {
            Size::Bytes(_) => read.done,
            Size::Records(_) | Size::Unknown => read.bytes,
        };
        self.offsets_without = read.offsets_without;
        self.read_ms = read.busy_ms;
    }

    pub(super) fn states(&mut self, partitions: &Partitions) {
        self.partitions = partitions.sessions().len();
        let customers = partitions.sessions().values().map(|partition| partition.customers()).sum::<u64>();
        self.customers = usize::try_from(customers).unwrap_or(usize::MAX);
        self.open_sessions = partitions.sessions().values().map(|partition| partition.open_sessions()).sum();
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    pub(super) fn written(&mut self, written: Written, now: Uptime) {
        self.bytes_embeddings = written.embeddings;
        self.bytes_sessions = written.sessions;
        self.seconds = (now.0 - self.begun.0) as f64 / 1000.0;
    }
}
