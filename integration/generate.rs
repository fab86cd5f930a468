//! `dce generate --to-kafka` against what the same seed writes to a file, and against Kafka's own producer.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use dce::generate::partition_of;
use dce::wire::avro::Schemas;
use dce::wire::click::Input;
use serde_json::Value;

use crate::harness::{Bed, Dce, Got};

const PARTITIONS: usize = 3;

/// What the binary says, run to its end.
pub(crate) fn dce_says(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dce")).args(arguments).output().expect("the binary starts");
    assert!(output.status.success(), "dce {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A file of this test's own, with that end to its name.
pub(crate) fn scratch(bed: &Bed, end: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.{end}", bed.name("file")))
}

/// `dce generate --to-kafka` to that topic.
fn generate(bed: &Bed, topic: &str, more: &[&str]) -> Dce {
    let topic = format!("topics.clickstream={topic}");
    let arguments = ["generate", "--to-kafka", "--json", "--set", &topic, "--set", "log.level=warn"];
    bed.dce(&[&arguments, more].concat())
}

/// Its summary, after it has ended well.
fn summary(dce: &mut Dce) -> Value {
    let status = dce.wait();
    let said = dce.said();
    assert!(status.success(), "{said}");
    let line = said.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no summary: {said}"));
    serde_json::from_str(line).expect("a line of JSON")
}

fn due(got: &Got) -> i64 {
    got.headers["dce-due-ms"].parse().expect("milliseconds")
}

#[test]
fn a_topic_holds_what_the_same_seed_writes_to_a_file() {
    let bed = Bed::new("generated");
    let (topic, labels_topic) = (bed.topic("clicks", PARTITIONS), bed.topic("labels", 2));
    let bank = ["--seed=7", "--customers=200", "--events=3000", "--takeovers=0.3", "--shuffle=5", "--duplicate=0.1"];
    let labels = scratch(&bed, "csv");
    let labels_text = labels.to_str().expect("UTF-8");
    let file = dce_says(&[&["generate", "--partitions=3", "--labels", labels_text], &bank[..]].concat());
    let want_labels = std::fs::read_to_string(&labels).expect("labels");
    let to_kafka = ["--rate=3000", "--labels", labels_text, "--labels-topic", &labels_topic];
    let said = summary(&mut generate(&bed, &topic, &[&to_kafka, &bank[..]].concat()));

    let mut topics = bed.collector(&topic);
    let mut got: BTreeMap<i32, Vec<Got>> = BTreeMap::new();
    for record in topics.until(3000) {
        got.entry(record.partition).or_default().push(record.clone());
    }
    assert_eq!(bed.read_all(&topic).len(), 3000, "each once");
    let mut next: BTreeMap<i32, usize> = BTreeMap::new();
    let mut first_due = None;
    for (number, line) in (0_i64..).zip(file.lines()) {
        let click: Value = serde_json::from_str(line).expect("a line of JSON");
        let (partition, time) = (&click["partition"], &click["record_time"]);
        let place = next.entry(i32::try_from(partition.as_i64().unwrap()).unwrap()).or_default();
        let record = &got[&i32::try_from(partition.as_i64().unwrap()).unwrap()][*place];
        *place += 1;
        let value = record.value.as_deref().expect("a value").strip_suffix('}').expect("an object");
        assert_eq!(format!("{value},\"record_time\":{time},\"partition\":{partition}}}"), line, "the same bytes");
        assert_eq!(record.key.as_deref(), click["customer_id"].as_str());
        let first = *first_due.get_or_insert_with(|| due(record));
        assert_eq!(due(record), first + number / 3, "record {number} is due at its place in 3,000 a second");
    }
    assert!((2000.0..=3100.0).contains(&said["rate"].as_f64().unwrap()), "{said}");
    assert_eq!((&said["records"], &said["stopped"]), (&Value::from(3000), &Value::from(false)));

    assert_eq!(std::fs::read_to_string(&labels).expect("labels"), want_labels, "beside the topic as without it");
    let mut rows: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for row in want_labels.lines().skip(1) {
        let customer = row.split(',').nth(1).expect("a customer");
        let partition = i32::try_from(partition_of(customer.as_bytes(), 2)).unwrap();
        rows.entry(partition).or_default().push(row.to_owned());
    }
    let mut found: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for got in bed.read_all(&labels_topic) {
        let label: Value = serde_json::from_str(got.value.as_deref().expect("a value")).expect("JSON");
        let text = |name: &str| label[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(got.key.as_deref(), label["customer_id"].as_str());
        let time = label["event_time"].to_string();
        let row = [text("task"), text("customer_id"), text("session_id"), time, text("label"), text("split")].join(",");
        found.entry(got.partition).or_default().push(row);
    }
    assert_eq!(found, rows, "the labels topic is the labels file");
    std::fs::remove_file(labels).expect("ours");
}

#[test]
fn avro_records_are_the_clicks_too() {
    let bed = Bed::new("generated-avro");
    let topic = bed.topic("clicks", 1);
    let file = dce_says(&["generate", "--events=500"]);
    let said = summary(&mut generate(&bed, &topic, &["--format=avro", "--events=500"]));
    assert_eq!((&said["late_max_ms"], &said["rate_wanted"]), (&Value::Null, &Value::Null), "no rate, no due time");
    let (schemas, values) = (Schemas::released(), bed.read_bytes(&topic));
    assert_eq!(values.len(), 500);
    for (line, value) in file.lines().zip(&values) {
        let click: Value = serde_json::from_str(line).expect("a line of JSON");
        let Ok(Input::Click(read)) = schemas.decode_click(value) else { panic!("no click of our schema: {line}") };
        assert_eq!(Some(&*read.event_id), click["event_id"].as_str());
        assert_eq!(Some(read.event_time.ms()), click["event_time"].as_i64());
        assert_eq!(read.context.len(), click["context"].as_object().map_or(0, serde_json::Map::len));
    }
}

#[test]
fn partitions_are_those_that_kafkas_own_producer_chooses() {
    let bed = Bed::new("murmur");
    let (ours, theirs) = (bed.topic("ours", 7), bed.topic("theirs", 7));
    summary(&mut generate(&bed, &ours, &["--customers=600", "--events=4000"]));
    let mut partitions: BTreeMap<String, i32> = BTreeMap::new();
    for got in bed.read_all(&ours) {
        let key = got.key.expect("a key");
        let before = *partitions.entry(key.clone()).or_insert(got.partition);
        assert_eq!(before, got.partition, "{key} is in one partition");
    }
    assert!(partitions.len() > 200, "{} customers", partitions.len());
    let mut tool = Command::new("bash")
        .args([
            concat!(env!("CARGO_MANIFEST_DIR"), "/integration/kafka.sh"),
            "tool",
            "org.apache.kafka.tools.ConsoleProducer",
        ])
        .args(["--bootstrap-server", &bed.settings.bootstrap, "--topic", &theirs])
        .args(["--reader-property", "parse.key=true", "--reader-property", "key.separator=,"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("Kafka's console producer");
    let lines: String = partitions.keys().map(|key| format!("{key},x\n")).collect();
    tool.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("it reads");
    assert!(tool.wait().expect("it ends").success(), "Kafka's console producer");
    let java: BTreeMap<String, i32> =
        bed.read_all(&theirs).into_iter().map(|got| (got.key.expect("a key"), got.partition)).collect();
    assert_eq!(partitions, java);
}

#[test]
fn a_record_that_is_sent_late_keeps_its_due_time() {
    let bed = Bed::new("late");
    let topic = bed.topic("clicks", 1);
    let mut dce = generate(&bed, &topic, &["--live", "--rate=500", "--events=1500", "--broken=0.05"]);
    let mut seen = bed.collector(&topic);
    seen.until(300);
    dce.signal("STOP");
    // The time that is to be seen in the records, not one that something is hoped to take.
    std::thread::sleep(Duration::from_millis(700));
    dce.signal("CONT");
    let said = summary(&mut dce);
    assert!(said["late_max_ms"].as_i64() >= Some(600), "it says how late it was: {said}");
    assert!(said["stored_late_max_ms"].as_i64() >= said["late_max_ms"].as_i64(), "{said}");
    let got = seen.until(1500);
    for (number, record) in (0..).zip(got) {
        assert_eq!(due(record), due(&got[0]) + 2 * number, "record {number}: no due time moves");
    }
    assert!(got.iter().any(|record| record.key.is_none()), "broken ones as they are");
    assert_eq!(bed.read_all(&topic).len(), 1500, "each once");
}

#[test]
fn a_signal_ends_it_with_all_that_was_sent_stored() {
    let bed = Bed::new("stopped");
    let topic = bed.topic("clicks", 2);
    let mut dce = generate(&bed, &topic, &["--live", "--rate=400"]);
    bed.collector(&topic).until(200);
    dce.signal("TERM");
    let said = summary(&mut dce);
    assert_eq!(said["stopped"], true, "{said}");
    assert_eq!(said["records"].as_u64(), Some(bed.read_all(&topic).len() as u64), "{said}");
}

#[test]
fn what_cannot_be_written_is_an_error_with_its_way_out() {
    let bed = Bed::new("unwritten");
    let near = bed.topic_of("near", 1, &[("message.timestamp.after.max.ms", "60000")]);
    let (nowhere, no_labels) = (bed.name("nowhere"), bed.name("no-labels"));
    let cases: [(&str, &[&str], &[&str]); 3] = [
        (&nowhere, &[], &["does not exist", "dce topics create", "dce run --create-topics"]),
        (&near, &["--labels-topic", &no_labels], &[&no_labels, "--create --topic"]),
        (&near, &["--events=50", "--start=2150-01-01"], &["50 of 50 records were not stored", "--start"]),
    ];
    for (topic, arguments, texts) in cases {
        let mut dce = generate(&bed, topic, arguments);
        assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
        for text in texts {
            assert!(dce.said().contains(text), "{text} is not in: {}", dce.said());
        }
    }
    assert_eq!(bed.read_all(&near).len(), 0);
}
