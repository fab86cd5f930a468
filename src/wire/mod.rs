//! The records on the topics, as structs, and their bytes: JSON and Avro. Takes bytes, gives records, and back; knows
//! nothing of Kafka. The schemas stand in `schemas/`, with golden records beside them. Pure.
//!
//! Reading goes by the first bytes, so that one topic may hold every encoding; writing is by configuration.

pub mod error;
mod scan;
pub mod json;
pub mod avro;
pub mod click;
pub mod embedding;
pub mod outputs;
pub mod packed;
pub mod row;
pub mod drift;
pub mod glance;
pub mod write;

use avro::Schemas;
use click::Input;
use error::DecodeError;

/// Reads a record of the clickstream, in whatever encoding it came.
#[inline]
pub fn decode<'a>(bytes: &'a [u8], schemas: &Schemas) -> Result<Input<'a>, DecodeError> {
    match encoding(bytes, schemas)? {
        Found::Json => json::decode(bytes),
        Found::Avro => schemas.decode_click(bytes),
        Found::AvroById { id, body } => schemas.decode_click_by_id(id, body),
    }
}

enum Found<'a> {
    Json,
    /// Single-object encoding.
    Avro,
    /// Framed by a schema registry's id.
    AvroById {
        id: u32,
        body: &'a [u8],
    },
}

#[inline]
fn encoding<'a>(bytes: &'a [u8], schemas: &Schemas) -> Result<Found<'a>, DecodeError> {
    match bytes {
        [] => Err(DecodeError::NoBytes),
        [0xc3, 0x01, ..] => Ok(Found::Avro),
        [0, rest @ ..] => match rest.split_first_chunk() {
            Some((id, body)) if schemas.expects_ids() => Ok(Found::AvroById { id: u32::from_be_bytes(*id), body }),
            None if schemas.expects_ids() => Err(DecodeError::Truncated { field: "the schema registry's header" }),
            framed => Err(DecodeError::NoRegistry { id: framed.map(|(id, _)| u32::from_be_bytes(*id)) }),
        },
        [first, ..] => match bytes.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            Some(b'{') => Ok(Found::Json),
            _ => Err(DecodeError::UnknownFormat { first: *first }),
        },
    }
}
