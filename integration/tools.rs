//! The tools of whoever runs it, on a real broker and by the real binary: topics, check, tail, rejects.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dce::telemetry::Clock;
use expect_test::{Expect, expect};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::harness::{Bed, Click, Dce};

const PARTITIONS: usize = 3;
const TOPICS: [&str; 5] = ["clickstream", "embeddings", "embeddings_live", "sessions", "rejected"];

/// A deployment of one test: names of its own for everything.
struct Bank {
    bed: Bed,
    settings: Vec<String>,
}

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Bank {
    fn new(test: &str) -> Self {
        let bed = Bed::new(test);
        let mut settings = vec![
            "http.listen=off".to_owned(),
            "provisional.every_events=2".to_owned(),
            "model.path=tests/data/tiny-bundle".to_owned(),
            format!("kafka.bootstrap={}", bed.settings.bootstrap),
            format!("app.id={}", bed.name("dce")),
        ];
        settings.extend(TOPICS.map(|topic| format!("topics.{topic}={}", bed.name(topic))));
        Self { bed, settings }
    }

    fn with_topics(test: &str) -> Self {
        let bank = Self::new(test);
        let said = bank.say(&["topics", "create", "--partitions", "3", "--replication", "1"]);
        assert_eq!(said.code, 0, "{}", said.err);
        bank
    }

    fn topic(&self, what: &str) -> String {
        self.bed.name(what)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.with_settings(Command::new(env!("CARGO_BIN_EXE_dce")), arguments)
    }

    fn with_settings(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        // What the test sets itself wins: the last one does.
        for setting in &self.settings {
            let key = setting.split('=').next().unwrap();
            if !arguments.iter().any(|argument| argument.split('=').next() == Some(key)) {
                command.args(["--set", setting]);
            }
        }
        command
    }

    /// Until it ends, which it must in a minute.
    fn say(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new("timeout");
        command.args(["60", env!("CARGO_BIN_EXE_dce")]);
        self.run(self.with_settings(command, arguments))
    }

    fn run(&self, mut command: Command) -> Said {
        let output = command.output().expect("the binary starts");
        let text = |bytes| self.mask(&String::from_utf8(bytes).expect("UTF-8"));
        Said {
            code: output.status.code().expect("it ends by itself"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    fn worker(&self) -> Dce {
        let mut arguments = vec!["run"];
        for setting in &self.settings {
            arguments.extend(["--set", setting]);
        }
        self.bed.dce(&arguments)
    }

    /// Without what differs from run to run.
    fn mask(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (what, name) in TOPICS.into_iter().chain(["dce"]).map(|what| (what, self.bed.name(what))) {
            text = text.replace(&name, what);
        }
        text = text.replace(&self.bed.settings.bootstrap, "kafka-1:9092");
        text = mask_between(&text, "answered in ", " ms", "answered in 5 ms");
        mask_times(&text)
    }
}

/// Everything from `from` to the next `to`, in all places.
fn mask_between(text: &str, from: &str, to: &str, with: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(from) {
        let Some((_, after)) = after.split_once(to) else { break };
        masked += before;
        masked += with;
        rest = after;
    }
    masked + rest
}

/// `2026-03-01T08:00:00.123Z`.
fn mask_times(text: &str) -> String {
    const FORM: &str = "dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |piece: &str| {
        piece.chars().zip(FORM.chars()).all(|(c, form)| if form == 'd' { c.is_ascii_digit() } else { c == form })
    };
    let mut masked = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.get(..FORM.len()).is_some_and(fits) {
            masked += "2026-03-01T08:00:00.000Z";
            rest = &rest[FORM.len()..];
        } else {
            masked.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    masked
}

fn check(said: &Said, code: i32, out: Expect) {
    assert_eq!((said.code, said.err.as_str()), (code, ""), "{}", said.out);
    out.assert_eq(&said.out);
}

fn click(id: &str, customer: &str, time: i64, kind: &str) -> String {
    format!(
        r#"{{"event_id":"{id}","customer_id":"{customer}","event_time":{time},"kind":"{kind}","name":"home","channel":"web"}}"#
    )
}

fn at(partition: i32, key: &str, value: &str, timestamp_ms: i64) -> Click {
    Click { timestamp_ms: Some(timestamp_ms), ..Click::new(partition, key, value) }
}

#[test]
fn topics_are_shown_and_the_missing_ones_made() {
    let bank = Bank::new("tools-topics");
    let mut said = bank.say(&["topics"]);
    // Columns are as wide as the names, which are this run's.
    said.out = said.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect();
    check(
        &said,
        1,
        expect![[r#"
            TOPIC ROLE PARTITIONS COPIES CLEAN-UP KEPT TIMESTAMPS RECORD MAX RECORDS
            clickstream clicks - - missing - - - -
            embeddings embeddings - - missing - - - -
            embeddings_live live - - missing - - - -
            sessions sessions - - missing - - - -
            rejected rejected - - missing - - - -

            ✘ clickstream: does not exist
            → dce topics create
            ✘ embeddings: does not exist
            → dce topics create
            ✘ embeddings_live: does not exist
            → dce topics create
            ✘ sessions: does not exist
            → dce topics create
            ✘ rejected: does not exist
            → dce topics create
        "#]],
    );
    check(
        &bank.say(&["topics", "create", "--dry-run"]),
        0,
        expect![[r#"
        would create  clickstream with 4 partitions, cleanup.policy=delete, retention.ms=-1, message.timestamp.after.max.ms=300000
        would create  embeddings with 4 partitions, cleanup.policy=compact, min.compaction.lag.ms=86400000
        would create  embeddings_live with 4 partitions, cleanup.policy=delete, retention.ms=86400000
        would create  sessions with 4 partitions, cleanup.policy=delete
        would create  rejected with 4 partitions, cleanup.policy=delete
    "#]],
    );
    assert_eq!(bank.say(&["topics", "--json"]).out.matches(r#""exists":false"#).count(), 5, "a dry run makes nothing");
    bank.bed.topic_of("clickstream", PARTITIONS, &[("retention.ms", "3600000")]);
    bank.bed.topic("rejected", 2);
    check(
        &bank.say(&["topics", "create", "--replication", "1"]),
        1,
        expect![[r#"
        exists        clickstream, not touched
        created       embeddings with 3 partitions, cleanup.policy=compact, min.compaction.lag.ms=86400000
        created       embeddings_live with 3 partitions, cleanup.policy=delete, retention.ms=86400000
        created       sessions with 3 partitions, cleanup.policy=delete
        exists        rejected, not touched

        ✘ clickstream: CreateTime and message.timestamp.after.max.ms=3600000 (1h): a wrong clock can close every open session; session.future_max is 5m
            → kafka-configs.sh --bootstrap-server kafka-1:9092 --alter --topic clickstream --add-config message.timestamp.after.max.ms=300000
        ! clickstream: retention.ms=3600000 (1h): once its oldest records go, a restart is refused, since the state is rebuilt from them
            → kafka-configs.sh --bootstrap-server kafka-1:9092 --alter --topic clickstream --add-config retention.ms=-1,retention.bytes=-1
        ✘ rejected: has 2 partitions, the clickstream 3: records go out to the number they came in by
            → delete it where it holds nothing yet (kafka-topics.sh --bootstrap-server kafka-1:9092 --delete --topic rejected), then dce topics create; or name a new topic in topics.rejected
    "#]],
    );
    let said = bank.say(&["topics", "create", "--partitions", "5"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("the clickstream has 3 already"), "{}", said.err);
    let said = bank.say(&["topics", "--json"]);
    assert_eq!(said.code, 1);
    let rows: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        rows.iter().map(|row| &row["role"]).collect::<Vec<_>>(),
        ["clicks", "embeddings", "live", "sessions", "rejected"]
    );
    assert_eq!(rows[1]["settings"]["cleanup.policy"], "compact");
    assert_eq!((&rows[1]["partitions"], &rows[4]["partitions"]), (&Value::from(3), &Value::from(2)));
    assert_eq!(rows[1]["deviations"], Value::from(Vec::<Value>::new()), "what was made is as it should be");
}

#[test]
fn tail_shows_each_topic_and_one_customer_s_history() {
    let bank = Bank::with_topics("tools-tail");
    // The model looks at the calendar.
    let now = 1_700_000_000_000;
    // The partition that Java's partitioner gives this key among three.
    let partition = i32::try_from(dce::generate::partition_of(b"ana", 3)).unwrap();
    let other = i32::try_from(dce::generate::partition_of(b"bob", 3)).unwrap();
    assert_ne!(partition, other, "two partitions");
    let kinds = [("e1", "LOGIN"), ("e2", "ACTION"), ("e3", "LOGOUT"), ("e4", "LOGIN"), ("e5", "LOGOUT")];
    for (index, (id, kind)) in (0..).zip(kinds) {
        bank.bed.produce(
            &bank.topic("clickstream"),
            [at(partition, "ana", &click(id, "ana", now - 9_000 + index * 1_000, kind), now)],
        );
    }
    let bob = [("b1", "LOGIN"), ("b2", "LOGOUT")]
        .map(|(id, kind)| at(other, "bob", &click(id, "bob", now - 5_000, kind), now));
    let bad = at(other, "bob", "{\u{1b}[31m", now);
    bank.bed.produce(&bank.topic("clickstream"), bob.into_iter().chain([bad]));
    let worker = bank.worker();
    bank.bed.collector(&bank.topic("embeddings")).until(3);
    bank.bed.collector(&bank.topic("rejected")).until(1);
    // What nobody could have written, and an erasure.
    bank.bed.produce_bytes(&bank.topic("embeddings_live"), partition, "ana", &[vec![0xc3, 1, 9, 9]]);
    let erasure = Click { value: None, ..at(partition, "ana", "", now) };
    bank.bed.produce(&bank.topic("clickstream"), [erasure]);
    bank.bed.collector(&bank.topic("embeddings")).until(4);
    drop(worker);

    let columns = |said: &Said| -> String {
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        // The model's numbers are not this test's, nor how long it all took.
        let lines = said.out.lines().map(|line| {
            let line = line.split(" [").next().unwrap();
            let words: Vec<&str> = line.split_whitespace().filter(|word| !is_age(word)).collect();
            words.join(" ") + "\n"
        });
        lines.collect()
    };
    let said = bank.say(&["tail", "live", "--customer", "ana", "--from-beginning", "-e"]);
    expect![[r#"
        TIME CUSTOMER SEQ KIND CLOSED EVENTS SHIFT GATE AGE CHANNEL MODEL EMBEDDING
        2026-03-01T08:00:00.000Z ana 1 provisional open 2 - 1.00 web tiny@1
        2026-03-01T08:00:00.000Z ana 2 closed LOGOUT 3 - 0.34 web tiny@1
        2026-03-01T08:00:00.000Z ana 3 closed LOGOUT 2 0.0262 0.40 web tiny@1
        2026-03-01T08:00:00.000Z ana not decodable at embeddings_live/1@4: the bytes end within the single-object header: 0xc3010909
        2026-03-01T08:00:00.000Z ana erased
    "#]].assert_eq(&columns(&said));
    let said = bank.say(&["tail", "sessions", "--last", "2", "--customer", "ana", "-e"]);
    expect![[r#"
        TIME CUSTOMER SEQ OPENED → CLOSED REV EVENTS LASTED KEY
        2026-03-01T08:00:00.000Z ana 2 LOGIN → LOGOUT 0 3 d:3:web/
        2026-03-01T08:00:00.000Z ana 3 LOGIN → LOGOUT 0 2 d:3:web/
    "#]]
    .assert_eq(&columns(&said));
    let said = bank.say(&["tail", "rejected", "--since", "1h", "-e"]);
    expect![[r#"
        TIME KEY REASON FROM DETAIL VALUE
        2026-03-01T08:00:00.000Z bob decode clickstream/0@2 not JSON at byte 1: a name in quotes expected {\u{1b}[31m
    "#]]
    .assert_eq(&columns(&said));
    let said = bank.say(&["tail", "clicks", "--customer", "bob", "--from-beginning", "-n", "3", "--raw"]);
    assert_eq!(said.out.lines().count(), 3, "-n ends it while it would follow");
    assert!(said.out.ends_with("bob\t{\u{1b}[31m\n"), "raw is raw: {:?}", said.out);
    assert_eq!(bank.say(&["tail", "--until", "2h", "-e"]).out.lines().count(), 1, "the columns' names alone");
    let said = bank.say(&["tail", "--json", "--last", "1", "-e"]);
    let row: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&row["topic"], &row["key"], &row["erased"]), (&"embeddings".into(), &"ana".into(), &true.into()));
    assert_eq!((&row["partition"], &row["value"]), (&partition.into(), &Value::Null));
    let said = bank.say(&["tail", "live", "--json", "--customer", "ana", "--from-beginning", "-n", "1"]);
    let row: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&row["value"]["customer_id"], &row["value"]["kind"]), (&"ana".into(), &"PROVISIONAL".into()));
    let said = bank.say(&["tail", "sessions", "--set", "topics.sessions="]);
    assert_eq!(said.code, 2, "{}", said.err);
}

/// Windows that widen from the end give what reading everything gives.
#[test]
fn the_last_records_are_the_last_ones() {
    let bank = Bank::with_topics("tools-last");
    let topic = bank.topic("clickstream");
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let mut clicks = Vec::new();
    for number in 0..3_000_i64 {
        // One customer is rare, and long gone at the end.
        let key = if number < 900 && random(50) == 0 { "rare" } else { "often" };
        let partition = i32::try_from(dce::generate::partition_of(key.as_bytes(), 3)).unwrap();
        let partition = if key == "often" { i32::try_from(random(3)).unwrap() } else { partition };
        clicks.push(at(partition, key, &number.to_string(), 1_700_000_000_000 + number));
    }
    bank.bed.produce(&topic, clicks);
    let all = bank.bed.read_all(&topic);
    let naive = |count: usize, customer: Option<&str>| {
        let mut numbers: Vec<i64> = all
            .iter()
            .filter(|got| customer.is_none_or(|customer| got.key.as_deref() == Some(customer)))
            .map(|got| got.value.as_deref().unwrap().parse().unwrap())
            .collect();
        numbers.sort_unstable();
        numbers.split_off(numbers.len().saturating_sub(count))
    };
    for (count, customer) in [(1, None), (7, None), (2_999, None), (5_000, None), (1, Some("rare")), (90, Some("rare"))]
    {
        let text = count.to_string();
        let mut arguments = vec!["tail", "clicks", "--raw", "-e", "--last", &text];
        arguments.extend(customer.iter().flat_map(|customer| ["--customer", customer]));
        let said = bank.say(&arguments);
        let found: Vec<i64> = said.out.lines().map(|line| line.split('\t').nth(1).unwrap().parse().unwrap()).collect();
        assert_eq!(found, naive(count, customer), "--last {count} of {customer:?}");
    }
}

fn is_age(word: &str) -> bool {
    word.ends_with(['s', 'd']) && word.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit())
}

#[test]
fn tail_follows_and_ends_well() {
    let bank = Bank::with_topics("tools-follow");
    let now = Clock::start().wall_ms();
    let mut child = bank.command(&["tail", "clicks", "--raw"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It begins with what comes after it has looked where the ends are: so one after the other until one is seen.
    let input = bank.topic("clickstream");
    let (seen, more) = (std::sync::atomic::AtomicBool::new(false), std::sync::atomic::Ordering::SeqCst);
    let first = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !seen.load(more) {
                bank.bed.produce(&input, [at(0, "ana", "live", now)]);
            }
        });
        let first = lines.next().unwrap().unwrap();
        seen.store(true, more);
        first
    });
    assert_eq!(first, "ana\tlive");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(0), "Ctrl-C is the way to end it");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bank.command(&["tail", "clicks", "--from-beginning"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "as behind | head");
}

#[test]
fn rejects_are_counted_shown_and_sent_back_once() {
    let mut bank = Bank::new("tools-rejects");
    bank.bed.settings.producer.insert("message.max.bytes".to_owned(), "8000000".to_owned());
    bank.bed.topic_of(
        "clickstream",
        PARTITIONS,
        &[("max.message.bytes", "8000000"), ("message.timestamp.after.max.ms", "300000")],
    );
    assert_eq!(bank.say(&["topics", "create", "--replication", "1"]).code, 0);
    let now = Clock::start().wall_ms();
    // Half an hour beyond what its record was stamped with, and in the past by now.
    let (stamped, happened) = (now - 3_600_000, now - 1_800_000);
    let mut logout = at(2, "ana", &click("e2", "ana", happened + 1, "LOGOUT"), stamped);
    logout.headers = vec![("traceparent".to_owned(), "00-1-2-01".to_owned())];
    let huge = format!("{{\"event_id\":{}", "x".repeat(1_100_000));
    bank.bed.produce(
        &bank.topic("clickstream"),
        [
            at(2, "ana", &click("e1", "ana", happened, "LOGIN"), stamped),
            logout,
            at(0, "ben", "{\"event_id\":", now),
            at(0, "ben", &huge, now),
            at(1, "dan", &click("d1", "eve", now, "ACTION"), now),
        ],
    );
    bank.bed.produce_bytes(&bank.topic("clickstream"), 1, "dan", &[vec![0xff, 0x00, 0x41]]);
    let _worker = bank.worker();
    let mut rejected = bank.bed.collector(&bank.topic("rejected"));
    rejected.until(6);

    check(
        &bank.say(&["rejects"]),
        0,
        expect![[r#"
        REASON           COUNT      SHARE  FIRST                     LAST                      PARTITIONS
        decode               3     50.0 %  2026-03-01T08:00:00.000Z  2026-03-01T08:00:00.000Z  0,1
                             2  not JSON at byte N: a value expected
                             1  the first byte is N: neither JSON ('{') nor Avro (c3 N) nor a registry's framing (N)
        future               2     33.3 %  2026-03-01T08:00:00.000Z  2026-03-01T08:00:00.000Z  2
                             2  event_time is N ms beyond the record's timestamp, limit N
        key                  1     16.7 %  2026-03-01T08:00:00.000Z  2026-03-01T08:00:00.000Z  1
                             1  the key is not the value's customer_id

        6 rejected records in rejected of 6 in clickstream (100.0 %)
    "#]],
    );
    let said = bank.say(&["rejects", "show", "--reason", "decode"]);
    check(
        &said,
        0,
        expect![[r#"
        clickstream/0/0 → rejected/0/0  2026-03-01T08:00:00.000Z
          reason  decode (decode): not JSON at byte 12: a value expected
          stamped 2026-03-01T08:00:00.000Z
          key     ben
          value   {"event_id":

        clickstream/0/1 → rejected/0/1  2026-03-01T08:00:00.000Z
          reason  decode (decode): not JSON at byte 12: a value expected
          stamped 2026-03-01T08:00:00.000Z
          value   left out for its size, 1100012 bytes; it stands at clickstream/0/1
          key     ben

        clickstream/1/1 → rejected/1/1  2026-03-01T08:00:00.000Z
          reason  decode (decode): the first byte is 0xff: neither JSON ('{') nor Avro (c3 01) nor a registry's framing (00)
          stamped 2026-03-01T08:00:00.000Z
          key     dan
          value   3 bytes that are no text:
                  00000000  ff 00 41                                         ..A

        3 of 3 rejected records in rejected
    "#]],
    );
    let said = bank.say(&["rejects", "show", "--customer", "dan", "--json", "-n", "1"]);
    let row: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&row["reason"], &row["value"]["hex"]), (&"decode".into(), &"ff0041".into()));

    // Nothing goes without --yes, and then each once.
    check(
        &bank.say(&["rejects", "send", "--reason", "future"]),
        0,
        expect![[r#"
        would send 2 rejected records to clickstream, each to the partition it came from
          future            2
          clickstream/2/0  ana  event_time is 1800000 ms beyond the record's timestamp, limit 300000
          clickstream/2/1  ana  event_time is 1800001 ms beyond the record's timestamp, limit 300000
        nothing was sent: add --yes
    "#]],
    );
    assert_eq!(bank.bed.read_all(&bank.topic("clickstream")).len(), 6);
    check(
        &bank.say(&["rejects", "send", "--reason", "future", "--yes"]),
        0,
        expect![[r#"
        sent 2 rejected records to clickstream, each to the partition it came from
          future            2
          clickstream/2/0  ana  event_time is 1800000 ms beyond the record's timestamp, limit 300000
          clickstream/2/1  ana  event_time is 1800001 ms beyond the record's timestamp, limit 300000
        each has a mark in rejected: dce rejects show tells where it went
    "#]],
    );
    let mut embeddings = bank.bed.collector(&bank.topic("embeddings"));
    let got = &embeddings.until(1)[0];
    assert_eq!((got.key.as_deref(), got.partition), (Some("ana"), 2), "the pipeline takes it now");
    assert_eq!(got.headers["traceparent"], "00-1-2-01", "as the original had it");
    let mut clicks = bank.bed.collector(&bank.topic("clickstream"));
    let all = clicks.until(8);
    let sent: Vec<_> = all.iter().filter(|got| got.headers.contains_key("dce-resent-from")).collect();
    assert_eq!(sent[0].headers["dce-resent-from"], format!("{}/2/0", bank.topic("clickstream")));
    assert_eq!(sent[1].headers["dce-resent-from"], format!("{}/2/1", bank.topic("clickstream")));
    check(
        &bank.say(&["rejects", "send", "--reason", "future", "--yes"]),
        0,
        expect![[r#"
        left out 2: it was sent there before (--again sends it once more)
          clickstream/2/0
          clickstream/2/1
        there is nothing to send
    "#]],
    );

    // What is rejected again is known as such; what was too large is fetched.
    let before = rejected.until(8).len();
    assert_eq!(before, 8, "two marks");
    let said = bank.say(&["rejects", "send", "--reason", "decode", "--customer", "ben", "--yes"]);
    assert_eq!(said.code, 0, "{}", said.err);
    rejected.until(12);
    let back = clicks.until(10).iter().filter(|got| got.value.as_deref() == Some(huge.as_str())).count();
    assert_eq!(back, 2, "the whole of it came back");
    check(
        &bank.say(&["rejects", "send", "--reason", "decode", "--customer", "ben"]),
        0,
        expect![[r#"
        left out 2: it was sent before and rejected again (--again sends it once more)
          clickstream/0/2
          clickstream/0/3
        left out 2: it was sent there before (--again sends it once more)
          clickstream/0/0
          clickstream/0/1
        there is nothing to send
    "#]],
    );
    let said = bank.say(&["rejects", "--json"]);
    let summary: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!(summary["summary"]["sent_back"], 4);
    assert_eq!(summary["summary"]["came_back"], 2);

    // Elsewhere is another matter.
    let to = bank.bed.topic_of("aside", PARTITIONS, &[("max.message.bytes", "8000000")]);
    let said = bank.say(&["rejects", "send", "--reason", "future", "--to", &to, "--yes"]);
    assert_eq!((said.code, bank.bed.read_all(&to).len()), (0, 2), "{}", said.err);
    let narrow = bank.bed.topic("narrow", 1);
    let said = bank.say(&["rejects", "send", "--reason", "future", "--to", &narrow]);
    assert!(said.out.contains("left out 2: the target has no such partition"), "{}", said.out);
    let said = bank.say(&["rejects", "send", "--yes"]);
    assert_eq!(said.code, 2, "{}", said.err);
}

/// The text of the page that shows them, which this test keeps true: `UPDATE_EXPECT=1` writes it anew.
struct Page {
    path: PathBuf,
    text: String,
    changed: bool,
}

impl Page {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
        let text = std::fs::read_to_string(&path).expect("docs/troubleshooting.md");
        Self { path, text, changed: false }
    }

    /// The block after `<!-- check: NAME -->` holds that output.
    fn check(&mut self, name: &str, said: &str) {
        let mark = format!("<!-- check: {name} -->\n```\n");
        let begin =
            self.text.find(&mark).unwrap_or_else(|| panic!("docs/troubleshooting.md lacks {mark}")) + mark.len();
        let end = begin + self.text[begin..].find("```").expect("the block's end");
        if self.text[begin..end] != *said {
            if std::env::var("UPDATE_EXPECT").is_err() {
                panic!(
                    "docs/troubleshooting.md, {name}, shows\n{}\nand dce check says\n{said}",
                    &self.text[begin..end]
                );
            }
            self.text.replace_range(begin..end, said);
            self.changed = true;
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.changed {
            std::fs::write(&self.path, &self.text).expect("the page is ours");
        }
    }
}

/// What is not right, and the sum.
fn faults(said: &Said) -> String {
    let mut shown = String::new();
    for line in said.out.lines().filter(|line| !line.starts_with(['✔', '–'])) {
        shown += line;
        shown.push('\n');
    }
    shown
}

#[test]
fn check_finds_each_broken_set_up() {
    let mut page = Page::read();
    let bank = Bank::with_topics("tools-check");
    let right = bank.say(&["check"]);
    assert_eq!((right.code, right.err.as_str()), (0, ""), "{}", right.out);
    page.check("right", &right.out.replace(&library(&right), "/opt/onnxruntime/libonnxruntime.so.1.31.1"));

    let mut wrong = |name: &str, arguments: &[&str], code: i32| {
        let said = bank.say(&[&["check"], arguments].concat());
        assert_eq!((said.code, said.err.as_str()), (code, ""), "{name}: {}", said.out);
        page.check(name, &faults(&said));
        said
    };
    let topic = |what: &str, partitions: usize, settings: &[(&'static str, &str)]| {
        let name = bank.bed.topic_of(what, partitions, settings);
        // As the page calls it: what comes before the dash.
        let role = what.split('-').next().unwrap();
        (format!("topics.{role}={name}"), name)
    };
    let bounded = ("message.timestamp.after.max.ms", "300000");

    let away = wrong("broker away", &["--wait", "1s", "--set", "kafka.bootstrap=127.0.0.1:1"], 1);
    assert_eq!(away.out.matches("not checked: broker away").count(), 11);
    wrong("topic missing", &["--set", "topics.rejected=rejects"], 1);
    let sasl = [
        "--wait",
        "3s",
        "--set",
        "kafka.properties.security.protocol=sasl_plaintext",
        "--set",
        "kafka.properties.sasl.mechanism=PLAIN",
        "--set",
        "kafka.properties.sasl.username=dce",
        "--set",
        "kafka.properties.sasl.password=hunter2",
    ];
    let said = wrong("sasl", &sasl, 1);
    assert!(!said.out.contains("hunter2"));
    let said = wrong("no such property", &["--set", "kafka.properties.sasl.pasword=hunter2"], 1);
    assert!(!said.out.contains("hunter2"));

    let mut other = |name: &str, what: &str, partitions: usize, settings: &[(&'static str, &str)], code: i32| {
        let (setting, full) = topic(what, partitions, settings);
        let said = bank.say(&["check", "--set", &setting]);
        assert_eq!((said.code, said.err.as_str()), (code, ""), "{name}: {}", said.out);
        page.check(name, &faults(&said).replace(&full, what.split('-').next().unwrap()));
    };
    other("partition counts", "sessions-two", 2, &[], 1);
    other("table not compacted", "embeddings-log", PARTITIONS, &[("cleanup.policy", "delete")], 1);
    other(
        "unbounded timestamps",
        "clickstream-loose",
        PARTITIONS,
        &[("message.timestamp.after.max.ms", "9223372036854775807")],
        1,
    );
    other("finite retention", "clickstream-week", PARTITIONS, &[bounded, ("retention.ms", "604800000")], 0);
    other("input compacted", "clickstream-table", PARTITIONS, &[bounded, ("cleanup.policy", "compact")], 1);
    other("small records", "rejected-small", PARTITIONS, &[("max.message.bytes", "10000")], 1);
}

/// As the check names it.
fn library(said: &Said) -> String {
    let line = said.out.lines().find(|line| line.contains("onnx runtime")).expect("a row");
    line.rsplit(' ').next().expect("a path").to_owned()
}

#[test]
fn check_finds_a_broken_model_library_and_file() {
    let mut page = Page::read();
    let bank = Bank::with_topics("tools-offline");
    let folder = |name: &str| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(bank.bed.name(name));
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-bundle"), &folder);
        folder
    };
    let mut model = |name: &str, folder: &Path| {
        let path = folder.to_str().unwrap();
        let said = bank.say(&["check", "--offline", "--set", &format!("model.path={path}")]);
        assert_eq!((said.code, said.err.as_str()), (1, ""), "{}", said.out);
        page.check(name, &faults(&said).replace(path, "models/bank-small"));
    };
    let changed = folder("changed");
    let graph = changed.join("customer_read.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&graph, bytes).unwrap();
    model("model hash", &changed);
    let golden = folder("golden");
    break_golden(&golden);
    model("golden output", &golden);
    model("model missing", Path::new("models/none"));

    let mut command = bank.command(&["check", "--offline"]);
    command.env("ORT_DYLIB_PATH", "/opt/none/libonnxruntime.so");
    let said = bank.run(command);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{}", said.out);
    page.check("library missing", &faults(&said));

    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.toml", bank.bed.name("bank")));
    std::fs::write(&file, "[session]\ngap = \"20m\"\nevents = 7\n").unwrap();
    let said = bank.say(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{}", said.out);
    assert!(said.out.contains("not checked: the settings are refused"), "{}", said.out);
    page.check("unknown key", &faults(&said).replace(file.to_str().unwrap(), "bank.toml"));
    std::fs::remove_file(&file).unwrap();
    for folder in [changed, golden] {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn check_finds_a_group_that_cannot_be_gone_on_with() {
    let mut page = Page::read();
    let bank = Bank::with_topics("tools-group");
    let input = bank.topic("clickstream");
    let now = Clock::start().wall_ms();
    bank.bed.produce(&input, [at(0, "ana", "x", now), at(0, "ana", "x", now)]);
    let commit = |group: &str, metadata: &str| {
        let mut config = bank.bed.settings.reader(group, 1_024);
        let consumer: BaseConsumer = config.set("enable.partition.eof", "false").create().unwrap();
        let mut list = TopicPartitionList::new();
        {
            let mut element = list.add_partition(&input, 0);
            element.set_offset(Offset::Offset(1)).unwrap();
            element.set_metadata(metadata);
        }
        consumer.commit(&list, CommitMode::Sync).unwrap();
    };
    let mut wrong = |name: &str, group: &str| {
        let said = bank.say(&["check", "--set", &format!("app.id={group}")]);
        assert_eq!((said.code, said.err.as_str()), (1, ""), "{}", said.out);
        page.check(name, &faults(&said).replace(group, "dce"));
    };
    let [offsets, terms, member] = ["offsets", "terms", "member"].map(|what| bank.bed.name(what));
    commit(&offsets, "");
    wrong("foreign offsets", &offsets);
    commit(&terms, "dce from=0 terms=00000000000000aa");
    wrong("other terms", &terms);

    // Somebody who reads something else is a member.
    let mut config = bank.bed.settings.reader(&member, 1_024);
    config.set("enable.partition.eof", "false").set("group.instance.id", "payments-7");
    let consumer: BaseConsumer = config.create().unwrap();
    let payments = bank.bed.topic("payments", 1);
    consumer.subscribe(&[&payments]).unwrap();
    while consumer.assignment().unwrap().count() == 0 {
        drop(consumer.poll(std::time::Duration::from_millis(50)));
    }
    let said = bank.say(&["check", "--set", &format!("app.id={member}")]);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{}", said.out);
    let shown = faults(&said).replace(&member, "dce").replace(&payments, "payments");
    page.check("foreign member", &shown);
}

/// One number of a golden output is another, and the manifest says so: the bundle is whole, and its graphs are not its own.
fn break_golden(folder: &Path) {
    let path = folder.join("golden.json");
    let mut golden: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let case = &mut golden["graphs"]["customer_read"][0]["outputs"]["embedding"]["data"][0];
    *case = Value::from(case.as_f64().unwrap() + 0.5);
    let text = golden.to_string();
    std::fs::write(&path, &text).unwrap();
    let manifest_path = folder.join("manifest.toml");
    let manifest = std::fs::read_to_string(&manifest_path).unwrap();
    let (before, after) = manifest.split_once("[golden]").expect("a section");
    let (head, hash) = after.split_once("sha256 = \"").expect("its hash");
    let hex: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&manifest_path, format!("{before}[golden]{head}sha256 = \"{hex}{}", &hash[64..])).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
