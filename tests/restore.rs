//! Crashes, aborted epochs and clean stops at random, against the calm run: what leaves is the same, record by record.
//! The broker is a model: an input log, and a state log that takes an epoch whole or not at all.

use std::collections::{BTreeMap, VecDeque};

use dce::config::SessionRules;
use dce::model::fake::FakeModel;
use dce::model::{HeadInput, Model};
use dce::pipeline::epoch::{Body, Epoch, EpochResult, Origin, Terms};
use dce::pipeline::log::{Head, StateRecord};
use dce::pipeline::logged::Logged;
use dce::pipeline::partitions::Partitions;
use dce::pipeline::rest::{Beyond, BeyondError};
use dce::pipeline::source::Trace;
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

/// Inputs whose customers are looked for together.
const CHUNK: usize = 7;

impl Input {
    fn customer(&self) -> Option<CustomerId> {
        match self {
            Self::Click(click) => Some(customer(&click.customer)),
            Self::Erase(name) => Some(customer(name)),
            Self::Tick(_) => None,
        }
    }
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

/// A local store as a map: rows by the log's keys, and up to where they have the log.
#[derive(Debug, Default, Clone)]
struct Disk {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    mark: usize,
    head: Option<Head>,
    /// It was filled to the end, and what was read was found to be true.
    is_trusted: bool,
    reads: usize,
}

impl Disk {
    fn write(&mut self, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => _ = self.rows.insert(key.to_vec(), value.to_vec()),
            None => _ = self.rows.remove(key),
        }
    }
}

impl Beyond for Disk {
    fn read(&mut self, _: i32, customers: &[&str]) -> Result<Vec<Option<Vec<u8>>>, BeyondError> {
        self.reads += customers.len();
        Ok(customers.iter().map(|id| self.rows.get(format!("c{id}").as_bytes()).cloned()).collect())
    }
}

/// Records of the state, each with its offset.
type Log = Vec<(usize, StateRecord)>;

struct Worker {
    partitions: Partitions,
    /// Used where there is one.
    disk: Disk,
    has_disk: bool,
    model: FakeModel,
    rules: SessionRules,
    clock: i64,
}

/// Small enough to lose customers all the time.
const CACHE: usize = 600;

impl Worker {
    fn new(rules: &SessionRules, has_disk: bool) -> Self {
        // What a session inherits shows in its scores.
        let model = FakeModel::small().with_head("risk", &[HeadInput::Prior, HeadInput::Context], 2);
        let partitions = Partitions::with_cache(CACHE);
        Self { partitions, disk: Disk::default(), has_disk, model, rules: rules.clone(), clock: 0 }
    }

    fn terms(&self) -> Terms {
        Terms { rules: self.rules.clone(), labels: vec!["amount".into()], summaries: true, emitted_at: self.clock }
    }

