//! The monitor: how far embeddings move. Begun: distances counted, and how far two counts are apart.

pub mod histogram;
pub mod statistics;
