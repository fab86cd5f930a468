//! The customers at rest of one partition, as the bytes of their records. Customer → record. `[pure]`
//!
//! Nearly all customers are at rest at any moment: each costs its record, its id and a pointer.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table as table};

use crate::types::CustomerId;

/// An allocation and its place in the table, beside the bytes themselves.
const ENTRY_BYTES: usize = 32;

#[derive(Debug, Default)]
pub struct Rest {
    table: HashTable<Entry>,
    hasher: DefaultHashBuilder,
    bytes: usize,
}

/// The length of the id in two bytes, the id, the record: one allocation a customer.
#[derive(Debug)]
struct Entry(Box<[u8]>);

impl Entry {
    fn new(customer: &str, record: &[u8]) -> Self {
        // An id is at most 256 bytes long.
        let len = u16::try_from(customer.len()).unwrap_or(u16::MAX).to_le_bytes();
        Self([&len, customer.as_bytes(), record].concat().into())
    }

    fn split(&self) -> (&[u8], &[u8]) {
        let (len, rest) = self.0.split_at(2);
        rest.split_at(usize::from(u16::from_le_bytes([len[0], len[1]])))
    }

    fn cost(&self) -> usize {
        self.0.len() + ENTRY_BYTES
    }
}

/// A record that was taken out.
#[derive(Debug)]
pub struct Record(Entry);

impl Record {
    pub fn bytes(&self) -> &[u8] {
        self.0.split().1
    }
}

impl Rest {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// About what it takes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// In the place of an earlier record, if there is one.
    pub fn put(&mut self, customer: &str, record: &[u8]) {
        let entry = Entry::new(customer, record);
        self.bytes += entry.cost();
        let hasher = &self.hasher;
        let hash = hasher.hash_one(customer.as_bytes());
        let is_same = |known: &Entry| known.split().0 == customer.as_bytes();
        match self.table.entry(hash, is_same, |entry| hasher.hash_one(entry.split().0)) {
            table::Entry::Occupied(mut known) => self.bytes -= std::mem::replace(known.get_mut(), entry).cost(),
            table::Entry::Vacant(place) => _ = place.insert(entry),
        }
    }

    /// Makes place for so many more at once: growing looks at each customer again.
    pub fn reserve(&mut self, customers: usize) {
        let hasher = &self.hasher;
        self.table.reserve(customers, |entry| hasher.hash_one(entry.split().0));
    }

    pub fn contains(&self, customer: &CustomerId) -> bool {
        self.get(customer.as_str()).is_some()
    }

    pub fn get(&self, customer: &str) -> Option<&[u8]> {
        let hash = self.hasher.hash_one(customer.as_bytes());
        let found = self.table.find(hash, |known| known.split().0 == customer.as_bytes());
        found.map(|entry| entry.split().1)
    }

    pub fn take(&mut self, customer: &str) -> Option<Record> {
        let hash = self.hasher.hash_one(customer.as_bytes());
        let found = self.table.find_entry(hash, |known| known.split().0 == customer.as_bytes()).ok()?;
        let entry = found.remove().0;
        self.bytes -= entry.cost();
        Some(Record(entry))
    }

    /// Each customer with its record, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.table.iter().map(Entry::split)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(work in proptest::collection::vec((0..3_u8, 0..9_u8, ".{0,9}"), 0..60)) {
            let (mut rest, mut map) = (Rest::default(), BTreeMap::new());
            for (what, customer, record) in work {
                let customer = format!("c{customer}");
                match what {
                    0 => assert_eq!(rest.get(&customer), map.get(&customer).map(String::as_bytes)),
                    1 => {
                        rest.put(&customer, record.as_bytes());
                        map.insert(customer, record);
                    }
                    _ => {
                        let taken = rest.take(&customer).map(|record| record.bytes().to_vec());
                        assert_eq!(taken, map.remove(&customer).map(String::into_bytes));
                    }
                }
                assert_eq!(rest.len(), map.len());
                let bytes: usize = map.iter().map(|(id, record)| 2 + id.len() + record.len() + ENTRY_BYTES).sum();
                assert_eq!(rest.bytes(), bytes);
            }
        }
    }
}
