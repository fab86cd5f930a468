//! The client and the resolver against a registry that does what it is told.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::stub::{Reply, Stub};
use super::{Client, Event, Interrupted, OutputIds, RegisteredTopics, RegistryError, Resolver};
use crate::config::{Registry, SubjectStrategy};
use crate::stop::Stop;
use crate::telemetry::metrics::RegistryAnswer;
use crate::types::EventTime;
use crate::wire::click::Input;
use crate::wire::error::DecodeError;

const CLICK_EVENT: &str = include_str!("../../schemas/ClickEvent.avsc");

fn tick(id: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    Input::Tick(EventTime::parse(5).unwrap()).encode_by_id(id, &mut bytes).unwrap();
    bytes
}

fn found(avsc: &str) -> Reply {
    Reply::json(serde_json::json!({ "schema": avsc }))
}

fn said(reply: Reply) -> RegistryError {
    let stub = Stub::new(move |_| reply.clone());
    Client::new(&stub.settings()).unwrap().schema(7).unwrap_err()
}

fn prepare(resolver: &mut Resolver, values: &[Vec<u8>]) -> Vec<RegistryAnswer> {
    let mut answers = Vec::new();
    let prepared = resolver.prepare(values.iter().map(Vec::as_slice), &Stop::new(), &mut |event| {
        if let Event::Answered(answer) = event {
            answers.push(answer);
        }
        false
    });
    prepared.unwrap();
    answers
}

fn greet(resolver: &Resolver) -> Result<(), RegistryError> {
    resolver.greet(&Stop::new(), &mut |_| false).unwrap()
}

#[test]
fn an_id_is_asked_for_once_and_its_records_are_read() {
    let stub = Stub::new(|_| found(CLICK_EVENT));
    let mut resolver = Resolver::new(Some(&stub.settings())).unwrap();
    let values = [tick(258), b"{}".to_vec(), tick(258), vec![0, 0], Vec::new(), vec![0xc3, 1]];
    assert_eq!(prepare(&mut resolver, &values), [RegistryAnswer::Found]);
    assert_eq!(prepare(&mut resolver, &values), []);
    assert_eq!(stub.seen(), ["GET /api/schemas/ids/258"]);
    // "dce:p:äss", as UTF-8.
    assert_eq!(stub.last().authorization.as_deref(), Some("Basic ZGNlOnA6w6Rzcw=="));
    let read = crate::wire::decode(&values[0], resolver.schemas()).unwrap();
    assert_eq!(read, Input::Tick(EventTime::parse(5).unwrap()));
}

