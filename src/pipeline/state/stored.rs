//! The local store of a partition in a restore: whether it can be believed, and the log's records that it lacks. Store, log →
//! rows up to the log's end.
//!
//! The log is the truth. A store that is damaged, too old, another log's, or ahead of what is committed is emptied and filled
//! from the log's beginning.

use std::time::Duration;

use super::StateError;
use crate::pipeline::log::{Head, Key, LogError};
use crate::pipeline::logged::Logged;
use crate::pipeline::shelf::{Held, trusted};
use crate::store::{Mark, PartitionStore, Store, StoreError};

/// How long a partition may be held by who had it before in this process: a purge goes on, or a restore that was cancelled.
const IN_USE_MAX: Duration = Duration::from_secs(600);
/// Between two tries.
const IN_USE_WAIT: Duration = Duration::from_millis(20);
/// Of all partitions together, what is not in the store yet.
const PENDING_BYTES: usize = 32 << 20;
/// Of one partition at the least.
const PENDING_BYTES_MIN: usize = 256 << 10;

/// A partition's log, as far as the broker and the group say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub low: i64,
    pub end: i64,
    /// The first input offset that counts.
    pub begun: i64,
    /// Only one could write at a time.
    pub is_fenced: bool,
    /// Committed with the offset.
    pub epoch: u64,
    /// How long the log keeps what was deleted.
    pub deletions_kept_ms: i64,
    /// By the wall clock.
    pub now_ms: i64,
    /// How many partitions are restored beside it, itself too.
    pub partitions: usize,
    /// Of records that stay in memory, of all partitions.
    pub cache_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Stored {
    store: PartitionStore,
    mark: Mark,
    extent: Extent,
    /// Its rows were believed, and the log is read from their mark on.
    pub is_believed: bool,
}

/// What a record of the log met.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Stored {
    /// Believes the rows, or empties them where `doubt` says why not, or something else does.
    pub(super) fn open(
        store: &Store,
        partition: i32,
        extent: Extent,
        doubt: Option<&str>,
        gives_up: impl Fn() -> bool,
    ) -> Result<(Self, Logged), StateError> {
        let held = hold(store, partition, &gives_up)?;
        let believed = match doubt {
            Some(doubt) => Err(doubt.to_owned()),
            None => believed(&held, extent),
        };
        let why = match believed {
            Ok(Some((mark, logged))) => {
                let (has, end) = (mark.changelog, extent.end);
                tracing::info!(
                    partition,
                    has,
                    end,
                    "the local store has the log of the state up to here; the rest is read"
                );
                return Ok((Self { store: held, mark, extent, is_believed: true }, logged));
            }
            Ok(None) => None,
            Err(why) => Some(why),
        };
        let held = match why {
            None => held,
            Some(why) => {
                tracing::warn!(partition, why, "the local store of the partition is emptied and filled from the log");
                held.clear()?;
                hold(store, partition, &gives_up)?
            }
        };
        let mark = Mark { changelog: extent.low, wall_ms: extent.now_ms, record: Vec::new() };
        let logged = Logged::over_store(extent.begun, extent.is_fenced, None);
        Ok((Self { store: held, mark, extent, is_believed: false }, logged))
    }

    /// Where the log is read from.
    pub(super) fn from(&self) -> i64 {
        self.mark.changelog
    }

    /// The next record.
    pub(super) fn take(&mut self, logged: &mut Logged, key: &[u8], value: Option<&[u8]>) -> Result<(), TakeError> {
        if let Some(id) = logged.asks(key)
            && let Some(known) = self.store.read_many(&[key])?.into_iter().flatten().next()
        {
            logged.offer(id, &known);
        }
        logged.take(key, value)?;
        let Extent { partitions, .. } = self.extent;
        if logged.rows_bytes() > PENDING_BYTES_MIN.max(PENDING_BYTES / partitions.max(1)) {
            self.write(logged)?;
        }
        Ok(())
    }

    /// All of the log was read. It is believed again once what was read has been found to be true: [`Held::trust`].
    pub(super) fn finish(mut self, logged: &mut Logged) -> Result<Held, StoreError> {
        self.write(logged)?;
        if !self.is_believed {
            let mut at_rest = 0;
            self.store.scan(b"c", |_, _| {
                at_rest += 1;
                true
            })?;
            let active: Vec<_> = logged.active_ids().map(|id| Key::Rest(id).pack()).collect();
            let active: Vec<&[u8]> = active.iter().map(AsRef::as_ref).collect();
            let only_active = self.store.read_many(&active)?.iter().filter(|row| row.is_none()).count();
            logged.counts(at_rest + only_active as u64);
        }
        let head = logged.head();
        let record = trusted(&if head.epoch > 0 { head.pack() } else { Vec::new() });
        let changelog = self.extent.end.max(self.mark.changelog);
        Ok(Held { store: self.store, mark: Mark { changelog, wall_ms: self.extent.now_ms, record } })
    }

    /// The mark stays as it was: rows may be ahead of it, and what was read may yet be refused. One that is being filled says
    /// so, and is filled anew where that does not end.
    fn write(&mut self, logged: &mut Logged) -> Result<(), StoreError> {
        let rows: Vec<_> = logged.rows().collect();
        self.store.commit(rows.iter().map(|(key, value)| (key.as_ref(), *value)), &self.mark)?;
        drop(rows);
        logged.is_beyond(self.extent.cache_bytes / self.extent.partitions.max(1));
        Ok(())
    }
}

