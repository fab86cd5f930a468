//! The worker's side of the local store: reads the customers that memory does not hold, and has an epoch's records written
//! once it is committed, by a thread of its own. Records of the log → rows and marks.
//!
//! ```text
//!   worker   submits N ── commits N ── hands over N ─────────── learns that N is written: its records may leave the memory
//!   thread                               └─ rows and mark, one batch a partition ─┘        … where does the log end? …
//! ```
//! **The mark may lie behind the rows.** It says below which offset of the log the rows have everything. Where an epoch's
//! records came to lie in the log, the client does not say without a report for every record of every topic. So the thread
//! asks every few seconds where the committed records end. That is the mark once an epoch is committed that was submitted
//! after the question: then the rows have every epoch below it, and nobody else can have written meanwhile, for whoever lost
//! the partition cannot commit. (A worker that was frozen may ask, and be told of its successor's records.) A restore reads
//! the log from the mark on, and what of it the rows had already, it writes as it was: the last record of each key counts,
//! and all that are newer than a row lie behind the mark. At least once nothing proves that, and the mark stays where the
//! last restore left it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::log::{Head, Key, StateRecord};
use super::rest::{Beyond, BeyondError};
use crate::kafka::client::ClientSettings;
use crate::kafka::follow::Lookup;
use crate::store::{Mark, PartitionStore, Store, StoreError};
use crate::telemetry::Clock;
use crate::types::Uptime;

/// Epochs, each of one partition, that wait to be written. Above it the worker waits.
const QUEUE_MAX: usize = 64;
/// How long a full queue is waited for at a time.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(10);
/// How often is asked where the log ends.
const LOOK_MS: u64 = 5_000;
/// How long the broker may take for that; it is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// What was erased leaves the files after so long, and after each start.
const PURGE_AFTER_MS: u64 = 60 * 60_000;

/// Where the worker's epochs go.
#[derive(Debug, Clone)]
pub struct ShelfSettings {
    pub store: Store,
    pub client: ClientSettings,
    pub application: String,
    /// The topic of the state.
    pub log: String,
    /// Only who has the partition can commit.
    pub is_fenced: bool,
}

/// A partition's rows, as a restore leaves them.
#[derive(Debug)]
pub struct Held {
    pub store: PartitionStore,
    pub mark: Mark,
}

impl Held {
    /// What was read is true: the next restore may begin here.
    pub fn trust(&self) -> Result<(), StoreError> {
        self.store.commit(std::iter::empty(), &self.mark)
    }
}

/// What a mark keeps of a store that can be believed, with the head, or without where there is none yet. Before that, nothing.
pub fn trusted(head: &[u8]) -> Vec<u8> {
    [b"w", head].concat()
}

/// What has become of what was handed over.
#[derive(Debug)]
enum Done {
    Wrote {
        partition: i32,
        epoch: u64,
    },
    /// Of all files.
    Bytes(u64),
    Failed(StoreError),
}

#[derive(Debug)]
enum Job {
    Open { partition: i32, store: Arc<PartitionStore>, mark: Mark, epoch: u64 },
    Write { partition: i32, epoch: u64, head: Vec<u8>, rows: Vec<StateRecord> },
    Close { partition: i32 },
}

/// The highest epoch of each partition that was given to the sink.
type Submitted = Arc<Mutex<BTreeMap<i32, u64>>>;

#[derive(Debug)]
pub struct Shelf {
    open: BTreeMap<i32, Arc<PartitionStore>>,
    /// Epochs of each partition that are not written yet.
    waiting: BTreeMap<i32, usize>,
    submitted: Submitted,
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Done>,
    /// Heard, and not looked at yet.
    said: Vec<Done>,
    /// Written, and not told yet.
    written: Vec<(i32, u64)>,
    thread: Option<JoinHandle<()>>,
    /// Of all files, as was seen last.
    bytes: Option<u64>,
    /// Customers looked for in the store, since this was asked.
    reads: u64,
}

