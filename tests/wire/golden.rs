//! Golden records: what each version wrote stays readable, and the present version writes its own again, byte for byte.
//! `UPDATE_GOLDEN=1` writes those of the present version anew.

use std::path::PathBuf;

use dce::config::Encoding;
use dce::types::{ClickKind, EventTime};
use dce::wire::avro::Schemas;
use dce::wire::click::{ClickEvent, Input};
use dce::wire::embedding::{CustomerEmbedding, EmbeddingKind, SessionSummary};

use super::outputs::an_example;
use super::schemas::{folder, text, versions};

/// The records, by the names of their files.
enum Golden {
    Click(Input<'static>),
    Embedding(Box<CustomerEmbedding>),
    Summary(Box<SessionSummary>),
}

impl Golden {
    fn encoded(&self, encoding: Encoding) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Click(input) => input.encode_into(encoding, &mut out),
            Self::Embedding(record) => record.encode_into(encoding, &mut out),
            Self::Summary(record) => record.encode_into(encoding, &mut out),
        }
        .unwrap();
        out
    }

    fn assert_read(&self, bytes: &[u8], schemas: &Schemas) {
        match self {
            Self::Click(input) => assert_eq!(dce::wire::decode(bytes, schemas).as_ref(), Ok(input)),
            Self::Embedding(record) => {
                assert_eq!(CustomerEmbedding::decode(bytes, schemas).as_ref(), Ok(record.as_ref()));
            }
            Self::Summary(record) => assert_eq!(SessionSummary::decode(bytes, schemas).as_ref(), Ok(record.as_ref())),
        }
    }
}

/// The golden records of one version; a later version adds its own and leaves these alone.
fn golden(version: &str) -> Vec<(&'static str, Golden)> {
    match version {
        "1" => version_1(),
        other => panic!("no golden records of version {other}"),
    }
}

fn version_1() -> Vec<(&'static str, Golden)> {
    let time = |ms| EventTime::parse(ms).unwrap();
    let login = ClickEvent {
        event_id: "e1".into(),
        customer_id: Some("ana".into()),
        event_time: time(1_700_000_100_000),
        kind: ClickKind::Login,
        name: "/login".into(),
        channel: Some("mobile".into()),
        session_id: Some("s-1".into()),
        device_id: Some("phone-7".into()),
        context: vec![("balance".into(), 1_234.56), ("limit".into(), -0.5)],
        attributes: vec![("country".into(), "ES".into()), ("quote".into(), "\"é😀\"\n".into())],
    };
    let logout = ClickEvent {
        event_id: "e2".into(),
        customer_id: None,
        event_time: time(0),
        kind: ClickKind::Logout,
        name: "".into(),
        channel: None,
        session_id: None,
        device_id: None,
        context: Vec::new(),
        attributes: Vec::new(),
    };
    let settled = an_example();
    let mut provisional = an_example();
    provisional.kind = EmbeddingKind::Provisional;
    provisional.cosine_shift = None;
    provisional.previous_as_of = None;
    provisional.cause.closed_at = None;
    provisional.cause.close_reason = None;
    provisional.scores.clear();
    provisional.labels.clear();
    let mut summary = SessionSummary {
        customer_id: settled.customer_id.clone(),
        sequence: settled.sequence,
        session_key: "d:6:mobile/phone-7".into(),
        cause: settled.cause.clone(),
        event_ids: vec!["e1".into(), "e1b".into()],
    };
    summary.cause.revision = 2;
    vec![
        ("ClickEvent.login", Golden::Click(Input::Click(login))),
        ("ClickEvent.logout", Golden::Click(Input::Click(logout))),
        ("ClickEvent.tick", Golden::Click(Input::Tick(time(1_700_000_300_000)))),
        ("CustomerEmbedding.settled", Golden::Embedding(Box::new(settled))),
        ("CustomerEmbedding.provisional", Golden::Embedding(Box::new(provisional))),
        ("SessionSummary.revised", Golden::Summary(Box::new(summary))),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn golden_records() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|flag| flag == "1");
    let schemas = Schemas::released();
    let versions = versions();
    for version in &versions {
        let present = Some(version) == versions.last();
        let path = |name: &str| -> PathBuf { folder().join("golden").join(version).join(name) };
        for (name, record) in golden(version) {
            let (json, avro) = (path(&format!("{name}.json")), path(&format!("{name}.avro.hex")));
            let written = [
                (&json, String::from_utf8(record.encoded(Encoding::Json)).unwrap() + "\n"),
                (&avro, hex(&record.encoded(Encoding::Avro))),
            ];
            if present {
                for (path, written) in written {
                    if update {
                        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                        std::fs::write(path, &written).unwrap();
                    }
                    assert_eq!(text(path), written, "{}", path.display());
                }
            }
            record.assert_read(text(&json).as_bytes(), &schemas);
            record.assert_read(&from_hex(&text(&avro)), &schemas);
        }
    }
}
