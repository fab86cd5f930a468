//! The customers at rest of one partition, as the bytes of their records. Customer → record. `[pure]`
//!
//! Nearly all customers are at rest at any moment: each costs its record, its id and its place in a table. Where a local store holds
//! them all, memory holds a cache of it, and what the store does not have yet:
//!
//! ```text
//!   an epoch's records ──▸ fresh, by epoch ──the store has them──▸ young ──young is full──▸ old ──▸ gone
//!                                            read from the store ──▸  ┘  ◂── looked for again ┘
//! ```

use std::collections::VecDeque;

use crate::types::CustomerId;

mod slots;
mod table;

use table::Table;

/// Where the records are that memory does not hold.
pub trait Beyond {
    /// The customers' records, in their order; `None` for one who has none.
    fn read(&mut self, partition: i32, customers: &[&str]) -> Result<Vec<Option<Vec<u8>>>, BeyondError>;
}

/// Nowhere: memory holds all.
#[derive(Debug)]
pub struct Nothing;

impl Beyond for Nothing {
    fn read(&mut self, _: i32, customers: &[&str]) -> Result<Vec<Option<Vec<u8>>>, BeyondError> {
        Ok(vec![None; customers.len()])
    }
}

/// Why records could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BeyondError {
    pub partition: i32,
    pub why: String,
    /// What is there is not what was written, as against a disk that refuses.
    pub is_damage: bool,
}

#[derive(Debug, Default)]
pub struct Rest {
    /// All, or the younger half of the cache.
    table: Table,
    /// `None`: memory holds all.
    cached: Option<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    old: Table,
    /// What the store does not have yet, by epoch; an empty record says that there is none any more.
    fresh: VecDeque<(u64, Table)>,
}

impl Rest {
    /// A cache of what lies beyond.
    pub fn cached() -> Self {
        Self { table: Table::default(), cached: Some(Cached::default()) }
    }

    /// Has the records of customers who are about to wake near the processor; decides nothing.
    pub fn approach<'a>(sought: impl Iterator<Item = (&'a Self, &'a str)>) {
        Table::approach(sought.flat_map(|(rest, customer)| {
            let tables = [Some(&rest.table), rest.cached.as_ref().map(|cached| &cached.old)];
            tables.into_iter().flatten().map(move |table| (table, customer))
        }));
    }

    /// Customers in memory.
    pub fn len(&self) -> usize {
        let cached = self
            .cached
            .as_ref()
            .map_or(0, |cached| cached.old.len() + cached.fresh.iter().map(|(_, table)| table.len()).sum::<usize>());
        self.table.len() + cached
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About what it takes of memory.
    pub fn bytes(&self) -> usize {
        let fresh = |cached: &Cached| cached.fresh.iter().map(|(_, table)| table.bytes()).sum::<usize>();
        self.table.bytes() + self.cached.as_ref().map_or(0, |cached| cached.old.bytes() + fresh(cached))
    }

    /// Of the younger half of the cache; 0 where memory holds all.
    pub fn young_bytes(&self) -> usize {
        if self.cached.is_some() { self.table.bytes() } else { 0 }
    }

    /// The younger half becomes the older one, which goes.
    pub fn age(&mut self) {
        if let Some(cached) = &mut self.cached {
            cached.old = std::mem::take(&mut self.table);
        }
    }

    /// Whether what memory says of the customer is all that can be said.
    pub fn knows(&self, customer: &str) -> bool {
        self.cached.as_ref().is_none_or(|cached| {
            cached.fresh(customer).is_some() || self.table.get(customer).is_some() || cached.old.get(customer).is_some()
        })
    }

    /// The record that an epoch gave a customer, in the place of an earlier one.
    pub fn put(&mut self, customer: &str, record: &[u8], epoch: u64) {
        match &mut self.cached {
            None => self.table.put(customer.as_bytes(), record),
            Some(cached) => cached.of(epoch).put(customer.as_bytes(), record),
        }
    }

    /// The same for [`Self::settle`] to do, where memory holds all. Until then nothing else may be asked.
    pub fn put_soon(&mut self, customer: &str, record: &[u8]) {
        assert!(self.cached.is_none(), "epochs are told apart");
        self.table.put_soon(customer.as_bytes(), record);
    }

    /// Puts what waits.
    pub fn settle(&mut self) {
        self.table.settle();
    }

    /// A record that is known beyond, too.
    pub fn offer(&mut self, customer: &str, record: &[u8]) {
        if self.cached.as_ref().is_none_or(|cached| cached.fresh(customer).is_none()) {
            self.table.put(customer.as_bytes(), record);
        }
    }

    /// The customer has none from that epoch on.
    pub fn erase(&mut self, customer: &str, epoch: u64) {
        match &mut self.cached {
            None => self.table.remove(customer.as_bytes()),
            Some(cached) => cached.of(epoch).put(customer.as_bytes(), &[]),
        }
    }

    /// What was put up to that epoch is beyond by now.
    pub fn is_beyond(&mut self, epoch: u64) {
        let Self { table, cached: Some(cached) } = self else { return };
        while cached.fresh.front().is_some_and(|(of, _)| *of <= epoch) {
            let Some((_, stored)) = cached.fresh.pop_front() else { return };
            for (id, record) in stored.iter() {
                if record.is_empty() {
                    table.remove(id);
                    cached.old.remove(id);
                } else {
                    table.put(id, record);
                }
            }
        }
    }

    /// What is not beyond yet, in no order; `None` where a customer has no record any more.
    pub fn fresh(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let tables = self.cached.iter().flat_map(|cached| cached.fresh.iter());
        let entries = tables.flat_map(|(_, table)| table.iter());
        entries.map(|(id, record)| (id, Some(record).filter(|record| !record.is_empty())))
    }

    /// Of them.
    pub fn fresh_bytes(&self) -> usize {
        self.cached.iter().flat_map(|cached| cached.fresh.iter()).map(|(_, table)| table.bytes()).sum()
    }

    /// Makes place for so many more at once: growing moves each customer's place.
    pub fn reserve(&mut self, customers: usize) {
        if self.cached.is_none() {
            self.table.reserve(customers);
        }
    }

    /// Gives most of the place back that nobody came for.
    pub fn fit(&mut self) {
        self.table.fit();
    }

    pub fn contains(&self, customer: &CustomerId) -> bool {
        self.get(customer.as_str()).is_some()
    }

    pub fn get(&self, customer: &str) -> Option<&[u8]> {
        let Some(cached) = &self.cached else { return self.table.get(customer) };
        match cached.fresh(customer) {
            Some(record) => Some(record).filter(|record| !record.is_empty()),
            None => self.table.get(customer).or_else(|| cached.old.get(customer)),
        }
    }

    /// The customer becomes active. What is not beyond yet stays, for nobody else could say it.
    pub fn remove(&mut self, customer: &str) {
        if let Some(cached) = &mut self.cached {
            if cached.fresh(customer).is_some() {
                return;
            }
            cached.old.remove(customer.as_bytes());
        }
        self.table.remove(customer.as_bytes());
    }

    /// Each customer in memory with its record, in no order; where memory is a cache, without what is not beyond yet.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.table.iter().chain(self.cached.iter().flat_map(|cached| cached.old.iter()))
    }
}

