//! `dce`: dynamic customer embeddings, live.

pub mod types;
pub mod stop;
pub mod config;
pub mod wire;
pub mod telemetry;
pub mod health;
pub mod http;
pub mod kafka;
pub mod model;
pub mod generate;
pub mod pipeline;
pub mod cli;
