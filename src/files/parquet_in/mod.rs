//! Reads Parquet files of clicks: the columns that are named as a click's fields, row by row, as records of a topic.
//! `context` and `attributes` may be MAPs, structs (as pandas writes dictionaries) or JSON text.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::Compression;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::FileError;
use super::chunk::{Chunk, Numbering, Record};
use super::clicks::Limits;

mod leaf;
mod plan;
mod row;

use leaf::Leaf;
use plan::Plan;

/// Rows that are read of each column at a time.
const BATCH_ROWS: usize = 4_096;

/// A file's rows.
pub(super) struct Rows {
    file: String,
    reader: SerializedFileReader<File>,
    plan: Plan,
    total: u64,
    /// The row group that is being read, its columns, and its rows that are left.
    group: usize,
    leaves: Vec<Leaf>,
    left: usize,
    /// Rows of all columns that are in memory and not taken yet.
    buffered: usize,
    row: u64,
    numbering: Numbering,
    value: Vec<u8>,
}

impl Rows {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|why| FileError::Open { file: name.clone(), why })?;
        let damaged = |why: String| FileError::Damaged { file: name.clone(), place: "its footer".to_owned(), why };
        let opened = catch_unwind(|| SerializedFileReader::new(file));
        let reader = opened.map_err(|panic| damaged(gave_up(&*panic)))?.map_err(|why| damaged(why.to_string()))?;
        let metadata = reader.metadata().file_metadata();
        let schema = |why| FileError::Schema { file: name.clone(), why };
        let plan = Plan::of(metadata.schema_descr()).map_err(schema)?;
        for group in reader.metadata().row_groups() {
            for column in plan.leaves() {
                let packing = group.columns().get(column.index).map(|column| column.compression());
                let is_read =
                    |packing| matches!(packing, Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_));
                if let Some(packing) = packing.filter(|packing| !is_read(*packing)) {
                    let why = format!(
                        "column {} is compressed by {packing}, which is not read; snappy, zstd and none are",
                        column.path
                    );
                    return Err(FileError::Schema { file: name, why });
                }
            }
        }
        let total = u64::try_from(metadata.num_rows()).map_err(|_| damaged("fewer than no rows".to_owned()))?;
        Ok(Self {
            file: name,
            reader,
            plan,
            total,
            group: 0,
            leaves: Vec::new(),
            left: 0,
            buffered: 0,
            row: 0,
            numbering: Numbering::default(),
            value: Vec::new(),
        })
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn fill(&mut self, chunk: &mut Chunk, limits: Limits) -> Result<bool, FileError> {
        while !limits.reached(chunk) {
            if self.buffered == 0 {
                // The crate panics on some pages that are damaged.
                let read = catch_unwind(AssertUnwindSafe(|| self.read_batch()));
                let is_more = read.unwrap_or_else(|panic| Err(gave_up(&*panic)));
                if !is_more.map_err(|why| self.damaged(why))? {
                    chunk.done = self.row;
                    return Ok(false);
                }
                continue;
            }
            self.buffered -= 1;
            self.row += 1;
            self.next_row(chunk)?;
        }
        chunk.done = self.row;
        Ok(true)
    }

    /// Reads on in all columns; `false` at the file's end.
    fn read_batch(&mut self) -> Result<bool, String> {
        while self.left == 0 {
            if self.group == self.reader.num_row_groups() {
                return if self.row == self.total {
                    Ok(false)
                } else {
                    Err(format!("{} rows, and its footer says {}", self.row, self.total))
                };
            }
            let group = self.reader.get_row_group(self.group).map_err(|why| why.to_string())?;
            let rows = group.metadata().num_rows();
            self.left = usize::try_from(rows).map_err(|_| "fewer than no rows in a row group".to_owned())?;
            self.leaves.clear();
            for column in self.plan.leaves() {
                let reader = group.get_column_reader(column.index).map_err(|why| why.to_string())?;
                self.leaves.push(Leaf::new(reader, column)?);
            }
            self.group += 1;
        }
        let wanted = self.left.min(BATCH_ROWS);
        for leaf in &mut self.leaves {
            leaf.read(wanted)?;
        }
        self.left -= wanted;
        self.buffered = wanted;
        Ok(true)
    }

    fn next_row(&mut self, chunk: &mut Chunk) -> Result<(), FileError> {
        let row = self.plan.row(&mut self.leaves);
        self.value.clear();
        let encoded = row.encode_into(&mut self.value).map_err(|why| format!("row {}: {why}", self.row));
        match row.envelope() {
            Ok(envelope) => {
                let position = self.numbering.place(envelope.partition, envelope.offset).map_err(|why| {
                    FileError::Order { file: self.file.clone(), row: format!("row {}", self.row), why }
                })?;
                let record = Record::of(position, &envelope, &self.value);
                // As a line that is no click, it stands where it says.
                chunk.push(&Record { fault: encoded.as_ref().err().map(String::as_str), ..record });
            }
            Err(why) => {
                let position = self.numbering.place_broken();
                chunk.push(&Record::broken(position, b"", &format!("row {}: {why}", self.row)));
            }
        }
        Ok(())
    }

    fn damaged(&self, why: String) -> FileError {
        let place = format!("row group {}, after row {}", self.group, self.row);
        FileError::Damaged { file: self.file.clone(), place, why }
    }
}

fn gave_up(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the reader gave up on it: {}", text.unwrap_or("no reason given"))
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("file", &self.file).field("row", &self.row).finish_non_exhaustive()
    }
}
