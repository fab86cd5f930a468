//! `dce`: dynamic customer embeddings, live. Clicks on Kafka → sessions → customer states → embeddings on Kafka.
//!
//! ```text
//!            Record      ClickEvent     Step        vectors      CustomerEmbedding
//! source ▸────────▸ decode ▸───▸ session ▸──▸ encode ▸────▸ customer ▸──────▸ sink
//! Kafka             └─────────── epoch: pure, but for the model ───────────┘  Kafka, one transaction an epoch
//! └──────────── worker: computes one epoch while the last one commits; after a restart, state rebuilds ──────┘
//! ```
//!
//! Invariants:
//! - Outputs are a function of the input records of their partition alone: no clock, no epoch boundary, no assignment
//!   decides anything. `emitted_at` alone differs between two runs.
//! - An epoch is committed whole or not at all: outputs, rejects and input offsets share one transaction.
//! - The final state does not depend on the order of arrival within the lateness, bit for bit.
//! - A row's bits do not depend on the batch that it is in; a model that breaks this is refused.
//! - Imports go one way and pure modules stay pure: `tests/tidy` checks it.
//!
//! `docs/architecture.md` is the tour. The modules stand in the order in which data meets them:
//! - [`types`]: ids, times and places, each a type of its own, parsed once at the border
//! - [`stop`]: the wish to stop, seen by everything that runs long
//! - [`config`]: defaults, file, environment and `--set` to checked settings
//! - [`wire`]: the records on the topics and their JSON and Avro bytes
//! - [`files`]: clicks from files and records into files: NDJSON, Avro, Parquet
//! - [`telemetry`]: logs, metrics and the clock
//! - [`health`]: whether the worker moves, and whether it does its work yet
//! - [`http`]: `/live`, `/ready`, `/metrics`
//! - [`kafka`]: client settings, error classes, topics, and the one file with `unsafe`
//! - [`registry`]: a schema registry's ids and schemas, asked for, waited for and kept
//! - [`model`]: the bundle, its features, its graphs through ONNX Runtime, and the tests' fake
//! - [`store`]: the records of customers at rest on the local disk, a cache of the state's log
//! - [`generate`]: the synthetic bank, by a seed
//! - [`pipeline`]: the main job, one file a stage
//! - [`drift`]: the monitor: how far embeddings move, judged, told and shown
//! - [`replay`]: a bounded run of the pipeline, from files or topics to files or topics
//! - [`cli`]: the commands, and the one place that prints

pub mod types;
pub mod stop;
pub mod config;
pub mod wire;
pub mod files;
pub mod telemetry;
pub mod health;
pub mod http;
pub mod kafka;
pub mod registry;
pub mod model;
pub mod store;
pub mod generate;
pub mod pipeline;
pub mod drift;
pub mod replay;
pub mod cli;
