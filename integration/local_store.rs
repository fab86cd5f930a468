//! A worker that keeps its customers at rest on a disk: it writes what one writes that has all in memory, a restart reads
//! the end of the log alone, and whatever is wrong with the disk costs a restore and no record.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dce::kafka::Deadline;
use dce::kafka::topics::{self, Purpose, TopicSpec};
use serde_json::Value;

use crate::harness::{Bed, Dce, WAIT};
use crate::pipeline::{Outputs, PARTITIONS, dirty_clicks, get, read_to_the_end, records};

const SETTINGS: [&str; 2] = ["provisional.every_events=3", "epoch.events_max=200"];

struct Run {
    bed: Bed,
    outputs: Outputs,
    dir: PathBuf,
    /// Records of the live topic, of what was written so far.
    count: usize,
    /// Clicks that were not written yet, of the same customers.
    later: String,
}

impl Run {
    fn new(name: &str, seed: &str) -> Self {
        let bed = Bed::new(name);
        let input = bed.topic("clicks", PARTITIONS);
        let clicks = dirty_clicks(seed);
        let (middle, _) = clicks.match_indices('\n').nth(clicks.lines().count() / 2).unwrap();
        let (first, later) = clicks.split_at(middle + 1);
        bed.produce_ndjson(&input, first);
        let count = without_disk(&bed, &input, "before").values().map(Vec::len).sum();
        let outputs = Outputs::new(&bed, &input, "disk");
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(bed.name("store"));
        Self { bed, outputs, dir, count, later: later.to_owned() }
    }

    fn settings(&self) -> Vec<String> {
        let disk = [format!("state.dir={}", self.dir.display()), "state.cache_mb=16".to_owned()];
        SETTINGS.map(str::to_owned).into_iter().chain(disk).collect()
    }

    fn start(&self, more: &[&str]) -> Dce {
        let settings = self.settings();
        let settings: Vec<&str> = settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.outputs.run(&self.bed, "disk", &settings)
    }

    /// A part of what comes, then `kill -9`. Gives what it said.
    fn until_killed(&self, records: usize) -> String {
        let mut dce = self.start(&[]);
        dce.until_said("partitions restored");
        self.bed.collector(&self.outputs.live).until(records);
        dce.kill();
        dce.said()
    }

    /// The same, ended by SIGTERM: all is on the disk then.
    fn until_stopped(&self, records: usize) -> String {
        let mut dce = self.start(&[]);
        dce.until_said("partitions restored");
        self.bed.collector(&self.outputs.live).until(records);
        dce.signal("TERM");
        assert!(dce.wait().success(), "{}", dce.said());
        dce.said()
    }

    /// What there is, to the end, ended by SIGTERM; the records are those without a disk.
    fn ends_as_without(&self) {
        let settings = self.settings();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        read_to_the_end(&self.bed, &self.outputs, "disk", &settings);
        let found = records(&self.bed, &self.outputs.live);
        for (partition, want) in without_disk(&self.bed, &self.outputs.input, "calm") {
            assert_eq!(found[&partition], want, "partition {partition}");
        }
    }
}

/// The live topic of a run that has all in memory.
fn without_disk(bed: &Bed, input: &str, name: &str) -> BTreeMap<i32, Vec<Value>> {
    let calm = Outputs::new(bed, input, name);
    read_to_the_end(bed, &calm, name, &SETTINGS);
    records(bed, &calm.live)
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// How many partitions' rows were believed, by what a process said.
fn believed(said: &str) -> usize {
    said.matches("the local store has the log of the state up to here").count()
}

fn emptied(said: &str) -> usize {
    said.matches("the local store of the partition is emptied").count()
}

/// A metric's value.
fn metric(address: &str, name: &str) -> f64 {
    let page = get(address, "/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {page}"));
    line.trim().parse().unwrap()
}

