//! Row `stop`: one of three block nodes does not answer any more, and does not close either.
//!
//! Small random reads of a file that is there twice begin at half of the rate that the nodes
//! can serve, answered or not. In the middle of it a node is stopped (SIGSTOP), which is the
//! worst kind of slow: its sockets take what is sent. The first second is its own; the slowest
//! hundredth of each second after that is held against that of the healthy seconds before, in
//! the same run. Only block nodes are stopped, never the server that holds the namespace.
//!
//! No node is declared dead meanwhile: what is measured is what clients find out themselves.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use arustio_testkit::cluster::{LocalCluster, Shape};
use arustio_testkit::processes::{self, ACCESS_KEY, Cli, Process, SECRET_KEY};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::Pace;
use super::bytes::number;
use crate::report::{Line, median};
use crate::service::Service;
use crate::stage::BUCKET;

/// Block nodes, and copies of each block.
const NODES: usize = 3;
const REPLICAS: &str = "2";
/// Two copies fit into the memory of three nodes.
const SIZE: u64 = 96 << 20;
const PATH: &str = "/data/warm";
const REQUEST: u64 = 4 << 10;
/// Seconds of a run, and when the node is stopped.
const SECONDS: u64 = 12;
const STOP_AFTER: Duration = Duration::from_secs(6);
/// Seconds on each side that are compared: whole ones, not counting the very first one, nor
/// the first one after the stop.
const COMPARED: usize = 4;
const JOIN_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many times as slow as before reads may be.
const ALLOWED: f64 = 3.0;

struct Nodes {
    cluster: LocalCluster,
    cli: Cli,
    s3: Process,
    /// Last, so that it is removed when nobody writes into it any more.
    folder: tempfile::TempDir,
}

/// What a run said.
struct Stopped {
    healthy: f64,
    after: f64,
    hedges: f64,
    /// Of each second of the run.
    seconds: Vec<f64>,
}

/// Stops one node after the other and tells how late reads were.
pub(crate) async fn measure(bin_dir: &Path, pace: Pace) -> Result<Vec<Line>> {
    let mut nodes = Nodes::start(bin_dir).await?;
    let (mut limits, mut after, mut ratios) = (vec![], vec![], vec![]);
    let (mut rates, mut hedges, mut last) = (vec![], vec![], vec![]);
    for round in 0..pace.rounds {
        let rate = nodes.peak().await? / 2.0;
        let node = format!("block-{}", round % NODES + 1);
        let said = nodes.stop_one(&node, rate as u64).await?;
        let limit = ALLOWED * said.healthy;
        limits.push(limit);
        after.push(said.after);
        ratios.push(limit / said.after);
        rates.push(rate);
        hedges.push(said.hedges);
        last = said.seconds;
    }
    nodes.stop().await?;
    let params = json!({
        "request": REQUEST,
        "in_flight": 32,
        "nodes": NODES,
        "replicas": 2,
        "rate": median(&rates)?,
        "healthy_us": median(&limits)? / ALLOWED,
        "hedges": median(&hedges)?,
        "last_run_us": last,
    });
    // An extreme, as in row 15: the round in which the stop hurt most.
    let worst = (0..ratios.len()).min_by(|a, b| ratios[*a].total_cmp(&ratios[*b]));
    let worst = worst.context("no round was measured")?;
    let line = Line::stated("stop", "a stopped node", params, after[worst], "us");
    let limit = [limits[worst]];
    let line = line.against("3 x the healthy p99", &limit, &[ratios[worst]])?;
    Ok(vec![line.bounded(1.0, 1.0)])
}

impl Nodes {
    async fn start(bin_dir: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("arustio-bench-stop-")
            .tempdir()?;
        let (s3, counted) = processes::start_counted_s3(bin_dir, BUCKET).await?;
        let (dir, program) = (
            folder.path().join("cluster"),
            bin_dir.join("arustio-server"),
        );
        let shape = Shape {
            metadata: 1,
            block: NODES,
            namespaces: false,
        };
        let cluster = LocalCluster::up(&dir, &program, shape).await?;
        let servers = cluster.plan().metadata().join(",");
        let nodes = Self {
            cluster: cluster.stop_on_drop(),
            cli: Cli::new(bin_dir, &servers, folder.path()),
            s3,
            folder,
        };
        nodes.prepare(&counted.endpoint).await?;
        Ok(nodes)
    }

