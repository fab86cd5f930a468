//! A record to a line: for people in columns, for programs as JSON with its place around it, or raw. Never fails: what
//! cannot be decoded is shown as it is, with why.

use serde_json::{Value, json};

use super::rows;
use crate::cli::moments;
use crate::cli::paint::{self, Colour, paint};
use crate::kafka::follow::Kept;
use crate::registry::Resolver;
use crate::wire;
use crate::wire::click::Input;
use crate::wire::embedding::{CustomerEmbedding, SessionSummary};

/// Which of the settings' topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum What {
    /// The table: settled embeddings.
    Embeddings,
    /// Every embedding, provisional ones too.
    Live,
    /// Closed and revised sessions.
    Sessions,
    /// Clicks that became part of no session, with why.
    Rejected,
    /// The input.
    Clicks,
}

/// How much of a value that cannot be decoded is shown.
const SHOWN_CHARS: usize = 120;

pub(super) struct Lines<'a> {
    what: What,
    topic: &'a str,
    raw: bool,
    json: bool,
    colours: bool,
    resolver: Resolver,
}

/// What a record's value says.
enum Decoded<'a> {
    Embedding(Box<CustomerEmbedding>),
    Session(Box<SessionSummary>),
    Click(Box<Input<'a>>),
    /// A rejected record: it is shown by its headers.
    Rejected,
    /// A null value.
    Erased,
    Undecodable(String),
}

impl<'a> Lines<'a> {
    pub(super) fn new(what: What, topic: &'a str, raw: bool, json: bool, colours: bool, resolver: Resolver) -> Self {
        Self { what, topic, raw, json, colours, resolver }
    }

    /// The columns' names, where there are columns.
    pub(super) fn head(&self) -> Option<String> {
        if self.raw || self.json {
            return None;
        }
        let columns = match self.what {
            What::Embeddings | What::Live => rows::embedding_head(),
            What::Sessions => rows::session_head(),
            What::Rejected => rows::rejected_head(),
            What::Clicks => rows::click_head(),
        };
        let line = format!("{:<24}  {columns}", "TIME");
        Some(paint(self.colours, Colour::Dim, line.trim_end()).into_owned())
    }

    pub(super) fn line(&mut self, kept: &Kept) -> String {
        if self.json {
            return self.json_line(kept).to_string();
        }
        if self.raw {
            return format!("{}\t{}", raw_text(kept.key.as_deref()), raw_text(kept.value.as_deref()));
        }
        let time = kept.timestamp_ms.map_or_else(|| "-".to_owned(), moments::text);
        let key = kept.key.as_deref().map_or_else(|| "-".to_owned(), |key| paint::bytes_line(key, 64));
        let (colour, columns) = match self.decode(kept) {
            Decoded::Embedding(embedding) => {
                let settled = embedding.kind.is_settled();
                ((!settled).then_some(Colour::Dim), rows::embedding(&embedding))
            }
            Decoded::Session(session) => (None, rows::session(&session)),
            Decoded::Click(click) => (None, rows::click(&key, &click, kept.timestamp_ms)),
            Decoded::Rejected => (None, rows::rejected(&key, kept)),
            Decoded::Erased => (Some(Colour::Yellow), format!("{key:<20}  erased")),
            Decoded::Undecodable(why) => {
                let place = format!("{}/{}@{}", self.topic, kept.partition, kept.offset);
                let value = paint::bytes_line(kept.value.as_deref().unwrap_or_default(), SHOWN_CHARS);
                let why = paint::line(&why, SHOWN_CHARS);
                (Some(Colour::Red), format!("{key:<20}  not decodable at {place}: {why}: {value}"))
            }
        };
        let line = format!("{time:<24}  {columns}");
        match colour {
            Some(colour) => paint(self.colours, colour, line.trim_end()).into_owned(),
            None => line.trim_end().to_owned(),
        }
    }

    fn decode<'k>(&mut self, kept: &'k Kept) -> Decoded<'k> {
        if self.what == What::Rejected {
            return Decoded::Rejected;
        }
        let Some(value) = kept.value.as_deref() else { return Decoded::Erased };
        let schemas = self.resolver.glance(value);
        let decoded = match self.what {
            What::Embeddings | What::Live => {
                CustomerEmbedding::decode(value, schemas).map(|record| Decoded::Embedding(Box::new(record)))
            }
            What::Sessions => SessionSummary::decode(value, schemas).map(|record| Decoded::Session(Box::new(record))),
            What::Clicks | What::Rejected => wire::decode(value, schemas).map(|click| Decoded::Click(Box::new(click))),
        };
        decoded.unwrap_or_else(|why| Decoded::Undecodable(why.to_string()))
    }

    fn json_line(&mut self, kept: &Kept) -> Value {
        let mut row = place(self.topic, kept);
        row["value"] = match (self.raw, self.decode(kept)) {
            (true, _) | (false, Decoded::Rejected) => text_or_hex(kept.value.as_deref()),
            (false, Decoded::Embedding(record)) => written(|out| record.encode_into(JSON, out)),
            (false, Decoded::Session(record)) => written(|out| record.encode_into(JSON, out)),
            (false, Decoded::Click(record)) => written(|out| record.encode_into(JSON, out)),
            (false, Decoded::Erased) => Value::Null,
            (false, Decoded::Undecodable(why)) => {
                row["error"] = json!(why);
                text_or_hex(kept.value.as_deref())
            }
        };
        if kept.value.is_none() && self.what != What::Rejected {
            row["erased"] = json!(true);
        }
        row
    }
}

const JSON: crate::config::Encoding = crate::config::Encoding::Json;

/// A decoded record as the JSON that `dce` writes.
fn written(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), wire::error::EncodeError>) -> Value {
    let mut bytes = Vec::new();
    match encode(&mut bytes) {
        Ok(()) => serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        Err(why) => json!({"error": why.to_string()}),
    }
}

/// Topic, partition, offset, timestamp, key and headers of a record.
pub(in crate::cli) fn place(topic: &str, kept: &Kept) -> Value {
    let headers: serde_json::Map<String, Value> =
        kept.headers.iter().map(|(name, value)| (name.clone(), text_or_hex(value.as_deref()))).collect();
    json!({
        "topic": topic, "partition": kept.partition, "offset": kept.offset, "timestamp": kept.timestamp_ms,
        "key": text_or_hex(kept.key.as_deref()), "headers": headers,
    })
}

/// A string where the bytes are UTF-8, else `{"hex": …}`.
pub(in crate::cli) fn text_or_hex(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => json!(text),
        Some((bytes, Err(_))) => json!({"hex": paint::hex(bytes)}),
    }
}

fn raw_text(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => "null".to_owned(),
        Some((_, Ok(text))) => text.to_owned(),
        Some((bytes, Err(_))) => format!("0x{}", paint::hex(bytes)),
    }
}
