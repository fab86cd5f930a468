//! ClickEvents straight from the bytes, by the schema that wrote them: [`Plan::of`] finds once which of its fields are
//! ours and whether they can be read as ours, [`Plan::read`] then goes through the bytes and borrows.

use std::borrow::Cow;

use apache_avro::Schema;

use crate::wire::click::{Input, Pairs, Raw, RawKind, last_wins};
use crate::wire::error::{DecodeError, SchemaError};

use super::cursor::{Cursor, Fault};
use super::tree::{Node, NodeId, Tree};

/// How to read a ClickEvent of one writer's schema.
#[derive(Debug)]
pub(super) struct Plan {
    tree: Tree,
    steps: Box<[(Step, NodeId)]>,
}

/// What a field of the writer is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    EventId,
    CustomerId,
    EventTime,
    Kind,
    Name,
    Channel,
    SessionId,
    DeviceId,
    Context,
    Attributes,
    Skip,
}

impl Step {
    fn of(name: &str) -> Self {
        match name {
            "event_id" => Self::EventId,
            "customer_id" => Self::CustomerId,
            "event_time" => Self::EventTime,
            "kind" => Self::Kind,
            "name" => Self::Name,
            "channel" => Self::Channel,
            "session_id" => Self::SessionId,
            "device_id" => Self::DeviceId,
            "context" => Self::Context,
            "attributes" => Self::Attributes,
            _ => Self::Skip,
        }
    }

    /// Whether some value of the type can be read as ours.
    fn fits(self, tree: &Tree, id: NodeId) -> bool {
        match self {
            Self::Skip => true,
            Self::EventId => tree.any(id, is_text),
            Self::CustomerId | Self::Name | Self::Channel | Self::SessionId | Self::DeviceId => {
                tree.any(id, |node| is_text(node) || matches!(node, Node::Null))
            }
            Self::EventTime => tree.any(id, |node| matches!(node, Node::Int | Node::Long | Node::Millis)),
            Self::Kind => tree.any(id, |node| matches!(node, Node::Enum(_) | Node::Text)),
            Self::Context => tree.any(id, |node| match node {
                Node::Null => true,
                Node::Map(item) => tree.any(*item, is_number),
                _ => false,
            }),
            Self::Attributes => tree.any(id, |node| matches!(node, Node::Map(item) if tree.any(*item, is_text))),
        }
    }
}

fn is_text(node: &Node) -> bool {
    matches!(node, Node::Text | Node::Bytes)
}

fn is_number(node: &Node) -> bool {
    matches!(node, Node::Int | Node::Long | Node::Float | Node::Double)
}

impl Plan {
    pub(super) fn of(writer: &Schema) -> Result<Self, SchemaError> {
        Self::with(writer, &[])
    }

