//! Real processes for demonstrations and benchmarks: started on free ports, ended by id.
//!
//! Whatever else runs on the machine is left alone: nothing is found by name, no port
//! is fixed, and what was started ends with its owner.

mod requests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use self::requests::Counter;
pub use self::requests::{Requests, stats};
use crate::cluster::network;

/// The access key of every S3 server that is started here; it opens nothing else.
pub const ACCESS_KEY: &str = "minioadmin";
/// Its secret half.
pub const SECRET_KEY: &str = "minioadmin";

/// Which S3 server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum S3Choice {
    /// The one in this repository.
    #[value(alias = "testkit")]
    Builtin,
    /// MinIO, found as a command or built once by Go.
    Minio,
}

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A server process; killed when dropped without [`stop`](Self::stop).
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts a command; the name is for messages.
    pub fn spawn(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child })
    }

    /// The first line of its output.
    pub async fn first_line(&mut self) -> Result<String> {
        let stdout = self.child.stdout.take().context("its output is taken")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(START_LIMIT, lines.next_line())
            .await
            .with_context(|| format!("{} said nothing for 30 s", self.name))??;
        // Whatever else it says is read away, so that it never blocks on a full pipe.
        tokio::spawn(async move {
            let mut rest = lines.into_inner();
            let mut sink = Vec::new();
            while matches!(rest.read_buf(&mut sink).await, Ok(1..)) {
                sink.clear();
            }
        });
        line.with_context(|| format!("{} ended without a word", self.name))
    }

    /// Its process id.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it without asking, and waits until it is gone.
    pub async fn kill(mut self) -> Result<()> {
        let killed = self.child.kill().await;
        killed.with_context(|| format!("cannot end {}", self.name))
    }

    /// Asks it to end and waits.
    pub async fn stop(mut self) -> Result<()> {
        let Some(id) = self.child.id() else {
            bail!("{} had ended before", self.name);
        };
        let id = i32::try_from(id).context("a process id")?;
        let pid = rustix::process::Pid::from_raw(id).context("a process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = timeout(STOP_LIMIT, self.child.wait())
            .await
            .with_context(|| format!("{} ignored SIGTERM", self.name))??;
        ensure!(
            status.success() || self.name == "minio",
            "{} ended with {status}",
            self.name
        );
        Ok(())
    }

    /// Lets it live on; returns its process id.
    pub fn detach(self) -> u32 {
        let id = self.child.id().unwrap_or_default();
        std::mem::forget(self.child);
        id
    }
}

/// Where a process runs: on loopback, or in a namespace with an address of its own.
#[derive(Debug, Clone)]
pub struct Place {
    namespace: Option<String>,
    address: IpAddr,
}

impl Place {
    /// On loopback.
    pub fn loopback() -> Self {
        Self {
            namespace: None,
            address: Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// In a namespace of the network that has this address.
    pub fn namespace(name: String, address: IpAddr) -> Self {
        Self {
            namespace: Some(name),
            address,
        }
    }

    fn command(&self, program: &Path) -> Command {
        network::command_in(self.namespace.as_deref(), program).into()
    }
}

/// Starts the S3 server with the bucket; returns its endpoint.
pub async fn start_s3(
    choice: S3Choice,
    bin_dir: &Path,
    data: &Path,
    bucket: &str,
) -> Result<(Process, String)> {
    let (s3, store) = start_s3_in(&Place::loopback(), choice, bin_dir, data, bucket).await?;
    Ok((s3, store.endpoint))
}

/// An S3 server that was started.
#[derive(Debug, Clone)]
pub struct Store {
    /// Requests of S3.
    pub endpoint: String,
    counter: Counter,
}

impl Store {
    /// How many requests of S3 it has got so far, by operation; `None` where it does not count.
    pub async fn requests(&self) -> Result<Option<Requests>> {
        self.counter.read().await
    }
}

/// The same somewhere else; returns when it answers.
pub async fn start_s3_in(
    place: &Place,
    choice: S3Choice,
    bin_dir: &Path,
    data: &Path,
    bucket: &str,
) -> Result<(Process, Store)> {
    match choice {
        S3Choice::Builtin => {
            let (s3, counted) = start_builtin(place, bin_dir, bucket).await?;
            let store = Store {
                endpoint: counted.endpoint,
                counter: Counter::Builtin(counted.stats),
            };
            Ok((s3, store))
        }
        S3Choice::Minio => {
            let (s3, endpoint) = start_minio(place, data, bucket).await?;
            wait_for_http(&endpoint).await?;
            let store = Store {
                counter: Counter::Minio(endpoint.clone()),
                endpoint,
            };
            Ok((s3, store))
        }
    }
}

/// Where the built-in S3 server answers.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Requests of S3.
    pub endpoint: String,
    /// What it has counted: `GET /stats`.
    pub stats: String,
}

/// Starts the built-in S3 server with the bucket.
pub async fn start_counted_s3(bin_dir: &Path, bucket: &str) -> Result<(Process, Counted)> {
    start_builtin(&Place::loopback(), bin_dir, bucket).await
}

async fn start_builtin(place: &Place, bin_dir: &Path, bucket: &str) -> Result<(Process, Counted)> {
    let mut command = place.command(&bin_dir.join("arustio-s3"));
    let any_port = SocketAddr::new(place.address, 0).to_string();
    command.args(["--listen", &any_port, "--bucket", bucket]);
    command.args(["--stats-listen", &any_port]);
    command.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]);
    let mut process = Process::spawn("arustio-s3", &mut command)?;
    let line = process.first_line().await?;
    let ready: Value = serde_json::from_str(&line).context("its first line")?;
    let address = |name| ready[name].as_str().map(str::to_owned).context(name);
    let counted = Counted {
        endpoint: address("endpoint")?,
        stats: address("stats")?,
    };
    Ok((process, counted))
}

