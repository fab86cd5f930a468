//! The main job, one file a stage, in the data's order. A stage imports from earlier stages, never from later ones.

pub mod history;
pub mod pace;
pub mod source;
pub mod decode;
pub mod session;
pub mod encode;
pub mod customer;
pub mod rest;
pub mod log;
pub mod logged;
pub mod partitions;
pub mod savepoint;
pub mod epoch;
pub mod producers;
pub mod sink;
pub mod succession;
pub mod undecided;
pub mod shelf;
pub mod state;
pub mod worker;
