//! Which customers the log of the state does not hold as they are now, and what must be written of them. `[pure]`
//!
//! ```text
//!   at rest ──its next event──▸ active, dirty ──nothing open or revisable──▸ at rest: written, out of memory
//!                                  └─ dirty for long: written as it is, and clean until its next event
//! ```
//! A click of an active customer writes nothing: after a crash it is read from the input again. How far back is bounded,
//! for a customer that stays active is written at doubling distances: a session's events go to the log twice at the most
//! while it grows, whatever its length.

use std::collections::BTreeMap;

use super::{Arrived, Customer, Machine, Partition, Slot, Snapshot, saved};
use crate::config::SessionRules;
use crate::types::{CustomerId, CustomerRef, Moment};
use crate::wire::packed::{Packer, Torn, Unpacker};

/// Dirty for fewer input records, a customer is not written before it comes to rest.
const REDO_RECORDS: i64 = 50_000;
/// The same in milliseconds of the clock, for partitions in which little happens.
const REDO_MS: i64 = 60_000;

/// What is to be done for the log at the end of an epoch.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) known: u64,
    /// Customers that have a record.
    logged: u64,
    /// Came to rest, some perhaps not for long.
    resting: Vec<CustomerId>,
    /// With the parts of their records as active ones.
    erased: BTreeMap<CustomerId, u16>,
}

/// A customer of which the log must keep nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    pub customer: CustomerId,
    /// Of its record as an active one; 0: there is none.
    pub active_parts: u16,
}

impl Ledger {
    pub(super) fn erased(&mut self, name: CustomerId, log: &super::Logged) {
        self.known -= 1;
        if log.through.is_some() {
            self.logged -= 1;
            self.erased.insert(name, log.active_parts);
        }
    }
}

impl Machine {
    /// After something may have happened to a customer; `changed`: something did.
    pub(super) fn touched(&mut self, name: &CustomerId, customer: &mut Customer, changed: bool) {
        if changed && customer.log.dirty.is_none() {
            customer.log.dirty = Some(self.now);
        }
        if customer.is_at_rest(self.stream_time, self.rules.gap_ms) {
            self.ledger.resting.push(name.clone());
        }
    }
}

/// A customer that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub slot: Slot,
    /// Of the record that it had as an active one.
    pub active_parts: u16,
    /// The log does not hold it as it is.
    pub is_dirty: bool,
}

impl Partition {
    /// The record that is taken next.
    pub fn arrives(&mut self, offset: i64, clock: i64) {
        self.machine.now = Arrived { offset, stream_time: self.machine.stream_time, clock };
    }

    pub fn rules(&self) -> &SessionRules {
        &self.machine.rules
    }

    /// Of an active customer, up to which input offset the log holds it; 0 where it does not.
    pub fn stands(&self, name: CustomerRef<'_>) -> Option<i64> {
        self.customers.get(name.as_str()).map(|customer| customer.log.through.unwrap_or(0))
    }

    /// Up to which input offset a record holds a customer that is written now: what did nothing to it is in no record.
    pub fn written_through(&self, name: &CustomerId, resume: i64) -> i64 {
        let log = self.customers.get(name).map(|customer| customer.log);
        log.filter(|log| log.dirty.is_none()).and_then(|log| log.through).unwrap_or(resume)
    }

    /// Customers that are not at rest.
    pub fn active(&self) -> usize {
        self.customers.len()
    }

    /// Customers with a record in the log.
    pub fn logged(&self) -> u64 {
        self.machine.ledger.logged
    }

    /// Goes on from what the log says of the partition.
    pub fn resume(&mut self, stream_time: Moment, logged: u64) {
        self.machine.stream_time = stream_time;
        (self.machine.ledger.known, self.machine.ledger.logged) = (logged, logged);
    }

