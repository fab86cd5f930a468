//! The bank for a demonstration: event times about the clock on the wall, and records at a steady rate. A day of the
//! bank passes in minutes: stays are seconds, and a session opens whenever nothing else is due, so that the number of
//! customers at a time is what the rate needs. Some records are broken, each in a way that has a name.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::calendar::{DAY_MS, HOUR_MS};
use super::dirt::TRANSPORT_MS;
use super::json::write_json;
use super::open::{OpenSessions, Session};
use super::plan::{Customer, Plan, Planner, Visitor, When};
use super::random::{Purpose, Random, real, whole};
use super::scenario::World;
use super::takeover::Takeover;
use super::walk::{Pulls, hash_name};
use super::{Click, Dirt, Label, labels};
use crate::types::ClickKind;

/// At what rate, from when, and with how much of what is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveParams {
    pub seed: u64,
    /// Records a second.
    pub rate: f64,
    /// When the first record is due: milliseconds since the epoch.
    pub start: i64,
    /// Share of the apps that send a session id.
    pub session_id_share: f64,
    /// Share of the sessions that are a thief's.
    pub takeovers: f64,
    /// Share of the records that are broken.
    pub broken: f64,
    pub dirt: Dirt,
    /// Labels are kept until [`Live::take_labels`], which must be called now and then.
    pub keep_labels: bool,
}

impl LiveParams {
    /// A tenth of the records late by up to 2.5 s, one in a hundred twice, one in five hundred broken.
    pub fn new(seed: u64, rate: f64, start: i64) -> Self {
        Self {
            seed,
            rate,
            start,
            session_id_share: 0.7,
            takeovers: 0.005,
            broken: 0.002,
            dirt: Dirt { shuffle_ms: 2500, shuffle_share: 0.1, duplicate: 0.01, ..Dirt::CLEAN },
            keep_labels: false,
        }
    }
}

/// What a record is, which the stream itself does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    Own,
    /// Of a takeover, by its kind.
    Stolen(&'static str),
    Broken(Fault),
}

/// How a record is broken; the names are those of [`crate::types::RejectReason`] where it decides the reason alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Bytes that are no record.
    Bytes,
    /// A name of 300 bytes.
    LongName,
    /// The key is another customer.
    WrongKey,
    NoKey,
    /// Key and customer are empty.
    NoCustomer,
    /// A day ahead.
    Future,
    /// Of a session that ended long ago.
    Late,
}

impl Fault {
    pub const ALL: [Self; 7] =
        [Self::Bytes, Self::LongName, Self::WrongKey, Self::NoKey, Self::NoCustomer, Self::Future, Self::Late];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRecord {
    /// When it is to be sent: milliseconds since the epoch. Rises by 1000 / rate.
    pub due_ms: i64,
    pub key: Option<Vec<u8>>,
    /// JSON, but for broken bytes.
    pub value: Vec<u8>,
    pub truth: Truth,
}

/// An endless stream of records; [`Live::next`] gives the next one.
#[derive(Debug)]
pub struct Live {
    params: LiveParams,
    planner: Planner,
    random: Random,
    customers: Vec<Customer>,
    /// Who is not online, longest first.
    idle: VecDeque<u32>,
    /// Companions and second looks to come.
    visits: BinaryHeap<Reverse<(i64, u32, Visitor)>>,
    open: OpenSessions,
    sent: u64,
    /// When sessions with a logout ended, and their first click; at most [`PAST_MAX`], of the last minute.
    past: VecDeque<(i64, Click)>,
    labels: Vec<Label>,
}

/// Stays and pauses are so much shorter.
const PACE: f64 = 0.08;
/// So many milliseconds of the bank pass in one of the wall: a day in 72 seconds.
const CLOCK_SPEED: i64 = 1200;
/// Customers at the start, for each record a second; more enrol when all are online.
const CUSTOMERS_PER_RATE: f64 = 2.5;
const CUSTOMERS_MIN: f64 = 50.0;
/// How often the one who left last comes next, rather than the one who is away longest.
const COMES_BACK: f64 = 0.25;
const AGGREGATOR_SHARE: f64 = 0.004;
/// Of those in the queue so many may be online after all, on a second look, before a new customer enrols.
const TRIES_MAX: u32 = 16;
const PAST_MAX: usize = 1024;
/// A click of the past is of a session that ended at least so long ago.
const LATE_MS: i64 = 30_000;

impl Live {
    pub fn new(params: LiveParams) -> Self {
        let planner = Planner {
            seed: params.seed,
            session_id_share: params.session_id_share,
            pace: PACE,
            world: World::default(),
            pulls: Pulls::new(),
        };
        let mut live = Self {
            planner,
            random: Random::new(params.seed, Purpose::Live, 0, 0),
            customers: Vec::new(),
            idle: VecDeque::new(),
            visits: BinaryHeap::new(),
            open: OpenSessions::default(),
            sent: 0,
            past: VecDeque::new(),
            labels: Vec::new(),
            params,
        };
        for _ in 0..whole((live.params.rate * CUSTOMERS_PER_RATE).max(CUSTOMERS_MIN)) {
            live.enrol();
        }
        live
    }

