//! Crashes, aborted epochs and clean stops at random, against the calm run: what leaves is the same, record by record.
//! The broker is a model: an input log, and a state log that takes an epoch whole or not at all.

use std::collections::BTreeMap;

use dce::config::SessionRules;
use dce::model::Model;
use dce::model::fake::FakeModel;
use dce::pipeline::epoch::{Body, Epoch, EpochResult, Origin, Terms};
use dce::pipeline::log::{Head, StateRecord};
use dce::pipeline::partitions::{Logged, Partitions};
use dce::types::{CustomerId, EventTime, Moment, Position, RejectReason};
use rand::RngExt;

use rand_pcg::Pcg64Mcg;

use crate::streams::{Click, pauses, rng, shuffled, stream, wide_rules};

/// One record of the input.
#[derive(Debug, Clone)]
enum Input {
    Click(Click),
    Erase(String),
    Tick(i64),
}

fn customer(name: &str) -> CustomerId {
    CustomerId::parse(name).unwrap()
}

/// A dirty stream: out of order, with duplicates, erasures and ticks.
fn inputs(seed: u64) -> Vec<Input> {
    let mut rng = rng(seed);
    let mut clicks = stream(&mut rng, 300, pauses);
    for click in &mut clicks {
        click.customer = format!("c{}", rng.random_range(0..5));
    }
    let mut inputs: Vec<Input> = Vec::new();
    for click in shuffled(&mut rng, &clicks, 25_000) {
        let (name, time) = (click.customer.clone(), click.time);
        inputs.push(Input::Click(click));
        if rng.random_bool(0.03) {
            let again = inputs[rng.random_range(0..inputs.len())].clone();
            inputs.push(again);
        }
        if rng.random_bool(0.004) {
            inputs.push(Input::Erase(name));
        }
        if rng.random_bool(0.01) {
            inputs.push(Input::Tick(time));
        }
    }
    inputs
}

/// What left, by the offset of its cause: records, and what was refused.
type Left = BTreeMap<i64, Vec<String>>;

struct Worker {
    partitions: Partitions,
    model: FakeModel,
    rules: SessionRules,
    clock: i64,
}

impl Worker {
    fn new(rules: &SessionRules) -> Self {
        Self { partitions: Partitions::default(), model: FakeModel::small(), rules: rules.clone(), clock: 0 }
    }

    fn terms(&self) -> Terms {
        Terms { rules: self.rules.clone(), labels: vec!["amount".into()], emitted_at: self.clock }
    }

    fn epoch(&mut self, from: usize, inputs: &[Input]) -> (EpochResult, Left) {
        let terms = self.terms();
        let mut left = Left::new();
        let mut epoch = Epoch::begin(&mut self.partitions, &self.model, &terms);
        for (offset, input) in (from as i64..).zip(inputs) {
            let position = Position { partition: 0, offset };
            let origin = Origin { position, timestamp_ms: None, traceparent: None };
            match input {
                Input::Click(click) => {
                    let refused = epoch.click(origin, customer(&click.customer), &click.event()).err();
                    if let Some(reason) = refused.filter(|reason| *reason != RejectReason::Duplicate) {
                        left.entry(offset).or_default().push(format!("{reason:?}"));
                    }
                }
                Input::Erase(name) => epoch.erase(origin, customer(name)),
                Input::Tick(time) => epoch.tick(origin, Moment::from(EventTime::parse(*time).unwrap())),
            }
        }
        let result = epoch.finish(&mut self.model, |_| ()).unwrap();
        for output in &result.outputs {
            let text = match &output.body {
                Body::Embedding(record) => {
                    let mut record = record.clone();
                    record.emitted_at = 0;
                    format!("{record:?}")
                }
                other => format!("{other:?}"),
            };
            left.entry(output.cause.offset).or_default().push(text);
        }
        (result, left)
    }

    /// Closes and freezes everything; each customer's state as bits.
    fn end(&mut self, offset: usize) -> BTreeMap<String, Vec<u32>> {
        let far = [Input::Tick(1 << 40), Input::Tick(1 << 41)];
        self.epoch(offset, &far);
        let states = self.partitions.states(0, self.model.shape().state);
        states.into_iter().map(|(name, state)| (name, state.iter().map(|x| x.to_bits()).collect())).collect()
    }

