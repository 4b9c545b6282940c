//! Rows of `docs/performance.md`, each measured beside its limit in the same run.
//!
//! `arustio-bench-rows --row N` starts real daemons on free loopback ports, runs ours
//! and the limit in turn (A B A B ...), and prints one JSON object per line: a row's
//! ratio is the median of the ratios of neighbours, its spread half their
//! interquartile range over the median. A figure from another run is no argument.
#![forbid(unsafe_code)]

mod append;
mod cache;
mod echo;
mod engine;
mod etcd;
mod load;
mod loader;
mod loopback;
mod plain;
mod pread;
mod redis;
mod report;
mod rows;
mod service;
mod stage;
mod tree;
mod trio;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures rows of docs/performance.md.
#[derive(Debug, Parser)]
struct Args {
    /// Where `arustio`, `arustio-server` and `arustio-s3` lie
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Which row; all that can be measured when left out
    #[arg(long)]
    row: Option<String>,
    /// One JSON object per line, nothing else
    #[arg(long)]
    json: bool,
    /// How long and how large
    #[command(flatten)]
    pace: rows::Pace,
    /// The limit's own program, run in a process of its own
    #[command(subcommand)]
    limit: Option<Limit>,
}

/// Programs that a row runs as processes of their own.
#[derive(Debug, Subcommand)]
enum Limit {
    /// object_store called directly
    #[command(subcommand)]
    Plain(plain::Plain),
    /// TCP over loopback
    #[command(subcommand)]
    Loopback(loopback::Loopback),
    /// A unary call that does nothing
    #[command(subcommand)]
    Echo(echo::Echo),
    /// Load on etcd
    #[command(subcommand)]
    Etcd(etcd::EtcdLoad),
    /// Load on Redis
    Redis(redis::RedisLoad),
    /// Reads of the page cache
    Pread(pread::Pread),
    /// Small files in a local directory
    Tree(tree::Tree),
    /// Synced appends
    Append(append::Append),
    /// The state engine of a server that has ended
    #[command(subcommand)]
    Engine(engine::Engine),
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match args.limit {
        Some(Limit::Plain(plain)) => plain::run(plain).await,
        Some(Limit::Loopback(end)) => loopback::run(end).await,
        Some(Limit::Echo(end)) => echo::run(end).await,
        Some(Limit::Etcd(load)) => etcd::run(load).await,
        Some(Limit::Redis(load)) => redis::run(load).await,
        Some(Limit::Pread(pread)) => pread::run(&pread),
        Some(Limit::Tree(tree)) => tree::run(&tree),
        Some(Limit::Append(append)) => append::run(&append),
        Some(Limit::Engine(engine)) => engine::run(&engine),
        None => rows::run(args.bin_dir, args.row.as_deref(), args.pace, args.json).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
