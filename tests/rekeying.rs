//! A state that is taken out of so many partitions and put into others: whoever goes on from it ends where a run ends that was
//! never interrupted.

use std::collections::BTreeMap;

use dce::config::SessionRules;
use dce::generate::partition_of;
use dce::model::fake::FakeModel;
use dce::model::{HeadInput, Model};
use dce::pipeline::epoch::{Epoch, Origin, Terms};
use dce::pipeline::history::{History, UnknownIds};
use dce::pipeline::log::{self, Head, StateRecord};
use dce::pipeline::logged::Logged;
use dce::pipeline::partitions::Partitions;
use dce::pipeline::savepoint::{Rekeying, Stands, Stood};
use dce::pipeline::source::Trace;
use dce::types::{CustomerRef, EventTime, Moment, Position, ResumeAt};
use rand::RngExt;

use crate::streams::{Click, pauses, rng, stream, wide_rules};

type States = BTreeMap<String, Vec<u32>>;

/// All partitions of an application.
struct Application {
    partitions: Partitions,
    model: FakeModel,
    rules: SessionRules,
    /// Of each partition the next one.
    offsets: Vec<i64>,
    /// To the log.
    told: Vec<StateRecord>,
}

impl Application {
    fn restored(rules: &SessionRules, logs: Vec<Logged>) -> Self {
        let model = FakeModel::small().with_head("risk", &[HeadInput::Prior, HeadInput::Context], 2);
        let (mut partitions, mut offsets) = (Partitions::default(), Vec::new());
        for (partition, logged) in (0..).zip(logs) {
            offsets.push(logged.head().resume);
            partitions.restore(partition, rules, model.shape().state, logged).unwrap();
            partitions.redone(partition);
        }
        Self { partitions, model, rules: rules.clone(), offsets, told: Vec::new() }
    }

    fn new(rules: &SessionRules, count: u32) -> Self {
        Self::restored(rules, (0..count).map(|_| Logged::new(0, true)).collect())
    }

    fn count(&self) -> u32 {
        self.offsets.len() as u32
    }

    fn takes(&mut self, clicks: &[Click]) {
        let count = self.count();
        let terms = Terms { rules: self.rules.clone(), labels: Vec::new(), summaries: true, emitted_at: 0 };
        let mut epoch = Epoch::begin(&mut self.partitions, &self.model, &terms);
        for click in clicks {
            let partition = partition_of(click.customer.as_bytes(), count) as i32;
            let offset = &mut self.offsets[partition as usize];
            let origin =
                Origin { position: Position { partition, offset: *offset }, timestamp_ms: None, trace: Trace::None };
            epoch.click(origin, CustomerRef::parse(&click.customer).unwrap(), &click.event()).unwrap();
            *offset += 1;
        }
        self.told.append(&mut epoch.finish(&mut self.model, |_| ()).unwrap().state);
    }

    /// Closes and freezes everything; each customer's state as bits, with its partition checked.
    fn end(mut self) -> States {
        let (count, state_len) = (self.count(), self.model.shape().state);
        let terms = Terms { rules: self.rules.clone(), labels: Vec::new(), summaries: true, emitted_at: 0 };
        let mut states = States::new();
        let mut epoch = Epoch::begin(&mut self.partitions, &self.model, &terms);
        for (partition, offset) in (0..).zip(&self.offsets) {
            for (more, time) in [(0, 1 << 40), (1, 1 << 41)] {
                let position = Position { partition, offset: offset + more };
                let time = Moment::from(EventTime::parse(time).unwrap());
                epoch.tick(Origin { position, timestamp_ms: None, trace: Trace::None }, time);
            }
        }
        epoch.finish(&mut self.model, |_| ()).unwrap();
        for partition in 0..count as i32 {
            for (name, state) in self.partitions.states(partition, state_len) {
                assert_eq!(partition_of(name.as_bytes(), count) as i32, partition, "{name}");
                let before = states.insert(name, state.iter().map(|x| x.to_bits()).collect());
                assert_eq!(before, None, "a customer is in one partition");
            }
        }
        states
    }

