//! What the monitor looks at of a `CustomerEmbedding`: read without memory of its own, the vector measured and not kept.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::avro::Schemas;
use super::error::DecodeError;
use super::{Found, encoding};

/// A record's value, as far as it is looked at. Times are milliseconds since 1970-01-01 UTC, unchecked.
#[derive(Debug, Deserialize)]
pub struct Glance<'a> {
    #[serde(borrow)]
    pub customer_id: Text<'a>,
    #[serde(default)]
    pub sequence: u64,
    #[serde(borrow)]
    pub kind: Text<'a>,
    pub embedding: Measured,
    #[serde(borrow)]
    pub model: Text<'a>,
    #[serde(default)]
    pub cosine_shift: Option<f64>,
    pub gate: f32,
    #[serde(default)]
    pub previous_as_of: Option<i64>,
    pub cold_start: bool,
    #[serde(borrow)]
    pub session_uid: Text<'a>,
    #[serde(default, borrow)]
    pub channel: Option<Text<'a>>,
    #[serde(default)]
    pub closed_at: Option<i64>,
    #[serde(default, borrow)]
    pub close_reason: Option<Text<'a>>,
    pub event_count: u32,
    pub unknown_count: u32,
    #[serde(default, borrow)]
    pub labels: Pairs<'a>,
}

impl<'a> Glance<'a> {
    /// Reads a record's value, in whatever encoding it came.
    pub fn decode(bytes: &'a [u8], schemas: &Schemas) -> Result<Self, DecodeError> {
        match encoding(bytes, schemas)? {
            Found::Json => {
                serde_json::from_slice(bytes).map_err(|fault| DecodeError::NotResolved { why: fault.to_string() })
            }
            Found::Avro => schemas.decode_embedding(bytes),
            Found::AvroById { id, body } => schemas.decode_output_by_id(id, body),
        }
    }
}

/// Borrowed where its bytes need no change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visit)
    }
}

/// A map of texts, in the record's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs<'a>(pub Vec<(Text<'a>, Text<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// A vector's size and length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub dimension: usize,
    /// Sum of squares; not finite where a number is not.
    pub squares: f64,
}

impl<'de> Deserialize<'de> for Measured {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Measured;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Measured, A::Error> {
                let (mut dimension, mut squares) = (0, 0.0);
                while let Some(number) = numbers.next_element::<f32>()? {
                    dimension += 1;
                    squares += f64::from(number) * f64::from(number);
                }
                Ok(Measured { dimension, squares })
            }
        }
        deserializer.deserialize_seq(Visit)
    }
}
