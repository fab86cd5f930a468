//! A real schema registry beside a real broker: framed clicks in, framed outputs out, and a registry that goes away.
//! `integration/registry.sh` starts and stops it; it ends with these tests, whatever happens to them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use dce::config::{self, Encoding, SubjectStrategy};
use dce::kafka::Deadline;
use dce::registry::{Client, Resolver};
use dce::stop::Stop;
use dce::types::ClickKind;
use dce::wire::avro::{CUSTOMER_EMBEDDING_AVSC, SESSION_SUMMARY_AVSC, Schemas};
use dce::wire::click::{ClickEvent, Input};
use dce::wire::embedding::{CustomerEmbedding, SessionSummary};
use serde_json::Value;

use crate::harness::{Bed, Dce, WAIT, click};
use crate::pipeline::{Outputs, PARTITIONS, dce_says, expected, get};
use crate::ticks;

const CLICK_EVENT: &str = include_str!("../schemas/ClickEvent.avsc");

/// A running Apicurio. It ends when its script reads the end of its input, so with this process at the latest.
struct Apicurio {
    script: Child,
    url: String,
    dir: String,
}

impl Apicurio {
    fn start() -> Self {
        let mut script = Command::new(Self::script())
            .args(["run", "--", "sh", "-c", r#"echo "$DCE_TEST_REGISTRY"; echo "$DCE_TEST_REGISTRY_DIR"; cat"#])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("integration/registry.sh runs");
        let mut said = BufReader::new(script.stdout.take().expect("its output")).lines();
        let mut line = || said.next().expect("a registry that starts: its script says why not").expect("UTF-8");
        let (url, dir) = (line(), line());
        Self { script, url, dir }
    }

    /// One for the tests that leave it alone.
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Apicurio> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn script() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/registry.sh")
    }

    fn tell(&self, arguments: &[&str]) {
        let told = Command::new(Self::script()).args(arguments).arg(&self.dir).stdout(Stdio::null()).status();
        assert!(told.expect("integration/registry.sh runs").success(), "{arguments:?}");
    }

    fn stop(&self) {
        self.tell(&["stop", "--keep"]);
    }

    fn go_on(&self) {
        self.tell(&["start"]);
    }

    fn settings(&self) -> config::Registry {
        config::Registry {
            urls: vec![self.url.clone()],
            login: None,
            ca_file: None,
            subject_strategy: SubjectStrategy::TopicName,
            register: true,
            timeout: Duration::from_secs(10),
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.settings()).unwrap()
    }

    fn setting(&self) -> String {
        format!("registry.url={}", self.url)
    }
}

impl Drop for Apicurio {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        drop(self.script.wait());
    }
}

/// A later version of the clicks' schema: one field more, and all of them in another order.
fn evolved() -> String {
    let mut schema: Value = serde_json::from_str(CLICK_EVENT).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.push(serde_json::json!({ "name": "app_build", "type": "long", "default": 0 }));
    fields.reverse();
    schema.to_string()
}

/// The present one with a word more, so that it is another schema to a registry, and the same to a record.
fn evolved_again() -> String {
    CLICK_EVENT.replacen("\"fields\"", "\"aliases\":[\"Click\"],\"fields\"", 1)
}

/// Written by the evolved schema, with nothing of ours.
fn framed_by_evolved(id: u32, schema: &Schema, click: &ClickEvent<'_>) -> Vec<u8> {
    let optional = |text: Option<&str>| match text {
        Some(text) => Avro::Union(1, Box::new(Avro::String(text.to_owned()))),
        None => Avro::Union(0, Box::new(Avro::Null)),
    };
    let kinds = ["UNKNOWN", "LOGIN", "LOGOUT", "PAGE_VIEW", "ACTION", "TICK"];
    let kind = kinds.iter().position(|kind| *kind == click.kind.as_str()).unwrap();
    let context = click.context.iter().map(|(name, number)| (name.to_string(), Avro::Double(*number))).collect();
    let context = match click.context.is_empty() {
        true => Avro::Union(0, Box::new(Avro::Null)),
        false => Avro::Union(1, Box::new(Avro::Map(context))),
    };
    let attributes = click.attributes.iter().map(|(name, text)| (name.to_string(), Avro::String(text.to_string())));
    let fields = [
        ("app_build", Avro::Long(77)),
        ("attributes", Avro::Map(attributes.collect())),
        ("context", context),
        ("device_id", optional(click.device_id.as_deref())),
        ("session_id", optional(click.session_id.as_deref())),
        ("channel", optional(click.channel.as_deref())),
        ("name", optional(Some(&click.name).filter(|name| !name.is_empty()).map(AsRef::as_ref))),
        ("kind", Avro::Enum(u32::try_from(kind).unwrap(), click.kind.as_str().to_owned())),
        ("event_time", Avro::TimestampMillis(click.event_time.ms())),
        ("customer_id", optional(click.customer_id.as_deref())),
        ("event_id", Avro::String(click.event_id.to_string())),
    ];
    let record = Avro::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    let body = apache_avro::to_avro_datum(schema, record).unwrap();
    [&[0][..], &id.to_be_bytes(), &body].concat()
}

