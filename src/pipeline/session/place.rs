//! Where an event belongs: into an open session, into a closed one that it completes or cuts, or into a new one. `[pure]`

use std::sync::Arc;

use super::{Customer, Event, Machine, Session};
use crate::types::{ClickKind, CloseReason, CustomerId, Moment, OpenedBy, RejectReason};

/// A session of a customer: its place in one of the two lists.
#[derive(Debug, Clone, Copy)]
enum Place {
    Open(usize),
    Folded(usize),
}

/// The last session of the key that begins at or before the event, and the first that begins after it.
fn neighbours(customer: &Customer, key: &str, event: &Event) -> (Option<Place>, Option<Place>) {
    let mut before: Option<(&Event, Place)> = None;
    let mut after: Option<(&Event, Place)> = None;
    let folded = customer.folded.iter().enumerate().map(|(at, session)| (session, Place::Folded(at)));
    let open = customer.open.iter().enumerate().map(|(at, session)| (session, Place::Open(at)));
    for (session, place) in folded.chain(open).filter(|(session, _)| *session.key == *key) {
        let first = &session.events[0];
        if first <= event {
            if before.is_none_or(|(best, _)| best < first) {
                before = Some((first, place));
            }
        } else if after.is_none_or(|(best, _)| first < best) {
            after = Some((first, place));
        }
    }
    (before.map(|(_, place)| place), after.map(|(_, place)| place))
}

impl Customer {
    fn at(&self, place: Place) -> &Session {
        match place {
            Place::Open(at) => &self.open[at],
            Place::Folded(at) => &self.folded[at],
        }
    }
}

impl Machine {
    pub(super) fn place(
        &mut self,
        name: &CustomerId,
        customer: &mut Customer,
        key: &str,
        event: Event,
    ) -> Result<(), RejectReason> {
        let (before, after) = neighbours(customer, key, &event);
        match before {
            Some(Place::Open(at)) => {
                self.grow_open(name, customer, at, event);
                return Ok(());
            }
            Some(Place::Folded(at)) if self.takes(&customer.folded[at], &event) => {
                return self.grow_closed(name, customer, at, event);
            }
            Some(Place::Folded(_)) | None => {}
        }
        match after {
            Some(place) if self.reaches_back(customer.at(place), &event) => {
                self.extend_back(name, customer, place, event)
            }
            _ => self.begin(name, customer, key, before, after, event),
        }
        Ok(())
    }

    /// Whether a closed session takes this event as one of its own.
    fn takes(&self, session: &Session, event: &Event) -> bool {
        let reason = session.reason.expect("a folded session is closed");
        if event < session.last() {
            return !reason.is_limit() || event.time < session.end();
        }
        let goes_on = matches!(reason, CloseReason::Gap | CloseReason::Relogin) && event.kind != ClickKind::Login;
        goes_on && self.is_within_gap(session, event) && self.is_within_duration(session, event)
    }

    fn is_within_gap(&self, session: &Session, event: &Event) -> bool {
        Moment::from(event.time) <= Moment::from(session.end()).plus_ms(self.rules.gap_ms)
    }

    fn is_within_duration(&self, session: &Session, event: &Event) -> bool {
        Moment::from(event.time) <= Moment::from(session.start()).plus_ms(self.rules.duration_max_ms)
    }

    /// Whether a session that began without a LOGIN takes this earlier event as its beginning.
    fn reaches_back(&self, session: &Session, event: &Event) -> bool {
        let has_room = session.events.len() < self.rules.events_max && session.stragglers < self.rules.revisions_max;
        let time = Moment::from(event.time);
        let is_near = Moment::from(session.start()) <= time.plus_ms(self.rules.gap_ms)
            && Moment::from(session.end()) <= time.plus_ms(self.rules.duration_max_ms);
        session.opened_by != OpenedBy::Login && event.kind != ClickKind::Logout && has_room && is_near
    }

