//! ClickEvents in JSON, as records on the topic and as lines of `dce sessions`. Takes bytes, gives records. What is
//! refused is what `decoded` of the rules' reference refuses, on any bytes.

use std::borrow::Cow;

use super::click::{Input, Pairs, Raw, RawKind, last_wins};
use super::error::DecodeError;
use super::row::{ERASE, Envelope};
use super::scan::{self, Kind, Value};

/// A line of `dce sessions`: a click with its place, or an erasure.
#[derive(Debug, Clone, PartialEq)]
pub struct Line<'a> {
    /// 0 or more.
    pub partition: i32,
    /// The record's timestamp in milliseconds, 0 or more; without it `future` is not checked.
    pub record_time: Option<i64>,
    pub entry: LineEntry<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LineEntry<'a> {
    Input(Input<'a>),
    /// Forgets a customer. Not empty; a customer of more than [`crate::types::NAME_BYTES_MAX`] bytes was never known.
    Erase(Cow<'a, str>),
}

/// Reads one record's value.
pub fn decode(bytes: &[u8]) -> Result<Input<'_>, DecodeError> {
    Members::of(bytes)?.input()
}

/// Reads one line of `dce sessions`.
pub fn decode_line(bytes: &[u8]) -> Result<Line<'_>, DecodeError> {
    let members = Members::of(bytes)?;
    let partition = match members.partition {
        None => 0,
        Some(value) => whole("partition", value, "0 or more, below 2^31")?,
    };
    let record_time = match members.record_time {
        None | Some(Value { kind: Kind::Null, .. }) => None,
        Some(value) => Some(whole("record_time", value, "null or 0 or more milliseconds")?),
    };
    let kind = members.kind.and_then(Value::text);
    let entry = match kind.as_deref() {
        Some(ERASE) => LineEntry::Erase(members.erased()?),
        _ => LineEntry::Input(members.input()?),
    };
    Ok(Line { partition, record_time, entry })
}

/// Reads of one line of a file where its record stood. The click itself is read later, as those of a topic are; of an
/// erasure, which has none, the customer is checked here.
pub fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    const PLACE: &str = "null or 0 or more";
    let members = Members::of(bytes)?;
    let kind = members.kind.and_then(Value::text);
    let is_erasure = kind.as_deref() == Some(ERASE);
    let customer = if is_erasure { Some(members.erased()?) } else { members.customer_id.and_then(Value::text) };
    Ok(Envelope {
        partition: optional_whole("partition", members.partition, PLACE)?,
        offset: optional_whole("offset", members.offset, PLACE)?,
        record_time: optional_whole("record_time", members.record_time, PLACE)?,
        key: if members.key.is_some() { text("key", members.key)? } else { customer },
        is_erasure,
        event_time: optional_whole("event_time", members.event_time, PLACE).unwrap_or(None),
    })
}

/// Nothing but white space: no line at all.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t'..=b'\r'))
}

/// The known members of the object, the last of each name.
#[derive(Default)]
struct Members<'a> {
    event_id: Option<Value<'a>>,
    customer_id: Option<Value<'a>>,
    event_time: Option<Value<'a>>,
    kind: Option<Value<'a>>,
    name: Option<Value<'a>>,
    channel: Option<Value<'a>>,
    session_id: Option<Value<'a>>,
    device_id: Option<Value<'a>>,
    context: Option<Value<'a>>,
    attributes: Option<Value<'a>>,
    partition: Option<Value<'a>>,
    record_time: Option<Value<'a>>,
    offset: Option<Value<'a>>,
    key: Option<Value<'a>>,
}