impl Shelf {
    pub fn start(settings: ShelfSettings, clock: Clock) -> Result<Self, StoreError> {
        let (jobs, taken) = sync_channel(QUEUE_MAX);
        let (sender, done) = sync_channel(QUEUE_MAX);
        let submitted = Submitted::default();
        let shared = Arc::clone(&submitted);
        let spawned = std::thread::Builder::new().name("local-store".to_owned()).spawn(move || {
            let lookup = settings.is_fenced.then(|| Lookup::new(&settings.client, &settings.application));
            let lookup = lookup.transpose();
            let lookup = lookup.inspect_err(|error| tracing::warn!(%error, "the local store's marks stay behind"));
            let lookup = lookup.ok().flatten();
            let partitions = BTreeMap::new();
            let mut writer =
                Writer { settings, clock, lookup, partitions, submitted: shared, looked: clock.uptime(), purge: None };
            writer.run(&taken, &sender);
        });
        let thread = spawned.map_err(|error| StoreError::Stopped { why: format!("no thread: {error}") })?;
        Ok(Self {
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            submitted,
            jobs: Some(jobs),
            done,
            said: Vec::new(),
            written: Vec::new(),
            thread: Some(thread),
            bytes: None,
            reads: 0,
        })
    }

    /// A restored partition, whose log ended with that epoch.
    pub fn open(&mut self, partition: i32, held: Held, epoch: u64) {
        let Held { store, mark } = held;
        let store = Arc::new(store);
        self.open.insert(partition, Arc::clone(&store));
        self.submits(partition, epoch);
        self.send(Job::Open { partition, store, mark, epoch });
    }

    /// The epoch goes to the sink now.
    pub fn submits(&self, partition: i32, epoch: u64) {
        self.submitted.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, epoch);
    }

    /// What a committed epoch told the log, each partition's in order and closed by its head. Waits where writing lags.
    pub fn write(&mut self, records: Vec<StateRecord>) {
        let mut rows: Vec<StateRecord> = Vec::new();
        for record in records {
            match (Key::parse(&record.key), &record.value) {
                (Ok(Key::Head), Some(value)) => {
                    let (partition, head) = (record.partition, value.to_vec());
                    let (rows, Ok(Head { epoch, .. })) = (std::mem::take(&mut rows), Head::unpack(&head)) else {
                        continue;
                    };
                    if self.open.contains_key(&partition) {
                        *self.waiting.entry(partition).or_default() += 1;
                        self.send(Job::Write { partition, epoch, head, rows });
                    }
                }
                (Ok(_) | Err(_), _) => rows.push(record),
            }
        }
    }

    /// Waits where the queue is full, and takes what the thread says meanwhile: else both might wait for each other.
    fn send(&mut self, mut job: Job) {
        let Some(jobs) = &self.jobs else { return };
        // A thread that has ended has said why.
        while let Err(TrySendError::Full(unsent)) = jobs.try_send(job) {
            job = unsent;
            self.said.extend(self.done.recv_timeout(FULL_QUEUE_WAIT).ok());
        }
    }

    /// What was written since: partitions and epochs.
    pub fn written(&mut self) -> Result<Vec<(i32, u64)>, StoreError> {
        self.look_at_said()?;
        loop {
            match self.done.try_recv() {
                Ok(done) => self.take(done)?,
                Err(TryRecvError::Empty) => return Ok(std::mem::take(&mut self.written)),
                Err(TryRecvError::Disconnected) => {
                    return Err(StoreError::Stopped { why: "its thread has ended".to_owned() });
                }
            }
        }
    }

    fn look_at_said(&mut self) -> Result<(), StoreError> {
        std::mem::take(&mut self.said).into_iter().try_for_each(|done| self.take(done))
    }

    fn take(&mut self, done: Done) -> Result<(), StoreError> {
        match done {
            Done::Wrote { partition, epoch } => {
                if let Some(waiting) = self.waiting.get_mut(&partition) {
                    *waiting = waiting.saturating_sub(1);
                }
                self.written.push((partition, epoch));
            }
            Done::Bytes(bytes) => self.bytes = Some(bytes),
            Done::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Bytes of all files of the store, as was seen last; `None` where nobody has looked yet.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Customers looked for in the store since this was asked last.
    pub fn take_reads(&mut self) -> u64 {
        std::mem::take(&mut self.reads)
    }

    /// Lets go of a partition, once what was handed over of it is written.
    pub fn close(&mut self, partition: i32) -> Result<(), StoreError> {
        if self.open.remove(&partition).is_none() {
            return Ok(());
        }
        self.look_at_said()?;
        while self.waiting.get(&partition).is_some_and(|waiting| *waiting > 0) {
            let done = self.done.recv().map_err(|_| StoreError::Stopped { why: "its thread has ended".to_owned() })?;
            self.take(done)?;
        }
        self.waiting.remove(&partition);
        self.send(Job::Close { partition });
        Ok(())
    }
}

impl Drop for Shelf {
    /// Waits until all is written.
    fn drop(&mut self) {
        self.open.clear();
        self.jobs = None;
        // Nobody else takes what is said from now on.
        while self.done.recv().is_ok() {}
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the local store's thread panicked");
        }
    }
}

