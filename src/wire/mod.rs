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
pub mod row;
pub mod write;

use avro::Schemas;
use click::Input;
use error::DecodeError;

/// Reads a record of the clickstream, in whatever encoding it came.
pub fn decode<'a>(bytes: &'a [u8], schemas: &Schemas) -> Result<Input<'a>, DecodeError> {
    match encoding(bytes)? {
        Found::Json => json::decode(bytes),
        Found::Avro => schemas.decode_click(bytes),
    }
}

enum Found {
    Json,
    Avro,
}

fn encoding(bytes: &[u8]) -> Result<Found, DecodeError> {
    match bytes {
        [] => Err(DecodeError::NoBytes),
        [0xc3, 0x01, ..] => Ok(Found::Avro),
        [0, id @ ..] => Err(DecodeError::NoRegistry { id: id.first_chunk().map(|id| u32::from_be_bytes(*id)) }),
        [first, ..] => match bytes.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            Some(b'{') => Ok(Found::Json),
            _ => Err(DecodeError::UnknownFormat { first: *first }),
        },
    }
}
