//! The sessions of one customer as bytes, and back: what the state's record says of them. `[pure]`
//!
//! Kept is what the rules look at; what follows from it (serials, alarms, hashes, how far provisional steps went) is made
//! anew. A customer that comes back behaves as if it had never been away.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Arrived, Customer, End, Event, Machine, Session, Slot, Snapshot, Tags, encoder_input, snapshot};
use crate::model::features::EventFeatures;
use crate::types::{ClickKind, CloseReason, CustomerId, EventTime, Moment, NAME_BYTES_MAX, OpenedBy};
use crate::wire::packed::{Packer, Torn, Unpacker};

/// Within what an [`Event`] can count, and beyond what a manifest may list.
const FIELDS_MAX: usize = 1 << 12;
const KINDS: [ClickKind; 4] = [ClickKind::Login, ClickKind::Logout, ClickKind::PageView, ClickKind::Action];

pub(super) fn pack(customer: &Customer, into: &mut Packer) {
    into.number(customer.sequence);
    into.number(customer.frozen_at.to_bits());
    into.number(customer.floor.to_bits());
    into.count(customer.ends.len());
    for end in &customer.ends {
        into.fixed(end.key_hash);
        into.number(end.end.ms().unsigned_abs());
        pack_reason(Some(end.reason), into);
    }
    let sessions = || customer.open.iter().chain(&customer.folded);
    let mut tags: Vec<&Arc<Tags>> = Vec::new();
    for event in sessions().flat_map(|session| &session.events) {
        if !tags.iter().rev().any(|known| is_same(known, &event.tags)) {
            tags.push(&event.tags);
        }
    }
    into.count(tags.len());
    for tags in &tags {
        pack_tags(tags, into);
    }
    for list in [&customer.open, &customer.folded] {
        into.count(list.len());
        for session in list {
            pack_session(session, &tags, into);
        }
    }
}

fn is_same(known: &Arc<Tags>, tags: &Arc<Tags>) -> bool {
    Arc::ptr_eq(known, tags) || known == tags
}

fn pack_tags(tags: &Tags, into: &mut Packer) {
    into.option(tags.channel.as_deref(), Packer::text);
    into.option(tags.device.as_deref(), Packer::text);
    into.count(tags.labels.len());
    for (name, value) in &tags.labels {
        into.text(name);
        into.text(value);
    }
}

fn pack_reason(reason: Option<CloseReason>, into: &mut Packer) {
    let place = reason.and_then(|reason| CloseReason::ALL.iter().position(|r| *r == reason));
    into.count(place.map_or(0, |place| place + 1));
}

fn pack_session(session: &Session, tags: &[&Arc<Tags>], into: &mut Packer) {
    into.text(&session.uid);
    into.text(&session.key);
    into.count(OpenedBy::ALL.iter().position(|by| *by == session.opened_by).unwrap_or(0));
    pack_reason(session.reason, into);
    into.number(session.closed_at.to_bits());
    into.number(session.heard.to_bits());
    into.number(session.publications.into());
    into.number(session.stragglers.into());
    into.count(session.events.len());
    let mut before = 0;
    for event in &session.events {
        let time = event.time.ms().unsigned_abs();
        into.number(time - before);
        before = time;
        pack_event(event, tags, into);
    }
}

/// All but its time.
fn pack_event(event: &Event, tags: &[&Arc<Tags>], into: &mut Packer) {
    let kind = KINDS.iter().position(|kind| *kind == event.kind).unwrap_or(0);
    into.count(kind | usize::from(event.unknown) << 2 | usize::from(event.context.is_some()) << 3);
    into.text(event.id_text());
    into.count(event.fields().len());
    event.fields().for_each(|id| into.number(id.into()));
    into.floats(&event.numbers().collect::<Vec<f32>>());
    if let Some(context) = &event.context {
        into.floats(context);
    }
    into.count(tags.iter().position(|known| is_same(known, &event.tags)).unwrap_or(0));
}

