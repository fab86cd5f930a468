//! Silent partitions: the sessions that nobody logged out of end, by TICKs that stand in the input for whoever reads it again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dce::config::Encoding;
use dce::types::ClickKind;
use dce::wire::avro::Schemas;
use dce::wire::click::Input;
use serde_json::Value;

use crate::harness::{Bed, click};
use crate::pipeline::{Outputs, PARTITIONS, records};

const IDLE_AFTER_MS: i64 = 1_000;
pub(crate) const SETTINGS: [&str; 3] = ["session.gap=1s", "session.allowed_lateness=200ms", "session.idle_after=1s"];

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn bytes(customer: &'static str, ms: i64, kind: ClickKind, encoding: Encoding) -> Vec<u8> {
    let mut value = Vec::new();
    let click = click(&format!("{customer}-{ms}"), customer, ms, kind);
    Input::Click(click).encode_into(encoding, &mut value).unwrap();
    value
}

/// Two customers, each alone in a partition, who log in and are not heard of again.
fn forgotten(bed: &Bed, input: &str, encoding: Encoding) {
    let now = now_ms();
    for (partition, customer) in [(0, "ana"), (1, "ben")] {
        let clicks = [(now - 20, ClickKind::Login), (now, ClickKind::PageView)];
        let clicks = clicks.map(|(ms, kind)| bytes(customer, ms, kind, encoding));
        bed.produce_bytes(input, partition, customer, &clicks);
    }
}

/// The times of the TICKs in the input, and how many records it has.
fn ticks(bed: &Bed, input: &str) -> (Vec<i64>, usize) {
    let values = bed.read_bytes(input);
    let ticks = values.iter().filter_map(|value| match dce::wire::decode(value, &Schemas::released()).unwrap() {
        Input::Tick(time) => Some(time.ms()),
        Input::Click(_) => None,
    });
    (ticks.collect(), values.len())
}

fn ends_in(encoding: Encoding, name: &str) {
    let bed = Bed::new(&format!("ticks-{name}"));
    let input = bed.topic("clicks", PARTITIONS);
    forgotten(&bed, &input, encoding);
    let outputs = Outputs::new(&bed, &input, "live");
    let encoding_setting = format!("encoding={name}");
    let mut dce = outputs.run(&bed, "live", &[&SETTINGS[..], &[&encoding_setting]].concat());
    bed.collector(&outputs.embeddings).until(PARTITIONS);

    // When nothing waits any more nothing is written any more.
    let idle = Duration::from_millis(IDLE_AFTER_MS.unsigned_abs());
    let mut before = ticks(&bed, &input);
    loop {
        std::thread::sleep(3 * idle);
        let now = ticks(&bed, &input);
        if now == before {
            break;
        }
        before = now;
    }
    let (times, count) = before;
    assert_eq!(count, 2 * PARTITIONS + times.len());
    // One when the session ends, one when it freezes, and one may come a moment too early.
    assert!((PARTITIONS..=3 * PARTITIONS).contains(&times.len()), "few are enough: {times:?}");
    assert!(times.iter().all(|ms| *ms <= now_ms() - IDLE_AFTER_MS), "{times:?}");
    dce.signal("TERM");
    assert!(dce.wait().success(), "{}", dce.said());

    // Whoever reads the input again, and writes nothing into it, has the same sessions.
    let again = Outputs::new(&bed, &input, "again");
    let settings = [&SETTINGS[..2], &["encoding=json"]].concat();
    let _again = again.run(&bed, "again", &settings);
    bed.collector(&again.embeddings).until(PARTITIONS);
    assert_eq!(ticks(&bed, &input).1, count);
    let made = records(&bed, &again.embeddings);
    let reasons: Vec<&Value> = made.values().flatten().map(|record| &record["close_reason"]).collect();
    assert_eq!(reasons, ["GAP"; PARTITIONS]);
    if encoding == Encoding::Json {
        assert_eq!(made, records(&bed, &outputs.embeddings));
    }
}

#[test]
fn forgotten_sessions_of_silent_partitions_end_and_end_the_same_when_read_again() {
    ends_in(Encoding::Json, "json");
}

#[test]
fn ticks_are_written_as_the_outputs_are() {
    ends_in(Encoding::Avro, "avro");
}

#[test]
fn without_the_setting_time_stands_still_until_it_is_set() {
    let bed = Bed::new("no-ticks");
    let input = bed.topic("clicks", PARTITIONS);
    forgotten(&bed, &input, Encoding::Json);
    let outputs = Outputs::new(&bed, &input, "off");
    let mut dce = outputs.run(&bed, "off", &SETTINGS[..2]);
    dce.until_said("partitions restored");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ticks(&bed, &input), (Vec::new(), 2 * PARTITIONS));
    assert_eq!(bed.read_all(&outputs.embeddings), []);
    // A click in one partition ends nothing in the other.
    bed.produce_bytes(&input, 0, "cleo", &[bytes("cleo", now_ms(), ClickKind::PageView, Encoding::Json)]);
    let mut embeddings = bed.collector(&outputs.embeddings);
    assert_eq!(embeddings.until(1)[0].key.as_deref(), Some("ana"));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(embeddings.look().len(), 1);

    // It may be changed at any time, and holds for what was open before.
    dce.signal("TERM");
    assert!(dce.wait().success(), "{}", dce.said());
    let _dce = outputs.run(&bed, "off", &SETTINGS);
    let mut keys: Vec<_> = embeddings.until(3).iter().map(|got| got.key.clone().unwrap_or_default()).collect();
    keys.sort();
    assert_eq!(keys, ["ana", "ben", "cleo"]);
}
