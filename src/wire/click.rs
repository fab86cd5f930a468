//! `ClickEvent`, the input. Borrowed from the record's bytes: a string is copied only where JSON escapes force it.
//! The rules that JSON and Avro share stand here, in `Raw::checked`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::config::Encoding;
use crate::types::{ClickKind, EventTime, NAME_BYTES_MAX};

use super::avro::{self, Fingerprint};
use super::error::{DecodeError, EncodeError};
use super::write::{self, Fields, Framing, Written};

/// What a map of the record holds: each name once, in the order of the bytes.
pub type Pairs<'a, T> = Vec<(Cow<'a, str>, T)>;

/// What one record of the clickstream says.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    Click(ClickEvent<'a>),
    /// Moves the partition's stream time, and belongs to no customer.
    Tick(EventTime),
}

/// One click. Strings are at most [`NAME_BYTES_MAX`] bytes, but for the customer, whose own rule (`customer`) is
/// checked after decoding, and for attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct ClickEvent<'a> {
    pub event_id: Cow<'a, str>,
    pub customer_id: Option<Cow<'a, str>>,
    pub event_time: EventTime,
    pub kind: ClickKind,
    /// Page or action; empty where there is none.
    pub name: Cow<'a, str>,
    pub channel: Option<Cow<'a, str>>,
    pub session_id: Option<Cow<'a, str>>,
    pub device_id: Option<Cow<'a, str>>,
    /// The financial snapshot of a LOGIN; finite.
    pub context: Pairs<'a, f64>,
    pub attributes: Pairs<'a, Cow<'a, str>>,
}

impl Input<'_> {
    /// Appends the record's bytes to `out`; on an error `out` is as it was.
    pub fn encode_into(&self, encoding: Encoding, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::record(self, Framing::of(encoding)?, out)
    }

    /// The same, framed by the id that a schema registry gave to the present schema.
    pub fn encode_by_id(&self, id: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::record(self, Framing::ById(id), out)
    }
}

impl Written for Input<'_> {
    const FINGERPRINT: Fingerprint = avro::CLICK_EVENT;

    fn schema() -> Cow<'static, str> {
        Cow::Borrowed(avro::CLICK_EVENT_AVSC)
    }

    fn write(&self, out: &mut impl Fields) -> Result<(), EncodeError> {
        match self {
            Self::Click(click) => click.write(out),
            Self::Tick(event_time) => {
                out.text("event_id", "");
                out.optional_text("customer_id", None);
                out.integer("event_time", event_time.ms());
                out.symbol("kind", 5, "TICK");
                for name in ["name", "channel", "session_id", "device_id"] {
                    out.optional_text(name, None);
                }
                out.optional_doubles("context", &[])?;
                out.texts_by_name("attributes", std::iter::empty());
                Ok(())
            }
        }
    }
}

impl ClickEvent<'_> {
    fn write(&self, out: &mut impl Fields) -> Result<(), EncodeError> {
        out.text("event_id", &self.event_id);
        out.optional_text("customer_id", self.customer_id.as_deref());
        out.integer("event_time", self.event_time.ms());
        let index = match self.kind {
            ClickKind::Login => 1,
            ClickKind::Logout => 2,
            ClickKind::PageView => 3,
            ClickKind::Action => 4,
        };
        out.symbol("kind", index, self.kind.as_str());
        out.optional_text("name", (!self.name.is_empty()).then_some(self.name.as_ref()));
        out.optional_text("channel", self.channel.as_deref());
        out.optional_text("session_id", self.session_id.as_deref());
        out.optional_text("device_id", self.device_id.as_deref());
        out.optional_doubles("context", &self.context)?;
        out.texts_by_name("attributes", self.attributes.iter().map(|(name, text)| (name.as_ref(), text.as_ref())));
        Ok(())
    }
}

/// A kind as it stands in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawKind {
    Click(ClickKind),
    Tick,
}

impl RawKind {
    pub(super) const MUST: &'static str = "LOGIN, LOGOUT, PAGE_VIEW, ACTION or TICK";

    pub(super) fn parse(symbol: &str) -> Option<Self> {
        if symbol == "TICK" { Some(Self::Tick) } else { ClickKind::parse(symbol).map(Self::Click) }
    }
}

