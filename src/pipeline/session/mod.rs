//! Groups events into sessions by login, logout and event time. [`Arrival`]s in their order → [`Step`]s. `[pure]`
//!
//! One [`Partition`] holds the open and the revisable sessions of the customers of one input partition. Boundaries are
//! decided on arrival, contents are completed until they freeze:
//!
//! ```text
//!            LOGOUT, LOGIN, gap, limit           allowed_lateness of stream time
//!   open ────────────────────────────▸ revisable ──────────────────────────────▸ frozen
//!    ▲ grows, provisional                 ▲ a straggler completes or cuts it: revision + 1
//! ```
//!
//! Time is stream time: the largest accepted event time of the partition, a function of the records read alone.
//! The rules are those of the reference program (`sessions.py`), row by row.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::config::SessionRules;
use crate::model::features::EventFeatures;
use crate::pipeline::encode::SessionInput;
use crate::types::{CloseReason, CustomerId, CustomerRef, EventTime, Moment, OpenedBy, RejectReason, fnv1a64};
use crate::wire::embedding::Cause;

mod event;
mod ledger;
mod place;
mod saved;
mod snapshot;
mod time;

use event::session_key_over;
pub use event::{Arrival, Event, Tags, session_key};
use ledger::Ledger;
pub use ledger::{Erased, Written};
pub use saved::{Seen, SeenEnd, SeenSession, look};
use snapshot::{encoder_input, snapshot};
use time::{Alarm, AlarmKind};

/// Where a customer's vectors stand: dense, given anew after an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// What happened to a customer's list of revisable sessions, in order; who follows all steps holds the same list.
#[derive(Debug)]
pub struct Step {
    pub slot: Slot,
    pub what: Change,
}

#[derive(Debug)]
pub enum Change {
    /// A closed session stands at `place` of the list (again, after an [`Change::Unfold`], when it was revised).
    Fold { place: usize, session: Box<Snapshot> },
    /// The session at `place` leaves the list.
    Unfold { place: usize },
    /// The first `count` sessions of the list can change no more.
    Freeze { count: usize },
    /// An open session has reached a multiple of `provisional_every_events`. With `restart` the input is the whole session,
    /// as [`crate::pipeline::encode::OpenInput`] wants it.
    Provisional { session: Box<Snapshot>, restart: bool },
    /// A key's last frozen session can no longer be continued: what was kept of it for that may go.
    Forget { key_hash: u64 },
    /// The customer is gone; `open` names the open sessions that went.
    Erase { open: Vec<u64> },
}

/// A session as it stands at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Names the session within its partition.
    pub serial: u64,
    pub customer: CustomerId,
    pub key: Arc<str>,
    /// `None`: a lone LOGOUT, which is no session until something joins it, and is not folded.
    pub sequence: Option<u64>,
    pub cause: Cause,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Empty for a provisional one, and where they are not kept: [`Partition::keep_event_ids`].
    pub event_ids: Vec<Arc<str>>,
    /// All events; of a provisional one those since the last such step, or all with `restart`; none of one that wakes.
    pub input: SessionInput,
    /// The financial context of its own LOGIN.
    pub context: Option<Box<[f32]>>,
}

#[derive(Debug)]
struct Session {
    serial: u64,
    uid: Arc<str>,
    key: Arc<str>,
    /// Sorted, never empty.
    events: Vec<Event>,
    /// Of the events' ids, in no order: to find duplicates.
    id_hashes: Vec<u64>,
    opened_by: OpenedBy,
    /// `None` while open.
    reason: Option<CloseReason>,
    closed_at: Moment,
    /// Stream time at the last arrival while open, then when it closed.
    heard: Moment,
    /// How often it was published.
    publications: u32,
    /// That changed it, or what it was cut from, since it closed.
    stragglers: u32,
    /// When the earliest alarm set for it rings; NEVER if none is.
    armed: Moment,
    /// How many events at its beginning the last provisional step has covered, unchanged since.
    stepped: usize,
}

impl Session {
    fn start(&self) -> EventTime {
        self.events[0].time
    }

    fn end(&self) -> EventTime {
        self.last().time
    }

    fn last(&self) -> &Event {
        self.events.last().expect("a session has an event")
    }

