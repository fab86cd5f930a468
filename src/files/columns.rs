//! Rows turned into columns: takes a record's fields one by one, keeps what Parquet wants of them, values and levels, until
//! there is enough for a row group. A row that cannot be written leaves nothing.
//!
//! The levels, of an item of a list or map: repetition 0 begins a row, 1 goes on in it (2: in the list within a map);
//! definition is how many of the optional and repeated groups around it are there.

use std::borrow::Cow;

use parquet::basic::Type as Physical;
use parquet::data_type::ByteArray;
use parquet::schema::types::SchemaDescriptor;

use crate::wire::error::EncodeError;
use crate::wire::write::{Fields, Written};

/// The values of a column that are there.
#[derive(Debug)]
pub(super) enum Values {
    Boolean(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    /// Empty where all values are required.
    pub(super) definition: Vec<i16>,
    /// Empty where nothing is repeated.
    pub(super) repetition: Vec<i16>,
    pub(super) definition_max: i16,
    pub(super) repetition_max: i16,
}

impl Values {
    pub(super) fn of(physical: Physical) -> Self {
        match physical {
            Physical::BOOLEAN => Self::Boolean(Vec::new()),
            Physical::INT32 => Self::Int32(Vec::new()),
            Physical::FLOAT => Self::Float(Vec::new()),
            Physical::DOUBLE => Self::Double(Vec::new()),
            Physical::BYTE_ARRAY => Self::Bytes(Vec::new()),
            Physical::INT64 | Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY => Self::Int64(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Boolean(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(values) => values.truncate(len),
            Self::Int32(values) => values.truncate(len),
            Self::Int64(values) => values.truncate(len),
            Self::Float(values) => values.truncate(len),
            Self::Double(values) => values.truncate(len),
            Self::Bytes(values) => values.truncate(len),
        }
    }

    fn push_integer(&mut self, number: i64) {
        match self {
            Self::Int32(values) => values.push(i32::try_from(number).expect("an int of the schema fits into one")),
            Self::Int64(values) => values.push(number),
            Self::Boolean(_) | Self::Float(_) | Self::Double(_) | Self::Bytes(_) => unreachable!("{MADE_FROM_SCHEMA}"),
        }
    }

    fn push_float(&mut self, number: f32) {
        let Self::Float(values) = self else { unreachable!("{MADE_FROM_SCHEMA}") };
        values.push(number);
    }

    fn push_double(&mut self, number: f64) {
        let Self::Double(values) = self else { unreachable!("{MADE_FROM_SCHEMA}") };
        values.push(number);
    }
}

const MADE_FROM_SCHEMA: &str = "the columns are made from the schema whose fields are written";

/// What a value costs beside its bytes, about.
const VALUE_BYTES: usize = 8;

/// The columns of a row group in the making.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

impl Columns {
    pub(super) fn of(schema: &SchemaDescriptor) -> Self {
        let columns = schema.columns().iter().map(|column| Column {
            values: Values::of(column.physical_type()),
            definition: Vec::new(),
            repetition: Vec::new(),
            definition_max: column.max_def_level(),
            repetition_max: column.max_rep_level(),
        });
        Self { columns: columns.collect(), rows: 0, bytes: 0 }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// What the rows take in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(super) fn clear(&mut self) {
        for column in &mut self.columns {
            column.values.truncate(0);
            column.definition.clear();
            column.repetition.clear();
        }
        (self.rows, self.bytes) = (0, 0);
    }

    pub(super) fn push<R: Written>(&mut self, record: &R) -> Result<(), EncodeError> {
        let marks: Vec<_> =
            self.columns.iter().map(|c| (c.values.len(), c.definition.len(), c.repetition.len())).collect();
        let bytes = self.bytes;
        let mut row = RowFields { columns: &mut self.columns, at: 0, bytes: 0 };
        let written = record.write(&mut row);
        self.bytes = bytes + row.bytes;
        match written {
            Ok(()) => self.rows += 1,
            Err(_) => {
                self.bytes = bytes;
                for (column, (values, definition, repetition)) in self.columns.iter_mut().zip(marks) {
                    column.values.truncate(values);
                    column.definition.truncate(definition);
                    column.repetition.truncate(repetition);
                }
            }
        }
        written
    }
}

/// One row: the fields come in the order of the columns.
struct RowFields<'c> {
    columns: &'c mut Vec<Column>,
    at: usize,
    bytes: usize,
}

impl RowFields<'_> {
    /// The next column, where a value may be added at that depth.
    fn next(&mut self) -> usize {
        self.at += 1;
        self.at - 1
    }

    /// Notes a value, or that there is none, at these levels.
    fn level(&mut self, at: usize, repetition: i16, definition: i16) -> &mut Values {
        self.bytes += VALUE_BYTES;
        let column = &mut self.columns[at];
        if column.definition_max > 0 {
            column.definition.push(definition);
        }
        if column.repetition_max > 0 {
            column.repetition.push(repetition);
        }
        &mut column.values
    }

    fn put_text(&mut self, at: usize, repetition: i16, definition: i16, text: &str) {
        self.bytes += text.len() + size_of::<ByteArray>();
        let Values::Bytes(values) = self.level(at, repetition, definition) else { unreachable!("{MADE_FROM_SCHEMA}") };
        values.push(ByteArray::from(text.as_bytes().to_vec()));
    }