fn framed(id: u32, click: ClickEvent<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Input::Click(click).encode_by_id(id, &mut bytes).unwrap();
    bytes
}

/// A login and a logout.
fn visit(id: u32, customer: &'static str, number: i64) -> [Vec<u8>; 2] {
    [(0, ClickKind::Login), (500, ClickKind::Logout)]
        .map(|(ms, kind)| framed(id, click(&format!("{customer}-{number}-{ms}"), customer, 1_000 * number + ms, kind)))
}

#[test]
fn framed_by_ids_goes_in_and_comes_out_as_by_fingerprints() {
    let (bed, apicurio) = (Bed::new("framed"), Apicurio::shared());
    let dirt = "--shuffle=30 --duplicate=0.05 --drop-logout=0.2";
    let arguments = format!("generate --seed=4 --customers=60 --events=2000 --partitions=2 {dirt}");
    let lines = dce_says(&arguments.split(' ').collect::<Vec<_>>());
    let count: usize = expected(&bed, &lines, &[]).0.values().map(Vec::len).sum();
    let [by_ids, by_fingerprints] = ["clicks-ids", "clicks"].map(|what| bed.topic(what, PARTITIONS));

    let (client, evolved) = (apicurio.client(), evolved());
    let subject = format!("{by_ids}-value");
    let ids = [CLICK_EVENT, &evolved].map(|avsc| client.register(&subject, avsc).unwrap());
    assert_ne!(ids[0], ids[1]);
    let evolved = Schema::parse_str(&evolved).unwrap();
    let schemas = Schemas::released();
    let (mut framed, mut plain) = (Vec::new(), Vec::new());
    for (number, line) in lines.lines().enumerate() {
        let row: Value = serde_json::from_str(line).unwrap();
        let Ok(Input::Click(click)) = dce::wire::decode(line.as_bytes(), &schemas) else { continue };
        let (partition, key) = (
            i32::try_from(row["partition"].as_i64().unwrap()).unwrap(),
            click.customer_id.clone().unwrap().to_string(),
        );
        let mut single = Vec::new();
        Input::Click(click.clone()).encode_into(Encoding::Avro, &mut single).unwrap();
        let by_id = match number % 2 {
            0 => self::framed(ids[0], click),
            _ => framed_by_evolved(ids[1], &evolved, &click),
        };
        framed.push((partition, key.clone(), by_id));
        plain.push((partition, key, single));
    }
    bed.produce_values(&by_ids, framed);
    bed.produce_values(&by_fingerprints, plain);

    let setting = apicurio.setting();
    let ours = Outputs::new(&bed, &by_ids, "ids");
    let _ours = ours.run(&bed, "ids", &["encoding=confluent", &setting]);
    let theirs = Outputs::new(&bed, &by_fingerprints, "plain");
    let _theirs = theirs.run(&bed, "plain", &["encoding=avro"]);
    for outputs in [&ours, &theirs] {
        bed.collector(&outputs.sessions).until(count);
        bed.collector(&outputs.embeddings).until(count);
        assert_eq!(bed.read_all(&outputs.rejected), []);
    }

    let id = client.look_up(&format!("{}-value", ours.embeddings), CUSTOMER_EMBEDDING_AVSC).unwrap();
    let raw = bed.read_bytes(&ours.embeddings);
    assert!(raw.iter().all(|value| value[0] == 0 && value[1..5] == id.to_be_bytes()));
    let embeddings = [&ours, &theirs].map(|outputs| {
        let values = bed.read_bytes(&outputs.embeddings);
        let mut resolver = Resolver::new(Some(&apicurio.settings())).unwrap();
        resolver.prepare(values.iter().map(Vec::as_slice), &Stop::new(), &mut |_| false).unwrap();
        by_customer(values.iter().map(|value| {
            let record = CustomerEmbedding::decode(value, resolver.schemas()).unwrap();
            CustomerEmbedding { emitted_at: 0, ..record }
        }))
    });
    assert_eq!(embeddings[0], embeddings[1]);
    let values = bed.read_bytes(&ours.sessions);
    let mut resolver = Resolver::new(Some(&apicurio.settings())).unwrap();
    resolver.prepare(values.iter().map(Vec::as_slice), &Stop::new(), &mut |_| false).unwrap();
    assert!(values.iter().all(|value| SessionSummary::decode(value, resolver.schemas()).is_ok()));
}

