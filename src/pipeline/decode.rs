//! A record to an event, or why not: [`Record`] → [`Decoded`] or [`Refusal`]. The first of the rules: `decode`, `key`,
//! `customer`, `future`, in this order; the rest (`late`, `duplicate`, `full`) are the sessions'. Pure.
//!
//! What has no customer cannot contradict its key. So of a record whose value is a click without a customer:
//! a null key is refused as `key`, any other as `customer`. An empty or over-long customer is `customer` only where
//! the key says the same; else it is `key`.

use crate::config::SessionRules;
use crate::types::{ClickKind, CustomerRef, EventTime, NAME_BYTES_MAX, RejectReason};
use crate::wire;
use crate::wire::avro::Schemas;
use crate::wire::click::{ClickEvent, Input};

use super::source::Record;

/// What a record asks for.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are clicks, and a box each would be an allocation an event")]
pub enum Decoded<'a> {
    Click { customer: CustomerRef<'a>, click: ClickEvent<'a> },
    Tick(EventTime),
    Erase { customer: CustomerRef<'a> },
}

impl<'a> Decoded<'a> {
    pub fn customer(&self) -> Option<CustomerRef<'a>> {
        match self {
            Self::Click { customer, .. } | Self::Erase { customer } => Some(*customer),
            Self::Tick(_) => None,
        }
    }

    /// Whoever logs in was at rest, more often than not; few others were.
    pub fn login(&self) -> Option<CustomerRef<'a>> {
        match self {
            Self::Click { customer, click } if click.kind == ClickKind::Login => Some(*customer),
            Self::Click { .. } | Self::Erase { .. } | Self::Tick(_) => None,
        }
    }
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
            let key = check_key(record.key, &click)?;
            customer(&click)?;
            check_future(click.event_time, record.timestamp_ms, rules)?;
            // The key says the same, and outlives the click.
            let customer = std::str::from_utf8(key).ok().and_then(CustomerRef::parse);
            Ok(Decoded::Click { customer: customer.expect("the key is the customer"), click })
        }
    }
}

/// The customer of a click: there, not empty and not too long.
pub fn customer<'c>(click: &'c ClickEvent<'_>) -> Result<CustomerRef<'c>, Refusal> {
    let Some(id) = &click.customer_id else {
        return Err(Refusal::new(RejectReason::Customer, "customer_id is missing"));
    };
    CustomerRef::parse(id).ok_or_else(|| no_customer("customer_id", id.len()))
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

/// A customer in two partitions would be two customers, so the key must be the value's customer, where it has one.
fn check_key<'k>(key: Option<&'k [u8]>, click: &ClickEvent<'_>) -> Result<&'k [u8], Refusal> {
    let Some(key) = key else { return Err(Refusal::new(RejectReason::Key, "the key is null")) };
    match &click.customer_id {
        Some(customer) if key != customer.as_bytes() => {
            Err(Refusal::new(RejectReason::Key, "the key is not the value's customer_id"))
        }
        Some(_) | None => Ok(key),
    }
}

/// A null value: whose erasure the key asks for.
fn erasure<'a>(key: Option<&'a [u8]>) -> Result<Decoded<'a>, Refusal> {
    let Some(key) = key else { return Err(Refusal::new(RejectReason::Key, "key and value are null")) };
    let text = std::str::from_utf8(key).map_err(|_| Refusal::new(RejectReason::Key, "the key is not UTF-8"))?;
    let customer = CustomerRef::parse(text).ok_or_else(|| no_customer("the key", key.len()))?;
    Ok(Decoded::Erase { customer })
}

