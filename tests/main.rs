//! The fast tests: no network, no broker, no clock to wait for. One binary, so that they link once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod streams;
mod sessions;
mod folding;