    fn insert(&mut self, mut event: Event) {
        let is_last = self.events.last().is_none_or(|last| *last <= event);
        let place = if is_last { self.events.len() } else { self.events.partition_point(|e| *e <= event) };
        if let Some(neighbour) = self.events.get(place.saturating_sub(1))
            && !Arc::ptr_eq(&neighbour.tags, &event.tags)
            && neighbour.tags == event.tags
        {
            event.tags = Arc::clone(&neighbour.tags);
        }
        if place < self.stepped {
            self.stepped = 0;
        }
        if self.events.len() == self.events.capacity() {
            self.events.reserve_exact(self.events.len().max(EVENTS_MIN));
            self.id_hashes.reserve_exact(self.events.capacity() - self.id_hashes.len());
        }
        self.id_hashes.push(event.id_hash());
        self.events.insert(place, event);
    }

    /// Leaves the events before `place` and gives the others.
    fn split_off(&mut self, place: usize) -> Vec<Event> {
        let rest = self.events.split_off(place);
        self.id_hashes = self.events.iter().map(Event::id_hash).collect();
        self.stepped = 0;
        rest
    }

    fn has(&self, id: &[u8], id_hash: u64) -> bool {
        self.id_hashes.contains(&id_hash) && self.events.iter().any(|e| e.id() == id)
    }

    /// A lone LOGOUT is no session.
    fn is_published(&self) -> bool {
        self.events.iter().any(|e| e.kind != crate::types::ClickKind::Logout)
    }

    fn fold_order(&self) -> (Moment, EventTime, &str, &Event) {
        (self.closed_at, self.start(), &self.key, &self.events[0])
    }
}

/// The last frozen session of a key.
#[derive(Debug, Clone, Copy)]
struct End {
    key_hash: u64,
    end: EventTime,
    reason: CloseReason,
}

#[derive(Debug)]
struct Customer {
    slot: Slot,
    sequence: u64,
    /// One a key.
    open: Vec<Session>,
    /// Closed and still revisable, in fold order.
    folded: Vec<Session>,
    /// The latest `closed_at` of what is frozen.
    frozen_at: Moment,
    /// Of the keys that froze last, the latest at the back.
    ends: VecDeque<End>,
    /// The latest end of the keys no longer in `ends`.
    floor: Moment,
    /// When the alarm set for its next freeze rings; NEVER if none is.
    freeze_armed: Moment,
    log: Logged,
}

/// Where an input record stands, and when that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Of the record.
    pub offset: i64,
    /// Before it.
    pub stream_time: Moment,
    /// In milliseconds, by a clock that decides nothing but how often things are written.
    pub clock: i64,
}

/// What the log of the state has of a customer.
#[derive(Debug, Clone, Copy)]
struct Logged {
    /// There is a record of it, which holds what the input records below this offset did.
    through: Option<i64>,
    /// That record is one of an active customer, with so many parts; 0: none is there.
    active_parts: u16,
    /// The first record that did something which is not in the log.
    dirty: Option<Arrived>,
    active_since: Arrived,
}

impl Customer {
    fn new(slot: Slot, now: Arrived) -> Self {
        Self {
            log: Logged { through: None, active_parts: 0, dirty: None, active_since: now },
            slot,
            sequence: 0,
            open: Vec::new(),
            folded: Vec::new(),
            frozen_at: Moment::NEVER,
            ends: VecDeque::new(),
            floor: Moment::NEVER,
            freeze_armed: Moment::NEVER,
        }
    }

    fn open_on(&self, key: &str) -> Option<usize> {
        self.open.iter().position(|s| *s.key == *key)
    }

    fn last_end(&self, key: &str) -> Option<End> {
        self.end_of(fnv1a64(key.as_bytes()))
    }

    fn end_of(&self, key_hash: u64) -> Option<End> {
        self.ends.iter().find(|e| e.key_hash == key_hash).copied()
    }

    fn frozen_end(&self, key: &str) -> Moment {
        self.floor.max(self.last_end(key).map_or(Moment::NEVER, |e| e.end.into()))
    }

    /// Nothing is open, can be revised or be continued: only its own next event changes anything.
    fn is_at_rest(&self, stream_time: Moment, gap_ms: u64) -> bool {
        let is_over = |end: &End| !end.reason.is_limit() || Moment::from(end.end).plus_ms(gap_ms) <= stream_time;
        self.open.is_empty() && self.folded.is_empty() && self.ends.iter().all(is_over)
    }

    fn continues(&self, key_hash: u64) -> bool {
        let mut open = self.open.iter();
        open.any(|s| s.opened_by == OpenedBy::Continued && fnv1a64(s.key.as_bytes()) == key_hash)
    }

