//! Writes Parquet: rows gathered into columns, a row group when there are enough, compressed by zstd.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use crate::wire::error::EncodeError;
use crate::wire::write::Written;

use super::columns::{Column, Columns, Values};
use super::layout;

/// A row group is closed at so many rows, or bytes before compression.
const ROWS_MAX: usize = 100_000;
const BYTES_MAX: usize = 32 << 20;

/// A Parquet file in the making.
pub(super) struct RowGroups<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Columns,
}

impl<W: Write + Send> RowGroups<W> {
    pub(super) fn new<R: Written>(out: W) -> Result<Self> {
        let message = layout::message_type(&R::schema()).expect("a test makes columns of every schema");
        let schema = Arc::new(parse_message_type(&message)?);
        let described = parquet::schema::types::SchemaDescriptor::new(Arc::clone(&schema));
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_created_by(concat!("dce ", env!("CARGO_PKG_VERSION")).to_owned());
        for column in described.columns() {
            if matches!(column.physical_type(), Physical::FLOAT | Physical::DOUBLE) {
                // No two are the same, and their bytes pack better by their place.
                properties = properties
                    .set_column_dictionary_enabled(column.path().clone(), false)
                    .set_column_encoding(column.path().clone(), Encoding::BYTE_STREAM_SPLIT);
            }
        }
        let writer = SerializedFileWriter::new(out, schema, Arc::new(properties.build()))?;
        Ok(Self { writer, columns: Columns::of(&described) })
    }

    pub(super) fn push<R: Written>(&mut self, record: &R) -> std::result::Result<(), EncodeError> {
        self.columns.push(record)
    }

    pub(super) fn is_full(&self) -> bool {
        self.columns.rows() >= ROWS_MAX || self.columns.bytes() >= BYTES_MAX
    }

    /// Writes what has come since as a row group.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.columns.rows() == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for column in self.columns.columns() {
            let writer = group.next_column()?.expect("as many as the schema has");
            write_column(column, writer)?;
        }
        group.close()?;
        self.columns.clear();
        Ok(())
    }

    /// Writes the end of the file, and gives back what it was written to.
    pub(super) fn finish(mut self) -> Result<W> {
        self.flush()?;
        self.writer.into_inner()
    }
}

fn write_column(column: &Column, mut writer: SerializedColumnWriter<'_>) -> Result<()> {
    match &column.values {
        Values::Boolean(values) => put::<BoolType>(&mut writer, column, values)?,
        Values::Int32(values) => put::<Int32Type>(&mut writer, column, values)?,
        Values::Int64(values) => put::<Int64Type>(&mut writer, column, values)?,
        Values::Float(values) => put::<FloatType>(&mut writer, column, values)?,
        Values::Double(values) => put::<DoubleType>(&mut writer, column, values)?,
        Values::Bytes(values) => put::<ByteArrayType>(&mut writer, column, values)?,
    }
    writer.close()
}

fn put<T: DataType>(writer: &mut SerializedColumnWriter<'_>, column: &Column, values: &[T::T]) -> Result<()> {
    let definition = (column.definition_max > 0).then_some(column.definition.as_slice());
    let repetition = (column.repetition_max > 0).then_some(column.repetition.as_slice());
    writer.typed::<T>().write_batch(values, definition, repetition).map(drop)
}

impl<W: Write + Send> std::fmt::Debug for RowGroups<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowGroups").field("rows", &self.columns.rows()).finish_non_exhaustive()
    }
}
