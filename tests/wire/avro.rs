//! Avro beside apache-avro: whatever wrote the bytes, both read the same, or both refuse.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use apache_avro::types::Value as AvroValue;
use apache_avro::{Schema, from_avro_datum, from_value};
use dce::config::Encoding;
use dce::types::{ClickKind, EventTime};
use dce::wire::avro::{CLICK_EVENT, Fingerprint, Schemas};
use dce::wire::click::{ClickEvent, Input};
use dce::wire::error::{DecodeError, SchemaError};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, json};

use super::schemas::{folder, text};

/// A click in the words that both sides share. Not finite numbers count as absent.
#[derive(Debug, Clone, PartialEq)]
struct Plain {
    texts: [Option<String>; 6],
    event_time: i64,
    kind: String,
    context: BTreeMap<String, f64>,
    attributes: BTreeMap<String, String>,
}

fn plain(input: &Input<'_>) -> Plain {
    let owned = |text: &Option<std::borrow::Cow<'_, str>>| text.as_ref().map(|text| text.to_string());
    match input {
        Input::Tick(event_time) => Plain {
            texts: Default::default(),
            event_time: event_time.ms(),
            kind: "TICK".to_owned(),
            context: BTreeMap::new(),
            attributes: BTreeMap::new(),
        },
        Input::Click(click) => Plain {
            texts: [
                Some(click.event_id.to_string()),
                owned(&click.customer_id),
                Some(click.name.to_string()),
                owned(&click.channel),
                owned(&click.session_id),
                owned(&click.device_id),
            ],
            event_time: click.event_time.ms(),
            kind: click.kind.as_str().to_owned(),
            context: click.context.iter().map(|(name, number)| (name.to_string(), *number)).collect(),
            attributes: click.attributes.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect(),
        },
    }
}

/// The schema as apache-avro's derived struct would have it.
#[derive(serde::Deserialize)]
struct Oracle {
    event_id: String,
    customer_id: Option<String>,
    event_time: i64,
    kind: String,
    name: Option<String>,
    channel: Option<String>,
    session_id: Option<String>,
    device_id: Option<String>,
    context: Option<HashMap<String, f64>>,
    attributes: HashMap<String, String>,
}

/// A slice that notes when it was asked for more than it had: apache-avro takes the end of the bytes for a null.
struct Noting<'a> {
    bytes: &'a [u8],
    ended: bool,
}

impl Read for Noting<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.ended |= into.len() > self.bytes.len();
        self.bytes.read(into)
    }
}

/// apache-avro's reading of a record's own bytes, and the rules of a click, naively.
fn oracle(bytes: &[u8], writer: &Schema, reader: &Schema) -> Option<Plain> {
    let mut noting = Noting { bytes, ended: false };
    let value = from_avro_datum(writer, &mut noting, Some(reader)).ok()?;
    if noting.ended || !noting.bytes.is_empty() {
        return None;
    }
    let read: Oracle = from_value(&value).ok()?;
    let tick = read.kind == "TICK";
    let texts = [Some(read.event_id), read.name, read.channel, read.session_id, read.device_id];
    let long = texts.iter().flatten().any(|text| text.len() > 256);
    let [event_id, name, channel, session_id, device_id] = texts;
    let nameless = !tick && event_id.as_deref() == Some("");
    if long || nameless || read.event_time < 0 || read.kind == "UNKNOWN" {
        return None;
    }
    let mut plain = Plain {
        texts: [event_id, read.customer_id, Some(name.unwrap_or_default()), channel, session_id, device_id],
        event_time: read.event_time,
        kind: read.kind,
        context: read.context.into_iter().flatten().filter(|(_, number)| number.is_finite()).collect(),
        attributes: read.attributes.into_iter().collect(),
    };
    if tick {
        plain.texts = Default::default();
        plain.context.clear();
        plain.attributes.clear();
    }
    Some(plain)
}

fn framed(fingerprint: Fingerprint, body: &[u8]) -> Vec<u8> {
    [&[0xc3, 0x01], &fingerprint.0[..], body].concat()
}