fn no_customer(what: &str, len: usize) -> Refusal {
    let detail = match len {
        0 => format!("{what} is empty"),
        _ => format!("{what} is {len} bytes, limit {NAME_BYTES_MAX}"),
    };
    Refusal::new(RejectReason::Customer, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::source::Trace;
    use crate::types::Position;
    use expect_test::{Expect, expect};

    fn rules() -> SessionRules {
        SessionRules {
            gap_ms: 1_800_000,
            allowed_lateness_ms: 10_000,
            future_max_ms: 300,
            duration_max_ms: 43_200_000,
            events_max: 1_000,
            open_max: 16,
            revisable_max: 8,
            revisions_max: 64,
            provisional_every_events: 0,
        }
    }

    fn say(timestamp_ms: Option<i64>, key: Option<&[u8]>, value: Option<&[u8]>, rules: &SessionRules) -> String {
        let position = Position { partition: 0, offset: 0 };
        let record = Record { position, timestamp_ms, key, value, trace: Trace::None };
        match decode(&record, &Schemas::released(), rules) {
            Ok(Decoded::Click { customer, click }) => format!("{} of {customer}", click.kind.as_str()),
            Ok(Decoded::Tick(event_time)) => format!("tick {}", event_time.ms()),
            Ok(Decoded::Erase { customer }) => format!("erase {customer}"),
            Err(Refusal { reason, detail }) => format!("{}: {detail}", reason.as_str()),
        }
    }

    /// `customer` is what stands behind the member's colon; nothing leaves the member out.
    fn check(key: Option<&str>, customer: &str, said: Expect) {
        let customer = if customer.is_empty() { String::new() } else { format!(r#","customer_id":{customer}"#) };
        let value = format!(r#"{{"kind":"LOGIN","event_id":"e","event_time":1000{customer}}}"#);
        said.assert_eq(&say(Some(1_000), key.map(str::as_bytes), Some(value.as_bytes()), &rules()));
    }

    #[test]
    fn the_key_is_the_customer() {
        check(Some("ana"), r#""ana""#, expect!["LOGIN of ana"]);
        check(Some("ana"), r#""\u0061na""#, expect!["LOGIN of ana"]);
        check(Some("bob"), r#""ana""#, expect!["key: the key is not the value's customer_id"]);
        check(Some(""), r#""ana""#, expect!["key: the key is not the value's customer_id"]);
        check(None, r#""ana""#, expect!["key: the key is null"]);
        check(None, "", expect!["key: the key is null"]);
        check(None, r#""""#, expect!["key: the key is null"]);
        let value = br#"{"kind":"LOGIN","event_id":"e","event_time":1,"customer_id":"ana"}"#;
        expect!["key: the key is not the value's customer_id"].assert_eq(&say(
            None,
            Some(b"\xff"),
            Some(value),
            &rules(),
        ));
    }

    #[test]
    fn the_customer_is_somebody() {
        check(Some("ana"), "", expect!["customer: customer_id is missing"]);
        check(Some("ana"), "null", expect!["customer: customer_id is missing"]);
        check(Some(""), "", expect!["customer: customer_id is missing"]);
        check(Some(""), r#""""#, expect!["customer: customer_id is empty"]);
        check(Some("ana"), r#""""#, expect!["key: the key is not the value's customer_id"]);
        let (longest, over) = ("x".repeat(256), "x".repeat(257));
        check(Some(&over), &format!(r#""{over}""#), expect!["customer: customer_id is 257 bytes, limit 256"]);
        check(Some("ana"), &format!(r#""{over}""#), expect!["key: the key is not the value's customer_id"]);
        let value = format!(r#"{{"kind":"LOGIN","event_id":"e","event_time":1,"customer_id":"{longest}"}}"#);
        let said = say(None, Some(longest.as_bytes()), Some(value.as_bytes()), &rules());
        assert_eq!(said, format!("LOGIN of {longest}"));
    }

    #[test]
    fn a_null_value_asks_for_erasure() {
        let check = |key: Option<&[u8]>, said: Expect| said.assert_eq(&say(Some(0), key, None, &rules()));
        check(Some(b"ana"), expect!["erase ana"]);
        check(None, expect!["key: key and value are null"]);
        check(Some(b""), expect!["customer: the key is empty"]);
        check(Some(&[b'x'; 257]), expect!["customer: the key is 257 bytes, limit 256"]);
        check(Some(b"\xff"), expect!["key: the key is not UTF-8"]);
        expect!["decode: the value is empty"].assert_eq(&say(Some(0), Some(b"ana"), Some(b""), &rules()));
    }

    #[test]
    fn a_tick_needs_no_key() {
        let tick: &[u8] = br#"{"kind":"TICK","event_time":1000}"#;
        for key in [None, Some(&b"ana"[..]), Some(b"\xff")] {
            expect!["tick 1000"].assert_eq(&say(Some(1_000), key, Some(tick), &rules()));
        }
        expect!["future: event_time is 301 ms beyond the record's timestamp, limit 300"].assert_eq(&say(
            Some(699),
            None,
            Some(tick),
            &rules(),
        ));
    }

    #[test]
    fn the_future_is_bounded_where_records_have_a_time() {
        let value = |ms: i64| format!(r#"{{"kind":"LOGIN","event_id":"e","event_time":{ms},"customer_id":"ana"}}"#);
        let check = |ms: i64, record_time: Option<i64>, future_max_ms: u64, said: Expect| {
            let rules = SessionRules { future_max_ms, ..rules() };
            said.assert_eq(&say(record_time, Some(b"ana"), Some(value(ms).as_bytes()), &rules));
        };
        check(1_300, Some(1_000), 300, expect!["LOGIN of ana"]);
        check(
            1_301,
            Some(1_000),
            300,
            expect!["future: event_time is 301 ms beyond the record's timestamp, limit 300"],
        );
        check(1, Some(1_000), 0, expect!["LOGIN of ana"]);
        check(i64::MAX, None, 0, expect!["LOGIN of ana"]);
        check(i64::MAX, Some(i64::MAX), 0, expect!["LOGIN of ana"]);
        check(0, Some(i64::MAX), u64::MAX, expect!["LOGIN of ana"]);
        check(
            i64::MAX,
            Some(i64::MIN),
            1 << 61,
            expect![
                "future: event_time is 18446744073709551615 ms beyond the record's timestamp, limit 2305843009213693952"
            ],
        );
    }

    /// A record that breaks several rules is refused by the first.
    #[test]
    fn the_order_of_the_rules() {
        let check = |key: Option<&[u8]>, value: &str, said: Expect| {
            said.assert_eq(&say(Some(0), key, Some(value.as_bytes()), &rules()));
        };
        check(None, r#"{"kind":"LOGIN","event_id":"","event_time":9000}"#, expect!["decode: event_id is empty"]);
        check(None, r#"{"kind":"LOGIN","event_id":"e","event_time":9000}"#, expect!["key: the key is null"]);
        check(
            Some(b"ana"),
            r#"{"kind":"LOGIN","event_id":"e","event_time":9000}"#,
            expect!["customer: customer_id is missing"],
        );
        check(
            Some(b"ana"),
            r#"{"kind":"LOGIN","event_id":"e","event_time":9000,"customer_id":"ana"}"#,
            expect!["future: event_time is 9000 ms beyond the record's timestamp, limit 300"],
        );
    }
}
