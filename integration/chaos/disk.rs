//! What disks do to a folder whose process is dead. None of it may change a result: the folder is a cache of a topic.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use super::plan::Fault;

/// Bytes that are written over others.
const GARBAGE_BYTES: usize = 64;

/// A folder that is not there, or empty, stays so.
pub(super) fn damage(fault: Fault, dir: &Path, rng: &mut Pcg64Mcg) -> io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let files = files(dir)?;
    match fault {
        Fault::DiskLost => fs::remove_dir_all(dir)?,
        Fault::DiskTorn => {
            if let Some((path, _, length)) = files.iter().filter(|(.., length)| *length > 0).max_by_key(|file| file.1) {
                OpenOptions::new().write(true).open(path)?.set_len(rng.random_range(0..*length))?;
            }
        }
        Fault::DiskGarbage => {
            let filled: Vec<_> = files.iter().filter(|(.., length)| *length > 0).collect();
            if !filled.is_empty() {
                let (path, _, length) = filled[rng.random_range(0..filled.len())];
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.seek(SeekFrom::Start(rng.random_range(0..*length)))?;
                file.write_all(&rng.random::<[u8; GARBAGE_BYTES]>())?;
            }
            fs::write(dir.join("stray"), rng.random::<[u8; GARBAGE_BYTES]>())?;
        }
        Fault::DiskOld => {
            let kept = dir.with_extension("kept");
            if kept.exists() {
                fs::remove_dir_all(dir)?;
                fs::rename(&kept, dir)?;
            } else {
                copy(dir, &kept)?;
            }
        }
        other => unreachable!("{other:?} is no fault of a disk"),
    }
    Ok(())
}

/// All files below, by path, with when they were written and their bytes.
fn files(dir: &Path) -> io::Result<Vec<(PathBuf, SystemTime, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push((entry.path(), about.modified()?, about.len()));
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn a_folder_is_lost_torn_spoilt_and_of_earlier() {
    use rand::SeedableRng as _;
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}", std::process::id()));
    let file = dir.join("in/file");
    let read = || {
        let mut bytes = Vec::new();
        fs::File::open(&file).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    fs::create_dir_all(dir.join("in")).unwrap();
    fs::write(&file, [7; 1_000]).unwrap();
    damage(Fault::DiskOld, &dir, &mut rng).unwrap();
    damage(Fault::DiskGarbage, &dir, &mut rng).unwrap();
    assert!(dir.join("stray").exists() && read() != [7; 1_000]);
    damage(Fault::DiskOld, &dir, &mut rng).unwrap();
    assert!(!dir.join("stray").exists() && read() == [7; 1_000]);
    damage(Fault::DiskTorn, &dir, &mut rng).unwrap();
    assert!(read().len() < 1_000);
    damage(Fault::DiskLost, &dir, &mut rng).unwrap();
    assert!(!dir.exists());
    damage(Fault::DiskTorn, &dir, &mut rng).unwrap();
}
