//! One customer's way through an epoch: its work in order, as far as it goes without a graph, and the call that it waits
//! for. `[pure]`

use std::collections::BTreeMap;

use super::graphs::{Answer, Request, read, step_with};
use super::inherit::Inherited;
use super::scores::Scoring;
use super::{Brief, Customer, Customers, Folded, Mark, Settled, Terms, Work};
use crate::model::ModelError;
use crate::pipeline::session::{Change, Slot};

/// One customer on its way through an epoch.
#[derive(Debug)]
pub(super) struct Lane<'w> {
    pub(super) key: (i32, Slot),
    pub(super) customer: Box<Customer>,
    /// What is yet to be done, in order.
    work: &'w mut [Work],
    /// The session of the first work has been put into the list.
    is_inserted: bool,
    /// The open session of the first work, while it is stepped and read.
    opened: Option<Opened>,
    /// What was read for the first work, while the heads are asked.
    scoring: Option<Scoring>,
}

#[derive(Debug)]
struct Opened {
    session: Brief,
    vector: Box<[f32]>,
    inherited: Inherited,
    /// `None` until the step is answered.
    after: Option<Mark>,
}

/// The call of a graph that a lane waits for; [`Lane::request`] gives its row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    /// The step of the first session whose state is not known.
    Refold,
    /// The step of the open session.
    Step,
    /// The first work publishes the session at that place: it is read, and then the heads are asked, ...
    Settled(usize),
    /// ... or the open session, once it is stepped.
    Open,
}

/// Sorts the work by customer, and takes those that have some out of their slots.
pub(super) fn lanes<'w>(
    customers: &mut BTreeMap<i32, Customers>,
    work: &'w mut [Work],
    state_len: usize,
) -> Vec<Lane<'w>> {
    work.sort_unstable_by_key(|work| (work.customer(), work.order));
    let each = work.chunk_by_mut(|one, next| one.customer() == next.customer());
    let lanes = each.map(|work| {
        let key = work[0].customer();
        let slots = &mut customers.entry(key.0).or_default().slots;
        let slot = key.1.0 as usize;
        if slots.len() <= slot {
            slots.resize_with(slot + 1, || None);
        }
        let customer = slots[slot].take().unwrap_or_else(|| Box::new(Customer::new(state_len)));
        Lane { key, customer, work, is_inserted: false, opened: None, scoring: None }
    });
    lanes.collect()
}

impl<'w> Lane<'w> {
    /// Works until a graph must be called, or all is done.
    pub(super) fn advance(&mut self, terms: &Terms<'_>) -> Option<Call> {
        while !self.work.is_empty() {
            let call = self.work_on(terms);
            if call.is_some() {
                return call;
            }
            self.next();
        }
        self.customer.refold(self.customer.folded.len(), terms.spec)
    }

