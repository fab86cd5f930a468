//! What goes on beside the commits: a few threads write sealed buffers, one merges tables. They decide nothing about contents; they bound
//! memory ([`BUFFER_BYTES_MAX`]), age ([`BUFFER_AGE_MAX`]) and the tables that a reading looks into.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::folder::{Doubt, Folder, TreeFolder};
use super::tree::{Shared, Tree, Trouble};
use super::{BUFFER_AGE_MAX, BUFFER_BYTES_MAX, StoreError};
use crate::telemetry::Clock;
use crate::types::Uptime;

/// Buffers that commits still go into, of all partitions together: above it the largest is sealed. The other half is for
/// those that are being written.
const OPEN_BYTES_MAX: u64 = BUFFER_BYTES_MAX / 2;
/// A commit waits for merging above it. Merging begins at 4.
const LOOSE_RUNS_MAX: usize = 24;
/// A table is written in a moment and synced in many: with one thread, a hundred partitions wait for the disk one by one.
const WRITERS: usize = 4;
/// How often a thread without work looks for buffers that are old.
const LOOK_AROUND: Duration = Duration::from_secs(10);

/// The trees, as they are found or made.
pub(super) struct Trees {
    shared: Shared,
    slots: BTreeMap<i32, Slot>,
    /// Of the next tree.
    generation: u64,
}

impl Trees {
    pub(super) fn open(found: Vec<TreeFolder>, cache_bytes: u64) -> Result<Self, Doubt> {
        let mut trees = Self::empty(cache_bytes);
        for folder in found {
            trees.generation = trees.generation.max(folder.generation + 1);
            let tree = Tree::open(folder, &trees.shared)?;
            trees.slots.insert(tree.folder.partition, Slot::new(tree));
        }
        Ok(trees)
    }

    pub(super) fn empty(cache_bytes: u64) -> Self {
        Self { shared: Shared::new(cache_bytes), slots: BTreeMap::new(), generation: 0 }
    }
}

struct Slot {
    tree: Arc<Tree>,
    in_use: bool,
    /// Bytes in the buffer that commits go into.
    open_bytes: u64,
    dirty_since: Option<Uptime>,
}

impl Slot {
    fn new(tree: Tree) -> Self {
        Self { tree: Arc::new(tree), in_use: false, open_bytes: 0, dirty_since: None }
    }
}

struct Sealed {
    number: u64,
    tree: Arc<Tree>,
    bytes: u64,
}

struct State {
    trees: Trees,
    /// In memory, open and sealed.
    buffered: u64,
    sealed: VecDeque<Sealed>,
    /// Of the next one sealed.
    number: u64,
    /// Sealed, and neither written nor given up.
    unwritten: BTreeSet<u64>,
    to_merge: VecDeque<Arc<Tree>>,
    merging: Option<i32>,
    ending: bool,
    /// Why nothing more is taken.
    stopped: Option<String>,
}

