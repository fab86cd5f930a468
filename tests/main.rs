//! The fast tests, one binary: no network, no sleeps, no fixed ports.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands; clippy's own allowance misses helpers")]
#![allow(clippy::print_stdout, reason = "a test says what it could not compare, and how much it compared")]

mod wire;
