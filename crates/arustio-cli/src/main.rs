//! The command `arustio`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    arustio_cli::main()
}
