//! Records into a file of any format, or onto the standard stream as NDJSON. The file gets its name at the end.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::wire::error::EncodeError;
use crate::wire::write::{self, Framing, Written};

use super::avro::BlockWriter;
use super::draft::Draft;
use super::parquet_out::RowGroups;
use super::{FileError, Format};

const BUFFER_BYTES: usize = 256 << 10;
const LEVEL: i32 = 3;

/// Where records go.
pub enum Target {
    /// Lines, such as to the standard output.
    Stream(Box<dyn Write + Send>),
    File {
        draft: Draft,
        format: Format,
    },
}

impl Target {
    pub fn file(path: &Path, format: Format, replaces: bool) -> Result<Self, FileError> {
        Ok(Self::File { draft: Draft::create(path, replaces)?, format })
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("Stream"),
            Self::File { draft, .. } => f.debug_tuple("File").field(draft).finish(),
        }
    }
}

/// Counts what goes through it.
struct Counted<W> {
    inner: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

type FileOut = BufWriter<Counted<Draft>>;

/// Takes records of one type, one by one.
pub struct Writer {
    name: PathBuf,
    form: Form,
    line: Vec<u8>,
}

enum Form {
    Stream(BufWriter<Counted<Box<dyn Write + Send>>>),
    Lines(FileOut),
    Zstd(Box<zstd::Encoder<'static, FileOut>>),
    Avro(Box<BlockWriter>, FileOut),
    Parquet(Box<RowGroups<FileOut>>),
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It cannot be; the file goes on without it.
    #[error(transparent)]
    Row(#[from] EncodeError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Writer {
    /// For records of the type `R` alone.
    pub fn create<R: Written>(target: Target) -> Result<Self, FileError> {
        let (draft, format) = match target {
            Target::Stream(out) => {
                let out = BufWriter::with_capacity(BUFFER_BYTES, Counted { inner: out, written: 0 });
                return Ok(Self { name: "standard output".into(), form: Form::Stream(out), line: Vec::new() });
            }
            Target::File { draft, format } => (draft, format),
        };
        let name = draft.path().to_owned();
        let failed = |why: String| FileError::Write { file: name.display().to_string(), why };
        let out = BufWriter::with_capacity(BUFFER_BYTES, Counted { inner: draft, written: 0 });
        let form = match format {
            Format::Ndjson => Form::Lines(out),
            Format::NdjsonZstd => {
                let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(|why| failed(why.to_string()))?;
                encoder.include_checksum(true).map_err(|why| failed(why.to_string()))?;
                Form::Zstd(Box::new(encoder))
            }
            Format::Avro => Form::Avro(Box::new(BlockWriter::new(&R::schema())), out),
            Format::Parquet => {
                Form::Parquet(Box::new(RowGroups::new::<R>(out).map_err(|why| failed(why.to_string()))?))
            }
        };
        Ok(Self { name, form, line: Vec::new() })
    }

    pub fn write<R: Written>(&mut self, record: &R) -> Result<(), WriteError> {
        let written = match &mut self.form {
            Form::Stream(_) | Form::Lines(_) | Form::Zstd(_) => {
                self.line.clear();
                write::record(record, Framing::Json, &mut self.line)?;
                return Ok(self.put_line()?);
            }
            Form::Avro(blocks, out) => {
                blocks.push(record)?;
                if blocks.is_full() { blocks.flush(out).map_err(|why| why.to_string()) } else { Ok(()) }
            }
            Form::Parquet(groups) => {
                groups.push(record)?;
                if groups.is_full() { groups.flush().map_err(|why| why.to_string()) } else { Ok(()) }
            }
        };
        Ok(written.map_err(|why| self.failed(why))?)
    }

    /// One object of a file of lines; of others there is no such thing.
    pub fn write_line(&mut self, object: &serde_json::Value) -> Result<(), FileError> {
        self.line.clear();
        let written = serde_json::to_writer(&mut self.line, object);
        written.map_err(|why| self.failed(why.to_string()))?;
        self.put_line()
    }

    fn put_line(&mut self) -> Result<(), FileError> {
        self.line.push(b'\n');
        let written = match &mut self.form {
            Form::Stream(out) => out.write_all(&self.line),
            Form::Lines(out) => out.write_all(&self.line),
            Form::Zstd(out) => out.write_all(&self.line),
            Form::Avro(..) | Form::Parquet(_) => Err(io::Error::other("a file of this format has no lines")),
        };
        written.map_err(|why| self.failed(why.to_string()))
    }

    /// Gives the file its name, and how many bytes it has.
    pub fn finish(self) -> Result<u64, FileError> {
        let Self { name, form, .. } = self;
        let failed = |why: String| FileError::Write { file: name.display().to_string(), why };
        let io_failed = |why: io::Error| failed(why.to_string());
        let out = match form {
            Form::Stream(mut out) => {
                out.flush().map_err(io_failed)?;
                return Ok(out.get_ref().written);
            }
            Form::Lines(out) => out,
            Form::Zstd(encoder) => encoder.finish().map_err(io_failed)?,
            Form::Avro(mut blocks, mut out) => {
                blocks.flush(&mut out).map_err(io_failed)?;
                out
            }
            Form::Parquet(groups) => groups.finish().map_err(|why| failed(why.to_string()))?,
        };
        let Counted { inner: draft, written } = out.into_inner().map_err(|why| failed(why.to_string()))?;
        draft.publish()?;
        Ok(written)
    }

    fn failed(&self, why: String) -> FileError {
        FileError::Write { file: self.name.display().to_string(), why }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("name", &self.name).finish_non_exhaustive()
    }
}
