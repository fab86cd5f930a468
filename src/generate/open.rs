//! The sessions that have events still to arrive, and which event arrives next. Memory is theirs alone: a session goes
//! with its last event.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Click;
use super::pages::Detail;
use super::plan::Plan;
use super::scenario::World;
use super::walk::{Step, hash_name};
use crate::types::ClickKind;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) plan: Plan,
    pub(super) customer_id: Arc<str>,
    /// (when, index of the step), in order of arrival.
    arrivals: Vec<(i64, u32)>,
    next: usize,
}

#[derive(Debug, Default)]
pub(super) struct OpenSessions {
    /// (arrival, place in the order of opening, slot), the next one first: one a session.
    queue: BinaryHeap<Reverse<(i64, u64, usize)>>,
    slots: Vec<Option<Session>>,
    free: Vec<usize>,
    opened: u64,
}

/// An event that arrives, and its session if that was the last one.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) record_time: i64,
    pub(super) click: Click,
    /// The kind of takeover that it is part of.
    pub(super) stolen: Option<&'static str>,
    pub(super) done: Option<Session>,
}

impl OpenSessions {
    pub(super) fn open(&mut self, plan: Plan, arrivals: Vec<(i64, u32)>) {
        let (first, _) = *arrivals.first().expect("a visit has a page beside its logout");
        let session = Session { customer_id: customer_id(plan.customer), plan, arrivals, next: 0 };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(session);
        self.queue.push(Reverse((first, self.opened, slot)));
        self.opened += 1;
    }

    /// When the next event arrives.
    pub(super) fn next_arrival(&self) -> Option<i64> {
        self.queue.peek().map(|Reverse((arrival, ..))| *arrival)
    }

    pub(super) fn pop(&mut self, world: &World) -> Option<Arrival> {
        let Reverse((record_time, place, slot)) = self.queue.pop()?;
        let session = self.slots[slot].as_mut().expect("a slot in the queue is in use until its last arrival");
        let click = session.click(session.arrivals[session.next].1, world);
        let stolen = session.plan.takeover.map(super::takeover::TakeoverKind::as_str);
        session.next += 1;
        let mut done = None;
        if let Some(&(next, _)) = session.arrivals.get(session.next) {
            self.queue.push(Reverse((next, place, slot)));
        } else {
            done = self.slots[slot].take();
            self.free.push(slot);
        }
        Some(Arrival { record_time, click, stolen, done })
    }

    /// How many have begun.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// How many have events to come.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl Session {
    pub(super) fn click(&self, index: u32, world: &World) -> Click {
        let plan = &self.plan;
        let step = &plan.steps[index as usize];
        let spec = step.page.spec();
        let mut attributes = if index == 0 { plan.traits.clone() } else { Vec::new() };
        details(plan, step, spec.detail, &mut attributes);
        Click {
            event_id: hash_name("e", plan.key, u64::from(index) + 1),
            customer_id: Arc::clone(&self.customer_id),
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
}

fn customer_id(number: u32) -> Arc<str> {
    Arc::from(format!("c{number:06}").as_str())
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
