//! Any record by the schema that wrote it, as a serde deserializer: fields by name, unions as options, symbols as
//! strings, numbers widened. What the reading struct lacks is skipped; what the writer lacks, the struct's defaults fill.

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor, value::StrDeserializer};

use crate::wire::error::DecodeError;

use super::cursor::{Cursor, Fault};
use super::tree::{DEPTH_MAX, Field, Node, NodeId, Tree};

/// One value on its way to a struct.
pub(super) struct ValueReader<'t, 'c, 'de> {
    pub(super) tree: &'t Tree,
    pub(super) id: NodeId,
    pub(super) cursor: &'c mut Cursor<'de>,
    pub(super) depth: usize,
}

impl serde::de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(why: T) -> Self {
        Self::NotResolved { why: why.to_string() }
    }
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        fault.within("the record")
    }
}

impl<'t, 'de> ValueReader<'t, '_, 'de> {
    fn child(&mut self, id: NodeId) -> ValueReader<'t, '_, 'de> {
        ValueReader { tree: self.tree, id, cursor: self.cursor, depth: self.depth + 1 }
    }
}

impl<'de> Deserializer<'de> for ValueReader<'_, '_, 'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::Invalid("nested too deep").into());
        }
        match self.tree.node(self.id) {
            Node::Null => visitor.visit_unit(),
            Node::Boolean => visitor.visit_bool(self.cursor.boolean()?),
            Node::Int | Node::OtherInt => visitor.visit_i32(self.cursor.int()?),
            Node::Long | Node::Millis | Node::OtherLong => visitor.visit_i64(self.cursor.long()?),
            Node::Float => visitor.visit_f32(self.cursor.float()?),
            Node::Double => visitor.visit_f64(self.cursor.double()?),
            Node::Bytes | Node::OtherBytes => visitor.visit_borrowed_bytes(self.cursor.bytes()?),
            Node::Text => visitor.visit_borrowed_str(self.cursor.text()?),
            Node::Fixed(size) => visitor.visit_borrowed_bytes(self.cursor.take(*size)?),
            Node::Enum(symbols) => visitor.visit_str(&symbols[self.cursor.index(symbols.len())?]),
            Node::Array(item) => visitor.visit_seq(Items { item: *item, left: 0, reader: self }),
            Node::Map(item) => visitor.visit_map(Items { item: *item, left: 0, reader: self }),
            Node::Union(branches) => {
                let branch = branches[self.cursor.index(branches.len())?];
                self.child(branch).deserialize_any(visitor)
            }
            Node::Record(fields) => visitor.visit_map(Fields { fields: fields.iter(), value: 0, reader: self }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, DecodeError> {
        let branch = self.tree.branch(self.id, self.cursor)?;
        if matches!(self.tree.node(branch), Node::Null) {
            return visitor.visit_none();
        }
        visitor.visit_some(self.child(branch))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.tree.skip(self.id, self.cursor, self.depth)?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier
    }
}

/// The items of an array or a map, block by block.
struct Items<'t, 'c, 'de> {
    reader: ValueReader<'t, 'c, 'de>,
    item: NodeId,
    left: usize,
}

impl Items<'_, '_, '_> {
    fn another(&mut self) -> Result<bool, DecodeError> {
        if self.left == 0 {
            self.left = self.reader.cursor.block()?;
        }
        let another = self.left > 0;
        self.left = self.left.saturating_sub(1);
        Ok(another)
    }
}

impl<'de> SeqAccess<'de> for Items<'_, '_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        if !self.another()? {
            return Ok(None);
        }
        let item = self.item;
        seed.deserialize(self.reader.child(item)).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_, '_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        if !self.another()? {
            return Ok(None);
        }
        let name = self.reader.cursor.text()?;
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let item = self.item;
        seed.deserialize(self.reader.child(item))
    }
}

/// The fields of a record.
struct Fields<'t, 'c, 'de> {
    reader: ValueReader<'t, 'c, 'de>,
    fields: std::slice::Iter<'t, Field>,
    value: NodeId,
}

impl<'de> MapAccess<'de> for Fields<'_, '_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.value = field.id;
        seed.deserialize(StrDeserializer::new(&field.name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let (value, left) = (self.value, self.reader.cursor.left());
        let read = seed.deserialize(self.reader.child(value))?;
        self.reader.cursor.count_if_empty(left)?;
        Ok(read)
    }
}