/// What the store's handles and its threads share.
pub(super) struct Core {
    folder: Folder,
    clock: Clock,
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, LOOK_AROUND).unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn take(&self, partition: i32) -> Result<Arc<Tree>, StoreError> {
        let mut state = self.lock();
        let trees = &mut state.trees;
        if !trees.slots.contains_key(&partition) {
            let folder = TreeFolder::new(&self.folder.data(), partition, trees.generation);
            trees.generation += 1;
            let tree = Tree::open(folder, &trees.shared).map_err(|doubt| match doubt {
                Doubt::Io(error) => error,
                Doubt::Damaged(what) => StoreError::Damaged { partition, what },
            })?;
            trees.slots.insert(partition, Slot::new(tree));
            self.folder.sync_data()?;
        }
        let slot = trees.slots.get_mut(&partition).expect("just looked at");
        if slot.in_use {
            return Err(StoreError::InUse { partition });
        }
        slot.in_use = true;
        Ok(Arc::clone(&slot.tree))
    }

    pub(super) fn release(&self, tree: &Arc<Tree>) {
        let mut state = self.lock();
        let slot = state.trees.slots.get_mut(&tree.folder.partition).filter(|slot| Arc::ptr_eq(&slot.tree, tree));
        if let Some(slot) = slot {
            slot.in_use = false;
        }
    }

    /// Waits until there is room for a commit, and takes it.
    pub(super) fn admit(&self, tree: &Arc<Tree>, bytes: u64) -> Result<(), StoreError> {
        let partition = tree.folder.partition;
        let mut state = self.lock();
        loop {
            if let Some(why) = &state.stopped {
                return Err(StoreError::Stopped { why: why.clone() });
            }
            let is_full = state.buffered > BUFFER_BYTES_MAX && !state.unwritten.is_empty();
            let merges =
                state.merging == Some(partition) || state.to_merge.iter().any(|other| Arc::ptr_eq(other, tree));
            let is_loose = merges && tree.loose_runs().is_ok_and(|runs| runs > LOOSE_RUNS_MAX);
            if !is_full && !is_loose {
                break;
            }
            state = self.wait(state);
        }
        state.buffered += bytes;
        if let Some(slot) = state.trees.slots.get_mut(&partition) {
            slot.open_bytes += bytes;
        }
        Ok(())
    }

    /// After a commit is in its tree.
    pub(super) fn committed(&self, partition: i32) {
        let mut state = self.lock();
        let now = self.clock.uptime();
        if let Some(slot) = state.trees.slots.get_mut(&partition) {
            slot.dirty_since.get_or_insert(now);
        }
        while state.trees.slots.values().map(|slot| slot.open_bytes).sum::<u64>() > OPEN_BYTES_MAX {
            let largest = state.trees.slots.iter().max_by_key(|(_, slot)| slot.open_bytes);
            let Some(partition) = largest.map(|(partition, _)| *partition) else { return };
            self.seal(&mut state, partition);
        }
    }

    fn seal(&self, state: &mut State, partition: i32) {
        let Some(slot) = state.trees.slots.get_mut(&partition) else { return };
        let bytes = std::mem::take(&mut slot.open_bytes);
        slot.dirty_since = None;
        let tree = Arc::clone(&slot.tree);
        match tree.seal() {
            Ok(()) => {
                let number = state.number;
                state.number += 1;
                state.sealed.push_back(Sealed { number, tree, bytes });
                state.unwritten.insert(number);
            }
            Err(trouble) => {
                state.buffered -= bytes;
                self.stop(state, trouble, "sealing a buffer of", &tree);
            }
        }
        self.changed.notify_all();
    }

    /// Nothing more is taken from here on, and what is damaged is not trusted again.
    fn stop(&self, state: &mut State, trouble: Trouble, doing: &'static str, tree: &Tree) {
        if tree.is_gone() || state.stopped.is_some() {
            return;
        }
        let is_damaged = matches!(trouble, Trouble::Damaged(_));
        let why = trouble.into_error(doing, &tree.folder).to_string();
        tracing::error!(why, "local store takes no more");
        if is_damaged {
            self.distrust(&why);
        }
        state.stopped = Some(why);
    }

    /// Passes on what a reading met; if it is damage, the next opening must not trust the store. Keys are customers, so
    /// none is written down.
    pub(super) fn report(&self, error: StoreError) -> StoreError {
        let why = match &error {
            StoreError::DamagedRow { partition, .. } => format!("partition {partition} has a row without its checksum"),
            error if error.is_damage() => error.to_string(),
            _ => return error,
        };
        self.distrust(&why);
        error
    }

    fn distrust(&self, why: &str) {
        if let Err(error) = self.folder.condemn(why) {
            tracing::error!(%error, "local store cannot be condemned: delete its folder before the next start");
        }
    }

    /// Seals and waits until it is written: one partition, or all.
    pub(super) fn persist(&self, partition: Option<i32>) -> Result<(), StoreError> {
        let mut state = self.lock();
        let dirty = state.trees.slots.iter().filter(|(_, slot)| slot.dirty_since.is_some());
        let dirty: Vec<i32> =
            dirty.map(|(dirty, _)| *dirty).filter(|dirty| partition.is_none_or(|one| one == *dirty)).collect();
        for partition in dirty {
            self.seal(&mut state, partition);
        }
        let target = state.number;
        loop {
            if let Some(why) = &state.stopped {
                return Err(StoreError::Stopped { why: why.clone() });
            }
            if state.unwritten.first().is_none_or(|first| *first >= target) {
                return Ok(());
            }
            state = self.wait(state);
        }
    }

    pub(super) fn clear(&self, tree: &Arc<Tree>) -> Result<(), StoreError> {
        let partition = tree.folder.partition;
        tree.remove()?;
        let mut state = self.lock();
        if let Some(slot) = state.trees.slots.remove(&partition) {
            state.buffered -= slot.open_bytes;
        }
        Ok(())
    }

    pub(super) fn remove_asides(&self) -> Result<(), StoreError> {
        self.folder.remove_asides()
    }

    /// Some threads: buffers become tables.
    fn write_buffers(&self) {
        let mut state = self.lock();
        loop {
            if let Some(Sealed { number, tree, bytes }) = state.sealed.pop_front() {
                drop(state);
                let written = if tree.is_gone() { Ok(()) } else { tree.flush() };
                state = self.lock();
                state.buffered -= bytes;
                state.unwritten.remove(&number);
                match written {
                    Ok(()) if state.to_merge.iter().any(|other| Arc::ptr_eq(other, &tree)) => {}
                    Ok(()) => state.to_merge.push_back(tree),
                    Err(trouble) => self.stop(&mut state, trouble, "writing a buffer of", &tree),
                }
                self.changed.notify_all();
                continue;
            }
            if state.ending {
                return;
            }
            let now = self.clock.uptime();
            let age = |slot: &Slot| slot.dirty_since.map(|since| Duration::from_millis(now.0.saturating_sub(since.0)));
            let old = state.trees.slots.iter().find(|(_, slot)| age(slot).is_some_and(|age| age >= BUFFER_AGE_MAX));
            match old.map(|(partition, _)| *partition) {
                Some(partition) if state.stopped.is_none() => self.seal(&mut state, partition),
                Some(_) | None => state = self.wait(state),
            }
        }
    }

    /// One thread: many tables become few.
    fn merge_tables(&self) {
        let mut state = self.lock();
        loop {
            if state.ending || state.stopped.is_some() {
                return;
            }
            let Some(tree) = state.to_merge.pop_front() else {
                state = self.wait(state);
                continue;
            };
            state.merging = Some(tree.folder.partition);
            drop(state);
            let merged = if tree.is_gone() { Ok(false) } else { tree.compact() };
            state = self.lock();
            state.merging = None;
            match merged {
                Ok(true) => state.to_merge.push_back(tree),
                Ok(false) => {}
                Err(trouble) => self.stop(&mut state, trouble, "merging tables of", &tree),
            }
            self.changed.notify_all();
        }
    }
}

