//! The command `arustio`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Blocks of megabytes come and go; the C library would give them back to the system and
/// take them anew, page by page, each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    arustio_cli::main()
}
