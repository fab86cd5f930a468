//! A partition's log as it is read: what counts of each customer, and whether it can be true. Records → [`Logged`]. `[pure]`

use std::collections::BTreeMap;

use crate::pipeline::log::{self, Head, Key, LogError};
use crate::pipeline::rest::Rest;
use crate::types::Moment;
use crate::wire::packed::Torn;

/// What a row that waits takes beside its key and value, about.
const ROW_BYTES: usize = 64;

/// What was read of a partition's log, in its order.
#[derive(Debug)]
pub struct Logged {
    head: Option<Head>,
    pub(super) rest: Rest,
    active: BTreeMap<String, Box<[u8]>>,
    parts: BTreeMap<(String, u16), Box<[u8]>>,
    /// The furthest that a customer's record reaches.
    through: i64,
    /// What counts as long as nothing is there.
    empty: Head,
    is_fenced: bool,
    is_importing: bool,
    store: Option<InStore>,
}

/// Of a log whose customers at rest go to a local store.
#[derive(Debug, Default)]
struct InStore {
    /// Rows of active customers, and the mark of an import, that the store does not have yet; and their bytes.
    active: Vec<Row>,
    active_bytes: usize,
    /// Up to this epoch the store had the log before: what comes of them again says nothing new.
    epoch: u64,
    /// Customers at rest in the store, where they were counted.
    at_rest: Option<u64>,
}

/// A record of the log for the local store, `None` where there is none any more.
pub type Row = (Box<[u8]>, Option<Box<[u8]>>);

/// All that the log says of one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub is_active: bool,
    /// The input offset below which everything is in it.
    pub through: i64,
    /// Sessions and vectors.
    pub packed: Vec<u8>,
}

impl Logged {
    /// `begun`: the first input offset that counts, where the log is empty. `is_fenced`: only one could write at a time, so
    /// what goes back is an error; else it is what one wrote who was not the owner any more, and does not count.
    pub fn new(begun: i64, is_fenced: bool) -> Self {
        let empty = Head {
            epoch: 0,
            before: begun,
            resume: begun,
            redo_from: begun,
            redo_stream_time: Moment::NEVER,
            logged: 0,
        };
        Self {
            head: None,
            rest: Rest::default(),
            active: BTreeMap::new(),
            parts: BTreeMap::new(),
            through: 0,
            empty,
            is_fenced,
            is_importing: false,
            store: None,
        }
    }

    /// The same where a local store has the customers at rest, and had the log as it was at `head`.
    pub fn over_store(begun: i64, is_fenced: bool, head: Option<Head>) -> Self {
        let store = InStore { epoch: head.map_or(0, |head| head.epoch), ..InStore::default() };
        Self { head, rest: Rest::cached(), store: Some(store), ..Self::new(begun, is_fenced) }
    }

    /// What the store does not have yet, and about how many bytes that is.
    pub fn rows(&self) -> impl Iterator<Item = (std::borrow::Cow<'_, [u8]>, Option<&[u8]>)> {
        let at_rest = self.rest.fresh().map(|(id, record)| ([b"c", id].concat().into(), record));
        let active = self.store.iter().flat_map(|store| &store.active);
        at_rest.chain(active.map(|(key, value)| (key.as_ref().into(), value.as_deref())))
    }

    pub fn rows_bytes(&self) -> usize {
        self.rest.fresh_bytes() + self.store.as_ref().map_or(0, |store| store.active_bytes)
    }

    /// The store has all of [`Self::rows`] now. Of the customers, `cache` bytes stay in memory.
    pub fn is_beyond(&mut self, cache: usize) {
        self.rest.is_beyond(u64::MAX);
        if self.rest.young_bytes() > cache / 2 {
            self.rest.age();
        }
        if let Some(store) = &mut self.store {
            store.active.clear();
            store.active_bytes = 0;
        }
    }

    /// The store was counted through: so many customers are at rest in it, and all of the log was read.
    pub fn counts(&mut self, at_rest: u64) {
        if let Some(store) = &mut self.store {
            store.at_rest = Some(at_rest);
        }
    }

