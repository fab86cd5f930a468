//! `dce state` on a real broker: a savepoint goes on as if nothing had been, in as many partitions and in more; what is
//! erased is gone; customers are where Java's own producer puts their clicks.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use dce::generate::partition_of;
use serde_json::Value;

use crate::harness::{Bed, Click};
use crate::pipeline::{Outputs, PARTITIONS, dce_says, dirty_clicks, read_to_the_end, records};

/// Runs `dce state …` with the topics and the application of a test.
pub(crate) fn state(bed: &Bed, outputs: &Outputs, app: &str, arguments: &[&str]) -> Output {
    command(bed, outputs, app, arguments).output().expect("the binary starts")
}

pub(crate) fn command(bed: &Bed, outputs: &Outputs, app: &str, arguments: &[&str]) -> Command {
    let settings = [
        format!("kafka.bootstrap={}", bed.settings.bootstrap),
        format!("app.id={}", bed.name(app)),
        format!("topics.clickstream={}", outputs.input),
        format!("topics.state={}", outputs.state),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_dce"));
    command.arg("state").args(arguments).env_remove("NO_COLOR");
    for setting in &settings {
        command.args(["--set", setting]);
    }
    command
}

/// The one line of JSON of a command that must succeed.
pub(crate) fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// That it fails with this exit code and says this.
pub(crate) fn refused(output: &Output, code: i32, why: &str) {
    let said = said(output);
    assert!(output.status.code() == Some(code) && said.contains(why), "{why:?} in exit code {code}: {said}");
}

pub(crate) fn is_whole(output: &Output) {
    let said = said(output);
    assert!(output.status.success() && said.contains("log and committed offsets go together"), "{said}");
}

/// A file that goes with the test.
pub(crate) struct Savepoint(pub(crate) PathBuf);

impl Savepoint {
    pub(crate) fn new(bed: &Bed) -> Self {
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(bed.name("savepoint.dce")))
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Savepoint {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Lines, cut in two.
pub(crate) fn halves(clicks: &str) -> (String, String) {
    let lines: Vec<&str> = clicks.lines().collect();
    let (first, second) = lines.split_at(lines.len() / 2);
    (first.join("\n"), second.join("\n"))
}

/// The same outputs with another state topic.
pub(crate) fn with_state(outputs: Outputs, state: String) -> Outputs {
    Outputs { state, ..outputs }
}

#[test]
fn a_savepoint_goes_on_elsewhere_as_if_nothing_had_been() {
    let bed = Bed::new("savepoint");
    let file = Savepoint::new(&bed);
    let settings = ["provisional.every_events=3", "epoch.events_max=500"];
    let (first, second) = halves(&dirty_clicks("5"));
    let input = bed.topic("clicks", PARTITIONS);
    bed.produce_ndjson(&input, &first);
    let outputs = Outputs::new(&bed, &input, "a");

    // What was not stopped by SIGTERM is not drained.
    let mut killed = outputs.run(&bed, "a", &settings);
    bed.collector(&outputs.live).until(1_000);
    refused(&state(&bed, &outputs, "a", &["export", file.path()]), 1, "has members");
    killed.kill();
    refused(&state(&bed, &outputs, "a", &["export", file.path()]), 1, "its log lacks what the input did");
    read_to_the_end(&bed, &outputs, "a", &settings);
    let exported = json(&state(&bed, &outputs, "a", &["export", file.path(), "--json"]));
    let stats = state(&bed, &outputs, "a", &["stats", "--json"]);
    let summary: Value = said(&stats).lines().last().map(|line| serde_json::from_str(line).unwrap()).unwrap();
    let summary = &summary["summary"];
    let customers = summary["at_rest"].as_u64().unwrap() + summary["active"].as_u64().unwrap();
    assert_eq!((exported["customers"].as_u64(), summary["again"].as_u64()), (Some(customers), Some(0)), "{summary}");
    assert!(customers > 200 && summary["active"].as_u64() > Some(0), "{summary}");
    refused(&state(&bed, &outputs, "a", &["export", file.path()]), 1, "is there already");

    // Into its own topic or under its own name it does not go.
    refused(&state(&bed, &outputs, "a", &["import", file.path()]), 1, "has a committed offset");
    refused(&state(&bed, &outputs, "b", &["import", file.path()]), 1, "has records");
    let outputs = with_state(outputs, bed.topic("state-2", PARTITIONS));
    bed.produce_ndjson(&input, &second);
    let imported = json(&state(&bed, &outputs, "b", &["import", file.path(), "--json"]));
    assert_eq!((&imported["customers"], &imported["keyed_anew"]), (&exported["customers"], &Value::from(false)));
    read_to_the_end(&bed, &outputs, "b", &settings);

    let calm = Outputs::new(&bed, &input, "calm");
    read_to_the_end(&bed, &calm, "calm", &settings);
    for (calm, moved) in [(&calm.embeddings, &outputs.embeddings), (&calm.live, &outputs.live)] {
        let (want, found) = (records(&bed, calm), records(&bed, moved));
        for (partition, want) in want {
            assert_eq!(found[&partition].len(), want.len(), "partition {partition}");
            assert_eq!(found[&partition], want, "partition {partition}: record by record");
        }
    }
}

/// Of each customer: its sessions as they are in the end, and its last embedding.
type Ends = BTreeMap<String, (BTreeMap<String, Value>, Vec<f64>)>;

fn ends(bed: &Bed, outputs: &Outputs) -> Ends {
    let mut ends = Ends::new();
    for got in bed.read_all(&outputs.sessions) {
        let mut session: Value = serde_json::from_str(&got.value.expect("a value")).expect("JSON");
        let fields = session.as_object_mut().expect("an object");
        // Where it was read, when, and how often it was revised before: not the same by other partitions.
        for field in ["source_partition", "source_offset", "emitted_at", "sequence", "revision"] {
            fields.remove(field);
        }
        let uid = session["session_uid"].as_str().expect("a uid").to_owned();
        ends.entry(got.key.expect("a key")).or_default().0.insert(uid, session);
    }
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for got in bed.read_all(&outputs.embeddings) {
        let record: Value = serde_json::from_str(&got.value.expect("a value")).expect("JSON");
        let (customer, sequence) = (got.key.expect("a key"), record["sequence"].as_u64().expect("a number"));
        let known = last.entry(customer.clone()).or_default();
        assert_ne!(*known, sequence, "{customer}: each sequence once");
        if sequence > *known {
            *known = sequence;
            let vector = record["embedding"].as_array().expect("a vector");
            ends.entry(customer).or_default().1 = vector.iter().map(|x| x.as_f64().expect("a number")).collect();
        }
    }
    ends
}

/// Those of the lines, each to its partition of so many.
fn clicks_among(lines: &str, partitions: usize) -> Vec<Click> {
    let partitions = u32::try_from(partitions).unwrap();
    let click = |line: &str| {
        let mut click = Click::of_line(line);
        let key = click.key.as_deref().expect("a click has a customer");
        click.partition = i32::try_from(partition_of(key.as_bytes(), partitions)).unwrap();
        click
    };
    lines.lines().map(click).collect()
}

/// Ends every session of every partition: a month after the first click, which no broker takes for the future.
fn ticks(partitions: usize) -> Vec<Click> {
    let tick = |partition, time: i64| Click {
        key: None,
        timestamp_ms: Some(time),
        ..Click::new(partition, "", &format!(r#"{{"event_time":{time},"kind":"TICK"}}"#))
    };
    let far = |n: i64| 1_770_000_000_000 + n * 1_000_000_000;
    (0..2).flat_map(|n| (0..partitions).map(move |p| tick(i32::try_from(p).unwrap(), far(n)))).collect()
}

#[test]
fn a_grown_input_goes_on_with_its_state_keyed_anew() {
    let bed = Bed::new("regrown");
    let file = Savepoint::new(&bed);
    let clicks = dce_says(
        &"generate --seed=6 --customers=300 --events=12000 --partitions=2 --takeovers=0.1 --shuffle=5 --duplicate=0.05 \
          --drop-logout=0.2"
            .split_whitespace()
            .collect::<Vec<_>>(),
    );
    let (first, second) = halves(&clicks);
    let calm = Outputs::new(&bed, &bed.topic("calm-clicks", PARTITIONS), "calm");
    bed.produce_ndjson(&calm.input, &clicks);
    bed.produce(&calm.input, ticks(PARTITIONS));
    read_to_the_end(&bed, &calm, "calm", &[]);
    let want = ends(&bed, &calm);

    let outputs = Outputs::new(&bed, &bed.topic("clicks", PARTITIONS), "a");
    bed.produce_ndjson(&outputs.input, &first);
    read_to_the_end(&bed, &outputs, "a", &[]);
    let exported = json(&state(&bed, &outputs, "a", &["export", file.path(), "--json"]));
    let grown = 2 * PARTITIONS + 1;
    let Outputs { input, embeddings, live, sessions, rejected, .. } = &outputs;
    [input, embeddings, live, sessions, rejected].into_iter().for_each(|topic| bed.grow(topic, grown));
    let outputs = with_state(outputs, bed.topic("state-2", grown));
    let count = grown.to_string();
    refused(
        &state(&bed, &outputs, "b", &["import", file.path()]),
        1,
        &format!("--partitions {count} keys the state anew"),
    );

    // A producer that still writes by the old number would meet a partition that its customer has left.
    let stale = second.lines().map(Click::of_line).zip(clicks_among(&second, grown));
    let (stale, _) = stale.into_iter().find(|(old, new)| old.partition != new.partition).expect("most of them move");
    let (at, many) = (stale.partition, ["--partitions", &count, "--json"]);
    let aside = Outputs::of(&bed, &bed.topic("aside-clicks", PARTITIONS), "aside", PARTITIONS);
    bed.produce_ndjson(&aside.input, &first);
    read_to_the_end(&bed, &aside, "aside", &[]);
    let other = Savepoint(file.0.with_extension("other"));
    json(&state(&bed, &aside, "aside", &["export", other.path(), "--json"]));
    bed.grow(&aside.input, grown);
    bed.produce(&aside.input, [stale]);
    let aside = with_state(aside, bed.topic("aside-state-2", grown));
    let import = [&["import", other.path()][..], &many].concat();
    refused(&state(&bed, &aside, "aside-2", &import), 1, &format!("{}/{at}: the record at offset", aside.input));

    bed.produce(&outputs.input, clicks_among(&second, grown));
    bed.produce(&outputs.input, ticks(grown));
    let imported = json(&state(&bed, &outputs, "b", &[&["import", file.path()][..], &many].concat()));
    assert_eq!((&imported["customers"], &imported["keyed_anew"]), (&exported["customers"], &Value::from(true)));
    read_to_the_end(&bed, &outputs, "b", &[]);
    let found = ends(&bed, &outputs);
    assert_eq!(found.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (customer, (sessions, vector)) in want {
        let (found_sessions, found_vector) = &found[&customer];
        let uids = |sessions: &BTreeMap<String, Value>| sessions.keys().cloned().collect::<Vec<_>>();
        assert_eq!(uids(found_sessions), uids(&sessions), "{customer}");
        assert_eq!(*found_sessions, sessions, "{customer}");
        let furthest = vector.iter().zip(found_vector).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(furthest < 1e-5, "{customer}: {furthest}");
    }
    // What was made so can be saved and looked at again.
    let again = json(&state(&bed, &outputs, "b", &["export", other.path(), "--force", "--json"]));
    assert_eq!(again["partitions"], Value::from(grown));
}

#[test]
fn a_customer_is_shown_and_when_it_is_erased_it_is_gone() {
    let bed = Bed::new("shown");
    let outputs = Outputs::new(&bed, &bed.topic("clicks", PARTITIONS), "shown");
    let partition = i32::try_from(partition_of(b"ana", 2)).unwrap();
    let click = |id: &str, time: i64, kind: &str| {
        let value =
            format!(r#"{{"event_id":"{id}","customer_id":"ana","event_time":{time},"kind":"{kind}","name":"home"}}"#);
        Click { timestamp_ms: Some(1_000_000), ..Click::new(partition, "ana", &value) }
    };
    let show = || state(&bed, &outputs, "shown", &["show", "ana", "--json"]);
    refused(&show(), 1, r#""record":null"#);
    bed.produce(
        &outputs.input,
        [click("e1", 900_000, "LOGIN"), click("e2", 900_500, "LOGOUT"), click("e3", 990_000, "LOGIN")],
    );
    read_to_the_end(&bed, &outputs, "shown", &[]);
    let shown = json(&show());
    assert_eq!((&shown["record"], &shown["behind"], &shown["sequence"]), (&"active".into(), &0.into(), &1.into()));
    let sessions = shown["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 1, "the first is frozen: {shown}");
    assert_eq!(
        (&sessions[0]["uid"], &sessions[0]["reason"], &sessions[0]["events"]),
        (&"e3".into(), &Value::Null, &1.into())
    );
    assert_eq!(shown["ended_keys"][0]["reason"], "LOGOUT");
    assert!(shown["state_norm"].as_f64().unwrap() > 0.0 && shown["published_as_of"] == 900_500, "{shown}");
    assert_eq!(shown["stream_time"], 990_000);
    let people = said(&state(&bed, &outputs, "shown", &["show", "ana"]));
    assert!(people.contains("active") && people.contains("nothing was read since that it may lack"), "{people}");

    // More input, not read: no lag of the record, for nobody has read it. Then a worker reads it, and is killed.
    let mut dce = outputs.run(&bed, "shown", &[]);
    bed.produce(&outputs.input, [click("e4", 990_001, "LOGOUT")]);
    bed.collector(&outputs.embeddings).until(2);
    dce.kill();
    let shown = json(&show());
    assert_eq!((&shown["record"], &shown["behind"]), (&"active".into(), &1.into()), "{shown}");
    let people = said(&state(&bed, &outputs, "shown", &["show", "ana"]));
    assert!(people.contains("it may lag: 1 input records"), "{people}");

    let erasure = Click { value: None, ..click("", 0, "") };
    bed.produce(&outputs.input, [erasure]);
    read_to_the_end(&bed, &outputs, "shown", &[]);
    refused(&show(), 1, r#""record":null"#);
    // What a compacted topic keeps: the newest of each key.
    let mut newest = BTreeMap::new();
    bed.read(&outputs.state, |message| {
        newest.insert(message.key().unwrap().to_vec(), message.value().map(<[u8]>::to_vec));
    });
    let of_ana = newest.iter().filter(|(key, _)| key.ends_with(b"ana"));
    let (mut all, mut left) = (0, 0);
    of_ana.for_each(|(_, value)| {
        all += 1;
        left += usize::from(value.is_some());
    });
    assert!(all > 0 && left == 0, "{all} keys, {left} with a value");

    bed.produce(&outputs.input, [click("e5", 990_002, "LOGIN"), click("e6", 990_003, "LOGOUT")]);
    let before = bed.read_all(&outputs.embeddings).len();
    read_to_the_end(&bed, &outputs, "shown", &[]);
    let got = bed.read_all(&outputs.embeddings);
    let record: Value = serde_json::from_str(got[before].value.as_deref().unwrap()).unwrap();
    assert_eq!((&record["sequence"], &record["cold_start"]), (&1.into(), &true.into()));
    assert_eq!(json(&show())["sequence"], 1);
    is_whole(&state(&bed, &outputs, "shown", &["stats"]));
}

#[test]
fn customers_are_where_java_s_own_producer_puts_them() {
    const MANY: u32 = 7;
    let bed = Bed::new("java");
    let topic = bed.topic("keys", MANY as usize);
    let mut keys: Vec<String> = (0..2_000).map(|n| format!("c-{n}")).collect();
    // Lengths that leave one, two and three bytes over, and bytes above 127.
    keys.extend(["a", "ab", "abc", "ä", "€", "ana@例え.jp", "č".repeat(128).as_str()].map(str::to_owned));
    let tool = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("integration/kafka.sh");
    let mut producer = Command::new(tool)
        .args(["tool", "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", &bed.settings.bootstrap])
        .args(["--topic", &topic, "--property", "parse.key=true", "--property", "key.separator=\t"])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("Kafka's own commands");
    let lines: String = keys.iter().map(|key| format!("{key}\tx\n")).collect();
    producer.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(producer.wait().unwrap().success());
    let got = bed.collector(&topic).until(keys.len()).to_vec();
    let mut seen: Vec<String> = got.iter().map(|got| got.key.clone().unwrap()).collect();
    seen.sort();
    keys.sort();
    assert_eq!(seen, keys);
    for got in got {
        let key = got.key.unwrap();
        assert_eq!(Some(got.partition), i32::try_from(partition_of(key.as_bytes(), MANY)).ok(), "{key}");
    }
}
