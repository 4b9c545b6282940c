//! The proof behind `cargo xtask containers`: the compose files, with a real Docker daemon.
//!
//! Exit code 0 when everything held, 1 when something did not, and 77 where Docker cannot run.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use arustio_testkit::containers::{self, Ended, Options};
use clap::Parser;

/// Makes the image, starts the compose files as their comments say, and looks at what a person sees.
#[derive(Debug, Parser)]
struct Args {
    /// Where `arustio` and `arustio-server` lie
    #[arg(long)]
    bin_dir: PathBuf,
    /// The folder with the compose files
    #[arg(long)]
    deploy: PathBuf,
    /// Only make the image arustio/arustio:local, with the daemon that runs
    #[arg(long)]
    image: bool,
    /// Compile the source in a container too, and say how long it took
    #[arg(long)]
    source: bool,
    /// This process has the network and the processes that the daemon is started in
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// What a test program returns that cannot run here.
const CANNOT_RUN: u8 = 77;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        bin_dir: args.bin_dir,
        deploy: args.deploy,
        image_only: args.image,
        source: args.source,
        inside: args.inside,
    };
    match containers::run(options).await {
        Ok(Ended::Proved) => ExitCode::SUCCESS,
        Ok(Ended::Failed(code)) => ExitCode::from(code),
        Ok(Ended::CannotRun(why)) => {
            println!("containers: not run: {why}");
            ExitCode::from(CANNOT_RUN)
        }
        Err(error) => {
            eprintln!("containers: {error:#}");
            ExitCode::FAILURE
        }
    }
}