struct Sides {
    schemas: Schemas,
    fingerprint: Fingerprint,
    writer: Schema,
    reader: Schema,
}

impl Sides {
    /// Clicks written by `writer`, read by the present schema.
    fn of(writer: &str) -> Result<Self, SchemaError> {
        // Broken lengths must not make the other side take gigabytes.
        apache_avro::util::max_allocation_bytes(1 << 16);
        let mut schemas = Schemas::released();
        let fingerprint = schemas.register_click(writer)?;
        let reader = Schema::parse_str(&text(&folder().join("ClickEvent.avsc"))).unwrap();
        Ok(Self { schemas, fingerprint, writer: Schema::parse_str(writer).unwrap(), reader })
    }

    fn present() -> Self {
        Self::of(&text(&folder().join("ClickEvent.avsc"))).unwrap()
    }

    /// Whether the bytes are a click to both.
    fn agree(&self, body: &[u8]) -> bool {
        let bytes = framed(self.fingerprint, body);
        let ours = self.schemas.decode_click(&bytes);
        let theirs = oracle(body, &self.writer, &self.reader);
        assert_eq!(ours.as_ref().ok().map(plain), theirs, "{ours:?} of {body:02x?}");
        ours.is_ok()
    }
}

fn a_text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z0-9/é]{0,12}", 1 => "\\PC{0,6}", 1 => Just("x".repeat(256)), 1 => Just("y".repeat(257))]
}

pub(crate) fn an_input() -> impl Strategy<Value = Input<'static>> {
    let optional = || proptest::option::of(a_text().prop_map(Into::into));
    let kind = prop_oneof![
        Just(ClickKind::Login),
        Just(ClickKind::Logout),
        Just(ClickKind::PageView),
        Just(ClickKind::Action)
    ];
    let number = any::<f64>().prop_filter("finite", |number| number.is_finite());
    let context = proptest::collection::btree_map("[a-z]{0,5}", number, 0..20);
    let attributes = proptest::collection::btree_map(a_text(), a_text(), 0..20);
    let texts = (a_text(), a_text(), optional(), optional(), optional(), optional());
    let click = (texts, 0..=i64::MAX, kind, context, attributes).prop_map(|(texts, ms, kind, context, attributes)| {
        let (event_id, name, customer_id, channel, session_id, device_id) = texts;
        Input::Click(ClickEvent {
            event_id: event_id.into(),
            customer_id,
            event_time: EventTime::parse(ms).unwrap(),
            kind,
            name: name.into(),
            channel,
            session_id,
            device_id,
            context: context.into_iter().map(|(name, number)| (name.into(), number)).collect(),
            attributes: attributes.into_iter().map(|(name, text)| (name.into(), text.into())).collect(),
        })
    });
    prop_oneof![9 => click, 1 => (0..=i64::MAX).prop_map(|ms| Input::Tick(EventTime::parse(ms).unwrap()))]
}

/// Whether a written click is one that may be read back.
fn is_good(input: &Input<'_>) -> bool {
    let Input::Click(click) = input else { return true };
    let short = |text: &Option<std::borrow::Cow<'_, str>>| text.as_ref().is_none_or(|text| text.len() <= 256);
    (1..=256).contains(&click.event_id.len())
        && click.name.len() <= 256
        && [&click.channel, &click.session_id, &click.device_id].into_iter().all(short)
}

