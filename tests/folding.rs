//! Embeddings against the plain run: every state recomputed from nothing, one row at a time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use dce::config::SessionRules;
use dce::model::fake::FakeModel;
use dce::model::{Head, HeadInput, HeadInputs, Model, ModelError, Shape, features};
use dce::pipeline::encode::SessionInput;
use dce::pipeline::epoch::{Body, Epoch, EpochError, Origin, Terms};
use dce::pipeline::partitions::Partitions;
use dce::pipeline::session::{Arrival, Change, Partition, Slot, Snapshot};
use dce::pipeline::source::Trace;
use dce::types::{ClickKind, CustomerId, CustomerRef, EventTime, ModelId, OpenedBy, Position, fnv1a64};
use dce::wire::embedding::{CustomerEmbedding, EmbeddingKind};
use ndarray::{Array1, Array2, Array3};
use rand::RngExt;

use crate::streams::{Click, has_silence_near_the_gap, pauses, rng, shuffled, stream, wide_rules};

fn terms(rules: &SessionRules) -> Terms {
    Terms { rules: rules.clone(), labels: vec!["amount".into()], summaries: true, emitted_at: 0 }
}

fn position(offset: usize) -> Position {
    Position { partition: 0, offset: offset as i64 }
}

fn origin(offset: usize) -> Origin<'static> {
    Origin { position: position(offset), timestamp_ms: None, trace: Trace::None }
}

/// Heads that read all that a head can.
fn model() -> FakeModel {
    FakeModel::small()
        .with_head("risk", &[HeadInput::State, HeadInput::Prior, HeadInput::Session, HeadInput::Context], 2)
        .with_head("intent", &[HeadInput::Embedding, HeadInput::Calendar], 3)
}

/// Records, and each customer's final state.
type Ran = (Vec<CustomerEmbedding>, BTreeMap<String, Vec<f32>>);

/// The pipeline, cut into epochs at random.
fn run(clicks: &[Click], rules: &SessionRules, seed: u64) -> Ran {
    let mut rng = rng(seed);
    run_cut(clicks, rules, |rest| rng.random_range(1..=rest.min(40)))
}

/// `cut` says how many of the clicks that are left go into the next epoch.
fn run_cut(clicks: &[Click], rules: &SessionRules, mut cut: impl FnMut(usize) -> usize) -> Ran {
    let (mut model, terms) = (model(), terms(rules));
    let mut partitions = Partitions::default();
    partitions.open(0, rules);
    let (mut records, mut rest) = (Vec::new(), clicks);
    let mut offset = 0;
    while !rest.is_empty() {
        let (epoch_clicks, later) = rest.split_at(cut(rest.len()));
        rest = later;
        let mut epoch = Epoch::begin(&mut partitions, &model, &terms);
        for click in epoch_clicks {
            let customer = CustomerId::parse(&click.customer).unwrap();
            _ = epoch.click(origin(offset), customer.by_ref(), &click.event());
            offset += 1;
        }
        for output in epoch.finish(&mut model, |_| ()).unwrap().outputs {
            if let Body::Embedding(record) = output.body {
                records.push(*record);
            }
        }
    }
    (records, partitions.states(0, model.shape().state))
}

/// Where a prior is read: the state before the first of the sessions that limits cut off, the latest end in it, and that
/// first one's start.
type Outset = (Vec<f32>, Option<EventTime>, EventTime);

/// A session and its content.
type Naive = (Snapshot, SessionInput);

#[derive(Default)]
struct NaiveCustomer {
    /// The contexts that sessions once inherited, by serial.
    inherited: HashMap<u64, Box<[f32]>>,
    /// The outsets that sessions once inherited, by serial.
    outsets: HashMap<u64, Outset>,
    /// Frozen sessions that can no longer be continued.
    forgotten: HashSet<u64>,
    /// In fold order: frozen, then revisable.
    frozen: Vec<Naive>,
    folded: Vec<Naive>,
    published: Option<(Vec<f32>, EventTime)>,
}

fn row(values: &[f32]) -> Array2<f32> {
    Array2::from_shape_vec((1, values.len()), values.to_vec()).unwrap()
}

fn encode(model: &mut FakeModel, input: &SessionInput) -> Vec<f32> {
    let shape = model.shape();
    let fields = input.fields.iter().map(|id| i64::from(*id)).collect();
    let fields = Array3::from_shape_vec((1, input.length, shape.fields), fields).unwrap();
    let numbers = Array3::from_shape_vec((1, input.length, shape.numbers), input.numbers.clone()).unwrap();
    model.encode(fields, numbers, Array1::from_elem(1, input.length as i32)).unwrap().into_raw_vec_and_offset().0
}

