//! The vectors of one customer as bytes, and back: what the state's record says of its folding. `[pure]`
//!
//! Of a revisable session its vector and context are kept; the states after it are folded again when they are needed.

use std::sync::Arc;

use super::inherit::{Inherited, Kept, Outset};
use super::{Brief, Customer, Customers, Folded, Mark, Published, Times};
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
            pack_times(*times, into);
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
            into.option(folded.inherited.as_ref(), |into, inherited| into.floats(&inherited.context));
        }
        self.pack_outsets(into);
    }

    /// Last, and only where a limit has cut a session off: records from before this was kept end without it.
    fn pack_outsets(&self, into: &mut Packer) {
        let kept = self.kept.iter().map(|kept| kept.outset.as_deref());
        let folded = self.folded.iter().map(|folded| folded.inherited.as_ref().and_then(|i| i.outset.as_deref()));
        let outsets: Vec<Option<&Outset>> = kept.chain(folded).collect();
        if outsets.iter().all(Option::is_none) {
            return;
        }
        into.count(outsets.len());
        for outset in outsets {
            into.option(outset, |into, Outset { before, start }| {
                pack_time(*start, into);
                into.option(before.times, |into, times| {
                    pack_times(times, into);
                    into.floats(&before.state);
                });
            });
        }
    }

    fn unpack(sessions: Vec<Snapshot>, state_len: usize, from: &mut Unpacker<'_>) -> Result<Self, Torn> {
        let Saved { frozen, published, mut kept, folded, outsets } = Saved::unpack(from)?;
        let mut customer = Self::new(state_len);
        if let Some((times, state)) = frozen {
            if state.len() != state_len {
                return Err(from.torn("a state of another length"));
            }
            customer.frozen = Mark { state, times: Some(times) };
        }
        if folded.len() != sessions.len() {
            return Err(from.torn("not as many vectors as sessions"));
        }
        if !outsets.is_empty() && outsets.len() != kept.len() + folded.len() {
            return Err(from.torn("not as many outsets as sessions"));
        }
        if outsets.iter().flatten().any(|(_, before)| before.as_ref().is_some_and(|(_, s)| s.len() != state_len)) {
            return Err(from.torn("a state of another length"));
        }
        let mut outsets = outsets.into_iter().map(|outset| outset.map(|outset| outset_of(outset, state_len)));
        for kept in &mut kept {
            kept.outset = outsets.next().flatten();
        }
        (customer.published, customer.kept) = (published, kept);
        let folded = sessions.into_iter().zip(folded).map(|(mut session, (vector, context))| {
            let outset = outsets.next().flatten();
            Folded {
                session: Brief::of(&mut session),
                vector,
                inherited: context.map(|context| Inherited { context, outset }),
                after: Mark { state: Box::default(), times: None },
                gate: 1.0,
            }
        });
        customer.folded = folded.collect();
        Ok(customer)
    }
}

/// The vector of a revisable session, and its context.
type SavedFold = (Box<[f32]>, Option<Arc<[f32]>>);

/// The start of the first session, and the state before it.
type SavedOutset = (EventTime, Option<(Times, Box<[f32]>)>);

/// What a record says of a customer's vectors.
struct Saved {
    frozen: Option<(Times, Box<[f32]>)>,
    published: Option<Published>,
    kept: Vec<Kept>,
    folded: Vec<SavedFold>,
    /// Of `kept` and then of `folded`; empty where none has one.
    outsets: Vec<Option<SavedOutset>>,
}

impl Saved {
    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Torn> {
        Ok(Self {
            frozen: from.option(|from| Ok((times(from)?, from.floats()?)))?,
            published: from.option(|from| Ok(Published { as_of: time(from)?, embedding: from.floats()? }))?,
            kept: from
                .list(|from| Ok(Kept { key_hash: from.fixed()?, context: from.floats()?.into(), outset: None }))?,
            folded: from.list(|from| Ok((from.floats()?, from.option(|from| Ok(Arc::from(from.floats()?)))?)))?,
            outsets: match from.remainder() {
                [] => Vec::new(),
                _ => from.list(|from| {
                    from.option(|from| Ok((time(from)?, from.option(|from| Ok((times(from)?, from.floats()?)))?)))
                })?,
            },
        })
    }
}

/// The same for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Of the state that all frozen sessions made; `None` before the first.
    pub state_norm: Option<f64>,
    /// The moment of the last published embedding.
    pub published_as_of: Option<EventTime>,
}

/// Reads what [`Customers::pack`] wrote.
pub fn look(from: &mut Unpacker<'_>) -> Result<Seen, Torn> {
    let saved = from.option(Saved::unpack)?;
    let norm = |floats: &[f32]| floats.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let state = saved.as_ref().and_then(|saved| saved.frozen.as_ref());
    Ok(Seen {
        state_norm: state.map(|(_, state)| norm(state)),
        published_as_of: saved.as_ref().and_then(|saved| saved.published.as_ref()).map(|published| published.as_of),
    })
}

fn outset_of((start, before): SavedOutset, state_len: usize) -> Arc<Outset> {
    let before = match before {
        Some((times, state)) => Mark { state, times: Some(times) },
        None => Mark { state: vec![0.0; state_len].into(), times: None },
    };
    Arc::new(Outset { before, start })
}

fn pack_times(times: Times, into: &mut Packer) {
    pack_time(times.last_end, into);
    pack_time(times.latest_end, into);
    pack_time(times.as_of, into);
}

fn times(from: &mut Unpacker<'_>) -> Result<Times, Torn> {
    Ok(Times { last_end: time(from)?, latest_end: time(from)?, as_of: time(from)? })
}

fn pack_time(time: EventTime, into: &mut Packer) {
    into.number(time.ms().unsigned_abs());
}

fn time(from: &mut Unpacker<'_>) -> Result<EventTime, Torn> {
    let ms = i64::try_from(from.number()?).ok().and_then(EventTime::parse);
    ms.ok_or_else(|| from.torn("a time beyond the range"))
}