#[test]
fn what_is_away_and_what_is_not() {
    let away = |reply: Reply, part: &str| {
        let error = said(reply);
        assert!(matches!(&error, RegistryError::Away { why } if why.contains(part)), "{error}");
        assert!(error.is_passing());
    };
    away(Reply::Status(500, "oops".into()), "status 500 oops");
    away(Reply::complaint(503, 50_003), "status 503 as told (code 50003)");
    away(Reply::complaint(429, 42_900), "status 429");
    away(Reply::Status(404, "<html>nothing here".into()), "is the path of registry.url that of its API?");
    away(Reply::complaint(404, 40_401), "as told (code 40401)");
    away(Reply::Status(200, "<html>welcome to the hotel's wireless network".into()), "no registry's");
    away(Reply::Status(200, "{}".into()), "no registry's");
    away(Reply::Status(200, format!("[{}]", "1,".repeat(1 << 20))), "no registry's");
    away(Reply::Nothing, "");
    away(Reply::Raw(b"\x16\x03\x01 this is no HTTP".to_vec()), "");
    away(Reply::Raw(b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n{".to_vec()), "");
    away(Reply::Drip, "timeout");
    for status in [401, 403] {
        let error = said(Reply::Status(status, "go away".into()));
        assert!(matches!(&error, RegistryError::Refused { why, .. } if why.contains("go away")), "{error}");
        assert!(error.is_passing() && !error.to_string().contains("p:äss"), "{error}");
    }
    assert_eq!(said(Reply::complaint(404, 40_403)), RegistryError::NoSuchId { id: 7 });
    let json = Reply::json(serde_json::json!({ "schema": "{}", "schemaType": "JSON" }));
    assert_eq!(said(json).to_string(), "the schema registry's id 7: it is of the type JSON, not AVRO");
    let large = Reply::json(serde_json::json!({ "schema": "x".repeat(2 << 20) }));
    assert_eq!(said(large).to_string(), "the schema registry's id 7: its schema is larger than 1024 KiB");
}

#[test]
fn nobody_there_is_away_and_the_next_address_is_asked() {
    let stub = Stub::new(|_| found(CLICK_EVENT));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls = vec![format!("http://{closed}"), "http://name.invalid".to_owned()];
    let alone = Registry { urls: urls.clone(), ..stub.settings() };
    let error = Client::new(&alone).unwrap().schema(7).unwrap_err();
    assert!(matches!(&error, RegistryError::Away { why } if why.contains("; http://name.invalid: ")), "{error}");
    let client = Client::new(&Registry { urls: [urls, vec![stub.url.clone()]].concat(), ..stub.settings() }).unwrap();
    assert_eq!(client.schema(7).unwrap().avsc, CLICK_EVENT);
    assert_eq!(client.schema(8).unwrap().avsc, CLICK_EVENT);
}

#[test]
fn what_the_registry_does_not_know_or_nothing_can_be_read_by_refuses_the_record() {
    let stub = Stub::new(|request| match request.line.as_str() {
        "GET /api/schemas/ids/1" => Reply::complaint(404, 40_403),
        "GET /api/schemas/ids/2" => found(r#""string""#),
        "GET /api/schemas/ids/3" => found("{"),
        "GET /api/schemas/ids/4" => Reply::json(serde_json::json!({ "schema": "{}", "schemaType": "PROTOBUF" })),
        "GET /api/schemas/ids/5" => found(&CLICK_EVENT.replace("event_time", "time")),
        _ => Reply::Nothing,
    });
    let mut resolver = Resolver::new(Some(&stub.settings())).unwrap();
    let values: Vec<_> = (1..=5).map(tick).collect();
    let answers = prepare(&mut resolver, &values);
    use RegistryAnswer::{Found, Unknown, Unusable};
    assert_eq!(answers, [Unknown, Found, Found, Unusable, Found, Unknown]);
    assert_eq!(prepare(&mut resolver, &values), [], "what was said is kept");
    let whys: Vec<_> =
        values.iter().map(|value| crate::wire::decode(value, resolver.schemas()).unwrap_err().to_string()).collect();
    assert_eq!(whys[0], "the schema registry knows no schema by the id 1");
    assert_eq!(whys[1], "the schema registry's id 2: cannot be read as a ClickEvent: it is no record");
    assert!(whys[2].starts_with("the schema registry's id 3: no Avro schema: "), "{}", whys[2]);
    assert_eq!(whys[3], "the schema registry's id 4: it is of the type PROTOBUF, not AVRO");
    assert_eq!(whys[4], "the schema registry's id 5: cannot be read as a ClickEvent: the field event_time is missing");
    // Beyond Java's int nobody is asked.
    assert_eq!(prepare(&mut resolver, &[tick(u32::MAX)]), []);
    let error = crate::wire::decode(&tick(u32::MAX), resolver.schemas()).unwrap_err();
    assert_eq!(error, DecodeError::NoSuchId { id: u32::MAX });
}

#[test]
fn schemas_that_name_others_are_put_together() {
    let kind = r#"{"type":"enum","name":"Kind","namespace":"bank","symbols":["LOGIN","TICK"]}"#;
    let click = r#"{"type":"record","name":"Click","namespace":"bank","fields":[{"name":"event_time","type":"long"},
        {"name":"event_id","type":"string"},{"name":"kind","type":"Kind"}]}"#;
    let refers = |schema: &str, subject: &str| serde_json::json!({ "schema": schema, "references": [{ "name": "bank.Kind", "subject": subject, "version": 3 }] });
    let (one, round) = (refers(click, "ki/nd"), refers(click, "round"));
    let kind_itself = kind.to_owned();
    let stub = Stub::new(move |request| match request.line.as_str() {
        "GET /api/schemas/ids/7" => Reply::json(one.clone()),
        "GET /api/schemas/ids/8" | "GET /api/subjects/round/versions/3" => Reply::json(round.clone()),
        "GET /api/subjects/ki%2Fnd/versions/3" => found(&kind_itself),
        _ => Reply::complaint(404, 40_402),
    });
    let mut resolver = Resolver::new(Some(&stub.settings())).unwrap();
    let bytes = [&[0, 0, 0, 0, 7][..], &[10, 0, 2]].concat();
    assert_eq!(prepare(&mut resolver, std::slice::from_ref(&bytes)), [RegistryAnswer::Found]);
    let read = crate::wire::decode(&bytes, resolver.schemas()).unwrap();
    assert_eq!(read, Input::Tick(EventTime::parse(5).unwrap()));
    // One that names itself, and nobody who has the type.
    prepare(&mut resolver, &[tick(8)]);
    assert!(crate::wire::decode(&tick(8), resolver.schemas()).is_err());
    stub.now(move |request| match request.line.as_str() {
        "GET /api/schemas/ids/9" => Reply::json(refers(click, "gone")),
        _ => Reply::complaint(404, 40_401),
    });
    prepare(&mut resolver, &[tick(9)]);
    let why = crate::wire::decode(&tick(9), resolver.schemas()).unwrap_err().to_string();
    assert_eq!(why, "the schema registry's id 9: it refers to version 3 of gone, which is not there");
}

#[test]
fn a_registry_that_is_away_is_waited_for_and_nothing_is_decided() {
    let stub = Stub::new(|_| Reply::Nothing);
    let mut resolver = Resolver::new(Some(&stub.settings())).unwrap();
    let waits = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&waits);
    let value = tick(7);
    let prepared = resolver.prepare([value.as_slice()], &Stop::new(), &mut |event| {
        match event {
            Event::Waiting(error) => {
                assert!(error.is_passing());
                let waits = counted.fetch_add(1, Ordering::SeqCst);
                match waits {
                    0 => stub.now(|_| Reply::Status(401, String::new())),
                    1 => stub.now(|_| Reply::Status(503, String::new())),
                    2 => stub.now(|_| found(CLICK_EVENT)),
                    _ => {}
                }
            }
            Event::Asking | Event::Answered(_) => {}
        }
        false
    });
    assert_eq!(prepared, Ok(()));
    assert!(waits.load(Ordering::SeqCst) >= 3);
    assert!(crate::wire::decode(&value, resolver.schemas()).is_ok());
}

#[test]
fn the_wait_ends_with_the_stop_or_when_the_caller_gives_up() {
    let stub = Stub::new(|_| Reply::Nothing);
    let mut resolver = Resolver::new(Some(&stub.settings())).unwrap();
    let (stop, value) = (Stop::new(), tick(7));
    let gave_up = resolver.prepare([value.as_slice()], &stop, &mut |event| matches!(event, Event::Waiting(_)));
    assert_eq!(gave_up, Err(Interrupted::GaveUp));
    let asked_to = stop.clone();
    let stopped = resolver.prepare([value.as_slice()], &stop, &mut |_| {
        asked_to.stop();
        false
    });
    assert_eq!(stopped, Err(Interrupted::Stopped));
    assert_eq!(crate::wire::decode(&value, resolver.schemas()), Err(DecodeError::IdNotAsked { id: 7 }));
}

#[test]
fn who_only_looks_asks_a_registry_that_is_away_once_in_a_while() {
    let stub = Stub::new(|_| Reply::Status(503, String::new()));
    let mut resolver = Resolver::new(Some(&stub.settings())).unwrap();
    let stop = Stop::new();
    for id in 1..=20 {
        let schemas = resolver.glance(&tick(id), &stop);
        assert_eq!(crate::wire::decode(&tick(id), schemas), Err(DecodeError::IdNotAsked { id }));
    }
    assert_eq!(stub.seen().len(), 1);
    stub.now(|_| found(CLICK_EVENT));
    assert!(crate::wire::decode(&tick(1), resolver.glance(&tick(1), &stop)).is_err(), "not asked yet");
    resolver.away_ms = 0;
    assert!(crate::wire::decode(&tick(1), resolver.glance(&tick(1), &stop)).is_ok());
    // Answered, it is asked for the next one at once.
    resolver.away_ms = 60_000;
    assert!(crate::wire::decode(&tick(2), resolver.glance(&tick(2), &stop)).is_ok());
    assert_eq!(stub.seen().len(), 3);
}

#[test]
fn who_only_looks_ends_with_the_stop() {
    let stub = Stub::new(|_| Reply::Drip);
    let slow = Registry { timeout: Duration::from_secs(10), ..stub.settings() };
    let mut resolver = Resolver::new(Some(&slow)).unwrap();
    let (stop, clock) = (Stop::new(), crate::telemetry::Clock::start());
    let stopper = stop.clone();
    let soon = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stopper.stop();
    });
    for id in 1..=20 {
        resolver.glance(&tick(id), &stop);
    }
    soon.join().unwrap();
    assert!(clock.uptime().0 < 5_000, "neither the answer nor each record was waited for");
    assert_eq!(stub.seen().len(), 1, "and nobody asked afterwards");
}

