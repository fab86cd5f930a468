//! The fast tests, one binary: no network, no sleeps, no fixed ports.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands; clippy's own allowance misses helpers")]

mod wire;
