//! What TCP over loopback carries: bytes, the limit of warm reads, and small messages to
//! and fro, the limit of small ones.
//!
//! The bytes are as many different ones as those that are held against them: what is sent
//! again and again stays in the processor's cache, and is sent about half as fast again.
//!
//! Both ends are processes of their own, as the servers and clients that are held against
//! them are, with the same congestion control.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use arustio_testkit::processes::Process;
use clap::Subcommand;
use futures::future::try_join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::load;

const BYTES: usize = 4 << 30;
const FRAME: usize = 1 << 20;
/// Different bytes that are sent.
const PAYLOAD: usize = 256 << 20;
/// Bytes of a small message.
const SMALL: usize = 64;
/// Messages to and fro.
const TURNS: usize = 20_000;

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
        Loopback::Send { streams } => send(streams).await,
        Loopback::Receive { address, streams } => receive(&address, streams).await,
        Loopback::Pong => pong().await,
        Loopback::Ping { address } => ping(&address).await,
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

async fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    rustix::net::sockopt::set_tcp_congestion(&listener, "cubic")?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    Ok(listener)
}

async fn send(streams: usize) -> Result<()> {
    let listener = listen().await?;
    let mut sockets = Vec::new();
    for _ in 0..streams.max(1) {
        sockets.push(listener.accept().await?.0);
    }
    let frames = BYTES / FRAME / sockets.len();
    let payload = Arc::new(vec![7; PAYLOAD]);
    let sending = sockets.into_iter().map(|mut socket| {
        let payload = Arc::clone(&payload);
        tokio::spawn(async move {
            for frame in payload.chunks(FRAME).cycle().take(frames) {
                socket.write_all(frame).await?;
            }
            socket.shutdown().await
        })
    });
    for sent in try_join_all(sending).await? {
        sent?;
    }
    Ok(())
}

async fn receive(address: &str, streams: usize) -> Result<()> {
    let mut sockets = Vec::new();
    for _ in 0..streams.max(1) {
        sockets.push(TcpStream::connect(address).await?);
    }
    let started = Instant::now();
    let receiving = sockets
        .into_iter()
        .map(|socket| tokio::spawn(discard(socket)));
    let mut bytes = 0;
    for received in try_join_all(receiving).await? {
        bytes += received?;
    }
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{}", json!({ "rate": rate }))?;
    Ok(())
}

async fn discard(mut socket: TcpStream) -> std::io::Result<usize> {
    let mut frame = vec![0; FRAME];
    let mut bytes = 0;
    loop {
        match socket.read(&mut frame).await? {
            0 => return Ok(bytes),
            read => bytes += read,
        }
    }
}

async fn pong() -> Result<()> {
    let (mut socket, _) = listen().await?.accept().await?;
    socket.set_nodelay(true)?;
    let mut message = [0; SMALL];
    while socket.read_exact(&mut message).await.is_ok() {
        socket.write_all(&message).await?;
    }
    Ok(())
}

async fn ping(address: &str) -> Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut message = [7; SMALL];
    let mut micros = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        let started = Instant::now();
        socket.write_all(&message).await?;
        socket.read_exact(&mut message).await?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    let said = json!({ "p50_us": micros[TURNS / 2] });
    writeln!(std::io::stdout(), "{said}")?;
    Ok(())
}
