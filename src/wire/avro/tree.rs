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
                        self.skip_counted(*item, cursor, depth + 1)?;
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
            Node::Record(fields) => fields.iter().try_for_each(|field| self.skip_counted(field.id, cursor, depth + 1)),
        }
    }

    /// What a schema can multiply without a byte of the record: items and fields.
    fn skip_counted(&self, id: NodeId, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Fault> {
        let left = cursor.left();
        self.skip(id, cursor, depth)?;
        cursor.count_if_empty(left)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::avro::cursor::EMPTY_ITEMS_MAX;
    use crate::wire::avro::record::ValueReader;

    fn tree(schema: &Value) -> Tree {
        Tree::of(&Schema::parse_str(&schema.to_string()).unwrap()).unwrap()
    }

    /// R0 of two R1, R1 of two R2 …: each name is defined where it first stands.
    fn doubling(level: usize, levels: usize) -> Value {
        let inner = if level == levels { json!("null") } else { doubling(level + 1, levels) };
        let again = if level == levels { json!("null") } else { json!(format!("R{}", level + 1)) };
        json!({"type": "record", "name": format!("R{level}"), "fields": [
            {"name": "a", "type": inner}, {"name": "b", "type": again},
        ]})
    }

    /// What a reading says, which must not take long.
    fn soon(read: impl FnOnce() -> Result<(), Fault> + Send + 'static) -> Result<(), Fault> {
        let (said, says) = mpsc::sync_channel(1);
        std::thread::spawn(move || said.send(read()));
        says.recv_timeout(Duration::from_secs(20)).expect("a few steps, not 2^35")
    }

    #[test]
    fn a_schema_that_doubles_costs_a_record_of_no_bytes_its_place_and_no_time() {
        let empty = Err(Fault::Invalid("too many values of no bytes"));
        let small = tree(&doubling(0, 10));
        assert_eq!(small.skip(Tree::ROOT, &mut Cursor::new(&[]), 0), Ok(()), "within the limit");
        let large = tree(&doubling(0, 35));
        assert_eq!(soon(move || large.skip(Tree::ROOT, &mut Cursor::new(&[]), 0)), empty);
        let large = tree(&doubling(0, 35));
        let typed = soon(move || {
            let reader = ValueReader { tree: &large, id: Tree::ROOT, cursor: &mut Cursor::new(&[]), depth: 0 };
            let read = HashMap::<String, IgnoredAny>::deserialize(reader);
            assert!(read.unwrap_err().to_string().contains("too many values of no bytes"));
            Ok(())
        });
        assert_eq!(typed, Ok(()));
        // However large the block of a file is that it is cut from.
        let large = tree(&doubling(0, 35));
        assert_eq!(soon(move || large.skip(Tree::ROOT, &mut Cursor::to_cut(&vec![0; 16 << 20]), 0)), empty);
    }

    #[test]
    fn items_of_many_fields_of_no_bytes_are_counted_by_their_fields() {
        let fields: Vec<Value> =
            (0..50_000).map(|number| json!({"name": format!("f{number}"), "type": "null"})).collect();
        let wide = tree(&json!({"type": "array", "items": {"type": "record", "name": "Wide", "fields": fields}}));
        let empty = Fault::Invalid("too many values of no bytes");
        assert_eq!(wide.skip(Tree::ROOT, &mut Cursor::new(&[2, 0]), 0), Ok(()), "one");
        // A block of 8192 items.
        assert_eq!(wide.skip(Tree::ROOT, &mut Cursor::new(&[0x80, 0x80, 1, 0]), 0), Err(empty));
    }

    #[test]
    fn values_with_bytes_are_as_many_as_there_are_bytes() {
        let item = json!({"type": "record", "name": "Outer", "fields": [{"name": "inner", "type":
            {"type": "record", "name": "Inner", "fields": [{"name": "number", "type": "int"}]}}]});
        let tree = tree(&json!({"type": "array", "items": item}));
        let count = 4 * EMPTY_ITEMS_MAX;
        let mut bytes = vec![0x80, 0x80, 0x20];
        bytes.resize(3 + count + 1, 0);
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(tree.skip(Tree::ROOT, &mut cursor, 0), Ok(()));
        assert_eq!(cursor.finished(), Ok(()));
    }
}