    fn extend_back(&mut self, name: &CustomerId, customer: &mut Customer, place: Place, event: Event) {
        let is_login = event.kind == ClickKind::Login;
        let mut session = match place {
            Place::Open(at) => self.take_open(customer, at),
            Place::Folded(at) => self.unfold(customer, at),
        };
        if is_login {
            session.opened_by = OpenedBy::Login;
        }
        session.insert(event);
        match place {
            Place::Open(_) => self.opened(name, customer, session),
            Place::Folded(_) => {
                session.stragglers += 1;
                self.fold(name, customer, session);
            }
        }
    }

    /// A new session begins with the event; it is over at once if something later is already there.
    fn begin(
        &mut self,
        name: &CustomerId,
        customer: &mut Customer,
        key: &str,
        before: Option<Place>,
        after: Option<Place>,
        event: Event,
    ) {
        let time = Moment::from(event.time);
        let next = after.map(|place| (customer.at(place).opened_by, Moment::from(customer.at(place).start())));
        let last = match before {
            Some(place) => {
                let session = customer.at(place);
                session.reason.map(|reason| (Moment::from(session.end()), reason))
            }
            None => customer.last_end(key).map(|end| (Moment::from(end.end), end.reason)),
        };
        if let Some(Place::Folded(at)) = before {
            self.close_earlier(name, customer, at, &event);
        }
        let continues = last.is_some_and(|(end, reason)| reason.is_limit() && time <= end.plus_ms(self.rules.gap_ms));
        let kind = event.kind;
        let opened_by = match kind {
            ClickKind::Login => OpenedBy::Login,
            _ if continues => OpenedBy::Continued,
            ClickKind::Logout | ClickKind::PageView | ClickKind::Action => OpenedBy::Implicit,
        };
        let session = self.new_session(event.id_text().into(), Arc::from(key), vec![event], opened_by);
        let gap_over = time.plus_ms(self.rules.gap_ms);
        match next {
            _ if kind == ClickKind::Logout => self.close(name, customer, session, CloseReason::Logout, time),
            Some((OpenedBy::Login, start)) if start <= gap_over => {
                self.close(name, customer, session, CloseReason::Relogin, start);
            }
            Some(_) => self.close(name, customer, session, CloseReason::Gap, gap_over),
            None => self.opened(name, customer, session),
        }
    }

    /// A LOGIN that arrives late closed the session before it, not the later LOGIN that arrived first.
    fn close_earlier(&mut self, name: &CustomerId, customer: &mut Customer, at: usize, event: &Event) {
        let session = &customer.folded[at];
        let is_earlier = session.reason == Some(CloseReason::Relogin) && Moment::from(event.time) < session.closed_at;
        if event.kind == ClickKind::Login && is_earlier && session.stragglers < self.rules.revisions_max {
            let mut session = self.unfold(customer, at);
            session.closed_at = event.time.into();
            session.stragglers += 1;
            self.fold(name, customer, session);
        }
    }

    /// An open session is always cut as its sorted events say.
    fn grow_open(&mut self, name: &CustomerId, customer: &mut Customer, at: usize, event: Event) {
        let Customer { open, slot, sequence, .. } = customer;
        let session = &mut open[at];
        if self.is_one_more(session, &event) {
            session.insert(event);
            return self.grown(name, *slot, sequence, session);
        }
        let mut session = self.take_open(customer, at);
        let place = session.events.partition_point(|e| *e < event);
        let (time, uid) = (Moment::from(event.time), Arc::from(event.id_text()));
        let opened_by = if event.kind == ClickKind::Login { OpenedBy::Login } else { OpenedBy::Implicit };
        if !self.is_within_gap(&session, &event) {
            let closed_at = Moment::from(session.end()).plus_ms(self.rules.gap_ms);
            let rest = self.new_session(uid, Arc::clone(&session.key), vec![event], opened_by);
            self.cut_open(name, customer, session, CloseReason::Gap, closed_at, Some(rest));
        } else if event.kind == ClickKind::Login && place > 0 {
            let mut events = session.split_off(place);
            events.insert(0, event);
            let rest = self.new_session(uid, Arc::clone(&session.key), events, OpenedBy::Login);
            self.cut_open(name, customer, session, CloseReason::Relogin, time, Some(rest));
        } else if !self.is_within_duration(&session, &event) {
            let closed_at = session.end().into();
            let rest = self.new_session(uid, Arc::clone(&session.key), vec![event], OpenedBy::Continued);
            self.cut_open(name, customer, session, CloseReason::DurationMax, closed_at, Some(rest));
        } else if event.kind == ClickKind::Logout {
            let later = session.split_off(place);
            session.insert(event);
            let rest =
                (!later.is_empty()).then(|| self.new_session(uid, Arc::clone(&session.key), later, OpenedBy::Implicit));
            self.cut_open(name, customer, session, CloseReason::Logout, time, rest);
        } else {
            if event.kind == ClickKind::Login {
                session.opened_by = OpenedBy::Login;
            }
            session.insert(event);
            self.opened(name, customer, session);
        }
    }