    /// How many sessions have begun, and how many have events to come.
    pub fn sessions(&self) -> (u64, usize) {
        (self.open.opened(), self.open.len())
    }

    /// The labels of the sessions whose last event has gone out since the last call; an endless bank has no splits, so all
    /// are `test`.
    pub fn take_labels(&mut self) -> Vec<Label> {
        std::mem::take(&mut self.labels)
    }

    #[expect(clippy::should_implement_trait, reason = "it never ends, so the caller needs no Option")]
    pub fn next(&mut self) -> LiveRecord {
        let since_start = real(i64::try_from(self.sent).unwrap_or(i64::MAX)) * 1000.0 / self.params.rate;
        let due_ms = self.params.start + whole(since_start);
        self.sent += 1;
        if self.random.chance(self.params.broken)
            && let Some(record) = self.broken(due_ms)
        {
            return record;
        }
        // Most sessions send at once; a few begin with a record that is late.
        let mut tries = 0;
        while self.open.next_arrival().is_none_or(|arrival| arrival > due_ms) {
            self.begin(due_ms - TRANSPORT_MS);
            tries += 1;
            if tries % TRIES_MAX == 0 {
                self.enrol();
                self.idle.rotate_right(1);
            }
        }
        let arrival = self.open.pop(&self.planner.world).expect("the loop above ends with an arrival");
        if let Some(session) = arrival.done {
            self.end(&session);
        }
        let truth = arrival.stolen.map_or(Truth::Own, Truth::Stolen);
        let click = arrival.click;
        LiveRecord { due_ms, key: Some(click.customer_id.as_bytes().to_vec()), value: json(&click), truth }
    }

    fn clock(&self, at: i64) -> i64 {
        self.params.start + CLOCK_SPEED * (at - self.params.start)
    }

    fn enrol(&mut self) {
        let number = u32::try_from(self.customers.len()).expect("customers are far below 2^32");
        let persona = self.planner.persona(number);
        self.customers.push(Customer::new(&persona, self.params.start));
        self.idle.push_back(number);
    }

    /// Somebody comes: whose visit is due, else somebody idle, else a new customer.
    fn begin(&mut self, at: i64) {
        if let Some(&Reverse((due, number, visitor))) = self.visits.peek()
            && due <= at
        {
            self.visits.pop();
            return self.visit(at, number, visitor);
        }
        if self.idle.is_empty() {
            self.enrol();
        }
        let comes_back = self.random.chance(COMES_BACK);
        let idle = if comes_back { self.idle.pop_back() } else { self.idle.pop_front() };
        let Some(number) = idle else { return };
        let visitor = if self.random.chance(AGGREGATOR_SHARE) {
            Visitor::Aggregator
        } else if self.customers[number as usize].sessions > 0 && self.random.chance(self.params.takeovers) {
            Visitor::Thief(0)
        } else {
            Visitor::Owner
        };
        self.visit(at, number, visitor);
    }

