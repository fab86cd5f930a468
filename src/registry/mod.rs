//! A schema registry with Confluent's API: whom the ids in framed records are asked of, and where our own schemas stand.
//! Takes `[registry]`, gives a [`Resolver`] that has the schemas of a batch's ids before the batch is read, and the ids
//! that outputs are framed by. `crate::wire` reads and writes the bytes and waits for nobody.
//!
//! A registry that is away is waited for, and nothing is decided meanwhile. Only its own word that an id does not exist,
//! or a schema that nothing can be read by, refuses a record. `docs/registry.md` says what an operator sees.

mod client;
mod resolver;
mod outputs;
#[cfg(test)]
mod stub;
#[cfg(test)]
mod tests;

pub use client::{Client, Schema};
pub use outputs::{OutputIds, RegisteredTopics};
pub use resolver::{Event, Interrupted, Resolver};

use crate::telemetry::metrics::RegistryAnswer;

/// Why the registry gave no schema or id, in the classes that decide what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, is overloaded, or what answers is no registry: asking again may help.
    #[error("the schema registry does not answer: {why}")]
    Away { why: String },
    /// It wants another login. Somebody may set it right there, so that asking again may help.
    #[error(
        "the schema registry at {url} refuses dce ({why}): check registry.username and registry.password, and their rights there"
    )]
    Refused { url: String, why: String },
    #[error("the schema registry knows no schema by the id {id}")]
    NoSuchId { id: u32 },
    /// The id has a schema, and no record can be read by it.
    #[error("the schema registry's id {id}: {why}")]
    Unreadable { id: u32, why: String },
    #[error(
        "the schema registry does not take our schema under the subject {subject}: {why}; look at the subject's \
         compatibility and its last version, or set registry.subject_strategy or the topic's name to reach another subject"
    )]
    NotTaken { subject: String, why: String },
    #[error(
        "our schema does not stand under the subject {subject} in the schema registry ({why}): register the one in \
         schemas/; registry.register = true does that for the outputs, and session.idle_after asks for that of the clicks"
    )]
    NotRegistered { subject: String, why: String },
    #[error("registry.ca_file = {path}: {why}")]
    CaFile { path: String, why: String },
}

impl RegistryError {
    /// Whether the same question may be answered later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Away { .. } | Self::Refused { .. } => true,
            Self::NoSuchId { .. }
            | Self::Unreadable { .. }
            | Self::NotTaken { .. }
            | Self::NotRegistered { .. }
            | Self::CaFile { .. } => false,
        }
    }

    fn answer(&self) -> RegistryAnswer {
        match self {
            Self::Away { .. } | Self::CaFile { .. } => RegistryAnswer::Away,
            Self::Refused { .. } => RegistryAnswer::Refused,
            Self::NoSuchId { .. } | Self::NotRegistered { .. } => RegistryAnswer::Unknown,
            Self::Unreadable { .. } | Self::NotTaken { .. } => RegistryAnswer::Unusable,
        }
    }
}
