//! A writer's schema, made ready for reading: types by number, names resolved. Takes an `apache_avro::Schema`, gives a
//! [`Tree`] that skips and reads values straight from the bytes.

use std::borrow::Cow;
use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{Name, Namespace};

use super::cursor::{Cursor, Fault};

/// How deep values may nest that a schema allows to contain themselves.
pub(super) const DEPTH_MAX: usize = 64;

/// The place of a type in its tree.
pub(super) type NodeId = usize;

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    /// Milliseconds since the epoch.
    Millis,
    /// A date, a time or a timestamp in another unit: read as no plain number.
    OtherInt,
    OtherLong,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    /// A decimal: read as no bytes.
    OtherBytes,
    Enum(Box<[Box<str>]>),
    Array(NodeId),
    Map(NodeId),
    Union(Box<[NodeId]>),
    Record(Box<[Field]>),
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) id: NodeId,
}

/// Types by their names: those that have their place, and schemas that may still get one.
struct Names<'s> {
    planted: HashMap<Name, NodeId>,
    others: &'s [Schema],
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    pub(super) const ROOT: NodeId = 0;

    pub(super) fn of(schema: &Schema) -> Result<Self, String> {
        Self::with(schema, &[])
    }

    /// Of a schema that takes names from others.
    pub(super) fn with(schema: &Schema, others: &[Schema]) -> Result<Self, String> {
        let mut tree = Self { nodes: Vec::new() };
        tree.plant(schema, &None, &mut Names { planted: HashMap::new(), others })?;
        Ok(tree)
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    fn plant(&mut self, schema: &Schema, namespace: &Namespace, names: &mut Names<'_>) -> Result<NodeId, String> {
        if let Schema::Ref { name } = schema {
            let name = name.fully_qualified_name(namespace);
            if let Some(id) = names.planted.get(&name) {
                return Ok(*id);
            }
            let named = |other: &&Schema| other.name().is_some_and(|own| own.fully_qualified_name(&None) == name);
            let others = names.others;
            let other = others.iter().find(named).ok_or_else(|| format!("the type {name} is not defined"))?;
            return self.plant(other, &None, names);
        }
        let id = self.nodes.len();
        self.nodes.push(Node::Null);
        self.nodes[id] = match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int => Node::Int,
            Schema::Long => Node::Long,
            Schema::TimestampMillis => Node::Millis,
            Schema::Date | Schema::TimeMillis => Node::OtherInt,
            Schema::TimeMicros
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Node::OtherLong,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes => Node::Bytes,
            Schema::String | Schema::Uuid => Node::Text,
            Schema::BigDecimal => Node::OtherBytes,
            Schema::Duration => Node::Fixed(12),
            Schema::Decimal(decimal) => match decimal.inner.as_ref() {
                Schema::Fixed(fixed) => {
                    names.planted.insert(fixed.name.fully_qualified_name(namespace), id);
                    Node::Fixed(fixed.size)
                }
                _ => Node::OtherBytes,
            },
            Schema::Fixed(fixed) => {
                names.planted.insert(fixed.name.fully_qualified_name(namespace), id);
                Node::Fixed(fixed.size)
            }
            Schema::Enum(symbols) => {
                names.planted.insert(symbols.name.fully_qualified_name(namespace), id);
                Node::Enum(symbols.symbols.iter().map(|symbol| symbol.as_str().into()).collect())
            }
            Schema::Array(array) => Node::Array(self.plant(&array.items, namespace, names)?),
            Schema::Map(map) => Node::Map(self.plant(&map.types, namespace, names)?),
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.plant(branch, namespace, names));
                Node::Union(branches.collect::<Result<_, _>>()?)
            }
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                names.planted.insert(name.clone(), id);
                let fields = record.fields.iter().map(|field| {
                    let id = self.plant(&field.schema, &name.namespace, names)?;
                    Ok(Field { name: field.name.as_str().into(), id })
                });
                Node::Record(fields.collect::<Result<_, String>>()?)
            }
            Schema::Ref { .. } => unreachable!("followed above"),
        };
        Ok(id)
    }

    /// Reads a value and forgets it.
    pub(super) fn skip(&self, id: NodeId, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Fault> {
        if depth == DEPTH_MAX {
            return Err(Fault::Invalid("nested too deep"));
        }
        match self.node(id) {
            Node::Null => Ok(()),
            Node::Boolean => cursor.boolean().map(drop),
            Node::Int | Node::OtherInt => cursor.int().map(drop),
            Node::Long | Node::Millis | Node::OtherLong => cursor.long().map(drop),
            Node::Float => cursor.float().map(drop),
            Node::Double => cursor.double().map(drop),
            Node::Bytes | Node::OtherBytes => cursor.bytes().map(drop),
            Node::Text => cursor.skip_text(),
            Node::Fixed(size) => cursor.take(*size).map(drop),
            Node::Enum(symbols) => cursor.index(symbols.len()).map(drop),
            Node::Array(item) => {
                while let count @ 1.. = cursor.block()? {
                    for _ in 0..count {
                        self.skip(*item, cursor, depth + 1)?;
                    }
                }
                Ok(())
            }
            Node::Map(item) => {
                while let count @ 1.. = cursor.block()? {
                    for _ in 0..count {
                        cursor.skip_text()?;
                        self.skip(*item, cursor, depth + 1)?;
                    }
                }
                Ok(())
            }
            Node::Union(branches) => {
                let branch = cursor.index(branches.len())?;
                self.skip(branches[branch], cursor, depth + 1)
            }
            Node::Record(fields) => fields.iter().try_for_each(|field| self.skip(field.id, cursor, depth + 1)),
        }
    }

    /// The type that a value has: of a union, the branch that the bytes name.
    #[inline]
    pub(super) fn branch(&self, id: NodeId, cursor: &mut Cursor<'_>) -> Result<NodeId, Fault> {
        match self.node(id) {
            Node::Union(branches) => Ok(branches[cursor.index(branches.len())?]),
            _ => Ok(id),
        }
    }

    /// A string or null.
    #[inline]
    pub(super) fn text<'a>(&self, id: NodeId, cursor: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, Fault> {
        match self.node(self.branch(id, cursor)?) {
            Node::Null => Ok(None),
            Node::Text | Node::Bytes => cursor.text().map(|text| Some(Cow::Borrowed(text))),
            _ => Err(Fault::Invalid("neither null nor a string")),
        }
    }

    /// Whether `fits` holds for the type, or for a branch of the union that it is.
    pub(super) fn any(&self, id: NodeId, fits: impl Fn(&Node) -> bool) -> bool {
        match self.node(id) {
            Node::Union(branches) => branches.iter().any(|branch| fits(self.node(*branch))),
            node => fits(node),
        }
    }
}
