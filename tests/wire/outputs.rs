//! The outputs in both encodings: written, read by apache-avro, and read back.

use std::sync::Arc;

use apache_avro::{Schema, from_avro_datum};
use dce::config::Encoding;
use dce::types::{CloseReason, CustomerId, EventTime, ModelId, OpenedBy, Position};
use dce::wire::avro::Schemas;
use dce::wire::embedding::{Cause, CustomerEmbedding, EmbeddingKind, SessionSummary};
use dce::wire::error::EncodeError;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use serde_json::Value;

use super::schemas::{folder, text};

fn schema(name: &str) -> Schema {
    Schema::parse_str(&text(&folder().join(format!("{name}.avsc")))).unwrap()
}

fn a_time() -> impl Strategy<Value = EventTime> {
    (0..=i64::MAX).prop_map(|ms| EventTime::parse(ms).unwrap())
}

fn a_text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![4 => "[a-z0-9:/]{0,12}", 1 => "\\PC{0,6}", 1 => "[\\x00-\\x1f\"\\\\]{1,4}"].prop_map(Arc::from)
}

fn finite() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("finite", |number| number.is_finite())
}

fn a_customer() -> impl Strategy<Value = CustomerId> {
    "[a-zé\"]{1,20}".prop_map(|id| CustomerId::parse(&id).unwrap())
}

fn a_cause() -> impl Strategy<Value = Cause> {
    let texts = (a_text(), of(a_text()), of(a_text()), of(a_text()));
    let times = (a_time(), a_time(), of(a_time()));
    let counts = (any::<u32>(), any::<u32>(), any::<u32>());
    let symbols = (prop::sample::select(OpenedBy::ALL.to_vec()), of(prop::sample::select(CloseReason::ALL.to_vec())));
    (texts, times, counts, symbols).prop_map(|(texts, times, counts, symbols)| Cause {
        session_uid: texts.0,
        revision: counts.0,
        session_id: texts.1,
        device_id: texts.2,
        channel: texts.3,
        session_start: times.0,
        session_end: times.1,
        closed_at: times.2,
        opened_by: symbols.0,
        close_reason: symbols.1,
        event_count: counts.1,
        unknown_count: counts.2,
    })
}

fn an_embedding() -> impl Strategy<Value = CustomerEmbedding> {
    let numbers = (vec(finite(), 0..70), of(any::<f64>().prop_filter("finite", |x| x.is_finite())), finite());
    let maps = (btree_map(a_text(), vec(finite(), 0..4), 0..4), btree_map(a_text(), a_text(), 0..4));
    let times = (of(a_time()), a_time(), any::<i64>());
    let place = (any::<i32>(), any::<i64>());
    let head = (a_customer(), 0..=i64::MAX.unsigned_abs(), prop::sample::select(EmbeddingKind::ALL.to_vec()));
    (head, numbers, maps, times, place, any::<bool>(), a_cause()).prop_map(
        |(head, numbers, maps, times, place, cold_start, cause)| CustomerEmbedding {
            customer_id: head.0,
            sequence: head.1,
            kind: head.2,
            embedding: numbers.0,
            model: ModelId::new("bank", "1.2"),
            cosine_shift: numbers.1,
            gate: numbers.2,
            previous_as_of: times.0,
            scores: maps.0,
            cold_start,
            cause,
            labels: maps.1,
            as_of: times.1,
            emitted_at: times.2,
            source: Position { partition: place.0, offset: place.1 },
        },
    )
}

fn a_summary() -> impl Strategy<Value = SessionSummary> {
    let head = (a_customer(), 0..=i64::MAX.unsigned_abs(), a_text());
    (head, a_cause(), vec(a_text(), 0..20)).prop_map(|(head, cause, event_ids)| SessionSummary {
        customer_id: head.0,
        sequence: head.1,
        session_key: head.2,
        cause,
        event_ids,
    })
}

/// Both encodings say the same: the JSON, and what apache-avro reads from the Avro. Gives the Avro without its header.
fn same(name: &str, json: &[u8], avro: &[u8]) -> Value {
    let schema = schema(name);
    let mut body = &avro[10..];
    let read = from_avro_datum(&schema, &mut body, None).unwrap();
    assert!(body.is_empty());
    let theirs = Value::try_from(read).unwrap();
    let ours: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(as_floats(ours.clone()), as_floats(theirs));
    // The members stand in the schema's order, every one of them.
    let Schema::Record(record) = &schema else { panic!("a record") };
    let mut at = 0;
    for field in &record.fields {
        let key = format!("\"{}\":", field.name);
        at += String::from_utf8_lossy(&json[at..]).find(&key).unwrap_or_else(|| panic!("{key} after byte {at}"));
    }
    assert_eq!(ours.as_object().unwrap().len(), record.fields.len());
    ours
}

/// With the floats of the schema as such: JSON has but one kind of number.
fn as_floats(mut record: Value) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "back to the type that was written")]
    fn narrow(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(narrow),
            Value::Object(members) => members.values_mut().for_each(narrow),
            Value::Number(number) => *value = f64::from(number.as_f64().unwrap() as f32).into(),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    for name in ["embedding", "gate", "scores"] {
        if let Some(value) = record.get_mut(name) {
            narrow(value);
        }
    }
    record
}