/// Each session's context, in fold order: its own, or of the session on its key that it continues, or none.
fn contexts(model: &FakeModel, customer: &mut NaiveCustomer, sessions: &[Naive]) -> Vec<Box<[f32]>> {
    let mut contexts: Vec<Box<[f32]>> = Vec::new();
    for (at, (session, _)) in sessions.iter().enumerate() {
        let before = sessions[..at].iter().rposition(|(s, _)| s.key == session.key);
        let context = match (&session.context, before) {
            (Some(own), _) => own.clone(),
            (None, Some(before)) if session.cause.opened_by == OpenedBy::Continued => {
                let last = &sessions[before].0;
                if last.cause.close_reason.unwrap().is_limit() && !customer.forgotten.contains(&last.serial) {
                    contexts[before].clone()
                } else {
                    let known = customer.inherited.get(&session.serial).cloned();
                    known.unwrap_or_else(|| model.features().no_context())
                }
            }
            _ => model.features().no_context(),
        };
        if session.cause.close_reason.is_some() {
            customer.inherited.insert(session.serial, context.clone());
        }
        contexts.push(context);
    }
    contexts
}

/// Where the prior of the next session is read, and whether that is its own place: not that of the session on its key
/// which it continues.
fn outset(customer: &NaiveCustomer, sessions: &[Naive], outsets: &[Outset], own: Outset) -> (Outset, bool) {
    let session = &sessions[outsets.len()].0;
    if session.cause.opened_by == OpenedBy::Continued {
        let before = sessions[..outsets.len()].iter().rposition(|(s, _)| s.key == session.key);
        let last = before.map(|before| &sessions[before].0);
        if last.is_some_and(|s| !s.cause.close_reason.unwrap().is_limit()) {
            return (own, true);
        }
        let inherited = match before {
            Some(before) if !customer.forgotten.contains(&sessions[before].0.serial) => Some(outsets[before].clone()),
            _ => customer.outsets.get(&session.serial).cloned(),
        };
        if let Some(inherited) = inherited {
            return (inherited, false);
        }
    }
    (own, true)
}

/// Reads a state at a moment with a context, to unit length.
fn read(
    model: &mut FakeModel,
    state: &[f32],
    moment: EventTime,
    latest_end: Option<EventTime>,
    context: &[f32],
) -> Vec<f32> {
    let ahead = latest_end.map_or(0.0, |end| features::hours((moment.ms() - end.ms()).max(0) as u64));
    let calendar = model.features().calendar(moment.ms());
    let read = model.customer_read(row(state), row(&[ahead]), row(&calendar), row(context)).unwrap();
    let length = read.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    read.iter().map(|x| (f64::from(*x) / length) as f32).collect()
}

/// What a plain run says of one session.
struct Plain {
    gate: f32,
    as_of: EventTime,
    embedding: Vec<f32>,
    scores: BTreeMap<Arc<str>, Vec<f32>>,
}

/// All sessions folded from zeros, and read for `cause` with its context.
fn plain_run(model: &mut FakeModel, customer: &mut NaiveCustomer, sessions: &[Naive], cause: u64) -> Plain {
    let mut state = vec![0.0; model.shape().state];
    let (mut last_end, mut latest_end, mut as_of, mut gate) = (None::<EventTime>, None::<EventTime>, None, 1.0);
    let mut own = None;
    let contexts = contexts(model, customer, sessions);
    let mut outsets = Vec::new();
    for ((session, input), context) in sessions.iter().zip(contexts) {
        let (start, end) = (session.cause.session_start, session.cause.session_end);
        let gap = last_end.map_or(0.0, |end| features::hours((start.ms() - end.ms()).max(0) as u64));
        let vector = encode(model, input);
        let calendar = model.features().calendar(start.ms());
        let (next, gates) =
            model.customer_step(row(&state), row(&vector), row(&[gap]), row(&calendar), row(&context)).unwrap();
        let (outset, is_own) = outset(customer, sessions, &outsets, (state.clone(), latest_end, start));
        if session.cause.close_reason.is_some() {
            customer.outsets.remove(&session.serial);
            customer.outsets.extend((!is_own).then(|| (session.serial, outset.clone())));
        }
        outsets.push(outset.clone());
        if session.serial == cause {
            gate = if session.cause.close_reason.is_some() { gates[[0, 0]] } else { 1.0 };
            let (before, latest_end, start) = outset;
            let prior = read(model, &before, start, latest_end, &context);
            own = Some((state, prior, vector, calendar, context));
        }
        state = next.into_raw_vec_and_offset().0;
        last_end = Some(end);
        latest_end = latest_end.max(Some(end));
        as_of = as_of.max(Some(session.cause.closed_at.unwrap_or(end)));
    }
    let (as_of, (before, prior, vector, calendar, context)) = (as_of.unwrap(), own.unwrap());
    let embedding = read(model, &state, as_of, latest_end, &context);
    let inputs = [&*before, &*prior, &*vector, &*embedding, &calendar[..], &*context].map(row);
    let [state, prior, session, read, calendar, context] = inputs.each_ref().map(Some);
    let inputs = HeadInputs { state, prior, session, embedding: read, calendar, context };
    let names: Vec<Arc<str>> = model.heads().iter().map(|head| Arc::clone(&head.name)).collect();
    let scores = names.into_iter().enumerate();
    let scores = scores.map(|(n, name)| (name, model.score(n, inputs).unwrap().into_raw_vec_and_offset().0)).collect();
    Plain { gate, as_of, embedding, scores }
}

