//! One row of a file: what its columns hold, checked and put together as a click.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::config::Encoding;
use crate::types::{ClickKind, EventTime};
use crate::wire::click::{ClickEvent, Input, Pairs, last_wins};
use crate::wire::error::DecodeError;
use crate::wire::row::{ERASE, Envelope};

use super::leaf::Value;
use super::plan::MapField;

/// A column of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    EventId,
    CustomerId,
    EventTime,
    Kind,
    Name,
    Channel,
    SessionId,
    DeviceId,
    Partition,
    Offset,
    RecordTime,
    Key,
}

impl Field {
    const ALL: [Self; 12] = [
        Self::EventId,
        Self::CustomerId,
        Self::EventTime,
        Self::Kind,
        Self::Name,
        Self::Channel,
        Self::SessionId,
        Self::DeviceId,
        Self::Partition,
        Self::Offset,
        Self::RecordTime,
        Self::Key,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EventId => "event_id",
            Self::CustomerId => "customer_id",
            Self::EventTime => "event_time",
            Self::Kind => "kind",
            Self::Name => "name",
            Self::Channel => "channel",
            Self::SessionId => "session_id",
            Self::DeviceId => "device_id",
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::RecordTime => "record_time",
            Self::Key => "key",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    pub(super) fn is_text(self) -> bool {
        !matches!(self, Self::EventTime | Self::Partition | Self::Offset | Self::RecordTime)
    }
}

/// What a row holds, unchecked.
#[derive(Debug)]
pub(super) struct Row<'l> {
    fields: [Option<Value<'l>>; Field::ALL.len()],
    context: Map<'l>,
    attributes: Map<'l>,
    has_key: bool,
}

/// A map, in whichever of its three forms.
#[derive(Debug, Default)]
pub(super) struct Map<'l> {
    pub(super) keys: Vec<Option<Value<'l>>>,
    pub(super) values: Vec<Option<Value<'l>>>,
    pub(super) members: Vec<(&'l Arc<str>, Option<Value<'l>>)>,
    pub(super) json: Option<Value<'l>>,
}

impl<'l> Row<'l> {
    pub(super) fn new(has_key: bool) -> Self {
        Self { fields: [None; Field::ALL.len()], context: Map::default(), attributes: Map::default(), has_key }
    }

    pub(super) fn set(&mut self, field: Field, value: Option<Value<'l>>) {
        self.fields[field as usize] = value;
    }

    pub(super) fn map_mut(&mut self, of: MapField) -> &mut Map<'l> {
        match of {
            MapField::Context => &mut self.context,
            MapField::Attributes => &mut self.attributes,
        }
    }

    /// Appends the row's value as a record of the topic has it; nothing for an erasure.
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let Some(input) = self.input()? else { return Ok(()) };
        input.encode_into(Encoding::Avro, out).map_err(|why| DecodeError::NotResolved { why: why.to_string() })
    }

    /// What the row says; `None` for an erasure.
    fn input(&self) -> Result<Option<Input<'l>>, DecodeError> {
        let kind = self.text(Field::Kind)?.ok_or(DecodeError::Missing { field: "kind" })?;
        if kind == ERASE {
            return match self.text(Field::CustomerId)?.or(self.text(Field::Key)?) {
                None => Err(DecodeError::Missing { field: "customer_id" }),
                Some("") => Err(DecodeError::Empty { field: "customer_id" }),
                Some(_) => Ok(None),
            };
        }
        let ms = self.integer(Field::EventTime).ok_or(DecodeError::Missing { field: "event_time" })?;
        let event_time =
            EventTime::parse(ms).ok_or_else(|| invalid("event_time", &ms.to_string(), "0 or more milliseconds"))?;
        if kind == "TICK" {
            return Ok(Some(Input::Tick(event_time)));
        }
        let kind = ClickKind::parse(kind)
            .ok_or_else(|| invalid("kind", kind, "LOGIN, LOGOUT, PAGE_VIEW, ACTION, TICK or ERASE"))?;
        let text = |field| self.text(field).map(|text| text.map(Cow::Borrowed));
        Ok(Some(Input::Click(ClickEvent {
            event_id: text(Field::EventId)?.ok_or(DecodeError::Missing { field: "event_id" })?,
            customer_id: text(Field::CustomerId)?,
            event_time,
            kind,
            name: text(Field::Name)?.unwrap_or_default(),
            channel: text(Field::Channel)?,
            session_id: text(Field::SessionId)?,
            device_id: text(Field::DeviceId)?,
            context: self.context.pairs("context", number)?,
            attributes: self.attributes.pairs("attributes", label)?,
        })))
    }

    /// Where its record stood.
    pub(super) fn envelope(&self) -> Result<Envelope<'l>, DecodeError> {
        let customer = self.text(Field::CustomerId)?;
        let key = if self.has_key { self.text(Field::Key)? } else { customer };
        Ok(Envelope {
            partition: self.placed(Field::Partition)?,
            offset: self.placed(Field::Offset)?,
            record_time: self.placed(Field::RecordTime)?,
            key: key.map(Cow::Borrowed),
            is_erasure: self.text(Field::Kind)? == Some(ERASE),
            event_time: self.integer(Field::EventTime),
        })
    }

    fn text(&self, field: Field) -> Result<Option<&'l str>, DecodeError> {
        match self.fields[field as usize] {
            Some(Value::Bytes(bytes)) => utf8(bytes).map(Some),
            Some(Value::Integer(_) | Value::Double(_) | Value::Boolean(_)) | None => Ok(None),
        }
    }

    fn integer(&self, field: Field) -> Option<i64> {
        match self.fields[field as usize] {
            Some(Value::Integer(number)) => Some(number),
            Some(Value::Bytes(_) | Value::Double(_) | Value::Boolean(_)) | None => None,
        }
    }

    fn placed<T: TryFrom<i64> + PartialOrd + Default>(&self, field: Field) -> Result<Option<T>, DecodeError> {
        let Some(number) = self.integer(field) else { return Ok(None) };
        let placed = T::try_from(number).ok().filter(|placed| *placed >= T::default());
        let must = "0 or more, within its range";
        placed.map(Some).ok_or_else(|| invalid(field.name(), &number.to_string(), must))
    }
}

