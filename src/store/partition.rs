//! One partition's rows, for the worker that owns it.

use std::sync::Arc;

use super::row::{self, MARK_KEY};
use super::tree::{Entry, Tree, Trouble, bytes_of};
use super::upkeep::Keeper;
use super::{KEY_BYTES_MAX, Mark, StoreError};

/// A partition's rows and their mark. Dropping it leaves them in the store.
#[derive(Debug)]
pub struct PartitionStore {
    tree: Arc<Tree>,
    keeper: Arc<Keeper>,
}

impl PartitionStore {
    pub(super) fn take(keeper: &Arc<Keeper>, partition: i32) -> Result<Self, StoreError> {
        let tree = keeper.core.take(partition)?;
        Ok(Self { tree, keeper: Arc::clone(keeper) })
    }

    fn partition(&self) -> i32 {
        self.tree.folder.partition
    }

    fn failed(&self, doing: &'static str, trouble: Trouble) -> StoreError {
        self.keeper.core.report(trouble.into_error(doing, &self.tree.folder))
    }

    /// `None`: the partition is empty.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn mark(&self) -> Result<Option<Mark>, StoreError> {
        let found =
            self.tree.read([MARK_KEY].into_iter()).map_err(|trouble| self.failed("reading the mark", trouble))?;
        let Some(bytes) = found.into_iter().next().flatten() else { return Ok(None) };
        let checked =
            row::checked(self.partition(), MARK_KEY, &bytes).map_err(|error| self.keeper.core.report(error))?;
        let damaged = || StoreError::Damaged { partition: self.partition(), what: "its mark is too short".to_owned() };
        row::mark_of(checked).map(Some).ok_or_else(|| self.keeper.core.report(damaged()))
    }

    /// Puts the rows (`None` deletes) and the mark into the store, all of it or nothing; the last of several rows with the same key counts.
    /// Returns once they are in memory, and waits while [`super::BUFFER_BYTES_MAX`] is not yet written or merging lags far
    /// behind. What a crash costs stands in the module's text.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] where the disk refused what was committed before; a key or a value that is too long.
    pub fn commit<'a>(
        &self,
        rows: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        mark: &Mark,
    ) -> Result<(), StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (key, value) in rows {
            let key = row::key(key)?;
            let value = value.map(|value| row::value(self.partition(), &key, value)).transpose()?;
            entries.push((key, value));
        }
        let value = row::value(self.partition(), MARK_KEY, &row::mark(mark))?;
        entries.push((MARK_KEY.into(), Some(value)));
        self.keeper.core.admit(&self.tree, bytes_of(&entries))?;
        self.tree.write(entries).map_err(|trouble| self.failed("committing", trouble))?;
        self.keeper.core.committed(self.partition());
        Ok(())
    }

    /// The values of the keys, in the keys' order.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], which names the key, or [`StoreError::Io`].
    pub fn read_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let found = self.tree.read(keys.iter().map(|key| row::stored(key)));
        let found = found.map_err(|trouble| self.failed("reading rows", trouble))?;
        let mut values = Vec::with_capacity(keys.len());
        for (key, bytes) in keys.iter().zip(found) {
            let checked = |bytes: &[u8]| row::checked(self.partition(), &row::stored(key), bytes).map(<[u8]>::to_vec);
            let value = bytes.map(|bytes| checked(&bytes)).transpose();
            values.push(value.map_err(|error| self.keeper.core.report(error))?);
        }
        Ok(values)
    }

    /// Gives every row whose key begins with `prefix` to `each`, in the order of their keys, as they are when it is called, until
    /// `each` says `false`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], which names the key, or [`StoreError::Io`].
    pub fn scan(&self, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError> {
        if prefix.len() > KEY_BYTES_MAX {
            return Ok(());
        }
        let rows = self.tree.rows(&row::stored(prefix)).map_err(|trouble| self.failed("scanning", trouble))?;
        for found in rows {
            let (key, bytes) = found.map_err(|trouble| self.failed("scanning", trouble))?;
            let checked =
                row::checked(self.partition(), &key, &bytes).map_err(|error| self.keeper.core.report(error))?;
            if !each(row::named(&key), checked) {
                break;
            }
        }
        Ok(())
    }

    /// Rewrites the partition's files so that rows which were deleted before are in none of them, nor in what was moved
    /// aside. Takes the time of reading and writing the partition once, and its size on the disk once more; does nothing where
    /// nothing was deleted. Commits and readings go on meanwhile; scans that go on keep their files.
    ///
    /// # Errors
    /// [`StoreError::Stopped`], [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn purge(&self) -> Result<(), StoreError> {
        self.keeper.core.persist(Some(self.partition()))?;
        self.tree.purge().map_err(|trouble| self.failed("purging", trouble))?;
        self.keeper.core.remove_asides()
    }

    /// Deletes all of the partition, mark included; [`super::Store::partition`] gives an empty one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn clear(self) -> Result<(), StoreError> {
        self.keeper.core.clear(&self.tree)
    }
}

impl Drop for PartitionStore {
    fn drop(&mut self) {
        self.keeper.core.release(&self.tree);
    }
}