proptest! {
    #[test]
    fn what_is_written_is_read(input in an_input()) {
        let sides = Sides::present();
        let (mut avro, mut json) = (b"before".to_vec(), b"before".to_vec());
        input.encode_into(Encoding::Avro, &mut avro).unwrap();
        input.encode_into(Encoding::Json, &mut json).unwrap();
        for bytes in [&avro[6..], &json[6..]] {
            match dce::wire::decode(bytes, &sides.schemas) {
                Ok(read) => prop_assert_eq!(&read, &input),
                Err(why) => prop_assert!(!is_good(&input), "{}", why),
            }
        }
        prop_assert_eq!(sides.agree(&avro[16..]), is_good(&input));
    }

    #[test]
    fn broken_bytes(input in an_input(), breaks in proptest::collection::vec((any::<prop::sample::Index>(), 0..6_u8, any::<u8>()), 1..4)) {
        let sides = Sides::present();
        let mut avro = Vec::new();
        input.encode_into(Encoding::Avro, &mut avro).unwrap();
        let mut body = avro.split_off(10);
        for (index, what, byte) in breaks {
            let index = index.index(body.len() + 1);
            break_at(&mut body, index, what, byte);
        }
        sides.agree(&body);
    }

    #[test]
    fn random_bytes(body in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(2), 0..20_u8, any::<u8>()], 0..60)) {
        Sides::present().agree(&body);
    }
}

fn break_at(body: &mut Vec<u8>, index: usize, what: u8, byte: u8) {
    let index = index.min(body.len());
    match what {
        0 => body.truncate(index),
        1 => body.insert(index, byte),
        2 => body.push(byte),
        _ if index == body.len() => {}
        3 => drop(body.remove(index)),
        4 => body[index] = byte,
        _ => body[index] ^= 1 << (byte % 8),
    }
}

/// Lengths and counts that no record can have, and integers of more bytes than there are.
#[test]
fn hostile_bytes() {
    let sides = Sides::present();
    let mut good = Vec::new();
    Input::Tick(EventTime::parse(7).unwrap()).encode_into(Encoding::Avro, &mut good).unwrap();
    let body = &good[10..];
    assert!(sides.agree(body));
    // The attributes come last: their one block is what these stand for.
    let before = &body[..body.len() - 1];
    let endings: [&[u8]; 12] = [
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // i64::MIN items
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // i64::MAX items
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
        &[0x80, 0x00],
        &[0x80],
        &[],
        &[0x01, 0x04, 0x00, 0x00, 0x00], // a block of one item and its size
        &[0x01, 0x7f, 0x00, 0x00, 0x00], // and a wrong size
        &[0x02, 0x02, 0x61, 0x02, 0x62, 0x02, 0x02, 0x61, 0x02, 0x63, 0x00], // the same name in two blocks
        &[0x02, 0x01],                   // a name of -1 bytes
        &[0x00, 0x00],
    ];
    for ending in endings {
        sides.agree(&[before, ending].concat());
    }
    for end in 0..body.len() {
        assert!(!sides.agree(&body[..end]));
    }
    let unknown = Fingerprint([7; 8]);
    assert_eq!(
        sides.schemas.decode_click(&framed(unknown, body)),
        Err(DecodeError::UnknownSchema { fingerprint: unknown })
    );
    assert_eq!(unknown.to_string(), "0707070707070707");
    for end in 2..10 {
        assert!(matches!(sides.schemas.decode_click(&good[..end]), Err(DecodeError::Truncated { .. })));
    }
}

/// Rust producers that use apache-avro's own single-object writer put another fingerprint.
#[test]
fn apache_avros_own_fingerprint_is_known() {
    let sides = Sides::present();
    let own = Fingerprint(sides.writer.fingerprint::<apache_avro::rabin::Rabin>().bytes.try_into().unwrap());
    assert_ne!(own, CLICK_EVENT);
    let mut good = Vec::new();
    Input::Tick(EventTime::parse(7).unwrap()).encode_into(Encoding::Avro, &mut good).unwrap();
    assert!(sides.schemas.decode_click(&framed(own, &good[10..])).is_ok());
}

