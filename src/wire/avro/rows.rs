//! Rows of a container file: the bytes of a block, cut into records by the schema that wrote them, each with its place.
//! The records themselves are read later, as those of a topic are.

use std::borrow::Cow;

use crate::wire::error::{DecodeError, SchemaError};
use crate::wire::row::{ERASE, Envelope};

use super::cursor::{Cursor, Fault};
use super::tree::{Node, NodeId, Tree};
use super::{Writer, click};

/// A record's bytes, and what it says of its place.
pub type Cut<'a> = (&'a [u8], Result<Envelope<'a>, DecodeError>);

/// How to cut a file's blocks.
#[derive(Debug)]
pub struct Rows {
    tree: Tree,
    steps: Box<[(Step, NodeId)]>,
    has_key: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    CustomerId,
    EventTime,
    Kind,
    Partition,
    Offset,
    RecordTime,
    Key,
    Skip,
}

impl Step {
    fn of(name: &str) -> Self {
        match name {
            "customer_id" => Self::CustomerId,
            "event_time" => Self::EventTime,
            "kind" => Self::Kind,
            "partition" => Self::Partition,
            "offset" => Self::Offset,
            "record_time" => Self::RecordTime,
            "key" => Self::Key,
            _ => Self::Skip,
        }
    }

    fn fits(self, tree: &Tree, id: NodeId) -> bool {
        match self {
            // `click::Plan` has looked at these.
            Self::CustomerId | Self::EventTime | Self::Kind | Self::Skip => true,
            Self::Partition | Self::Offset => tree.any(id, |node| matches!(node, Node::Int | Node::Long)),
            Self::RecordTime => tree.any(id, |node| matches!(node, Node::Int | Node::Long | Node::Millis)),
            Self::Key => tree.any(id, |node| matches!(node, Node::Text | Node::Bytes)),
        }
    }
}

impl Rows {
    /// Refuses a schema that no ClickEvent can be read by.
    pub fn of(avsc: &str) -> Result<Self, SchemaError> {
        let writer = Writer::parse(avsc)?;
        click::Plan::of(&writer.schema)?;
        let incompatible = |why: String| SchemaError::Incompatible { record: "ClickEvent", why };
        let tree = Tree::of(&writer.schema).map_err(incompatible)?;
        let Node::Record(fields) = tree.node(Tree::ROOT) else { return Err(incompatible("it is no record".into())) };
        let steps: Box<[_]> = fields.iter().map(|field| (Step::of(&field.name), field.id)).collect();
        for (field, (step, id)) in fields.iter().zip(&steps) {
            if !step.fits(&tree, *id) {
                return Err(incompatible(format!("the field {} has another type", field.name)));
            }
        }
        let has_key = steps.iter().any(|(step, _)| *step == Step::Key);
        Ok(Self { tree, steps, has_key })
    }

    /// Takes the next record off the block: its bytes, and what it says of its place, or what is wrong with that. An
    /// error leaves nothing to go on from, since where the next record begins is known by reading this one alone.
    pub fn next<'a>(&self, block: &mut &'a [u8]) -> Result<Cut<'a>, DecodeError> {
        let bytes = *block;
        let mut cursor = Cursor::to_cut(bytes);
        let mut envelope = Envelope::default();
        let (mut customer, mut fault) = (None, None);
        for (step, id) in &self.steps {
            let (id, at) = (*id, &mut cursor);
            match step {
                Step::CustomerId => customer = self.text(id, at).map_err(in_field("customer_id"))?,
                Step::Key => envelope.key = self.text(id, at).map_err(in_field("key"))?,
                Step::EventTime => envelope.event_time = self.whole(id, at).map_err(in_field("event_time"))?,
                Step::Kind => envelope.is_erasure = self.is_erasure(id, at).map_err(in_field("kind"))?,
                Step::Partition => {
                    let number = self.whole(id, at).map_err(in_field("partition"))?;
                    envelope.partition = placed("partition", number, &mut fault);
                }
                Step::Offset => {
                    let number = self.whole(id, at).map_err(in_field("offset"))?;
                    envelope.offset = placed("offset", number, &mut fault);
                }
                Step::RecordTime => {
                    let time = self.whole(id, at).map_err(in_field("record_time"))?;
                    envelope.record_time = placed("record_time", time, &mut fault);
                }
                Step::Skip => self.tree.skip(id, at, 0).map_err(in_field("a field that is not read"))?,
            }
        }
        if !self.has_key {
            envelope.key = customer;
        }
        let (record, rest) = bytes.split_at(bytes.len() - cursor.left());
        *block = rest;
        Ok((record, fault.map_or(Ok(envelope), Err)))
    }

    /// A text that is not UTF-8 is none here; the record's reader says so of its own.
    fn text<'a>(&self, id: NodeId, cursor: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, Fault> {
        let branch = self.tree.branch(id, cursor)?;
        match self.tree.node(branch) {
            Node::Text | Node::Bytes => Ok(std::str::from_utf8(cursor.bytes()?).ok().map(Cow::Borrowed)),
            _ => self.tree.skip(branch, cursor, 0).map(|()| None),
        }
    }

    fn whole(&self, id: NodeId, cursor: &mut Cursor<'_>) -> Result<Option<i64>, Fault> {
        let branch = self.tree.branch(id, cursor)?;
        match self.tree.node(branch) {
            Node::Int => cursor.int().map(|number| Some(number.into())),
            Node::Long | Node::Millis => cursor.long().map(Some),
            _ => self.tree.skip(branch, cursor, 0).map(|()| None),
        }
    }

    fn is_erasure(&self, id: NodeId, cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
        let branch = self.tree.branch(id, cursor)?;
        match self.tree.node(branch) {
            Node::Enum(symbols) => Ok(symbols[cursor.index(symbols.len())?].as_ref() == ERASE),
            Node::Text => Ok(cursor.bytes()? == ERASE.as_bytes()),
            _ => self.tree.skip(branch, cursor, 0).map(|()| false),
        }
    }
}

/// A partition, an offset or a time: 0 or more, and within its type.
fn placed<T: TryFrom<i64> + PartialOrd + Default>(
    field: &'static str,
    number: Option<i64>,
    fault: &mut Option<DecodeError>,
) -> Option<T> {
    let number = number?;
    let placed = T::try_from(number).ok().filter(|placed| *placed >= T::default());
    if placed.is_none() {
        *fault = Some(DecodeError::invalid(field, &number.to_string(), "0 or more, within its range"));
    }
    placed
}

fn in_field(field: &'static str) -> impl Fn(Fault) -> DecodeError {
    move |fault| fault.within(field)
}
