//! How a row lies in a tree: its key behind one byte for the kind, its value before a checksum over partition, key and value. The
//! engine checks its blocks; the row's own checksum also sees what a wrong block, a mixed-up partition or our own code did.

use lsm_tree::{UserKey, UserValue};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{KEY_BYTES_MAX, Mark, StoreError, VALUE_BYTES_MAX};

const SUM_BYTES: usize = 8;
/// Before each key of a row.
const ROW: u8 = b'r';
/// The whole key of the mark.
pub(super) const MARK_KEY: &[u8] = b"m";

pub(super) fn key(key: &[u8]) -> Result<UserKey, StoreError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(StoreError::KeyTooLong { len: key.len(), limit: KEY_BYTES_MAX });
    }
    Ok(UserKey::from(stored(key)))
}

/// A row's key as it is stored, for looking up: a longer one than can be written is simply not there.
pub(super) fn stored(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(ROW);
    bytes.extend_from_slice(key);
    bytes
}

/// The key that the caller knows.
pub(super) fn named(stored: &[u8]) -> &[u8] {
    stored.get(1..).unwrap_or_default()
}

pub(super) fn value(partition: i32, stored_key: &[u8], value: &[u8]) -> Result<UserValue, StoreError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::ValueTooLong { len: value.len(), limit: VALUE_BYTES_MAX });
    }
    let mut bytes = Vec::with_capacity(value.len() + SUM_BYTES);
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(&sum(partition, stored_key, value).to_le_bytes());
    Ok(UserValue::from(bytes))
}

/// The value without its checksum, which must fit.
pub(super) fn checked<'a>(partition: i32, stored_key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
    match bytes.split_last_chunk::<SUM_BYTES>() {
        Some((value, found)) if u64::from_le_bytes(*found) == sum(partition, stored_key, value) => Ok(value),
        Some(_) | None => Err(StoreError::DamagedRow { partition, key: named(stored_key).escape_ascii().to_string() }),
    }
}

fn sum(partition: i32, stored_key: &[u8], value: &[u8]) -> u64 {
    let seed = xxh3_64_with_seed(stored_key, u64::from(partition.cast_unsigned()));
    xxh3_64_with_seed(value, seed)
}

pub(super) fn mark(mark: &Mark) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + mark.record.len());
    bytes.extend_from_slice(&mark.changelog.to_le_bytes());
    bytes.extend_from_slice(&mark.wall_ms.to_le_bytes());
    bytes.extend_from_slice(&mark.record);
    bytes
}

pub(super) fn mark_of(bytes: &[u8]) -> Option<Mark> {
    let (changelog, rest) = bytes.split_first_chunk::<8>()?;
    let (wall_ms, record) = rest.split_first_chunk::<8>()?;
    let (changelog, wall_ms) = (i64::from_le_bytes(*changelog), i64::from_le_bytes(*wall_ms));
    Some(Mark { changelog, wall_ms, record: record.to_vec() })
}
