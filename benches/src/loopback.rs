//! What one TCP connection over loopback carries: the limit of warm reads.
//!
//! Sender and receiver are processes of their own, as the servers and clients that are
//! held against them are, with the same congestion control.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

const BYTES: usize = 4 << 30;
const FRAME: usize = 1 << 20;

/// One end.
#[derive(Debug, Subcommand)]
pub(crate) enum Loopback {
    /// Prints its address, then sends to the first that comes
    Send,
    /// Receives from an address and discards
    Receive {
        /// The sender
        address: String,
    },
}

/// Plays one end.
pub(crate) async fn run(end: Loopback) -> Result<()> {
    match end {
        Loopback::Send => send().await,
        Loopback::Receive { address } => receive(&address).await,
    }
}

/// Runs both ends; bytes per second.
pub(crate) async fn rate() -> Result<f64> {
    let program = std::env::current_exe()?;
    let mut sender = Command::new(&program)
        .args(["loopback", "send"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let said = sender.stdout.take().context("its output")?;
    let address = BufReader::new(said).lines().next_line().await?;
    let address = address.context("the sender said nothing")?;
    let output = Command::new(&program)
        .args(["loopback", "receive", &address])
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(sender.wait().await?.success(), "the sender failed");
    let value: Value = serde_json::from_slice(&output.stdout)?;
    value["rate"].as_f64().context("no rate")
}

async fn send() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    rustix::net::sockopt::set_tcp_congestion(&listener, "cubic")?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    let (mut socket, _) = listener.accept().await?;
    let frame = vec![7; FRAME];
    for _ in 0..BYTES / FRAME {
        socket.write_all(&frame).await?;
    }
    socket.shutdown().await?;
    Ok(())
}

async fn receive(address: &str) -> Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    let mut frame = vec![0; FRAME];
    let (started, mut bytes) = (Instant::now(), 0);
    loop {
        let read = socket.read(&mut frame).await?;
        if read == 0 {
            break;
        }
        bytes += read;
    }
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{}", json!({ "rate": rate }))?;
    Ok(())
}
