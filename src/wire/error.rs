//! Why bytes are no record, and why a record became no bytes. Both are permanent: the same input gives the same answer.

/// Why a value became no record. The text may quote up to [`FOUND_BYTES_MAX`] bytes of what was found, so it belongs
/// beside the rejected record and not into a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the value is empty")]
    NoBytes,
    #[error("the first byte is {first:#04x}: neither JSON ('{{') nor Avro (c3 01) nor a registry's framing (00)")]
    UnknownFormat { first: u8 },
    #[error("framed by a schema registry (id {}), and none is configured", .id.map_or("missing".to_owned(), |id| id.to_string()))]
    NoRegistry { id: Option<u32> },

    #[error("the schema registry knows no schema by the id {id}")]
    NoSuchId { id: u32 },
    /// The id's schema is nothing that this record can be read by.
    #[error("the schema registry's id {id}: {why}")]
    IdRefused { id: u32, why: String },
    /// Never of the pipeline, which asks before it reads.
    #[error("the schema registry was not asked for the id {id}")]
    IdNotAsked { id: u32 },

    #[error("not UTF-8 at byte {at}")]
    NotUtf8 { at: usize },
    #[error("not JSON at byte {at}: {expected} expected")]
    NotJson { at: usize, expected: &'static str },
    #[error("nested deeper than {limit} at byte {at}")]
    TooDeep { at: usize, limit: usize },
    #[error("an integer of {digits} digits at byte {at}, limit {limit}")]
    IntegerTooLong { at: usize, digits: usize, limit: usize },

    #[error("no schema is known by the fingerprint {fingerprint}")]
    UnknownSchema { fingerprint: super::avro::Fingerprint },
    #[error("the bytes end within {field}")]
    Truncated { field: &'static str },
    #[error("{count} bytes after the record's end")]
    TrailingBytes { count: usize },
    #[error("{field} is no valid Avro: {why}")]
    NotAvro { field: &'static str, why: &'static str },
    #[error("the reader of other schemas: {why}")]
    NotResolved { why: String },

    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field} is {found}, must be {must}")]
    Invalid { field: &'static str, found: String, must: &'static str },
    #[error("{field} is empty")]
    Empty { field: &'static str },
    #[error("{field} is {len} bytes, limit {limit}")]
    TooLong { field: &'static str, len: usize, limit: usize },
    #[error("{field} holds a lone surrogate, which is no text")]
    LoneSurrogate { field: &'static str },
}

/// How much of a wrong value an error quotes.
pub const FOUND_BYTES_MAX: usize = 64;

impl DecodeError {
    pub(super) fn invalid(field: &'static str, found: &str, must: &'static str) -> Self {
        let mut end = found.len().min(FOUND_BYTES_MAX);
        while !found.is_char_boundary(end) {
            end -= 1;
        }
        let cut = if end < found.len() { "…" } else { "" };
        Self::Invalid { field, found: format!("{}{cut}", &found[..end]), must }
    }
}

/// Why a record became no bytes: it holds what no record may hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    #[error("{field} holds {found}, which is no finite number")]
    NotFinite { field: &'static str, found: f64 },
    #[error("{field} is {found}, beyond the range of a signed 64-bit number")]
    TooLarge { field: &'static str, found: u64 },
    #[error("the confluent encoding needs a schema registry's id")]
    NoId,
}

/// Why a writer's schema cannot be read as one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("no Avro schema: {why}")]
    NotASchema { why: String },
    #[error("cannot be read as a {record}: {why}")]
    Incompatible { record: &'static str, why: String },
}