    /// Takes in a customer from its record, which holds what the input records below `through` did. Gives its slot and its
    /// revisable sessions, in fold order.
    pub fn wake(
        &mut self,
        name: &CustomerId,
        through: i64,
        active_parts: u16,
        from: &mut Unpacker<'_>,
    ) -> Result<(Slot, Vec<Snapshot>), Torn> {
        let machine = &mut self.machine;
        let mut customer = saved::unpack(from, Customer::new(Slot(0), machine.now))?;
        customer.slot = machine.new_slot();
        customer.log.through = Some(through);
        customer.log.active_parts = active_parts;
        customer.log.active_since.offset = through;
        let folded = machine.revive(name, &mut customer);
        if customer.is_at_rest(machine.stream_time, machine.rules.gap_ms) {
            // If it is left alone it goes back.
            machine.ledger.resting.push(name.clone());
        }
        let slot = customer.slot;
        self.customers.insert(name.clone(), customer);
        Ok((slot, folded))
    }

    /// Writes what is known of an active customer's sessions.
    pub fn pack(&self, name: &CustomerId, into: &mut Packer) -> Option<Written> {
        let customer = self.customers.get(name)?;
        saved::pack(customer, into);
        let log = &customer.log;
        Some(Written { slot: customer.slot, active_parts: log.active_parts, is_dirty: log.dirty.is_some() })
    }

    /// The customers that came to rest since this was called last, and still are.
    pub fn take_resting(&mut self) -> Vec<CustomerId> {
        let mut resting = std::mem::take(&mut self.machine.ledger.resting);
        resting.sort_unstable();
        resting.dedup();
        let (machine, customers) = (&self.machine, &self.customers);
        resting.retain(|name| {
            customers.get(name).is_some_and(|c| c.is_at_rest(machine.stream_time, machine.rules.gap_ms))
        });
        resting
    }

    /// The customers that were erased since this was called last, of which the log has a record.
    pub fn take_erased(&mut self) -> Vec<Erased> {
        let erased = std::mem::take(&mut self.machine.ledger.erased);
        erased.into_iter().map(|(customer, active_parts)| Erased { customer, active_parts }).collect()
    }

    /// Whether that is yet to be said of the customer.
    pub fn is_erased(&self, name: CustomerRef<'_>) -> bool {
        self.machine.ledger.erased.contains_key(name.as_str())
    }

    /// Active customers that have been dirty for long; `all`: all dirty ones. In order.
    pub fn due(&self, resume: i64, clock: i64, all: bool) -> Vec<CustomerId> {
        let is_due = |customer: &Customer| {
            let Some(dirty) = customer.log.dirty else { return false };
            let since = customer.log.active_since;
            let records = REDO_RECORDS.max(dirty.offset - since.offset);
            let ms = REDO_MS.max(dirty.clock - since.clock);
            all || resume - dirty.offset >= records || clock - dirty.clock >= ms
        };
        let due = self.customers.iter().filter(|(_, customer)| is_due(customer));
        let mut due: Vec<CustomerId> = due.map(|(name, _)| name.clone()).collect();
        due.sort_unstable();
        due
    }

    /// Where the input must be read again from to have what the log does not hold, and the stream time there: `resume` and
    /// the present one where the log holds everything.
    pub fn redo_from(&self, resume: i64) -> (i64, Moment) {
        let dirty = self.customers.values().filter_map(|customer| customer.log.dirty);
        let first = dirty.min_by_key(|dirty| dirty.offset);
        first.map_or((resume, self.machine.stream_time), |first| (first.offset, first.stream_time))
    }

    /// An active customer stands in the log now as it is.
    pub fn is_written(&mut self, name: &CustomerId, through: i64, active_parts: u16) {
        let Some(customer) = self.customers.get_mut(name) else { return };
        if customer.log.through.is_none() {
            self.machine.ledger.logged += 1;
        }
        customer.log.through = Some(through);
        customer.log.active_parts = active_parts;
        customer.log.dirty = None;
    }

    /// A customer at rest leaves the memory.
    pub fn leave(&mut self, name: &CustomerId) {
        if let Some(customer) = self.customers.remove(name) {
            self.machine.freed_slots.push(customer.slot);
        }
    }

    /// All of the epoch's work is done: nothing names the slots of those that are gone.
    pub fn epoch_done(&mut self) {
        let Machine { free_slots, freed_slots, .. } = &mut self.machine;
        free_slots.append(freed_slots);
    }
}
