//! Three real metadata servers, clients of them, and an operator.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use arustio_client::admin::{Admin, Group};
use arustio_client::entropy::Entropy;
use arustio_client::{
    ArustioFileSystem, Builder, ClientConfig, FileSystem, FsPath, ListOptions, MkdirOptions, Result,
};
use arustio_testkit::cluster::{LocalCluster, Shape};
use futures::TryStreamExt as _;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Nothing here takes so long unless it never ends.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct House {
    pub(crate) cluster: LocalCluster,
    /// After the cluster, so that it is removed when nobody writes to it any more.
    _folder: TempDir,
}

/// A path.
pub(crate) fn p(text: &str) -> FsPath {
    FsPath::new(text).unwrap()
}

impl House {
    pub(crate) async fn start(metadata: usize, block: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_arustio-server-under-test"));
        let dir = folder.path().join("cluster");
        let shape = Shape {
            metadata,
            block,
            namespaces: false,
        };
        let cluster = LocalCluster::up(&dir, program, shape).await;
        Self {
            cluster: cluster.unwrap().stop_on_drop(),
            _folder: folder,
        }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        ClientConfig {
            addresses: self.cluster.plan().metadata(),
            ..ClientConfig::default()
        }
    }

    /// A client that knows all servers.
    pub(crate) async fn client(&self) -> ArustioFileSystem {
        let builder = Builder::new().config(self.config());
        builder.connect().await.unwrap()
    }

    /// A client that was told of one server only.
    pub(crate) async fn client_of(&self, node: &str) -> ArustioFileSystem {
        let address = self.cluster.plan().find(node).unwrap().grpc.to_string();
        let builder = Builder::new().addresses([address]);
        builder.connect().await.unwrap()
    }

    pub(crate) fn operator(&self) -> Admin {
        Admin::new(&self.config(), Entropy::from_seed(1)).unwrap()
    }

    /// Waits until somebody leads whose name is not this one.
    pub(crate) async fn leader_other_than(&self, name: &str) -> String {
        let admin = self.operator();
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Ok(Group {
                leader: Some(leader),
                ..
            }) = admin.group().await
            {
                let found = format!("meta-{leader}");
                if found != name {
                    return found;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody else than {name:?} came to lead");
    }

    pub(crate) async fn leader(&self) -> String {
        self.leader_other_than("").await
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

/// Makes a directory that must not be there yet.
pub(crate) async fn make(fs: &ArustioFileSystem, path: &str) -> Result<()> {
    let made = fs.mkdir(&p(path), MkdirOptions::default()).await;
    made.map(drop)
}

/// Everything below a path, as names.
pub(crate) async fn below(fs: &ArustioFileSystem, path: &str) -> Vec<String> {
    let listed = fs.list(
        &p(path),
        ListOptions {
            recursive: true,
            ..ListOptions::default()
        },
    );
    let listed: Vec<_> = listed.try_collect().await.unwrap();
    let paths = listed.into_iter().map(|status| status.path.to_string());
    paths.collect()
}
