//! Clicks from files and records into files: NDJSON, Avro container files, Parquet. The extension says which; `-` is
//! NDJSON on the standard streams. Takes paths, gives [`chunk::Chunk`]s of records as a topic would have them, and takes
//! anything that `wire` can write.
//!
//! ```text
//! clicks.{ndjson,avro,parquet} ─▶ clicks::Reader ─▶ Chunk: owned bytes, and where each record lies in them
//! wire records ─▶ table::Writer ─▶ draft ─▶ the file, under its name when it is whole
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub mod chunk;
pub mod draft;
mod ndjson;
mod avro;
mod columns;
mod layout;
mod parquet_in;
mod parquet_out;
pub mod clicks;
pub mod table;
pub mod savepoint;

pub use draft::Draft;

/// How a file's bytes are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// The same in a zstd frame.
    NdjsonZstd,
    Avro,
    Parquet,
}

impl Format {
    pub const NAMES: &str = ".ndjson, .jsonl or .json (each also with .zst after it), .avro or .parquet";

    /// By the file's extension; `None` for one that says nothing.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let is_json = |name: &str| [".ndjson", ".jsonl", ".json"].iter().any(|end| name.ends_with(end));
        match name.strip_suffix(".zst") {
            Some(inner) => is_json(inner).then_some(Self::NdjsonZstd),
            None if is_json(&name) => Some(Self::Ndjson),
            None if name.ends_with(".avro") => Some(Self::Avro),
            None if name.ends_with(".parquet") => Some(Self::Parquet),
            None => None,
        }
    }
}

/// A file, or the standard stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Standard,
    File { path: PathBuf, format: Format },
}

impl Place {
    /// `None` where the extension says nothing.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Self::Standard);
        }
        let path = PathBuf::from(text);
        let format = Format::of(&path)?;
        Some(Self::File { path, format })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("-"),
            Self::File { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{file}: cannot be read: {why}")]
    Open { file: String, why: io::Error },
    /// The bytes are not what the extension says, or end in their middle.
    #[error("{file}: damaged at {place}: {why}")]
    Damaged { file: String, place: String, why: String },
    /// A schema that clicks cannot be read by.
    #[error("{file}: {why}")]
    Schema { file: String, why: String },
    #[error("{file}, {row}: {why}")]
    Order { file: String, row: String, why: String },
    #[error("{file}: is there already; give another name, or --force to replace it")]
    Exists { file: String },
    #[error("{file}: cannot be written: {why}")]
    Write { file: String, why: String },
}
