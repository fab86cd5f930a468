//! The monitor: how far embeddings move. Records of the embeddings topic → windows → verdicts → alerts, a page, metrics.
//!
//! ```text
//!   CustomerEmbedding            Window                Verdict            DriftAlert
//! reader ▸──────────▸ collect ▸────────▸ judge ▸─────────────▸ alarm ▸──────────▸ deliver, board ▸ page
//! Kafka                [pure]            [pure]                 [pure]             topics, Alertmanager, webhook
//! ```

pub mod histogram;
pub mod statistics;
pub mod window;
pub mod vectors;
pub mod counted;
pub mod collect;
pub mod reference;
pub mod verdict;
pub mod score;
pub mod threshold;
pub mod creep;
pub mod judge;
#[cfg(test)]
mod judge_tests;
pub mod companions;
pub mod words;
pub mod alarm;
pub mod packed;
pub mod engine;
pub mod again;
#[cfg(test)]
mod again_tests;
pub mod board;
mod view;
pub mod page;
pub mod notify;
pub mod reader;
pub mod steady;
pub mod reach;
pub mod past;
pub mod tell;
pub mod run;
