//! Several workers in one process: the same records as one gives, whoever of them is killed or fenced.

use std::time::Duration;

use dce::kafka::Deadline;
use dce::kafka::follow::Lookup;

use crate::harness::{Bed, Click, Dce, WAIT};
use crate::pipeline::{Outputs, dce_says, get, records};
use crate::succession::Ends;

const PARTITIONS: usize = 4;
/// Below the timeout of a transaction, and below a session, after which others take over.
const DRAINED: Duration = Duration::from_secs(5);
const SETTINGS: [&str; 3] = ["provisional.every_events=3", "epoch.events_max=500", "http.listen=127.0.0.1:0"];

/// Two halves of a dirty stream; in the second a session of a customer of its own closes each partition.
fn clicks(seed: &str) -> [Vec<Click>; 2] {
    let bank = format!("generate --seed={seed} --customers=200 --events=8000 --partitions={PARTITIONS}");
    let arguments = format!("{bank} --shuffle=30 --duplicate=0.05 --drop-logout=0.2");
    let lines = dce_says(&arguments.split(' ').collect::<Vec<_>>());
    let mut first: Vec<Click> = lines.lines().map(Click::of_line).collect();
    let mut second = first.split_off(first.len() / 2);
    second.extend((0..PARTITIONS).flat_map(|partition| {
        let (customer, partition) = (format!("end-{partition}"), i32::try_from(partition).unwrap());
        ["LOGIN", "LOGOUT"].map(|kind| {
            let id = format!("{customer}-{kind}");
            let value = format!(
                r#"{{"event_id":"{id}","customer_id":"{customer}","event_time":1000000,"kind":"{kind}","name":"x"}}"#
            );
            Click { timestamp_ms: Some(2_000_000), ..Click::new(partition, &customer, &value) }
        })
    }));
    [first, second]
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Deadline::after(WAIT);
    while !is_so() {
        assert!(!deadline.passed(), "{what}: not after {WAIT:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Over some seconds, so that epochs are under way whatever else happens.
fn trickle(bed: &Bed, input: &str, clicks: Vec<Click>) {
    bed.produce(input, clicks.into_iter().inspect(|_| std::thread::sleep(Duration::from_millis(1))));
}

fn address(dce: &Dce) -> Option<String> {
    Some(dce.said().split("address=").nth(1)?.split_whitespace().next()?.to_owned())
}

/// The metrics whose names begin so, in order.
fn metrics(dce: &Dce, names: &[&str]) -> Vec<String> {
    let shown = get(&address(dce).expect("it listens"), "/metrics");
    let is_asked = |line: &&str| names.iter().any(|name| line.starts_with(name));
    let mut lines: Vec<String> = shown.lines().filter(is_asked).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Records of all workers of the process.
fn counted(dce: &Dce) -> usize {
    let lines = metrics(dce, &["dce_records_total "]);
    let [line] = lines.as_slice() else { panic!("one number: {lines:?}") };
    line.split(' ').nth(1).and_then(|count| count.parse().ok()).expect("a count")
}

/// What is the same whoever has the partitions, with a local store or without, if all of them are in this process.
fn stands(dce: &Dce) -> Vec<String> {
    let partitions = ["customers{", "open_sessions{", "committed_offset{"].map(|what| format!("dce_partition_{what}"));
    let [customers, open, committed] = &partitions;
    metrics(dce, &["dce_customers_at_rest ", "dce_partitions_restoring ", customers, open, committed])
}

/// Whether a line of that worker says so.
fn says(said: &str, worker: usize, what: &str) -> bool {
    let span = format!("worker{{number={worker}}}");
    said.lines().any(|line| line.contains(&span) && line.contains(what))
}

/// Until the group has so many members, and all workers of the processes are ready.
fn until_shared(bed: &Bed, members: usize, processes: &[&Dce]) {
    until("the partitions are shared", || {
        let is_ready =
            |dce: &&Dce| address(dce).is_some_and(|address| get(&address, "/ready").starts_with("HTTP/1.1 200"));
        bed.members(&bed.name("many")) == Some(members) && processes.iter().all(is_ready)
    });
}

fn until_all_is_out(bed: &Bed, outputs: &Outputs) {
    let mut table = bed.collector(&outputs.embeddings);
    until("each partition's end is out", || {
        let is_end = |key: Option<&str>| key.is_some_and(|key| key.starts_with("end-"));
        table.look().iter().filter(|got| is_end(got.key.as_deref())).count() == PARTITIONS
    });
}

/// Nothing is left open by whoever ended.
fn assert_decided(bed: &Bed, outputs: &Outputs) {
    let Outputs { embeddings, live, sessions, rejected, state, .. } = outputs;
    let topics = [embeddings, live, sessions, rejected, state].map(String::as_str);
    let held_up = Ends::new(bed, PARTITIONS).until_decided(&topics);
    assert!(held_up < DRAINED, "what was begun is finished: {held_up:?}");
}

/// Against what one worker makes of the same input; `all` has all partitions at the end.
fn assert_as_of_one(bed: &Bed, many: &Outputs, all: &Dce) {
    let one = Outputs::of(bed, &many.input, "one", PARTITIONS);
    let mut dce = one.run(bed, "one", &SETTINGS);
    until_all_is_out(bed, &one);
    let deadline = Deadline::after(WAIT);
    while stands(all) != stands(&dce) && !deadline.passed() {
        std::thread::sleep(Duration::from_millis(100));
    }
    let gauges = stands(all);
    assert_eq!(gauges, stands(&dce), "the gauges of all workers are those of one");
    assert_eq!(gauges.len(), 2 + 3 * PARTITIONS, "{gauges:?}");
    dce.signal("TERM");
    assert!(dce.wait().success(), "{}", dce.said());
    for (one, many) in [(&one.embeddings, &many.embeddings), (&one.live, &many.live)] {
        let (want, found) = (records(bed, one), records(bed, many));
        assert_eq!(want.len(), PARTITIONS, "there is something in each partition");
        for (partition, want) in want {
            assert!(found[&partition] == want, "{many}/{partition}: the same records in the same order, each once");
        }
    }
    for (one, many) in [(&one.sessions, &many.sessions), (&one.rejected, &many.rejected)] {
        let as_came = |topic: &str| -> Vec<_> {
            bed.read_all(topic).into_iter().map(|got| (got.partition, got.key, got.value)).collect()
        };
        assert!(as_came(one) == as_came(many), "{many}: the same records in the same order, each once");
    }
}

#[test]
fn three_workers_in_one_process_give_what_one_gives_and_drain_together() {
    let bed = Bed::new("workers");
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::of(&bed, &input, "many", PARTITIONS);
    let [first, second] = clicks("11");
    let (half, count) = (first.len(), first.len() + second.len());
    bed.produce(&input, first);
    // One store for all, of which each reads its partitions' customers.
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(bed.name("store"));
    let store = format!("state.dir={}", folder.display());
    let run = || outputs.run(&bed, "many", &[&SETTINGS[..], &["app.workers=3", &store]].concat());
    let mut dce = run();
    until_shared(&bed, 3, &[&dce]);
    std::thread::scope(|scope| {
        scope.spawn(|| trickle(&bed, &input, second));
        until("they are at work", || counted(&dce) > half + 500);
        dce.signal("TERM");
        assert!(dce.wait().success(), "SIGTERM drains all and is a success:\n{}", dce.said());
        assert_decided(&bed, &outputs);
    });
    let said = dce.said();
    for worker in 0..3 {
        assert!(says(&said, worker, "partitions assigned"), "worker {worker} had some: {said}");
        assert!(says(&said, worker, "stopping"), "worker {worker} drained: {said}");
    }

    let partitions: Vec<i32> = (0..).take(PARTITIONS).collect();
    let committed =
        Lookup::new(&bed.settings, &bed.name("many")).unwrap().committed(&input, &partitions, WAIT).unwrap();
    let done: i64 = committed.iter().map(|committed| committed.offset).sum();
    let done = usize::try_from(done).unwrap();
    assert!((half..count).contains(&done), "{done} of {count} were done when they were told to stop");
    let mut dce = run();
    until_all_is_out(&bed, &outputs);
    until("the rest is counted, each record by one of the workers", || counted(&dce) == count - done);
    assert_as_of_one(&bed, &outputs, &dce);
    dce.signal("TERM");
    assert!(dce.wait().success(), "{}", dce.said());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn one_of_two_processes_of_two_workers_is_killed_and_the_other_takes_over() {
    let bed = Bed::new("workers-killed");
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::of(&bed, &input, "many", PARTITIONS);
    let [first, second] = clicks("12");
    let run = |instance| outputs.run(&bed, "many", &[&SETTINGS[..], &["app.workers=2", instance]].concat());
    let (left, mut killed) = (run("app.instance=0"), run("app.instance=1"));
    until_shared(&bed, 4, &[&left, &killed]);
    bed.produce(&input, first);
    std::thread::scope(|scope| {
        scope.spawn(|| trickle(&bed, &input, second));
        until("the other is at work", || counted(&killed) > 500);
        killed.kill();
    });
    until_all_is_out(&bed, &outputs);
    assert_as_of_one(&bed, &outputs, &left);
}

#[test]
fn a_worker_that_fails_ends_its_process_after_the_others_have_finished() {
    let bed = Bed::new("workers-fenced");
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::of(&bed, &input, "many", PARTITIONS);
    let [first, second] = clicks("13");
    let mut dce = outputs.run(&bed, "many", &[&SETTINGS[..], &["app.workers=2"]].concat());
    bed.produce(&input, first);
    until_shared(&bed, 2, &[&dce]);
    let other = std::thread::scope(|scope| {
        scope.spawn(|| trickle(&bed, &input, second));
        // By its name at the broker it is the second of them.
        let other = outputs.run(&bed, "many", &[&SETTINGS[..], &["app.instance=0-w1"]].concat());
        assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
        assert_decided(&bed, &outputs);
        other
    });
    let said = dce.said();
    assert!(said.lines().last().is_some_and(|line| line.starts_with("dce: worker 1: ")), "{said}");
    let at = |worker: usize, what: &str| said.lines().position(|line| says(line, worker, what));
    let (failed, finished) = (at(1, "a worker has failed"), at(0, "stopping"));
    assert!(failed.is_some() && failed < finished, "{said}");
    assert!(!says(&said, 0, "has failed"), "the other one did not: {said}");
    until_all_is_out(&bed, &outputs);
    assert_as_of_one(&bed, &outputs, &other);
}
