//! The program `arustio-server`; everything it does is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Blocks of megabytes come and go; the C library would give them back to the system and
/// take them anew, page by page, each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use clap::Parser as _;

fn main() -> ExitCode {
    arustio_server::run::main(&arustio_server::Args::parse())
}