    /// Of a writer's schema that takes names from others.
    pub(super) fn with(writer: &Schema, others: &[Schema]) -> Result<Self, SchemaError> {
        let incompatible = |why: String| SchemaError::Incompatible { record: "ClickEvent", why };
        let tree = Tree::with(writer, others).map_err(incompatible)?;
        let Node::Record(fields) = tree.node(Tree::ROOT) else { return Err(incompatible("it is no record".into())) };
        let steps: Box<[_]> = fields.iter().map(|field| (Step::of(&field.name), field.id)).collect();
        for (field, (step, id)) in fields.iter().zip(&steps) {
            if !step.fits(&tree, *id) {
                return Err(incompatible(format!("the field {} has another type", field.name)));
            }
        }
        for (required, name) in [(Step::EventId, "event_id"), (Step::EventTime, "event_time"), (Step::Kind, "kind")] {
            if !steps.iter().any(|(step, _)| *step == required) {
                return Err(incompatible(format!("the field {name} is missing")));
            }
        }
        Ok(Self { tree, steps })
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(super) fn read<'a>(&self, bytes: &'a [u8]) -> Result<Input<'a>, DecodeError> {
        let tree = &self.tree;
        let mut cursor = Cursor::new(bytes);
        let mut raw = Raw::default();
        for (step, id) in &self.steps {
            let (id, at) = (*id, &mut cursor);
            match step {
                Step::EventId => raw.event_id = Some(self.required_text(id, at).map_err(in_field("event_id"))?),
                Step::CustomerId => raw.customer_id = tree.text(id, at).map_err(in_field("customer_id"))?,
                Step::EventTime => raw.event_time = Some(self.time(id, at).map_err(in_field("event_time"))?),
                Step::Kind => raw.kind = Some(self.kind(id, at)?),
                Step::Name => raw.name = tree.text(id, at).map_err(in_field("name"))?,
                Step::Channel => raw.channel = tree.text(id, at).map_err(in_field("channel"))?,
                Step::SessionId => raw.session_id = tree.text(id, at).map_err(in_field("session_id"))?,
                Step::DeviceId => raw.device_id = tree.text(id, at).map_err(in_field("device_id"))?,
                Step::Context => raw.context = self.context(id, at).map_err(in_field("context"))?,
                Step::Attributes => raw.attributes = self.attributes(id, at).map_err(in_field("attributes"))?,
                Step::Skip => tree.skip(id, at, 0).map_err(in_field("a field that is not read"))?,
            }
        }
        cursor.finished()?;
        raw.checked()
    }

    fn required_text<'a>(&self, id: NodeId, cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, Fault> {
        self.tree.text(id, cursor)?.ok_or(Fault::Invalid("null where a string must be"))
    }

    fn time(&self, id: NodeId, cursor: &mut Cursor<'_>) -> Result<i64, Fault> {
        match self.tree.node(self.tree.branch(id, cursor)?) {
            Node::Int => cursor.int().map(i64::from),
            Node::Long | Node::Millis => cursor.long(),
            _ => Err(Fault::Invalid("no time in milliseconds")),
        }
    }

    fn kind(&self, id: NodeId, cursor: &mut Cursor<'_>) -> Result<RawKind, DecodeError> {
        let branch = self.tree.branch(id, cursor).map_err(in_field("kind"))?;
        let symbol: &str = match self.tree.node(branch) {
            Node::Enum(symbols) => &symbols[cursor.index(symbols.len()).map_err(in_field("kind"))?],
            Node::Text => cursor.text().map_err(in_field("kind"))?,
            _ => return Err(Fault::Invalid("no symbol").within("kind")),
        };
        // A symbol of a later version is read as the default one, UNKNOWN, and that is no click.
        RawKind::parse(symbol).ok_or_else(|| DecodeError::invalid("kind", symbol, RawKind::MUST))
    }

    fn context<'a>(&self, id: NodeId, cursor: &mut Cursor<'a>) -> Result<Pairs<'a, f64>, Fault> {
        let item = match self.tree.node(self.tree.branch(id, cursor)?) {
            Node::Null => return Ok(Vec::new()),
            Node::Map(item) => *item,
            _ => return Err(Fault::Invalid("neither null nor a map of numbers")),
        };
        pairs(cursor, |cursor| {
            #[expect(clippy::cast_precision_loss, reason = "what Avro's promotion of a long to a double says")]
            let number = match self.tree.node(self.tree.branch(item, cursor)?) {
                Node::Int => f64::from(cursor.int()?),
                Node::Long => cursor.long()? as f64,
                Node::Float => f64::from(cursor.float()?),
                Node::Double => cursor.double()?,
                _ => return Err(Fault::Invalid("no number")),
            };
            Ok(Some(number).filter(|number| number.is_finite()))
        })
    }

    fn attributes<'a>(&self, id: NodeId, cursor: &mut Cursor<'a>) -> Result<Pairs<'a, Cow<'a, str>>, Fault> {
        match self.tree.node(self.tree.branch(id, cursor)?) {
            Node::Map(item) => pairs(cursor, |cursor| self.required_text(*item, cursor).map(Some)),
            _ => Err(Fault::Invalid("no map of strings")),
        }
    }
}

fn in_field(field: &'static str) -> impl Fn(Fault) -> DecodeError {
    move |fault| fault.within(field)
}

fn pairs<'a, T>(
    cursor: &mut Cursor<'a>,
    mut value: impl FnMut(&mut Cursor<'a>) -> Result<Option<T>, Fault>,
) -> Result<Pairs<'a, T>, Fault> {
    let mut pairs = Vec::new();
    while let count @ 1.. = cursor.block()? {
        for _ in 0..count {
            let name = Cow::Borrowed(cursor.text()?);
            pairs.push((name, value(cursor)?));
        }
    }
    Ok(last_wins(pairs))
}