    /// As a new process would.
    fn restore(&mut self, log: &[StateRecord], inputs: &[Input], committed: usize) {
        let mut logged = Logged::new(0, true);
        for record in log {
            logged.take(&record.key, record.value.as_deref()).unwrap();
        }
        assert_eq!(logged.contradiction(), None);
        let head = logged.head();
        assert!(head.resume <= committed as i64, "{head:?}");
        self.partitions = Partitions::default();
        let state_len = self.model.shape().state;
        self.partitions.restore(0, &self.rules, state_len, logged).unwrap();
        let from = head.redo_from as usize;
        let mid = from + (committed - from) / 3;
        for (from, to) in [(from, mid), (mid, committed)] {
            let (result, _) = self.epoch(from, &inputs[from..to]);
            assert_eq!(result.state, [], "nothing is written of what is done again");
        }
        self.partitions.redone(0);
    }
}

/// As a cleaner would, at any moment: the last record of each key stays.
fn compacted(log: &[StateRecord], rng: &mut Pcg64Mcg) -> Vec<StateRecord> {
    let upto = rng.random_range(0..=log.len());
    let mut last = BTreeMap::new();
    for (place, record) in log[..upto].iter().enumerate() {
        last.insert(&record.key, place);
    }
    let mut kept: Vec<usize> = last.into_values().filter(|place| log[*place].value.is_some()).collect();
    kept.sort_unstable();
    kept.into_iter().chain(upto..log.len()).map(|place| log[place].clone()).collect()
}

fn rules(seed: u64) -> SessionRules {
    let mut rules = wide_rules();
    rules.gap_ms = [20_000, 60_000, 300_000][seed as usize % 3];
    rules.allowed_lateness_ms = [0, 10_000, 30_000][seed as usize / 3 % 3];
    rules.events_max = [4, 1_000][seed as usize / 2 % 2];
    rules.open_max = [1, 16][seed as usize / 4 % 2];
    rules.revisable_max = [2, 8][seed as usize / 5 % 2];
    rules.provisional_every_events = [0, 1, 3][seed as usize / 7 % 3];
    rules
}

fn calm(inputs: &[Input], rules: &SessionRules) -> (Left, BTreeMap<String, Vec<u32>>) {
    let mut worker = Worker::new(rules);
    worker.partitions.open(0, rules);
    let (_, left) = worker.epoch(0, inputs);
    (left, worker.end(inputs.len()))
}

/// What happened, so that a test which nothing happens in does not pass for one.
#[derive(Debug, Default)]
struct Happened {
    crashes: u32,
    aborts: u32,
    stops: u32,
    active_written: u32,
    rest_written: u32,
    erased: u32,
    redone: usize,
}

fn stormy(
    seed: u64,
    inputs: &[Input],
    rules: &SessionRules,
    happened: &mut Happened,
) -> (Left, BTreeMap<String, Vec<u32>>) {
    let mut rng = rng(seed ^ 0x5eed);
    let (mut worker, mut log, mut left) = (Worker::new(rules), Vec::new(), Left::new());
    worker.restore(&log, inputs, 0);
    let mut committed = 0;
    while committed < inputs.len() {
        worker.clock += rng.random_range(0..20_000);
        let upto = (committed + rng.random_range(1..=40)).min(inputs.len());
        let (result, mut said) = worker.epoch(committed, &inputs[committed..upto]);
        let is_aborted = rng.random_bool(0.05);
        if !is_aborted {
            for record in &result.state {
                match (record.key[0], &record.value) {
                    (b'a', Some(_)) => happened.active_written += 1,
                    (b'c', Some(_)) => happened.rest_written += 1,
                    (b'c', None) => happened.erased += 1,
                    _ => {}
                }
            }
            log.extend(result.state);
            left.append(&mut said);
            committed = upto;
            if rng.random_bool(0.03) {
                happened.stops += 1;
                loop {
                    let state = worker.partitions.settle(0, committed as i64, worker.clock, true);
                    if state.is_empty() {
                        break;
                    }
                    log.extend(state);
                }
                let head = worker.partitions.head(0).unwrap();
                assert_eq!(head.redo_from, committed as i64, "a clean stop leaves nothing to be done again");
            }
        }
        happened.aborts += u32::from(is_aborted);
        let is_crashed = rng.random_bool(0.05);
        if is_aborted || is_crashed {
            happened.crashes += u32::from(is_crashed);
            if rng.random_bool(0.3) {
                log = compacted(&log, &mut rng);
            }
            worker.restore(&log, inputs, committed);
            happened.redone += committed - worker.partitions.head(0).map_or(0, |head: Head| head.redo_from as usize);
        }
    }
    (left, worker.end(committed))
}