/// The core with its threads, which end with it.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start(trees: Trees, folder: Folder) -> Result<Self, StoreError> {
        let state = State {
            // What an end in the midst left to merge.
            to_merge: trees.slots.values().map(|slot| Arc::clone(&slot.tree)).collect(),
            trees,
            buffered: 0,
            sealed: VecDeque::new(),
            number: 0,
            unwritten: BTreeSet::new(),
            merging: None,
            ending: false,
            stopped: None,
        };
        let core = Core { folder, clock: Clock::start(), state: Mutex::new(state), changed: Condvar::new() };
        let mut keeper = Self { core: Arc::new(core), threads: Vec::new() };
        for _ in 0..WRITERS {
            keeper.spawn("store-write", Core::write_buffers)?;
        }
        keeper.spawn("store-merge", Core::merge_tables)?;
        Ok(keeper)
    }

    fn spawn(&mut self, name: &str, work: fn(&Core)) -> Result<(), StoreError> {
        let core = Arc::clone(&self.core);
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&core));
        let path = self.core.folder.data();
        self.threads.push(spawned.map_err(|source| StoreError::Io { doing: "starting a thread for", path, source })?);
        Ok(())
    }

    pub(super) fn condemn(&self, why: &str) -> Result<(), StoreError> {
        self.core.folder.condemn(why)
    }

    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.core.folder.bytes()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Without its threads nothing would be written, and nobody could have committed.
        if self.threads.len() > WRITERS
            && let Err(error) = self.core.persist(None)
        {
            tracing::warn!(%error, "local store: what was not written yet comes from the changelog");
        }
        self.core.lock().ending = true;
        self.core.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the local store panicked");
            }
        }
    }
}
