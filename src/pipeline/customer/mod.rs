//! Folds session vectors into customer states, in order, and refolds what a straggler changed. Steps with their session
//! vectors → embeddings and session summaries. The rules are pure; the customer graphs are called in waves: each wave
//! takes at most one call of each customer, so that a batch never waits for a row of its own.
//!
//! ```text
//!   frozen state ─▸ step(session 1) ─▸ step(session 2) ─▸ … ─▸ step(open session)
//!                      └ after 1          └ after 2 ─▸ read(moment) = embedding    └─▸ read = provisional embedding
//! ```
//!
//! What is frozen costs its state vector; each revisable session keeps the state after it, so that a revision refolds
//! from its place on. The final state is a function of the sessions in fold order, not of the order of their arrival.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::features::FeatureSpec;
use crate::model::{Model, ModelError};
use crate::pipeline::session::{Slot, Snapshot, Step};
use crate::types::{CloseReason, EventTime, ModelId, OpenedBy, Position, fnv1a64};
use crate::wire::embedding::{CustomerEmbedding, EmbeddingKind, SessionSummary};

mod graphs;
mod inherit;
mod lane;
mod saved;
mod scores;

pub use saved::{Seen, look};

use graphs::{Asked, Request, answer, step_with};
use inherit::{Inherited, Kept};
use lane::{Call, lanes};
use scores::Heads;

/// One step of an epoch, with the vector of its session where it has one.
#[derive(Debug)]
pub struct Work {
    pub partition: i32,
    /// Its place among all that the epoch gives.
    pub order: usize,
    /// The record that caused it.
    pub source: Position,
    pub step: Step,
    pub vector: Option<Box<[f32]>>,
}

impl Work {
    fn customer(&self) -> (i32, Slot) {
        (self.partition, self.step.slot)
    }
}

/// What one published session gives.
#[derive(Debug)]
pub struct Settled {
    pub order: usize,
    pub embedding: Box<CustomerEmbedding>,
    /// `None` for a provisional one, and where the session's event ids were not kept.
    pub summary: Option<Box<SessionSummary>>,
}

/// The customers of one partition, by slot.
#[derive(Debug, Default)]
pub struct Customers {
    slots: Vec<Option<Box<Customer>>>,
    /// Of the open sessions that had a provisional step: where the step graph stands.
    pub hidden: HashMap<u64, Box<[f32]>>,
}

impl Customers {
    /// The customer's state with everything folded, as bits; `None` where nothing was folded.
    pub fn state(&self, slot: Slot) -> Option<&[f32]> {
        let customer = self.slots.get(slot.0 as usize)?.as_ref()?;
        let last = customer.folded.last().map_or(&customer.frozen, |f| &f.after);
        last.times.map(|_| &*last.state)
    }
}

/// A customer's state after some sessions.
#[derive(Debug, Clone)]
struct Mark {
    state: Box<[f32]>,
    /// `None`: nothing is folded.
    times: Option<Times>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    /// The end of the session folded last, and the latest end of all.
    last_end: EventTime,
    latest_end: EventTime,
    /// The latest `closed_at`.
    as_of: EventTime,
}

impl Mark {
    /// After one more session; `state` is what the graph made of it.
    fn with(&self, session: &Brief, state: Box<[f32]>) -> Self {
        let before = self.times;
        let times = Times {
            last_end: session.end,
            latest_end: before.map_or(session.end, |t| t.latest_end.max(session.end)),
            as_of: before.map_or(session.closed_at, |t| t.as_of.max(session.closed_at)),
        };
        Self { state, times: Some(times) }
    }

    /// The moment that it is read for: of what is settled the latest `closed_at`, with an open session the later of that and
    /// its last event.
    fn as_of(&self) -> EventTime {
        self.times.map(|t| t.as_of).expect("only a state with something folded is read")
    }
}

/// What folding needs to know of a session.
#[derive(Debug)]
struct Brief {
    serial: u64,
    key_hash: u64,
    start: EventTime,
    end: EventTime,
    /// Its end while it is open.
    closed_at: EventTime,
    opened_by: OpenedBy,
    close_reason: Option<CloseReason>,
    /// A lone LOGOUT is not: the state passes through.
    is_published: bool,
    /// Of its own LOGIN.
    context: Option<Box<[f32]>>,
}

