//! What TCP over loopback carries: bytes, the limit of warm reads, and small messages to
//! and fro, the limit of small ones.
//!
//! Both ends are processes of their own, as the servers and clients that are held against
//! them are. What each end does is in `arustio_cli::limit`, which the command measures by.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use arustio_cli::limit;
use arustio_testkit::processes::Process;
use clap::Subcommand;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::load;

const BYTES: usize = 4 << 30;
/// Messages to and fro.
const TURNS: usize = 20_000;
/// No measurement takes so long.
const LONG: Duration = Duration::from_secs(600);

/// One end.
#[derive(Debug, Subcommand)]
pub(crate) enum Loopback {
    /// Prints its address, then sends to the first that come
    Send {
        /// How many they are
        #[arg(long)]
        streams: usize,
    },
    /// Receives from an address and discards
    Receive {
        /// The sender
        address: String,
        /// By so many connections
        #[arg(long)]
        streams: usize,
    },
    /// Prints its address, then sends back what it gets
    Pong,
    /// Sends and waits, again and again
    Ping {
        /// The other end
        address: String,
    },
}

/// Plays one end.
pub(crate) async fn run(end: Loopback) -> Result<()> {
    match end {
        Loopback::Send { streams } => Ok(limit::send(listen().await?, streams, BYTES).await?),
        Loopback::Receive { address, streams } => {
            let rate = limit::receive(&address, streams, None).await?;
            say(&json!({ "rate": rate }))
        }
        Loopback::Pong => Ok(limit::pong(listen().await?).await?),
        Loopback::Ping { address } => {
            let micros = limit::ping(&address, TURNS, LONG).await?;
            let median = micros.get(micros.len() / 2).context("no turn was made")?;
            say(&json!({ "p50_us": median }))
        }
    }
}

/// What so many connections carry together; bytes per second.
pub(crate) async fn rate(streams: usize) -> Result<f64> {
    let streams = format!("--streams={streams}");
    let (_sender, address) = other_end(&["send", &streams]).await?;
    let receive = [
        "loopback".to_owned(),
        "receive".to_owned(),
        address,
        streams,
    ];
    load::part(&receive).await?["rate"]
        .as_f64()
        .context("no rate")
}

/// The median time of a small message to and fro, in microseconds.
pub(crate) async fn ping_pong() -> Result<f64> {
    let (_other, address) = other_end(&["pong"]).await?;
    let ping = ["loopback".to_owned(), "ping".to_owned(), address];
    load::part(&ping).await?["p50_us"]
        .as_f64()
        .context("no p50_us")
}

async fn other_end(arguments: &[&str]) -> Result<(Process, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("loopback").args(arguments);
    let mut process = Process::spawn("the other end", &mut command)?;
    let address = process.first_line().await?;
    Ok((process, address))
}

/// A listener whose address is printed.
async fn listen() -> Result<TcpListener> {
    let listener = limit::listen().await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    Ok(listener)
}

fn say(said: &serde_json::Value) -> Result<()> {
    writeln!(std::io::stdout(), "{said}")?;
    Ok(())
}