#[test]
fn whoever_is_called_away_leaves_a_slow_registry_to_its_timeout() {
    let stub = Stub::new(|_| Reply::Drip);
    let slow = Registry { timeout: Duration::from_secs(10), ..stub.settings() };
    let mut resolver = Resolver::new(Some(&slow)).unwrap();
    let clock = crate::telemetry::Clock::start();
    let value = tick(7);
    let gave_up = resolver.prepare([value.as_slice()], &Stop::new(), &mut |event| matches!(event, Event::Asking));
    assert_eq!(gave_up, Err(Interrupted::GaveUp));
    let stop = Stop::new();
    stop.stop();
    assert_eq!(resolver.prepare([value.as_slice()], &stop, &mut |_| false), Err(Interrupted::Stopped));
    assert_eq!(resolver.greet(&stop, &mut |_| false), Err(Interrupted::Stopped));
    assert!(clock.uptime().0 < 5_000, "the answer was not waited for");
}

#[test]
fn a_replica_that_lags_rejects_nothing() {
    let mut asked = 0;
    let stub = Stub::new(move |_| {
        asked += 1;
        if asked == 1 { Reply::complaint(404, 40_403) } else { found(CLICK_EVENT) }
    });
    let mut resolver = Resolver::new(Some(&stub.settings())).unwrap();
    let answers = prepare(&mut resolver, &[tick(7)]);
    assert_eq!(answers, [RegistryAnswer::Unknown, RegistryAnswer::Found]);
    assert!(crate::wire::decode(&tick(7), resolver.schemas()).is_ok());
    // With two addresses it is the other one that is asked again.
    let (behind, ahead) = (Stub::new(|_| Reply::complaint(404, 40_403)), Stub::new(|_| found(CLICK_EVENT)));
    let both = Registry { urls: vec![behind.url.clone(), ahead.url.clone()], ..stub.settings() };
    let mut resolver = Resolver::new(Some(&both)).unwrap();
    prepare(&mut resolver, &[tick(7)]);
    assert!(crate::wire::decode(&tick(7), resolver.schemas()).is_ok());
    assert_eq!((behind.seen().len(), ahead.seen().len()), (1, 1));
}