/// A value, or the raw JSON of one.
enum Item<'l> {
    Value(Value<'l>),
    Json(&'l str),
}

impl<'l> Map<'l> {
    /// Each name once, the last of it; what `read` does not take is not there.
    fn pairs<T>(
        &self,
        field: &'static str,
        read: fn(Item<'l>) -> Result<Option<T>, DecodeError>,
    ) -> Result<Pairs<'l, T>, DecodeError> {
        let mut pairs: Pairs<'l, Option<T>> = Vec::new();
        for (key, value) in self.keys.iter().zip(&self.values) {
            if let (Some(Value::Bytes(key)), Some(value)) = (key, value) {
                pairs.push((Cow::Borrowed(utf8(key)?), read(Item::Value(*value))?));
            }
        }
        for (name, value) in &self.members {
            if let Some(value) = value {
                let name: &'l str = name;
                pairs.push((Cow::Borrowed(name), read(Item::Value(*value))?));
            }
        }
        if let Some(Value::Bytes(bytes)) = self.json {
            let text = utf8(bytes)?;
            let object: Option<std::collections::BTreeMap<Cow<'l, str>, &'l RawValue>> =
                serde_json::from_str(text).map_err(|_| invalid(field, text, "null or a JSON object"))?;
            for (name, value) in object.into_iter().flatten() {
                pairs.push((name, read(Item::Json(value.get()))?));
            }
        }
        Ok(last_wins(pairs))
    }
}

fn number(item: Item<'_>) -> Result<Option<f64>, DecodeError> {
    #[expect(clippy::cast_precision_loss, reason = "what Avro's promotion of a long to a double says")]
    let number = match item {
        Item::Value(Value::Double(number)) => Some(number),
        Item::Value(Value::Integer(number)) => Some(number as f64),
        Item::Value(Value::Bytes(_) | Value::Boolean(_)) => None,
        Item::Json(raw) => raw.parse().ok(),
    };
    Ok(number.filter(|number| number.is_finite()))
}

fn label(item: Item<'_>) -> Result<Option<Cow<'_, str>>, DecodeError> {
    Ok(match item {
        Item::Value(Value::Bytes(bytes)) => Some(Cow::Borrowed(utf8(bytes)?)),
        Item::Value(Value::Integer(number)) => Some(Cow::Owned(number.to_string())),
        // As JSON has them; what is not finite is null there.
        Item::Value(Value::Double(number)) => number.is_finite().then(|| Cow::Owned(format!("{number:?}"))),
        Item::Value(Value::Boolean(flag)) => Some(Cow::Borrowed(if flag { "true" } else { "false" })),
        Item::Json(raw) => match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<Cow<'_, str>>(raw).ok().map(|text| Cow::Owned(text.into_owned())),
            Some(b'{' | b'[' | b'n') | None => None,
            Some(_) => Some(Cow::Borrowed(raw)),
        },
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|fault| DecodeError::NotUtf8 { at: fault.valid_up_to() })
}

fn invalid(field: &'static str, found: &str, must: &'static str) -> DecodeError {
    let found = found.chars().take(crate::wire::error::FOUND_BYTES_MAX / 4).collect();
    DecodeError::Invalid { field, found, must }
}