fn by_customer(records: impl Iterator<Item = CustomerEmbedding>) -> BTreeMap<String, Vec<CustomerEmbedding>> {
    let mut customers: BTreeMap<String, Vec<CustomerEmbedding>> = BTreeMap::new();
    for record in records {
        customers.entry(record.customer_id.as_str().to_owned()).or_default().push(record);
    }
    customers
}

#[test]
fn each_strategy_has_its_subjects_and_what_cannot_work_is_refused_at_the_start() {
    let (bed, apicurio) = (Bed::new("subjects"), Apicurio::shared());
    let client = apicurio.client();
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::new(&bed, &input, "s");
    let (embeddings, sessions) = (&outputs.embeddings, &outputs.sessions);
    let setting = apicurio.setting();
    let run = |more: &[&str]| outputs.run(&bed, "s", &[&["encoding=confluent", &setting], more].concat());
    let refused = |more: &[&str], part: &str| {
        let mut dce = run(more);
        assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
        assert!(dce.said().contains(part), "{}", dce.said());
    };

    refused(&["registry.register=false"], &format!("our schema does not stand under the subject {sessions}-value"));
    for (strategy, subjects) in [
        ("topic_name", [format!("{embeddings}-value"), format!("{sessions}-value")]),
        ("record_name", ["dce.v1.CustomerEmbedding".to_owned(), "dce.v1.SessionSummary".to_owned()]),
        (
            "topic_record_name",
            [format!("{embeddings}-dce.v1.CustomerEmbedding"), format!("{sessions}-dce.v1.SessionSummary")],
        ),
    ] {
        let mut dce = run(&[&format!("registry.subject_strategy={strategy}")]);
        let deadline = Deadline::after(WAIT);
        while !dce.said().contains("partitions assigned") {
            assert!(!deadline.passed(), "{}", dce.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        for (subject, avsc) in subjects.iter().zip([CUSTOMER_EMBEDDING_AVSC, SESSION_SUMMARY_AVSC]) {
            client.look_up(subject, avsc).unwrap_or_else(|error| panic!("{strategy}: {error}"));
        }
        dce.signal("TERM");
        assert!(dce.wait().success(), "{}", dce.said());
    }
    // What stands there is now found without registering.
    let mut dce = run(&["registry.register=false", "registry.subject_strategy=record_name"]);
    let deadline = Deadline::after(WAIT);
    while !dce.said().contains("partitions assigned") {
        assert!(!deadline.passed(), "{}", dce.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    dce.signal("TERM");
    assert!(dce.wait().success(), "{}", dce.said());

    // Another schema under our subject, which must stay readable.
    let taken = Outputs::new(&bed, &input, "taken");
    let subject = format!("{}-value", taken.embeddings);
    client.register(&subject, r#"{"type":"record","name":"Other","fields":[{"name":"x","type":"int"}]}"#).unwrap();
    let level = ureq::put(format!("{}/config/{subject}", apicurio.url))
        .content_type("application/json")
        .send(r#"{"compatibility":"BACKWARD"}"#);
    assert!(level.unwrap().status().is_success());
    let mut dce = taken.run(&bed, "taken", &["encoding=confluent", &setting]);
    assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
    let said = format!("does not take our schema under the subject {subject}: ");
    assert!(dce.said().contains(&said) && dce.said().contains("ncompatible"), "{}", dce.said());
}

#[test]
fn ids_that_nothing_can_be_read_by_are_rejected_with_the_reason() {
    let (bed, apicurio) = (Bed::new("ids"), Apicurio::shared());
    let client = apicurio.client();
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::new(&bed, &input, "ids");
    let good = client.register(&format!("{input}-value"), CLICK_EVENT).unwrap();
    let other = client.register(&format!("{input}-other"), r#"{"type":"string"}"#).unwrap();
    let [login, logout] = visit(good, "ana", 1);
    let by = |id: u32| [&[0][..], &id.to_be_bytes(), b"body"].concat();
    bed.produce_bytes(&input, 0, "ana", &[login, by(999_999), by(other), by(u32::MAX), vec![0, 0, 1], logout]);
    let setting = apicurio.setting();
    let _dce = outputs.run(&bed, "ids", &[&setting]);
    bed.collector(&outputs.embeddings).until(1);
    let mut rejected = bed.collector(&outputs.rejected);
    let details: Vec<_> = rejected
        .until(4)
        .iter()
        .map(|got| {
            assert_eq!(got.headers["dce-reason"], "decode");
            got.headers["dce-detail"].clone()
        })
        .collect();
    assert_eq!(details[0], "the schema registry knows no schema by the id 999999");
    assert_eq!(
        details[1],
        format!("the schema registry's id {other}: cannot be read as a ClickEvent: it is no record")
    );
    assert_eq!(details[2], format!("the schema registry knows no schema by the id {}", u32::MAX));
    assert_eq!(details[3], "the bytes end within the schema registry's header");
}

/// Until the endpoint says it; what it says then.
fn until_ready_says(dce: &Dce, part: &str) -> String {
    let deadline = Deadline::after(WAIT);
    loop {
        let said = dce.said();
        let address = said.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let answer = address.map(|address| get(address, "/ready")).unwrap_or_default();
        if answer.contains(part) {
            return answer;
        }
        assert!(!deadline.passed(), "{answer}\n{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_outage_is_waited_for_in_the_group_and_loses_and_doubles_nothing() {
    let (bed, apicurio) = (Bed::new("outage"), Apicurio::start());
    let client = apicurio.client();
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::new(&bed, &input, "outage");
    let first = client.register(&format!("{input}-value"), CLICK_EVENT).unwrap();
    let second = client.register(&format!("{input}-value"), &evolved()).unwrap();
    let evolved = Schema::parse_str(&evolved()).unwrap();
    let by_second = |number: i64| {
        [(0, ClickKind::Login), (500, ClickKind::Logout)].map(|(ms, kind)| {
            let click = click(&format!("ana-{number}-{ms}"), "ana", 1_000 * number + ms, kind);
            framed_by_evolved(second, &evolved, &click)
        })
    };
    let setting = apicurio.setting();
    let settings = ["encoding=confluent", "http.listen=127.0.0.1:0", &setting, "registry.timeout=500ms"];
    let group = bed.name("outage");

    // A start waits too.
    apicurio.stop();
    let mut dce = outputs.run(&bed, "outage", &settings);
    let why = until_ready_says(&dce, "waiting for the schema registry: the schema registry does not answer");
    assert!(why.starts_with("HTTP/1.1 503"), "{why}");
    apicurio.go_on();
    bed.produce_bytes(&input, 0, "ana", &visit(first, "ana", 1));
    let mut embeddings = bed.collector(&outputs.embeddings);
    embeddings.until(1);

    // An id that it has not seen, while there is nobody to ask.
    apicurio.stop();
    bed.produce_bytes(&input, 0, "ana", &by_second(2));
    bed.produce_bytes(&input, 0, "ana", &visit(first, "ana", 3));
    until_ready_says(&dce, "waiting for the schema registry");
    // Longer than the group waits for a silent member.
    let held = Deadline::after(Duration::from_secs(12));
    while !held.passed() {
        assert_eq!(bed.members(&group), Some(1));
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(bed.read_all(&outputs.rejected), []);
    // Another worker gets its share meanwhile, and ends when it is told to while it waits.
    let more = [&settings[..], &["app.instance=1", "encoding=json"]].concat();
    let mut other = outputs.run(&bed, "outage", &more);
    let deadline = Deadline::after(WAIT);
    while bed.members(&group) != Some(2) || !dce.said().contains("partitions revoked") {
        assert!(!deadline.passed(), "{}\n{}", other.said(), dce.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    other.signal("TERM");
    assert!(other.wait().success(), "{}", other.said());
    apicurio.go_on();
    embeddings.until(3);
    assert_eq!(bed.read_all(&outputs.rejected), []);

    // The state is rebuilt from framed records, and that waits as well.
    dce.kill();
    apicurio.stop();
    let mut dce = outputs.run(&bed, "outage", &[&settings[..], &["encoding=avro"]].concat());
    until_ready_says(&dce, "waiting for the schema registry");
    apicurio.go_on();
    bed.produce_bytes(&input, 0, "ana", &by_second(4));
    embeddings.until(4);
    dce.signal("TERM");
    assert!(dce.wait().success(), "{}", dce.said());

    let values = bed.read_bytes(&outputs.embeddings);
    let mut resolver = Resolver::new(Some(&apicurio.settings())).unwrap();
    resolver.prepare(values.iter().map(Vec::as_slice), &Stop::new(), &mut |_| false).unwrap();
    let records: Vec<_> =
        values.iter().map(|value| CustomerEmbedding::decode(value, resolver.schemas()).unwrap()).collect();
    let seen: Vec<_> = records.iter().map(|record| (record.sequence, record.cause.session_start.ms())).collect();
    assert_eq!(seen, [(1, 1_000), (2, 2_000), (3, 3_000), (4, 4_000)], "each once, in order");
    assert_eq!(bed.read_all(&outputs.rejected), []);

    // Records of an id that comes to be afterwards stay rejected, in a rebuilt state too.
    let latest = evolved_again();
    let third = client.register(&format!("{input}-later"), &latest).unwrap() + 1;
    let mut dce = outputs.run(&bed, "outage", &settings);
    bed.produce_bytes(&input, 0, "ana", &visit(third, "ana", 5));
    bed.collector(&outputs.rejected).until(2);
    dce.kill();
    let other = latest.replace("[\"Click\"]", "[\"Clicks\"]");
    assert_eq!(client.register(&format!("{input}-later"), &other), Ok(third), "ids go up by one");
    let mut dce = outputs.run(&bed, "outage", &settings);
    bed.produce_bytes(&input, 0, "ana", &visit(third, "ana", 6));
    embeddings.until(5);
    dce.kill();
    let values = bed.read_bytes(&outputs.embeddings);
    resolver.prepare(values.iter().map(Vec::as_slice), &Stop::new(), &mut |_| false).unwrap();
    let last = CustomerEmbedding::decode(values.last().unwrap(), resolver.schemas()).unwrap();
    assert_eq!((last.sequence, last.cause.session_start.ms()), (5, 6_000));
    assert_eq!(bed.read_all(&outputs.rejected).len(), 2);
}

#[test]
fn ticks_are_framed_by_the_id_of_our_schema() {
    let (bed, apicurio) = (Bed::new("framed-ticks"), Apicurio::shared());
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::new(&bed, &input, "t");
    let setting = apicurio.setting();
    let settings = [&ticks::SETTINGS[..], &["encoding=confluent", &setting]].concat();
    // Only who writes the input says what stands there.
    let subject = format!("{input}-value");
    let mut dce = outputs.run(&bed, "t", &settings);
    assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
    assert!(dce.said().contains(&format!("our schema does not stand under the subject {subject}")), "{}", dce.said());
    let id = apicurio.client().register(&subject, CLICK_EVENT).unwrap();
    let _dce = outputs.run(&bed, "t", &settings);
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    bed.produce_bytes(&input, 0, "ana", &[framed(id, click("e", "ana", now, ClickKind::Login))]);
    bed.collector(&outputs.embeddings).until(1);
    let values = bed.read_bytes(&input);
    assert!(values.len() > 1, "a TICK closed the session");
    assert!(values.iter().all(|value| value[0] == 0 && value[1..5] == id.to_be_bytes()));
}
