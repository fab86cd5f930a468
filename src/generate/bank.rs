//! The bank's clock: whose visit begins next, and which event of an open session arrives next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::calendar::{DAY_MS, HOUR_MS};
use super::open::{Arrival, OpenSessions, Session};
use super::plan::{Customer, Plan, Planner, Visitor, When};
use super::random::{Purpose, Random, mix, real, unit_of, whole};
use super::scenario::World;
use super::takeover::Takeover;
use super::walk::Pulls;
use super::{Label, Params, Record, labels};

/// An iterator over the bank's records in order of arrival.
#[derive(Debug)]
pub struct Bank {
    params: Params,
    planner: Planner,
    customers: Vec<Customer>,
    /// (when, customer, who), the next one first: two or three a customer.
    visits: BinaryHeap<Reverse<(i64, u32, Visitor)>>,
    open: OpenSessions,
    sent: u64,
    labels: Vec<Label>,
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
            open: OpenSessions::default(),
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
        self.open.opened()
    }

    /// Sessions that have events to come.
    pub fn sessions_open(&self) -> usize {
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
        self.open.open(plan, arrivals);
    }

    fn label(&mut self, session: &Session) {
        let (start, span) = (self.params.start, self.params.days * real(DAY_MS));
        let split = |event_time: i64| {
            let share = real(event_time - start) / span;
            if share < TRAIN_UNTIL {
                "train"
            } else if share < VALID_UNTIL {
                "valid"
            } else {
                "test"
            }
        };
        labels::of_session(session, &self.planner.world, split, &mut self.labels);
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
            if self.open.next_arrival().is_some_and(|arrival| arrival < at) {
                break;
            }
            self.visits.pop();
            self.begin(at, number, visitor);
        }
        let Arrival { record_time, click, done, .. } = self.open.pop(&self.planner.world)?;
        if let Some(session) = done {
            self.label(&session);
        }
        self.sent += 1;
        Some(Record { click, record_time })
    }
}
