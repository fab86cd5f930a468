//! Records by their customer. `[pure]`

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};

use super::slots::{Place, STEPS_A_FREE, Slots};

/// Of an entry of the table, where that is as full as it is on the average.
const ENTRY_BYTES: usize = 20;

/// Where a customer's record lies. The hash stands beside it, so that neither the search for somebody else nor a table that
/// grows reads it: each record is a wait for the memory.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    place: Place,
}

/// Over 64 bits, of which the table looks at both ends.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn spread_of(entry: &Entry) -> u64 {
    spread(entry.hash)
}

#[derive(Debug, Default)]
pub(super) struct Table {
    table: HashTable<Entry>,
    slots: Slots,
    hasher: DefaultHashBuilder,
    /// See [`Self::put_soon`].
    waiting: Vec<Entry>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// About what it takes of memory, the holes between its records included.
    pub(super) fn bytes(&self) -> usize {
        self.slots.bytes + ENTRY_BYTES * self.table.len()
    }

    #[expect(clippy::cast_possible_truncation, reason = "one half of a hash is one too")]
    fn hash(&self, customer: &[u8]) -> u32 {
        self.hasher.hash_one(customer) as u32
    }

    fn entry(&mut self, customer: &[u8], record: &[u8]) -> Entry {
        Entry { hash: self.hash(customer), place: self.slots.put(customer, record) }
    }

    /// In the place of an earlier one, if there is one.
    pub(super) fn put(&mut self, customer: &[u8], record: &[u8]) {
        let entry = self.entry(customer, record);
        if let Some(earlier) = self.insert(entry) {
            self.close_up(earlier);
        }
    }

    /// The same for [`Self::settle`] to do. Until then nothing else may be asked.
    pub(super) fn put_soon(&mut self, customer: &[u8], record: &[u8]) {
        let entry = self.entry(customer, record);
        self.waiting.push(entry);
    }

    /// Puts what waits, in its order. Each place is a wait for the memory: looked for together, they are waited for together.
    pub(super) fn settle(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        for entry in waiting.drain(..) {
            self.insert(entry);
        }
        self.waiting = waiting;
    }

    /// Gives the place of an earlier one, which is free by then.
    fn insert(&mut self, entry: Entry) -> Option<Place> {
        let Self { table, slots, .. } = self;
        let is_same = |known: &Entry| known.hash == entry.hash && slots.get(known.place).0 == slots.get(entry.place).0;
        let earlier = match table.entry(spread(entry.hash), is_same, spread_of) {
            hash_table::Entry::Occupied(mut known) => std::mem::replace(known.get_mut(), entry).place,
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(entry);
                return None;
            }
        };
        slots.free(earlier);
        Some(earlier)
    }

    pub(super) fn reserve(&mut self, customers: usize) {
        self.table.reserve(customers, spread_of);
    }

    pub(super) fn fit(&mut self) {
        if self.table.capacity() / 2 > self.table.len() {
            self.table.shrink_to_fit(spread_of);
        }
    }

    pub(super) fn get(&self, customer: &str) -> Option<&[u8]> {
        let hash = self.hash(customer.as_bytes());
        let is_same = |known: &Entry| known.hash == hash && self.slots.get(known.place).0 == customer.as_bytes();
        let found = self.table.find(spread(hash), is_same);
        found.map(|entry| self.slots.get(entry.place).1)
    }

    /// One that is not there is no error.
    pub(super) fn remove(&mut self, customer: &[u8]) {
        let hash = self.hash(customer);
        let Self { table, slots, .. } = self;
        let is_same = |known: &Entry| known.hash == hash && slots.get(known.place).0 == customer;
        let Ok(found) = table.find_entry(spread(hash), is_same) else { return };
        let place = found.remove().0.place;
        slots.free(place);
        self.close_up(place);
    }

    /// After a place became free.
    fn close_up(&mut self, free: Place) {
        for _ in 0..STEPS_A_FREE {
            let Some((from, to)) = self.slots.close_up(free.class) else { continue };
            let hash = self.hash(self.slots.get(to).0);
            let moved = self.table.find_mut(spread(hash), |known| known.place == from);
            moved.expect("whatever lies in a slot is in the table").place = to;
        }
    }

    /// Reads the records of some of its customers for nothing but to have them near the processor when they are asked for. In
    /// steps: within a step nobody waits for another, and all are waited for together.
    pub(super) fn approach<'a>(sought: impl Iterator<Item = (&'a Self, &'a str)>) {
        let hashes: Vec<(&Self, u32)> =
            sought.map(|(table, customer)| (table, table.hash(customer.as_bytes()))).collect();
        let entry = |(table, hash): (&'a Self, u32)| {
            let found = table.table.find(spread(hash), |known| known.hash == hash);
            found.map(|entry| (table, entry.place))
        };
        let places: Vec<(&Self, Place)> = hashes.into_iter().filter_map(entry).collect();
        std::hint::black_box(places.into_iter().fold(0, |sum, (table, place)| sum ^ table.slots.touch(place)));
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.table.iter().map(|entry| self.slots.get(entry.place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many some twenty pairs have one hash; of none is the chance one in a hundred million.
    #[test]
    fn customers_with_one_hash_are_told_apart() {
        let mut table = Table::default();
        let ids: Vec<String> = (0..400_000).map(|n: u32| n.to_string()).collect();
        ids.iter().for_each(|id| table.put(id.as_bytes(), id.as_bytes()));
        let mut hashes: Vec<u32> = table.table.iter().map(|entry| entry.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert!(hashes.len() < ids.len(), "no two have one hash");
        assert!(ids.iter().all(|id| table.get(id) == Some(id.as_bytes())));
        let (gone, stay): (Vec<&String>, Vec<&String>) =
            ids.iter().partition(|id| id.ends_with(['0', '2', '4', '6', '8']));
        gone.iter().for_each(|id| table.remove(id.as_bytes()));
        assert!(gone.iter().all(|id| table.get(id).is_none()));
        assert!(stay.iter().all(|id| table.get(id) == Some(id.as_bytes())));
    }
}