#[test]
fn an_id_that_did_not_exist_is_asked_for_again_later() {
    let stub = Stub::new(|_| Reply::complaint(404, 40_403));
    let mut resolver = Resolver::new(Some(&stub.settings())).unwrap();
    prepare(&mut resolver, &[tick(7)]);
    assert_eq!(prepare(&mut resolver, &[tick(7)]), []);
    stub.now(|_| found(CLICK_EVENT));
    resolver.no_such_ms = 0;
    assert_eq!(prepare(&mut resolver, &[tick(7)]), [RegistryAnswer::Found]);
    assert!(crate::wire::decode(&tick(7), resolver.schemas()).is_ok());
}

#[test]
fn without_a_registry_nothing_is_asked_and_framed_records_are_refused() {
    let mut resolver = Resolver::new(None).unwrap();
    let value = tick(7);
    assert_eq!(prepare(&mut resolver, std::slice::from_ref(&value)), []);
    let refused = crate::wire::decode(&value, resolver.schemas());
    assert_eq!(refused, Err(DecodeError::NoRegistry { id: Some(7) }));
    assert_eq!(greet(&resolver), Ok(()));
}

const TOPICS: RegisteredTopics<'_> =
    RegisteredTopics { embeddings: "emb", live: Some("emb-live"), sessions: Some("ses"), ticks: None };

fn outputs(registry: &Registry) -> Result<OutputIds, RegistryError> {
    outputs_of(registry, &TOPICS)
}

fn outputs_of(registry: &Registry, topics: &RegisteredTopics<'_>) -> Result<OutputIds, RegistryError> {
    let resolver = Resolver::new(Some(registry)).unwrap();
    resolver.register_outputs(registry, topics, &Stop::new(), &mut |_| false).unwrap()
}

#[test]
fn our_schemas_stand_under_the_subjects_of_the_strategy() {
    let subjects = |strategy: SubjectStrategy, register: bool| {
        let stub = Stub::new(|request| {
            assert!(request.body.contains("dce.v1"));
            Reply::json(serde_json::json!({ "id": if request.body.contains("event_ids") { 4 } else { 3 } }))
        });
        let registry = Registry { subject_strategy: strategy, register, ..stub.settings() };
        assert_eq!(outputs(&registry), Ok(OutputIds { embedding: 3, session: Some(4), click: None }));
        stub.seen()
    };
    let topic = ["POST /api/subjects/ses-value", "POST /api/subjects/emb-live-value", "POST /api/subjects/emb-value"];
    assert_eq!(subjects(SubjectStrategy::TopicName, false), topic);
    assert_eq!(subjects(SubjectStrategy::TopicName, true), topic.map(|line| format!("{line}/versions")));
    assert_eq!(
        subjects(SubjectStrategy::RecordName, false),
        ["POST /api/subjects/dce.v1.SessionSummary", "POST /api/subjects/dce.v1.CustomerEmbedding"]
    );
    assert_eq!(
        subjects(SubjectStrategy::TopicRecordName, false),
        [
            "POST /api/subjects/ses-dce.v1.SessionSummary",
            "POST /api/subjects/emb-live-dce.v1.CustomerEmbedding",
            "POST /api/subjects/emb-dce.v1.CustomerEmbedding"
        ]
    );
}

