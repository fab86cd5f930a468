//! The bank's clock: whose visit begins next, and which event of an open session arrives next.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::calendar::{DAY_MS, HOUR_MS};
use super::pages::Detail;
use super::plan::{Customer, Plan, Planner, Visitor, When};
use super::random::{Purpose, Random, mix, real, unit_of, whole};
use super::scenario::World;
use super::takeover::Takeover;
use super::walk::{Pulls, Step, hash_name};
use super::{Click, Label, Params, Record};
use crate::types::ClickKind;

/// An iterator over the bank's records in order of arrival.
#[derive(Debug)]
pub struct Bank {
    params: Params,
    planner: Planner,
    customers: Vec<Customer>,
    /// (when, customer, who), the next one first: two or three a customer.
    visits: BinaryHeap<Reverse<(i64, u32, Visitor)>>,
    /// (arrival, place in the order of opening, slot of the session): one an open session.
    arrivals: BinaryHeap<Reverse<(i64, u64, usize)>>,
    open: Vec<Option<Open>>,
    free: Vec<usize>,
    opened: u64,
    sent: u64,
    labels: Vec<Label>,
}

/// A session some of whose events are still to arrive.
#[derive(Debug)]
struct Open {
    plan: Plan,
    customer_id: Arc<str>,
    arrivals: Vec<(i64, u32)>,
    next: usize,
}

const TRAIN_UNTIL: f64 = 0.7;
const VALID_UNTIL: f64 = 0.85;
const AGGREGATOR_PERIOD_MS: i64 = 6 * HOUR_MS;

impl Bank {
    pub fn new(params: Params) -> Self {
        let planner = Planner {
            seed: params.seed,
            session_id_share: params.session_id_share,
            pace: 1.0,
            world: World(params.scenarios.clone()),
            pulls: Pulls::new(),
        };
        let mut bank = Self {
            planner,
            customers: Vec::new(),
            visits: BinaryHeap::new(),
            arrivals: BinaryHeap::new(),
            open: Vec::new(),
            free: Vec::new(),
            opened: 0,
            sent: 0,
            labels: Vec::new(),
            params,
        };
        for number in 0..bank.params.customers {
            bank.enrol(number);
        }
        bank
    }

    /// How many days a bank of so many customers takes for so many events, about.
    pub fn days_for(customers: u32, events: u64) -> f64 {
        const EVENTS_A_DAY: f64 = 8.4;
        real(i64::try_from(events).unwrap_or(i64::MAX)) / (EVENTS_A_DAY * f64::from(customers.max(1)))
    }

    /// The labels of the sessions whose last event has gone out since the last call.
    pub fn take_labels(&mut self) -> Vec<Label> {
        std::mem::take(&mut self.labels)
    }

    /// Sessions that have begun so far.
    pub fn sessions(&self) -> u64 {
        self.opened
    }

    /// Room for sessions that are open at a time.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.open.len()
    }

    fn enrol(&mut self, number: u32) {
        let persona = self.planner.persona(number);
        let start = self.params.start;
        self.customers.push(Customer::new(&persona, start));
        self.expect_owner(number, start);
        if let Some(takeover) = self.takeover(number) {
            self.expect(takeover.at, number, Visitor::Thief(0));
        }
        let luck = unit_of(mix(persona.key, 401));
        if unit_of(mix(persona.key, 400)) < self.params.aggregators {
            self.expect(start + whole(luck * real(AGGREGATOR_PERIOD_MS)), number, Visitor::Aggregator);
        }
    }

    fn takeover(&self, number: u32) -> Option<Takeover> {
        let horizon = whole(self.params.days * real(DAY_MS));
        Takeover::of(self.params.seed, number, self.params.takeovers, self.params.start, horizon)
    }

    fn expect(&mut self, at: i64, number: u32, visitor: Visitor) {
        if self.params.open_end || at < self.params.start + whole(self.params.days * real(DAY_MS)) {
            self.visits.push(Reverse((at, number, visitor)));
        }
    }

    fn expect_owner(&mut self, number: u32, from: i64) {
        let ordinal = u64::from(self.customers[number as usize].sessions);
        let mut random = Random::new(self.params.seed, Purpose::Return, u64::from(number), ordinal);
        let rate = 1.0 + 2.0 * self.planner.world.shock(from);
        let at = self.planner.persona(number).next_visit(&mut random, from, rate);
        self.expect(at, number, Visitor::Owner);
    }

    fn begin(&mut self, at: i64, number: u32, visitor: Visitor) {
        let when = When { at, clock: at };
        let persona = self.planner.persona(number);
        let customer = &mut self.customers[number as usize];
        match visitor {
            Visitor::Owner | Visitor::Again | Visitor::Companion(..) => {
                match self.planner.owner(number, customer, &persona, visitor, when) {
                    Ok((plan, next)) => {
                        if visitor == Visitor::Owner {
                            self.expect_owner(number, plan.end());
                        }
                        for (at, visitor) in next {
                            self.expect(at, number, visitor);
                        }
                        self.open(plan, persona.key);
                    }
                    // A second look or a companion whose device is in use does not come at all.
                    Err(until) if visitor == Visitor::Owner => self.expect(until, number, visitor),
                    Err(_) => {}
                }
            }
            Visitor::Thief(visit) => {
                let Some(takeover) = self.takeover(number) else { return };
                let customer = &mut self.customers[number as usize];
                match self.planner.thief(number, customer, &persona, &takeover, visit, when) {
                    Ok(plan) => {
                        if let Some(again) = takeover.next_visit(visit, plan.end()) {
                            self.expect(again, number, Visitor::Thief(visit + 1));
                        }
                        self.open(plan, persona.key);
                    }
                    Err(until) => self.expect(until, number, visitor),
                }
            }
            Visitor::Aggregator => {
                let plan = self.planner.aggregator(number, customer, &persona, when);
                self.expect(at + AGGREGATOR_PERIOD_MS, number, visitor);
                self.open(plan, persona.key);
            }
        }
    }

    fn open(&mut self, plan: Plan, key: u64) {
        let dirt = self.params.dirt;
        let mut random =
            Random::new(self.params.seed, Purpose::Arrival, u64::from(plan.customer), u64::from(plan.ordinal));
        let arrivals = dirt.arrivals(&mut random, &plan.steps, dirt.lag(key));
        let Some(&(first, _)) = arrivals.first() else { return };
        let open = Open { customer_id: customer_id(plan.customer), plan, arrivals, next: 0 };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.open.push(None);
            self.open.len() - 1
        });
        self.open[slot] = Some(open);
        self.arrivals.push(Reverse((first, self.opened, slot)));
        self.opened += 1;
    }

    fn label(&mut self, open: &Open) {
        let plan = &open.plan;
        let span = self.params.days * real(DAY_MS);
        let mut put = |task, session_id, event_time: i64, label| {
            let share = real(event_time - self.params.start) / span;
            let split = if share < TRAIN_UNTIL {
                "train"
            } else if share < VALID_UNTIL {
                "valid"
            } else {
                "test"
            };
            let customer_id = Arc::clone(&open.customer_id);
            self.labels.push(Label { task, customer_id, session_id, event_time, label, split });
        };
        let flag = |yes: bool| Cow::Borrowed(if yes { "1" } else { "0" });
        put("owner", plan.session_id.clone(), plan.start(), flag(plan.takeover.is_some()));
        if matches!(plan.visitor, Visitor::Owner | Visitor::Again) {
            if plan.ordinal > 0 {
                let telling = self.planner.world.name(plan.intent.telling(), plan.start());
                put("next_session", None, plan.start(), Cow::Borrowed(telling));
            }
            put("label", None, plan.end() + 1, flag(plan.calls));
        }
    }
}

