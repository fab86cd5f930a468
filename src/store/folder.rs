//! The store's folder: who may use it, whose it is, what lies in it, and how it is moved aside.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Identity, StoreError};
use crate::telemetry::Clock;

/// Counts up when a newer program could not read what an older one wrote, or the other way round.
const FORMAT: u32 = 1;
const LABEL: &str = "label.json";
const CONDEMNED: &str = "condemned";
const ASIDE: &str = "aside-";
/// A partition's folder on its way out.
const GONE: &str = "gone-";

/// Why an opening does not go on: the disk refuses, or what is there must not be used.
#[derive(Debug)]
pub(super) enum Doubt {
    Io(StoreError),
    Damaged(String),
}

impl From<StoreError> for Doubt {
    fn from(error: StoreError) -> Self {
        Self::Io(error)
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Label {
    format: u32,
    application: String,
    instance: String,
    cluster: String,
    topic: String,
}

/// A partition's tree on the disk. `generation` is never given twice in a store, so that whatever still writes into a cleared
/// one cannot meet its successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeFolder {
    pub(super) partition: i32,
    pub(super) generation: u64,
    pub(super) path: PathBuf,
}

impl TreeFolder {
    pub(super) fn new(data: &Path, partition: i32, generation: u64) -> Self {
        Self { partition, generation, path: data.join(format!("p{partition}-{generation}")) }
    }

    fn parse(data: &Path, name: &str) -> Option<Self> {
        let (partition, generation) = name.strip_prefix('p')?.split_once('-')?;
        let tree = Self::new(data, partition.parse().ok()?, generation.parse().ok()?);
        // One way to write a number: no `+7`, no `007`.
        (tree.path == data.join(name)).then_some(tree)
    }

    /// Takes it out at once and deletes it; what a crash leaves of it, the next opening deletes.
    pub(super) fn remove(&self) -> Result<(), StoreError> {
        let data = self.path.parent().expect("it lies in the data folder");
        let gone = data.join(format!("{GONE}{}", self.generation));
        std::fs::rename(&self.path, &gone).map_err(io("renaming", &self.path))?;
        sync(data)?;
        std::fs::remove_dir_all(&gone).map_err(io("deleting", &gone))
    }
}

/// The locked folder.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing alone would leave it locked while a forked child, not yet another program, has the file open as well.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "local store cannot be unlocked");
        }
    }
}

impl Folder {
    pub(super) fn lock(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(io("making", dir))?;
        let path = dir.join("lock");
        let opened = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = opened.map_err(io("opening", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { folder: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(StoreError::Io { doing: "locking", path, source }),
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Why what is there must not be used. Where nothing is, an empty store is begun.
    pub(super) fn doubt(&self, identity: &Identity<'_>) -> Result<Option<String>, StoreError> {
        let data = self.data();
        if !data.try_exists().map_err(io("looking at", &data))? {
            self.begin(identity)?;
            return Ok(None);
        }
        if let Some(why) = read(&data.join(CONDEMNED))? {
            return Ok(Some(format!("it was condemned: {}", String::from_utf8_lossy(&why))));
        }
        let Some(label) = read(&data.join(LABEL))? else {
            return Ok(Some(format!("{LABEL} is missing")));
        };
        // The format first: another one's label may have other fields.
        match serde_json::from_slice::<serde_json::Value>(&label).map(|label| label["format"].as_u64()) {
            Ok(Some(format)) if format == u64::from(FORMAT) => {}
            Ok(Some(format)) => return Ok(Some(format!("its format is {format}, this program's {FORMAT}"))),
            Ok(None) | Err(_) => return Ok(Some(format!("{LABEL} is unreadable"))),
        }
        let Ok(found) = serde_json::from_slice::<Label>(&label) else {
            return Ok(Some(format!("{LABEL} is unreadable")));
        };
        let parts = [
            ("application", &found.application, identity.application),
            ("instance", &found.instance, identity.instance),
            ("cluster", &found.cluster, identity.cluster),
            ("topic", &found.topic, identity.topic),
        ];
        let other = parts.into_iter().find(|(_, found, ours)| found != ours);
        Ok(other.map(|(part, found, ours)| format!("its {part} is {found:?}, not {ours:?}")))
    }

    /// Makes an empty store, whole or not at all.
    pub(super) fn begin(&self, identity: &Identity<'_>) -> Result<(), StoreError> {
        let label = Label {
            format: FORMAT,
            application: identity.application.to_owned(),
            instance: identity.instance.to_owned(),
            cluster: identity.cluster.to_owned(),
            topic: identity.topic.to_owned(),
        };
        let new = self.dir.join("data.new");
        remove(&new)?;
        std::fs::create_dir(&new).map_err(io("making", &new))?;
        write(&new.join(LABEL), &serde_json::to_vec(&label).expect("strings and a number"))?;
        let data = self.data();
        std::fs::rename(&new, &data).map_err(io("renaming", &new))?;
        sync(&self.dir)
    }

    /// The trees; what a clearing left behind is deleted.
    pub(super) fn partitions(&self) -> Result<Vec<TreeFolder>, Doubt> {
        let data = self.data();
        let mut trees: Vec<TreeFolder> = Vec::new();
        for entry in std::fs::read_dir(&data).map_err(io("listing", &data))? {
            let path = entry.map_err(io("listing", &data))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == LABEL {
                continue;
            }
            if name.starts_with(GONE) {
                remove(&path)?;
                continue;
            }
            let Some(tree) = TreeFolder::parse(&data, &name).filter(|_| path.is_dir()) else {
                return Err(Doubt::Damaged(format!("{name:?} does not belong into it")));
            };
            if trees.iter().any(|other| other.partition == tree.partition) {
                return Err(Doubt::Damaged(format!("partition {} is there twice", tree.partition)));
            }
            trees.push(tree);
        }
        trees.sort_by_key(|tree| tree.partition);
        Ok(trees)
    }

    /// Sets what is there aside, in place of what was set aside before. It stays inside the folder, which may be a mount
    /// point, with the lock where it is.
    pub(super) fn move_aside(&self) -> Result<PathBuf, StoreError> {
        self.remove_asides()?;
        let aside = self.dir.join(format!("{ASIDE}{}", Clock::start().wall_ms()));
        let data = self.data();
        std::fs::rename(&data, &aside).map_err(io("renaming", &data))?;
        sync(&self.dir)?;
        Ok(aside)
    }

    pub(super) fn remove_asides(&self) -> Result<(), StoreError> {
        for entry in std::fs::read_dir(&self.dir).map_err(io("listing", &self.dir))? {
            let entry = entry.map_err(io("listing", &self.dir))?;
            if entry.file_name().to_string_lossy().starts_with(ASIDE) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    pub(super) fn condemn(&self, why: &str) -> Result<(), StoreError> {
        let data = self.data();
        write(&data.join(CONDEMNED), why.as_bytes())
    }

    pub(super) fn sync_data(&self) -> Result<(), StoreError> {
        sync(&self.data())
    }

    pub(super) fn bytes(&self) -> u64 {
        bytes_in(&self.dir)
    }
}

/// Files come and go meanwhile; one that is gone has no bytes.
fn bytes_in(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += bytes_in(&entry.path()),
            Ok(metadata) => bytes += metadata.len(),
            Err(_) => {}
        }
    }
    bytes
}

pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    move |source| StoreError::Io { doing, path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("reading", path)(error)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = File::create(path).map_err(io("making", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("writing", path))?;
    sync(path.parent().expect("a file lies in a folder"))
}

fn sync(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("syncing", folder))
}

fn remove(folder: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("deleting", folder)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