/// The customer without its slot; sessions have serial 0.
pub(super) fn unpack(from: &mut Unpacker<'_>, mut customer: Customer) -> Result<Customer, Torn> {
    customer.sequence = from.number()?;
    customer.frozen_at = moment(from)?;
    customer.floor = moment(from)?;
    customer.ends = from
        .list(|from| {
            let (key_hash, end) = (from.fixed()?, time(from)?);
            let reason = unpack_reason(from)?.ok_or_else(|| from.torn("a frozen session that is open"))?;
            Ok(End { key_hash, end, reason })
        })?
        .into();
    let tags = from.list(|from| unpack_tags(from).map(Arc::new))?;
    customer.open = from.list(|from| unpack_session(from, &tags))?;
    customer.folded = from.list(|from| unpack_session(from, &tags))?;
    let is_open = |session: &Session| session.reason.is_none();
    if !customer.open.iter().all(is_open) || customer.folded.iter().any(is_open) {
        return Err(from.torn("a session in the wrong list"));
    }
    Ok(customer)
}

fn moment(from: &mut Unpacker<'_>) -> Result<Moment, Torn> {
    from.number().map(Moment::from_bits)
}

fn time(from: &mut Unpacker<'_>) -> Result<EventTime, Torn> {
    let ms = i64::try_from(from.number()?).ok().and_then(EventTime::parse);
    ms.ok_or_else(|| from.torn("a time beyond the range"))
}

fn text(from: &mut Unpacker<'_>) -> Result<Arc<str>, Torn> {
    from.text().map(Arc::from)
}

fn unpack_reason(from: &mut Unpacker<'_>) -> Result<Option<CloseReason>, Torn> {
    match from.byte()? {
        0 => Ok(None),
        place => {
            let reason = CloseReason::ALL.get(usize::from(place) - 1).copied();
            reason.map(Some).ok_or_else(|| from.torn("no such reason"))
        }
    }
}

fn unpack_tags(from: &mut Unpacker<'_>) -> Result<Tags, Torn> {
    let (channel, device) = (from.option(text)?, from.option(text)?);
    let labels = from.list(|from| Ok((text(from)?, text(from)?)))?;
    Ok(Tags { channel, device, labels: BTreeMap::from_iter(labels) })
}

fn unpack_session(from: &mut Unpacker<'_>, tags: &[Arc<Tags>]) -> Result<Session, Torn> {
    let (uid, key) = (text(from)?, text(from)?);
    let opened_by = OpenedBy::ALL.get(usize::from(from.byte()?)).copied();
    let opened_by = opened_by.ok_or_else(|| from.torn("no such beginning"))?;
    let reason = unpack_reason(from)?;
    let (closed_at, heard) = (moment(from)?, moment(from)?);
    let (publications, stragglers) = (from.number_u32()?, from.number_u32()?);
    let mut before = 0_u64;
    let events = from.list(|from| {
        before = before.saturating_add(from.number()?);
        let at = i64::try_from(before).ok().and_then(EventTime::parse);
        let at = at.ok_or_else(|| from.torn("a time beyond the range"))?;
        unpack_event(from, at, tags)
    })?;
    if events.is_empty() {
        return Err(from.torn("a session without events"));
    }
    Ok(Session {
        serial: 0,
        uid,
        key,
        id_hashes: events.iter().map(Event::id_hash).collect(),
        events,
        opened_by,
        reason,
        closed_at,
        heard,
        publications,
        stragglers,
        armed: Moment::NEVER,
        stepped: 0,
    })
}