    fn next(&mut self) -> Option<&'w mut Work> {
        self.is_inserted = false;
        self.work.split_off_first_mut()
    }

    /// Does of the first work what can be done without a graph; `None` when that is all of it.
    fn work_on(&mut self, terms: &Terms<'_>) -> Option<Call> {
        let (customer, spec) = (&mut *self.customer, terms.spec);
        let Work { step, vector, .. } = self.work.first_mut()?;
        match &mut step.what {
            Change::Fold { place, session } => {
                if !self.is_inserted {
                    customer.insert(*place, Brief::of(session), vector.take().unwrap_or_default());
                    self.is_inserted = true;
                }
                session.sequence?;
                let needed = customer.refold(customer.folded.len(), spec);
                Some(needed.unwrap_or(Call::Settled(*place)))
            }
            Change::Provisional { session, .. } => {
                let needed = customer.refold(customer.folded.len(), spec);
                if needed.is_some() {
                    return needed;
                }
                if self.opened.is_some() {
                    return Some(Call::Open);
                }
                let session = Brief::of(session);
                let vector = vector.take().expect("a provisional step comes with its session's vector");
                let inherited = customer.inherit(&session, customer.folded.len(), None, spec);
                self.opened = Some(Opened { session, vector, inherited, after: None });
                Some(Call::Step)
            }
            Change::Freeze { count } => {
                let needed = customer.refold(*count, spec);
                if needed.is_none() {
                    customer.freeze(*count);
                }
                needed
            }
            Change::Unfold { place } => {
                customer.remove(*place);
                None
            }
            Change::Forget { key_hash } => {
                customer.kept.retain(|kept| kept.key_hash != *key_hash);
                None
            }
            Change::Erase { .. } => {
                *customer = Customer::new(terms.state_len);
                None
            }
        }
    }

    /// The row of the call that [`Self::advance`] asked for.
    pub(super) fn request<'c>(&'c self, call: Call, terms: &Terms<'_>) -> Request<'c> {
        let (customer, spec) = (&*self.customer, terms.spec);
        let last = customer.mark(customer.folded.len());
        let opened = || self.opened.as_ref().expect("the work on an open session has it beside it");
        let (session, vector, inherited, before, after) = match call {
            Call::Refold => return customer.refolding(spec),
            Call::Step => {
                let Opened { session, vector, inherited, .. } = opened();
                return step_with(last, session, vector, &inherited.context, spec);
            }
            Call::Settled(place) => {
                let Folded { session, vector, .. } = &customer.folded[place];
                (session, vector, customer.inherited(place), customer.mark(place), last)
            }
            Call::Open => {
                let Opened { session, vector, inherited, after } = opened();
                (session, vector, inherited, last, after.as_ref().expect(STEPPED))
            }
        };
        match &self.scoring {
            None => read(after, after.as_of(), &inherited.context, spec),
            Some(scoring) => scoring.request(before, session, vector, inherited, spec, &terms.heads),
        }
    }

    /// The answer to the last request.
    pub(super) fn take(&mut self, answer: Answer, terms: &Terms<'_>) -> Result<Option<Settled>, ModelError> {
        let customer = &mut *self.customer;
        let (embedding, scores) = match (answer, &mut self.opened) {
            (Answer::Step(stepped), Some(opened)) => {
                let before = customer.mark(customer.folded.len());
                let state = stepped.map_or_else(|| before.state.clone(), |(state, _)| state);
                opened.after = Some(before.with(&opened.session, state));
                return Ok(None);
            }
            (Answer::Step(stepped), None) => {
                customer.refolded(stepped);
                return Ok(None);
            }
            (Answer::Read(embedding), _) => {
                if let Some(scoring) = &mut self.scoring {
                    scoring.take_prior(embedding);
                    return Ok(None);
                }
                let known = || customer.published.as_ref().map(|p| p.embedding.clone());
                let embedding = embedding.or_else(known).ok_or_else(not_finite)?;
                if !terms.heads.is_empty() {
                    self.scoring = Some(Scoring::new(embedding));
                    return Ok(None);
                }
                (embedding, BTreeMap::new())
            }
            (Answer::Score(scores), _) => {
                let scoring = self.scoring.take().expect("heads are asked with what was read");
                (scoring.embedding, terms.heads.named(scores))
            }
        };
        let work = self.next().expect("a lane that asked has work");
        let customer = &mut *self.customer;
        // The lane has left it: what stands there now is read by nobody.
        let settled = match std::mem::replace(&mut work.step.what, Change::Freeze { count: 0 }) {
            Change::Fold { place, session } => {
                let (mut embedding, summary) = customer.settle(place, *session, embedding, work.source, terms);
                embedding.scores = scores;
                Settled { order: work.order, embedding, summary }
            }
            Change::Provisional { session, .. } => {
                let after = self.opened.take().and_then(|opened| opened.after).expect(STEPPED);
                let mut embedding = customer.provisional(&after, *session, &embedding, work.source, terms);
                embedding.scores = scores;
                Settled { order: work.order, embedding, summary: None }
            }
            Change::Unfold { .. } | Change::Freeze { .. } | Change::Forget { .. } | Change::Erase { .. } => {
                unreachable!("only published sessions are read")
            }
        };
        Ok(Some(settled))
    }
}

const STEPPED: &str = "an open session is stepped before it is read";

fn not_finite() -> ModelError {
    let what = "gave a vector that is not finite or has no length, for a customer without an earlier one";
    ModelError::Run { graph: "customer_read".into(), what: what.into() }
}