    /// Whether an open session takes the event as most are taken: it neither cuts nor ends it.
    fn is_one_more(&self, session: &Session, event: &Event) -> bool {
        matches!(event.kind, ClickKind::PageView | ClickKind::Action)
            && self.is_within_gap(session, event)
            && self.is_within_duration(session, event)
            && session.events.len() + 1 < self.rules.events_max
    }

    fn cut_open(
        &mut self,
        name: &CustomerId,
        customer: &mut Customer,
        first: Session,
        reason: CloseReason,
        closed_at: Moment,
        rest: Option<Session>,
    ) {
        self.close(name, customer, first, reason, closed_at);
        let Some(rest) = rest else { return };
        if rest.last().kind == ClickKind::Logout {
            let end = rest.end().into();
            self.close(name, customer, rest, CloseReason::Logout, end);
        } else {
            self.opened(name, customer, rest);
        }
    }

    /// A straggler: it completes a closed session, and a LOGIN or LOGOUT inside one cuts it in two.
    fn grow_closed(
        &mut self,
        name: &CustomerId,
        customer: &mut Customer,
        at: usize,
        event: Event,
    ) -> Result<(), RejectReason> {
        let session = &customer.folded[at];
        if session.events.len() >= self.rules.events_max || session.stragglers >= self.rules.revisions_max {
            return Err(RejectReason::Full);
        }
        let mut session = self.unfold(customer, at);
        session.stragglers += 1;
        let place = session.events.partition_point(|e| *e < event);
        let (time, uid) = (Moment::from(event.time), Arc::from(event.id_text()));
        let mut rest = None;
        if event.kind == ClickKind::Login && place > 0 {
            let mut events = session.split_off(place);
            events.insert(0, event);
            rest = Some(self.cut_closed(&session, uid, events, OpenedBy::Login));
            (session.reason, session.closed_at) = (Some(CloseReason::Relogin), time);
        } else if event.kind == ClickKind::Logout {
            let later = session.split_off(place);
            if !later.is_empty() {
                rest = Some(self.cut_closed(&session, uid, later, OpenedBy::Implicit));
            }
            session.insert(event);
            (session.reason, session.closed_at) = (Some(CloseReason::Logout), time);
        } else {
            if event.kind == ClickKind::Login {
                session.opened_by = OpenedBy::Login;
            }
            session.insert(event);
            if session.reason == Some(CloseReason::Gap) {
                session.closed_at = Moment::from(session.end()).plus_ms(self.rules.gap_ms);
            }
        }
        self.fold(name, customer, session);
        if let Some(rest) = rest {
            self.fold(name, customer, rest);
        }
        Ok(())
    }

    /// The later part of a closed session is closed as the whole was.
    fn cut_closed(&mut self, whole: &Session, uid: Arc<str>, events: Vec<Event>, opened_by: OpenedBy) -> Session {
        let mut rest = self.new_session(uid, Arc::clone(&whole.key), events, opened_by);
        rest.reason = whole.reason;
        rest.closed_at = whole.closed_at;
        rest.heard = whole.heard;
        rest.stragglers = whole.stragglers;
        rest
    }
}