    fn epoch(&mut self, from: usize, inputs: &[Input]) -> (EpochResult, Left) {
        let terms = self.terms();
        let mut left = Left::new();
        let mut epoch = Epoch::begin(&mut self.partitions, &self.model, &terms);
        for (place, (offset, input)) in (from as i64..).zip(inputs).enumerate() {
            if place % CHUNK == 0 {
                let chunk: Vec<CustomerId> =
                    inputs.iter().skip(place).take(CHUNK).filter_map(Input::customer).collect();
                epoch.bring(&mut self.disk, chunk.iter().map(|customer| (0, customer.by_ref()))).unwrap();
            }
            let position = Position { partition: 0, offset };
            let origin = Origin { position, timestamp_ms: None, trace: Trace::None };
            match input {
                Input::Click(click) => {
                    let refused = epoch.click(origin, customer(&click.customer).by_ref(), &click.event()).err();
                    if let Some(reason) = refused.filter(|reason| *reason != RejectReason::Duplicate) {
                        left.entry(offset).or_default().push(format!("{reason:?}"));
                    }
                }
                Input::Erase(name) => epoch.erase(origin, customer(name).by_ref()),
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
        let (result, _) = self.epoch(offset, &far);
        for StateRecord { key, value, .. } in result.state {
            self.disk.write(&key, value.as_deref());
        }
        let states =
            if self.has_disk { self.states_on_disk() } else { self.partitions.states(0, self.model.shape().state) };
        states.into_iter().map(|(name, state)| (name, state.iter().map(|x| x.to_bits()).collect())).collect()
    }

    /// As a new process would. `deleted`: below it the log does not keep what was deleted any more.
    fn restore(&mut self, log: &Log, inputs: &[Input], committed: usize, deleted: usize, rng: &mut Pcg64Mcg) {
        let logged = if self.has_disk { self.read_over_disk(log, deleted, rng) } else { read_all(log) };
        assert_eq!(logged.contradiction(), None);
        let head = logged.head();
        assert!(head.resume <= committed as i64, "{head:?}");
        self.partitions = Partitions::with_cache(CACHE);
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

    fn read_over_disk(&mut self, log: &Log, deleted: usize, rng: &mut Pcg64Mcg) -> Logged {
        if self.disk.mark < deleted || !self.disk.is_trusted {
            self.disk = Disk::default();
        }
        let disk = &mut self.disk;
        let is_believed = disk.is_trusted;
        let mut logged = Logged::over_store(0, true, disk.head);
        for (key, value) in disk.rows.iter().filter(|(key, _)| key[0] != b'c') {
            logged.take(key, Some(value)).unwrap();
        }
        logged.is_beyond(0);
        let from = disk.mark;
        for (_, record) in log.iter().filter(|(offset, _)| *offset >= from) {
            logged.take(&record.key, record.value.as_deref()).unwrap();
            // The rows go ahead of the mark.
            if rng.random_bool(0.05) {
                Self::write_rows(disk, &mut logged);
            }
            // It ends in its midst, and begins again.
            if rng.random_bool(0.002) {
                return self.read_over_disk(log, deleted, rng);
            }
        }
        Self::write_rows(disk, &mut logged);
        if !is_believed {
            let kept = |kind| disk.rows.keys().filter(move |key| key[0] == kind).map(|key| key[1..].to_vec());
            let mut names: Vec<Vec<u8>> = kept(b'c').chain(kept(b'a')).collect();
            names.sort();
            names.dedup();
            logged.counts(names.len() as u64);
        }
        disk.mark = log.last().map_or(0, |(offset, _)| offset + 1).max(from);
        disk.head = Some(logged.head()).filter(|head| head.epoch > 0);
        disk.is_trusted = true;
        logged
    }

    fn write_rows(disk: &mut Disk, logged: &mut Logged) {
        for (key, value) in logged.rows() {
            disk.write(&key, value);
        }
        logged.is_beyond(CACHE);
    }

    /// Everything that the disk says, as one who has it all in memory would see it.
    fn states_on_disk(&mut self) -> BTreeMap<String, Vec<f32>> {
        let rows = self.disk.rows.iter();
        let record = |(key, value): (&Vec<u8>, &Vec<u8>)| StateRecord {
            partition: 0,
            key: key.as_slice().into(),
            value: Some(value.as_slice().into()),
        };
        let mut whole = Partitions::default();
        let logged = read_all(&rows.map(record).map(|record| (0, record)).collect());
        whole.restore(0, &self.rules, self.model.shape().state, logged).unwrap();
        whole.states(0, self.model.shape().state)
    }
}

fn read_all(log: &Log) -> Logged {
    let mut logged = Logged::new(0, true);
    let records = log.iter().map(|(_, record)| (&*record.key, record.value.as_deref()));
    logged.take_all(records).unwrap();
    logged.fit();
    logged
}

/// As a cleaner would, at any moment: the last record of each key stays. Gives the offset up to which it went.
fn compacted(log: &Log, rng: &mut Pcg64Mcg) -> (Log, usize) {
    let upto = rng.random_range(0..=log.len());
    let mut last = BTreeMap::new();
    for (place, (_, record)) in log[..upto].iter().enumerate() {
        last.insert(&record.key, place);
    }
    let mut kept: Vec<usize> = last.into_values().filter(|place| log[*place].1.value.is_some()).collect();
    kept.sort_unstable();
    let deleted = log[..upto].last().map_or(0, |(offset, _)| offset + 1);
    (kept.into_iter().chain(upto..log.len()).map(|place| log[place].clone()).collect(), deleted)
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
    let mut worker = Worker::new(rules, false);
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
    /// Customers looked for on a disk.
    reads: usize,
}

impl Happened {
    fn note(&mut self, state: &[StateRecord]) {
        for record in state {
            match (record.key[0], &record.value) {
                (b'a', Some(_)) => self.active_written += 1,
                (b'c', Some(_)) => self.rest_written += 1,
                (b'c', None) => self.erased += 1,
                _ => {}
            }
        }
    }
}

/// Epochs that are committed and not yet on the disk: number, head, records, and where the log ended.
type Waiting = VecDeque<(Head, Vec<StateRecord>, usize)>;

struct Storm<'a> {
    worker: Worker,
    log: Log,
    end: usize,
    waiting: Waiting,
    /// Below it the log does not keep what was deleted.
    deleted: usize,
    rng: Pcg64Mcg,
    happened: &'a mut Happened,
}

impl Storm<'_> {
    fn commit(&mut self, records: Vec<StateRecord>) {
        let from = self.end;
        // A transaction's marker has an offset too.
        let end = from + records.len() + 1;
        self.end = end;
        self.log.extend((from..).zip(records.iter().cloned()));
        if let Some(head) = self.worker.partitions.head(0).filter(|_| !records.is_empty()) {
            self.waiting.push_back((head, records, end));
        }
    }

    /// Some of what waits reaches the disk.
    fn write_some(&mut self, all: bool) {
        while !self.waiting.is_empty() && (all || self.rng.random_bool(0.6)) {
            let Some((head, records, end)) = self.waiting.pop_front() else { return };
            let Self { worker, rng, .. } = self;
            for StateRecord { key, value, .. } in records.iter().filter(|record| *record.key != *Head::KEY) {
                worker.disk.write(key, value.as_deref());
            }
            worker.disk.head = Some(head);
            worker.partitions.is_beyond(0, head.epoch);
            // The mark may lie behind.
            if rng.random_bool(0.5) {
                worker.disk.mark = worker.disk.mark.max(end);
            }
        }
    }

    fn crash(&mut self, inputs: &[Input], committed: usize) {
        if self.rng.random_bool(0.3) {
            let (log, deleted) = compacted(&self.log, &mut self.rng);
            (self.log, self.deleted) = (log, self.deleted.max(deleted));
        }
        if self.worker.has_disk && self.rng.random_bool(0.05) {
            self.worker.disk = Disk::default();
        }
        self.waiting.clear();
        self.worker.restore(&self.log, inputs, committed, self.deleted, &mut self.rng);
        let head = self.worker.partitions.head(0);
        self.happened.redone += committed - head.map_or(0, |head| head.redo_from as usize);
    }
}

fn stormy(
    seed: u64,
    inputs: &[Input],
    rules: &SessionRules,
    has_disk: bool,
    happened: &mut Happened,
) -> (Left, BTreeMap<String, Vec<u32>>) {
    let rng = rng(seed ^ 0x5eed);
    let worker = Worker::new(rules, has_disk);
    let mut storm = Storm { worker, log: Log::new(), end: 0, waiting: Waiting::new(), deleted: 0, rng, happened };
    let mut left = Left::new();
    storm.crash(inputs, 0);
    let mut committed = 0;
    while committed < inputs.len() {
        storm.worker.clock += storm.rng.random_range(0..20_000);
        let upto = (committed + storm.rng.random_range(1..=40)).min(inputs.len());
        let (result, mut said) = storm.worker.epoch(committed, &inputs[committed..upto]);
        let is_aborted = storm.rng.random_bool(0.05);
        if !is_aborted {
            storm.happened.note(&result.state);
            storm.commit(result.state);
            left.append(&mut said);
            committed = upto;
            if storm.rng.random_bool(0.03) {
                storm.happened.stops += 1;
                loop {
                    let clock = storm.worker.clock;
                    let state = storm.worker.partitions.settle(0, committed as i64, clock, true);
                    if state.is_empty() {
                        break;
                    }
                    storm.commit(state);
                }
                let head = storm.worker.partitions.head(0).unwrap();
                assert_eq!(head.redo_from, committed as i64, "a clean stop leaves nothing to be done again");
            }
        }
        storm.write_some(false);
        storm.happened.aborts += u32::from(is_aborted);
        let is_crashed = storm.rng.random_bool(0.05);
        if is_aborted || is_crashed {
            storm.happened.crashes += u32::from(is_crashed);
            storm.crash(inputs, committed);
        }
    }
    storm.write_some(true);
    storm.happened.reads += storm.worker.disk.reads;
    (left, storm.worker.end(committed))
}

#[test]
fn whatever_crashes_the_records_are_those_of_a_calm_run() {
    let seeds = std::env::var("DCE_TEST_SEEDS").map_or(150, |seeds| seeds.parse().expect("a number"));
    let mut happened = Happened::default();
    for seed in 0..seeds {
        let (inputs, rules) = (inputs(seed), rules(seed));
        let (want, states) = calm(&inputs, &rules);
        for has_disk in [false, true] {
            let (found, found_states) = stormy(seed, &inputs, &rules, has_disk, &mut happened);
            for (offset, want) in &want {
                let input = &inputs[*offset as usize];
                assert_eq!(found.get(offset), Some(want), "seed {seed}, disk {has_disk}, offset {offset}: {input:?}");
            }
            assert_eq!(found.len(), want.len(), "seed {seed}, disk {has_disk}");
            assert_eq!(found_states, states, "seed {seed}, disk {has_disk}");
        }
    }
    let Happened { crashes, aborts, stops, active_written, rest_written, erased, redone, reads } = happened;
    let all = [crashes, aborts, stops, active_written, rest_written, erased, redone as u32, reads as u32];
    assert!(all.iter().all(|n| *n > 50), "{happened:?}");
}

/// Events between two looks at what a whole record would take.
const EVERY: usize = 10;

/// Bytes that a session of `count` events costs the log, an event, each event in an epoch of its own and `seconds` after the one
/// before; and what they were if all that is known of the customer was written each time, as session windows are in Kafka Streams.
fn log_bytes(count: usize, seconds: i64) -> (f64, f64) {
    let rules = SessionRules { gap_ms: 1_800_000, ..wide_rules() };
    let mut worker = Worker::new(&rules, false);
    worker.restore(&Log::new(), &[], 0, 0, &mut rng(0));
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
