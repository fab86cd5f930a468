//! A file that gets its name when it is whole: written beside it under another one, flushed to the disk, renamed. What is
//! not published is removed. A device or a pipe, such as /dev/null or /dev/stdout, is written to as it is.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::FileError;

/// Files of this process's number and name that are passed over.
const LEFT_BEHIND_MAX: u32 = 1_000;

/// A file in the making.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    /// Where it stands until it is whole; `None`: what is written is there at once.
    temporary: Option<PathBuf>,
    file: File,
    is_published: bool,
    replaces: bool,
}

impl Draft {
    /// Refuses a name that is taken, unless it `replaces` it.
    pub fn create(path: &Path, replaces: bool) -> Result<Self, FileError> {
        let named = || path.display().to_string();
        let write = |why: String| FileError::Write { file: named(), why };
        let Some(name) = path.file_name() else { return Err(write("it names no file".to_owned())) };
        if is_open_elsewhere(path) || fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let file = OpenOptions::new().append(true).open(path).map_err(|error| write(error.to_string()))?;
            return Ok(Self { path: path.to_owned(), temporary: None, file, is_published: false, replaces });
        }
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => return Err(write("it is a folder".to_owned())),
            Ok(_) if !replaces => return Err(FileError::Exists { file: named() }),
            Ok(_) | Err(_) => {}
        }
        let (temporary, file) = Self::temporary(path, name).map_err(|error| write(error.to_string()))?;
        Ok(Self { path: path.to_owned(), temporary: Some(temporary), file, is_published: false, replaces })
    }

    /// A new file beside `path`, which nobody else has.
    fn temporary(path: &Path, name: &OsStr) -> io::Result<(PathBuf, File)> {
        let mut number = 0;
        loop {
            let mut temporary_name = OsString::from(".");
            temporary_name.push(name);
            temporary_name.push(format!(".{}-{number}.part", std::process::id()));
            let temporary = path.with_file_name(temporary_name);
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                // A process of the same number may have left one behind, or this one has it open.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < LEFT_BEHIND_MAX => number += 1,
                opened => return opened.map(|file| (temporary, file)),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, and sees that both are on the disk.
    pub fn publish(mut self) -> Result<(), FileError> {
        let publish = || -> io::Result<()> {
            let Some(temporary) = &self.temporary else { return Ok(()) };
            self.file.sync_all()?;
            if self.replaces {
                fs::rename(temporary, &self.path)?;
            } else {
                // Unlike a rename this fails where somebody has taken the name meanwhile.
                match fs::hard_link(temporary, &self.path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                    // A file system without links.
                    Err(_) => fs::rename(temporary, &self.path)?,
                    Ok(()) => fs::remove_file(temporary)?,
                }
            }
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        publish()
            .map_err(|error| FileError::Write { file: self.path.display().to_string(), why: error.to_string() })?;
        self.is_published = true;
        Ok(())
    }
}

/// A name of what a process has open, as /dev/stdout is of whatever that was sent to.
fn is_open_elsewhere(path: &Path) -> bool {
    let is_descriptor = |path: &Path| path.starts_with("/proc/self/fd") || path.starts_with("/dev/fd");
    is_descriptor(path) || fs::read_link(path).is_ok_and(|aim| is_descriptor(&aim))
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.as_ref().filter(|_| !self.is_published) {
            // Nobody is left to be told; the name says what it is.
            _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_written_to_and_stays() {
        let folder = std::env::temp_dir().join(format!("dce-draft-device-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // A file that is open already, as a shell opens what stdout is sent to.
        let told = folder.join("told");
        let open = File::create(&told).unwrap();
        let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        // By a link, or who broke this would lose their /dev/null.
        let path = folder.join("link");
        for aim in ["/dev/null", &descriptor] {
            std::os::unix::fs::symlink(aim, &path).unwrap();
            for replaces in [true, false] {
                let mut draft = Draft::create(&path, replaces).unwrap();
                draft.write_all(b"said ").unwrap();
                draft.publish().unwrap();
                assert_eq!(fs::read_link(&path).unwrap(), Path::new(aim));
            }
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read(&told).unwrap(), b"said said ");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn two_drafts_of_one_name_do_not_mix() {
        let folder = std::env::temp_dir().join(format!("dce-draft-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.ndjson");
        let mut drafts = [true, true].map(|replaces| Draft::create(&path, replaces).unwrap());
        drafts[0].write_all(b"first and long").unwrap();
        drafts[1].write_all(b"second").unwrap();
        let [first, second] = drafts;
        second.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        first.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first and long");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