#[test]
fn a_restart_reads_the_end_of_the_log_and_customers_from_the_disk() {
    let run = Run::new("store-restart", "11");
    let said = run.until_stopped(run.count / 5);
    assert_eq!((believed(&said), emptied(&said)), (0, 0), "there was none: {said}");
    for part in 2..4 {
        let said = run.until_killed(run.count * part / 5);
        assert_eq!((believed(&said), emptied(&said)), (PARTITIONS, 0), "{said}");
    }

    let mut dce = run.start(&["http.listen=127.0.0.1:0"]);
    dce.until_said("partitions restored");
    run.bed.produce_ndjson(&run.outputs.input, &run.later);
    let (address, deadline) = (dce.address(), Deadline::after(WAIT));
    while metric(&address, "dce_local_store_reads_total") == 0.0 {
        assert!(!deadline.passed(), "memory began empty, so customers come from the disk");
        std::thread::sleep(Duration::from_millis(20));
    }
    dce.kill();
    run.ends_as_without();

    // A clean end leaves little of the log to be read, and nothing of the input.
    let mut dce = run.start(&[]);
    dce.until_said("partitions restored");
    dce.signal("TERM");
    assert!(dce.wait().success(), "{}", dce.said());
    assert_eq!((believed(&dce.said()), emptied(&dce.said())), (PARTITIONS, 0), "{}", dce.said());
}

#[test]
fn a_store_older_than_what_the_log_keeps_of_deletions_is_filled_anew() {
    let mut run = Run::new("store-age", "13");
    run.outputs.state =
        run.bed.topic_of("short", PARTITIONS, &[("cleanup.policy", "compact"), ("delete.retention.ms", "1")]);
    run.until_stopped(run.count / 3);
    let said = run.until_killed(run.count * 2 / 3);
    assert!(emptied(&said) > 0 && said.contains("the log keeps deletions for 1 ms"), "{said}");
    run.ends_as_without();
}

#[test]
fn a_store_that_is_not_to_be_believed_is_filled_from_the_log() {
    let run = Run::new("store-doubt", "12");
    run.until_killed(run.count / 3);
    // Another application's.
    let label = run.dir.join("data/label.json");
    let text = fs::read_to_string(&label).unwrap();
    fs::write(&label, text.replace("disk", "desk")).unwrap();
    let said = run.until_killed(run.count * 2 / 3);
    assert!(said.contains("local store is moved aside and filled anew"), "{said}");

    // One that is in use belongs to nobody else.
    let mut first = run.start(&[]);
    first.until_said("partitions restored");
    let mut second = run.start(&["app.instance=other"]);
    assert_eq!(second.wait().code(), Some(1));
    assert!(second.said().contains("another process has it open"), "{}", second.said());
    first.kill();
    run.ends_as_without();
}

#[test]
fn a_full_disk_ends_it_with_the_reason_and_loses_nothing() {
    let run = Run::new("store-full", "14");
    let settings = run.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let arguments = run.outputs.arguments(&run.bed, "disk", &settings);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut dce = run.bed.dce_on_full_disk(FULL_KBYTES, &arguments);
    // What it has in memory is written when it ends, at the latest.
    run.bed.collector(&run.outputs.live).until(run.count * 3 / 4);
    dce.signal("TERM");
    let status = dce.wait();
    let said = dce.said();
    assert!(said.contains("local store takes no more"), "{status}: {said}");
    run.ends_as_without();
}

/// Below what the customers take.
const FULL_KBYTES: u32 = 24;

#[test]
fn a_topic_made_anew_under_its_name_is_another_log() {
    let run = Run::new("store-anew", "15");
    run.until_stopped(run.count / 2);
    let state = &run.outputs.state;
    topics::delete(&run.bed.settings, std::slice::from_ref(state), WAIT).unwrap();
    topics::create(&run.bed.settings, &[TopicSpec::new(state, PARTITIONS, Some(1), Purpose::State)], WAIT).unwrap();
    let mut dce = run.start(&[]);
    assert_eq!(dce.wait().code(), Some(1), "the log does not go with what is committed");
    let said = dce.said();
    assert!(said.contains("local store is moved aside and filled anew"), "{said}");
    assert!(said.contains("do not go together"), "{said}");
}
