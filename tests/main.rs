//! The fast tests: no network, no broker, no clock to wait for. One binary, so that they link once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers of the tests' own making"
)]
#![allow(clippy::disallowed_methods, reason = "DCE_FUZZ_SEED, DCE_REFERENCE and UPDATE_GOLDEN come by the environment")]
#![allow(clippy::print_stdout, reason = "a test says what it could not compare, and how much it compared")]

mod streams;
mod wire;
mod sessions;
mod folding;
mod restore;
mod rekeying;
mod replay;
mod drift;
mod shown;
mod tidy;
mod cli;
