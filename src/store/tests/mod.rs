//! The store's tests, and what they share: a folder of its own for each, rows by seed, and the plain map beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

mod behaviour;
mod crash;
mod damage;
mod full;

const OURS: Identity<'_> = Identity { application: "app", instance: "0", cluster: "cluster", topic: "dce-state" };
const CACHE_BYTES: u64 = 4 << 20;

/// An empty folder, deleted at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("dce-store-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn open(&self) -> Store {
        let opened = Store::open(&self.0, &OURS, CACHE_BYTES).unwrap();
        assert_eq!(opened.moved_aside, None);
        opened.store
    }

    /// Opens what is to be in doubt; gives the empty store and why.
    fn open_doubted(&self) -> (Store, String) {
        let opened = Store::open(&self.0, &OURS, CACHE_BYTES).unwrap();
        (opened.store, opened.moved_aside.unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn mark(changelog: i64) -> Mark {
    Mark { changelog, wall_ms: 1_790_000_000_000 + changelog, record: format!("record {changelog}").into_bytes() }
}

fn put(partition: &PartitionStore, key: &str, value: &str, changelog: i64) {
    partition.commit([(key.as_bytes(), Some(value.as_bytes()))], &mark(changelog)).unwrap();
}

fn get(partition: &PartitionStore, key: &str) -> Option<String> {
    let value = partition.read_many(&[key.as_bytes()]).unwrap().remove(0);
    value.map(|value| String::from_utf8(value).unwrap())
}

fn all(partition: &PartitionStore) -> Result<Rows, StoreError> {
    let mut rows = Rows::new();
    partition.scan(b"", |key, value| {
        assert!(rows.insert(key.to_vec(), value.to_vec()).is_none(), "a row comes once");
        true
    })?;
    assert!(rows.keys().is_sorted());
    Ok(rows)
}

/// All files below the folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn data_files(scratch: &Scratch) -> Vec<PathBuf> {
    files(&scratch.0.join("data"))
}

/// Numbers that look random, by a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The rows of commit `n` of a stream that is the same each time: updates, new keys and a deletion in twenty.
fn rows_of(n: i64, keys: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut random = Random(u64::try_from(n).unwrap() * 7919);
    let rows = 20 + random.below(300);
    let row = |_| {
        let key = format!("customer-{:08}", random.below(keys)).into_bytes();
        let len = usize::try_from(200 + random.below(600)).unwrap();
        let value = [format!("{n} ").into_bytes(), vec![b'a' + u8::try_from(random.below(26)).unwrap(); len]].concat();
        (key, (random.below(20) > 0).then_some(value))
    };
    (0..rows).map(row).collect()
}

fn apply(rows: &mut Rows, commit: &[(Vec<u8>, Option<Vec<u8>>)]) {
    for (key, value) in commit {
        match value {
            Some(value) => drop(rows.insert(key.clone(), value.clone())),
            None => drop(rows.remove(key)),
        }
    }
}

fn commit(partition: &PartitionStore, n: i64, rows: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
    partition.commit(rows.iter().map(|(key, value)| (key.as_slice(), value.as_deref())), &mark(n))
}