impl Beyond for Shelf {
    fn read(&mut self, partition: i32, customers: &[&str]) -> Result<Vec<Option<Vec<u8>>>, BeyondError> {
        let Some(store) = self.open.get(&partition) else {
            return Err(BeyondError { partition, why: "no local store is open".to_owned(), is_damage: false });
        };
        self.reads += customers.len() as u64;
        let keys: Vec<_> = customers.iter().map(|id| Key::Rest(id).pack()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let read = store.read_many(&keys);
        read.map_err(|error| BeyondError { partition, why: error.to_string(), is_damage: error.is_damage() })
    }
}

/// Lives on the thread.
struct Writer {
    settings: ShelfSettings,
    clock: Clock,
    lookup: Option<Lookup>,
    partitions: BTreeMap<i32, Rows>,
    submitted: Submitted,
    looked: Uptime,
    /// Under way; whether it went well.
    purge: Option<(i32, JoinHandle<bool>)>,
}

struct Rows {
    store: Arc<PartitionStore>,
    /// As it is in the store.
    mark: Mark,
    /// The rows have this one.
    epoch: u64,
    /// The log below the mark has no later one.
    marked: u64,
    /// Where the log ended, and the last epoch that was submitted by then.
    seen: Option<(Seen, u64)>,
    purge_at: Option<Uptime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    changelog: i64,
    wall_ms: i64,
}

impl Rows {
    /// The mark moves to what was seen, if a later epoch is committed by now.
    fn adopt(&mut self) {
        if let Some((Seen { changelog, wall_ms }, epoch)) = self.seen.take_if(|(_, epoch)| *epoch < self.epoch) {
            (self.mark.changelog, self.mark.wall_ms, self.marked) = (changelog, wall_ms, epoch);
        }
    }
}

impl Writer {
    fn run(&mut self, jobs: &Receiver<Job>, done: &SyncSender<Done>) {
        let outcome = self.until_closed(jobs, done);
        // A purge that goes on is not waited for, nor is the end of its partition's store: the group waits for this one.
        let outcome = outcome.and_then(|()| self.settings.store.persist());
        if let Err(error) = outcome {
            drop(done.send(Done::Failed(error)));
        }
    }

