//! ClickEvents in JSON, as records on the topic and as lines of `dce sessions`. Takes bytes, gives records. What is
//! refused is what `decoded` of the rules' reference refuses, on any bytes.

use std::borrow::Cow;

use super::click::{Input, Pairs, Raw, RawKind, last_wins};
use super::error::DecodeError;
use super::row::{ERASE, Envelope};
use super::scan::{self, Kind, Name, Value};

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
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Input<'_>, DecodeError> {
    let mut members = Members::default();
    members.fill(bytes)?;
    members.input()
}

/// Reads one line of `dce sessions`.
pub fn decode_line(bytes: &[u8]) -> Result<Line<'_>, DecodeError> {
    let members = Members::of(bytes)?;
    let partition = match members.get(Known::Partition) {
        None => 0,
        Some(value) => whole("partition", members.text, value, "0 or more, below 2^31")?,
    };
    let record_time = members.optional_whole("record_time", Known::RecordTime, "null or 0 or more milliseconds")?;
    let kind = members.get(Known::Kind).and_then(|kind| kind.text(members.text));
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
    let said = |member: Known| members.get(member).and_then(|value| value.text(members.text));
    let is_erasure = said(Known::Kind).as_deref() == Some(ERASE);
    let customer = if is_erasure { Some(members.erased()?) } else { said(Known::CustomerId) };
    Ok(Envelope {
        partition: members.optional_whole("partition", Known::Partition, PLACE)?,
        offset: members.optional_whole("offset", Known::Offset, PLACE)?,
        record_time: members.optional_whole("record_time", Known::RecordTime, PLACE)?,
        key: if members.get(Known::Key).is_some() { members.text("key", Known::Key)? } else { customer },
        is_erasure,
        event_time: members.optional_whole("event_time", Known::EventTime, PLACE).unwrap_or(None),
    })
}

/// Nothing but white space: no line at all.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t'..=b'\r'))
}

/// The members that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    EventId,
    CustomerId,
    EventTime,
    Kind,
    Name,
    Channel,
    SessionId,
    DeviceId,
    Context,
    Attributes,
    Partition,
    RecordTime,
    Offset,
    Key,
}

const KNOWN: usize = Known::Key as usize + 1;

impl Known {
    /// By its name in quotes, with which the bytes begin: of the names that a click has, plainly written.
    #[inline(always)]
    fn at(bytes: &[u8]) -> Option<(usize, Self)> {
        // The first eight bytes tell them apart, and the next eight say whether the rest is right.
        const fn eight(bytes: &[u8; 8]) -> u64 {
            u64::from_le_bytes(*bytes)
        }
        const fn first(bytes: usize) -> u64 {
            u64::MAX >> (64 - 8 * bytes)
        }
        const EVENT_ID: u64 = eight(b"\"event_i");
        const EVENT_TIME: u64 = eight(b"\"event_t");
        const CUSTOMER_ID: u64 = eight(b"\"custome");
        const CHANNEL: u64 = eight(b"\"channel");
        const SESSION_ID: u64 = eight(b"\"session");
        const DEVICE_ID: u64 = eight(b"\"device_");
        const CONTEXT: u64 = eight(b"\"context");
        const ATTRIBUTES: u64 = eight(b"\"attribu");
        const KIND: u64 = eight(b"\"kind\"\0\0");
        const NAME: u64 = eight(b"\"name\"\0\0");
        let (head, rest) = bytes.first_chunk::<16>()?.split_at(8);
        let (head, rest) = (u64::from_le_bytes(*head.first_chunk()?), u64::from_le_bytes(*rest.first_chunk()?));
        let (len, tail, known) = match head {
            EVENT_ID => (10, eight(b"d\"\0\0\0\0\0\0"), Self::EventId),
            EVENT_TIME => (12, eight(b"ime\"\0\0\0\0"), Self::EventTime),
            CUSTOMER_ID => (13, eight(b"r_id\"\0\0\0"), Self::CustomerId),
            CHANNEL => (9, eight(b"\"\0\0\0\0\0\0\0"), Self::Channel),
            SESSION_ID => (12, eight(b"_id\"\0\0\0\0"), Self::SessionId),
            DEVICE_ID => (11, eight(b"id\"\0\0\0\0\0"), Self::DeviceId),
            CONTEXT => (9, eight(b"\"\0\0\0\0\0\0\0"), Self::Context),
            ATTRIBUTES => (12, eight(b"tes\"\0\0\0\0"), Self::Attributes),
            _ => match head & first(6) {
                KIND => return Some((6, Self::Kind)),
                NAME => return Some((6, Self::Name)),
                _ => return None,
            },
        };
        (rest & first(len - 8) == tail).then_some((len, known))
    }

    /// Of any way to write it.
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "event_id" => Self::EventId,
            "customer_id" => Self::CustomerId,
            "event_time" => Self::EventTime,
            "kind" => Self::Kind,
            "name" => Self::Name,
            "channel" => Self::Channel,
            "session_id" => Self::SessionId,
            "device_id" => Self::DeviceId,
            "context" => Self::Context,
            "attributes" => Self::Attributes,
            "partition" => Self::Partition,
            "record_time" => Self::RecordTime,
            "offset" => Self::Offset,
            "key" => Self::Key,
            _ => return None,
        })
    }
}

/// The known members of the object, the last of each name.
#[derive(Default)]
struct Members<'a> {
    text: &'a str,
    values: [Option<Value>; KNOWN],
}