/// Nobody else has it, after a while.
fn hold(store: &Store, partition: i32, gives_up: impl Fn() -> bool) -> Result<PartitionStore, StateError> {
    let tries = IN_USE_MAX.as_millis() / IN_USE_WAIT.as_millis();
    for _ in 0..tries {
        match store.partition(partition) {
            Err(StoreError::InUse { .. }) if gives_up() => return Err(StateError::Stopped),
            Err(StoreError::InUse { .. }) => std::thread::sleep(IN_USE_WAIT),
            held => return Ok(held?),
        }
    }
    Err(StoreError::InUse { partition }.into())
}

/// The mark of rows that can be believed and what they say of active customers; `None` where there are none.
fn believed(held: &PartitionStore, extent: Extent) -> Result<Option<(Mark, Logged)>, String> {
    let Some(mark) = held.mark().map_err(|error| error.to_string())? else { return Ok(None) };
    let Extent { low, end, begun, is_fenced, epoch, deletions_kept_ms, now_ms, .. } = extent;
    if mark.changelog < low || mark.changelog > end {
        return Err(format!("it is of the log below offset {}, and the log goes from {low} to {end}", mark.changelog));
    }
    let age_ms = now_ms.saturating_sub(mark.wall_ms).saturating_abs();
    if age_ms > deletions_kept_ms / 2 {
        return Err(format!("it is {age_ms} ms old, and the log keeps deletions for {deletions_kept_ms} ms"));
    }
    let head = match mark.record.split_first() {
        None => return Err("it was not filled to its end".to_owned()),
        Some((_, [])) => None,
        Some((_, head)) => Some(Head::unpack(head).map_err(|error| error.to_string())?),
    };
    if let Some(head) = head.filter(|head| is_fenced && head.epoch > epoch) {
        return Err(format!("it has epoch {}, and {epoch} is committed", head.epoch));
    }
    let mut logged = Logged::over_store(begun, is_fenced, head);
    let mut failed = None;
    for prefix in [b"a", b"b", b"i"] {
        let scanned = held.scan(prefix, |key, value| {
            failed = failed.take().or(logged.take(key, Some(value)).err());
            failed.is_none()
        });
        scanned.map_err(|error| error.to_string())?;
    }
    logged.is_beyond(0);
    match failed {
        Some(error) => Err(error.to_string()),
        None => Ok(Some((mark, logged))),
    }
}
