//! The whole program on a real broker: `dce run` against `dce sessions` on the same records, killed and not killed.
//! `DCE_TEST_CLICKS=FILE` takes another stream than the generated one (lines with partition 0 and 1 and record_time).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use dce::config::Encoding;
use dce::types::{ClickKind, EventTime};
use dce::wire::avro::Schemas;
use dce::wire::click::ClickEvent;
use dce::wire::embedding::{CustomerEmbedding, SessionSummary};
use serde_json::Value;

use crate::harness::{Bed, Click, Dce, Got};

pub(crate) const PARTITIONS: usize = 2;

/// What a customer's rows are, in order.
pub(crate) type Rows = BTreeMap<String, Vec<Value>>;

/// Output of the binary itself.
pub(crate) fn dce_says(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dce")).args(arguments).output().expect("the binary starts");
    assert!(output.status.success(), "dce {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub(crate) fn dirty_clicks(seed: &str) -> String {
    if let Ok(path) = std::env::var("DCE_TEST_CLICKS") {
        return std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("DCE_TEST_CLICKS={path}: {error}"));
    }
    let customers = "--customers=300 --events=12000 --partitions=2 --takeovers=0.1";
    let dirt = "--shuffle=30 --duplicate=0.05 --drop-logout=0.2";
    let arguments = format!("generate --seed={seed} {customers} {dirt} --lag-customers 0.1 600");
    dce_says(&arguments.split(' ').collect::<Vec<_>>())
}