/// Whatever the settings say of ours.
#[test]
fn the_clicks_schema_is_looked_up_and_never_registered() {
    for (register, strategy, subject) in [
        (true, SubjectStrategy::TopicName, "clicks-value"),
        (false, SubjectStrategy::TopicRecordName, "clicks-dce.v1.ClickEvent"),
    ] {
        let stub = Stub::new(|request| {
            let is_click = request.body.contains("ClickEvent");
            Reply::json(serde_json::json!({ "id": if is_click { 5 } else { 3 } }))
        });
        let registry = Registry { subject_strategy: strategy, register, ..stub.settings() };
        let topics = RegisteredTopics { live: None, sessions: None, ticks: Some("clicks"), ..TOPICS };
        let ids = outputs_of(&registry, &topics);
        assert_eq!(ids, Ok(OutputIds { embedding: 3, session: None, click: Some(5) }));
        assert_eq!(stub.seen()[0], format!("POST /api/subjects/{subject}"));
    }
}

#[test]
fn what_the_registry_does_not_take_is_an_error_and_an_outage_is_not() {
    let refusal = |reply: Reply, register: bool| {
        let stub = Stub::new(move |_| reply.clone());
        outputs(&Registry { register, ..stub.settings() }).unwrap_err()
    };
    let error = refusal(Reply::complaint(409, 409), true).to_string();
    assert!(error.contains("under the subject ses-value: as told (code 409)"), "{error}");
    let error = refusal(Reply::complaint(422, 42_201), true).to_string();
    assert!(error.contains("as told (code 42201)"), "{error}");
    let error = refusal(Reply::complaint(404, 40_401), false).to_string();
    assert!(error.contains("does not stand under the subject ses-value"), "{error}");
    assert!(matches!(refusal(Reply::Status(401, String::new()), true), RegistryError::Refused { .. }));
    let mut asked = 0;
    let stub = Stub::new(move |_| {
        asked += 1;
        if asked < 3 { Reply::Status(503, String::new()) } else { Reply::json(serde_json::json!({ "id": 9 })) }
    });
    assert_eq!(outputs(&stub.settings()), Ok(OutputIds { embedding: 9, session: Some(9), click: None }));
}

#[test]
fn the_start_says_whether_the_login_is_taken_and_waits_for_nobody() {
    let stub = Stub::new(|_| Reply::Status(200, "[\"a\"]".into()));
    let client = Client::new(&stub.settings()).unwrap();
    assert_eq!(client.ping(), Ok(stub.url.clone()));
    stub.now(|_| Reply::Status(200, "<html>".into()));
    assert!(matches!(client.ping(), Err(RegistryError::Away { .. })));
    let resolver = Resolver::new(Some(&stub.settings())).unwrap();
    assert_eq!(greet(&resolver), Ok(()));
    stub.now(|_| Reply::Status(403, String::new()));
    assert!(matches!(greet(&resolver), Err(RegistryError::Refused { .. })));
}

#[test]
fn a_file_of_certificates_must_hold_one() {
    let stub = Stub::new(|_| Reply::Nothing);
    let file = |path: &str| Client::new(&Registry { ca_file: Some(path.into()), ..stub.settings() });
    assert!(file("none.pem").unwrap_err().to_string().starts_with("registry.ca_file = none.pem: "));
    assert!(file("Cargo.toml").unwrap_err().to_string().contains("no certificate in PEM"));
}

#[test]
fn a_slow_registry_takes_no_longer_than_its_limit() {
    let stub = Stub::new(|_| Reply::Drip);
    let client = Client::new(&Registry { timeout: Duration::from_millis(150), ..stub.settings() }).unwrap();
    let clock = crate::telemetry::Clock::start();
    assert!(matches!(client.schema(1), Err(RegistryError::Away { .. })));
    assert!(clock.uptime().0 < 5_000, "not the whole answer was waited for");
}
