//! The outputs: `CustomerEmbedding` and `SessionSummary`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{CloseReason, CustomerId, EventTime, ModelId, OpenedBy, Position};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmbeddingKind {
    /// Of a session that is still open; only on the live topic.
    Provisional,
    SessionClosed,
    /// A straggler completed or cut a closed session.
    SessionRevised,
}

impl EmbeddingKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisional => "PROVISIONAL",
            Self::SessionClosed => "SESSION_CLOSED",
            Self::SessionRevised => "SESSION_REVISED",
        }
    }

    /// On the table topic too.
    pub fn is_settled(self) -> bool {
        match self {
            Self::Provisional => false,
            Self::SessionClosed | Self::SessionRevised => true,
        }
    }
}

/// The session that a record is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// The id of the event on whose arrival the session came to be.
    pub session_uid: Arc<str>,
    /// 0 when it closed, one more with each revision; 0 while it is open.
    pub revision: u32,
    pub session_id: Option<Arc<str>>,
    pub device_id: Option<Arc<str>>,
    pub channel: Option<Arc<str>>,
    pub session_start: EventTime,
    pub session_end: EventTime,
    /// Null while it is open. Event time: of the LOGOUT or LOGIN that closed it, its end for a limit, end + gap for a gap.
    pub closed_at: Option<EventTime>,
    pub opened_by: OpenedBy,
    /// Null while it is open.
    pub close_reason: Option<CloseReason>,
    pub event_count: u32,
    /// How many of its events have a value that the model's vocabulary does not know.
    pub unknown_count: u32,
}

/// A customer's embedding after one cause.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomerEmbedding {
    pub customer_id: CustomerId,
    /// Rises by one with every record of the customer, from 1.
    pub sequence: u64,
    pub kind: EmbeddingKind,
    /// Unit length.
    pub embedding: Vec<f32>,
    pub model: ModelId,
    /// 1 − cosine to the customer's last settled embedding of the same model, in [0, 2]; null on the first.
    pub cosine_shift: Option<f64>,
    /// With what weight the session went into the state, in [0, 1]; 1 on a provisional record.
    pub gate: f32,
    /// `as_of` of the last settled record.
    pub previous_as_of: Option<EventTime>,
    pub scores: BTreeMap<Arc<str>, Vec<f32>>,
    /// Nothing was folded before.
    pub cold_start: bool,
    pub cause: Cause,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Event time that the embedding is read for.
    pub as_of: EventTime,
    /// Wall clock in milliseconds; the one field in which two runs differ.
    pub emitted_at: i64,
    pub source: Position,
}

/// A session as it stands after it closed or was revised.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionSummary {
    pub customer_id: CustomerId,
    /// That of the embedding record of the same cause.
    pub sequence: u64,
    /// `s:<session id>`, or `d:<bytes of channel>:<channel>/<device>`.
    pub session_key: Arc<str>,
    pub cause: Cause,
    /// In the session's order: event time, LOGIN first, LOGOUT last, id.
    pub event_ids: Vec<Arc<str>>,
}
