//! What stream time does: ends silences, freezes what can change no more, forgets what can no longer be continued. `[pure]`

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Change, Customer, End, Machine, Session, Step};
use crate::types::{CloseReason, CustomerId, Moment, fnv1a64};

/// What rings when stream time reaches it. At one moment silences end first, by customer and key, then things freeze.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alarm {
    pub(super) when: Moment,
    pub(super) what: AlarmKind,
    pub(super) customer: CustomerId,
    /// Of a silence; else empty.
    pub(super) key: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlarmKind {
    Silence,
    Freeze,
    /// With the hash of the key.
    Forget(u64),
}

impl Machine {
    pub(super) fn ring(&mut self, alarm: &Alarm, customer: &mut Customer) {
        match alarm.what {
            AlarmKind::Silence => self.ring_silence(alarm, customer),
            AlarmKind::Freeze => {
                if customer.freeze_armed == alarm.when {
                    customer.freeze_armed = Moment::NEVER;
                    self.freeze(&alarm.customer, customer, alarm.when);
                }
            }
            AlarmKind::Forget(key_hash) => {
                let due = customer.end_of(key_hash).map(|end| self.forgotten_at(end));
                if !customer.continues(key_hash) && due.is_some_and(|due| due <= alarm.when) {
                    self.steps.push(Step { slot: customer.slot, what: Change::Forget { key_hash } });
                }
            }
        }
    }

    /// Closes the session if it has been silent for so long, else sets the alarm anew.
    fn ring_silence(&mut self, alarm: &Alarm, customer: &mut Customer) {
        let Some(at) = customer.open_on(&alarm.key).filter(|at| customer.open[*at].armed == alarm.when) else { return };
        let until = self.silent_until(&customer.open[at]);
        if until > alarm.when {
            customer.open[at].armed = until;
            self.alarms.push(Reverse(Alarm { when: until, ..alarm.clone() }));
            return;
        }
        self.stream_time = alarm.when;
        self.freeze(&alarm.customer, customer, alarm.when.just_before());
        let session = self.take_open(customer, at);
        let closed_at = Moment::from(session.end()).plus_ms(self.rules.gap_ms);
        self.close(&alarm.customer, customer, session, CloseReason::Gap, closed_at);
    }

    pub(super) fn silent_until(&self, session: &Session) -> Moment {
        let lateness_over = Moment::from(session.end()).plus_ms(self.rules.allowed_lateness_ms);
        lateness_over.max(session.heard).plus_ms(self.rules.gap_ms)
    }

    /// What closed `allowed_lateness` of stream time ago can change no more: from the front of the fold order.
    pub(super) fn freeze(&mut self, name: &CustomerId, customer: &mut Customer, stream_time: Moment) {
        let mut count = 0;
        while let Some(first) = customer.folded.get(count) {
            let is_over = first.heard.plus_ms(self.rules.allowed_lateness_ms) <= stream_time;
            if !is_over && customer.folded.len() - count <= self.rules.revisable_max {
                break;
            }
            count += 1;
        }
        if count == 0 {
            return;
        }
        self.steps.push(Step { slot: customer.slot, what: Change::Freeze { count } });
        let frozen: Vec<Session> = customer.folded.drain(..count).collect();
        for session in frozen {
            self.remember_end(name, customer, &session);
        }
        if customer.folded.is_empty() {
            customer.folded = Vec::new();
        }
    }

    fn remember_end(&mut self, name: &CustomerId, customer: &mut Customer, session: &Session) {
        customer.frozen_at = customer.frozen_at.max(session.closed_at);
        let key_hash = fnv1a64(session.key.as_bytes());
        let before = customer.ends.iter().position(|e| e.key_hash == key_hash).and_then(|at| customer.ends.remove(at));
        let end = before.map_or(session.end(), |b| b.end.max(session.end()));
        let reason = session.reason.expect("only closed sessions are folded");
        let end = End { key_hash, end, reason };
        customer.ends.push_back(end);
        self.arm_forget(name, end);
        if customer.ends.len() > self.rules.revisable_max {
            let oldest = customer.ends.pop_front().expect("there are more than revisable_max of them");
            customer.floor = customer.floor.max(oldest.end.into());
            self.steps.push(Step { slot: customer.slot, what: Change::Forget { key_hash: oldest.key_hash } });
        }
    }

    pub(super) fn arm_silence(&mut self, name: &CustomerId, session: &mut Session) {
        let due = self.silent_until(session);
        if session.armed == Moment::NEVER || due < session.armed {
            session.armed = due;
            let (customer, key) = (name.clone(), Arc::clone(&session.key));
            self.alarms.push(Reverse(Alarm { when: due, what: AlarmKind::Silence, customer, key }));
        }
    }

    /// What a limit closed can be continued until then.
    pub(super) fn arm_forget(&mut self, name: &CustomerId, end: End) {
        if end.reason.is_limit() {
            let when = self.forgotten_at(end);
            let (what, customer) = (AlarmKind::Forget(end.key_hash), name.clone());
            let key = Arc::clone(&self.no_key);
            self.alarms.push(Reverse(Alarm { when, what, customer, key }));
        }
    }

    pub(super) fn forgotten_at(&self, end: End) -> Moment {
        Moment::from(end.end).plus_ms(self.rules.gap_ms)
    }

    /// A customer who never returns freezes too, so that it costs no more than its vectors.
    pub(super) fn arm_freeze(&mut self, name: &CustomerId, customer: &mut Customer) {
        let Some(first) = customer.folded.first() else { return };
        let when = first.heard.plus_ms(self.rules.allowed_lateness_ms);
        if customer.freeze_armed == Moment::NEVER || when < customer.freeze_armed {
            customer.freeze_armed = when;
            let key = Arc::clone(&self.no_key);
            self.alarms.push(Reverse(Alarm { when, what: AlarmKind::Freeze, customer: name.clone(), key }));
        }
    }
}
