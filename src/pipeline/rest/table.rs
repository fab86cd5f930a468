//! Records by their customer. `[pure]`

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};

use super::slots::{Place, STEPS_A_FREE, Slots};

/// Of a place in the table, where it is as full as it is on the average.
const ENTRY_BYTES: usize = 14;

#[derive(Debug, Default)]
pub(super) struct Table {
    table: HashTable<Place>,
    slots: Slots,
    hasher: DefaultHashBuilder,
    /// Of all records, about.
    pub(super) bytes: usize,
    /// With its hash; see [`Self::put_soon`].
    waiting: Vec<(u64, Place)>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// In the place of an earlier one, if there is one.
    pub(super) fn put(&mut self, customer: &[u8], record: &[u8]) {
        let place = self.slots.put(customer, record);
        if let Some(earlier) = self.insert(self.hasher.hash_one(customer), place) {
            self.close_up(earlier);
        }
    }

    /// The same for [`Self::settle`] to do. Until then nothing else may be asked.
    pub(super) fn put_soon(&mut self, customer: &[u8], record: &[u8]) {
        let place = self.slots.put(customer, record);
        self.waiting.push((self.hasher.hash_one(customer), place));
    }

    /// Puts what waits, in its order. Each place is a wait for the memory: looked for together, they are waited for together.
    pub(super) fn settle(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        for (hash, place) in waiting.drain(..) {
            self.insert(hash, place);
        }
        self.waiting = waiting;
    }

    /// Gives the place of an earlier one, which is free by then.
    fn insert(&mut self, hash: u64, place: Place) -> Option<Place> {
        let Self { table, slots, hasher, bytes, .. } = self;
        *bytes += slots.cost(place) + ENTRY_BYTES;
        let id = slots.get(place).0;
        let is_same = |known: &Place| slots.get(*known).0 == id;
        let earlier = match table.entry(hash, is_same, |known| hasher.hash_one(slots.get(*known).0)) {
            hash_table::Entry::Occupied(mut known) => std::mem::replace(known.get_mut(), place),
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(place);
                return None;
            }
        };
        *bytes -= slots.cost(earlier) + ENTRY_BYTES;
        slots.free(earlier);
        Some(earlier)
    }

    pub(super) fn reserve(&mut self, customers: usize) {
        let Self { table, slots, hasher, .. } = self;
        table.reserve(customers, |place| hasher.hash_one(slots.get(*place).0));
    }

    pub(super) fn fit(&mut self) {
        let Self { table, slots, hasher, .. } = self;
        if table.capacity() / 2 > table.len() {
            table.shrink_to_fit(|place| hasher.hash_one(slots.get(*place).0));
        }
    }

    pub(super) fn get(&self, customer: &str) -> Option<&[u8]> {
        let hash = self.hasher.hash_one(customer.as_bytes());
        let found = self.table.find(hash, |known| self.slots.get(*known).0 == customer.as_bytes());
        found.map(|place| self.slots.get(*place).1)
    }

    /// One that is not there is no error.
    pub(super) fn remove(&mut self, customer: &[u8]) {
        let Self { table, slots, hasher, bytes, .. } = self;
        let hash = hasher.hash_one(customer);
        let Ok(found) = table.find_entry(hash, |known| slots.get(*known).0 == customer) else { return };
        let place = found.remove().0;
        *bytes -= slots.cost(place) + ENTRY_BYTES;
        slots.free(place);
        self.close_up(place);
    }

    /// After a place became free.
    fn close_up(&mut self, free: Place) {
        let Self { table, slots, hasher, .. } = self;
        for _ in 0..STEPS_A_FREE {
            let Some((from, to)) = slots.close_up(free.class) else { continue };
            let hash = hasher.hash_one(slots.get(to).0);
            let moved = table.find_mut(hash, |known| *known == from);
            *moved.expect("whatever lies in a slot is in the table") = to;
        }
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.table.iter().map(|place| self.slots.get(*place))
    }
}