    fn until_closed(&mut self, jobs: &Receiver<Job>, done: &SyncSender<Done>) -> Result<(), StoreError> {
        loop {
            match jobs.recv_timeout(Duration::from_millis(LOOK_MS)) {
                Ok(Job::Open { partition, store, mark, epoch }) => {
                    // What was erased before it was opened may lie in its files.
                    let purge_at = Some(Uptime(self.clock.uptime().0 + PURGE_AFTER_MS));
                    self.partitions.insert(partition, Rows { store, mark, epoch, marked: epoch, seen: None, purge_at });
                }
                Ok(Job::Write { partition, epoch, head, rows }) => {
                    self.write(partition, epoch, &head, &rows)?;
                    drop(done.send(Done::Wrote { partition, epoch }));
                }
                Ok(Job::Close { partition }) => drop(self.partitions.remove(&partition)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let now = self.clock.uptime();
            if now.0.saturating_sub(self.looked.0) >= LOOK_MS {
                self.looked = now;
                self.look();
                self.purge_what_is_due(now);
                drop(done.try_send(Done::Bytes(self.settings.store.bytes_on_disk())));
            }
        }
    }

    fn write(&mut self, partition: i32, epoch: u64, head: &[u8], records: &[StateRecord]) -> Result<(), StoreError> {
        let Some(rows) = self.partitions.get_mut(&partition) else { return Ok(()) };
        rows.mark.record = trusted(head);
        rows.epoch = epoch;
        rows.adopt();
        let is_erased = |record: &StateRecord| record.value.is_none() && record.key.first() == Some(&b'c');
        if rows.purge_at.is_none() && records.iter().any(is_erased) {
            rows.purge_at = Some(Uptime(self.clock.uptime().0 + PURGE_AFTER_MS));
        }
        rows.store.commit(records.iter().map(|record| (&*record.key, record.value.as_deref())), &rows.mark)
    }

    /// Where the log ends, for the marks. A broker that is away leaves them where they are.
    fn look(&mut self) {
        let wall_ms = self.clock.wall_ms();
        // Those of which something was written since.
        let wanted = self.partitions.iter().filter(|(_, rows)| rows.seen.is_none() && rows.epoch > rows.marked);
        let wanted: Vec<i32> = wanted.map(|(partition, _)| *partition).collect();
        let Some(lookup) = self.lookup.as_ref().filter(|_| !wanted.is_empty()) else { return };
        let ends = match lookup.ends(&[&self.settings.log], &wanted, ANSWER_MAX) {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "where the log of the state ends is not known: the local store's marks stay");
                return;
            }
        };
        // Only now: what lies below those ends was submitted by then.
        let submitted = self.submitted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((_, partition), changelog) in ends {
            if let (Some(rows), Some(epoch)) = (self.partitions.get_mut(&partition), submitted.get(&partition)) {
                rows.seen = Some((Seen { changelog, wall_ms }, *epoch));
            }
        }
    }

    /// One partition at a time, beside the writing. What fails is tried again.
    fn purge_what_is_due(&mut self, now: Uptime) {
        if let Some((partition, purge)) = self.purge.take_if(|(_, purge)| purge.is_finished()) {
            let went_well = purge.join().unwrap_or(false);
            if let Some(rows) = self.partitions.get_mut(&partition).filter(|_| !went_well) {
                rows.purge_at.get_or_insert(Uptime(now.0 + PURGE_AFTER_MS));
            }
        }
        let due = |rows: &Rows| rows.purge_at.is_some_and(|at| at <= now);
        if self.purge.is_some() {
            return;
        }
        let Some((partition, rows)) = self.partitions.iter_mut().find(|(_, rows)| due(rows)) else { return };
        rows.purge_at = None;
        let (partition, store) = (*partition, Arc::clone(&rows.store));
        let spawned = std::thread::Builder::new().name("purge".to_owned()).spawn(move || {
            let purged = store.purge();
            purged
                .inspect_err(|error| {
                    tracing::warn!(partition, %error, "what was erased stays in the local store's files for now");
                })
                .is_ok()
        });
        self.purge = spawned.ok().map(|thread| (partition, thread));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Identity, Store};

    /// What was seen counts only when an epoch is committed that was submitted later.
    #[test]
    fn a_mark_moves_when_nobody_else_can_have_written() {
        let folder = std::env::temp_dir().join(format!("dce-shelf-{}", std::process::id()));
        let identity = Identity { application: "a", instance: "0", cluster: "c", topic: "t" };
        let store = Store::open(&folder, &identity, 1 << 20).unwrap().store;
        let mark = Mark { changelog: 10, wall_ms: 1, record: Vec::new() };
        let seen = Some((Seen { changelog: 90, wall_ms: 2 }, 5));
        let store_of = Arc::new(store.partition(0).unwrap());
        let mut rows = Rows { store: store_of, mark, epoch: 4, marked: 4, seen, purge_at: None };
        for (epoch, changelog) in [(4, 10), (5, 10), (6, 90)] {
            rows.epoch = epoch;
            rows.adopt();
            assert_eq!(rows.mark.changelog, changelog, "epoch {epoch}");
        }
        assert_eq!((rows.marked, rows.seen), (5, None));
        drop((rows, store));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
