//! A record to an event, or why not: [`Record`] → [`Decoded`] or [`Refusal`]. The first of the rules: `decode`, `key`,
//! `customer`, `future`, in this order; the rest (`late`, `duplicate`, `full`) are the sessions'. [pure]
//!
//! What has no customer cannot contradict its key. So of a record whose value is a click without a customer:
//! a null key is refused as `key`, any other as `customer`. An empty or over-long customer is `customer` only where
//! the key says the same; else it is `key`.

use crate::config::SessionRules;
use crate::types::{CustomerId, EventTime, NAME_BYTES_MAX, RejectReason};
use crate::wire;
use crate::wire::avro::Schemas;
use crate::wire::click::{ClickEvent, Input};

use super::source::Record;

/// What a record asks for.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are clicks, and a box each would be an allocation an event")]
pub enum Decoded<'a> {
    Click { customer: CustomerId, click: ClickEvent<'a> },
    Tick(EventTime),
    Erase { customer: CustomerId },
}

/// Why a record is refused: the rule, and what exactly was wrong, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: RejectReason,
    pub detail: String,
}

impl Refusal {
    fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

pub fn decode<'a>(record: &Record<'a>, schemas: &Schemas, rules: &SessionRules) -> Result<Decoded<'a>, Refusal> {
    let Some(value) = record.value else { return erasure(record.key) };
    let input = wire::decode(value, schemas).map_err(|why| Refusal::new(RejectReason::Decode, why.to_string()))?;
    match input {
        Input::Tick(event_time) => {
            check_future(event_time, record.timestamp_ms, rules)?;
            Ok(Decoded::Tick(event_time))
        }
        Input::Click(click) => {
            check_key(record.key, &click)?;
            let customer = customer(&click)?;
            check_future(click.event_time, record.timestamp_ms, rules)?;
            Ok(Decoded::Click { customer, click })
        }
    }
}

/// The customer of a click: there, not empty and not too long.
pub fn customer(click: &ClickEvent<'_>) -> Result<CustomerId, Refusal> {
    let Some(id) = &click.customer_id else {
        return Err(Refusal::new(RejectReason::Customer, "customer_id is missing"));
    };
    CustomerId::parse(id).ok_or_else(|| no_customer("customer_id", id.len()))
}

/// An event time may lie at most `session.future_max` beyond its record's timestamp, where the record has one.
pub fn check_future(event_time: EventTime, record_time: Option<i64>, rules: &SessionRules) -> Result<(), Refusal> {
    let Some(record_time) = record_time else { return Ok(()) };
    let ahead_ms = i128::from(event_time.ms()) - i128::from(record_time);
    if ahead_ms <= i128::from(rules.future_max_ms) {
        return Ok(());
    }
    let detail = format!("event_time is {ahead_ms} ms beyond the record's timestamp, limit {}", rules.future_max_ms);
    Err(Refusal::new(RejectReason::Future, detail))
}

/// A customer in two partitions would be two customers, so the key must be the value's customer.
fn check_key(key: Option<&[u8]>, click: &ClickEvent<'_>) -> Result<(), Refusal> {
    let Some(key) = key else { return Err(Refusal::new(RejectReason::Key, "the key is null")) };
    match &click.customer_id {
        Some(customer) if key != customer.as_bytes() => {
            Err(Refusal::new(RejectReason::Key, "the key is not the value's customer_id"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A null value: whose erasure the key asks for.
fn erasure<'a>(key: Option<&[u8]>) -> Result<Decoded<'a>, Refusal> {
    let Some(key) = key else { return Err(Refusal::new(RejectReason::Key, "key and value are null")) };
    let text = std::str::from_utf8(key).map_err(|_| Refusal::new(RejectReason::Key, "the key is not UTF-8"))?;
    let customer = CustomerId::parse(text).ok_or_else(|| no_customer("the key", key.len()))?;
    Ok(Decoded::Erase { customer })
}

fn no_customer(what: &str, len: usize) -> Refusal {
    let detail = match len {
        0 => format!("{what} is empty"),
        _ => format!("{what} is {len} bytes, limit {NAME_BYTES_MAX}"),
    };
    Refusal::new(RejectReason::Customer, detail)
}
