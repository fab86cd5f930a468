//! What stream time does: ends silences, freezes what can change no more, forgets what can no longer be continued. `[pure]`

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Change, Customer, End, Machine, Session, Step};
use crate::types::{CloseReason, CustomerId, Moment, OpenedBy, fnv1a64};

/// What rings when stream time reaches it. At one moment silences end first, by customer and key, then things freeze.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alarm {
    pub(super) when: Moment,
    pub(super) what: AlarmKind,
    pub(super) customer: CustomerId,
    /// Empty for a freeze.
    pub(super) key: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlarmKind {
    Silence,
    Freeze,
    Forget,
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
            AlarmKind::Forget => {
                let continued = customer.open_on(&alarm.key).map(|at| customer.open[at].opened_by);
                let due = customer.last_end(&alarm.key).map(|end| Moment::from(end.end).plus_ms(self.rules.gap_ms));
                if continued != Some(OpenedBy::Continued) && due.is_some_and(|due| due <= alarm.when) {
                    self.steps.push(Step {
                        slot: customer.slot,
                        what: Change::Forget { key_hash: fnv1a64(alarm.key.as_bytes()) },
                    });
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
        customer.ends.push_back(End { key_hash, end, reason });
        if reason.is_limit() {
            let when = Moment::from(end).plus_ms(self.rules.gap_ms);
            let key = Arc::clone(&session.key);
            self.alarms.push(Reverse(Alarm { when, what: AlarmKind::Forget, customer: name.clone(), key }));
        }
        if customer.ends.len() > self.rules.revisable_max {
            let oldest = customer.ends.pop_front().expect("there are more than revisable_max of them");
            customer.floor = customer.floor.max(oldest.end.into());
            self.steps.push(Step { slot: customer.slot, what: Change::Forget { key_hash: oldest.key_hash } });
        }
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