impl Brief {
    fn of(session: &mut Snapshot) -> Self {
        let cause = &session.cause;
        Self {
            serial: session.serial,
            key_hash: fnv1a64(session.key.as_bytes()),
            start: cause.session_start,
            end: cause.session_end,
            closed_at: cause.closed_at.unwrap_or(cause.session_end),
            opened_by: cause.opened_by,
            close_reason: cause.close_reason,
            is_published: session.sequence.is_some(),
            context: session.context.take(),
        }
    }
}

/// A revisable session in the list.
#[derive(Debug)]
struct Folded {
    session: Brief,
    vector: Box<[f32]>,
    /// Known once it was folded, and never of a lone LOGOUT.
    inherited: Option<Inherited>,
    after: Mark,
    gate: f32,
}

#[derive(Debug)]
struct Published {
    embedding: Box<[f32]>,
    as_of: EventTime,
}

#[derive(Debug)]
struct Customer {
    frozen: Mark,
    folded: Vec<Folded>,
    /// The states after `folded[dirty..]` are not those of the present list.
    dirty: usize,
    kept: Vec<Kept>,
    published: Option<Published>,
    /// What the session inherited that was unfolded last, for its return.
    carried: Option<(u64, Inherited)>,
}

impl Customer {
    fn new(state_len: usize) -> Self {
        Self {
            frozen: Mark { state: vec![0.0; state_len].into(), times: None },
            folded: Vec::new(),
            dirty: 0,
            kept: Vec::new(),
            published: None,
            carried: None,
        }
    }

    /// The state before `folded[place]`.
    fn mark(&self, place: usize) -> &Mark {
        place.checked_sub(1).map_or(&self.frozen, |at| &self.folded[at].after)
    }

    fn is_empty(&self) -> bool {
        self.frozen.times.is_none() && self.folded.is_empty()
    }

    fn insert(&mut self, place: usize, session: Brief, vector: Box<[f32]>) {
        let carried = self.carried.take().filter(|(serial, _)| *serial == session.serial);
        let after = Mark { state: Box::default(), times: None };
        let inherited = carried.map(|(_, inherited)| inherited);
        self.folded.insert(place, Folded { session, vector, inherited, after, gate: 1.0 });
        self.dirty = self.dirty.min(place);
    }

    fn remove(&mut self, place: usize) {
        let entry = self.folded.remove(place);
        self.carried = entry.inherited.map(|inherited| (entry.session.serial, inherited));
        self.dirty = self.dirty.min(place);
    }
}

/// What the rules need to know of the model.
#[derive(Debug)]
struct Terms<'a> {
    spec: &'a FeatureSpec,
    model: &'a ModelId,
    heads: Heads,
    state_len: usize,
    emitted_at: i64,
}

/// Folds the work of an epoch. Its `order` says what came first, and is never twice the same; the result stands in it.
pub fn fold(
    model: &mut dyn Model,
    customers: &mut BTreeMap<i32, Customers>,
    mut work: Vec<Work>,
    emitted_at: i64,
) -> Result<Vec<Settled>, ModelError> {
    let (spec, id) = (model.features().clone(), model.id().clone());
    let heads = Heads::of(model);
    let terms = Terms { spec: &spec, model: &id, heads, state_len: model.shape().state, emitted_at };
    let mut lanes = lanes(customers, &mut work, terms.state_len);
    let mut settled = Vec::new();
    loop {
        let calls = lanes.iter_mut().enumerate().filter_map(|(at, lane)| Some((at, lane.advance(&terms)?)));
        let calls: Vec<(usize, Call)> = calls.collect();
        if calls.is_empty() {
            break;
        }
        let asked: Vec<Asked<'_>> = calls.iter().map(|(at, call)| (*at, lanes[*at].request(*call, &terms))).collect();
        for (at, answer) in answer(model, &asked)? {
            settled.extend(lanes[at].take(answer, &terms)?);
        }
    }
    for lane in lanes {
        let (partition, slot) = lane.key;
        let is_known = !lane.customer.is_empty();
        customers.entry(partition).or_default().slots[slot.0 as usize] = is_known.then_some(lane.customer);
    }
    settled.sort_unstable_by_key(|s: &Settled| s.order);
    Ok(settled)
}

