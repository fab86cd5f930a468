//! What one worker holds of its partitions: open sessions and vectors of active customers, the records of those at rest,
//! and what the log of the state has of them. At the end of an epoch: what the log must be told. `[pure]`

use std::collections::BTreeMap;

use crate::config::SessionRules;
use crate::pipeline::customer::Customers;
use crate::pipeline::log::{self, Head, Key, LogError, StateRecord};
use crate::pipeline::logged::{Logged, Told};
use crate::pipeline::rest::{Beyond, BeyondError, Rest};
use crate::pipeline::session::Partition;
use crate::types::{CustomerId, CustomerRef, Moment};
use crate::wire::packed::{Packer, Torn, Unpacker};

/// Customers that have been dirty for long are looked for again after so many input records of a partition, ...
const LOOK_RECORDS: i64 = 10_000;
/// ... or so many milliseconds.
const LOOK_MS: i64 = 10_000;
/// So many at a time.
const DUE_MAX: usize = 5_000;

#[derive(Debug, Default)]
pub struct Partitions {
    pub(super) sessions: BTreeMap<i32, Partition>,
    pub(super) customers: BTreeMap<i32, Customers>,
    rest: BTreeMap<i32, Rest>,
    logs: BTreeMap<i32, Log>,
    /// Of the records that a local store has, in bytes.
    cache_max: usize,
    /// The record of one who wakes.
    waking: Vec<u8>,
}

/// What the log has of a partition.
#[derive(Debug)]
struct Log {
    head: Head,
    /// Where the input must be read again from, when it was looked last.
    redo: (i64, Moment),
    looked: (i64, i64),
    /// What is run now was run before, and is not told again.
    redoing: bool,
}

/// Whether the state of a customer is there for an input record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is, or the customer is new.
    Ready,
    /// The record is in it already.
    Past,
}

impl Partitions {
    /// Of partitions whose customers at rest a local store holds, memory keeps about so many bytes in all.
    pub fn with_cache(bytes: usize) -> Self {
        Self { cache_max: bytes, ..Self::default() }
    }

    /// Begins a partition from nothing, without a log; one that is there already is dropped.
    pub fn open(&mut self, partition: i32, rules: &SessionRules) {
        self.close(partition);
        self.sessions.insert(partition, Partition::new(rules.clone()));
        self.customers.insert(partition, Customers::default());
        self.rest.insert(partition, Rest::default());
    }

    /// Begins a partition from what its log says: from nothing where it is empty.
    pub fn restore(
        &mut self,
        partition: i32,
        rules: &SessionRules,
        state_len: usize,
        mut logged: Logged,
    ) -> Result<(), LogError> {
        self.open(partition, rules);
        let head = logged.head();
        let log = Log { head, redo: (head.redo_from, head.redo_stream_time), looked: (head.resume, 0), redoing: true };
        self.logs.insert(partition, log);
        self.sessions.entry(partition).and_modify(|sessions| sessions.resume(head.redo_stream_time, head.logged));
        let active: Vec<String> = logged.active_ids().map(str::to_owned).collect();
        for id in active {
            let torn = |torn| LogError::new(&Key::Active(&id).pack(), torn);
            let Some((Told { through, packed, .. }, count)) = logged.active(&id)? else { continue };
            logged.rest.remove(&id);
            let name = CustomerId::parse(&id).ok_or_else(|| torn(Torn { at: 0, what: "no customer's name" }))?;
            self.wake(partition, &name, through, count, Unpacker::new(&packed), state_len).map_err(torn)?;
        }
        self.rest.insert(partition, logged.rest);
        Ok(())
    }

    /// What was lost is done again: from here on the log is told.
    pub fn redone(&mut self, partition: i32) {
        if let Some(log) = self.logs.get_mut(&partition) {
            log.redoing = false;
        }
    }

    pub fn close(&mut self, partition: i32) {
        self.sessions.remove(&partition);
        self.customers.remove(&partition);
        self.rest.remove(&partition);
        self.logs.remove(&partition);
    }

    pub fn sessions(&self) -> &BTreeMap<i32, Partition> {
        &self.sessions
    }

    pub(super) fn sessions_mut(&mut self, partition: i32) -> Option<&mut Partition> {
        self.sessions.get_mut(&partition)
    }

    /// What the log says of a partition; `None` where none is written.
    pub fn head(&self, partition: i32) -> Option<Head> {
        self.logs.get(&partition).map(|log| log.head)
    }

    /// Customers at rest, wherever they are, and about what they take of memory.
    pub fn rest(&self) -> (u64, usize) {
        let at_rest = self.sessions.values().map(|s| s.customers().saturating_sub(s.active() as u64)).sum();
        (at_rest, self.rest.values().map(Rest::bytes).sum())
    }

