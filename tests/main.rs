//! The fast tests: no network, no broker, no clock to wait for. One binary, so that they link once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]
#![allow(clippy::print_stdout, reason = "a test says what it could not compare, and how much it compared")]

mod streams;
mod wire;
mod sessions;
mod folding;
mod tidy;
mod cli;
