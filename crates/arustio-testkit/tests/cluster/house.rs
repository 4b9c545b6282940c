//! A cluster of real daemons, and an operator.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use arustio_testkit::cluster::LocalCluster;
use tempfile::TempDir;

/// Nothing here takes so long unless it never ends.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct House {
    pub(crate) cluster: LocalCluster,
    /// After the cluster, so that it is removed when nobody writes to it any more.
    _folder: TempDir,
}

impl House {
    pub(crate) async fn start(metadata: usize, block: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_arustio-server-under-test"));
        let dir = folder.path().join("cluster");
        let cluster = LocalCluster::up(&dir, program, metadata, block).await;
        Self {
            cluster: cluster.unwrap().stop_on_drop(),
            _folder: folder,
        }
    }

    /// The command, as an operator types it.
    pub(crate) async fn command(&self, words: &[&str]) -> Output {
        let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_arustio-under-test"))
            .args(words)
            .env("ARUSTIO_SERVER", self.cluster.plan().metadata().join(","))
            .env("XDG_CONFIG_HOME", &self.cluster.plan().dir)
            .output();
        command.await.unwrap()
    }
}