/// Writers with other fields, in another order, of other types: what one reads, the other reads the same.
#[test]
fn other_writers() {
    let mut rng = Pcg64::seed_from_u64(7);
    let (mut good, mut bad, mut incompatible) = (0, 0, 0);
    for _ in 0..400 {
        let writer = random_writer(&mut rng);
        let sides = match Sides::of(&writer.to_string()) {
            Ok(sides) => sides,
            Err(SchemaError::Incompatible { .. }) => {
                let present = Sides::present();
                let schema = Schema::parse_str(&writer.to_string()).unwrap();
                for _ in 0..20 {
                    let mut body = Vec::new();
                    random_value(&mut rng, &writer, "", &mut body);
                    assert_eq!(oracle(&body, &schema, &present.reader), None, "{writer}");
                }
                incompatible += 1;
                continue;
            }
            Err(why) => panic!("{why}: {writer}"),
        };
        // Of two values by one name in a map apache-avro forgets the first, whatever it is; we refuse one of a wrong type.
        let maps_of_unions = ["context", "attributes"].into_iter().any(|name| {
            let fields = writer["fields"].as_array().unwrap();
            fields.iter().any(|field| field["name"] == name && field.to_string().contains("\"values\":["))
        });
        for _ in 0..20 {
            let mut body = Vec::new();
            random_value(&mut rng, &writer, "", &mut body);
            *(if sides.agree(&body) { &mut good } else { &mut bad }) += 1;
            for _ in 0..3 {
                let (index, what, byte) = (rng.random_range(0..=body.len()), rng.random_range(0..6), rng.random());
                break_at(&mut body, index, what, byte);
                if maps_of_unions {
                    drop(sides.schemas.decode_click(&framed(sides.fingerprint, &body)));
                } else {
                    sides.agree(&body);
                }
            }
        }
    }
    println!("{good} read, {bad} refused, {incompatible} schemas incompatible");
    assert!(good > 1_000 && bad > 100 && incompatible > 10);
}

fn random_writer(rng: &mut Pcg64) -> Value {
    let text = [
        json!("string"),
        json!("bytes"),
        json!(["null", "string"]),
        json!(["string", "null"]),
        json!(["null", "bytes", "string"]),
        json!(["null", "long", "string"]),
    ];
    let time = [
        json!("long"),
        json!("int"),
        json!({ "type": "long", "logicalType": "timestamp-millis" }),
        json!({ "type": "long", "logicalType": "timestamp-millis" }),
        json!({ "type": "long", "logicalType": "timestamp-micros" }),
        json!(["null", "long"]),
    ];
    let symbols = json!(["TICK", "LOGIN", "SCROLL", "ACTION", "PAGE_VIEW", "LOGOUT", "UNKNOWN"]);
    let kind = [
        json!({ "type": "enum", "name": "K", "symbols": symbols }),
        json!({ "type": "enum", "name": "K", "symbols": ["LOGIN", "LOGOUT"] }),
        json!(["null", { "type": "enum", "name": "K", "symbols": ["LOGIN", "ACTION"] }]),
    ];
    let numbers = ["int", "long", "float", "double"];
    let number = numbers[rng.random_range(0..4)];
    let context = [
        json!({ "type": "map", "values": number }),
        json!(["null", { "type": "map", "values": "double" }]),
        json!(["null", { "type": "map", "values": [number, "null"] }]),
        json!("null"),
    ];
    let attributes = [
        json!({ "type": "map", "values": "string" }),
        json!({ "type": "map", "values": ["null", "string"] }),
        json!([{ "type": "map", "values": "bytes" }]),
    ];
    let mut fields: Vec<(String, Value)> = Vec::new();
    let one = |rng: &mut Pcg64, choices: &[Value]| choices[rng.random_range(0..choices.len())].clone();
    for (name, choices, share) in [
        ("event_id", &text[..], 0.98),
        ("customer_id", &text[..], 0.9),
        ("event_time", &time[..], 0.98),
        ("kind", &kind[..], 0.98),
        ("name", &text[..], 0.7),
        ("channel", &text[..], 0.7),
        ("session_id", &text[..], 0.7),
        ("device_id", &text[..], 0.7),
        ("context", &context[..], 0.7),
        ("attributes", &attributes[..], 0.7),
    ] {
        if rng.random_bool(share) {
            fields.push((name.to_owned(), one(rng, choices)));
        }
    }
    for index in 0..rng.random_range(0..4) {
        let extra = random_type(rng, 3, &mut 0);
        fields.push((format!("extra{index}"), rename(extra, index)));
    }
    for index in (1..fields.len()).rev() {
        fields.swap(index, rng.random_range(0..=index));
    }
    let fields: Vec<_> = fields.into_iter().map(|(name, schema)| json!({ "name": name, "type": schema })).collect();
    json!({ "type": "record", "name": "Click", "namespace": "bank", "fields": fields })
}