impl Cached {
    /// The newest that is not beyond yet.
    fn fresh(&self, customer: &str) -> Option<&[u8]> {
        self.fresh.iter().rev().find_map(|(_, table)| table.get(customer))
    }

    fn of(&mut self, epoch: u64) -> &mut Table {
        if self.fresh.back().is_none_or(|(newest, _)| *newest < epoch) {
            self.fresh.push_back((epoch, Table::default()));
        }
        let (_, table) = self.fresh.back_mut().expect("there is one by now");
        table
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn taken(rest: &mut Rest, customer: &str) -> Option<Vec<u8>> {
        let record = rest.get(customer).map(<[u8]>::to_vec);
        rest.remove(customer);
        record
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(work in proptest::collection::vec((0..4_u8, 0..9_u8, ".{0,9}"), 0..60)) {
            let (mut rest, mut map) = (Rest::default(), BTreeMap::new());
            for (what, customer, record) in work {
                let customer = format!("c{customer}");
                match what {
                    0 => {
                        Rest::approach([(&rest, customer.as_str()), (&rest, "nobody")].into_iter());
                        assert_eq!(rest.get(&customer), map.get(&customer).map(String::as_bytes));
                    }
                    1 => {
                        rest.put(&customer, record.as_bytes(), 1);
                        map.insert(customer, record);
                    }
                    2 => {
                        rest.put_soon(&customer, b"sooner");
                        rest.put_soon(&customer, record.as_bytes());
                        rest.settle();
                        map.insert(customer, record);
                        rest.reserve(200);
                        rest.fit();
                    }
                    _ => {
                        assert_eq!(taken(&mut rest, &customer), map.remove(&customer).map(String::into_bytes));
                    }
                }
                assert_eq!(rest.len(), map.len());
                let bytes: usize = map.iter().map(|(id, record)| id.len() + record.len()).sum();
                // And the holes: at most eleven slots of 16, 32 and 48 bytes were ever in use.
                let most = bytes + 42 * map.len() + 11 * (16 + 32 + 48);
                assert!((bytes..=most).contains(&rest.bytes()), "{} for {bytes}", rest.bytes());
            }
        }

        /// The store is a map that gets an epoch's records some epochs later.
        #[test]
        fn a_cache_says_what_the_store_will(work in proptest::collection::vec((0..8_u8, 0..9_u8, ".{1,9}"), 0..120)) {
            let (mut rest, mut all, mut epoch) = (Rest::cached(), BTreeMap::<String, String>::new(), 1);
            let (mut store, mut stored) = (BTreeMap::<String, String>::new(), 0);
            let mut told: Vec<(u64, String, Option<String>)> = Vec::new();
            for (what, customer, record) in work {
                let customer = format!("c{customer}");
                match what {
                    0 | 1 => {
                        if !rest.knows(&customer) && let Some(record) = store.get(&customer) {
                            rest.offer(&customer, record.as_bytes());
                        }
                        assert_eq!(rest.get(&customer), all.get(&customer).map(String::as_bytes));
                        if what == 1 {
                            // It wakes, and goes back as it was.
                            let taken = taken(&mut rest, &customer);
                            assert_eq!(taken.as_deref(), all.get(&customer).map(String::as_bytes));
                            if let Some(record) = taken {
                                rest.offer(&customer, &record);
                            }
                        }
                    }
                    2 | 3 => {
                        rest.put(&customer, record.as_bytes(), epoch);
                        told.push((epoch, customer.clone(), Some(record.clone())));
                        all.insert(customer, record);
                    }
                    4 => {
                        rest.erase(&customer, epoch);
                        told.push((epoch, customer.clone(), None));
                        all.remove(&customer);
                    }
                    5 => epoch += 1,
                    6 => rest.age(),
                    _ => {
                        stored = (stored + 1).min(epoch - 1);
                        for (_, customer, record) in told.extract_if(.., |(of, _, _)| *of <= stored) {
                            match record {
                                Some(record) => _ = store.insert(customer, record),
                                None => _ = store.remove(&customer),
                            }
                        }
                        rest.is_beyond(stored);
                    }
                }
            }
        }
    }
}
