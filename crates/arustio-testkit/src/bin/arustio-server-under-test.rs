//! The program `arustio-server` under a name that the tests of this crate can find.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    arustio_server::run::main(&arustio_server::Args::parse())
}