async fn start_minio(place: &Place, data: &Path, bucket: &str) -> Result<(Process, String)> {
    let program = find_minio().await?;
    std::fs::create_dir_all(data.join(bucket))?;
    // In a namespace of its own every port is free.
    let address = SocketAddr::new(place.address, free_port()?).to_string();
    let mut command = place.command(&program);
    command.args(["server", "--quiet", "--address", &address]);
    command.args(["--console-address", "127.0.0.1:0"]).arg(data);
    command.env("MINIO_ROOT_USER", ACCESS_KEY);
    command.env("MINIO_ROOT_PASSWORD", SECRET_KEY);
    // What it has counted is read without credentials.
    command.env("MINIO_PROMETHEUS_AUTH_TYPE", "public");
    let mut process = Process::spawn("minio", &mut command)?;
    process.child.stdout.take();
    Ok((process, format!("http://{address}")))
}

/// A bucket of an S3 server that was started here, as somebody sees it who knows nothing of us.
pub fn bucket(endpoint: &str, bucket: &str) -> Result<AmazonS3> {
    AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name(bucket)
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .with_region("us-east-1")
        .build()
        .context("cannot talk to the S3 server")
}

/// A port that was free a moment ago, for programs that cannot be told to take any.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

/// MinIO as a command, or built once by Go into the user's cache folder.
pub(crate) async fn find_minio() -> Result<PathBuf> {
    let on_path = std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|folder| folder.join("minio"))
        .find(|candidate| candidate.is_file());
    if let Some(found) = on_path {
        return Ok(found);
    }
    let cache = user_cache()?.join("arustio").join("bin");
    let built = cache.join("minio");
    if built.is_file() {
        return Ok(built);
    }
    std::fs::create_dir_all(&cache)?;
    eprintln!("building MinIO with Go, once; about four minutes");
    let status = Command::new("go")
        .args(["install", "github.com/minio/minio@latest"])
        .env("GOBIN", &cache)
        .status()
        .await
        .context("MinIO is not installed, and neither is Go to build it")?;
    ensure!(status.success(), "Go could not build MinIO");
    Ok(built)
}

pub(crate) fn user_cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(folder.into());
    }
    let home = std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache"))
}

/// Waits until something answers at an endpoint.
pub async fn wait_for_http(endpoint: &str) -> Result<()> {
    let address = endpoint.trim_start_matches("http://");
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(START_LIMIT, connected)
        .await
        .with_context(|| format!("nothing answers at {endpoint}"))
}

/// Starts the daemon; returns its gRPC address.
pub async fn start_server(bin_dir: &Path, data: &Path) -> Result<(Process, String)> {
    start_server_with(bin_dir, data, &[]).await
}

/// The same with settings, as variables of the environment.
pub async fn start_server_with(
    bin_dir: &Path,
    data: &Path,
    settings: &[(&str, &str)],
) -> Result<(Process, String)> {
    let mut command = Command::new(bin_dir.join("arustio-server"));
    command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(data);
    command.env("ARUSTIO_LOG", "warn");
    command.envs(settings.iter().copied());
    let mut process = Process::spawn("arustio-server", &mut command)?;
    let line = process.first_line().await?;
    let mut words = line.split_whitespace();
    let address = words
        .by_ref()
        .skip_while(|word| *word != "grpc")
        .nth(1)
        .with_context(|| format!("cannot read its first line: {line}"))?;
    Ok((process, address.to_owned()))
}

/// The command, as a person types it.
#[derive(Debug)]
pub struct Cli {
    program: PathBuf,
    server: String,
    home: PathBuf,
}

impl Cli {
    /// Talks to `server`, with a configuration folder of its own.
    pub fn new(bin_dir: &Path, server: &str, home: &Path) -> Self {
        Self {
            program: bin_dir.join("arustio"),
            server: server.to_owned(),
            home: home.join("config"),
        }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The server it talks to.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The command with its environment, ready for arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("ARUSTIO_SERVER", &self.server);
        command.env("XDG_CONFIG_HOME", &self.home);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// What a command writes to stdout; what it says on stderr is in the error.
    pub async fn output(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let done = self.command().args(arguments).output().await?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("arustio {}: {}", arguments.join(" "), said.trim());
        }
        Ok(done.stdout)
    }

    /// Runs a command with `--json`; its last line is its summary, where it has one.
    pub async fn run(&self, arguments: &[&str]) -> Result<Option<Value>> {
        let with_json: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let output = self.output(&with_json).await?;
        let lines = output.split(|byte| *byte == b'\n');
        let last = lines.rev().find(|line| !line.is_empty());
        Ok(last.and_then(|line| serde_json::from_slice(line).ok()))
    }
}

/// Ends a program that is asked to end; what it has started goes with the future that it drops
/// then.
///
/// # Errors
/// Always: it was interrupted.
pub async fn told_to_end() -> Result<()> {
    signalled().await?;
    bail!("interrupted; what it had started was ended")
}

/// Returns at a signal that asks a program to end, from the first moment on.
///
/// # Errors
/// When signals cannot be listened to.
pub async fn signalled() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