/// Follows the sessionizer's steps and answers each by a plain run.
fn naive(clicks: &[Click], rules: &SessionRules) -> Vec<CustomerEmbedding> {
    let mut model = model();
    let spec = model.features().clone();
    let labels: Vec<Arc<str>> = vec!["amount".into()];
    let mut partition = Partition::new(rules.clone());
    let mut customers: HashMap<Slot, NaiveCustomer> = HashMap::new();
    let mut open_inputs: HashMap<u64, SessionInput> = HashMap::new();
    let (mut steps, mut records) = (Vec::new(), Vec::new());
    for (offset, click) in clicks.iter().enumerate() {
        let customer = CustomerId::parse(&click.customer).unwrap();
        _ = partition.push(Arrival::new(customer.by_ref(), &click.event(), &spec, &labels), &mut steps);
        for step in steps.drain(..) {
            let customer = customers.entry(step.slot).or_default();
            let mut opened = None;
            let session = match step.what {
                Change::Fold { place, session } => {
                    let input = session.input.clone();
                    customer.folded.insert(place, (Snapshot::clone(&session), input));
                    if session.sequence.is_none() {
                        continue;
                    }
                    session
                }
                Change::Provisional { session, restart } => {
                    let whole = open_inputs.entry(session.serial).or_default();
                    if restart {
                        *whole = SessionInput::default();
                    }
                    whole.fields.extend(&session.input.fields);
                    whole.numbers.extend(&session.input.numbers);
                    whole.length += session.input.length;
                    assert_eq!(whole.length, session.cause.event_count as usize, "what was stepped is all of it");
                    opened = Some((Snapshot::clone(&session), whole.clone()));
                    session
                }
                Change::Unfold { place } => {
                    customer.folded.remove(place);
                    continue;
                }
                Change::Freeze { count } => {
                    customer.frozen.extend(customer.folded.drain(..count));
                    continue;
                }
                Change::Forget { key_hash } => {
                    let gone = customer.frozen.iter().filter(|(s, _)| fnv1a64(s.key.as_bytes()) == key_hash);
                    customer.forgotten.extend(gone.map(|(s, _)| s.serial));
                    continue;
                }
                Change::Erase { .. } => continue,
            };
            let all = customer.frozen.iter().chain(&customer.folded).chain(&opened);
            let sessions: Vec<Naive> = all.filter(|(s, _)| s.sequence.is_some()).cloned().collect();
            let Plain { gate, as_of, embedding, scores } = plain_run(&mut model, customer, &sessions, session.serial);
            let shift = customer.published.as_ref().map(|(old, _)| {
                let dot =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
                if *old == embedding {
                    0.0
                } else {
                    (1.0 - dot(old, &embedding) / (dot(old, old) * dot(&embedding, &embedding)).sqrt()).clamp(0.0, 2.0)
                }
            });
            let kind = match (session.cause.close_reason, session.cause.revision) {
                (None, _) => EmbeddingKind::Provisional,
                (_, 0) => EmbeddingKind::SessionClosed,
                _ => EmbeddingKind::SessionRevised,
            };
            records.push(CustomerEmbedding {
                customer_id: session.customer.clone(),
                sequence: session.sequence.unwrap(),
                kind,
                embedding: embedding.clone(),
                model: model.id().clone(),
                cosine_shift: shift,
                gate,
                previous_as_of: customer.published.as_ref().map(|(_, at)| *at),
                scores,
                cold_start: sessions.len() == 1,
                cause: session.cause,
                labels: session.labels,
                as_of,
                emitted_at: 0,
                source: position(offset),
            });
            if kind.is_settled() {
                customer.published = Some((embedding, as_of));
            }
        }
    }
    records
}

