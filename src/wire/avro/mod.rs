//! Avro, by single-object encoding or by a registry's ids: which schema wrote a record, and reading it by that schema. Takes bytes and the schemas
//! that are known, gives records. Nothing is built between the bytes and the record; apache-avro parses the schemas
//! and is what the tests compare with.

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use hashbrown::HashMap;
use serde::Deserialize;

use super::click::Input;
use super::error::{DecodeError, SchemaError};

mod fingerprint;
mod cursor;
mod tree;
mod click;
mod record;
mod ids;
mod rows;

pub use fingerprint::Fingerprint;
pub use ids::{ID_BYTES_MAX, ID_MAX, IDS_MAX};
pub use rows::{Cut, Rows};

use cursor::Cursor;
use ids::Ids;
use tree::Tree;

/// What every single-object encoding begins with; the fingerprint of the writer's schema follows.
pub const MARKER: [u8; 2] = [0xc3, 0x01];

/// Of the present schemas, in `schemas/`; a test computes them.
pub const CLICK_EVENT: Fingerprint = Fingerprint(0x65f6_694d_bb5f_c4c6_u64.to_le_bytes());
pub const CUSTOMER_EMBEDDING: Fingerprint = Fingerprint(0x6c3d_6484_d6cb_2a24_u64.to_le_bytes());
pub const SESSION_SUMMARY: Fingerprint = Fingerprint(0x7ab0_92bc_7fdf_a543_u64.to_le_bytes());

/// The present schemas themselves, as they are registered and stand in files.
pub const CLICK_EVENT_AVSC: &str = CLICK_EVENTS[CLICK_EVENTS.len() - 1];
pub const CUSTOMER_EMBEDDING_AVSC: &str = CUSTOMER_EMBEDDINGS[CUSTOMER_EMBEDDINGS.len() - 1];
pub const SESSION_SUMMARY_AVSC: &str = SESSION_SUMMARIES[SESSION_SUMMARIES.len() - 1];

/// Every released version of each schema, the present one last.
const CLICK_EVENTS: [&str; 1] = [include_str!("../../../schemas/released/1/ClickEvent.avsc")];
const CUSTOMER_EMBEDDINGS: [&str; 1] = [include_str!("../../../schemas/released/1/CustomerEmbedding.avsc")];
const SESSION_SUMMARIES: [&str; 1] = [include_str!("../../../schemas/released/1/SessionSummary.avsc")];

/// The schemas that records may have been written by.
#[derive(Debug)]
pub struct Schemas {
    clicks: HashMap<Fingerprint, click::Plan>,
    embeddings: HashMap<Fingerprint, Tree>,
    summaries: HashMap<Fingerprint, Tree>,
    ids: Ids,
}

impl Schemas {
    /// All versions that were ever released.
    pub fn released() -> Self {
        let mut schemas =
            Self { clicks: HashMap::new(), embeddings: HashMap::new(), summaries: HashMap::new(), ids: Ids::none() };
        for avsc in CLICK_EVENTS {
            schemas.register_click(avsc).expect("a released schema can be read");
        }
        for (trees, released) in
            [(&mut schemas.embeddings, CUSTOMER_EMBEDDINGS), (&mut schemas.summaries, SESSION_SUMMARIES)]
        {
            for avsc in released {
                let schema = Writer::parse(avsc).expect("a released schema is a schema");
                for fingerprint in schema.fingerprints {
                    let tree = Tree::of(&schema.schema).expect("a released schema defines what it names");
                    trees.insert(fingerprint, tree);
                }
            }
        }
        schemas
    }

    /// Takes a further schema that ClickEvents are written by, and gives the fingerprint that it is known by.
    pub fn register_click(&mut self, avsc: &str) -> Result<Fingerprint, SchemaError> {
        let schema = Writer::parse(avsc)?;
        for fingerprint in schema.fingerprints {
            self.clicks.insert(fingerprint, click::Plan::of(&schema.schema)?);
        }
        Ok(schema.fingerprints[0])
    }

    /// Whether records by this schema can be read.
    pub fn knows(&self, fingerprint: Fingerprint) -> bool {
        self.clicks.contains_key(&fingerprint)
            || self.embeddings.contains_key(&fingerprint)
            || self.summaries.contains_key(&fingerprint)
    }

    /// There is a schema registry: records framed by its ids can be read once their ids are registered here.
    pub fn expect_ids(&mut self) {
        self.ids.registry = true;
    }

    pub fn expects_ids(&self) -> bool {
        self.ids.registry
    }

    /// Takes the schema of a registry's id, with those that it refers to. On an error the id's records are refused with it.
    pub fn register_id(&mut self, id: u32, avsc: &str, references: &[String]) -> Result<(), SchemaError> {
        self.ids.learn(id, avsc, references)
    }

    /// The id's records are refused from now on, and why: `is a JSON schema, not Avro`.
    pub fn refuse_id(&mut self, id: u32, why: impl Into<String>) {
        self.ids.refuse(id, why.into());
    }

    /// The registry knows no such id: its records are refused until it is forgotten here.
    pub fn no_such_id(&mut self, id: u32) {
        self.ids.no_such(id);
    }

    /// Whether something is known about an id.
    pub fn knows_id(&self, id: u32) -> bool {
        self.ids.knows(id)
    }

    pub fn forget_id(&mut self, id: u32) {
        self.ids.forget(id);
    }

