//! The tools of whoever runs it, on a real broker and by the real binary: topics, check, tail, rejects.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use dce::telemetry::Clock;
use expect_test::{Expect, expect};
use serde_json::Value;

use crate::harness::{Bed, Click, Dce};

mod rejects;
mod check;
mod rights;

const PARTITIONS: usize = 3;
const TOPICS: [&str; 10] = [
    "clickstream",
    "embeddings",
    "embeddings_live",
    "sessions",
    "rejected",
    "state",
    "drift_windows",
    "drift_alerts",
    "drift_references",
    "drift_customers",
];

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
        Self::on(Bed::new(test))
    }

    fn on(bed: Bed) -> Self {
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
            state state - - missing - - - -
            drift_windows windows - - missing - - - -
            drift_alerts alerts - - missing - - - -
            drift_references references - - missing - - - -
            drift_customers customers - - missing - - - -

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
            ✘ state: does not exist
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
            would create  state with 4 partitions, cleanup.policy=compact, segment.bytes=67108864, segment.ms=3600000, min.cleanable.dirty.ratio=0.1, max.compaction.lag.ms=21600000
            would create  drift_windows with 1 partition, cleanup.policy=delete, retention.ms=6048000000
            would create  drift_alerts with 1 partition, cleanup.policy=compact, min.compaction.lag.ms=604800000
            would create  drift_references with 1 partition, cleanup.policy=compact, min.compaction.lag.ms=6048000000
            would create  drift_customers with 1 partition, cleanup.policy=delete
        "#]],
    );
    assert_eq!(bank.say(&["topics", "--json"]).out.matches(r#""exists":false"#).count(), 10, "a dry run makes nothing");
    bank.bed.topic_of("clickstream", PARTITIONS, &[("retention.ms", "3600000")]);
    bank.bed.topic("rejected", 2);
    bank.bed.topic_of("drift_alerts", 1, &[]);
    check(
        &bank.say(&["topics", "create", "--replication", "1"]),
        1,
        expect![[r#"
            exists        clickstream, not touched
            created       embeddings with 3 partitions, cleanup.policy=compact, min.compaction.lag.ms=86400000
            created       embeddings_live with 3 partitions, cleanup.policy=delete, retention.ms=86400000
            created       sessions with 3 partitions, cleanup.policy=delete
            exists        rejected, not touched
            created       state with 3 partitions, cleanup.policy=compact, segment.bytes=67108864, segment.ms=3600000, min.cleanable.dirty.ratio=0.1, max.compaction.lag.ms=21600000
            created       drift_windows with 1 partition, cleanup.policy=delete, retention.ms=6048000000
            exists        drift_alerts, not touched
            created       drift_references with 1 partition, cleanup.policy=compact, min.compaction.lag.ms=6048000000
            created       drift_customers with 1 partition, cleanup.policy=delete

            ✘ clickstream: CreateTime and message.timestamp.after.max.ms=3600000 (1h): a wrong clock can close every open session; session.future_max is 5m
                → kafka-configs.sh --bootstrap-server kafka-1:9092 --alter --topic clickstream --add-config message.timestamp.after.max.ms=300000
            ! clickstream: retention.ms=3600000 (1h), and 36h are needed: what open sessions got is read from it again after a crash, and a worker refuses to start where it is gone
                → kafka-configs.sh --bootstrap-server kafka-1:9092 --alter --topic clickstream --add-config retention.ms=129600000
            ✘ rejected: has 2 partitions, the clickstream 3: records go out to the number they came in by
                → delete it where it holds nothing yet (kafka-topics.sh --bootstrap-server kafka-1:9092 --delete --topic rejected), then dce topics create; or name a new topic in topics.rejected
            ✘ drift_alerts: cleanup.policy=delete: it grows for ever, or loses alerts that stay open
                → kafka-configs.sh --bootstrap-server kafka-1:9092 --alter --topic drift_alerts --add-config cleanup.policy=compact,min.compaction.lag.ms=604800000
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
        [
            "clicks",
            "embeddings",
            "live",
            "sessions",
            "rejected",
            "state",
            "windows",
            "alerts",
            "references",
            "customers"
        ]
    );
    assert_eq!(rows[1]["settings"]["cleanup.policy"], "compact");
    assert_eq!((&rows[1]["partitions"], &rows[4]["partitions"]), (&Value::from(3), &Value::from(2)));
    for made in [1, 6, 8, 9] {
        assert_eq!(rows[made]["deviations"], Value::from(Vec::<Value>::new()), "what was made is as it should be");
    }
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
        let first = lines.next();
        seen.store(true, more);
        first
    });
    assert_eq!(first.expect("it follows until it is told to stop").unwrap(), "ana\tlive");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(0), "Ctrl-C is the way to end it");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bank.command(&["tail", "clicks", "--from-beginning"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "as behind | head");
}
