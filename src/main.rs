//! The binary: hands arguments and environment to the library, and its verdict to the shell.

use std::process::ExitCode;

/// Small things come and go by the million: docs/decisions/0007-allocator.md has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn main() -> ExitCode {
    dce::cli::main(std::env::args_os(), std::env::vars_os())
}