    /// Keeps [`IDS_MAX`] ids and [`ID_BYTES_MAX`] of their schemas at the most. Not while records are read that need them.
    pub fn forget_oldest_ids(&mut self) {
        self.ids.forget_oldest();
    }

    /// The id that a value needs and about which nothing is known yet; `None` where there is a registry for none.
    #[inline]
    pub fn missing(&self, value: &[u8]) -> Option<u32> {
        let id = framing_id(value)?;
        (self.ids.registry && !self.ids.knows(id)).then_some(id)
    }

    /// The id that a value is framed by and for which nobody has a schema now, though somebody may later: where no registry
    /// is configured, or where it knows no such id.
    #[inline]
    pub fn unknown(&self, value: &[u8]) -> Option<u32> {
        framing_id(value).filter(|id| self.ids.is_unknown(*id))
    }

    /// Reads the body of a ClickEvent that was framed by an id.
    pub(super) fn decode_click_by_id<'a>(&self, id: u32, body: &'a [u8]) -> Result<Input<'a>, DecodeError> {
        self.ids.click(id)?.read(body)
    }

    pub(super) fn decode_output_by_id<'a, R: Deserialize<'a>>(
        &self,
        id: u32,
        body: &'a [u8],
    ) -> Result<R, DecodeError> {
        read_by(self.ids.tree(id)?, body)
    }

    /// Reads a ClickEvent in single-object encoding.
    pub fn decode_click<'a>(&self, bytes: &'a [u8]) -> Result<Input<'a>, DecodeError> {
        let (fingerprint, body) = framed(bytes)?;
        let plan = self.clicks.get(&fingerprint).ok_or(DecodeError::UnknownSchema { fingerprint })?;
        plan.read(body)
    }

    pub(super) fn decode_embedding<'a, R: Deserialize<'a>>(&self, bytes: &'a [u8]) -> Result<R, DecodeError> {
        decode_by(&self.embeddings, bytes)
    }

    pub(super) fn decode_summary<'a, R: Deserialize<'a>>(&self, bytes: &'a [u8]) -> Result<R, DecodeError> {
        decode_by(&self.summaries, bytes)
    }
}

fn decode_by<'a, R: Deserialize<'a>>(trees: &HashMap<Fingerprint, Tree>, bytes: &'a [u8]) -> Result<R, DecodeError> {
    let (fingerprint, body) = framed(bytes)?;
    read_by(trees.get(&fingerprint).ok_or(DecodeError::UnknownSchema { fingerprint })?, body)
}

fn read_by<'a, R: Deserialize<'a>>(tree: &Tree, body: &'a [u8]) -> Result<R, DecodeError> {
    let mut cursor = Cursor::new(body);
    let read = R::deserialize(record::ValueReader { tree, id: Tree::ROOT, cursor: &mut cursor, depth: 0 })?;
    cursor.finished()?;
    Ok(read)
}

/// The id that a value is framed by; `None` where it is framed by none.
#[inline]
pub fn framing_id(value: &[u8]) -> Option<u32> {
    match value {
        [0, rest @ ..] => rest.first_chunk().map(|id| u32::from_be_bytes(*id)),
        _ => None,
    }
}

/// The writer's fingerprint and the record's own bytes.
fn framed(bytes: &[u8]) -> Result<(Fingerprint, &[u8]), DecodeError> {
    let truncated = DecodeError::Truncated { field: "the single-object header" };
    let rest = bytes.strip_prefix(&MARKER).ok_or(truncated.clone())?;
    let (fingerprint, body) = rest.split_first_chunk().ok_or(truncated)?;
    Ok((Fingerprint(*fingerprint), body))
}

/// A schema that records were written by.
struct Writer {
    schema: Schema,
    /// The specification's, and apache-avro's own.
    fingerprints: [Fingerprint; 2],
}

impl Writer {
    fn parse(avsc: &str) -> Result<Self, SchemaError> {
        let json = serde_json::from_str(avsc).map_err(|fault| not_a_schema(fault.to_string()))?;
        let (schema, own) = unless_it_panics(|| {
            let schema = Schema::parse(&json).map_err(|fault| fault.to_string())?;
            let own = schema.fingerprint::<Rabin>().bytes.try_into();
            let own = Fingerprint(own.map_err(|_| "its fingerprint is not 64 bits".to_owned())?);
            Ok((schema, own))
        })?;
        Ok(Self { schema, fingerprints: [Fingerprint::of(&json), own] })
    }

    /// A schema and those that it takes names from.
    fn parse_with(avsc: &str, references: &[String]) -> Result<(Schema, Vec<Schema>), SchemaError> {
        unless_it_panics(|| {
            if references.is_empty() {
                return Ok((Schema::parse_str(avsc).map_err(|fault| fault.to_string())?, Vec::new()));
            }
            Schema::parse_str_with_list(avsc, references).map_err(|fault| fault.to_string())
        })
    }
}

/// apache-avro panics on some names that are none, and one schema of somebody's must not end the process.
fn unless_it_panics<T>(parse: impl FnOnce() -> Result<T, String> + std::panic::UnwindSafe) -> Result<T, SchemaError> {
    std::panic::catch_unwind(parse).unwrap_or_else(|_| Err("the parser gave up on it".to_owned())).map_err(not_a_schema)
}

fn not_a_schema(why: String) -> SchemaError {
    SchemaError::NotASchema { why }
}
