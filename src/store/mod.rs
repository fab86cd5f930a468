//! The local store: the records of customers at rest that memory does not hold, on this machine's disk. Takes the rows that an
//! epoch committed with the mark that says how much of the changelog they are, gives them back by key and by prefix.
//!
//! It is a cache of the changelog, never the truth. Whatever is in doubt (another application's, another format, torn,
//! unreadable) is moved aside and begun anew, empty; the changelog fills it again.
//!
//! ```text
//! dir/lock                   held while a process has the store open
//! dir/data/label.json        format and identity
//! dir/data/p7-12/            partition 7: a log-structured merge tree of its own; 12 counts up with each new one
//! dir/data/condemned         why the next opening must not trust it
//! dir/aside-1790000000000/   what was in doubt at that time, at most one
//! ```
//! The folder `dir` itself may be a mount point: nothing outside it is touched.
//!
//! **What a crash costs.** There is no write-ahead log: the changelog is one. A commit is in memory until its partition's
//! buffer is written as a table, whole commits at a time, with the mark in the same table; so rows and mark match after
//! `kill -9` and after power loss alike (tables are synced before they are referred to). What was not written yet is missing
//! and lies in the changelog behind the mark: at most [`BUFFER_BYTES_MAX`] of rows in all, none of them older than [`BUFFER_AGE_MAX`].
//! [`Store::persist`] and a clean end write all of it.
//!
//! What is deliberately absent: transactions over partitions, compression, snapshots, and any decision about age: whoever
//! knows how long the changelog keeps its deletions compares it with [`Mark::wall_ms`] and calls [`PartitionStore::clear`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod folder;
mod row;
mod tree;
mod upkeep;
mod partition;
#[cfg(test)]
mod tests;

pub use partition::PartitionStore;

use folder::{Doubt, Folder};
use upkeep::{Keeper, Trees};

/// Rows in memory that no table holds yet, of all partitions together; a commit waits above it.
pub const BUFFER_BYTES_MAX: u64 = 64 << 20;
/// A partition's rows stay in memory alone for so long at most, give or take the ten seconds of a look around.
pub const BUFFER_AGE_MAX: Duration = Duration::from_secs(300);
/// Longest key. The engine keeps a key's length in 16 bits, and one byte of the key is ours.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize - 1;
/// Largest value: far above any customer's record, far below the engine's own limit.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Whose store it is. Written inside; a store that says otherwise is moved aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    pub application: &'a str,
    pub instance: &'a str,
    pub cluster: &'a str,
    pub topic: &'a str,
}

/// The process's store; clones are the same one. All is written and the lock let go when the last clone and the last
/// [`PartitionStore`] are dropped.
#[derive(Debug, Clone)]
pub struct Store(Arc<Keeper>);

#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    /// Why what was there is not used any more; `None` if it is, or if nothing was there.
    pub moved_aside: Option<String>,
}

/// Up to where a partition's rows are true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// All of the changelog's partition below this offset is in the rows.
    pub changelog: i64,
    /// When it was committed, milliseconds since the Unix epoch by the wall clock.
    pub wall_ms: i64,
    /// The partition's record, opaque here.
    pub record: Vec<u8>,
}

/// Why the store does not do as asked. Nothing of a commit that gives one is in the store, unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Goes away when the other process ends.
    #[error("local store {}: another process has it open", folder.display())]
    Locked { folder: PathBuf },
    #[error("local store: partition {partition} is already in use in this process")]
    InUse { partition: i32 },
    /// The disk or the file system refuses. What is on it stays true.
    #[error("local store: {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// What is on the disk is not what was written. [`PartitionStore::clear`] helps at once; the next [`Store::open`] moves
    /// all aside anyway, since one bad block makes the others doubtful.
    #[error("local store: partition {partition} is damaged: {what}")]
    Damaged { partition: i32, what: String },
    /// The same, where the engine noticed nothing. The key is printable ASCII, other bytes escaped.
    #[error("local store: partition {partition} is damaged: the row of key {key} does not have its checksum")]
    DamagedRow { partition: i32, key: String },
    /// Writing in the background failed, so that nothing more can be taken. Reading goes on; a new opening tries again.
    #[error("local store takes no more: {why}")]
    Stopped { why: String },
    #[error("local store: a key of {len} bytes, limit {limit}")]
    KeyTooLong { len: usize, limit: usize },
    #[error("local store: a value of {len} bytes, limit {limit}")]
    ValueTooLong { len: usize, limit: usize },
}

impl StoreError {
    /// Whether what is on the disk is in doubt, as against a disk that refuses.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::DamagedRow { .. } => true,
            Self::Locked { .. }
            | Self::InUse { .. }
            | Self::Io { .. }
            | Self::Stopped { .. }
            | Self::KeyTooLong { .. }
            | Self::ValueTooLong { .. } => false,
        }
    }
}

impl Store {
    /// Opens the store in the folder, which it makes if it is not there. `cache_bytes` bounds the blocks of tables that are
    /// kept in memory; the buffers of [`BUFFER_BYTES_MAX`] and the tables' filters (about 1.5 bytes a row) come on top of it.
    ///
    /// # Errors
    /// [`StoreError::Locked`], or [`StoreError::Io`] where the disk refuses. Damage is none: it is moved aside.
    pub fn open(dir: &Path, identity: &Identity<'_>, cache_bytes: u64) -> Result<Opened, StoreError> {
        let folder = Folder::lock(dir)?;
        let mut moved_aside = None;
        let found = match folder.doubt(identity)? {
            Some(why) => Err(Doubt::Damaged(why)),
            None => folder.partitions().and_then(|found| Trees::open(found, cache_bytes)),
        };
        let trees = match found {
            Ok(trees) => trees,
            Err(Doubt::Io(error)) => return Err(error),
            Err(Doubt::Damaged(why)) => {
                let aside = folder.move_aside()?;
                tracing::warn!(why, aside = %aside.display(), "local store is moved aside and filled anew");
                moved_aside = Some(why);
                folder.begin(identity)?;
                Trees::empty(cache_bytes)
            }
        };
        let keeper = Keeper::start(trees, folder)?;
        Ok(Opened { store: Self(Arc::new(keeper)), moved_aside })
    }

    /// The partition's rows; empty ones if there are none yet. One [`PartitionStore`] of it exists at a time.
    ///
    /// # Errors
    /// [`StoreError::InUse`], or [`StoreError::Io`] where it cannot be made.
    pub fn partition(&self, partition: i32) -> Result<PartitionStore, StoreError> {
        PartitionStore::take(&self.0, partition)
    }

    /// Writes all that is only in memory, and returns when it is on the disk. Nobody needs to call it: it happens by size,
    /// by age and at the end.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] where the disk refuses.
    pub fn persist(&self) -> Result<(), StoreError> {
        self.0.core.persist(None)
    }

    /// Does not trust what is on the disk any more: the next [`Store::open`] moves it aside.
    ///
    /// # Errors
    /// [`StoreError::Io`] where not even that can be written.
    pub fn condemn(&self, why: &str) -> Result<(), StoreError> {
        self.0.condemn(why)
    }

    /// Bytes of all files in the store's folder, what was moved aside included.
    pub fn bytes_on_disk(&self) -> u64 {
        self.0.bytes_on_disk()
    }
}