#[test]
fn whatever_crashes_the_records_are_those_of_a_calm_run() {
    let seeds = std::env::var("DCE_TEST_SEEDS").map_or(150, |seeds| seeds.parse().expect("a number"));
    let mut happened = Happened::default();
    for seed in 0..seeds {
        let (inputs, rules) = (inputs(seed), rules(seed));
        let (want, states) = calm(&inputs, &rules);
        let (found, found_states) = stormy(seed, &inputs, &rules, &mut happened);
        for (offset, want) in &want {
            assert_eq!(found.get(offset), Some(want), "seed {seed}, offset {offset}: {:?}", inputs[*offset as usize]);
        }
        assert_eq!(found.len(), want.len(), "seed {seed}");
        assert_eq!(found_states, states, "seed {seed}");
    }
    let Happened { crashes, aborts, stops, active_written, rest_written, erased, redone } = happened;
    let all = [crashes, aborts, stops, active_written, rest_written, erased, redone as u32];
    assert!(all.iter().all(|n| *n > 50), "{happened:?}");
}

/// Events between two looks at what a whole record would take.
const EVERY: usize = 10;

/// Bytes that a session of `count` events costs the log, an event, each event in an epoch of its own and `seconds` after the one
/// before; and what they were if all that is known of the customer was written each time, as session windows are in Kafka Streams.
fn log_bytes(count: usize, seconds: i64) -> (f64, f64) {
    let rules = SessionRules { gap_ms: 1_800_000, ..wide_rules() };
    let mut worker = Worker::new(&rules);
    worker.restore(&[], &[], 0);
    let click = |n: usize, kind| Click {
        id: format!("{n:032x}"),
        customer: "customer-0000001".to_owned(),
        time: n as i64 * seconds * 1_000,
        kind,
        channel: "web",
        balance: 1.0,
    };
    let (mut bytes, mut whole) = (0, 0);
    for n in 0..count {
        let kind = match n {
            0 => dce::types::ClickKind::Login,
            n if n + 1 == count => dce::types::ClickKind::Logout,
            _ => dce::types::ClickKind::PageView,
        };
        worker.clock += seconds * 1_000;
        let (result, _) = worker.epoch(n, &[Input::Click(click(n, kind))]);
        bytes += size(&result.state);
        if n % EVERY == EVERY / 2 {
            let mut packed = dce::wire::packed::Packer::default();
            worker.partitions.sessions()[&0].pack(&customer("customer-0000001"), &mut packed);
            whole += packed.len() * EVERY;
        }
    }
    let (result, _) = worker.epoch(count, &[Input::Tick(1 << 40)]);
    bytes += size(&result.state);
    (bytes as f64 / count as f64, whole as f64 / count as f64)
}

fn size(records: &[StateRecord]) -> usize {
    records.iter().map(|record| record.key.len() + record.value.as_ref().map_or(0, |value| value.len())).sum()
}

#[test]
fn a_click_costs_the_log_the_same_whatever_the_session_s_length() {
    for seconds in [1, 20] {
        for count in [10, 100, 1_000] {
            let (bytes, whole) = log_bytes(count, seconds);
            println!(
                "{count} events, {seconds} s apart: {bytes:.0} bytes of log an event; {whole:.0} if all were written each time"
            );
            assert!(bytes < 250.0, "{count} events, {seconds} s apart: {bytes} bytes an event");
        }
    }
}