proptest! {
    #[test]
    fn embeddings(record in an_embedding()) {
        let (mut json, mut avro) = (Vec::new(), Vec::new());
        record.encode_into(Encoding::Json, &mut json).unwrap();
        record.encode_into(Encoding::Avro, &mut avro).unwrap();
        same("CustomerEmbedding", &json, &avro);
        let schemas = Schemas::released();
        for bytes in [&json, &avro] {
            prop_assert_eq!(&CustomerEmbedding::decode(bytes, &schemas).unwrap(), &record);
        }
    }

    #[test]
    fn summaries(record in a_summary()) {
        let (mut json, mut avro) = (Vec::new(), Vec::new());
        record.encode_into(Encoding::Json, &mut json).unwrap();
        record.encode_into(Encoding::Avro, &mut avro).unwrap();
        same("SessionSummary", &json, &avro);
        let schemas = Schemas::released();
        for bytes in [&json, &avro] {
            prop_assert_eq!(&SessionSummary::decode(bytes, &schemas).unwrap(), &record);
        }
    }

    /// Broken outputs are refused or read, in bounded memory, and never end the reader.
    #[test]
    fn broken_outputs(record in an_embedding(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let schemas = Schemas::released();
        for encoding in [Encoding::Json, Encoding::Avro] {
            let mut bytes = Vec::new();
            record.encode_into(encoding, &mut bytes).unwrap();
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
                prop_assert!(CustomerEmbedding::decode(&bytes, &schemas).is_err());
            } else {
                bytes[at] = byte;
                drop(CustomerEmbedding::decode(&bytes, &schemas));
            }
        }
    }
}

pub(crate) fn an_example() -> CustomerEmbedding {
    let time = |ms| EventTime::parse(ms).unwrap();
    CustomerEmbedding {
        customer_id: CustomerId::parse("ana").unwrap(),
        sequence: 3,
        kind: EmbeddingKind::SessionClosed,
        embedding: vec![0.6, -0.8, 0.0],
        model: ModelId::new("bank", "1"),
        cosine_shift: Some(0.125),
        gate: 0.96875,
        previous_as_of: Some(time(1_700_000_000_000)),
        scores: [("takeover".into(), vec![0.01, 0.99])].into(),
        cold_start: false,
        cause: Cause {
            session_uid: "e1".into(),
            revision: 0,
            session_id: None,
            device_id: Some("phone-7".into()),
            channel: Some("mobile".into()),
            session_start: time(1_700_000_100_000),
            session_end: time(1_700_000_200_000),
            closed_at: Some(time(1_700_000_200_000)),
            opened_by: OpenedBy::Login,
            close_reason: Some(CloseReason::Logout),
            event_count: 12,
            unknown_count: 1,
        },
        labels: [("country".into(), "ES".into())].into(),
        as_of: time(1_700_000_200_000),
        emitted_at: 1_700_000_200_041,
        source: Position { partition: 4, offset: 1_234 },
    }
}

#[test]
fn what_is_not_finite_is_never_written() {
    let refused = |break_it: fn(&mut CustomerEmbedding), field: &str| {
        let mut record = an_example();
        break_it(&mut record);
        for encoding in [Encoding::Json, Encoding::Avro] {
            let mut out = b"before".to_vec();
            let why = record.encode_into(encoding, &mut out).unwrap_err();
            assert!(matches!(why, EncodeError::NotFinite { field: found, .. } if found == field), "{why}");
            assert_eq!(out, b"before", "a refused record leaves nothing");
        }
    };
    refused(|record| record.embedding[1] = f32::NAN, "embedding");
    refused(|record| record.gate = f32::INFINITY, "gate");
    refused(|record| record.cosine_shift = Some(f64::NEG_INFINITY), "cosine_shift");
    refused(|record| record.scores.values_mut().for_each(|scores| scores[1] = f32::NAN), "scores");
    let mut record = an_example();
    record.sequence = 1 << 63;
    let why = record.encode_into(Encoding::Avro, &mut Vec::new()).unwrap_err();
    assert_eq!(why, EncodeError::TooLarge { field: "sequence", found: 1 << 63 });
}

#[test]
fn what_is_not_finite_is_never_read() {
    let schemas = Schemas::released();
    let mut avro = Vec::new();
    an_example().encode_into(Encoding::Avro, &mut avro).unwrap();
    let gate = 0.96875_f32.to_le_bytes();
    let at = avro.windows(4).position(|bytes| bytes == gate).unwrap();
    avro[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(CustomerEmbedding::decode(&avro, &schemas).is_err());
    let mut json = Vec::new();
    an_example().encode_into(Encoding::Json, &mut json).unwrap();
    let json = String::from_utf8(json).unwrap();
    for number in ["1e39", "1e999", "NaN", "null"] {
        let broken = json.replace("0.96875", number);
        assert!(CustomerEmbedding::decode(broken.as_bytes(), &schemas).is_err(), "{number}");
    }
}

/// What a later version may add is skipped, and what may be absent is filled.
#[test]
fn json_of_other_versions() {
    let schemas = Schemas::released();
    let mut json = Vec::new();
    an_example().encode_into(Encoding::Json, &mut json).unwrap();
    let mut value: Value = serde_json::from_slice(&json).unwrap();
    value["added"] = serde_json::json!({ "later": [1, null] });
    for absent in ["cosine_shift", "previous_as_of", "session_id", "closed_at", "close_reason", "scores", "labels"] {
        value.as_object_mut().unwrap().remove(absent);
    }
    let read = CustomerEmbedding::decode(value.to_string().as_bytes(), &schemas).unwrap();
    assert_eq!((read.cosine_shift, read.cause.close_reason, read.scores.len()), (None, None, 0));
    for (field, wrong) in [
        ("kind", "UNKNOWN".into()),
        ("opened_by", "BY_CHANCE".into()),
        ("model", "nameless".into()),
        ("customer_id", "".into()),
        ("as_of", (-1).into()),
        ("sequence", (-1).into()),
        ("embedding", Value::Null),
    ] {
        let mut value = value.clone();
        value[field] = wrong;
        let why = CustomerEmbedding::decode(value.to_string().as_bytes(), &schemas);
        assert!(why.is_err(), "{field}: {why:?}");
    }
}