    /// A file in the store, in the namespace, and in two nodes each of its blocks.
    async fn prepare(&self, endpoint: &str) -> Result<()> {
        let settings = self.folder.path().join("config").join("arustio");
        std::fs::create_dir_all(&settings)?;
        let read = format!("[read]\nreplicas = {REPLICAS}\n");
        std::fs::write(settings.join("config.toml"), read)?;
        let put = Command::new(std::env::current_exe()?)
            .args(["plain", "put", endpoint, BUCKET, "warm", &SIZE.to_string()])
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(put.status.success(), "the file could not be put");
        let options = [
            format!("access_key_id={ACCESS_KEY}"),
            format!("secret_access_key={SECRET_KEY}"),
            format!("endpoint={endpoint}"),
        ];
        let mut mount = vec!["fs", "mount"];
        for option in &options {
            mount.extend(["-o", option]);
        }
        let uri = format!("s3://{BUCKET}");
        mount.extend(["/data", &uri]);
        self.cli.run(&mount).await?;
        self.joined().await?;
        let load = ["fs", "load", "--wait", "--replicas", REPLICAS, PATH];
        self.cli.run(&load).await.context("all copies")?;
        Ok(())
    }

    /// Waits until all nodes serve.
    async fn joined(&self) -> Result<()> {
        let list = ["--json", "admin", "node", "list"];
        let joined = async {
            loop {
                let listed = String::from_utf8(self.cli.output(&list).await?)?;
                if listed.matches("\"serves\"").count() >= NODES {
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
        };
        let joined = timeout(JOIN_LIMIT, joined).await;
        joined.context("not all nodes have joined")?
    }

    /// Requests a second when each stream asks again as soon as it was answered.
    async fn peak(&self) -> Result<f64> {
        let said = self.bench(&["--total", "128MiB"]).await?;
        Ok(number(&said, "rate")? / REQUEST as f64)
    }

    async fn bench(&self, more: &[&str]) -> Result<Value> {
        let read = [
            "bench",
            "read",
            "--no-local",
            "--random",
            "--request",
            "4KiB",
            "--streams",
            "32",
        ];
        let service = Service {
            cli: &self.cli,
            processes: Vec::new(),
            servers: 1,
        };
        service.measure(&[&read, more, &[PATH]].concat()).await
    }

    /// One run in whose middle a node is stopped; at the end it goes on.
    async fn stop_one(&mut self, node: &str, rate: u64) -> Result<Stopped> {
        let (total, rate) = ((rate * SECONDS * REQUEST).to_string(), rate.to_string());
        let mut cluster = LocalCluster::open(&self.cluster.plan().dir)?;
        let stop = async {
            sleep(STOP_AFTER).await;
            let at = SystemTime::now().duration_since(UNIX_EPOCH)?;
            cluster.signal(node, Signal::STOP).await?;
            Ok::<_, anyhow::Error>(at)
        };
        let bench = ["--rate", &rate, "--total", &total];
        let (said, at) = tokio::join!(self.bench(&bench), stop);
        self.cluster.signal(node, Signal::CONT).await?;
        compare(&said?, at?)
    }

    async fn stop(mut self) -> Result<()> {
        self.cluster.down().await?;
        self.s3.stop().await
    }
}

/// The slowest second before the stop, and the slowest one after the first one that followed.
fn compare(said: &Value, stopped: Duration) -> Result<Stopped> {
    let paced = &said["params"]["paced"][0];
    let began = paced["began_unix_ms"].as_u64().context("when it began")?;
    let seconds = paced["p99_us_by_second"].as_array().context("seconds")?;
    let seconds: Vec<f64> = seconds.iter().filter_map(Value::as_f64).collect();
    let stopped = stopped.checked_sub(Duration::from_millis(began));
    let stopped = stopped.context("the node was stopped before the run began")?;
    let second = usize::try_from(stopped.as_secs())?;
    let slowest = |from: usize| {
        let there = seconds.get(from..from + COMPARED);
        let there = there.with_context(|| format!("a stop at {stopped:?} leaves no room"))?;
        Ok::<_, anyhow::Error>(there.iter().copied().fold(0.0, f64::max))
    };
    let first = second.checked_sub(COMPARED).filter(|first| *first > 0);
    Ok(Stopped {
        healthy: slowest(first.context("the node was stopped too early")?)?,
        after: slowest(second + 2)?,
        hedges: said["params"]["hedges"].as_f64().unwrap_or_default(),
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_first_second_nor_those_of_the_stop_are_compared() {
        let seconds = [99, 1, 2, 1, 1, 50, 60, 4, 3, 5, 6, 99];
        let paced = json!([{"began_unix_ms": 1000, "p99_us_by_second": seconds}]);
        let said = json!({"params": {"paced": paced, "hedges": 7}});
        let stopped = compare(&said, Duration::from_millis(6500)).unwrap();
        assert_eq!((stopped.healthy, stopped.after), (2.0, 6.0));
        assert!(compare(&said, Duration::from_millis(4000)).is_err());
        assert!(compare(&said, Duration::from_millis(9500)).is_err());
    }
}
