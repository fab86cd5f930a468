//! The binary: hands arguments and environment to the library, and its verdict to the shell.

use std::process::ExitCode;

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn main() -> ExitCode {
    dce::cli::main(std::env::args_os(), std::env::vars_os())
}
