//! Lines of JSON, plain or in zstd frames: one record a line, blank lines aside. A line that is none becomes a record
//! with its fault; a stream that ends in its middle is an error.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::json;

use super::FileError;
use super::chunk::{Chunk, Numbering, Record};
use super::clicks::Limits;

const BUFFER_BYTES: usize = 1 << 20;
/// A longer line is no record; no topic takes one of this size.
const LINE_BYTES_MAX: usize = 16 << 20;
/// What is kept of one that is too long.
const LINE_BYTES_KEPT: usize = 1 << 10;

/// Reads lines.
pub(super) struct Lines {
    file: String,
    input: Box<dyn BufRead + Send>,
    /// Bytes read of the file, as it stands on the disk.
    read: Arc<AtomicU64>,
    line: Vec<u8>,
    row: u64,
    numbering: Numbering,
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Lines {
    pub(super) fn standard() -> Self {
        Self::new("standard input".to_owned(), |read| Box::new(buffered(Counted { inner: io::stdin(), read })))
    }

    pub(super) fn open(path: &Path, is_compressed: bool) -> Result<Self, FileError> {
        let name = path.display().to_string();
        let failed = |why| FileError::Open { file: name.clone(), why };
        let inner = File::open(path).map_err(failed)?;
        let read = Arc::default();
        let counted = Counted { inner, read: Arc::clone(&read) };
        let input: Box<dyn BufRead + Send> = if is_compressed {
            Box::new(buffered(zstd::Decoder::new(counted).map_err(failed)?))
        } else {
            Box::new(buffered(counted))
        };
        Ok(Self { read, ..Self::new(name, |_| input) })
    }

    fn new(file: String, input: impl FnOnce(Arc<AtomicU64>) -> Box<dyn BufRead + Send>) -> Self {
        let read = Arc::default();
        let input = input(Arc::clone(&read));
        Self { file, input, read, line: Vec::new(), row: 0, numbering: Numbering::default() }
    }

    /// Fills the chunk; says whether there may be more.
    pub(super) fn fill(&mut self, chunk: &mut Chunk, limits: Limits) -> Result<bool, FileError> {
        while !limits.reached(chunk) {
            let Some(len) = self.next_line()? else {
                chunk.done = self.read.load(Ordering::Relaxed);
                return Ok(false);
            };
            self.row += 1;
            if json::is_blank(&self.line) {
                continue;
            }
            let value = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
            let value = value.strip_suffix(b"\r").unwrap_or(value);
            let too_long = (len > LINE_BYTES_MAX)
                .then(|| format!("a line of {len} bytes, limit {LINE_BYTES_MAX}; its first {} are kept", value.len()));
            let envelope = match too_long {
                Some(why) => Err(why),
                None => json::envelope(value).map_err(|why| why.to_string()),
            };
            let envelope = match envelope {
                Ok(envelope) => envelope,
                Err(why) => {
                    let position = self.numbering.place_broken();
                    chunk.push(&Record::broken(position, value, &format!("line {}: {why}", self.row)));
                    continue;
                }
            };
            let position = self
                .numbering
                .place(envelope.partition, envelope.offset)
                .map_err(|why| FileError::Order { file: self.file.clone(), row: format!("line {}", self.row), why })?;
            chunk.push(&Record::of(position, &envelope, value));
        }
        chunk.done = self.read.load(Ordering::Relaxed);
        Ok(true)
    }

    /// The next line, its end included, and how long it is; what is too long is kept in part.
    fn next_line(&mut self) -> Result<Option<usize>, FileError> {
        self.line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = (&mut self.input).take(limit).read_until(b'\n', &mut self.line);
        let mut len = read.map_err(|why| self.unreadable(&why))?;
        if len == 0 {
            return Ok(None);
        }
        if len as u64 == limit && self.line.last() != Some(&b'\n') {
            self.line.truncate(LINE_BYTES_KEPT);
            len += self.pass_line()?;
        }
        Ok(Some(len))
    }

    /// Passes over the rest of a line.
    fn pass_line(&mut self) -> Result<usize, FileError> {
        let mut passed = 0;
        loop {
            let (count, is_end) = match self.input.fill_buf() {
                Ok([]) => return Ok(passed),
                Ok(bytes) => match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(end) => (end + 1, true),
                    None => (bytes.len(), false),
                },
                Err(why) => return Err(self.unreadable(&why)),
            };
            self.input.consume(count);
            passed += count;
            if is_end {
                return Ok(passed);
            }
        }
    }

    fn unreadable(&self, why: &io::Error) -> FileError {
        let read = self.read.load(Ordering::Relaxed);
        let place = format!("line {}, byte {read} of the file at the latest", self.row + 1);
        FileError::Damaged { file: self.file.clone(), place, why: why.to_string() }
    }
}

fn buffered<R: Read>(inner: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER_BYTES, inner)
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("file", &self.file).field("row", &self.row).finish_non_exhaustive()
    }
}