fn unpack_event(from: &mut Unpacker<'_>, time: EventTime, tags: &[Arc<Tags>]) -> Result<Event, Torn> {
    let bits = from.byte()?;
    if bits >= 1 << 4 {
        return Err(from.torn("no such kind"));
    }
    let kind = KINDS[usize::from(bits & 3)];
    let id = from.text()?;
    if id.len() > NAME_BYTES_MAX {
        return Err(from.torn("an id that is too long"));
    }
    let fields = from.list(Unpacker::number_u32)?;
    if fields.len() > FIELDS_MAX {
        return Err(from.torn("more fields than any model has"));
    }
    let features = EventFeatures { fields, numbers: from.floats()?.into(), unknown: bits & 4 != 0 };
    let context = if bits & 8 == 0 { None } else { Some(from.floats()?) };
    let place = usize::try_from(from.number()?).unwrap_or(usize::MAX);
    let tags = tags.get(place).map(Arc::clone).ok_or_else(|| from.torn("no such tags"))?;
    Ok(Event::new(time, kind, id, &features, context, tags))
}

/// What a record says of a customer's sessions, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub sequence: u64,
    /// Open ones first, then the revisable ones in fold order.
    pub sessions: Vec<SeenSession>,
    /// Of the keys that froze last, the latest at the end.
    pub ends: Vec<SeenEnd>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSession {
    pub key: Arc<str>,
    pub uid: Arc<str>,
    pub opened_by: OpenedBy,
    pub start: EventTime,
    pub end: EventTime,
    pub events: usize,
    /// `None` while open.
    pub reason: Option<CloseReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenEnd {
    pub key_hash: u64,
    pub end: EventTime,
    pub reason: CloseReason,
}

/// Reads what `pack` wrote, without a machine to put it into.
pub fn look(from: &mut Unpacker<'_>) -> Result<Seen, Torn> {
    let nowhere = Arrived { offset: 0, stream_time: Moment::NEVER, clock: 0 };
    let customer = unpack(from, Customer::new(Slot(0), nowhere))?;
    let session = |session: &Session| SeenSession {
        key: Arc::clone(&session.key),
        uid: Arc::clone(&session.uid),
        opened_by: session.opened_by,
        start: session.start(),
        end: session.end(),
        events: session.events.len(),
        reason: session.reason,
    };
    let end = |End { key_hash, end, reason }: &End| SeenEnd { key_hash: *key_hash, end: *end, reason: *reason };
    Ok(Seen {
        sequence: customer.sequence,
        sessions: customer.open.iter().chain(&customer.folded).map(session).collect(),
        ends: customer.ends.iter().map(end).collect(),
    })
}

impl Machine {
    /// Gives what follows from the sessions anew: serials and alarms. Returns the revisable sessions, in fold order.
    pub(super) fn revive(&mut self, name: &CustomerId, customer: &mut Customer) -> Vec<Snapshot> {
        for session in customer.open.iter_mut().chain(&mut customer.folded) {
            self.next_serial += 1;
            session.serial = self.next_serial;
        }
        self.open_sessions += customer.open.len();
        for session in &mut customer.open {
            self.arm_silence(name, session);
        }
        self.arm_freeze(name, customer);
        for end in &customer.ends {
            self.arm_forget(name, *end);
        }
        let folded = customer.folded.iter();
        folded
            .map(|session| {
                snapshot(name, session, session.is_published().then_some(0), Vec::new(), encoder_input(&[], 0))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `pack_event` writes it.
    fn packed(id: &str, fields: usize) -> Vec<u8> {
        let mut into = Packer::default();
        into.count(0);
        into.text(id);
        into.count(fields);
        (0..fields).for_each(|_| into.number(1));
        into.floats(&[0.5]);
        into.count(0);
        into.into_bytes()
    }

    #[test]
    fn an_event_that_is_too_large_is_torn() {
        let read = |id: &str, fields| {
            let time = EventTime::parse(7).expect("after 1970");
            let event = unpack_event(&mut Unpacker::new(&packed(id, fields)), time, &[Arc::default()]);
            event.map(|event| (event.id().len(), event.fields().len())).map_err(|torn| torn.what)
        };
        let longest = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(read(&longest, FIELDS_MAX), Ok((NAME_BYTES_MAX, FIELDS_MAX)));
        assert_eq!(read(&format!("{longest}x"), 1), Err("an id that is too long"));
        assert_eq!(read("e", FIELDS_MAX + 1), Err("more fields than any model has"));
    }
}
