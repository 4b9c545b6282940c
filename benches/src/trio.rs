//! Three metadata servers for the rows that need a group, gone at the end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arustio_client::ClientConfig;
use arustio_client::admin::Admin;
use arustio_client::entropy::Entropy;
use arustio_testkit::cluster::{LocalCluster, Shape};
use arustio_testkit::processes::Cli;
use tokio::time::{Instant, sleep};

use crate::service::Service;

/// How many there are.
const SERVERS: usize = 3;
/// A group without a leader for so long has failed.
const NO_LEADER: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A group of three, each a process of its own.
#[derive(Debug)]
pub(crate) struct Trio {
    pub(crate) cluster: LocalCluster,
    cli: Cli,
    /// Last, so that it is removed when nobody writes into it any more.
    _folder: tempfile::TempDir,
}

impl Trio {
    /// Starts them on free ports and waits until all are ready.
    pub(crate) async fn start(bin_dir: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("arustio-bench-trio-")
            .tempdir()?;
        let program = bin_dir.join("arustio-server");
        let dir = folder.path().join("cluster");
        let shape = Shape {
            metadata: SERVERS,
            block: 0,
            namespaces: false,
        };
        let cluster = LocalCluster::up(&dir, &program, shape).await?;
        let servers = cluster.plan().metadata().join(",");
        Ok(Self {
            cluster: cluster.stop_on_drop(),
            cli: Cli::new(bin_dir, &servers, folder.path()),
            _folder: folder,
        })
    }

    /// The command and the servers.
    pub(crate) fn service(&self) -> Service<'_> {
        let processes = self.cluster.plan().nodes.iter();
        let processes = processes.filter_map(|node| u32::try_from(node.process?.pid).ok());
        Service {
            cli: &self.cli,
            processes: processes.collect(),
            servers: SERVERS,
        }
    }

    /// For clients that know all servers.
    pub(crate) fn config(&self) -> ClientConfig {
        ClientConfig {
            addresses: self.cluster.plan().metadata(),
            ..ClientConfig::default()
        }
    }

    /// Who leads, as the name of a node.
    pub(crate) async fn leader(&self) -> Result<String> {
        let admin = Admin::new(&self.config(), Entropy::from_os())?;
        let deadline = Instant::now() + NO_LEADER;
        while Instant::now() < deadline {
            let leader = admin.group().await.ok().and_then(|group| group.leader);
            let node = leader.and_then(|leader| {
                let mut nodes = self.cluster.plan().nodes.iter();
                nodes.find(|node| node.member == Some(leader.get()))
            });
            if let Some(node) = node {
                return Ok(node.name.clone());
            }
            sleep(LOOK_EVERY).await;
        }
        bail!("nobody leads")
    }

    /// Ends all of them in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.cluster.down().await.context("the three servers")
    }
}