impl Iterator for Bank {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.params.events_max.is_some_and(|max| self.sent >= max) {
            return None;
        }
        // No event of a visit arrives before the visit begins, so what arrives before the next visit is the next.
        while let Some(&Reverse((at, number, visitor))) = self.visits.peek() {
            if self.arrivals.peek().is_some_and(|Reverse((arrival, ..))| *arrival < at) {
                break;
            }
            self.visits.pop();
            self.begin(at, number, visitor);
        }
        let Reverse((record_time, place, slot)) = self.arrivals.pop()?;
        let open = self.open[slot].as_mut().expect("a slot on the heap is in use until its last arrival");
        let index = open.arrivals[open.next].1;
        let click = click(&open.plan, &open.customer_id, index, &self.planner.world);
        open.next += 1;
        if let Some(&(next, _)) = open.arrivals.get(open.next) {
            self.arrivals.push(Reverse((next, place, slot)));
        } else if let Some(done) = self.open[slot].take() {
            self.free.push(slot);
            self.label(&done);
        }
        self.sent += 1;
        Some(Record { click, record_time })
    }
}

pub(super) fn customer_id(number: u32) -> Arc<str> {
    Arc::from(format!("c{number:06}").as_str())
}

pub(super) fn click(plan: &Plan, customer_id: &Arc<str>, index: u32, world: &World) -> Click {
    let step = &plan.steps[index as usize];
    let spec = step.page.spec();
    let mut attributes = if index == 0 { plan.traits.clone() } else { Vec::new() };
    details(plan, step, spec.detail, &mut attributes);
    Click {
        event_id: hash_name("e", plan.key, u64::from(index) + 1),
        customer_id: Arc::clone(customer_id),
        event_time: step.at,
        kind: spec.kind,
        name: world.name(spec.name, step.at),
        channel: plan.channel.as_str(),
        device_id: Arc::clone(&plan.device),
        session_id: plan.session_id.clone(),
        context: if spec.kind == ClickKind::Login { plan.context.clone() } else { Vec::new() },
        attributes,
    }
}

fn details(plan: &Plan, step: &Step, detail: Detail, attributes: &mut Vec<(&'static str, Cow<'static, str>)>) {
    let amount = || ("amount", Cow::Owned(format!("{}.{:02}", step.cents / 100, step.cents % 100)));
    let which = usize::try_from(step.which).unwrap_or(0);
    let payee = || {
        // A thief's payees are his own.
        let whose = if plan.takeover.is_some() { plan.key } else { u64::from(plan.customer) };
        ("payee", Cow::Owned(hash_name("p-", whose, 700 + u64::from(step.which))))
    };
    let one_of = |names: &[&'static str]| Cow::Borrowed(names[which % names.len()]);
    match detail {
        Detail::None => {}
        Detail::Amount => attributes.push(amount()),
        Detail::Transfer => attributes.extend([amount(), payee()]),
        Detail::Bill => attributes
            .extend([amount(), ("biller", one_of(&["power", "water", "phone", "insurance", "internet", "tax"]))]),
        Detail::Payee => attributes.push(payee()),
        Detail::Month => attributes.push(("month", Cow::Owned(format!("{:02}", which % 12 + 1)))),
        Detail::Code => attributes.push(("code", one_of(&["timeout", "limit", "declined", "unavailable"]))),
        Detail::Changed => attributes.push(("changed", one_of(&["phone", "email", "address"]))),
    }
}
