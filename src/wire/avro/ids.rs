//! Schemas by the ids that a schema registry gave them. Takes what the registry said, gives what a record of an id is read
//! by. Who asks the registry stands in `crate::registry`; here nobody waits for anything.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::wire::error::{DecodeError, SchemaError};

use super::Writer;
use super::click::Plan;
use super::tree::Tree;

/// Ids that are remembered at the most, and bytes of their schemas. Beyond either the oldest are forgotten by
/// [`super::Schemas::forget_oldest_ids`], and asked for again when a record needs them.
pub const IDS_MAX: usize = 10_000;
pub const ID_BYTES_MAX: usize = 64 << 20;

/// Registries give ids of Java's `int`: none needs to be asked for a larger one.
pub const ID_MAX: u32 = i32::MAX.cast_unsigned();

#[derive(Debug)]
pub(super) struct Ids {
    /// There is somebody who knows ids; without, no record can be framed by one.
    pub(super) registry: bool,
    known: HashMap<u32, Known>,
    /// In the order of their coming.
    order: VecDeque<u32>,
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    schema: Found,
    bytes: usize,
}

#[derive(Debug)]
enum Found {
    Click(Plan),
    /// Not one that can be read as a click, and why.
    Other(Tree, SchemaError),
    /// The registry has a schema that nothing can be read by.
    Unreadable(String),
    NoSuchId,
}

impl Ids {
    pub(super) fn none() -> Self {
        Self { registry: false, known: HashMap::new(), order: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn knows(&self, id: u32) -> bool {
        id > ID_MAX || self.known.contains_key(&id)
    }

    /// Nobody has a schema for it now, but somebody may later.
    pub(super) fn is_unknown(&self, id: u32) -> bool {
        let known = self.known.get(&id).is_some_and(|known| !matches!(known.schema, Found::NoSuchId));
        id <= ID_MAX && !(self.registry && known)
    }

    pub(super) fn learn(&mut self, id: u32, avsc: &str, references: &[String]) -> Result<(), SchemaError> {
        let parsed = Writer::parse_with(avsc, references).and_then(|(schema, others)| {
            Ok(match Plan::with(&schema, &others) {
                Ok(plan) => Found::Click(plan),
                Err(why) => {
                    Found::Other(Tree::with(&schema, &others).map_err(|why| SchemaError::NotASchema { why })?, why)
                }
            })
        });
        let bytes = avsc.len() + references.iter().map(String::len).sum::<usize>();
        match parsed {
            Ok(schema) => {
                self.insert(id, Known { schema, bytes });
                Ok(())
            }
            Err(error) => {
                self.insert(id, Known { schema: Found::Unreadable(error.to_string()), bytes: 0 });
                Err(error)
            }
        }
    }

    pub(super) fn refuse(&mut self, id: u32, why: String) {
        self.insert(id, Known { schema: Found::Unreadable(why), bytes: 0 });
    }

    pub(super) fn no_such(&mut self, id: u32) {
        self.insert(id, Known { schema: Found::NoSuchId, bytes: 0 });
    }

    fn insert(&mut self, id: u32, known: Known) {
        self.registry = true;
        self.forget(id);
        self.bytes += known.bytes;
        self.known.insert(id, known);
        self.order.push_back(id);
    }

    pub(super) fn forget(&mut self, id: u32) {
        if let Some(known) = self.known.remove(&id) {
            self.bytes -= known.bytes;
            self.order.retain(|other| *other != id);
        }
    }

    pub(super) fn forget_oldest(&mut self) {
        while self.known.len() > IDS_MAX || self.bytes > ID_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(known) = self.known.remove(&oldest) {
                self.bytes -= known.bytes;
            }
        }
    }

    pub(super) fn click(&self, id: u32) -> Result<&Plan, DecodeError> {
        match self.get(id)? {
            Found::Click(plan) => Ok(plan),
            Found::Other(_, why) => Err(DecodeError::IdRefused { id, why: why.to_string() }),
            Found::Unreadable(why) => Err(DecodeError::IdRefused { id, why: why.clone() }),
            Found::NoSuchId => Err(DecodeError::NoSuchId { id }),
        }
    }

    pub(super) fn tree(&self, id: u32) -> Result<&Tree, DecodeError> {
        match self.get(id)? {
            Found::Click(plan) => Ok(plan.tree()),
            Found::Other(tree, _) => Ok(tree),
            Found::Unreadable(why) => Err(DecodeError::IdRefused { id, why: why.clone() }),
            Found::NoSuchId => Err(DecodeError::NoSuchId { id }),
        }
    }

    fn get(&self, id: u32) -> Result<&Found, DecodeError> {
        match self.known.get(&id) {
            Some(known) => Ok(&known.schema),
            None if id > ID_MAX => Err(DecodeError::NoSuchId { id }),
            None => Err(DecodeError::IdNotAsked { id }),
        }
    }
}
