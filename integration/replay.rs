//! `dce replay` on a real broker: the live topic again, byte for byte, from the topic and from a file of it; into a topic;
//! and what retention has eaten.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use dce::config::Encoding;
use dce::files::clicks::Writer;
use dce::files::{Draft, Format};
use dce::types::{CustomerId, Position};
use dce::wire::avro::Schemas;
use dce::wire::embedding::CustomerEmbedding;
use dce::wire::row::Row;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::harness::{Bed, Click, Got};
use crate::pipeline::{Outputs, dirty_clicks};

const CLICK_EVENT: &str = include_str!("../schemas/ClickEvent.avsc");
const PARTITIONS: usize = 2;

/// A file of one test, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bed: &Bed, name: &str) -> Self {
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(bed.name("replay") + name))
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Each partition's keys and values in order, without `emitted_at`.
type Records = BTreeMap<i32, Vec<(Option<String>, Option<String>)>>;

/// Runs a replay, and gives its exit code and all that it said.
fn replay(bed: &Bed, arguments: &[&str]) -> (i32, String) {
    let mut dce = bed.dce(&[&["replay"], arguments].concat());
    let status = dce.wait();
    (status.code().expect("an exit code"), dce.said())
}

/// The summary of a replay that succeeds.
fn summary(bed: &Bed, arguments: &[&str]) -> Value {
    let (code, said) = replay(bed, &[&["--json", "--set", "log.level=warn"], arguments].concat());
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(said.lines().last().expect("a summary")).expect("JSON")
}

fn refused(bed: &Bed, arguments: &[&str], parts: &[&str]) {
    let (code, said) = replay(bed, arguments);
    assert_eq!(code, 1, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part} in {said}");
    }
}

