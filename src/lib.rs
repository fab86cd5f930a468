//! `dce`: dynamic customer embeddings, live.

pub mod types;
pub mod config;
pub mod wire;
pub mod telemetry;
pub mod kafka;
pub mod model;
pub mod generate;
pub mod pipeline;
pub mod cli;
