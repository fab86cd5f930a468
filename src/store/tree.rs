//! One partition's tree: all that the engine is asked for. Whole commits go in under one lock, so that no buffer ends in the midst
//! of one; the engine's panics end here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use lsm_tree::compaction::Leveled;
use lsm_tree::{
    AbstractTree as _, AnyTree, Cache, Config, DescriptorTable, InternalValue, SeqNo, SequenceNumberCounter, UserKey,
    UserValue, ValueType,
};
use xxhash_rust::xxh3::xxh3_128;

use super::StoreError;
use super::folder::{Doubt, TreeFolder, io};

/// Open files of tables, of all partitions together; more are closed and opened again.
const FILES_MAX: usize = 256;
const TABLE_BYTES: u64 = 64 << 20;
/// What a row in a buffer takes beside its bytes: the engine's node, two headers of shared bytes.
const ROW_BYTES: u64 = 96;

/// What all trees of a store share.
#[derive(Clone)]
pub(super) struct Shared {
    cache: Arc<Cache>,
    files: Arc<DescriptorTable>,
}

impl Shared {
    pub(super) fn new(cache_bytes: u64) -> Self {
        Self {
            cache: Arc::new(Cache::with_capacity_bytes(cache_bytes)),
            files: Arc::new(DescriptorTable::new(FILES_MAX)),
        }
    }
}

/// Why the engine did not do it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The disk refuses; what is on it stays true.
    Io(std::io::Error),
    Damaged(String),
}

