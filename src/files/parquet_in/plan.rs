//! Which columns of a file are a click's, and whether they can be read as such. [`Plan::of`] looks at the schema once,
//! [`Plan::row`] then takes row after row.

use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type};

use super::leaf::{Leaf, LeafPlan};
use super::row::{Field, Row};

/// How to read the rows of one file.
#[derive(Debug)]
pub(super) struct Plan {
    leaves: Vec<LeafPlan>,
    roles: Vec<Role>,
    has_key: bool,
}

/// What a column is to a click.
#[derive(Debug, Clone)]
pub(super) enum Role {
    Field(Field),
    Keys(MapField),
    Values(MapField),
    /// A member of a struct, by its name.
    Member(MapField, Arc<str>),
    /// JSON text.
    Json(MapField),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapField {
    Context,
    Attributes,
}

impl Plan {
    /// The text of a refusal says which column and what it must be.
    pub(super) fn of(schema: &SchemaDescriptor) -> Result<Self, String> {
        let mut plan = Self { leaves: Vec::new(), roles: Vec::new(), has_key: false };
        let roots = schema.root_schema().get_fields();
        let mut indices: Vec<Vec<usize>> = vec![Vec::new(); roots.len()];
        for index in 0..schema.num_columns() {
            indices[schema.get_column_root_idx(index)].push(index);
        }
        for (root, indices) in roots.iter().zip(indices) {
            let columns: Vec<(usize, &ColumnDescriptor)> =
                indices.iter().map(|index| (*index, schema.columns()[*index].as_ref())).collect();
            match root.name() {
                "context" => plan.map(root, &columns, MapField::Context)?,
                "attributes" => plan.map(root, &columns, MapField::Attributes)?,
                name => {
                    if let Some(field) = Field::parse(name) {
                        plan.field(field, &columns)?;
                    }
                }
            }
        }
        for (required, name) in [(Field::EventId, "event_id"), (Field::EventTime, "event_time"), (Field::Kind, "kind")]
        {
            if !plan.roles.iter().any(|role| matches!(role, Role::Field(field) if *field == required)) {
                return Err(format!("no clicks: there is no column {name}"));
            }
        }
        Ok(plan)
    }

    pub(super) fn leaves(&self) -> &[LeafPlan] {
        &self.leaves
    }

    pub(super) fn row<'l>(&'l self, leaves: &'l mut [Leaf]) -> Row<'l> {
        let mut row = Row::new(self.has_key);
        for (leaf, role) in leaves.iter_mut().zip(&self.roles) {
            match role {
                Role::Field(field) => row.set(*field, leaf.take()),
                Role::Keys(of) => row.map_mut(*of).keys = leaf.take_items(),
                Role::Values(of) => row.map_mut(*of).values = leaf.take_items(),
                Role::Member(of, name) => row.map_mut(*of).members.push((name, leaf.take())),
                Role::Json(of) => row.map_mut(*of).json = leaf.take(),
            }
        }
        row
    }

    fn field(&mut self, field: Field, columns: &[(usize, &ColumnDescriptor)]) -> Result<(), String> {
        let must = if field.is_text() { "text" } else { "a whole number or a timestamp" };
        let [(index, column)] = columns else { return Err(wrong(field.name(), "nested", must)) };
        let fits = match column.physical_type() {
            Physical::BYTE_ARRAY => field.is_text(),
            Physical::INT32 | Physical::INT64 => !field.is_text(),
            Physical::BOOLEAN
            | Physical::FLOAT
            | Physical::DOUBLE
            | Physical::INT96
            | Physical::FIXED_LEN_BYTE_ARRAY => false,
        };
        if !fits || column.max_rep_level() > 0 {
            let found =
                if column.max_rep_level() > 0 { "a list".to_owned() } else { column.physical_type().to_string() };
            return Err(wrong(field.name(), &found, must));
        }
        check_meaning(field.name(), column, must)?;
        self.has_key |= field == Field::Key;
        self.push(*index, column, Role::Field(field));
        Ok(())
    }

