//! One column of a row group, read in batches and taken row by row.

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};

/// Which column, and how its values are to be understood.
#[derive(Debug, Clone)]
pub(super) struct LeafPlan {
    /// Its place among the file's columns.
    pub(super) index: usize,
    pub(super) path: String,
    pub(super) definition_max: i16,
    /// From which definition level on an item of a list or map is there, be it null.
    pub(super) item_level: i16,
    /// What an integer of a timestamp is divided by to be milliseconds.
    pub(super) per_ms: i64,
    /// A whole number without a sign, in as many bits as it has.
    pub(super) is_unsigned: bool,
}

/// One value of a column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Bytes(&'a [u8]),
    Integer(i64),
    Double(f64),
    Boolean(bool),
}

#[derive(Debug)]
enum Values {
    Bytes(Vec<ByteArray>),
    Integer(Vec<i64>),
    Double(Vec<f64>),
    Boolean(Vec<bool>),
}

/// A column and where its next row begins.
pub(super) struct Leaf {
    reader: ColumnReader,
    plan: LeafPlan,
    values: Values,
    definition: Vec<i16>,
    repetition: Vec<i16>,
    level: usize,
    value: usize,
}

impl Leaf {
    pub(super) fn new(reader: ColumnReader, plan: &LeafPlan) -> Result<Self, String> {
        let values = match reader {
            ColumnReader::BoolColumnReader(_) => Values::Boolean(Vec::new()),
            ColumnReader::Int32ColumnReader(_) | ColumnReader::Int64ColumnReader(_) => Values::Integer(Vec::new()),
            ColumnReader::FloatColumnReader(_) | ColumnReader::DoubleColumnReader(_) => Values::Double(Vec::new()),
            ColumnReader::ByteArrayColumnReader(_) => Values::Bytes(Vec::new()),
            ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                return Err(format!("column {} is of another type than its schema says", plan.path));
            }
        };
        let (definition, repetition) = (Vec::new(), Vec::new());
        Ok(Self { reader, plan: plan.clone(), values, definition, repetition, level: 0, value: 0 })
    }

    /// Reads the next rows, which must be there; those before must have been taken.
    pub(super) fn read(&mut self, rows: usize) -> Result<(), String> {
        (self.level, self.value) = (0, 0);
        self.definition.clear();
        self.repetition.clear();
        let levels = (&mut self.definition, &mut self.repetition);
        let (per_ms, is_unsigned) = (self.plan.per_ms, self.plan.is_unsigned);
        let read = match (&mut self.reader, &mut self.values) {
            (ColumnReader::BoolColumnReader(reader), Values::Boolean(values)) => read(reader, rows, levels, values),
            (ColumnReader::ByteArrayColumnReader(reader), Values::Bytes(values)) => read(reader, rows, levels, values),
            (ColumnReader::DoubleColumnReader(reader), Values::Double(values)) => read(reader, rows, levels, values),
            (ColumnReader::FloatColumnReader(reader), Values::Double(values)) => {
                let mut narrow = Vec::new();
                let read = read(reader, rows, levels, &mut narrow);
                *values = narrow.into_iter().map(f64::from).collect();
                read
            }
            (ColumnReader::Int32ColumnReader(reader), Values::Integer(values)) => {
                let mut narrow = Vec::new();
                let read = read(reader, rows, levels, &mut narrow);
                let wide = |value: i32| if is_unsigned { value.cast_unsigned().into() } else { value.into() };
                *values = narrow.into_iter().map(wide).collect();
                read
            }
            (ColumnReader::Int64ColumnReader(reader), Values::Integer(values)) => {
                let read = read(reader, rows, levels, values);
                if per_ms > 1 {
                    values.iter_mut().for_each(|value| *value = value.div_euclid(per_ms));
                }
                read
            }
            _ => unreachable!("the values are made for the reader"),
        };
        let in_column = |why: String| format!("column {}: {why}", self.plan.path);
        let records = read.map_err(in_column)?;
        if records < rows {
            return Err(in_column(format!("{records} rows more, and its row group has {rows}")));
        }
        Ok(())
    }

    /// The next row of a column of single values.
    pub(super) fn take<'l>(&'l mut self) -> Option<Value<'l>> {
        let is_there = self.plan.definition_max == 0
            || self.definition.get(self.level).is_some_and(|level| *level == self.plan.definition_max);
        self.level += 1;
        if !is_there {
            return None;
        }
        self.value += 1;
        self.values.get(self.value - 1)
    }

    /// The items of the next row of a repeated column; `None` is an item that is null.
    pub(super) fn take_items<'l>(&'l mut self) -> Vec<Option<Value<'l>>> {
        let first = self.level;
        let mut items = Vec::new();
        let (mut value, mut level) = (self.value, first);
        while level < self.definition.len() && (level == first || self.repetition.get(level).is_some_and(|r| *r > 0)) {
            let depth = self.definition[level];
            if depth == self.plan.definition_max {
                items.push(self.values.get(value));
                value += 1;
            } else if depth >= self.plan.item_level {
                items.push(None);
            }
            level += 1;
        }
        (self.level, self.value) = (level, value);
        items
    }
}

impl Values {
    fn get(&self, at: usize) -> Option<Value<'_>> {
        match self {
            Self::Bytes(values) => values.get(at).map(|value| Value::Bytes(value.data())),
            Self::Integer(values) => values.get(at).map(|value| Value::Integer(*value)),
            Self::Double(values) => values.get(at).map(|value| Value::Double(*value)),
            Self::Boolean(values) => values.get(at).map(|value| Value::Boolean(*value)),
        }
    }
}

fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    (definition, repetition): (&mut Vec<i16>, &mut Vec<i16>),
    values: &mut Vec<T::T>,
) -> Result<usize, String> {
    values.clear();
    let read = reader.read_records(rows, Some(definition), Some(repetition), values);
    read.map(|(records, _, _)| records).map_err(|why| why.to_string())
}