impl Customer {
    /// The next call that is needed before the states after the first `until` sessions are right.
    fn refold(&mut self, until: usize, spec: &FeatureSpec) -> Option<Call> {
        while self.dirty < until {
            let place = self.dirty;
            let entry = &self.folded[place];
            if entry.session.is_published {
                let inherited = self.inherit(&entry.session, place, entry.inherited.as_ref(), spec);
                self.folded[place].inherited = Some(inherited);
                return Some(Call::Refold);
            }
            self.folded[place].after = self.mark(place).clone();
            self.dirty += 1;
        }
        None
    }

    /// The row of [`Self::refold`]'s call.
    fn refolding(&self, spec: &FeatureSpec) -> Request<'_> {
        let Folded { session, vector, .. } = &self.folded[self.dirty];
        step_with(self.mark(self.dirty), session, vector, &self.inherited(self.dirty).context, spec)
    }

    /// Of a published session that was refolded, or is about to be.
    fn inherited(&self, place: usize) -> &Inherited {
        self.folded[place].inherited.as_ref().expect("a published session inherits before it is stepped")
    }

    /// The answer to [`Self::refold`]'s call. Where it is not finite the session is kept out of the state: gate 0.
    fn refolded(&mut self, stepped: Option<(Box<[f32]>, f32)>) {
        let place = self.dirty;
        let before = self.mark(place);
        let (state, gate) = stepped.unwrap_or_else(|| (before.state.clone(), 0.0));
        let after = before.with(&self.folded[place].session, state);
        self.folded[place].after = after;
        self.folded[place].gate = gate;
        self.dirty += 1;
    }

    fn settle(
        &mut self,
        place: usize,
        mut session: Snapshot,
        embedding: Box<[f32]>,
        source: Position,
        terms: &Terms<'_>,
    ) -> (Box<CustomerEmbedding>, Option<Box<SessionSummary>>) {
        let others = self.folded.iter().enumerate().any(|(at, f)| at != place && f.session.is_published);
        let event_ids = std::mem::take(&mut session.event_ids);
        let summary = (!event_ids.is_empty()).then(|| {
            Box::new(SessionSummary {
                customer_id: session.customer.clone(),
                sequence: session.sequence.unwrap_or_default(),
                session_key: Arc::clone(&session.key),
                cause: session.cause.clone(),
                event_ids,
            })
        });
        let as_of = self.mark(self.folded.len()).as_of();
        let mut record = self.record(session, &embedding, as_of, source, terms);
        record.gate = self.folded[place].gate;
        record.cold_start = self.frozen.times.is_none() && !others;
        self.published = Some(Published { embedding, as_of });
        (record, summary)
    }

    fn provisional(
        &self,
        after: &Mark,
        session: Snapshot,
        embedding: &[f32],
        source: Position,
        terms: &Terms<'_>,
    ) -> Box<CustomerEmbedding> {
        let mut record = self.record(session, embedding, after.as_of(), source, terms);
        record.cold_start = self.mark(self.folded.len()).times.is_none();
        record
    }

    fn record(
        &self,
        session: Snapshot,
        embedding: &[f32],
        as_of: EventTime,
        source: Position,
        terms: &Terms<'_>,
    ) -> Box<CustomerEmbedding> {
        let kind = match (session.cause.close_reason, session.cause.revision) {
            (None, _) => EmbeddingKind::Provisional,
            (Some(_), 0) => EmbeddingKind::SessionClosed,
            (Some(_), _) => EmbeddingKind::SessionRevised,
        };
        Box::new(CustomerEmbedding {
            customer_id: session.customer,
            sequence: session.sequence.unwrap_or_default(),
            kind,
            embedding: embedding.to_vec(),
            model: terms.model.clone(),
            cosine_shift: self.published.as_ref().map(|p| cosine_shift(&p.embedding, embedding)),
            gate: 1.0,
            previous_as_of: self.published.as_ref().map(|p| p.as_of),
            scores: BTreeMap::new(),
            cold_start: false,
            cause: session.cause,
            labels: session.labels,
            as_of,
            emitted_at: terms.emitted_at,
            source,
        })
    }
}

/// 1 − cosine of two vectors of unit length, in [0, 2]; exactly 0 where they are the same.
fn cosine_shift(old: &[f32], new: &[f32]) -> f64 {
    if old == new {
        return 0.0;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    (1.0 - dot(old, new) / (dot(old, old) * dot(new, new)).sqrt()).clamp(0.0, 2.0)
}
