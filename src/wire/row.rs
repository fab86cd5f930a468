//! A click as a row of a file: beside what the record's value says, where the record stood and what its key was. The
//! schema is `ClickEvent`'s with five additions, so that readers of `ClickEvent`s read such files as they are.

use std::borrow::Cow;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::types::Position;

use super::avro::{self, Fingerprint};
use super::click::Input;
use super::error::EncodeError;
use super::write::{Fields, Written};

/// What a row says of its record's place. What it does not say is left open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Envelope<'a> {
    /// 0 or more.
    pub partition: Option<i32>,
    /// 0 or more.
    pub offset: Option<i64>,
    /// The record's timestamp in milliseconds, 0 or more.
    pub record_time: Option<i64>,
    /// The record's key: the row's own where it has such a field (null too), else its customer.
    pub key: Option<Cow<'a, str>>,
    /// The record's value was null: it asks for the erasure of the key's customer.
    pub is_erasure: bool,
    /// As the row says it, unchecked; for showing.
    pub event_time: Option<i64>,
}

/// The symbol of an erasure among a row's kinds.
pub const ERASE: &str = "ERASE";

/// A row to write.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// `None`: the record's value was null.
    pub input: Option<Input<'a>>,
    pub position: Option<Position>,
    pub record_time: Option<i64>,
    pub key: Option<Cow<'a, str>>,
}

impl Written for Row<'_> {
    /// Of `ClickEvent`: rows are never written alone.
    const FINGERPRINT: Fingerprint = avro::CLICK_EVENT;

    fn schema() -> Cow<'static, str> {
        static SCHEMA: OnceLock<String> = OnceLock::new();
        Cow::Borrowed(SCHEMA.get_or_init(schema))
    }

    fn write(&self, out: &mut impl Fields) -> Result<(), EncodeError> {
        match &self.input {
            Some(input) => input.write(out)?,
            None => {
                out.text("event_id", "");
                out.optional_text("customer_id", self.key.as_deref());
                out.integer("event_time", 0);
                out.symbol("kind", 6, ERASE);
                for name in ["name", "channel", "session_id", "device_id"] {
                    out.optional_text(name, None);
                }
                out.optional_doubles("context", &[])?;
                out.texts_by_name("attributes", std::iter::empty());
            }
        }
        out.optional_integer("partition", self.position.map(|position| position.partition.into()));
        out.optional_integer("offset", self.position.map(|position| position.offset));
        out.optional_integer("record_time", self.record_time);
        out.optional_text("key", self.key.as_deref());
        Ok(())
    }
}

fn schema() -> String {
    let mut schema: Value = serde_json::from_str(avro::CLICK_EVENT_AVSC).expect("the released schema is JSON");
    let fields = schema["fields"].as_array_mut().expect("a record has fields");
    for field in fields.iter_mut().filter(|field| field["name"] == "kind") {
        field["type"]["symbols"].as_array_mut().expect("an enum has symbols").push(json!(ERASE));
    }
    let millis = json!({"type": "long", "logicalType": "timestamp-millis"});
    let added = [
        ("partition", json!("int"), "The record's partition."),
        ("offset", json!("long"), "The record's offset."),
        ("record_time", millis, "The record's timestamp. Milliseconds since 1970-01-01 UTC."),
        ("key", json!("string"), "The record's key."),
    ];
    for (name, kind, doc) in added {
        fields.push(json!({"name": name, "type": ["null", kind], "default": null, "doc": doc}));
    }
    schema.to_string()
}