impl From<lsm_tree::Error> for Trouble {
    fn from(error: lsm_tree::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
        match error {
            // Files that are missing or too short were not written so.
            lsm_tree::Error::Io(error) if matches!(error.kind(), InvalidData | NotFound | UnexpectedEof) => {
                Self::Damaged(error.to_string())
            }
            lsm_tree::Error::Io(error) => Self::Io(error),
            // What the engine has beside that speaks of bytes that cannot be.
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl Trouble {
    pub(super) fn into_error(self, doing: &'static str, tree: &TreeFolder) -> StoreError {
        match self {
            Self::Io(source) => StoreError::Io { doing, path: tree.path.clone(), source },
            Self::Damaged(what) => StoreError::Damaged { partition: tree.partition, what: format!("{doing}: {what}") },
        }
    }
}

/// A row to write: the stored key, and the stored value or that it goes.
pub(super) type Entry = (UserKey, Option<UserValue>);

pub(super) fn bytes_of(entries: &[Entry]) -> u64 {
    let bytes = |(key, value): &Entry| key.len() + value.as_ref().map_or(0, |value| value.len());
    entries.iter().map(|entry| bytes(entry) as u64 + ROW_BYTES).sum()
}

pub(super) struct Tree {
    pub(super) folder: TreeFolder,
    tree: lsm_tree::Tree,
    seqno: SequenceNumberCounter,
    /// All below it is in the tree: what a scan looks at.
    visible: SequenceNumberCounter,
    /// Held to write while a commit goes in and while its buffer is sealed, so that a buffer has whole commits.
    whole: RwLock<()>,
    /// Its folder is deleted: what still works on it may fail.
    gone: AtomicBool,
    /// The engine panicked in it, maybe with its locks held.
    broken: AtomicBool,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Tree {
    /// Opens it, or makes it where nothing is.
    pub(super) fn open(folder: TreeFolder, shared: &Shared) -> Result<Self, Doubt> {
        if let Some(why) = manifest_doubt(&folder.path)? {
            return Err(Doubt::Damaged(format!("partition {}: {why}", folder.partition)));
        }
        let (seqno, visible) = (SequenceNumberCounter::default(), SequenceNumberCounter::default());
        let config = Config::new(&folder.path, seqno.clone(), visible.clone())
            .use_cache(Arc::clone(&shared.cache))
            .use_descriptor_table(Some(Arc::clone(&shared.files)));
        let opened = guarded(|| config.open()).map_err(|trouble| match trouble.into_error("opening", &folder) {
            StoreError::Damaged { partition, what } => Doubt::Damaged(format!("partition {partition}: {what}")),
            other => Doubt::Io(other),
        })?;
        let AnyTree::Standard(tree) = opened else {
            return Err(Doubt::Damaged(format!("partition {}: it keeps values apart", folder.partition)));
        };
        let next = tree.get_highest_seqno().map_or(0, |highest| highest + 1);
        seqno.fetch_max(next);
        visible.fetch_max(next);
        let (gone, broken) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { folder, tree, seqno, visible, whole: RwLock::new(()), gone, broken })
    }

    /// Runs the engine; after a panic of it, it is not run again.
    fn run<T>(&self, work: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, Trouble> {
        if self.broken.load(Ordering::Acquire) {
            return Err(Trouble::Damaged("the engine failed in it before".to_owned()));
        }
        let done = guarded(work);
        if let Err(Trouble::Damaged(why)) = &done
            && why.starts_with(PANIC)
        {
            self.broken.store(true, Ordering::Release);
        }
        done
    }

    /// All of them, or none; the last of several with the same key counts.
    pub(super) fn write(&self, entries: Vec<Entry>) -> Result<(), Trouble> {
        self.run(|| {
            let _whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
            let seqno = self.seqno.next();
            let buffer = self.tree.active_memtable();
            for (key, value) in entries {
                buffer.insert(match value {
                    Some(value) => InternalValue::from_components(key, value, seqno, ValueType::Value),
                    None => InternalValue::new_tombstone(key, seqno),
                });
            }
            self.visible.fetch_max(seqno + 1);
            Ok(())
        })
    }

    /// The stored values of the stored keys, as they are after one and the same commit.
    pub(super) fn read<K: AsRef<[u8]>>(
        &self,
        keys: impl Iterator<Item = K>,
    ) -> Result<Vec<Option<UserValue>>, Trouble> {
        self.run(|| {
            let _whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
            let look_up = |key: K| match key.as_ref() {
                // The engine panics at a key that it cannot have.
                key if key.len() > usize::from(u16::MAX) => Ok(None),
                key => self.tree.get(key, SeqNo::MAX),
            };
            keys.map(look_up).collect()
        })
    }

    /// The stored rows from `prefix` on, in the order of their keys, as they are now.
    pub(super) fn rows(&self, prefix: &[u8]) -> Result<Rows<'_>, Trouble> {
        self.run(|| {
            let _whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
            // The version by hand: asked for by number, one that is dropped in this moment would be a panic.
            let version = self.tree.get_version_history_lock().latest_version();
            let range = lsm_tree::util::prefix_to_range(prefix);
            let found = lsm_tree::Tree::create_internal_range(version, &range, self.visible.get(), None);
            Ok(Rows { tree: self, found: Box::new(found) })
        })
    }

    /// Closes the buffer, so that it can be written while commits go on into the next one.
    pub(super) fn seal(&self) -> Result<(), Trouble> {
        self.run(|| {
            let _whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
            self.tree.rotate_memtable();
            Ok(())
        })
    }

    /// Writes what is sealed, and syncs it.
    pub(super) fn flush(&self) -> Result<(), Trouble> {
        self.run(|| {
            let lock = self.tree.get_flush_lock();
            self.tree.flush(&lock, self.seqno.get()).map(|_| ())
        })
    }

    /// One step of merging tables; whether there was one to do.
    pub(super) fn compact(&self) -> Result<bool, Trouble> {
        self.run(|| {
            let before = self.tree.current_version().id();
            let leveled = Leveled::default().with_table_target_size(TABLE_BYTES);
            self.tree.compact(Arc::new(leveled), self.seqno.get())?;
            Ok(self.tree.current_version().id() != before)
        })
    }

    /// Rewrites the tables without what was deleted, where anything was. Needs all of it flushed.
    pub(super) fn purge(&self) -> Result<(), Trouble> {
        self.run(|| {
            if self.tree.tombstone_count() > 0 {
                self.tree.major_compact(TABLE_BYTES, self.seqno.get())?;
            }
            // The tables before it go when no version lists them.
            self.tree.get_version_history_lock().maintenance(&self.folder.path, self.seqno.get())
        })
    }

    /// Sorted runs that each reading looks into, before merging has tidied them up.
    pub(super) fn loose_runs(&self) -> Result<usize, Trouble> {
        self.run(|| Ok(self.tree.l0_run_count()))
    }

    /// Deletes it; what still goes on in it comes to nothing.
    pub(super) fn remove(&self) -> Result<(), StoreError> {
        self.gone.store(true, Ordering::Release);
        // If it cannot be taken out it is still there; if it was and could not be deleted, the next opening does.
        self.folder.remove().inspect_err(|_| self.gone.store(!self.folder.path.exists(), Ordering::Release))
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// Stored keys and values.
pub(super) struct Rows<'a> {
    tree: &'a Tree,
    found: Box<dyn Iterator<Item = lsm_tree::Result<InternalValue>> + Send>,
}

impl Iterator for Rows<'_> {
    type Item = Result<(UserKey, UserValue), Trouble>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.tree.run(|| self.found.next().transpose()).transpose()?;
        Some(found.map(|row| (row.key.user_key, row.value)))
    }
}

/// What speaks against the list of tables before the engine, which does not check it, reads it.
fn manifest_doubt(folder: &Path) -> Result<Option<String>, StoreError> {
    let current = folder.join("current");
    let pointer = match std::fs::read(&current) {
        Ok(pointer) => pointer,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let tables = std::fs::read_dir(folder.join("tables")).into_iter().flatten().count();
            return Ok((tables > 0).then(|| "it has tables and no list of them".to_owned()));
        }
        Err(error) => return Err(io("reading", &current)(error)),
    };
    let parts = pointer.split_first_chunk::<8>().and_then(|(id, rest)| Some((id, rest.split_first_chunk::<16>()?.0)));
    let Some((id, sum)) = parts else {
        return Ok(Some("the name of its list of tables is torn".to_owned()));
    };
    let list = folder.join(format!("v{}", u64::from_le_bytes(*id)));
    match std::fs::read(&list) {
        Ok(bytes) if xxh3_128(&bytes) == u128::from_le_bytes(*sum) => Ok(None),
        Ok(_) => Ok(Some("its list of tables does not have its checksum".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Some("its list of tables is missing".to_owned()))
        }
        Err(error) => Err(io("reading", &list)(error)),
    }
}

/// How [`guarded`] begins what it says of a panic.
const PANIC: &str = "the engine panicked: ";

fn guarded<T>(work: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, Trouble> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(Trouble::from),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            Err(Trouble::Damaged(format!("{PANIC}{text}")))
        }
    }
}
