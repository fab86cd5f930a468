//! `ClickEvent`, the input. Borrowed from the record's bytes: a string is copied only where JSON escapes force it.

use std::borrow::Cow;

use crate::types::{ClickKind, EventTime};

/// What one record of the clickstream says.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    Click(ClickEvent<'a>),
    /// Moves the partition's stream time, and belongs to no customer.
    Tick(EventTime),
}

/// One click. Strings are at most [`crate::types::NAME_BYTES_MAX`] bytes, but for the customer, whose own rule
/// (`customer`) is checked after decoding, and for attributes.
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
    /// The financial snapshot of a LOGIN; in the order of the bytes.
    pub context: Vec<(Cow<'a, str>, f64)>,
    pub attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}
