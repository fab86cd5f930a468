//! The two readers in `examples/` on a generated bank's embeddings, as they come out of the real pipeline.

use std::path::PathBuf;
use std::process::Command;

use crate::generate::{dce_says, scratch};
use crate::harness::{Bed, Click};

const PARTITIONS: usize = 2;
/// How much more often a flagged session is a thief's than any session is, at the least. Measured: about 14 times.
const ENRICHED: f64 = 4.0;

/// What a reader printed.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    /// In the order of the text: partitions are mixed as they come.
    flags: Vec<String>,
    others: Vec<String>,
    /// `read N records; …`, and the score.
    end: Vec<String>,
}

fn said(mut command: Command, bootstrap: &str, topic: &str, labels: &str) -> Said {
    let output = command.args([bootstrap, "--topic", topic, "--until-end", "--labels", labels]).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        let mut lines: Vec<String> = text.lines().filter(|line| wanted(line)).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let is_flag = |line: &str| line.starts_with("flag ");
    let is_other = |line: &str| line.starts_with("gap ") || line.starts_with("repeat ");
    Said { flags: lines(&is_flag), others: lines(&is_other), end: lines(&|line| !is_flag(line) && !is_other(line)) }
}

fn both(bed: &Bed, topic: &str, labels: &str) -> Said {
    let python = std::env::var("DCE_TEST_PYTHON").unwrap_or_else(|_| {
        panic!(
            "DCE_TEST_PYTHON names no Python with confluent-kafka: export \
             DCE_TEST_PYTHON=\"$(deploy/setup/python-clients.sh | tail -n 1)\", or run make test"
        )
    });
    let mut py = Command::new(python);
    py.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/flag_takeovers.py"));
    let rust = PathBuf::from(env!("CARGO_BIN_EXE_dce")).with_file_name("examples").join("flag_takeovers");
    assert!(rust.is_file(), "{} is not built: cargo build --examples, or run make test", rust.display());
    let rust = said(Command::new(rust), &bed.settings.bootstrap, topic, labels);
    let py = said(py, &bed.settings.bootstrap, topic, labels);
    assert_eq!(rust, py, "the same flags and figures, word for word");
    rust
}

/// The two numbers of `… 81 of 370 …` after a name.
fn of(said: &Said, name: &str) -> [f64; 2] {
    let line = said.end.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {said:?}"));
    let numbers: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).take(2).collect();
    numbers.try_into().expect("two numbers")
}

#[test]
fn both_readers_flag_the_same_sessions_and_thieves_above_all() {
    let bed = Bed::new("flagged");
    let (labels, clicks) = (scratch(&bed, "csv"), scratch(&bed, "ndjson"));
    let [labels_text, clicks_text] = [&labels, &clicks].map(|path| path.to_str().expect("UTF-8"));
    let bank = ["--customers=200", "--days=40", "--takeovers=0.5", "--shuffle=3", "--duplicate=0.02"];
    let topics = ["clicks", "embeddings", "live", "rejected", "state"].map(|what| bed.topic(what, PARTITIONS));
    let settings = [
        format!("topics.clickstream={}", topics[0]),
        format!("topics.embeddings={}", topics[1]),
        format!("topics.embeddings_live={}", topics[2]),
        format!("topics.rejected={}", topics[3]),
        format!("topics.state={}", topics[4]),
        format!("app.id={}", bed.name("app")),
        "provisional.every_events=5".to_owned(),
        "http.listen=off".to_owned(),
    ];
    let with_settings = |command: &[&str]| {
        let settings = settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
        bed.dce(&command.iter().copied().chain(settings).collect::<Vec<_>>())
    };
    let mut generate = with_settings(&[&["generate", "--to-kafka", "--labels", labels_text], &bank[..]].concat());
    assert!(generate.wait().success(), "{}", generate.said());

    // How many records there will be, by the sessionizer's own word.
    dce_says(&[&["generate", "--partitions=2", "--out", clicks_text], &bank[..]].concat());
    let rows = dce_says(&["sessions", "--json", "--provisional-every", "5", clicks_text]);
    let is_record = |row: &&str| row.contains(r#""what":"session""#) || row.contains(r#""what":"provisional""#);
    let count = rows.lines().filter(is_record).count();
    let mut run = with_settings(&["run"]);
    bed.collector(&topics[2]).until(count);
    run.signal("TERM");
    assert!(run.wait().success(), "{}", run.said());

    let found = both(&bed, &topics[2], labels_text);
    assert!(found.end.iter().any(|line| line.starts_with(&format!("read {count} records"))), "{count}: {found:?}");
    assert!(found.others.is_empty(), "no gap and no repeat: {:?}", found.others);
    let ([right, flagged], [stolen, sessions]) = (of(&found, "why=any: precision "), of(&found, "base rate: "));
    assert!(right >= 10.0, "{:?}", found.end);
    let factor = (right / flagged) / (stolen / sessions);
    assert!(factor >= ENRICHED, "{factor:.1} times the base rate: {:?}", found.end);

    // A reader that missed a record, and saw one twice, says so.
    let mut records = bed.read_all(&topics[2]);
    let sequence = |value: &Option<String>| value.as_deref().is_some_and(|value| value.contains("\"sequence\":3,"));
    let missed = records.iter().position(|got| sequence(&got.value)).expect("a third record");
    records.remove(missed);
    records.insert(missed, records[missed].clone());
    let broken = bed.topic("broken", PARTITIONS);
    bed.produce(
        &broken,
        records.iter().map(|got| {
            Click::new(got.partition, got.key.as_deref().expect("a key"), got.value.as_deref().expect("a value"))
        }),
    );
    let found = both(&bed, &broken, labels_text);
    assert_eq!(found.others.len(), 2, "{:?}", found.others);
    assert!(found.others[0].starts_with("gap ") && found.others[1].starts_with("repeat "), "{:?}", found.others);
    std::fs::remove_file(labels).expect("ours");
    std::fs::remove_file(clicks).expect("ours");
}
