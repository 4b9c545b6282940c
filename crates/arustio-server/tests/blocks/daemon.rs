//! The program in a process of its own, so that its descriptors, its memory, its time and its
//! words can be looked at.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arustio_types::NodeId;
use arustio_types::cluster::{DataEndpoints, NodeInfo};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::house::{PATIENT, Peer};

/// A running program that does not outlive its test.
pub(crate) struct Daemon {
    child: Child,
    ready: String,
    pub(crate) folder: TempDir,
}

impl Daemon {
    /// With settings, as variables of the environment.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_arustio-server")), settings)
    }

    /// One that never has more than so many descriptors.
    pub(crate) fn with_descriptors(most: usize, settings: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_arustio-server");
        let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
        shell.args(["-c", &limited, program]);
        Self::run(shell, settings)
    }

    fn run(mut command: Command, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .env("ARUSTIO_LOG", "warn")
            .env("ARUSTIO_BLOCK__DISK__CAPACITY", "64MiB")
            .env("ARUSTIO_BLOCK__MEMORY__CAPACITY", "8MiB")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready: "), "{ready}");
        Self {
            child,
            ready,
            folder,
        }
    }

    /// Where it is reached: `grpc`, `frames`, `http`.
    pub(crate) fn address(&self, name: &str) -> &str {
        let mut words = self.ready.split_whitespace();
        words.find(|word| *word == name).unwrap();
        words.next().unwrap()
    }

    pub(crate) fn node(&self) -> NodeInfo {
        NodeInfo {
            id: NodeId::new(0),
            address: self.address("grpc").to_owned(),
            weight: 1,
            draining: false,
            data: DataEndpoints {
                frames: Some(self.address("frames").to_owned()),
                ..DataEndpoints::default()
            },
        }
    }

    /// A peer of frames that was greeted.
    pub(crate) async fn peer(&self) -> Peer<TcpStream> {
        let mut peer = Peer::new(self.connect("frames").await);
        peer.greet().await;
        peer
    }

    pub(crate) async fn connect(&self, name: &str) -> TcpStream {
        TcpStream::connect(self.address(name)).await.unwrap()
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }

    /// Descriptors that it has.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Its resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() << 10
    }

    /// The time that it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields = fields.split(' ').skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// What it has said on stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The value of a metric.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let mut stream = self.connect("http").await;
        let ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let prefix = format!("{name} ");
        let value = answer.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.unwrap_or_else(|| panic!("no {name} in {answer}"));
        value.trim().parse().unwrap()
    }

    /// Ends it in order. It never panicked, and nothing was an error.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let code = self.child.wait().unwrap().code();
        let log = self.log();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(3 * PATIENT, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what} in time"));
}