/// The bytes of a value without the one field that may differ.
fn timeless(value: &str) -> String {
    let (before, rest) = value.split_once(r#","emitted_at":"#).expect("an embedding");
    format!("{before}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Each partition's records in order.
fn by_partition(got: &[Got]) -> Records {
    let mut records = Records::new();
    for got in got {
        records.entry(got.partition).or_default().push((got.key.clone(), got.value.as_deref().map(timeless)));
    }
    records
}

/// Each partition's lines of a file in order.
fn lines_by_partition(path: &Scratch) -> Records {
    let mut records = Records::new();
    let text = std::fs::read_to_string(&path.0).expect("the output");
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let partition = i32::try_from(value["source_partition"].as_i64().expect("a partition")).expect("small");
        let key = value["customer_id"].as_str().map(str::to_owned);
        records.entry(partition).or_default().push((key, Some(timeless(line))));
    }
    records
}

#[test]
fn a_replay_gives_the_live_topic_again_byte_for_byte() {
    let bed = Bed::new("replay-live");
    let clicks = dirty_clicks("3");
    let input = bed.topic("clicks", PARTITIONS);
    bed.produce_ndjson(&input, &clicks);
    bed.produce(&input, [Click::new(0, "c000001", "broken"), Click { value: None, ..Click::new(1, "c000002", "") }]);
    let settings = ["provisional.every_events=3", "epoch.events_max=700"];
    let live = Outputs::new(&bed, &input, "live");
    let mut dce = live.run(&bed, "live", &settings);
    let file = Scratch::new(&bed, "-topic.ndjson");
    let sessions = Scratch::new(&bed, "-sessions.ndjson");
    let set = ["--set", "provisional.every_events=3"];
    let from = format!("kafka:{input}");
    let found = summary(
        &bed,
        &[&["--from", &from, "--to", file.text(), "--sessions", sessions.text()], &set as &[&str]].concat(),
    );
    let count = usize::try_from(found["embeddings"].as_u64().expect("a count")).expect("small");
    assert_eq!((&found["erased"], &found["rejected_by_reason"]["decode"]), (&1.into(), &1.into()));
    bed.collector(&live.live).until(count + 1);
    dce.signal("TERM");
    assert!(dce.wait().success(), "{}", dce.said());

    let want = bed.read_all(&live.live);
    let settled: Vec<Got> = want.iter().filter(|got| got.value.is_some()).cloned().collect();
    let want_lines = by_partition(&settled);
    assert!(want.len() > 3_000 && want_lines.len() == PARTITIONS, "{}", want.len());
    assert_eq!(lines_by_partition(&file), want_lines, "from the topic");
    let session_count = bed.read_all(&live.sessions).len();
    assert_eq!(std::fs::read_to_string(&sessions.0).expect("sessions").lines().count(), session_count);

    // The same from files of the topic.
    let (lines, parquet) = (Scratch::new(&bed, "-dump.ndjson"), Scratch::new(&bed, "-dump.parquet"));
    dump(&bed, &input, &lines, &parquet);
    for dumped in [&lines, &parquet] {
        let out = Scratch::new(&bed, "-from-file.ndjson");
        let found = summary(&bed, &[&["--from", dumped.text(), "--to", out.text()], &set as &[&str]].concat());
        assert_eq!(found["embeddings"], count, "{}", dumped.text());
        assert_eq!(lines_by_partition(&out), want_lines, "from {}", dumped.text());
    }

    // And into a topic, tombstone included.
    let copy = bed.topic("copy", PARTITIONS);
    let to = format!("kafka:{copy}");
    let into = [&["--from", &from, "--to", &to], &set as &[&str]].concat();
    summary(&bed, &into);
    assert_eq!(by_partition(&bed.read_all(&copy)), by_partition(&want));
    refused(&bed, &into, &[&copy, "records already; give another topic, or --append"]);
    summary(&bed, &[&into as &[&str], &["--append"]].concat());
    assert_eq!(bed.read_all(&copy).len(), 2 * want.len());

    // Partition numbers are kept, so there must be as many; a file's records go by their keys, as Java's producers do.
    let wide = bed.topic("wide", 5);
    let into_wide = ["--to", &format!("kafka:{wide}")];
    let counts = [format!("topic {input} has 2 partitions"), format!("{wide} has 5")];
    refused(&bed, &[&["--from", &from], &into_wide as &[&str], &set].concat(), &[&counts[0], &counts[1]]);
    summary(&bed, &[&["--from", lines.text()], &into_wide as &[&str], &set].concat());
    let placed = bed.read_all(&wide);
    assert_eq!(placed.len(), want.len());
    for got in placed {
        let key = got.key.expect("a key");
        assert_eq!(got.partition.unsigned_abs(), dce::generate::partition_of(key.as_bytes(), 5), "{key}");
    }
    // What is live stays clean, --append or not.
    let names = format!("topics.embeddings_live={}", live.live);
    let refusal = ["--from", &from, "--to", &format!("kafka:{}", live.live), "--append", "--set", &names];
    refused(&bed, &refusal, &["is one that dce run writes"]);
    let itself = format!("topics.clickstream={input}");
    refused(&bed, &["--from", lines.text(), "--to", &from, "--append", "--set", &itself], &["is the input"]);
}

/// The topic in two files: as lines with their places, and as Parquet.
fn dump(bed: &Bed, topic: &str, lines: &Scratch, parquet: &Scratch) {
    let timestamps = timestamps(bed, topic);
    let mut text = String::new();
    let mut rows = Writer::create(&parquet.0, Format::Parquet, false).expect("a new file");
    for got in bed.read_all(topic) {
        let Position { partition, offset } = Position { partition: got.partition, offset: got.offset };
        let record_time = timestamps[&(partition, offset)];
        let place = format!(r#""partition":{partition},"offset":{offset},"record_time":{record_time}"#);
        let row = Row {
            input: None,
            position: Some(Position { partition, offset }),
            record_time: Some(record_time),
            key: got.key.clone().map(Into::into),
        };
        match got.value.as_deref() {
            None => {
                let key = got.key.as_deref().expect("whose erasure");
                writeln!(text, r#"{{"kind":"ERASE","customer_id":"{key}",{place}}}"#).expect("a string");
                rows.write(&row).expect("a row");
            }
            Some(value) => match value.strip_suffix('}') {
                Some(object) => {
                    writeln!(text, "{object},{place}}}").expect("a string");
                    let input = dce::wire::decode(value.as_bytes(), &Schemas::released()).expect("a click");
                    rows.write(&Row { input: Some(input), ..row }).expect("a row");
                }
                None => writeln!(text, "{value}").expect("a string"),
            },
        }
    }
    rows.finish().expect("a whole file");
    let mut draft = Draft::create(&lines.0, false).expect("a new file");
    draft.write_all(text.as_bytes()).expect("room");
    draft.publish().expect("a name");
}

fn timestamps(bed: &Bed, topic: &str) -> BTreeMap<(i32, i64), i64> {
    let mut times = BTreeMap::new();
    bed.read(topic, |message| {
        times.insert((message.partition(), message.offset()), message.timestamp_ms().expect("a timestamp"));
    });
    times
}

#[test]
fn a_replay_in_avro_is_read_as_one() {
    let bed = Bed::new("replay-avro");
    let input = bed.topic("clicks", 1);
    let click = |id: &str, kind: &str, time: i64| Click {
        timestamp_ms: Some(time),
        ..Click::new(
            0,
            "ana",
            &format!(r#"{{"event_id":"{id}","customer_id":"ana","event_time":{time},"kind":"{kind}"}}"#),
        )
    };
    bed.produce(&input, [click("a", "LOGIN", 1_000), click("b", "LOGOUT", 2_000)]);
    let output = bed.topic("out", 1);
    let arguments = ["--from", &format!("kafka:{input}"), "--to", &format!("kafka:{output}"), "--set", "encoding=avro"];
    let summary = summary(&bed, &arguments);
    assert_eq!(summary["embeddings"], 1);
    let [bytes] = bed.read_bytes(&output).try_into().expect("one record");
    let record = CustomerEmbedding::decode(&bytes, &Schemas::released()).expect("Avro");
    assert_eq!(record.customer_id, CustomerId::parse("ana").expect("a customer"));
    let mut again = Vec::new();
    record.encode_into(Encoding::Avro, &mut again).expect("finite");
    assert_eq!(again, bytes);
}

/// A schema registry of a few lines: one id with the clicks' schema, 77 for whatever is registered. Of the first request it is
/// away.
fn registry(id: u32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let mut reader = BufReader::new(&stream);
            let (mut line, mut length) = (String::new(), 0);
            drop(reader.read_line(&mut line));
            loop {
                let mut header = String::new();
                drop(reader.read_line(&mut header));
                let Some((name, value)) = header.trim().split_once(':') else { break };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().expect("a length");
                }
            }
            drop(reader.read_exact(&mut vec![0; length]));
            let words: Vec<&str> = line.split(' ').collect();
            let known = format!("/schemas/ids/{id}");
            let (status, body) = match words[..] {
                _ if number == 0 => (503, json!({})),
                ["POST", ..] => (200, json!({ "id": 77 })),
                ["GET", path, _] if path == known => (200, json!({ "schema": CLICK_EVENT })),
                ["GET", path, _] if path.starts_with("/subjects") => (200, json!([])),
                _ => (404, json!({ "error_code": 40403, "message": "no such id" })),
            };
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            drop((&stream).write_all((head + &body).as_bytes()));
        }
    });
    url
}

#[test]
fn framed_clicks_are_read_by_the_registry_and_results_are_framed() {
    let bed = Bed::new("replay-framed");
    let (input, output, sessions) = (bed.topic("clicks", 1), bed.topic("out", 1), bed.topic("sessions", 1));
    let framed = |id: u32, event: &str, kind: &str, time: i64| {
        let json = format!(r#"{{"event_id":"{event}","customer_id":"ana","event_time":{time},"kind":"{kind}"}}"#);
        let schemas = Schemas::released();
        let click = dce::wire::decode(json.as_bytes(), &schemas).expect("a click");
        let mut bytes = Vec::new();
        click.encode_by_id(id, &mut bytes).expect("finite");
        bytes
    };
    let values = [framed(5, "a", "LOGIN", 1_000), framed(6, "b", "ACTION", 1_500), framed(5, "c", "LOGOUT", 2_000)];
    bed.produce_bytes(&input, 0, "ana", &values);
    let registry = format!("registry.url={}", registry(5));
    let (from, to) = (format!("kafka:{input}"), format!("kafka:{output}"));
    let sessions_to = format!("kafka:{sessions}");
    let common = ["--from", &from, "--to", &to, "--sessions", &sessions_to, "--set", &registry];
    let found = summary(&bed, &[&common as &[&str], &["--set", "encoding=confluent"]].concat());
    assert_eq!((&found["embeddings"], &found["rejected_by_reason"]["decode"]), (&1.into(), &1.into()), "{found}");
    assert_eq!((&found["first_event_time"], &found["last_event_time"]), (&1_000.into(), &2_000.into()));
    for topic in [&output, &sessions] {
        let [bytes] = bed.read_bytes(topic).try_into().expect("one record");
        assert_eq!(bytes[..5], [0, 0, 0, 0, 77], "{topic}");
    }
}

#[test]
fn a_range_is_read_and_one_that_retention_has_eaten_is_named() {
    let bed = Bed::new("replay-range");
    let input = bed.topic("clicks", 2);
    let click = |partition: i32, n: i64| {
        let time = 1_700_000_000_000 + n * 1_000;
        let value = format!(r#"{{"event_id":"e{n}","customer_id":"ana","event_time":{time},"kind":"ACTION"}}"#);
        Click { timestamp_ms: Some(time), ..Click::new(partition, "ana", &value) }
    };
    bed.produce(&input, (0..100).map(|n| click(0, n)).chain((0..10).map(|n| click(1, n))));
    let from = format!("kafka:{input}");
    let records =
        |range: &[&str]| summary(&bed, &[&["--from", &from, "--to", "none"], range].concat())["records"].clone();
    assert_eq!(records(&[]), 110);
    assert_eq!(records(&["--since", "1700000005000", "--until", "1700000050000"]), 45 + 5);
    assert_eq!(records(&["--since", "2023-11-14T22:13:25Z"]), 95 + 5);
    assert_eq!(records(&["--offsets", "0:10-20,1:4-"]), 16);
    assert_eq!(records(&["--offsets", "1:0-"]), 10);
    assert_eq!(records(&["--since", "2030-01-01"]), 0);
    refused(&bed, &["--from", &from, "--to", "none", "--offsets", "2:0-"], &["has no partition 2: it has 2"]);
    refused(&bed, &["--from", &from, "--to", "none", "--offsets", "1:0-11"], &["up to offset 11, and it ends at 10"]);

    delete_before(&bed, &input, 0, 40);
    let none =
        |range: &[&str], parts: &[&str]| refused(&bed, &[&["--from", &from, "--to", "none"], range].concat(), parts);
    let gap =
        "partition 0: asked from offset 10, the oldest is 40, 30 are missing, the rest begins at 2023-11-14T22:14:00Z";
    none(&["--offsets", "0:10-60"], &[gap, "--offsets 0:40-60"]);
    let since = "partition 0: asked from 2023-11-14T22:13:25Z (1700000005000 ms), the oldest is offset 40, 40 before it were deleted";
    none(&["--since", "1700000005000"], &[since, "--offsets 0:40-"]);
    assert_eq!(records(&["--offsets", "0:40-60"]), 20);
    assert_eq!(records(&["--since", "1700000040000"]), 60);
    assert_eq!(records(&["--since", "1700000070000"]), 30);

    let missing = bed.name("nothing");
    refused(&bed, &["--from", &format!("kafka:{missing}"), "--to", "none"], &[&missing, "does not exist"]);
    let compacted = bed.topic_of("compacted", 1, &[("cleanup.policy", "compact")]);
    refused(&bed, &["--from", &format!("kafka:{compacted}"), "--to", "none"], &["is compacted"]);
}

fn delete_before(bed: &Bed, topic: &str, partition: i32, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = bed.settings.inspector().create().expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let deleted = runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).expect("deleted");
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
}
