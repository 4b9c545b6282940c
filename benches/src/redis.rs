//! Redis as a peer: Debian's `redis-server`, started here, asked for a value of 4 KiB by
//! connections that have one request under way each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arustio_testkit::processes::{self, Process};
use clap::Args;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::load;

const START_LIMIT: Duration = Duration::from_secs(10);
const VALUE: usize = 4 << 10;
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";

/// The generator.
#[derive(Debug, Args)]
pub(crate) struct RedisLoad {
    /// The server
    address: String,
    /// Connections at once
    #[arg(long)]
    clients: usize,
    /// For so long
    #[arg(long)]
    seconds: f64,
}

/// A Redis that runs and keeps nothing.
#[derive(Debug)]
pub(crate) struct Redis {
    _process: Process,
    address: String,
}

impl Redis {
    /// Starts it; `None`, said in one line, where it is not installed.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let port = processes::free_port()?.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]);
        let Ok(process) = Process::spawn("redis-server", &mut command) else {
            eprintln!("redis is not installed (Debian: redis-server), so it is left out");
            return Ok(None);
        };
        let redis = Self {
            _process: process,
            address: format!("127.0.0.1:{port}"),
        };
        let ready = timeout(START_LIMIT, redis.first_write()).await;
        ready.context("redis took too long to start")??;
        Ok(Some(redis))
    }

    async fn first_write(&self) -> Result<()> {
        let mut socket = loop {
            match TcpStream::connect(&self.address).await {
                Ok(socket) => break socket,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        let set = format!(
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${VALUE}\r\n{}\r\n",
            "7".repeat(VALUE)
        );
        socket.write_all(set.as_bytes()).await?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer).await?;
        ensure!(&answer == b"+OK\r\n", "redis did not take the value");
        Ok(())
    }

    /// Asks it; what the generator said.
    pub(crate) async fn load(&self, clients: usize, seconds: f64) -> Result<Value> {
        let address = self.address.clone();
        let (clients, seconds) = (
            format!("--clients={clients}"),
            format!("--seconds={seconds}"),
        );
        load::part(&["redis".into(), address, clients, seconds]).await
    }
}

/// Asks and prints what came of it.
pub(crate) async fn run(asked: RedisLoad) -> Result<()> {
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(asked.seconds);
    let clients = (0..asked.clients).map(|_| client(&asked.address, end));
    let done: u64 = try_join_all(clients).await?.into_iter().sum();
    let rate = done as f64 / started.elapsed().as_secs_f64();
    println!("{}", json!({ "rate": rate }));
    Ok(())
}

async fn client(address: &str, end: Instant) -> Result<u64> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_congestion(&socket, "cubic")?;
    // The length, the value, and a line's end behind each.
    let mut answer = vec![0; "$4096\r\n".len() + VALUE + "\r\n".len()];
    let mut done = 0;
    while Instant::now() < end {
        socket.write_all(GET).await?;
        socket.read_exact(&mut answer).await?;
        done += 1;
    }
    Ok(done)
}
