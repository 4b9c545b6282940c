//! The demonstration behind `cargo xtask demo`: the main job, on real processes.
//!
//! Everything runs on free loopback ports and in one private folder, whatever else
//! runs on the machine, and nothing is left behind unless `--keep` is given.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use arustio_testkit::demo::{self, DemoOptions};
use arustio_testkit::processes::{self, S3Choice};
use clap::Parser;

/// Mounts a bucket, writes, reads cold and warm, and checks every byte.
#[derive(Debug, Parser)]
struct Args {
    /// Where `arustio`, `arustio-server` and `arustio-s3` lie
    #[arg(long)]
    bin_dir: PathBuf,
    /// A small run: 64 MiB and 300 files
    #[arg(long)]
    small: bool,
    /// Which S3 server
    #[arg(long, value_enum, default_value = "builtin")]
    s3: S3Choice,
    /// Leave it running and say how to talk to it
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let options = DemoOptions {
        bin_dir: args.bin_dir,
        small: args.small,
        s3: args.s3,
        keep: args.keep,
    };
    let ended = tokio::select! {
        ended = demo::run(options) => ended,
        ended = processes::told_to_end() => ended,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