    /// Whether the alarm still means something; most outlive the session that they were set for.
    fn awaits(&self, alarm: &Alarm) -> bool {
        match alarm.what {
            AlarmKind::Silence => self.open_on(&alarm.key).is_some_and(|at| self.open[at].armed == alarm.when),
            AlarmKind::Freeze => self.freeze_armed == alarm.when,
            AlarmKind::Forget(key_hash) => self.end_of(key_hash).is_some_and(|end| end.reason.is_limit()),
        }
    }

    fn has_event(&self, key: &str, event: &Event) -> bool {
        let hash = event.id_hash();
        self.folded.iter().chain(&self.open).any(|s| *s.key == *key && s.has(event.id(), hash))
    }
}

/// A session's second event makes room for so many more: most have about as many, and growing copies.
const EVENTS_MIN: usize = 7;
/// Of so many events at the end of each session, for they may alternate.
const TAGS_LOOKED_AT: usize = 4;
/// Fewer alarms are not looked through.
const ALARMS_MIN: usize = 1_024;

/// The sessions of one input partition. Steps are appended to the list that the caller gives.
#[derive(Debug)]
pub struct Partition {
    customers: HashMap<CustomerId, Customer>,
    machine: Machine,
}

/// All of a partition but its customers.
#[derive(Debug)]
struct Machine {
    rules: SessionRules,
    /// The largest accepted event time.
    stream_time: Moment,
    alarms: BinaryHeap<Reverse<Alarm>>,
    /// With so many, those that mean nothing any more are dropped.
    alarms_max: usize,
    next_serial: u64,
    free_slots: Vec<Slot>,
    /// Free as soon as the epoch's work is done: it names slots.
    freed_slots: Vec<Slot>,
    next_slot: u32,
    open_sessions: usize,
    no_key: Arc<str>,
    steps: Vec<Step>,
    scratch: Scratch,
    /// The record that is being taken.
    now: Arrived,
    ledger: Ledger,
    keeps_event_ids: bool,
}

/// What an arrival needs for a moment.
#[derive(Debug, Default)]
struct Scratch {
    key: String,
    features: EventFeatures,
}

impl Partition {
    pub fn new(rules: SessionRules) -> Self {
        let machine = Machine {
            rules,
            stream_time: Moment::NEVER,
            alarms: BinaryHeap::new(),
            alarms_max: ALARMS_MIN,
            next_serial: 0,
            free_slots: Vec::new(),
            freed_slots: Vec::new(),
            next_slot: 0,
            open_sessions: 0,
            no_key: "".into(),
            steps: Vec::new(),
            scratch: Scratch::default(),
            now: Arrived { offset: 0, stream_time: Moment::NEVER, clock: 0 },
            ledger: Ledger::default(),
            keeps_event_ids: true,
        };
        Self { customers: HashMap::new(), machine }
    }

    /// Whether closed sessions name their events from now on, as at first; it costs something an event.
    pub fn keep_event_ids(&mut self, keep: bool) {
        self.machine.keeps_event_ids = keep;
    }

    pub fn stream_time(&self) -> Moment {
        self.machine.stream_time
    }

    /// The stream time at which something is due: a silence ends, a session freezes or can no longer be continued. Not
    /// before that.
    pub fn next_due(&mut self) -> Option<Moment> {
        let (customers, alarms) = (&self.customers, &mut self.machine.alarms);
        while let Some(Reverse(alarm)) = alarms.peek() {
            if customers.get(&alarm.customer).is_some_and(|customer| customer.awaits(alarm)) {
                return Some(alarm.when);
            }
            alarms.pop();
        }
        None
    }

    pub fn open_sessions(&self) -> usize {
        self.machine.open_sessions
    }

    /// All that are known, at rest or not.
    pub fn customers(&self) -> u64 {
        self.machine.ledger.known
    }