/// Rules whose limits are reached all the time.
fn tight_rules(seed: u64) -> SessionRules {
    SessionRules {
        duration_max_ms: 40_000,
        events_max: 4,
        open_max: 2,
        revisable_max: 3,
        revisions_max: 5,
        provisional_every_events: (seed % 4) as usize,
        ..wide_rules()
    }
}

#[test]
fn every_record_equals_the_plain_run() {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..400 {
        let mut rng = rng(seed);
        let rules = if seed % 2 == 0 { tight_rules(seed / 2) } else { wide_rules() };
        let clicks = stream(&mut rng, 80, pauses);
        let dirty = shuffled(&mut rng, &clicks, 30_000);
        let (found, _) = run(&dirty, &rules, seed);
        let want = naive(&dirty, &rules);
        assert_eq!(found.len(), want.len(), "seed {seed}");
        for (n, (found, want)) in found.iter().zip(&want).enumerate() {
            assert_eq!(found, want, "seed {seed}, record {n}");
            *kinds.entry(found.kind.as_str()).or_default() += 1;
            *kinds.entry(found.cause.opened_by.as_str()).or_default() += 1;
        }
    }
    for kind in ["PROVISIONAL", "SESSION_CLOSED", "SESSION_REVISED", "CONTINUED", "LOGIN", "IMPLICIT"] {
        assert!(kinds.get(kind).is_some_and(|n| *n > 200), "the streams must reach {kind}: {kinds:?}");
    }
}

#[test]
fn sequences_rise_by_one_whatever_the_epochs() {
    for seed in 0..100 {
        let mut rng = rng(seed);
        let rules = tight_rules(seed);
        let clicks = stream(&mut rng, 80, pauses);
        let clicks = shuffled(&mut rng, &clicks, 30_000);
        let (records, states) = run(&clicks, &rules, seed);
        let (again, states_again) = run(&clicks, &rules, seed + 1_000);
        assert_eq!((&records, &states), (&again, &states_again), "seed {seed}: epochs are cut otherwise, nothing else");
        let mut last: HashMap<CustomerId, u64> = HashMap::new();
        for record in records {
            let last = last.entry(record.customer_id.clone()).or_default();
            *last += 1;
            assert_eq!(record.sequence, *last, "seed {seed}, {}", record.customer_id);
        }
    }
}

/// More customers at once than one call of a graph takes, each with sessions that are open, closed and revised.
#[test]
fn many_customers_in_one_epoch_are_each_as_if_alone() {
    let customers = 1_300;
    let kinds = [ClickKind::Login, ClickKind::PageView, ClickKind::Action, ClickKind::Logout, ClickKind::Action];
    let click = |n: usize| Click {
        id: format!("e{n:05}"),
        customer: format!("c{}", n * 7 % customers),
        time: n as i64 * 5,
        kind: kinds[n / customers],
        channel: "web",
        balance: (n % 977) as f64,
    };
    let clicks: Vec<Click> = (0..customers * kinds.len()).map(click).collect();
    let rules = SessionRules { provisional_every_events: 2, ..wide_rules() };
    let clicks = shuffled(&mut rng(1), &clicks, 20_000);
    let (records, states) = run_cut(&clicks, &rules, |rest| rest);
    let kinds = [
        (EmbeddingKind::Provisional, 1_024),
        (EmbeddingKind::SessionClosed, 1_024),
        (EmbeddingKind::SessionRevised, 256),
    ];
    for (kind, at_least) in kinds {
        let count = records.iter().filter(|record| record.kind == kind).count();
        assert!(count > at_least, "{count} {}", kind.as_str());
    }
    let (alone, alone_states) = run_cut(&clicks, &rules, |_| 1);
    assert_eq!(records.len(), alone.len());
    for (n, (record, alone)) in records.iter().zip(&alone).enumerate() {
        assert_eq!(record, alone, "record {n}");
    }
    assert_eq!(states, alone_states);
}

