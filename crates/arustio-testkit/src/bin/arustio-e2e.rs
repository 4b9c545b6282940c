//! The whole system from end to end, behind `cargo xtask e2e`.
//!
//! Everything runs on free loopback ports or in namespaces of its own, and in one private folder,
//! whatever else runs on the machine. Nothing is left behind but the logs of a run that failed.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use arustio_testkit::e2e::{self, E2eOptions};
use arustio_testkit::processes::{self, S3Choice};
use clap::Parser;

/// Three metadata servers, three block nodes and a store, used, hurt, restored and compared.
#[derive(Debug, Parser)]
struct Args {
    /// Where `arustio`, `arustio-server` and `arustio-s3` lie
    #[arg(long)]
    bin_dir: PathBuf,
    /// 3,000 files instead of 20,000
    #[arg(long)]
    small: bool,
    /// Which S3 server
    #[arg(long, value_enum, default_value = "builtin")]
    s3: S3Choice,
    /// Each process in a namespace of the network, with an address of its own
    #[arg(long)]
    netns: bool,
    /// The folder of folders of files, instead of the sources that cargo keeps
    #[arg(long)]
    tree: Option<PathBuf>,
    /// A program that somebody else has built with the library
    #[arg(long)]
    outside: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let options = E2eOptions {
        bin_dir: args.bin_dir,
        small: args.small,
        s3: args.s3,
        namespaces: args.netns,
        tree: args.tree,
        outside: args.outside,
    };
    let ended = tokio::select! {
        ended = e2e::run(options) => ended,
        ended = processes::told_to_end() => ended,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