impl<'a> Members<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|fault| DecodeError::NotUtf8 { at: fault.valid_up_to() })?;
        let mut members = Self::default();
        scan::object(text, |key, value| {
            // A name that is no text is none of ours.
            let Some(key) = key.text() else { return };
            // The length first: it alone tells most of them apart.
            let member = match (key.len(), key.as_ref()) {
                (8, "event_id") => &mut members.event_id,
                (11, "customer_id") => &mut members.customer_id,
                (10, "event_time") => &mut members.event_time,
                (4, "kind") => &mut members.kind,
                (4, "name") => &mut members.name,
                (7, "channel") => &mut members.channel,
                (10, "session_id") => &mut members.session_id,
                (9, "device_id") => &mut members.device_id,
                (7, "context") => &mut members.context,
                (10, "attributes") => &mut members.attributes,
                (9, "partition") => &mut members.partition,
                (11, "record_time") => &mut members.record_time,
                (6, "offset") => &mut members.offset,
                (3, "key") => &mut members.key,
                _ => return,
            };
            *member = Some(value);
        })?;
        Ok(members)
    }

    fn input(&self) -> Result<Input<'a>, DecodeError> {
        let mut raw = self.texts()?;
        let kind = self.kind.ok_or(DecodeError::Missing { field: "kind" })?;
        let parsed = kind.text().and_then(|symbol| RawKind::parse(&symbol));
        raw.kind = Some(parsed.ok_or_else(|| DecodeError::invalid("kind", kind.raw, RawKind::MUST))?);
        if let Some(value) = self.event_time {
            raw.event_time = Some(whole("event_time", value, "0 or more milliseconds")?);
        }
        raw.context = pairs(self.context, number)?;
        raw.attributes = pairs(self.attributes, attribute)?;
        raw.checked()
    }

    /// The customer of an ERASE line, whose strings keep to the rules of a click's, but need no event.
    fn erased(&self) -> Result<Cow<'a, str>, DecodeError> {
        let raw = self.texts()?;
        raw.checked_lengths()?;
        match raw.customer_id {
            None => Err(DecodeError::Missing { field: "customer_id" }),
            Some(customer) if customer.is_empty() => Err(DecodeError::Empty { field: "customer_id" }),
            Some(customer) => Ok(customer),
        }
    }

    fn texts(&self) -> Result<Raw<'a>, DecodeError> {
        Ok(Raw {
            event_id: text("event_id", self.event_id)?,
            customer_id: text("customer_id", self.customer_id)?,
            name: text("name", self.name)?,
            channel: text("channel", self.channel)?,
            session_id: text("session_id", self.session_id)?,
            device_id: text("device_id", self.device_id)?,
            ..Raw::default()
        })
    }
}

#[inline(always)]
fn text<'a>(field: &'static str, value: Option<Value<'a>>) -> Result<Option<Cow<'a, str>>, DecodeError> {
    match value {
        None | Some(Value { kind: Kind::Null, .. }) => Ok(None),
        Some(value) => match value.text() {
            Some(text) => Ok(Some(text)),
            None => Err(no_text(field, value)),
        },
    }
}

#[cold]
fn no_text(field: &'static str, value: Value<'_>) -> DecodeError {
    if value.is_string() {
        DecodeError::LoneSurrogate { field }
    } else {
        DecodeError::invalid(field, value.raw, "null or a string")
    }
}

/// A plain integer literal from 0 up; `-0` is 0, while `1.0` and `1e3` are no integers.
fn whole<T>(field: &'static str, value: Value<'_>, must: &'static str) -> Result<T, DecodeError>
where
    T: std::str::FromStr + PartialOrd + Default,
{
    let parsed = if value.kind == Kind::Number { value.raw.parse().ok() } else { None };
    let whole = parsed.filter(|number| *number >= T::default());
    whole.ok_or_else(|| DecodeError::invalid(field, value.raw, must))
}

fn optional_whole<T>(
    field: &'static str,
    value: Option<Value<'_>>,
    must: &'static str,
) -> Result<Option<T>, DecodeError>
where
    T: std::str::FromStr + PartialOrd + Default,
{
    match value {
        None | Some(Value { kind: Kind::Null, .. }) => Ok(None),
        Some(value) => whole(field, value, must).map(Some),
    }
}

/// The members of `context` or `attributes` that `read` takes; what is no object has none.
fn pairs<'a, T>(value: Option<Value<'a>>, read: impl Fn(Value<'a>) -> Option<T>) -> Result<Pairs<'a, T>, DecodeError> {
    let Some(Value { kind: Kind::Object, raw }) = value else { return Ok(Vec::new()) };
    let mut pairs = Vec::new();
    scan::object(raw, |name, value| {
        if let Some(name) = name.text() {
            pairs.push((name, read(value)));
        }
    })?;
    Ok(last_wins(pairs))
}

fn number(value: Value<'_>) -> Option<f64> {
    let number = if value.kind == Kind::Number { value.raw.parse().ok() } else { None };
    number.filter(|number: &f64| number.is_finite())
}

fn attribute(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value.kind {
        Kind::Text | Kind::Escaped => value.text(),
        Kind::Number | Kind::Bool => Some(Cow::Borrowed(value.raw)),
        Kind::Null | Kind::Object | Kind::Array => None,
    }
}
