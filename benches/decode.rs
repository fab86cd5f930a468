//! What it costs to read a click and to write an embedding, beside what others take for the same bytes in the same run.
//! `cargo bench --bench decode [-- ROUNDS]`; the last line is one JSON object: nanoseconds an event and MB/s by name.
#![allow(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail where it stands")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Instant;

use apache_avro::{Schema, from_avro_datum, from_value};
use dce::config::Encoding;
use dce::types::{ClickKind, CloseReason, CustomerId, EventTime, ModelId, OpenedBy, Position};
use dce::wire::avro::Schemas;
use dce::wire::click::{ClickEvent, Input};
use dce::wire::embedding::{Cause, CustomerEmbedding, EmbeddingKind};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Distinct records in turn, so that no branch is learnt by heart.
const RECORDS: usize = 4_096;

/// The known members as raw values: what serde_json offers where the last of several members counts.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read for the time that it takes")]
struct RawMembers<'a> {
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    customer_id: Option<&'a RawValue>,
    #[serde(borrow)]
    event_time: Option<&'a RawValue>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    device_id: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
}

/// The same as a derived struct with strings of its own.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read for the time that it takes")]
struct Owned {
    event_id: String,
    customer_id: Option<String>,
    event_time: i64,
    kind: String,
    name: Option<String>,
    channel: Option<String>,
    session_id: Option<String>,
    device_id: Option<String>,
    context: Option<std::collections::HashMap<String, f64>>,
    attributes: std::collections::HashMap<String, String>,
}

struct Timed<'a> {
    name: &'static str,
    records: &'a [Vec<u8>],
    run: Box<dyn FnMut(&[u8]) + 'a>,
    best_ns: f64,
}