    fn visit(&mut self, at: i64, number: u32, visitor: Visitor) {
        let when = When { at, clock: self.clock(at) };
        let persona = self.planner.persona(number);
        let customer = &mut self.customers[number as usize];
        let plan = match visitor {
            Visitor::Owner | Visitor::Again | Visitor::Companion(..) => {
                self.planner.owner(number, customer, &persona, visitor, when).map(|(plan, next)| {
                    self.visits.extend(next.into_iter().map(|(at, visitor)| Reverse((at, number, visitor))));
                    plan
                })
            }
            Visitor::Thief(visit) => {
                let takeover = Takeover::invent(&mut self.random, at);
                self.planner.thief(number, customer, &persona, &takeover, visit, when)
            }
            Visitor::Aggregator => Ok(self.planner.aggregator(number, customer, &persona, when)),
        };
        match plan {
            Ok(plan) => self.open(plan),
            // Online already, on a visit that was not in the queue; another one comes instead.
            Err(_) if matches!(visitor, Visitor::Owner | Visitor::Thief(_)) => self.idle.push_back(number),
            Err(_) => {}
        }
    }

    fn open(&mut self, plan: Plan) {
        let mut random =
            Random::new(self.params.seed, Purpose::Arrival, u64::from(plan.customer), u64::from(plan.ordinal));
        let arrivals = self.params.dirt.arrivals(&mut random, &plan.steps, 0);
        self.open.open(plan, arrivals);
    }

    fn end(&mut self, session: &Session) {
        if self.params.keep_labels {
            labels::of_session(session, &self.planner.world, |_| "test", &mut self.labels);
        }
        if session.plan.steps.last().is_some_and(|step| step.page.spec().kind == ClickKind::Logout) {
            let end = session.plan.end();
            while self.past.front().is_some_and(|(past, _)| past + 2 * LATE_MS < end) {
                self.past.pop_front();
            }
            if self.past.len() < PAST_MAX {
                self.past.push_back((end, session.click(0, &self.planner.world)));
            }
        }
        match session.plan.visitor {
            Visitor::Owner | Visitor::Thief(_) | Visitor::Aggregator => self.idle.push_back(session.plan.customer),
            Visitor::Again | Visitor::Companion(..) => {}
        }
    }

    /// A record that was a good one once; `None` before the first session ended.
    fn broken(&mut self, due_ms: i64) -> Option<LiveRecord> {
        let (end, mut click) = self.past.front()?.clone();
        let count = if end + LATE_MS < due_ms { Fault::ALL.len() } else { Fault::ALL.len() - 1 };
        let weights = [1.0; Fault::ALL.len()];
        let fault = Fault::ALL[self.random.pick(&weights[..count])];
        click.event_id = hash_name("e", self.sent, self.random.below(u64::MAX));
        click.context.clear();
        let late = click.event_time + 1;
        click.event_time = due_ms;
        let key = Some(click.customer_id.as_bytes().to_vec());
        let (key, value) = match fault {
            Fault::Bytes => {
                let mut bytes = json(&click);
                bytes.truncate(bytes.len() / 2);
                bytes.push(0xff);
                (key, bytes)
            }
            Fault::LongName => {
                click.name = LONG_NAME;
                (key, json(&click))
            }
            Fault::WrongKey => (Some(b"somebody-else".to_vec()), json(&click)),
            Fault::NoKey => (None, json(&click)),
            Fault::NoCustomer => {
                click.customer_id = Arc::from("");
                (Some(Vec::new()), json(&click))
            }
            Fault::Future => {
                click.event_time += DAY_MS + HOUR_MS;
                (key, json(&click))
            }
            Fault::Late => {
                click.event_time = late;
                (key, json(&click))
            }
        };
        Some(LiveRecord { due_ms, key, value, truth: Truth::Broken(fault) })
    }
}

/// 300 bytes.
const LONG_NAME: &str = match str::from_utf8(&[b'x'; 300]) {
    Ok(name) => name,
    Err(_) => "",
};

fn json(click: &Click) -> Vec<u8> {
    let mut value = Vec::with_capacity(320);
    write_json(&mut value, click, None, None).expect("a vector takes every byte, and a click is plain data");
    value
}