fn random_type(rng: &mut Pcg64, depth: usize, named: &mut usize) -> Value {
    const PLAIN: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
    *named += 1;
    let name = format!("T{named}");
    match rng.random_range(0..if depth == 0 { 2 } else { 8 }) {
        0 | 1 => PLAIN[rng.random_range(0..PLAIN.len())].into(),
        2 => json!({ "type": "array", "items": random_type(rng, depth - 1, named) }),
        3 => json!({ "type": "map", "values": random_type(rng, depth - 1, named) }),
        4 => json!(["null", { "type": "array", "items": random_type(rng, depth - 1, named) }, "string", "double"]),
        5 => json!({ "type": "enum", "name": name, "symbols": ["A", "B"] }),
        6 => json!({ "type": "fixed", "name": name, "size": 3 }),
        _ => {
            let fields: Vec<_> = (0..rng.random_range(0..3))
                .map(|index| json!({ "name": format!("f{index}"), "type": random_type(rng, depth - 1, named) }))
                .collect();
            json!({ "type": "record", "name": name, "fields": fields })
        }
    }
}

/// Types of several fields must not have one name.
fn rename(schema: Value, index: usize) -> Value {
    let text = schema.to_string().replace("\"name\":\"T", &format!("\"name\":\"X{index}T"));
    serde_json::from_str(&text).unwrap()
}

fn put_long(out: &mut Vec<u8>, number: i64) {
    let mut bits = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while bits > 0x7f {
        out.push(bits.to_le_bytes()[0] | 0x80);
        bits >>= 7;
    }
    out.push(bits.to_le_bytes()[0]);
}

/// Bytes that a value of the schema could have; `name` is the field's, for values that make sense there.
fn random_value(rng: &mut Pcg64, schema: &Value, name: &str, out: &mut Vec<u8>) {
    let kind = schema.as_str().or_else(|| schema["type"].as_str()).unwrap_or("union");
    match kind {
        "null" => {}
        "boolean" => out.push(rng.random_range(0..2)),
        "int" => put_long(out, rng.random_range(-5..2_000_000)),
        "long" if name == "event_time" => put_long(out, rng.random_range(-1_000..2_000_000_000_000)),
        "long" => put_long(out, rng.random::<i64>()),
        "float" => out.extend(rng.random::<u32>().to_le_bytes()),
        "double" => out.extend(rng.random::<u64>().to_le_bytes()),
        "bytes" | "string" => {
            let text = ["", "x", "ana", "é", "/a/b?c", "\0"][rng.random_range(0..6)];
            let text = if name == "event_id" && rng.random_bool(0.9) { "e1" } else { text };
            put_long(out, text.len().try_into().unwrap());
            out.extend(text.as_bytes());
        }
        "enum" => put_long(out, rng.random_range(0..schema["symbols"].as_array().unwrap().len()).try_into().unwrap()),
        "fixed" => out.extend(rng.random::<[u8; 3]>()),
        "array" | "map" => {
            for block_index in 0..rng.random_range(0..3) {
                let (count, mut block) = (rng.random_range(1..4_i64), Vec::new());
                for index in 0..count {
                    if kind == "map" {
                        block.extend([4, b'a' + block_index, b'0' + index.to_le_bytes()[0]]);
                    }
                    random_value(rng, &schema[if kind == "map" { "values" } else { "items" }], "", &mut block);
                }
                if rng.random_bool(0.3) {
                    put_long(out, -count);
                    put_long(out, block.len().try_into().unwrap());
                } else {
                    put_long(out, count);
                }
                out.extend(block);
            }
            put_long(out, 0);
        }
        "record" => {
            for field in schema["fields"].as_array().unwrap() {
                random_value(rng, &field["type"], field["name"].as_str().unwrap(), out);
            }
        }
        "union" => {
            let branches = schema.as_array().unwrap();
            let branch = rng.random_range(0..branches.len());
            put_long(out, branch.try_into().unwrap());
            random_value(rng, &branches[branch], name, out);
        }
        other => panic!("no random value of {other}"),
    }
}