    /// Each active customer with its slot and the number of its open sessions, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&CustomerId, Slot, usize)> {
        self.customers.iter().map(|(id, customer)| (id, customer.slot, customer.open.len()))
    }

    /// An event arrives. The steps are those that its time causes and then those that it causes itself; with an error
    /// (late, duplicate, full) only the former.
    pub fn push(&mut self, arrival: Arrival<'_>, steps: &mut Vec<Step>) -> Result<(), RejectReason> {
        let time = self.machine.stream_time.max(arrival.click.event_time.into());
        self.writing(steps, |this| {
            this.advance(time);
            let Self { customers, machine } = this;
            let id = arrival.customer.as_str();
            let (name, customer) = match customers.get_key_value_mut(id) {
                Some(known) => known,
                None => {
                    customers.insert(arrival.customer.into(), machine.new_customer());
                    customers.get_key_value_mut(id).expect("it is there by now")
                }
            };
            let steps_before = machine.steps.len();
            let outcome = machine.arrive(name, customer, &arrival);
            machine.arm_freeze(name, customer);
            machine.touched(name, customer, outcome.is_ok() || machine.steps.len() > steps_before);
            this.drop_alarms();
            outcome
        })
    }

    /// Stream time moves alone.
    pub fn tick(&mut self, time: Moment, steps: &mut Vec<Step>) {
        let time = self.machine.stream_time.max(time);
        self.writing(steps, |this| this.advance(time));
    }

    /// Forgets a customer; nothing if there is none.
    pub fn erase(&mut self, name: CustomerRef<'_>, steps: &mut Vec<Step>) {
        let Some((name, customer)) = self.customers.remove_entry(name.as_str()) else { return };
        self.machine.open_sessions -= customer.open.len();
        self.machine.freed_slots.push(customer.slot);
        self.machine.ledger.erased(name, &customer.log);
        let open = customer.open.iter().map(|s| s.serial).collect();
        steps.push(Step { slot: customer.slot, what: Change::Erase { open } });
    }

    fn writing<T>(&mut self, steps: &mut Vec<Step>, work: impl FnOnce(&mut Self) -> T) -> T {
        std::mem::swap(&mut self.machine.steps, steps);
        let done = work(self);
        std::mem::swap(&mut self.machine.steps, steps);
        done
    }

    /// Keeps the alarms to about twice those that mean something, at a constant cost an event.
    fn drop_alarms(&mut self) {
        let (customers, alarms) = (&self.customers, &mut self.machine.alarms);
        if alarms.len() > self.machine.alarms_max {
            alarms.retain(|Reverse(alarm)| customers.get(&alarm.customer).is_some_and(|c| c.awaits(alarm)));
            self.machine.alarms_max = ALARMS_MIN.max(2 * alarms.len());
        }
    }

    /// Stream time moves, through every moment at which something falls due.
    fn advance(&mut self, stream_time: Moment) {
        while self.machine.alarms.peek().is_some_and(|Reverse(alarm)| alarm.when <= stream_time) {
            let Some(Reverse(alarm)) = self.machine.alarms.pop() else { break };
            if let Some(customer) = self.customers.get_mut(&alarm.customer) {
                let steps_before = self.machine.steps.len();
                // Who is at rest from then on is so at that moment, not at the one before it.
                self.machine.stream_time = self.machine.stream_time.max(alarm.when);
                self.machine.ring(&alarm, customer);
                self.machine.arm_freeze(&alarm.customer, customer);
                self.machine.touched(&alarm.customer, customer, self.machine.steps.len() > steps_before);
            }
        }
        self.machine.stream_time = stream_time;
    }
}

impl Machine {
    fn new_customer(&mut self) -> Customer {
        self.ledger.known += 1;
        Customer::new(self.new_slot(), self.now)
    }

