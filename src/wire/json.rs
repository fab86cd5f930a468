//! ClickEvents in JSON, as records on the topic and as lines of `dce sessions`. Takes bytes, gives records. What is
//! refused is what `decoded` of the rules' reference refuses, on any bytes.

use std::borrow::Cow;

use super::click::{Input, Pairs, Raw, RawKind, last_wins};
use super::error::DecodeError;
use super::scan::{self, Value};

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
        None | Some(Value::Null) => None,
        Some(value) => Some(whole("record_time", value, "null or 0 or more milliseconds")?),
    };
    let entry = match members.kind {
        Some(Value::Text(kind)) if kind.text().as_deref() == Some("ERASE") => LineEntry::Erase(members.erased()?),
        _ => LineEntry::Input(members.input()?),
    };
    Ok(Line { partition, record_time, entry })
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
}

impl<'a> Members<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|fault| DecodeError::NotUtf8 { at: fault.valid_up_to() })?;
        let mut members = Self::default();
        scan::object(text, |key, value| {
            // A name that is no text is none of ours.
            let Some(key) = key.text() else { return };
            let member = match key.as_ref() {
                "event_id" => &mut members.event_id,
                "customer_id" => &mut members.customer_id,
                "event_time" => &mut members.event_time,
                "kind" => &mut members.kind,
                "name" => &mut members.name,
                "channel" => &mut members.channel,
                "session_id" => &mut members.session_id,
                "device_id" => &mut members.device_id,
                "context" => &mut members.context,
                "attributes" => &mut members.attributes,
                "partition" => &mut members.partition,
                "record_time" => &mut members.record_time,
                _ => return,
            };
            *member = Some(value);
        })?;
        Ok(members)
    }

    fn input(&self) -> Result<Input<'a>, DecodeError> {
        let mut raw = self.texts()?;
        let kind = self.kind.ok_or(DecodeError::Missing { field: "kind" })?;
        let Value::Text(symbol) = kind else {
            return Err(DecodeError::invalid("kind", kind.raw(), RawKind::MUST));
        };
        let parsed = symbol.text().and_then(|symbol| RawKind::parse(&symbol));
        raw.kind = Some(parsed.ok_or_else(|| DecodeError::invalid("kind", kind.raw(), RawKind::MUST))?);
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

#[inline]
fn text<'a>(field: &'static str, value: Option<Value<'a>>) -> Result<Option<Cow<'a, str>>, DecodeError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(quoted)) => quoted.text().map(Some).ok_or(DecodeError::LoneSurrogate { field }),
        Some(value) => Err(DecodeError::invalid(field, value.raw(), "null or a string")),
    }
}

/// A plain integer literal from 0 up; `-0` is 0, while `1.0` and `1e3` are no integers.
fn whole<T>(field: &'static str, value: Value<'_>, must: &'static str) -> Result<T, DecodeError>
where
    T: std::str::FromStr + PartialOrd + Default,
{
    match value {
        Value::Number(literal) => literal.parse().ok().filter(|number| *number >= T::default()),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::Object(_) | Value::Array(_) => None,
    }
    .ok_or_else(|| DecodeError::invalid(field, value.raw(), must))
}

/// The members of `context` or `attributes` that `read` takes; what is no object has none.
fn pairs<'a, T>(value: Option<Value<'a>>, read: impl Fn(Value<'a>) -> Option<T>) -> Result<Pairs<'a, T>, DecodeError> {
    let Some(Value::Object(raw)) = value else { return Ok(Vec::new()) };
    let mut pairs = Vec::new();
    scan::object(raw, |name, value| {
        if let Some(name) = name.text() {
            pairs.push((name, read(value)));
        }
    })?;
    Ok(last_wins(pairs))
}

fn number(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Number(literal) => literal.parse().ok().filter(|number: &f64| number.is_finite()),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::Object(_) | Value::Array(_) => None,
    }
}

fn attribute(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(quoted) => quoted.text(),
        Value::Number(_) | Value::Bool(_) => Some(Cow::Borrowed(value.raw())),
        Value::Null | Value::Object(_) | Value::Array(_) => None,
    }
}
