//! The command `arustio` under a name that the tests of this crate can find.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    arustio_cli::main()
}
