//! The fast tests, one binary: no broker, no network, no clock.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod streams;
mod sessions;
mod folding;
