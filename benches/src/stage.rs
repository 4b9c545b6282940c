//! Real daemons for the rows, on free ports, gone at the end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arustio_testkit::processes::{self, ACCESS_KEY, Cli, Counted, Process, SECRET_KEY};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::loader::Loader;
use crate::service::Service;

/// The bucket that is mounted at `/data`.
pub(crate) const BUCKET: &str = "bench";

/// An S3 server, a daemon and a mount.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    bin_dir: PathBuf,
    endpoint: String,
    /// Where the S3 server tells what it has counted.
    stats: String,
    cli: Cli,
    s3: Process,
    /// `None` while its data is looked at.
    server: Option<Process>,
}

/// What a command that is watched did.
#[derive(Debug)]
pub(crate) struct Watched {
    /// From its start to its first line.
    pub(crate) first_line: Duration,
    /// From its start to its end.
    pub(crate) total: Duration,
    /// Lines.
    pub(crate) lines: u64,
    /// Largest resident set seen, in bytes.
    pub(crate) peak_rss: u64,
}

impl Stage {
    /// Starts everything and mounts the bucket.
    pub(crate) async fn start(bin_dir: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("arustio-bench-")
            .tempdir()?;
        let (s3, Counted { endpoint, stats }) =
            processes::start_counted_s3(bin_dir, BUCKET).await?;
        let data = folder.path().join("server");
        let (server, address) = processes::start_server_with(bin_dir, &data, settings).await?;
        let cli = Cli::new(bin_dir, &address, folder.path());
        let options = [
            format!("access_key_id={ACCESS_KEY}"),
            format!("secret_access_key={SECRET_KEY}"),
            format!("endpoint={endpoint}"),
        ];
        let mut command = vec!["fs", "mount"];
        for option in &options {
            command.extend(["-o", option]);
        }
        let uri = format!("s3://{BUCKET}");
        command.extend(["/data", &uri]);
        cli.run(&command).await?;
        Ok(Self {
            folder,
            bin_dir: bin_dir.to_owned(),
            endpoint,
            stats,
            cli,
            s3,
            server: Some(server),
        })
    }

    /// The command line.
    pub(crate) fn cli(&self) -> &Cli {
        &self.cli
    }

    /// Where the programs lie.
    pub(crate) fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// A client of the metadata service alone.
    pub(crate) async fn loader(&self) -> Result<Loader> {
        Loader::connect(self.cli.server()).await
    }

    /// Where the server keeps the namespace.
    pub(crate) fn state_folder(&self) -> PathBuf {
        self.path("server").join("meta").join("state")
    }

    /// Ends the server in order, so that its data can be looked at.
    pub(crate) async fn stop_server(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    /// Starts the server again on its data.
    pub(crate) async fn start_server(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        let data = self.path("server");
        let started = processes::start_server_with(&self.bin_dir, &data, settings);
        let (server, address) = started.await?;
        self.cli = Cli::new(&self.bin_dir, &address, self.folder.path());
        self.server = Some(server);
        Ok(())
    }

    /// The server's resident memory now, in bytes.
    pub(crate) fn server_memory(&self) -> Result<u64> {
        let id = self.server.as_ref().and_then(Process::id);
        let path = format!("/proc/{}/status", id.context("the server has ended")?);
        let status = std::fs::read_to_string(&path)?;
        memory_line(&status, "VmRSS:").context("no resident memory is told")
    }

    /// A path in the private folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs one command with `--json` and returns its result.
    pub(crate) async fn measure(&self, arguments: &[&str]) -> Result<Value> {
        self.service().measure(arguments).await
    }

    /// CPU seconds that the servers and all ended commands have used so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.service().cpu_seconds()
    }

    /// The command, and the servers whose time counts.
    pub(crate) fn service(&self) -> Service<'_> {
        let servers = self.server.iter().chain([&self.s3]);
        Service {
            cli: &self.cli,
            processes: servers.filter_map(Process::id).collect(),
            servers: 1,
        }
    }

    /// Runs the limit's own program; returns bytes per second (or objects).
    pub(crate) async fn plain(&self, verb: &str, rest: &[&str]) -> Result<f64> {
        let program = std::env::current_exe()?;
        let output = Command::new(program)
            .args(["plain", verb, &self.endpoint, BUCKET])
            .args(rest)
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "plain {verb}: {said}");
        let value: Value = serde_json::from_slice(&output.stdout)?;
        let bytes = value["bytes"].as_f64().context("bytes")?;
        Ok(bytes / value["seconds"].as_f64().context("seconds")?)
    }

    /// Bytes of objects that the S3 server has sent so far.
    pub(crate) async fn store_bytes(&self) -> Result<f64> {
        sent(&processes::stats(&self.stats).await?)
    }

    /// Runs a command and watches its output and memory.
    pub(crate) async fn watch(&self, arguments: &[&str]) -> Result<Watched> {
        let started = Instant::now();
        let mut child = self
            .cli
            .command()
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = child.id().context("it ended at once")?;
        let stdout = child.stdout.take().context("its output")?;
        let memory = tokio::spawn(peak_memory(pid));
        let mut reader = BufReader::with_capacity(1 << 16, stdout);
        let mut line = String::new();
        ensure!(reader.read_line(&mut line).await? > 0, "no output");
        let first_line = started.elapsed();
        let mut rest = Vec::new();
        let mut lines = 1;
        loop {
            rest.clear();
            if reader.read_buf(&mut rest).await? == 0 {
                break;
            }
            lines += rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        let status = child.wait().await?;
        ensure!(status.success(), "it ended with {status}");
        Ok(Watched {
            first_line,
            total: started.elapsed(),
            lines,
            peak_rss: memory.await?,
        })
    }

    /// A fresh data folder's start-up: to the ready line, then to a first answer.
    pub(crate) async fn cold_start(&self, round: usize) -> Result<(Duration, Duration)> {
        let data = self.path(&format!("start-{round}"));
        let started = Instant::now();
        let (server, address) = processes::start_server(&self.bin_dir, &data).await?;
        let ready = started.elapsed();
        let cli = Cli::new(&self.bin_dir, &address, &data);
        cli.output(&["fs", "ls", "/"]).await?;
        let served = started.elapsed();
        server.stop().await?;
        Ok((ready, served))
    }

    /// Ends everything.
    pub(crate) async fn stop(self) -> Result<()> {
        if let Some(server) = self.server {
            server.stop().await?;
        }
        self.s3.stop().await?;
        self.folder.close().context("cannot remove the folder")
    }
}

/// Bytes that an S3 server has sent, as its counters say.
fn sent(stats: &Value) -> Result<f64> {
    let operations = stats["operations"].as_object().context("no operations")?;
    let reads = operations
        .iter()
        .filter(|(name, _)| name.contains("GetObject"));
    Ok(reads.filter_map(|(_, one)| one["bytes_out"].as_f64()).sum())
}

/// The high-water mark of a process, read until it is gone.
async fn peak_memory(pid: u32) -> u64 {
    let mut peak = 0;
    let path = format!("/proc/{pid}/status");
    while let Ok(status) = tokio::fs::read_to_string(&path).await {
        let Some(bytes) = memory_line(&status, "VmHWM:") else {
            break; // a zombie has no memory any more
        };
        peak = peak.max(bytes);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    peak
}

/// A line of a process's `status` that states memory, in bytes.
fn memory_line(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}