/// What our reading refuses where apache-avro's would go on without an end.
#[test]
fn values_without_bytes_and_types_without_an_end() {
    let with = |extra: Value| {
        json!({ "type": "record", "name": "R", "fields": [
            { "name": "event_id", "type": "string" }, { "name": "event_time", "type": "long" },
            { "name": "kind", "type": { "type": "enum", "name": "K", "symbols": ["TICK"] } },
            { "name": "x", "type": extra }] })
        .to_string()
    };
    let read = |extra: Value, value: &[u8]| {
        let sides = Sides::of(&with(extra)).unwrap();
        sides.schemas.decode_click(&framed(sides.fingerprint, &[&[0, 2, 0], value].concat())).map(|input| plain(&input))
    };
    let nulls = json!({ "type": "array", "items": "null" });
    assert!(read(nulls.clone(), &[6, 0]).is_ok());
    assert!(read(nulls, &[0xfe, 0xff, 0xff, 0xff, 0x7f, 0]).is_err());
    let list = json!({ "type": "record", "name": "L", "fields": [{ "name": "next", "type": ["null", "L"] }] });
    assert!(read(list.clone(), &[2, 2, 0]).is_ok());
    assert!(read(list.clone(), &[2; 100_000]).is_err());
    assert!(read(list, &[2, 2]).is_err());
}

#[test]
fn what_cannot_be_a_click_is_told_at_once() {
    let mut schemas = Schemas::released();
    let mut why = |avsc: &str| schemas.register_click(avsc).unwrap_err().to_string();
    assert!(why("{").starts_with("no Avro schema: "));
    assert!(why(r#"{"type":"record","name":"R"}"#).starts_with("no Avro schema: "));
    assert!(why(r#"{"type":"record","name":"a b","fields":[]}"#).starts_with("no Avro schema: "));
    assert_eq!(why(r#""string""#), "cannot be read as a ClickEvent: it is no record");
    assert_eq!(
        why(r#"{"type":"record","name":"R","fields":[]}"#),
        "cannot be read as a ClickEvent: the field event_id is missing"
    );
    assert_eq!(
        why(r#"{"type":"record","name":"R","fields":[{"name":"event_id","type":"long"}]}"#),
        "cannot be read as a ClickEvent: the field event_id has another type"
    );
}

#[test]
fn a_dropped_number_is_not_finite() {
    let sides = Sides::present();
    let mut value = Vec::new();
    for (name, number) in [("a", f64::NAN), ("b", f64::INFINITY), ("c", 1.5)] {
        value.push((name.to_owned(), AvroValue::Double(number)));
    }
    let null = || AvroValue::Union(0, Box::new(AvroValue::Null));
    let record = AvroValue::Record(vec![
        ("event_id".into(), "e".into()),
        ("customer_id".into(), null()),
        ("event_time".into(), AvroValue::TimestampMillis(1)),
        ("kind".into(), AvroValue::Enum(1, "LOGIN".into())),
        ("name".into(), null()),
        ("channel".into(), null()),
        ("session_id".into(), null()),
        ("device_id".into(), null()),
        ("context".into(), AvroValue::Union(1, Box::new(AvroValue::Map(value.into_iter().collect())))),
        ("attributes".into(), AvroValue::Map(HashMap::new())),
    ]);
    let body = apache_avro::to_avro_datum(&sides.writer, record).unwrap();
    assert!(sides.agree(&body));
    let bytes = framed(sides.fingerprint, &body);
    let Ok(Input::Click(click)) = sides.schemas.decode_click(&bytes) else { panic!("a good click") };
    assert_eq!(click.context, [("c".into(), 1.5)]);
}
