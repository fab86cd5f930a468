//! The outputs: `CustomerEmbedding` and `SessionSummary`, and how they are written. `outputs.rs` reads them back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Encoding;
use crate::types::{CloseReason, CustomerId, EventTime, ModelId, OpenedBy, Position};

use super::avro::{self, Fingerprint};
use super::error::EncodeError;
use super::write::{self, Fields, Framing, Written};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmbeddingKind {
    /// Of a session that is still open; only on the live topic.
    Provisional,
    SessionClosed,
    /// A straggler completed or cut a closed session.
    SessionRevised,
}

impl EmbeddingKind {
    pub const ALL: [Self; 3] = [Self::Provisional, Self::SessionClosed, Self::SessionRevised];

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

impl CustomerEmbedding {
    /// Appends the record's bytes to `out`; on an error `out` is as it was. For [`Encoding::Confluent`] see
    /// [`Self::encode_by_id`].
    pub fn encode_into(&self, encoding: Encoding, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::record(self, Framing::of(encoding)?, out)
    }

    /// The same, framed by the id that a schema registry gave to the present schema.
    pub fn encode_by_id(&self, id: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::record(self, Framing::ById(id), out)
    }
}

impl SessionSummary {
    /// Appends the record's bytes to `out`; on an error `out` is as it was. For [`Encoding::Confluent`] see
    /// [`Self::encode_by_id`].
    pub fn encode_into(&self, encoding: Encoding, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::record(self, Framing::of(encoding)?, out)
    }

    /// The same, framed by the id that a schema registry gave to the present schema.
    pub fn encode_by_id(&self, id: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::record(self, Framing::ById(id), out)
    }
}

impl Written for CustomerEmbedding {
    const FINGERPRINT: Fingerprint = avro::CUSTOMER_EMBEDDING;

    fn schema() -> Cow<'static, str> {
        Cow::Borrowed(avro::CUSTOMER_EMBEDDING_AVSC)
    }

    fn write(&self, out: &mut impl Fields) -> Result<(), EncodeError> {
        out.text("customer_id", self.customer_id.as_str());
        out.unsigned("sequence", self.sequence)?;
        out.symbol("kind", place(&EmbeddingKind::ALL, self.kind), self.kind.as_str());
        out.floats("embedding", &self.embedding)?;
        out.text("model", self.model.as_str());
        out.optional_double("cosine_shift", self.cosine_shift)?;
        out.float("gate", self.gate)?;
        out.optional_integer("previous_as_of", self.previous_as_of.map(EventTime::ms));
        out.floats_by_name("scores", self.scores.iter().map(|(name, scores)| (name.as_ref(), scores.as_slice())))?;
        out.boolean("cold_start", self.cold_start);
        self.cause.write(out);
        out.texts_by_name("labels", self.labels.iter().map(|(name, label)| (name.as_ref(), label.as_ref())));
        out.integer("as_of", self.as_of.ms());
        out.integer("emitted_at", self.emitted_at);
        out.integer("source_partition", self.source.partition.into());
        out.integer("source_offset", self.source.offset);
        Ok(())
    }
}

impl Written for SessionSummary {
    const FINGERPRINT: Fingerprint = avro::SESSION_SUMMARY;

    fn schema() -> Cow<'static, str> {
        Cow::Borrowed(avro::SESSION_SUMMARY_AVSC)
    }

    fn write(&self, out: &mut impl Fields) -> Result<(), EncodeError> {
        out.text("customer_id", self.customer_id.as_str());
        out.unsigned("sequence", self.sequence)?;
        out.text("session_key", &self.session_key);
        self.cause.write(out);
        out.texts("event_ids", self.event_ids.iter().map(AsRef::as_ref));
        Ok(())
    }
}

impl Cause {
    fn write(&self, out: &mut impl Fields) {
        out.text("session_uid", &self.session_uid);
        out.integer("revision", self.revision.into());
        out.optional_text("session_id", self.session_id.as_deref());
        out.optional_text("device_id", self.device_id.as_deref());
        out.optional_text("channel", self.channel.as_deref());
        out.integer("session_start", self.session_start.ms());
        out.integer("session_end", self.session_end.ms());
        out.optional_integer("closed_at", self.closed_at.map(EventTime::ms));
        out.symbol("opened_by", place(&OpenedBy::ALL, self.opened_by), self.opened_by.as_str());
        let reason = self.close_reason.map(|reason| (place(&CloseReason::ALL, reason), reason.as_str()));
        out.optional_symbol("close_reason", reason);
        out.integer("event_count", self.event_count.into());
        out.integer("unknown_count", self.unknown_count.into());
    }
}

/// The place of a symbol in its schema's list, which begins with UNKNOWN and goes on in the order of `all`.
fn place<T: PartialEq>(all: &[T], symbol: T) -> usize {
    1 + all.iter().position(|other| *other == symbol).expect("ALL holds every symbol")
}