    fn new_slot(&mut self) -> Slot {
        self.free_slots.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            Slot(self.next_slot - 1)
        })
    }

    fn arrive(
        &mut self,
        name: &CustomerId,
        customer: &mut Customer,
        arrival: &Arrival<'_>,
    ) -> Result<(), RejectReason> {
        let mut scratch = std::mem::take(&mut self.scratch);
        session_key_over(arrival.click, &mut scratch.key);
        arrival.features.event_over(arrival.click, &mut scratch.features);
        let sessions = customer.open.iter().chain(&customer.folded);
        let events = sessions.flat_map(|session| session.events.iter().rev().take(TAGS_LOOKED_AT));
        let event = arrival.event(&scratch.features, events.map(|event| &event.tags));
        let outcome = self.push(name, customer, &scratch.key, event);
        self.scratch = scratch;
        outcome
    }

    fn push(
        &mut self,
        name: &CustomerId,
        customer: &mut Customer,
        key: &str,
        event: Event,
    ) -> Result<(), RejectReason> {
        self.freeze(name, customer, self.stream_time);
        if customer.has_event(key, &event) {
            return Err(RejectReason::Duplicate);
        }
        let in_open = customer.open_on(key).is_some_and(|at| customer.open[at].start() <= event.time);
        if !in_open && Moment::from(event.time) <= customer.frozen_end(key) {
            return Err(RejectReason::Late);
        }
        self.place(name, customer, key, event)
    }

    fn new_session(&mut self, uid: Arc<str>, key: Arc<str>, events: Vec<Event>, opened_by: OpenedBy) -> Session {
        self.next_serial += 1;
        Session {
            serial: self.next_serial,
            uid,
            key,
            id_hashes: events.iter().map(Event::id_hash).collect(),
            events,
            opened_by,
            reason: None,
            closed_at: Moment::NEVER,
            heard: Moment::NEVER,
            publications: 0,
            stragglers: 0,
            armed: Moment::NEVER,
            stepped: 0,
        }
    }

    fn take_open(&mut self, customer: &mut Customer, at: usize) -> Session {
        self.open_sessions -= 1;
        customer.open.swap_remove(at)
    }

    /// An open session is new, or has changed so much that it left its place.
    fn opened(&mut self, name: &CustomerId, customer: &mut Customer, mut session: Session) {
        if session.events.len() >= self.rules.events_max {
            let end = session.end().into();
            return self.close(name, customer, session, CloseReason::EventsMax, end);
        }
        self.grown(name, customer.slot, &mut customer.sequence, &mut session);
        let serial = session.serial;
        debug_assert!(customer.open_on(&session.key).is_none(), "one open session a key");
        self.open_sessions += 1;
        customer.open.push(session);
        if customer.open.len() > self.rules.open_max {
            let others = customer.open.iter().enumerate().filter(|(_, s)| s.serial != serial);
            let (at, _) =
                others.min_by(|(_, a), (_, b)| (a.heard, &a.key).cmp(&(b.heard, &b.key))).expect("open_max ≥ 1");
            let silent = self.take_open(customer, at);
            let end = silent.end().into();
            self.close(name, customer, silent, CloseReason::Evicted, end);
        }
    }

    /// The same of one that stays open, wherever it stands.
    fn grown(&mut self, name: &CustomerId, slot: Slot, sequence: &mut u64, session: &mut Session) {
        session.heard = self.stream_time;
        self.arm_silence(name, session);
        let every = self.rules.provisional_every_events;
        if every > 0 && session.events.len().is_multiple_of(every) {
            *sequence += 1;
            self.provisional(name, slot, *sequence, session);
        }
    }

    fn provisional(&mut self, name: &CustomerId, slot: Slot, sequence: u64, session: &mut Session) {
        let from = std::mem::replace(&mut session.stepped, session.events.len());
        let snapshot = snapshot(name, session, Some(sequence), Vec::new(), encoder_input(&session.events, from));
        self.steps.push(Step { slot, what: Change::Provisional { session: Box::new(snapshot), restart: from == 0 } });
    }

    fn close(
        &mut self,
        name: &CustomerId,
        customer: &mut Customer,
        mut session: Session,
        reason: CloseReason,
        closed_at: Moment,
    ) {
        session.reason = Some(reason);
        session.closed_at = closed_at;
        session.heard = self.stream_time;
        self.fold(name, customer, session);
    }

    fn unfold(&mut self, customer: &mut Customer, place: usize) -> Session {
        self.steps.push(Step { slot: customer.slot, what: Change::Unfold { place } });
        customer.folded.remove(place)
    }

    fn fold(&mut self, name: &CustomerId, customer: &mut Customer, mut session: Session) {
        session.closed_at = session.closed_at.max(customer.frozen_at);
        let place = customer.folded.partition_point(|s| s.fold_order() <= session.fold_order());
        let mut sequence = None;
        if session.is_published() {
            session.publications += 1;
            customer.sequence += 1;
            sequence = Some(customer.sequence);
        }
        let kept = if self.keeps_event_ids { &session.events[..] } else { &[] };
        let ids = kept.iter().map(|e| e.id_text().into()).collect();
        let snapshot = snapshot(name, &session, sequence, ids, encoder_input(&session.events, 0));
        self.steps.push(Step { slot: customer.slot, what: Change::Fold { place, session: Box::new(snapshot) } });
        customer.folded.insert(place, session);
        self.freeze(name, customer, Moment::NEVER);
    }
}
