//! The load on limits and peers: loops with one request under way each, several on a
//! connection, as `arustio bench meta` has them.
//!
//! A generator is a process of its own that prints one JSON object: `rate`, `p50_us`,
//! `p99_us`, `cpu_us_per_op`. Loops, connections and congestion control are those of our
//! own client, so that what differs is what is asked.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures::future::try_join_all;
use http::Uri;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};

/// How much load.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shape {
    /// Loops at once
    #[arg(long)]
    pub(crate) clients: usize,
    /// Connections that they share
    #[arg(long)]
    pub(crate) connections: usize,
    /// For so long
    #[arg(long)]
    pub(crate) seconds: f64,
}

impl Shape {
    /// As arguments of a generator.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let (clients, connections) = (self.clients, self.connections);
        vec![
            format!("--clients={clients}"),
            format!("--connections={connections}"),
            format!("--seconds={}", self.seconds),
        ]
    }

    /// Runs the loops; `once` gets a connection, the loop's number and the request's.
    pub(crate) async fn drive<F>(
        &self,
        address: &str,
        once: impl Fn(Channel, usize, u64) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<(), tonic::Status>>,
    {
        let mut channels = Vec::new();
        for _ in 0..self.connections.max(1) {
            channels.push(connect(address).await?);
        }
        let cpu = cpu();
        let started = Instant::now();
        let end = started + Duration::from_secs_f64(self.seconds);
        let loops = (0..self.clients).map(|client| {
            let channel = channels[client % channels.len()].clone();
            work(end, client, channel, &once)
        });
        let done = try_join_all(loops).await?;
        let (elapsed, cpu) = (started.elapsed(), self::cpu().saturating_sub(cpu));
        let mut micros: Vec<u32> = done.into_iter().flatten().collect();
        micros.sort_unstable();
        let last = micros.len().checked_sub(1).context("nothing was done")?;
        let quantile = |share: f64| micros[((share * last as f64) as usize).min(last)];
        let said = json!({
            "rate": micros.len() as f64 / elapsed.as_secs_f64(),
            "p50_us": quantile(0.5),
            "p99_us": quantile(0.99),
            "cpu_us_per_op": cpu.as_secs_f64() * 1e6 / micros.len() as f64,
        });
        println!("{said}");
        Ok(())
    }
}

async fn work<F>(
    end: Instant,
    client: usize,
    channel: Channel,
    once: &impl Fn(Channel, usize, u64) -> F,
) -> Result<Vec<u32>>
where
    F: Future<Output = Result<(), tonic::Status>>,
{
    let mut micros = Vec::new();
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(micros);
        }
        once(channel.clone(), client, micros.len() as u64).await?;
        micros.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}

/// A connection as our client makes them.
pub(crate) async fn connect(address: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let channel = endpoint.connect_with_connector(tower::service_fn(dial));
    channel
        .await
        .with_context(|| format!("cannot reach {address}"))
}

async fn dial(uri: Uri) -> io::Result<TokioIo<TcpStream>> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "an address is missing");
    let authority = uri.authority().ok_or_else(missing)?;
    let stream = TcpStream::connect(authority.as_str()).await?;
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_congestion(&stream, "cubic")?;
    Ok(TokioIo::new(stream))
}

/// Runs one of this program's own parts as a process of its own; what it printed.
pub(crate) async fn part(arguments: &[String]) -> Result<Value> {
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", arguments.join(" "));
    serde_json::from_slice(&output.stdout).context("its output")
}

fn cpu() -> Duration {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(cpu.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(cpu.tv_nsec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}