    /// How deep a value of the column stands.
    fn depth(&self, at: usize) -> i16 {
        self.columns[at].definition_max
    }
}

impl Fields for RowFields<'_> {
    fn text(&mut self, _: &'static str, text: &str) {
        let at = self.next();
        self.put_text(at, 0, 0, text);
    }

    fn optional_text(&mut self, _: &'static str, text: Option<&str>) {
        let at = self.next();
        match text {
            Some(text) => self.put_text(at, 0, 1, text),
            None => _ = self.level(at, 0, 0),
        }
    }

    fn integer(&mut self, _: &'static str, number: i64) {
        let at = self.next();
        self.level(at, 0, 0).push_integer(number);
    }

    fn optional_integer(&mut self, _: &'static str, number: Option<i64>) {
        let at = self.next();
        match number {
            Some(number) => self.level(at, 0, 1).push_integer(number),
            None => _ = self.level(at, 0, 0),
        }
    }

    fn boolean(&mut self, _: &'static str, flag: bool) {
        let at = self.next();
        let Values::Boolean(values) = self.level(at, 0, 0) else { unreachable!("{MADE_FROM_SCHEMA}") };
        values.push(flag);
    }

    fn symbol(&mut self, name: &'static str, _: usize, symbol: &'static str) {
        self.text(name, symbol);
    }

    fn optional_symbol(&mut self, name: &'static str, symbol: Option<(usize, &'static str)>) {
        self.optional_text(name, symbol.map(|(_, symbol)| symbol));
    }

    fn float(&mut self, name: &'static str, number: f32) -> Result<(), EncodeError> {
        finite(name, number.into())?;
        let at = self.next();
        self.level(at, 0, 0).push_float(number);
        Ok(())
    }

    fn optional_double(&mut self, name: &'static str, number: Option<f64>) -> Result<(), EncodeError> {
        finite(name, number.unwrap_or_default())?;
        let at = self.next();
        match number {
            Some(number) => self.level(at, 0, 1).push_double(number),
            None => _ = self.level(at, 0, 0),
        }
        Ok(())
    }

    fn floats(&mut self, name: &'static str, numbers: &[f32]) -> Result<(), EncodeError> {
        let at = self.next();
        if numbers.is_empty() {
            self.level(at, 0, 0);
        }
        for (index, number) in numbers.iter().enumerate() {
            finite(name, (*number).into())?;
            self.level(at, later(index, 1), 1).push_float(*number);
        }
        Ok(())
    }

    fn texts<'t>(&mut self, _: &'static str, texts: impl ExactSizeIterator<Item = &'t str>) {
        let at = self.next();
        if texts.len() == 0 {
            self.level(at, 0, 0);
        }
        for (index, text) in texts.enumerate() {
            self.put_text(at, later(index, 1), 1, text);
        }
    }

    fn texts_by_name<'t>(&mut self, _: &'static str, texts: impl ExactSizeIterator<Item = (&'t str, &'t str)>) {
        let (keys, values) = (self.next(), self.next());
        if texts.len() == 0 {
            self.level(keys, 0, 0);
            self.level(values, 0, 0);
        }
        for (index, (name, text)) in texts.enumerate() {
            self.put_text(keys, later(index, 1), 1, name);
            self.put_text(values, later(index, 1), 1, text);
        }
    }

    fn floats_by_name<'t>(
        &mut self,
        name: &'static str,
        floats: impl ExactSizeIterator<Item = (&'t str, &'t [f32])>,
    ) -> Result<(), EncodeError> {
        let (keys, values) = (self.next(), self.next());
        if floats.len() == 0 {
            self.level(keys, 0, 0);
            self.level(values, 0, 0);
        }
        for (index, (key, numbers)) in floats.enumerate() {
            self.put_text(keys, later(index, 1), 1, key);
            if numbers.is_empty() {
                self.level(values, later(index, 1), 1);
            }
            for (item, number) in numbers.iter().enumerate() {
                finite(name, (*number).into())?;
                let repetition = if item > 0 { 2 } else { later(index, 1) };
                self.level(values, repetition, 2).push_float(*number);
            }
        }
        Ok(())
    }

    fn optional_doubles(&mut self, name: &'static str, doubles: &[(Cow<'_, str>, f64)]) -> Result<(), EncodeError> {
        let (keys, values) = (self.next(), self.next());
        if doubles.is_empty() {
            self.level(keys, 0, 0);
            self.level(values, 0, 0);
        }
        let depth = self.depth(keys);
        for (index, (key, number)) in doubles.iter().enumerate() {
            finite(name, *number)?;
            self.put_text(keys, later(index, 1), depth, key);
            self.level(values, later(index, 1), depth).push_double(*number);
        }
        Ok(())
    }
}

/// The repetition of a list's items: 0 of the first.
fn later(index: usize, repetition: i16) -> i16 {
    if index == 0 { 0 } else { repetition }
}

fn finite(field: &'static str, number: f64) -> Result<(), EncodeError> {
    if number.is_finite() { Ok(()) } else { Err(EncodeError::NotFinite { field, found: number }) }
}
