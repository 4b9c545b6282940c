//! The cluster behind `cargo xtask cluster`: real daemons in one folder.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use arustio_testkit::cluster::{LocalCluster, Shape};
use clap::{Parser, Subcommand, ValueEnum};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Starts, stops and hurts a cluster of real daemons on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask cluster", bin_name = "cargo xtask cluster")]
struct Args {
    /// Where `arustio-server` lies
    #[arg(long, hide = true)]
    bin_dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a cluster, or the one that the folder holds again; prints one line of JSON
    Up {
        /// Metadata servers
        #[arg(long, default_value_t = 3)]
        meta: usize,
        /// Block nodes
        #[arg(long, default_value_t = 2)]
        block: usize,
        /// Everything that it keeps
        #[arg(long)]
        dir: PathBuf,
        /// Each in a namespace of the network, with an address of its own (as root)
        #[arg(long)]
        netns: bool,
        /// Return when it is ready; otherwise it ends with ctrl-C
        #[arg(long)]
        detach: bool,
    },
    /// End exactly its processes
    Down {
        /// Its folder
        #[arg(long)]
        dir: PathBuf,
        /// Remove its data too
        #[arg(long)]
        purge: bool,
    },
    /// Send a signal to a node
    Kill {
        /// The cluster's folder
        #[arg(long)]
        dir: PathBuf,
        /// Which signal
        #[arg(long, value_enum, ignore_case = true, default_value = "KILL")]
        signal: Which,
        /// The node, such as meta-1
        node: String,
    },
    /// Start a node that does not run, at the same addresses
    Start {
        /// The cluster's folder
        #[arg(long)]
        dir: PathBuf,
        /// The node, such as meta-1
        node: String,
    },
    /// Print one line of JSON about all nodes
    Status {
        /// The cluster's folder
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Which {
    Kill,
    Term,
    Stop,
    Cont,
}

impl From<Which> for Signal {
    fn from(which: Which) -> Self {
        match which {
            Which::Kill => Self::KILL,
            Which::Term => Self::TERM,
            Which::Stop => Self::STOP,
            Which::Cont => Self::CONT,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    match args.verb {
        Verb::Up {
            meta,
            block,
            dir,
            netns,
            detach,
        } => {
            let shape = Shape {
                metadata: meta,
                block,
                namespaces: netns,
            };
            let mut interrupted = signal(SignalKind::interrupt())?;
            let mut terminated = signal(SignalKind::terminate())?;
            let program = args.bin_dir.join("arustio-server");
            let started = tokio::select! {
                cluster = LocalCluster::up(&dir, &program, shape) => Some(cluster?),
                _ = interrupted.recv() => None,
                _ = terminated.recv() => None,
            };
            let Some(mut cluster) = started else {
                return LocalCluster::open(&dir)?.down().await;
            };
            println!("{}", cluster.plan().json());
            if detach {
                return Ok(());
            }
            eprintln!("running; ctrl-C stops it");
            loop {
                tokio::select! {
                    _ = interrupted.recv() => break,
                    _ = terminated.recv() => break,
                    () = tokio::time::sleep(Duration::from_millis(200)) => cluster.reap(),
                }
            }
            cluster.down().await
        }
        Verb::Down { dir, purge } => {
            let mut cluster = LocalCluster::open(&dir)?;
            match purge {
                true => cluster.purge().await,
                false => cluster.down().await,
            }
        }
        Verb::Kill { dir, signal, node } => {
            let mut cluster = LocalCluster::open(&dir)?;
            cluster.signal(&node, signal.into()).await
        }
        Verb::Start { dir, node } => LocalCluster::open(&dir)?.start(&node).await,
        Verb::Status { dir } => {
            println!("{}", LocalCluster::open(&dir)?.plan().json());
            Ok(())
        }
    }
}
