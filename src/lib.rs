//! `dce`: dynamic customer embeddings, live. Clicks on Kafka → sessions → customer states → embeddings on Kafka.
//!
//! ```text
//! source ▸ decode ▸ session ▸ encode ▸ customer ▸ sink      one epoch = one transaction
//!          └────────── epoch: pure, but for the model ──┘
//! ```
//!
//! Invariants: outputs are a function of the input records of their partition alone; an epoch is committed whole or not
//! at all; the final state does not depend on the order of arrival within the lateness. `docs/architecture.md` is the tour.
//! The modules stand in the order in which data meets them.

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
