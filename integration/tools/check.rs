//! `dce check` on broken set-ups, each of which docs/troubleshooting.md shows: the page is compared with the command.

use std::path::{Path, PathBuf};

use dce::kafka::client::{Producer, ProducerEvents, Transactional};
use dce::kafka::raw;
use dce::telemetry::Clock;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Bank, PARTITIONS, Said, at, mask_between};
use crate::harness::WAIT;

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
    assert_eq!(away.out.matches("not checked: broker away").count(), 14);
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
    other("finite retention", "clickstream-hour", PARTITIONS, &[bounded, ("retention.ms", "3600000")], 0);
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
fn check_finds_a_transaction_that_hangs() {
    let mut page = Page::read();
    let bank = Bank::with_topics("tools-hangs");
    let transactional = Transactional { id: &bank.topic("hangs"), timeout: WAIT, buffer_kbytes: 64 };
    let config = bank.bed.settings.transactional(&transactional);
    let producer = Producer::from_config_and_context(&config, ProducerEvents::default()).unwrap();
    producer.init_transactions(WAIT).unwrap();
    let open = |ago_ms: i64| {
        producer.begin_transaction().unwrap();
        let embeddings = bank.topic("embeddings");
        let record: BaseRecord<'_, str, str> = BaseRecord::to(&embeddings).partition(2).key("ana").payload("half");
        producer.send(record.timestamp(Clock::start().wall_ms() - ago_ms)).map_err(|(error, _)| error).unwrap();
        assert!(raw::flush(producer.client(), WAIT));
    };
    open(0);
    let said = bank.say(&["check"]);
    assert_eq!(said.code, 0, "{}", said.out);
    let line = said.out.lines().find(|line| line.starts_with("✔ transactions")).unwrap();
    assert!(line.contains("1 offsets of the output topics are not decided yet"), "{line}");
    producer.abort_transaction(WAIT).unwrap();
    open(300_000);
    let said = bank.say(&["check"]);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{}", said.out);
    page.check("hanging transaction", &mask_between(&faults(&said), "open for ", ",", "open for 5m00s,"));
    producer.abort_transaction(WAIT).unwrap();
    let said = bank.say(&["check"]);
    assert!(said.out.contains("all that is in the output topics is decided"), "{}", said.out);
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
