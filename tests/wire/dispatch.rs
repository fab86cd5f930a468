//! Which encoding the first bytes tell, and what is said of those that tell none.

use dce::config::Encoding;
use dce::types::EventTime;
use dce::wire::avro::Schemas;
use dce::wire::click::Input;
use dce::wire::error::DecodeError;
use expect_test::{Expect, expect};

fn check(bytes: &[u8], said: Expect) {
    let said_now = match dce::wire::decode(bytes, &Schemas::released()) {
        Ok(input) => format!("{input:?}"),
        Err(why) => why.to_string(),
    };
    said.assert_eq(&said_now);
}

#[test]
fn json() {
    check(b"{\"kind\":\"TICK\",\"event_time\":5}", expect!["Tick(EventTime(5))"]);
    check(b" \t\r\n{\"kind\":\"TICK\",\"event_time\":5}\n", expect!["Tick(EventTime(5))"]);
    check(b"{\"kind\":\"TICK\",\"event_time\":5", expect!["not JSON at byte 29: ',' or '}' expected"]);
    check(b"{\"kind\":\"TICK\",\"event_time\":5.0}", expect!["event_time is 5.0, must be 0 or more milliseconds"]);
    check(
        b"{\"kind\":\"ERASE\",\"customer_id\":\"c\"}",
        expect![[r#"kind is "ERASE", must be LOGIN, LOGOUT, PAGE_VIEW, ACTION or TICK"#]],
    );
    check(b"{\"kind\":\"LOGIN\",\"event_time\":5}", expect!["event_id is missing"]);
    check(b"{\"kind\":\"LOGIN\",\"event_time\":5,\"event_id\":\"\"}", expect!["event_id is empty"]);
    check(
        b"{\"kind\":\"LOGIN\",\"event_time\":5,\"name\":\"\\ud800\"}",
        expect!["name holds a lone surrogate, which is no text"],
    );
    check(b"{\"kind\":\"\xff\"}", expect!["not UTF-8 at byte 9"]);
    let long =
        format!("{{\"kind\":\"LOGIN\",\"event_time\":5,\"event_id\":\"e\",\"channel\":\"{}\"}}", "é".repeat(129));
    check(long.as_bytes(), expect!["channel is 258 bytes, limit 256"]);
    let long = format!("{{\"kind\":\"{}\"}}", "é".repeat(500));
    check(
        long.as_bytes(),
        expect![[r#"kind is "ééééééééééééééééééééééééééééééé…, must be LOGIN, LOGOUT, PAGE_VIEW, ACTION or TICK"#]],
    );
}

#[test]
fn other_first_bytes() {
    check(b"", expect!["the value is empty"]);
    check(b"[1]", expect!["the first byte is 0x5b: neither JSON ('{') nor Avro (c3 01) nor a registry's framing (00)"]);
    check(b" ", expect!["the first byte is 0x20: neither JSON ('{') nor Avro (c3 01) nor a registry's framing (00)"]);
    check(
        b"\xc3\x02",
        expect!["the first byte is 0xc3: neither JSON ('{') nor Avro (c3 01) nor a registry's framing (00)"],
    );
    check(
        b"\xef\xbb\xbf{}",
        expect!["the first byte is 0xef: neither JSON ('{') nor Avro (c3 01) nor a registry's framing (00)"],
    );
    check(b"\x00\x00\x00\x01\x02body", expect!["framed by a schema registry (id 258), and none is configured"]);
    check(b"\x00\x01", expect!["framed by a schema registry (id missing), and none is configured"]);
}

#[test]
fn avro() {
    check(b"\xc3\x01", expect!["the bytes end within the single-object header"]);
    check(
        b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08",
        expect!["no schema is known by the fingerprint 0807060504030201"],
    );
    let mut bytes = Vec::new();
    Input::Tick(EventTime::parse(5).unwrap()).encode_into(Encoding::Avro, &mut bytes).unwrap();
    check(&bytes, expect!["Tick(EventTime(5))"]);
    check(&bytes[..12], expect!["the bytes end within event_time"]);
    check(&[&bytes[..], b"xy"].concat(), expect!["2 bytes after the record's end"]);
    // The kind is the fourth field: its default symbol, and one that no schema of ours has.
    bytes[13] = 0;
    check(&bytes, expect!["kind is UNKNOWN, must be LOGIN, LOGOUT, PAGE_VIEW, ACTION or TICK"]);
    bytes[13] = 12;
    check(&bytes, expect!["kind is no valid Avro: a branch or symbol that its schema does not have"]);
    bytes[10] = 1;
    check(&bytes, expect!["event_id is no valid Avro: a negative length"]);
}

#[test]
fn errors_are_values() {
    let schemas = Schemas::released();
    assert_eq!(dce::wire::decode(&[0, 0, 0, 0, 7], &schemas), Err(DecodeError::NoRegistry { id: Some(7) }));
    assert_eq!(dce::wire::decode(b"x", &schemas), Err(DecodeError::UnknownFormat { first: b'x' }));
}
