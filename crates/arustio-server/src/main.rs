//! The program `arustio-server`; everything it does is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    arustio_server::run::main(&arustio_server::Args::parse())
}
