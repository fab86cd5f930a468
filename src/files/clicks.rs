//! Clicks in and out of files, whatever the format: [`Reader`] gives chunks of records, [`Writer`] takes rows.

use std::path::Path;

use crate::wire::avro::Schemas;
use crate::wire::row::Row;

use super::chunk::Chunk;
use super::table::{self, Target};
use super::{FileError, Format, Place, avro, ndjson, parquet_in};

/// When a chunk is full.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub records_max: usize,
    /// May be passed by one record.
    pub bytes_max: usize,
}

impl Limits {
    pub(super) fn reached(self, chunk: &Chunk) -> bool {
        chunk.len() >= self.records_max || chunk.bytes() >= self.bytes_max
    }
}

/// How much there is to read, where that is known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Bytes(u64),
    Records(u64),
    Unknown,
}

/// Reads a file of clicks from its beginning to its end.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    size: Size,
}

#[derive(Debug)]
enum Source {
    Lines(ndjson::Lines),
    Avro(Box<avro::Blocks>),
    Parquet(Box<parquet_in::Rows>),
}

impl Reader {
    /// Opens it, and adds to `schemas` what its records were written by.
    pub fn open(place: &Place, schemas: &mut Schemas) -> Result<Self, FileError> {
        let (path, format) = match place {
            Place::Standard => {
                return Ok(Self { source: Source::Lines(ndjson::Lines::standard()), size: Size::Unknown });
            }
            Place::File { path, format } => (path, *format),
        };
        let size = size_of(path)?;
        let (source, size) = match format {
            Format::Ndjson | Format::NdjsonZstd => {
                (Source::Lines(ndjson::Lines::open(path, format == Format::NdjsonZstd)?), size)
            }
            Format::Avro => (Source::Avro(Box::new(avro::Blocks::open(path, schemas)?)), size),
            Format::Parquet => {
                let rows = parquet_in::Rows::open(path)?;
                let size = Size::Records(rows.total());
                (Source::Parquet(Box::new(rows)), size)
            }
        };
        Ok(Self { source, size })
    }

    pub fn size(&self) -> Size {
        self.size
    }

    /// The next records; `None` at the end.
    pub fn next(&mut self, limits: Limits) -> Result<Option<Chunk>, FileError> {
        let mut chunk = Chunk::default();
        match &mut self.source {
            Source::Lines(lines) => lines.fill(&mut chunk, limits)?,
            Source::Avro(blocks) => blocks.fill(&mut chunk, limits)?,
            Source::Parquet(rows) => rows.fill(&mut chunk, limits)?,
        };
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

/// A pipe has no size.
fn size_of(path: &Path) -> Result<Size, FileError> {
    let failed = |why| FileError::Open { file: path.display().to_string(), why };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(std::io::Error::other("it is a folder")));
    }
    Ok(if metadata.is_file() { Size::Bytes(metadata.len()) } else { Size::Unknown })
}

/// Writes rows of clicks, which [`Reader`] reads.
#[derive(Debug)]
pub struct Writer(table::Writer);

impl Writer {
    pub fn create(path: &Path, format: Format, replaces: bool) -> Result<Self, FileError> {
        Target::file(path, format, replaces).and_then(table::Writer::create::<Row<'_>>).map(Self)
    }

    /// # Errors
    /// A row that cannot be written leaves the file as it was ([`table::WriteError::Row`]).
    pub fn write(&mut self, row: &Row<'_>) -> Result<(), table::WriteError> {
        self.0.write(row)
    }

    /// Gives the file its name. One that is dropped before leaves nothing behind.
    pub fn finish(self) -> Result<u64, FileError> {
        self.0.finish()
    }
}