    /// Customers who are about to wake, if they are at rest: it is quicker where it is known before.
    pub(super) fn approach<'c>(&self, customers: impl Iterator<Item = (i32, CustomerRef<'c>)>) {
        Rest::approach(
            customers.filter_map(|(partition, customer)| Some((self.rest.get(&partition)?, customer.as_str()))),
        );
    }

    /// Has the customers' records in memory before their input comes, where they are beyond it.
    pub(super) fn bring<'c>(
        &mut self,
        beyond: &mut dyn Beyond,
        customers: impl Iterator<Item = (i32, CustomerRef<'c>)>,
    ) -> Result<(), BeyondError> {
        if self.cache_max == 0 {
            return Ok(());
        }
        let mut wanted: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
        for (partition, customer) in customers {
            let (Some(rest), Some(sessions)) = (self.rest.get(&partition), self.sessions.get(&partition)) else {
                continue;
            };
            // What was erased in this epoch is still there beyond.
            if !rest.knows(customer.as_str()) && sessions.stands(customer).is_none() && !sessions.is_erased(customer) {
                wanted.entry(partition).or_default().push(customer.as_str());
            }
        }
        for (partition, mut customers) in wanted {
            customers.sort_unstable();
            customers.dedup();
            let records = beyond.read(partition, &customers)?;
            let rest = self.rest.entry(partition).or_default();
            for (customer, record) in customers.into_iter().zip(records) {
                if let Some(record) = record {
                    rest.offer(customer, &record);
                }
            }
        }
        Ok(())
    }

    /// The local store has what the partition's epochs up to that one gave.
    pub fn is_beyond(&mut self, partition: i32, epoch: u64) {
        if let Some(rest) = self.rest.get_mut(&partition) {
            rest.is_beyond(epoch);
        }
    }

    /// Keeps the cache within its bounds.
    pub(super) fn trim(&mut self) {
        if self.rest.values().map(Rest::young_bytes).sum::<usize>() > self.cache_max / 2 {
            self.rest.values_mut().for_each(Rest::age);
        }
    }

    /// Each customer's state with all of its sessions folded, as bits; without those of whom nothing was folded.
    pub fn states(&self, partition: i32, state_len: usize) -> BTreeMap<String, Vec<f32>> {
        let mut states = BTreeMap::new();
        if let (Some(sessions), Some(customers)) = (self.sessions.get(&partition), self.customers.get(&partition)) {
            for (name, slot, _) in sessions.iter() {
                states.extend(customers.state(slot).map(|state| (name.to_string(), state.to_vec())));
            }
        }
        let mut aside = Self::default();
        for (id, record) in self.rest.get(&partition).into_iter().flat_map(Rest::iter) {
            let Some(name) = std::str::from_utf8(id).ok().and_then(CustomerId::parse) else { continue };
            let Ok((through, from)) = log::open_rest(record) else { continue };
            if let Some(rules) = self.sessions.get(&partition).map(Partition::rules) {
                aside.open(partition, rules);
            }
            if aside.wake(partition, &name, through, 0, from, state_len).is_ok() {
                states.extend(aside.states(partition, state_len));
            }
        }
        states
    }

    /// Has the customer's state in its place for an input record.
    pub(super) fn stand(
        &mut self,
        partition: i32,
        customer: CustomerRef<'_>,
        offset: i64,
        state_len: usize,
    ) -> Result<Standing, LogError> {
        let is_logged = self.logs.contains_key(&partition);
        let past = |through: i64| if is_logged && offset < through { Standing::Past } else { Standing::Ready };
        if let Some(sessions) = self.sessions.get(&partition) {
            if let Some(through) = sessions.stands(customer) {
                return Ok(past(through));
            }
            // What memory has of it is yet to go.
            if sessions.is_erased(customer) {
                return Ok(Standing::Ready);
            }
        }
        let Some(rest) = self.rest.get_mut(&partition) else { return Ok(Standing::Ready) };
        let Some(record) = rest.get(customer.as_str()) else { return Ok(Standing::Ready) };
        let torn = |torn| LogError::new(&Key::Rest(customer.as_str()).pack(), torn);
        let (through, _) = log::open_rest(record).map_err(torn)?;
        if past(through) == Standing::Past {
            return Ok(Standing::Past);
        }
        let mut waking = std::mem::take(&mut self.waking);
        waking.clear();
        waking.extend_from_slice(record);
        rest.remove(customer.as_str());
        let woken = log::open_rest(&waking)
            .and_then(|(through, from)| self.wake(partition, &customer.into(), through, 0, from, state_len));
        self.waking = waking;
        woken.map_err(torn)?;
        Ok(Standing::Ready)
    }

    fn wake(
        &mut self,
        partition: i32,
        customer: &CustomerId,
        through: i64,
        active_parts: u16,
        mut from: Unpacker<'_>,
        state_len: usize,
    ) -> Result<(), Torn> {
        let Some(sessions) = self.sessions.get_mut(&partition) else { return Ok(()) };
        let (slot, folded) = sessions.wake(customer, through, active_parts, &mut from)?;
        self.customers.entry(partition).or_default().wake(slot, folded, state_len, &mut from)?;
        from.end()
    }

    /// At the end of an epoch that read the partition up to `resume`: customers at rest leave the active ones. Gives what
    /// the log must be told, nothing without one. `all`: of every customer.
    pub fn settle(&mut self, partition: i32, resume: i64, clock: i64, all: bool) -> Vec<StateRecord> {
        let mut told = Vec::new();
        let Some(sessions) = self.sessions.get_mut(&partition) else { return told };
        if self.logs.get(&partition).is_some_and(|log| log.redoing) {
            return told;
        }
        let epoch = self.logs.get(&partition).map_or(0, |log| log.head.epoch + 1);
        let customers = self.customers.entry(partition).or_default();
        let rest = self.rest.entry(partition).or_default();
        let mut tell = |key: Key<'_>, value: Option<Vec<u8>>| {
            told.push(StateRecord { partition, key: key.pack(), value: value.map(Vec::into_boxed_slice) });
        };
        for erased in sessions.take_erased() {
            let id = erased.customer.as_str();
            rest.erase(id, epoch);
            tell(Key::Rest(id), None);
            forget_active(id, 0, erased.active_parts, &mut tell);
        }
        let mut buffer = Vec::new();
        for name in sessions.take_resting() {
            let id = name.as_str();
            let through = sessions.written_through(&name, resume);
            let mut into = log::begin_rest_over(std::mem::take(&mut buffer), through);
            let Some(written) = sessions.pack(&name, &mut into) else { continue };
            customers.pack(written.slot, &mut into);
            let record = into.into_bytes();
            // Whoever has been active has to be found by who is looked for as one at rest.
            if written.is_dirty || written.active_parts > 0 {
                rest.put(id, &record, epoch);
                forget_active(id, 0, written.active_parts, &mut tell);
                // As long as it is, for many may wait here.
                tell(Key::Rest(id), Some(record.clone()));
                sessions.is_written(&name, through, 0);
            } else {
                rest.offer(id, &record);
            }
            sessions.leave(&name);
            customers.leave(written.slot);
            buffer = record;
        }
        if let Some(log) = self.logs.get_mut(&partition) {
            // Looking costs a little an active customer, so each must have had a record since.
            let records = LOOK_RECORDS.max(i64::try_from(sessions.active()).unwrap_or(i64::MAX));
            let is_time = resume - log.looked.0 >= records || clock - log.looked.1 >= LOOK_MS;
            if all || is_time {
                log.looked = (resume, clock);
                for name in sessions.due(resume, clock, all).into_iter().take(DUE_MAX) {
                    let mut into = Packer::default();
                    let Some(written) = sessions.pack(&name, &mut into) else { continue };
                    customers.pack(written.slot, &mut into);
                    let values = log::cut_active(resume, &into.into_bytes());
                    let parts = u16::try_from(values.len()).unwrap_or(u16::MAX);
                    for (part, value) in (0..parts).zip(values) {
                        let id = name.as_str();
                        tell(if part == 0 { Key::Active(id) } else { Key::Part(part, id) }, Some(value));
                    }
                    forget_active(name.as_str(), parts, written.active_parts, &mut tell);
                    sessions.is_written(&name, resume, parts);
                }
                log.redo = sessions.redo_from(resume);
            }
            // Nothing was read beyond what the log knows, or it stands where it stood: it need not be said again.
            let gained = log.redo.0 - log.head.redo_from;
            let is_news = !told.is_empty() || gained >= LOOK_RECORDS || (all && gained > 0);
            if is_news {
                let (redo_from, redo_stream_time) = log.redo;
                let (epoch, before, logged) = (log.head.epoch + 1, log.head.resume, sessions.logged());
                log.head = Head { epoch, before, resume, redo_from, redo_stream_time, logged };
                told.push(StateRecord { partition, key: Key::Head.pack(), value: Some(log.head.pack().into()) });
            }
        } else {
            told.clear();
        }
        sessions.epoch_done();
        told
    }
}

/// Deletes the records of an active customer from the `from`-th part on.
fn forget_active(id: &str, from: u16, parts: u16, tell: &mut impl FnMut(Key<'_>, Option<Vec<u8>>)) {
    for part in from..parts {
        tell(if part == 0 { Key::Active(id) } else { Key::Part(part, id) }, None);
    }
}
