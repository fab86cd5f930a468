//! The vectors of one customer as bytes, and back: what the state's record says of its folding. `[pure]`
//!
//! Of a revisable session its vector and context are kept; the states after it are folded again when they are needed.

use std::sync::Arc;

use super::{Brief, Customer, Customers, Folded, Kept, Mark, Published, Times};
use crate::pipeline::session::{Slot, Snapshot};
use crate::types::EventTime;
use crate::wire::packed::{Packer, Torn, Unpacker};

impl Customers {
    pub fn pack(&self, slot: Slot, into: &mut Packer) {
        let customer = self.slots.get(slot.0 as usize).and_then(|slot| slot.as_deref());
        into.option(customer, |into, customer| customer.pack(into));
    }

    /// Takes in a customer from its record; `folded` are its revisable sessions as the sessionizer knows them.
    pub fn wake(
        &mut self,
        slot: Slot,
        folded: Vec<Snapshot>,
        state_len: usize,
        from: &mut Unpacker<'_>,
    ) -> Result<(), Torn> {
        let customer = from.option(|from| Customer::unpack(folded, state_len, from))?;
        let slot = slot.0 as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = customer.map(Box::new);
        Ok(())
    }

    /// A customer at rest leaves the memory.
    pub fn leave(&mut self, slot: Slot) {
        if let Some(customer) = self.slots.get_mut(slot.0 as usize) {
            *customer = None;
        }
    }
}

impl Customer {
    fn pack(&self, into: &mut Packer) {
        into.option(self.frozen.times.as_ref(), |into, times| {
            pack_time(times.last_end, into);
            pack_time(times.latest_end, into);
            pack_time(times.as_of, into);
            into.floats(&self.frozen.state);
        });
        into.option(self.published.as_ref(), |into, published| {
            pack_time(published.as_of, into);
            into.floats(&published.embedding);
        });
        into.count(self.kept.len());
        for kept in &self.kept {
            into.fixed(kept.key_hash);
            into.floats(&kept.context);
        }
        into.count(self.folded.len());
        for folded in &self.folded {
            into.floats(&folded.vector);
            into.option(folded.context.as_ref(), |into, context| into.floats(context));
        }
    }

    fn unpack(sessions: Vec<Snapshot>, state_len: usize, from: &mut Unpacker<'_>) -> Result<Self, Torn> {
        let mut customer = Self::new(state_len);
        let frozen = from.option(|from| {
            let times = Times { last_end: time(from)?, latest_end: time(from)?, as_of: time(from)? };
            let state = from.floats()?;
            if state.len() == state_len {
                Ok(Mark { state, times: Some(times) })
            } else {
                Err(from.torn("a state of another length"))
            }
        })?;
        customer.frozen = frozen.unwrap_or(customer.frozen);
        customer.published = from.option(|from| Ok(Published { as_of: time(from)?, embedding: from.floats()? }))?;
        customer.kept = from.list(|from| Ok(Kept { key_hash: from.fixed()?, context: from.floats()?.into() }))?;
        let mut sessions = sessions.into_iter();
        customer.folded = from.list(|from| {
            let mut session = sessions.next().ok_or_else(|| from.torn("a vector of no session"))?;
            let (vector, context) = (from.floats()?, from.option(|from| Ok(Arc::from(from.floats()?)))?);
            let after = Mark { state: Box::default(), times: None };
            Ok(Folded { session: Brief::of(&mut session), vector, context, after, gate: 1.0 })
        })?;
        if sessions.next().is_some() { Err(from.torn("a session without a vector")) } else { Ok(customer) }
    }
}

fn pack_time(time: EventTime, into: &mut Packer) {
    into.number(time.ms().unsigned_abs());
}

fn time(from: &mut Unpacker<'_>) -> Result<EventTime, Torn> {
    let ms = i64::try_from(from.number()?).ok().and_then(EventTime::parse);
    ms.ok_or_else(|| from.torn("a time beyond the range"))
}