    /// As a clean stop does.
    fn stop(mut self) -> Vec<(Stood, Logged)> {
        let mut all = Vec::new();
        for (partition, offset) in (0..).zip(&self.offsets) {
            loop {
                let told = self.partitions.settle(partition, *offset, 0, true);
                if told.is_empty() {
                    break;
                }
                self.told.extend(told);
            }
            let mut logged = Logged::new(0, true);
            for record in self.told.iter().filter(|record| record.partition == partition) {
                logged.take(&record.key, record.value.as_deref()).unwrap();
            }
            let head = self.partitions.head(partition).unwrap();
            let history = History {
                begun: ResumeAt(0),
                fingerprint: 7,
                state_epoch: head.epoch,
                partitions: 2,
                unknown: UnknownIds::default(),
            };
            let committed = (head.epoch > 0).then_some((ResumeAt(*offset), history));
            all.push((Stood { committed, head: (head.epoch > 0).then_some(head) }, logged));
        }
        all
    }
}

/// What `dce state export` and `dce state import` do, without a broker between.
fn keyed_anew(old: &[(Stood, Logged)], begins: &[i64]) -> Vec<Logged> {
    let stood = (0..).zip(old.iter().map(|(stood, _)| stood));
    let begins: Vec<ResumeAt> = begins.iter().copied().map(ResumeAt).collect();
    let mut rekeying = Rekeying::new(stood, begins.clone()).unwrap();
    let partition_of = |id: &str| partition_of(id.as_bytes(), begins.len() as u32) as i32;
    for (from, (stood, logged)) in (0..).zip(old) {
        assert_eq!(stood.fault(), None);
        assert_eq!(logged.contradiction(), None);
        logged.ids().into_iter().for_each(|id| rekeying.moves(from, partition_of(id)));
    }
    let stands = rekeying.stands();
    let mut logs: Vec<Logged> = begins.iter().map(|begins| Logged::new(begins.0, true)).collect();
    for (_, logged) in old {
        for id in logged.ids() {
            let told = logged.customer(id).unwrap().unwrap();
            let to = partition_of(id);
            let through = stands[to as usize].resume.0;
            for record in log::records(to, id, told.is_active, through, &told.packed) {
                logs[to as usize].take(&record.key, record.value.as_deref()).unwrap();
            }
        }
    }
    for (logged, Stands { head, .. }) in logs.iter_mut().zip(&stands) {
        logged.take(Head::KEY, Some(&head.pack())).unwrap();
        assert_eq!(logged.contradiction(), None);
    }
    logs
}

#[test]
fn a_state_that_is_keyed_anew_goes_on_as_if_it_had_always_been_so() {
    let (mut moved, mut open) = (0, 0);
    for seed in 0..60 {
        let mut rng = rng(seed);
        let mut clicks = stream(&mut rng, 300, pauses);
        for click in &mut clicks {
            click.customer = format!("c{}", rng.random_range(0..9));
        }
        let rules = wide_rules();
        let (old, new) = (rng.random_range(1..4_u32), rng.random_range(2..8_u32));
        let (first, second) = clicks.split_at(rng.random_range(50..250));
        let mut calm = Application::new(&rules, old);
        calm.takes(&clicks);
        let want = calm.end();

        let mut before = Application::new(&rules, old);
        before.takes(first);
        open += before.partitions.sessions().values().map(|sessions| sessions.open_sessions()).sum::<usize>();
        let offsets = before.offsets.clone();
        // Old partitions go on where they stood, in a topic that has grown; new ones may begin anywhere.
        let grown = |p: usize| offsets.get(p).copied().unwrap_or(17);
        // A new topic's begin at its beginning, far below what the customers' old offsets were.
        let anew = |_: usize| 0;
        let is_grown = new >= old && seed % 2 == 0;
        let begins: Vec<i64> = (0..new as usize).map(|p| if is_grown { grown(p) } else { anew(p) }).collect();
        let stopped = before.stop();
        for (from, (_, logged)) in stopped.iter().enumerate() {
            let goes = |id: &&str| partition_of(id.as_bytes(), new) as usize != from;
            moved += logged.ids().into_iter().filter(goes).count();
        }
        let mut after = Application::restored(&rules, keyed_anew(&stopped, &begins));
        after.takes(second);
        let found = after.end();
        assert_eq!(found.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(found, want, "seed {seed}");
    }
    assert!(moved > 50 && open > 50, "{moved} customers moved, {open} sessions were open");
}