impl Timed<'_> {
    fn round(&mut self) {
        let start = Instant::now();
        for record in self.records {
            (self.run)(black_box(record));
        }
        let ns = start.elapsed().as_nanos() as f64 / self.records.len() as f64;
        self.best_ns = self.best_ns.min(ns);
    }

    fn bytes(&self) -> f64 {
        self.records.iter().map(Vec::len).sum::<usize>() as f64 / self.records.len() as f64
    }
}

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(60);
    let mut rng = Pcg64::seed_from_u64(1);
    let clicks: Vec<_> = (0..RECORDS).map(|_| a_click(&mut rng)).collect();
    let embeddings: Vec<_> = (0..RECORDS).map(|_| an_embedding(&mut rng)).collect();
    let encoded = |encoding| -> Vec<Vec<u8>> {
        let encode = |click: &Input<'_>| {
            let mut out = Vec::new();
            click.encode_into(encoding, &mut out).unwrap();
            out
        };
        clicks.iter().map(encode).collect()
    };
    let (json, avro) = (encoded(Encoding::Json), encoded(Encoding::Avro));
    let schemas = Schemas::released();
    let writer = Schema::parse_str(include_str!("../schemas/ClickEvent.avsc")).unwrap();

    // The embeddings' bytes, for their sizes; the closures count through the records themselves.
    let written = |encoding| -> Vec<Vec<u8>> {
        let encode = |embedding: &CustomerEmbedding| {
            let mut out = Vec::new();
            embedding.encode_into(encoding, &mut out).unwrap();
            out
        };
        embeddings.iter().map(encode).collect()
    };
    let (json_out, avro_out) = (written(Encoding::Json), written(Encoding::Avro));
    let write = |encoding| {
        let (mut next, mut out, embeddings) = (0, Vec::new(), &embeddings);
        move |_: &[u8]| {
            out.clear();
            embeddings[next].encode_into(encoding, &mut out).unwrap();
            next = (next + 1) % RECORDS;
            black_box(out.len());
        }
    };

    let mut timed: Vec<Timed<'_>> = Vec::new();
    let mut add = |name, records, run| timed.push(Timed { name, records, run, best_ns: f64::INFINITY });
    add("json", &json, Box::new(|bytes| drop(black_box(dce::wire::decode(bytes, &schemas).unwrap()))));
    add(
        "json_raw_members",
        &json,
        Box::new(|bytes| {
            drop(black_box(serde_json::from_slice::<RawMembers<'_>>(bytes).unwrap()));
        }),
    );
    add("json_owned", &json, Box::new(|bytes| drop(black_box(serde_json::from_slice::<Owned>(bytes).unwrap()))));
    add(
        "json_value",
        &json,
        Box::new(|bytes| {
            drop(black_box(serde_json::from_slice::<serde_json::Value>(bytes).unwrap()));
        }),
    );
    add("avro", &avro, Box::new(|bytes| drop(black_box(dce::wire::decode(bytes, &schemas).unwrap()))));
    add(
        "avro_apache_value",
        &avro,
        Box::new(|bytes| {
            drop(black_box(from_avro_datum(&writer, &mut &bytes[10..], None).unwrap()));
        }),
    );
    add(
        "avro_apache_owned",
        &avro,
        Box::new(|bytes| {
            let value = from_avro_datum(&writer, &mut &bytes[10..], None).unwrap();
            drop(black_box(from_value::<Owned>(&value).unwrap()));
        }),
    );
    add("embedding_to_json", &json_out, Box::new(write(Encoding::Json)));
    add("embedding_to_avro", &avro_out, Box::new(write(Encoding::Avro)));
    add(
        "embedding_from_json",
        &json_out,
        Box::new(|bytes| {
            drop(black_box(CustomerEmbedding::decode(bytes, &schemas).unwrap()));
        }),
    );
    add(
        "embedding_from_avro",
        &avro_out,
        Box::new(|bytes| {
            drop(black_box(CustomerEmbedding::decode(bytes, &schemas).unwrap()));
        }),
    );

    // In turns, so that a slow moment of the machine meets all of them.
    for _ in 0..rounds {
        timed.iter_mut().for_each(Timed::round);
    }
    let mut figures = serde_json::Map::new();
    println!("best of {rounds} rounds over {RECORDS} records");
    for one in &timed {
        let mb_s = one.bytes() * 1_000.0 / one.best_ns;
        println!("{:20} {:5.0} B  {:8.0} ns/event  {:7.0} MB/s", one.name, one.bytes(), one.best_ns, mb_s);
        let figure =
            serde_json::json!({ "bytes": one.bytes().round(), "ns": one.best_ns.round(), "mb_s": mb_s.round() });
        figures.insert(one.name.to_owned(), figure);
    }
    println!("{}", serde_json::Value::Object(figures));
}

fn a_click(rng: &mut Pcg64) -> Input<'static> {
    let kind = [ClickKind::Login, ClickKind::PageView, ClickKind::PageView, ClickKind::Action][rng.random_range(0..4)];
    let page = ["/accounts", "/transfer/new", "/cards/details", "/login", "/profile/limits"][rng.random_range(0..5)];
    let text = |name: String| Some(Cow::Owned(name));
    let mut context = Vec::new();
    if kind == ClickKind::Login {
        context.push(("balance".into(), f64::from(rng.random_range(0..1_000_000)) / 100.0));
        context.push(("credit_limit".into(), 5_000.0));
    }
    Input::Click(ClickEvent {
        event_id: format!("{:032x}", rng.random::<u128>()).into(),
        customer_id: text(format!("customer-{}", rng.random_range(0..1_000_000))),
        event_time: EventTime::parse(1_700_000_000_000 + rng.random_range(0..1_000_000_000)).unwrap(),
        kind,
        name: page.into(),
        channel: text(["web", "mobile"][rng.random_range(0..2)].to_owned()),
        session_id: text(format!("{:016x}", rng.random::<u64>())),
        device_id: text(format!("device-{}", rng.random_range(0..100_000))),
        context,
        attributes: vec![("country".into(), "ES".into()), ("app_version".into(), "7.12.3".into())],
    })
}

fn an_embedding(rng: &mut Pcg64) -> CustomerEmbedding {
    let time = |ms| EventTime::parse(ms).unwrap();
    CustomerEmbedding {
        customer_id: CustomerId::parse(&format!("customer-{}", rng.random_range(0..1_000_000))).unwrap(),
        sequence: rng.random_range(1..1_000),
        kind: EmbeddingKind::SessionClosed,
        embedding: (0..64).map(|_| rng.random::<f32>() - 0.5).collect(),
        model: ModelId::new("bank", "1"),
        cosine_shift: Some(rng.random()),
        gate: rng.random(),
        previous_as_of: Some(time(1_700_000_000_000)),
        scores: [("takeover".into(), vec![rng.random()])].into(),
        cold_start: false,
        cause: Cause {
            session_uid: format!("{:032x}", rng.random::<u128>()).into(),
            revision: 0,
            session_id: Some(format!("{:016x}", rng.random::<u64>()).into()),
            device_id: Some("device-77".into()),
            channel: Some("mobile".into()),
            session_start: time(1_700_000_000_000),
            session_end: time(1_700_000_060_000),
            closed_at: Some(time(1_700_000_060_000)),
            opened_by: OpenedBy::Login,
            close_reason: Some(CloseReason::Logout),
            event_count: 12,
            unknown_count: 0,
        },
        labels: [("country".into(), "ES".into())].into(),
        as_of: time(1_700_000_060_000),
        emitted_at: 1_700_000_060_040,
        source: Position { partition: 4, offset: rng.random_range(0..1_000_000) },
    }
}