impl<'a> Members<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut members = Self::default();
        members.fill(bytes)?;
        Ok(members)
    }

    /// In place: a result with so many values would be copied at each click.
    #[inline(always)]
    fn fill(&mut self, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|fault| DecodeError::NotUtf8 { at: fault.valid_up_to() })?;
        self.text = text;
        scan::object(text, Known::at, |name, value| {
            let known = match name {
                Name::Known(known) => Some(known),
                // A name that is no text is none of ours.
                Name::Other(name) => name.text(text).and_then(|name| Known::parse(&name)),
            };
            if let Some(known) = known {
                self.values[known as usize] = Some(value);
            }
        })
    }

    #[inline(always)]
    fn get(&self, member: Known) -> Option<Value> {
        self.values[member as usize]
    }

    #[inline(always)]
    fn text(&self, field: &'static str, member: Known) -> Result<Option<Cow<'a, str>>, DecodeError> {
        match self.get(member) {
            None | Some(Value { kind: Kind::Null, .. }) => Ok(None),
            Some(value) => match value.text(self.text) {
                Some(text) => Ok(Some(text)),
                None => Err(self.no_text(field, value)),
            },
        }
    }

    #[cold]
    fn no_text(&self, field: &'static str, value: Value) -> DecodeError {
        if value.is_string() {
            DecodeError::LoneSurrogate { field }
        } else {
            DecodeError::invalid(field, value.raw(self.text), "null or a string")
        }
    }

    fn optional_whole<T: Whole>(
        &self,
        field: &'static str,
        member: Known,
        must: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        match self.get(member) {
            None | Some(Value { kind: Kind::Null, .. }) => Ok(None),
            Some(value) => whole(field, self.text, value, must).map(Some),
        }
    }

    #[inline(always)]
    fn input(&self) -> Result<Input<'a>, DecodeError> {
        let mut raw = self.texts()?;
        let Some(kind) = self.get(Known::Kind) else { return Err(DecodeError::Missing { field: "kind" }) };
        let parsed = kind.text(self.text).and_then(|symbol| RawKind::parse(&symbol));
        raw.kind = Some(parsed.ok_or_else(|| DecodeError::invalid("kind", kind.raw(self.text), RawKind::MUST))?);
        if let Some(value) = self.get(Known::EventTime) {
            raw.event_time = Some(whole("event_time", self.text, value, "0 or more milliseconds")?);
        }
        raw.context = self.pairs(Known::Context, number)?;
        raw.attributes = self.pairs(Known::Attributes, attribute)?;
        raw.checked()
    }

    /// The members of `context` or `attributes` that `read` takes; what is no object has none.
    #[inline(always)]
    fn pairs<T>(&self, member: Known, read: impl Fn(&'a str, Value) -> Option<T>) -> Result<Pairs<'a, T>, DecodeError> {
        let Some(value @ Value { kind: Kind::Object, .. }) = self.get(member) else { return Ok(Vec::new()) };
        let text = value.raw(self.text);
        let mut pairs = Vec::new();
        scan::object::<Known>(
            text,
            |_| None,
            |name, value| {
                if let Name::Other(name) = name
                    && let Some(name) = name.text(text)
                {
                    pairs.push((name, read(text, value)));
                }
            },
        )?;
        Ok(last_wins(pairs))
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

    #[inline(always)]
    fn texts(&self) -> Result<Raw<'a>, DecodeError> {
        Ok(Raw {
            event_id: self.text("event_id", Known::EventId)?,
            customer_id: self.text("customer_id", Known::CustomerId)?,
            name: self.text("name", Known::Name)?,
            channel: self.text("channel", Known::Channel)?,
            session_id: self.text("session_id", Known::SessionId)?,
            device_id: self.text("device_id", Known::DeviceId)?,
            ..Raw::default()
        })
    }
}

/// A number without a sign.
trait Whole: std::str::FromStr + PartialOrd + Default + TryFrom<u64> {}

impl<T: std::str::FromStr + PartialOrd + Default + TryFrom<u64>> Whole for T {}

/// A plain integer literal from 0 up; `-0` is 0, while `1.0` and `1e3` are no integers.
#[inline(always)]
fn whole<T: Whole>(field: &'static str, text: &str, value: Value, must: &'static str) -> Result<T, DecodeError> {
    let raw = value.raw(text);
    let parsed = match few_digits(raw.as_bytes()) {
        Some(number) => T::try_from(number).ok(),
        None if value.kind == Kind::Number => raw.parse().ok(),
        None => None,
    };
    let whole = parsed.filter(|number| *number >= T::default());
    whole.ok_or_else(|| DecodeError::invalid(field, raw, must))
}

/// Digits and nothing else, so few that no sum can overflow.
#[inline(always)]
fn few_digits(raw: &[u8]) -> Option<u64> {
    if raw.len() > 18 {
        return None;
    }
    raw.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u64::from(digit))
    })
}

fn number(text: &str, value: Value) -> Option<f64> {
    let number = if value.kind == Kind::Number { value.raw(text).parse().ok() } else { None };
    number.filter(|number: &f64| number.is_finite())
}

fn attribute(text: &str, value: Value) -> Option<Cow<'_, str>> {
    match value.kind {
        Kind::Text | Kind::Escaped => value.text(text),
        Kind::Number | Kind::Bool => Some(Cow::Borrowed(value.raw(text))),
        Kind::Null | Kind::Object | Kind::Array => None,
    }
}