/// A record as it was read, with nothing checked but the types.
#[derive(Debug, Clone, Default)]
pub(super) struct Raw<'a> {
    pub(super) event_id: Option<Cow<'a, str>>,
    pub(super) customer_id: Option<Cow<'a, str>>,
    pub(super) event_time: Option<i64>,
    pub(super) kind: Option<RawKind>,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) channel: Option<Cow<'a, str>>,
    pub(super) session_id: Option<Cow<'a, str>>,
    pub(super) device_id: Option<Cow<'a, str>>,
    pub(super) context: Pairs<'a, f64>,
    pub(super) attributes: Pairs<'a, Cow<'a, str>>,
}

impl<'a> Raw<'a> {
    /// The lengths alone: what a line that is no click must keep to as well.
    #[inline(always)]
    pub(super) fn checked_lengths(&self) -> Result<(), DecodeError> {
        let fields = [
            ("event_id", &self.event_id),
            ("name", &self.name),
            ("channel", &self.channel),
            ("session_id", &self.session_id),
            ("device_id", &self.device_id),
        ];
        for (field, text) in fields {
            let len = text.as_ref().map_or(0, |text| text.len());
            if len > NAME_BYTES_MAX {
                return Err(DecodeError::TooLong { field, len, limit: NAME_BYTES_MAX });
            }
        }
        Ok(())
    }

    /// The rules that hold whatever the encoding.
    #[inline(always)]
    pub(super) fn checked(self) -> Result<Input<'a>, DecodeError> {
        self.checked_lengths()?;
        // Not by `ok_or`: the error would be made, and dropped, at each click.
        let Some(kind) = self.kind else { return Err(DecodeError::Missing { field: "kind" }) };
        let Some(ms) = self.event_time else { return Err(DecodeError::Missing { field: "event_time" }) };
        let event_time = EventTime::parse(ms)
            .ok_or_else(|| DecodeError::invalid("event_time", &ms.to_string(), "0 or more milliseconds"))?;
        let kind = match kind {
            RawKind::Tick => return Ok(Input::Tick(event_time)),
            RawKind::Click(kind) => kind,
        };
        let Some(event_id) = self.event_id else { return Err(DecodeError::Missing { field: "event_id" }) };
        if event_id.is_empty() {
            return Err(DecodeError::Empty { field: "event_id" });
        }
        Ok(Input::Click(ClickEvent {
            event_id,
            customer_id: self.customer_id,
            event_time,
            kind,
            name: self.name.unwrap_or_default(),
            channel: self.channel,
            session_id: self.session_id,
            device_id: self.device_id,
            context: self.context,
            attributes: self.attributes,
        }))
    }
}

/// Up to how many pairs are compared each with each.
const PAIRS_FEW: usize = 12;

/// Of several values by the same name the last one counts, as in any map; `None` drops the name.
pub fn last_wins<'a, T>(mut pairs: Pairs<'a, Option<T>>) -> Pairs<'a, T> {
    if pairs.len() <= PAIRS_FEW {
        for last in (1..pairs.len()).rev() {
            let (before, rest) = pairs.split_at_mut(last);
            for pair in before.iter_mut().filter(|pair| pair.0 == rest[0].0) {
                pair.1 = None;
            }
        }
    } else {
        // A flood of names must not cost its square.
        let mut seen = BTreeSet::new();
        let doubles: Vec<bool> = pairs.iter().rev().map(|pair| !seen.insert(pair.0.as_ref())).collect();
        for (pair, double) in pairs.iter_mut().zip(doubles.into_iter().rev()) {
            if double {
                pair.1 = None;
            }
        }
    }
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few pairs or many, as in a map: the last of a name counts, where it stands, unless it is dropped.
    #[test]
    fn the_last_of_a_name_counts() {
        for count in 0..40_usize {
            for names in 1..6_usize {
                let name = |index: usize| Cow::Owned(format!("n{}", index * index % names));
                let value = |index: usize| (index % 7 != 3).then_some(index);
                let pairs = (0..count).map(|index| (name(index), value(index))).collect();
                let is_last = |index: &usize| !(index + 1..count).any(|later| name(later) == name(*index));
                let expected: Pairs<'_, usize> =
                    (0..count).filter(is_last).filter_map(|index| Some((name(index), value(index)?))).collect();
                assert_eq!(last_wins(pairs), expected, "{count} pairs of {names} names");
            }
        }
    }
}