    fn map(&mut self, root: &Type, columns: &[(usize, &ColumnDescriptor)], of: MapField) -> Result<(), String> {
        const MUST: &str = "a MAP of text, a struct or JSON text";
        let is_single = |column: &ColumnDescriptor| column.max_rep_level() == 0;
        match columns {
            [(index, column)] if root.is_primitive() && column.physical_type() == Physical::BYTE_ARRAY => {
                check_meaning(of.name(), column, MUST)?;
                self.push(*index, column, Role::Json(of));
            }
            [(key_index, keys), (value_index, values)] if keys.max_rep_level() == 1 && values.max_rep_level() == 1 => {
                let (key_type, value_type) = (keys.physical_type(), values.physical_type());
                if key_type != Physical::BYTE_ARRAY || !of.takes(value_type) {
                    return Err(wrong(of.name(), &format!("a map of {key_type} to {value_type}"), of.must()));
                }
                check_meaning(&format!("{} (its keys)", of.name()), keys, of.must())?;
                check_meaning(&format!("{} (its values)", of.name()), values, of.must())?;
                self.push(*key_index, keys, Role::Keys(of));
                self.push(*value_index, values, Role::Values(of));
            }
            columns if root.is_group() && columns.iter().all(|(_, column)| is_single(column)) => {
                // One that would be a number or text if it were read is not left out in silence.
                for (_, column) in columns {
                    check_meaning(&column.path().string(), column, of.member_must())?;
                }
                // A member that is no number says nothing of a context, as in JSON.
                for (index, column) in columns.iter().filter(|(_, column)| of.takes(column.physical_type())) {
                    let name = column.path().parts()[1..].join(".");
                    self.push(*index, column, Role::Member(of, name.into()));
                }
            }
            _ => return Err(wrong(of.name(), "nested otherwise", MUST)),
        }
        Ok(())
    }

    fn push(&mut self, index: usize, column: &ColumnDescriptor, role: Role) {
        let meaning = Meaning::of(column);
        let is_optional = column.self_type().get_basic_info().repetition() == Repetition::OPTIONAL;
        self.leaves.push(LeafPlan {
            index,
            path: column.path().string(),
            definition_max: column.max_def_level(),
            item_level: column.max_def_level() - i16::from(is_optional),
            per_ms: if let Meaning::Timestamp { per_ms } = meaning { per_ms } else { 1 },
            is_unsigned: meaning == Meaning::Unsigned,
        });
        self.roles.push(role);
    }
}

impl MapField {
    fn name(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Attributes => "attributes",
        }
    }

    fn must(self) -> &'static str {
        match self {
            Self::Context => "a map of text to numbers",
            Self::Attributes => "a map of text to text",
        }
    }

    fn member_must(self) -> &'static str {
        match self {
            Self::Context => "a whole number, a FLOAT or a DOUBLE; cast it where the file is written",
            Self::Attributes => "text, a number or a boolean; cast it where the file is written",
        }
    }

    fn takes(self, value: Physical) -> bool {
        match value {
            Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE => true,
            Physical::BYTE_ARRAY | Physical::BOOLEAN => self == Self::Attributes,
            Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY => false,
        }
    }
}

/// What the numbers or bytes of a column stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Themselves.
    Plain,
    Unsigned,
    Timestamp {
        /// Its units in a millisecond.
        per_ms: i64,
    },
    /// Something that they are not when they are read as they stand.
    Other(&'static str),
}

impl Meaning {
    /// By the logical type, and where a file is too old for one by the converted type.
    fn of(column: &ColumnDescriptor) -> Self {
        match column.logical_type_ref() {
            Some(LogicalType::Timestamp(kind)) => Self::Timestamp {
                per_ms: match kind.unit {
                    TimeUnit::MILLIS => 1,
                    TimeUnit::MICROS => 1_000,
                    TimeUnit::NANOS => 1_000_000,
                },
            },
            Some(LogicalType::Date) => Self::Other("DATE"),
            Some(LogicalType::Time(_)) => Self::Other("TIME"),
            Some(LogicalType::Decimal(_)) => Self::Other("DECIMAL"),
            Some(LogicalType::Float16) => Self::Other("FLOAT16"),
            Some(LogicalType::Integer(kind)) if !kind.is_signed => Self::Unsigned,
            _ if column.physical_type() == Physical::INT96 => Self::Other("INT96"),
            _ => match column.converted_type() {
                ConvertedType::TIMESTAMP_MILLIS => Self::Timestamp { per_ms: 1 },
                ConvertedType::TIMESTAMP_MICROS => Self::Timestamp { per_ms: 1_000 },
                ConvertedType::DATE => Self::Other("DATE"),
                ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS => Self::Other("TIME"),
                ConvertedType::DECIMAL => Self::Other("DECIMAL"),
                ConvertedType::INTERVAL => Self::Other("INTERVAL"),
                ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64 => {
                    Self::Unsigned
                }
                _ => Self::Plain,
            },
        }
    }
}

fn check_meaning(name: &str, column: &ColumnDescriptor, must: &str) -> Result<(), String> {
    if let Meaning::Other(found) = Meaning::of(column) { Err(wrong(name, found, must)) } else { Ok(()) }
}

fn wrong(column: &str, found: &str, must: &str) -> String {
    format!("column {column} is {found}, must be {must}")
}