#[test]
fn the_final_state_does_not_depend_on_the_order_of_arrival() {
    let mut tested = 0;
    for seed in 0..600 {
        let mut rng = rng(seed);
        let rules = wide_rules();
        let clicks = stream(&mut rng, 60, pauses);
        if has_silence_near_the_gap(&clicks, &rules) {
            continue;
        }
        tested += 1;
        let dirty = shuffled(&mut rng, &clicks, 10_000);
        let (_, want) = run(&clicks, &rules, seed);
        let (_, found) = run(&dirty, &rules, seed + 1);
        assert_eq!(found, want, "seed {seed}");
    }
    assert!(tested > 120, "too few streams without a silence near the gap: {tested}");
}

/// A model whose steps are not finite, or whose reads are not from the n-th on.
struct Broken {
    model: FakeModel,
    bad_steps: bool,
    bad_reads_from: usize,
    reads: usize,
}

impl Model for Broken {
    fn id(&self) -> &ModelId {
        self.model.id()
    }

    fn fingerprint(&self) -> u64 {
        self.model.fingerprint()
    }

    fn shape(&self) -> Shape {
        self.model.shape()
    }

    fn features(&self) -> &features::FeatureSpec {
        self.model.features()
    }

    fn heads(&self) -> &[Head] {
        self.model.heads()
    }

    fn encode(&mut self, f: Array3<i64>, n: Array3<f32>, l: Array1<i32>) -> Result<Array2<f32>, ModelError> {
        self.model.encode(f, n, l)
    }

    fn encode_step(
        &mut self,
        fields: Array2<i64>,
        numbers: Array2<f32>,
        hidden: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError> {
        self.model.encode_step(fields, numbers, hidden)
    }

    fn customer_step(
        &mut self,
        state: Array2<f32>,
        session: Array2<f32>,
        gap: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError> {
        let (mut state, gate) = self.model.customer_step(state, session, gap, calendar, context)?;
        if self.bad_steps {
            state[[0, 0]] = f32::NAN;
        }
        Ok((state, gate))
    }

    fn customer_read(
        &mut self,
        state: Array2<f32>,
        ahead: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<Array2<f32>, ModelError> {
        let mut embedding = self.model.customer_read(state, ahead, calendar, context)?;
        self.reads += 1;
        if self.reads >= self.bad_reads_from {
            embedding.fill(f32::INFINITY);
        }
        Ok(embedding)
    }

    fn score(&mut self, head: usize, inputs: HeadInputs<'_>) -> Result<Array2<f32>, ModelError> {
        self.model.score(head, inputs)
    }
}

#[test]
fn what_is_not_finite_reaches_neither_the_topic_nor_the_state() {
    let rules = wide_rules();
    let session = |n: i64| {
        [ClickKind::Login, ClickKind::PageView, ClickKind::Logout].into_iter().enumerate().map(move |(at, kind)| {
            Click {
                id: format!("{n}-{at}"),
                customer: "ana".into(),
                time: n * 1_000_000 + at as i64,
                kind,
                channel: "web",
                balance: 1.0,
            }
        })
    };
    let publish = |model: &mut Broken| {
        let mut partitions = Partitions::default();
        partitions.open(0, &rules);
        let mut records = Vec::new();
        for n in 0..2 {
            let terms = terms(&rules);
            let mut epoch = Epoch::begin(&mut partitions, model, &terms);
            for click in session(n) {
                epoch.click(origin(0), CustomerRef::parse("ana").unwrap(), &click.event()).unwrap();
            }
            for output in epoch.finish(model, |_| ())?.outputs {
                if let Body::Embedding(record) = output.body {
                    records.push(*record);
                }
            }
        }
        Ok::<_, EpochError>(records)
    };
    let broken = |bad_steps, bad_reads_from| Broken { model: FakeModel::small(), bad_steps, bad_reads_from, reads: 0 };

    // A bad step keeps the session out of the state, and the record says so.
    let records = publish(&mut broken(true, usize::MAX)).unwrap();
    assert_eq!(records.iter().map(|r| r.gate).collect::<Vec<_>>(), [0.0, 0.0]);
    assert!(records.iter().flat_map(|r| &r.embedding).all(|x| x.is_finite()));
    // A bad read repeats what was published last; without that there is nothing to say.
    let records = publish(&mut broken(false, 2)).unwrap();
    assert_eq!((&records[1].embedding, records[1].cosine_shift), (&records[0].embedding, Some(0.0)));
    let error = publish(&mut broken(false, 1)).unwrap_err().to_string();
    assert!(error.contains("customer_read"), "{error}");
}