/// The sessionizer's own rows for the lines: session rows by customer, and how many were rejected by reason.
/// `open` counts rows of open sessions.
pub(crate) fn expected(bed: &Bed, clicks: &str, flags: &[&str]) -> (Rows, BTreeMap<String, usize>) {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(bed.name("clicks.ndjson"));
    std::fs::write(&path, clicks).expect("a temporary file");
    let path_text = path.to_str().expect("UTF-8");
    let said = dce_says(&[&["sessions", "--json", path_text], flags].concat());
    std::fs::remove_file(&path).expect("it is ours");
    let (mut sessions, mut rejects) = (Rows::new(), BTreeMap::new());
    for line in said.lines() {
        let row: Value = serde_json::from_str(line).expect("a row");
        match row["what"].as_str() {
            Some("session") => sessions.entry(text(&row["customer_id"])).or_default().push(row),
            Some("provisional") => *rejects.entry("open".to_owned()).or_default() += 1,
            Some("reject") => *rejects.entry(text(&row["why"])).or_default() += 1,
            _ => {}
        }
    }
    (sessions, rejects)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[derive(Clone)]
pub(crate) struct Outputs {
    pub(crate) input: String,
    pub(crate) embeddings: String,
    pub(crate) live: String,
    pub(crate) sessions: String,
    pub(crate) rejected: String,
    pub(crate) state: String,
}

impl Outputs {
    pub(crate) fn new(bed: &Bed, input: &str, what: &str) -> Self {
        Self::of(bed, input, what, PARTITIONS)
    }

    pub(crate) fn of(bed: &Bed, input: &str, what: &str, partitions: usize) -> Self {
        let topic = |name: &str| bed.topic(&format!("{what}-{name}"), partitions);
        Self {
            input: input.to_owned(),
            embeddings: topic("embeddings"),
            live: topic("live"),
            sessions: topic("sessions"),
            rejected: topic("rejected"),
            state: topic("state"),
        }
    }

    pub(crate) fn run(&self, bed: &Bed, app: &str, more: &[&str]) -> Dce {
        bed.dce(&self.arguments(bed, app, more).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Of `dce run`.
    pub(crate) fn arguments(&self, bed: &Bed, app: &str, more: &[&str]) -> Vec<String> {
        let settings = [
            "http.listen=off".to_owned(),
            format!("app.id={}", bed.name(app)),
            format!("topics.clickstream={}", self.input),
            format!("topics.embeddings={}", self.embeddings),
            format!("topics.embeddings_live={}", self.live),
            format!("topics.sessions={}", self.sessions),
            format!("topics.rejected={}", self.rejected),
            format!("topics.state={}", self.state),
        ];
        let settings = settings.into_iter().chain(more.iter().map(|&setting| setting.to_owned()));
        let settings = settings.flat_map(|setting| ["--set".to_owned(), setting]);
        ["run".to_owned()].into_iter().chain(settings).collect()
    }

    /// The sessions topic by customer, in the form of the sessionizer's rows.
    fn session_rows(&self, bed: &Bed) -> Rows {
        let mut rows = Rows::new();
        for got in bed.read_all(&self.sessions) {
            let value: Value = serde_json::from_str(&got.value.expect("a value")).expect("JSON");
            rows.entry(got.key.expect("a key")).or_default().push(value);
        }
        rows
    }
}

/// All records of a topic without what two runs may differ in.
pub(crate) fn records(bed: &Bed, topic: &str) -> BTreeMap<i32, Vec<Value>> {
    let mut records: BTreeMap<i32, Vec<Value>> = BTreeMap::new();
    for got in bed.read_all(topic) {
        let mut value: Value = serde_json::from_str(&got.value.expect("a value")).expect("JSON");
        assert_eq!(value["source_partition"], got.partition, "outputs go to the input's partition");
        value.as_object_mut().expect("an object").remove("emitted_at");
        records.entry(got.partition).or_default().push(value);
    }
    records
}

fn assert_same_sessions(found: &Rows, want: &Rows) {
    assert_eq!(found.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "the same customers");
    for (customer, want) in want {
        let found = &found[customer];
        assert_eq!(found.len(), want.len(), "{customer}: each session once");
        for (found, want) in found.iter().zip(want) {
            let pairs = [
                ("sequence", "sequence"),
                ("session_key", "key"),
                ("session_uid", "uid"),
                ("revision", "revision"),
                ("session_start", "start"),
                ("session_end", "end"),
                ("opened_by", "opened_by"),
                ("close_reason", "reason"),
                ("event_ids", "events"),
            ];
            for (ours, theirs) in pairs {
                assert_eq!(found[ours], want[theirs], "{customer}: {ours} of {found}");
            }
        }
    }
}

#[test]
fn the_topics_hold_what_the_sessionizer_says() {
    let bed = Bed::new("pipeline");
    let clicks = dirty_clicks("1");
    let (want, rejects) = expected(&bed, &clicks, &[]);
    let count: usize = want.values().map(Vec::len).sum();
    let input = bed.topic("clicks", PARTITIONS);
    bed.produce_ndjson(&input, &clicks);
    let outputs = Outputs::new(&bed, &input, "a");
    let mut dce = outputs.run(&bed, "a", &[]);
    bed.collector(&outputs.sessions).until(count);
    let rejected: usize = rejects.iter().filter(|(why, _)| *why != "duplicate").map(|(_, n)| n).sum();
    bed.collector(&outputs.rejected).until(rejected);
    dce.signal("TERM");
    assert!(dce.wait().success(), "SIGTERM drains and is a success:\n{}", dce.said());

    assert_same_sessions(&outputs.session_rows(&bed), &want);
    assert_eq!(bed.read_all(&outputs.rejected).len(), rejected, "{rejects:?}; a duplicate is only counted");
    let embeddings: Vec<Value> = records(&bed, &outputs.embeddings).into_values().flatten().collect();
    assert_eq!(embeddings.len(), count, "an embedding a session");
    for record in embeddings {
        let vector: Vec<f64> = record["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "unit length: {length}");
        let is_first = record["sequence"] == 1;
        assert_eq!(record["cosine_shift"].is_null(), is_first, "{record}");
    }
}

#[test]
fn a_killed_worker_changes_nothing() {
    let bed = Bed::new("killed");
    let clicks = dirty_clicks("2");
    let flags = ["--provisional-every", "3"];
    let settings = ["provisional.every_events=3", "epoch.events_max=500"];
    let (want, counts) = expected(&bed, &clicks, &flags);
    let count: usize = want.values().map(Vec::len).sum();
    let live_count = count + counts["open"];
    let input = bed.topic("clicks", PARTITIONS);
    bed.produce_ndjson(&input, &clicks);

    let calm = Outputs::new(&bed, &input, "calm");
    let dce = calm.run(&bed, "calm", &settings);
    bed.collector(&calm.live).until(live_count);
    drop(dce);

    let killed = Outputs::new(&bed, &input, "killed");
    let mut seen = bed.collector(&killed.sessions);
    for part in 1..4 {
        let mut dce = killed.run(&bed, "killed", &settings);
        seen.until(count * part / 4);
        dce.kill();
    }
    let _dce = killed.run(&bed, "killed", &settings);
    seen.until(count);
    bed.collector(&killed.live).until(live_count);

    assert_same_sessions(&killed.session_rows(&bed), &want);
    for (calm, killed) in [(&calm.embeddings, &killed.embeddings), (&calm.live, &killed.live)] {
        let (want, found) = (records(&bed, calm), records(&bed, killed));
        for (partition, want) in want {
            assert_eq!(found[&partition], want, "partition {partition}: the same records in the same order, each once");
        }
    }
}

#[test]
fn at_least_once_a_killed_worker_repeats_and_loses_nothing() {
    let bed = Bed::new("repeats");
    let input = bed.topic("clicks", PARTITIONS);
    bed.produce_ndjson(&input, &dirty_clicks("3"));
    let settings = ["provisional.every_events=3", "epoch.events_max=500"];
    let calm = Outputs::new(&bed, &input, "calm");
    let want = run_to_the_end(&bed, &calm, "calm", &settings);

    let settings = [&settings[..], &["delivery=at_least_once"]].concat();
    let killed = Outputs::new(&bed, &input, "killed");
    let count: usize = want.values().map(Vec::len).sum();
    let mut seen = bed.collector(&killed.live);
    for part in 1..4 {
        let mut dce = killed.run(&bed, "killed", &settings);
        seen.until(count * part / 4);
        dce.kill();
    }
    let found = run_to_the_end(&bed, &killed, "killed", &settings);
    for (partition, want) in want {
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let mut firsts = Vec::new();
        for record in &found[&partition] {
            let sequence = record["sequence"].as_u64().unwrap();
            let newest = newest.entry(text(&record["customer_id"])).or_default();
            if sequence > *newest {
                *newest = sequence;
                firsts.push(record.clone());
            }
        }
        assert_eq!(
            firsts, want,
            "partition {partition}: who skips a sequence that is not new reads what is exactly once"
        );
        assert!(found[&partition].iter().all(|record| want.contains(record)), "what is repeated is the same");
    }
}

/// Runs until nothing more is to be read, drains, and gives the live topic.
fn run_to_the_end(bed: &Bed, outputs: &Outputs, app: &str, settings: &[&str]) -> BTreeMap<i32, Vec<Value>> {
    read_to_the_end(bed, outputs, app, settings);
    records(bed, &outputs.live)
}

/// Runs until all that is in the input by now is read, and drains.
pub(crate) fn read_to_the_end(bed: &Bed, outputs: &Outputs, app: &str, settings: &[&str]) {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let mut dce = outputs.run(bed, app, settings);
    // No other call's: who reads an input again meets theirs too.
    let marker = bed.name(&format!("end-{}", CALLS.fetch_add(1, Ordering::Relaxed)));
    let partitions = bed.partitions(&outputs.input);
    let end = |partition| Click { timestamp_ms: Some(0), ..Click::new(partition, &marker, "no click") };
    let mut upto = bed.read_all(&outputs.rejected).len() + 1;
    bed.produce(&outputs.input, (0..partitions).map(end));
    let mut rejected = bed.collector(&outputs.rejected);
    let is_marker = |got: &&Got| got.key.as_deref() == Some(&*marker);
    let ended = |all: &[Got]| all.iter().filter(is_marker).map(|got| got.partition).collect::<BTreeSet<i32>>().len();
    while ended(rejected.until(upto)) < usize::try_from(partitions).unwrap() {
        upto += 1;
    }
    dce.signal("TERM");
    assert!(dce.wait().success(), "{}", dce.said());
}

#[test]
fn bad_records_are_set_aside_with_their_reason_and_the_stream_goes_on() {
    let bed = Bed::new("bad");
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::new(&bed, &input, "bad");
    let click = |id: &str, customer: &str, time: i64, kind: &str| {
        format!(r#"{{"event_id":"{id}","customer_id":"{customer}","event_time":{time},"kind":"{kind}","name":"home"}}"#)
    };
    let at = |key: Option<&str>, value: &str| Click {
        key: key.map(str::to_owned),
        timestamp_ms: Some(1_000_000),
        ..Click::new(0, "", value)
    };
    let mut logout = at(Some("ana"), &click("e6", "ana", 999_500, "LOGOUT"));
    logout.headers = vec![("traceparent".into(), "00-1-2-01".into())];
    let long = "x".repeat(257);
    bed.produce(
        &input,
        [
            at(Some("ana"), &click("e1", "ana", 999_000, "LOGIN")),
            at(Some("ana"), "{\"event_id\":"),
            at(None, &click("e2", "ana", 999_001, "ACTION")),
            at(Some("ben"), &click("e3", "ana", 999_002, "ACTION")),
            at(Some(""), &click("e4", "", 999_003, "ACTION")),
            at(Some("ana"), &click("e5", "ana", 9_000_000_000_000, "ACTION")),
            at(Some("ana"), &click(&long, "ana", 999_004, "ACTION")),
            logout,
        ],
    );
    let _dce = outputs.run(&bed, "bad", &[]);
    let mut rejected = bed.collector(&outputs.rejected);
    let reasons: Vec<String> = rejected.until(6).iter().map(|got| got.headers["dce-reason"].clone()).collect();
    assert_eq!(reasons, ["decode", "key", "key", "customer", "future", "decode"]);
    let got = &rejected.until(6)[4];
    assert_eq!(got.key.as_deref(), Some("ana"));
    assert_eq!(got.headers["dce-source-topic"], input);
    assert_eq!(got.headers["dce-source-offset"], "5");
    assert!(got.value.as_deref().is_some_and(|value| value.contains("9000000000000")), "the bytes as they came");
    let mut embeddings = bed.collector(&outputs.embeddings);
    let first = &embeddings.until(1)[0];
    assert_eq!(first.headers["traceparent"], "00-1-2-01", "it goes on with what the record causes");
    let record: Value = serde_json::from_str(first.value.as_deref().unwrap()).unwrap();
    assert_eq!((&record["event_count"], &record["close_reason"]), (&Value::from(2), &Value::from("LOGOUT")));

    // A null value erases: a tombstone, and the customer begins at 1 again.
    let mut erasure = at(Some("ana"), "");
    erasure.value = None;
    let again = [("e7", "LOGIN"), ("e8", "LOGOUT")].map(|(id, kind)| at(Some("ana"), &click(id, "ana", 999_600, kind)));
    bed.produce(&input, [vec![erasure], again.to_vec()].concat());
    let got = embeddings.until(3);
    assert_eq!((got[1].key.as_deref(), got[1].value.as_deref()), (Some("ana"), None));
    let record: Value = serde_json::from_str(got[2].value.as_deref().unwrap()).unwrap();
    assert_eq!((&record["sequence"], &record["cold_start"]), (&Value::from(1), &Value::from(true)));
}

#[test]
fn other_rules_do_not_go_on_from_what_was_made_with_these() {
    let bed = Bed::new("rules");
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::new(&bed, &input, "rules");
    let click = |id: &str, time: i64, kind: &str| {
        let value =
            format!(r#"{{"event_id":"{id}","customer_id":"ana","event_time":{time},"kind":"{kind}","name":"home"}}"#);
        Click { timestamp_ms: Some(1_000_000), ..Click::new(0, "ana", &value) }
    };
    bed.produce(&input, [click("e1", 1, "LOGIN"), click("e2", 2, "LOGOUT")]);
    let mut dce = outputs.run(&bed, "rules", &[]);
    bed.collector(&outputs.embeddings).until(1);
    dce.signal("TERM");
    assert!(dce.wait().success());
    let mut dce = outputs.run(&bed, "rules", &["session.gap=20m"]);
    assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
    assert!(dce.said().contains("other session rules"), "{}", dce.said());
    let mut dce = outputs.run(&bed, "rules", &[]);
    bed.produce(&input, [click("e3", 3, "LOGIN"), click("e4", 4, "LOGOUT")]);
    let mut embeddings = bed.collector(&outputs.embeddings);
    let sequences = embeddings.until(2).iter().map(|got| {
        let record: Value = serde_json::from_str(got.value.as_deref().unwrap()).unwrap();
        record["sequence"].as_u64().unwrap()
    });
    assert_eq!(sequences.collect::<Vec<_>>(), [1, 2], "under the same rules it goes on where it was");
    dce.kill();
}

#[test]
fn what_cannot_work_is_refused_at_the_start_with_its_fix() {
    let bed = Bed::new("refused");
    let missing = format!("topics.clickstream={}", bed.name("nowhere"));
    let compacted = format!("topics.clickstream={}", bed.topic_of("compacted", 1, &[("cleanup.policy", "compact")]));
    let outputs = ["embeddings", "rejected", "state"].map(|what| format!("topics.{what}={}", bed.topic(what, 1)));
    let cases = [
        (
            vec!["run", "--set", &compacted, "--set", &outputs[0], "--set", &outputs[1], "--set", &outputs[2]],
            "is compacted",
        ),
        (vec!["run", "--set", &missing], "--create-topics"),
        (vec!["run", "--create-topics", "--set", &missing, "--set", "model.path=models/none"], "models/none"),
    ];
    for (arguments, fix) in cases {
        let mut dce = bed.dce(&[arguments, vec!["--set", "http.listen=off"]].concat());
        assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
        assert!(dce.said().contains(fix), "{}", dce.said());
    }
}

#[test]
fn records_of_any_size_stop_nothing() {
    let mut bed = Bed::new("huge");
    // What a broker takes may be more than what a client sends by itself.
    bed.settings.producer.insert("message.max.bytes".to_owned(), "8000000".to_owned());
    let input = bed.topic_of("clicks", PARTITIONS, &[("max.message.bytes", "8000000")]);
    let outputs = Outputs::new(&bed, &input, "huge");
    let click = |id: &str, time: i64, kind: &str, more: &str| {
        format!(r#"{{"event_id":"{id}","customer_id":"ana","event_time":{time},"kind":"{kind}","name":"home"{more}}}"#)
    };
    let at = |key: &str, value: &str| Click { timestamp_ms: Some(1_000_000), ..Click::new(0, key, value) };
    let huge = "x".repeat(1_010_000);
    let mut traced = at("ana", &click("e2", 2, "LOGOUT", ""));
    traced.headers = vec![("traceparent".into(), huge.clone())];
    let mut clicks = vec![
        at("ana", &click("e1", 1, "LOGIN", &format!(r#","attributes":{{"label":"{huge}"}}"#))),
        traced,
        at(&huge, &click("e3", 3, "LOGIN", "")),
        at("ana", &format!("{{{huge}")),
    ];
    // A session whose ids alone are larger: control characters are six bytes each in JSON.
    let ids = (0..1_000).map(|n| format!("{}{n:04}", r"\u0001".repeat(240)));
    clicks.extend((10..).zip(ids).map(|(time, id)| at("ana", &click(&id, time, "ACTION", ""))));
    clicks.push(at("ana", &click("e4", 5_000, "LOGIN", "")));
    clicks.push(at("ana", &click("e5", 5_001, "LOGOUT", "")));
    bed.produce(&input, clicks);
    let _dce = outputs.run(&bed, "huge", &[r#"embedding.labels=["label"]"#]);
    let mut sessions = bed.collector(&outputs.sessions);
    let got = sessions.until(3);
    assert_eq!(got[1].headers["dce-event-ids-left-out"], "1000");
    assert!(!got[0].headers.contains_key("traceparent"), "an implausible trace does not go on");
    let mut rejected = bed.collector(&outputs.rejected);
    let got = rejected.until(2);
    assert_eq!((got[0].key.as_deref(), &*got[0].headers["dce-key-left-out"]), (None, "1010000"));
    assert_eq!((got[1].key.as_deref(), &*got[1].headers["dce-value-left-out"]), (Some("ana"), "1010001"));
}

#[test]
fn avro_goes_in_and_comes_out_and_the_endpoints_say_so() {
    let bed = Bed::new("avro");
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::new(&bed, &input, "avro");
    let clicks = [("e1", ClickKind::Login), ("e2", ClickKind::Logout)].map(|(id, kind)| {
        let click = ClickEvent {
            event_id: id.into(),
            customer_id: Some("ana".into()),
            event_time: EventTime::parse(1_000).unwrap(),
            kind,
            name: "home".into(),
            channel: Some("web".into()),
            session_id: None,
            device_id: None,
            context: vec![("balance".into(), 12.5)],
            attributes: Vec::new(),
        };
        let mut bytes = Vec::new();
        dce::wire::click::Input::Click(click).encode_into(Encoding::Avro, &mut bytes).unwrap();
        bytes
    });
    bed.produce_bytes(&input, 1, "ana", &clicks);
    let more = ["encoding=avro", "http.listen=127.0.0.1:0"];
    let mut dce = outputs.run(&bed, "avro", &more);
    bed.collector(&outputs.embeddings).until(1);

    let address = &dce.address();
    assert!(get(address, "/live").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/ready").starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("dce_records_total 2"), "{metrics}");
    assert!(metrics.contains("dce_partition_open_sessions{partition=\"1\"} 0"), "{metrics}");
    dce.signal("TERM");
    assert!(dce.wait().success());

    let schemas = Schemas::released();
    let [embedding] = bed.read_bytes(&outputs.embeddings).try_into().expect("one record");
    let embedding = CustomerEmbedding::decode(&embedding, &schemas).unwrap();
    assert_eq!((embedding.cause.event_count, embedding.source.partition), (2, 1));
    let [session] = bed.read_bytes(&outputs.sessions).try_into().expect("one record");
    let session = SessionSummary::decode(&session, &schemas).unwrap();
    assert_eq!((session.cause, session.sequence), (embedding.cause, embedding.sequence));
}

pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: dce\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_input_that_has_grown_is_refused_since_its_customers_have_moved() {
    let bed = Bed::new("grown");
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::new(&bed, &input, "grown");
    bed.produce_ndjson(&input, &dirty_clicks("4"));
    run_to_the_end(&bed, &outputs, "grown", &[]);
    let Outputs { embeddings, live, sessions, rejected, state, .. } = &outputs;
    for topic in [&input, embeddings, live, sessions, rejected, state] {
        bed.grow(topic, 2 * PARTITIONS);
    }
    let mut dce = outputs.run(&bed, "grown", &[]);
    assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
    assert!(dce.said().contains("has 4 partitions and had 2 when its state was made"), "{}", dce.said());
}
