//! etcd as a peer: Debian's `etcd-server`, started here, loaded by our own generator
//! through its gRPC, with as many clients, connections and bytes as ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arustio_testkit::processes::{self, Process};
use bytes::Bytes;
use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::echo::Sizes;
use crate::load::{self, Shape};
use wire::kv_client::KvClient;
use wire::{PutRequest, RangeRequest};

arustio_proto::generated! {
    mod wire {
        tonic::include_proto!("etcdserverpb");
    }
}

/// How long it may take to elect itself.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The key that is read.
const READ: &[u8] = b"/bench/read";

/// What is asked.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Verb {
    /// A linearizable read of one key
    Range,
    /// A durable write of a new key
    Put,
}

/// The generator.
#[derive(Debug, Subcommand)]
pub(crate) enum EtcdLoad {
    /// Asks
    Load {
        /// What
        #[arg(value_enum)]
        verb: Verb,
        /// The server
        address: String,
        /// Bytes of a value
        #[arg(long)]
        value: usize,
        /// How much
        #[command(flatten)]
        shape: Shape,
    },
}

/// An etcd that runs, with a folder of its own.
#[derive(Debug)]
pub(crate) struct Etcd {
    _process: Process,
    address: String,
}

impl Etcd {
    /// Starts it with its data in a folder and everything else as it is by default;
    /// `None`, said in one line, where it is not installed.
    pub(crate) async fn start(folder: &Path) -> Result<Option<Self>> {
        let Some(program) = find() else {
            eprintln!("etcd is not installed (Debian: etcd-server), so it is left out");
            return Ok(None);
        };
        let address = format!("127.0.0.1:{}", processes::free_port()?);
        let (client, peer) = (
            format!("http://{address}"),
            format!("http://127.0.0.1:{}", processes::free_port()?),
        );
        let mut command = Command::new(program);
        command.args(["--name", "bench", "--data-dir"]).arg(folder);
        command.args(["--listen-client-urls", &client]);
        command.args(["--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer]);
        command.args(["--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("bench={peer}")]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        let etcd = Self {
            _process: Process::spawn("etcd", &mut command)?,
            address,
        };
        let first = timeout(START_LIMIT, etcd.first_write()).await;
        first.context("etcd took too long to start")??;
        Ok(Some(etcd))
    }

    /// Writes the key that is read, as soon as it can be written.
    async fn first_write(&self) -> Result<()> {
        processes::wait_for_http(&format!("http://{}", self.address)).await?;
        let mut client = KvClient::new(load::connect(&self.address).await?);
        let request = PutRequest {
            key: Bytes::from_static(READ),
            value: Bytes::new(),
        };
        while client.put(request.clone()).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Loads it with values that make its messages about as large as ours.
    pub(crate) async fn load(&self, verb: Verb, sizes: Sizes, shape: &Shape) -> Result<Value> {
        let (name, bytes) = match verb {
            Verb::Range => ("range", sizes.answer),
            Verb::Put => ("put", sizes.request),
        };
        let mut arguments = vec!["etcd".to_owned(), "load".to_owned(), name.to_owned()];
        arguments.push(self.address.clone());
        arguments.push(format!("--value={bytes}"));
        arguments.extend(shape.arguments());
        load::part(&arguments).await
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join("etcd"));
    candidates.find(|candidate| candidate.is_file())
}

/// Runs the generator.
pub(crate) async fn run(load: EtcdLoad) -> Result<()> {
    let EtcdLoad::Load {
        verb,
        address,
        value,
        shape,
    } = load;
    let value = Bytes::from(vec![7; value]);
    match verb {
        Verb::Range => {
            let request = PutRequest {
                key: Bytes::from_static(READ),
                value,
            };
            let mut client = KvClient::new(load::connect(&address).await?);
            client.put(request).await?;
            let read = RangeRequest {
                key: Bytes::from_static(READ),
            };
            let found = client.range(read).await?.into_inner();
            ensure!(found.kvs.len() == 1, "etcd lost the key");
            shape.drive(&address, |channel, _, _| range(channel)).await
        }
        Verb::Put => {
            // A run never writes the keys of another one.
            let run = std::process::id();
            let put = |channel, client, nth| {
                let key = Bytes::from(format!("/bench/{run}-{client}-{nth}"));
                put(channel, key, value.clone())
            };
            shape.drive(&address, put).await
        }
    }
}

async fn range(channel: tonic::transport::Channel) -> Result<(), tonic::Status> {
    let request = RangeRequest {
        key: Bytes::from_static(READ),
    };
    KvClient::new(channel).range(request).await.map(drop)
}

async fn put(
    channel: tonic::transport::Channel,
    key: Bytes,
    value: Bytes,
) -> Result<(), tonic::Status> {
    let request = PutRequest { key, value };
    KvClient::new(channel).put(request).await.map(drop)
}
