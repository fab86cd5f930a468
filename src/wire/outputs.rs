//! The outputs read back, for `tail`, the monitor, `serve` and tests. Takes bytes of either encoding, gives
//! [`CustomerEmbedding`]s and [`SessionSummary`]s.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::types::{CloseReason, CustomerId, EventTime, ModelId, OpenedBy, Position};

use super::avro::Schemas;
use super::embedding::{Cause, CustomerEmbedding, EmbeddingKind, SessionSummary};
use super::error::DecodeError;
use super::{Found, encoding};

impl CustomerEmbedding {
    /// Reads a record's value, in whatever encoding it came.
    pub fn decode(bytes: &[u8], schemas: &Schemas) -> Result<Self, DecodeError> {
        let raw: RawEmbedding = match encoding(bytes, schemas)? {
            Found::Json => from_json(bytes)?,
            Found::Avro => schemas.decode_embedding(bytes)?,
            Found::AvroById { id, body } => schemas.decode_output_by_id(id, body)?,
        };
        raw.checked()
    }
}

impl SessionSummary {
    /// Reads a record's value, in whatever encoding it came.
    pub fn decode(bytes: &[u8], schemas: &Schemas) -> Result<Self, DecodeError> {
        let raw: RawSummary = match encoding(bytes, schemas)? {
            Found::Json => from_json(bytes)?,
            Found::Avro => schemas.decode_summary(bytes)?,
            Found::AvroById { id, body } => schemas.decode_output_by_id(id, body)?,
        };
        raw.checked()
    }
}

fn from_json<R: DeserializeOwned>(bytes: &[u8]) -> Result<R, DecodeError> {
    serde_json::from_slice(bytes).map_err(|fault| DecodeError::NotResolved { why: fault.to_string() })
}

/// As written; what has a default in the schema may be missing.
#[derive(Deserialize)]
struct RawEmbedding {
    customer_id: String,
    sequence: u64,
    kind: String,
    embedding: Vec<f32>,
    model: String,
    #[serde(default)]
    cosine_shift: Option<f64>,
    gate: f32,
    #[serde(default)]
    previous_as_of: Option<i64>,
    #[serde(default)]
    scores: BTreeMap<String, Vec<f32>>,
    cold_start: bool,
    #[serde(flatten)]
    cause: RawCause,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    as_of: i64,
    emitted_at: i64,
    source_partition: i32,
    source_offset: i64,
}

#[derive(Deserialize)]
struct RawSummary {
    customer_id: String,
    sequence: u64,
    session_key: String,
    #[serde(flatten)]
    cause: RawCause,
    event_ids: Vec<String>,
}

#[derive(Deserialize)]
struct RawCause {
    session_uid: String,
    revision: u32,
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    session_start: i64,
    session_end: i64,
    #[serde(default)]
    closed_at: Option<i64>,
    opened_by: String,
    #[serde(default)]
    close_reason: Option<String>,
    event_count: u32,
    unknown_count: u32,
}

impl RawEmbedding {
    fn checked(self) -> Result<CustomerEmbedding, DecodeError> {
        let model = ModelId::parse(&self.model);
        let scores = self.scores.values().flatten();
        let floats = self.embedding.iter().chain([&self.gate]).chain(scores);
        if floats.copied().map(f64::from).chain(self.cosine_shift).any(|number| !number.is_finite()) {
            return Err(DecodeError::NotResolved { why: "a number is not finite".to_owned() });
        }
        Ok(CustomerEmbedding {
            customer_id: customer(&self.customer_id)?,
            sequence: self.sequence,
            kind: symbol("kind", &EmbeddingKind::ALL, EmbeddingKind::as_str, &self.kind)?,
            embedding: self.embedding,
            model: model.ok_or_else(|| DecodeError::invalid("model", &self.model, "name@version"))?,
            cosine_shift: self.cosine_shift,
            gate: self.gate,
            previous_as_of: self.previous_as_of.map(|ms| time("previous_as_of", ms)).transpose()?,
            scores: self.scores.into_iter().map(|(name, scores)| (name.into(), scores)).collect(),
            cold_start: self.cold_start,
            cause: self.cause.checked()?,
            labels: self.labels.into_iter().map(|(name, label)| (name.into(), label.into())).collect(),
            as_of: time("as_of", self.as_of)?,
            emitted_at: self.emitted_at,
            source: Position { partition: self.source_partition, offset: self.source_offset },
        })
    }
}

impl RawSummary {
    fn checked(self) -> Result<SessionSummary, DecodeError> {
        Ok(SessionSummary {
            customer_id: customer(&self.customer_id)?,
            sequence: self.sequence,
            session_key: self.session_key.into(),
            cause: self.cause.checked()?,
            event_ids: self.event_ids.into_iter().map(Arc::from).collect(),
        })
    }
}

impl RawCause {
    fn checked(self) -> Result<Cause, DecodeError> {
        let reason = |text: &String| symbol("close_reason", &CloseReason::ALL, CloseReason::as_str, text);
        Ok(Cause {
            session_uid: self.session_uid.into(),
            revision: self.revision,
            session_id: self.session_id.map(Arc::from),
            device_id: self.device_id.map(Arc::from),
            channel: self.channel.map(Arc::from),
            session_start: time("session_start", self.session_start)?,
            session_end: time("session_end", self.session_end)?,
            closed_at: self.closed_at.map(|ms| time("closed_at", ms)).transpose()?,
            opened_by: symbol("opened_by", &OpenedBy::ALL, OpenedBy::as_str, &self.opened_by)?,
            close_reason: self.close_reason.as_ref().map(reason).transpose()?,
            event_count: self.event_count,
            unknown_count: self.unknown_count,
        })
    }
}

fn customer(text: &str) -> Result<CustomerId, DecodeError> {
    CustomerId::parse(text).ok_or_else(|| DecodeError::invalid("customer_id", text, "1 to 256 bytes"))
}

fn time(field: &'static str, ms: i64) -> Result<EventTime, DecodeError> {
    let parsed = EventTime::parse(ms);
    parsed.ok_or_else(|| DecodeError::invalid(field, &ms.to_string(), "0 or more milliseconds"))
}

/// UNKNOWN, which stands for a later version's symbol, is none of ours either.
fn symbol<T: Copy>(field: &'static str, all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, DecodeError> {
    let found = all.iter().copied().find(|symbol| name(*symbol) == text);
    found.ok_or_else(|| DecodeError::invalid(field, text, "a symbol of this version's schema"))
}