    /// Whether it is a customer's record that only the store may know an older one of, and must be asked for with
    /// [`Self::offer`] first: where nobody was fenced.
    pub fn asks<'k>(&self, key: &'k [u8]) -> Option<&'k str> {
        match Key::parse(key) {
            Ok(Key::Rest(id)) if !self.is_fenced && !self.rest.knows(id) => Some(id),
            Ok(_) | Err(_) => None,
        }
    }

    pub fn offer(&mut self, id: &str, record: &[u8]) {
        self.rest.offer(id, record);
    }

    /// An import was begun and has not ended: nothing of it counts.
    pub fn is_importing(&self) -> bool {
        self.is_importing
    }

    pub fn head(&self) -> Head {
        self.head.unwrap_or(self.empty)
    }

    /// Makes place for so many customers. More may come.
    pub fn expect(&mut self, customers: usize) {
        self.rest.reserve(customers);
    }

    /// All records were taken: place for many more customers than came is given back.
    pub fn fit(&mut self) {
        self.rest.fit();
    }

    /// The next records, in their order.
    pub fn take_all<'r>(
        &mut self,
        records: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>,
    ) -> Result<(), LogError> {
        let is_plain = self.is_fenced && self.store.is_none();
        for (key, value) in records {
            match (Key::parse(key)?, value) {
                (Key::Rest(id), Some(value)) if is_plain => {
                    self.reach(key, value)?;
                    self.rest.put_soon(id, value);
                }
                _ => {
                    self.rest.settle();
                    self.take(key, value)?;
                }
            }
        }
        self.rest.settle();
        Ok(())
    }

    fn reach(&mut self, key: &[u8], value: &[u8]) -> Result<(), LogError> {
        let (through, _) = log::open_rest(value).map_err(|torn| LogError::new(key, torn))?;
        self.through = self.through.max(through);
        Ok(())
    }

    /// The next record.
    pub fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), LogError> {
        let parsed = Key::parse(key)?;
        if let (Some(store), Key::Active(_) | Key::Part(..) | Key::Import) = (&mut self.store, parsed) {
            store.active_bytes += key.len() + value.map_or(0, <[u8]>::len) + ROW_BYTES;
            store.active.push((key.into(), value.map(Box::from)));
        }
        if let (Key::Rest(_) | Key::Active(_), Some(value)) = (parsed, value) {
            self.reach(key, value)?;
        }
        match (parsed, value) {
            (Key::Rest(id), Some(value)) => {
                if self.is_fenced || !self.is_behind(id, value) {
                    self.rest.put(id, value, 0);
                }
            }
            (Key::Rest(id), None) => self.rest.erase(id, 0),
            (Key::Active(id), Some(value)) => _ = self.active.insert(id.to_owned(), value.into()),
            (Key::Active(id), None) => _ = self.active.remove(id),
            (Key::Part(part, id), Some(value)) => _ = self.parts.insert((id.to_owned(), part), value.into()),
            (Key::Part(part, id), None) => _ = self.parts.remove(&(id.to_owned(), part)),
            (Key::Head, Some(value)) if self.is_known(&Head::unpack(value)?) => {}
            (Key::Head, Some(value)) => match self.next_head(Head::unpack(value)?) {
                Err(_) if !self.is_fenced => {}
                head => self.head = Some(head?),
            },
            (Key::Head, None) => self.head = None,
            (Key::Import, value) => self.is_importing = value.is_some(),
        }
        Ok(())
    }

    /// Whether another record of the customer reaches further.
    fn is_behind(&self, id: &str, value: &[u8]) -> bool {
        let through = |value| log::open_rest(value).map_or(0, |(through, _)| through);
        self.rest.get(id).is_some_and(|known| through(known) > through(value))
    }

    /// Whether the store had the log up to there before.
    fn is_known(&self, next: &Head) -> bool {
        self.store.as_ref().is_some_and(|store| next.epoch <= store.epoch)
    }

    /// Epochs go up by one, unless compaction has taken some; one that follows directly begins where the one before ended.
    fn next_head(&self, next: Head) -> Result<Head, LogError> {
        let what = match self.head {
            Some(head) if next.epoch <= head.epoch => "an epoch that is not after the one before it",
            Some(head) if next.epoch == head.epoch + 1 && next.before != head.resume => {
                "an epoch that does not begin where the one before it ended"
            }
            Some(_) | None => return Ok(next),
        };
        Err(LogError::new(Head::KEY, Torn { at: 0, what }))
    }

    /// What of it cannot be, if it was written in transactions as a whole and has been read up to its end.
    pub fn contradiction(&self) -> Option<String> {
        let head = self.head();
        if self.through > head.resume {
            return Some(format!("a customer's record reaches offset {}, the epoch {}", self.through, head.resume));
        }
        let customers = match &self.store {
            None => self.customers(),
            Some(InStore { at_rest, .. }) => (*at_rest)?,
        };
        let is_counted = customers == head.logged;
        (!is_counted).then(|| format!("it has records of {customers} customers, and should have {}", head.logged))
    }

    /// Customers with a record.
    pub fn customers(&self) -> u64 {
        let only_active = self.active.keys().filter(|id| self.rest.get(id).is_none()).count();
        (self.rest.len() + only_active) as u64
    }

    /// Those of them whose record is one of an active customer.
    pub fn active_customers(&self) -> u64 {
        self.active.len() as u64
    }

    pub fn active_ids(&self) -> impl Iterator<Item = &str> {
        self.active.keys().map(String::as_str)
    }

    /// Of keys and values of all records that count.
    pub fn bytes(&self) -> u64 {
        let rest: usize = self.rest.iter().map(|(id, value)| 1 + id.len() + value.len()).sum();
        let active: usize = self.active.iter().map(|(id, value)| 1 + id.len() + value.len()).sum();
        let parts: usize = self.parts.iter().map(|((id, _), value)| 3 + id.len() + value.len()).sum();
        let head = self.head.map_or(0, |head| Head::KEY.len() + head.pack().len());
        (rest + active + parts + head) as u64
    }

    /// The ids of all customers with a record, in order.
    pub fn ids(&self) -> Vec<&str> {
        let at_rest = self.rest.iter().filter_map(|(id, _)| std::str::from_utf8(id).ok());
        let mut ids: Vec<&str> = at_rest.chain(self.active.keys().map(String::as_str)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// What counts of a customer; `None` where it has no record.
    pub fn customer(&self, id: &str) -> Result<Option<Told>, LogError> {
        if let Some((told, _)) = self.active(id)? {
            return Ok(Some(told));
        }
        let Some(value) = self.rest.get(id) else { return Ok(None) };
        let (through, from) = log::open_rest(value).map_err(|torn| LogError::new(&Key::Rest(id).pack(), torn))?;
        Ok(Some(Told { is_active: false, through, packed: from.remainder().to_vec() }))
    }

    /// An active customer put together from its parts, and how many those are.
    pub(super) fn active(&self, id: &str) -> Result<Option<(Told, u16)>, LogError> {
        let Some(value) = self.active.get(id) else { return Ok(None) };
        let torn = |torn| LogError::new(&Key::Active(id).pack(), torn);
        let (through, count, first) = log::open_active(value).map_err(torn)?;
        let mut packed = first.to_vec();
        for part in 1..count {
            let value = self.parts.get(&(id.to_owned(), part)).ok_or(Torn { at: 0, what: "a part of it is missing" });
            let (reaches, bytes) = value.and_then(|value| log::open_part(value)).map_err(torn)?;
            if reaches != through {
                return Err(torn(Torn { at: 0, what: "its parts are of different epochs" }));
            }
            packed.extend_from_slice(bytes);
        }
        Ok(Some((Told { is_active: true, through, packed }, count)))
    }
}
