//! Tests on a real Kafka: `integration/kafka.sh run -- cargo test --test integration`.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "DCE_TEST_BOOTSTRAP comes by the environment; waiting has deadlines")]
#![allow(clippy::print_stderr, reason = "what a failed process said")]

mod harness;
mod broker;
mod copier;
mod source_and_sink;
mod topics;
mod pipeline;
mod succession;
mod lease;
mod workers;
mod ticks;
mod local_store;
mod state;
mod imports;
mod registry;
mod generate;
mod examples;
mod tools;
mod browser;
mod monitor;
mod replay;
mod frozen;
mod chaos;
