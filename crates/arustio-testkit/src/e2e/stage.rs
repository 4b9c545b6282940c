//! Everything that runs, and how steps reach it: the command, clients, the store, the counters.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use arustio_client::admin::Admin;
use arustio_client::entropy::Entropy;
use arustio_client::{ArustioFileSystem, Builder, ClientConfig, FileSystem as _};
use object_store::aws::AmazonS3;
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::E2eOptions;
use super::logs::Logs;
use super::scratch::Scratch;
use super::table::{Row, Table, Tally};
use super::tree::{Sources, Tree, cargo_sources};
use crate::cluster::{LocalCluster, Shape};
use crate::processes::{self, ACCESS_KEY, Cli, Place, Process, Requests, SECRET_KEY, Store};

/// The file of the store's secret: arguments are visible to everybody.
const SECRET: &str = "secret";
pub(crate) const BUCKET: &str = "e2e-bucket";
/// Where the bucket is mounted, and the keys of the mount begin.
pub(crate) const MOUNT: &str = "/data";
pub(crate) const PREFIX: &str = "from/here";
/// The last step.
pub(crate) const STOP: &str = "stop";
/// Files of a small run, and of any.
const SMALL: usize = 3000;
const MOST: usize = 20_000;
/// What a run keeps beside the tree itself: metadata, logs, a backup, the large file.
const SPARE: u64 = 1 << 30;
/// Copies of the tree on disk at a time: a downloaded one, and what block nodes have.
const COPIES: u64 = 3;
const SERVERS: usize = 3;
const NODES: usize = 3;
/// Words of a command that are shown.
const SHOWN: usize = 16;
/// After a fault everything is whole again by then.
const HEAL_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a command printed, and what it cost.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its last line.
    pub(crate) value: Value,
    pub(crate) repeats: u64,
}

impl Said {
    /// A number of its summary.
    pub(crate) fn number(&self, name: &str) -> Result<u64> {
        let number = self.value[name].as_u64();
        number.with_context(|| format!("{name} is missing in {}", self.value))
    }

    /// Its files and bytes, where it is about files.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            operations: self.value["files"].as_u64().unwrap_or(1),
            bytes: self.value["bytes"].as_u64().unwrap_or(0),
            repeats: self.repeats,
        }
    }
}

/// All processes of a run; they end with it, the folder last.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) options: E2eOptions,
    pub(crate) sources: Sources,
    /// What the mount has to hold, by paths below it.
    pub(crate) model: Tree,
    pub(crate) store: Store,
    pub(crate) cluster: LocalCluster,
    cli: Cli,
    table: Table,
    logs: Logs,
    commands: Mutex<File>,
    s3: Option<Process>,
    scratch: Scratch,
}

impl Stage {
    /// Starts everything, and mounts nothing.
    pub(crate) async fn start(options: E2eOptions) -> Result<Self> {
        let root = match &options.tree {
            Some(root) => root.clone(),
            None => cargo_sources()?,
        };
        let most = match options.small {
            true => SMALL,
            false => MOST,
        };
        let sources = Sources::choose(&root, most)?;
        let bytes = sources.tree.bytes();
        eprintln!(
            "{} files, {} of {}",
            sources.tree.len(),
            arustio_types::ByteSize(bytes).human(),
            root.display()
        );
        let scratch = Scratch::new(SPARE + COPIES * bytes)?;
        let commands = File::create(scratch.path("commands.log"))?;
        std::fs::write(scratch.path(SECRET), SECRET_KEY)?;
        let shape = Shape {
            metadata: SERVERS,
            block: NODES,
            namespaces: options.namespaces,
        };
        let program = options.bin_dir.join("arustio-server");
        let cluster = LocalCluster::up(&scratch.path("cluster"), &program, shape).await?;
        let mut cluster = cluster.stop_on_drop();
        let place = cluster.place("s3")?;
        let place = place.map_or_else(Place::loopback, |(name, at)| Place::namespace(name, at));
        let (bin_dir, data) = (&options.bin_dir, scratch.path("s3"));
        let s3 = processes::start_s3_in(&place, options.s3, bin_dir, &data, BUCKET);
        let (s3, store) = s3.await?;
        let servers = cluster.plan().metadata().join(",");
        eprintln!("metadata servers {servers}, S3 server {}", store.endpoint);
        Ok(Self {
            cli: Cli::new(&options.bin_dir, &servers, &scratch.path("")),
            logs: Logs::new(scratch.path("commands.log")),
            commands: Mutex::new(commands),
            table: Table::default(),
            model: Tree::default(),
            s3: Some(s3),
            options,
            sources,
            store,
            cluster,
            scratch,
        })
    }

    /// Runs a step: its row, and its share of the logs.
    pub(crate) async fn step(
        &mut self,
        step: &'static str,
        work: impl AsyncFnOnce(&mut Self) -> Result<Tally>,
    ) -> Result<()> {
        let before = self.store.requests().await?;
        let started = Instant::now();
        let tally = work(self).await;
        if tally.is_err()
            && let Err(said) = self.logs.check(step, &self.cluster)
        {
            // Servers may know why.
            eprintln!("{said:#}");
        }
        let tally = tally.with_context(|| format!("step {step:?}"))?;
        let time = started.elapsed();
        let after = self.store.requests().await?;
        self.table.add(Row {
            step,
            tally,
            time,
            requests: after
                .zip(before)
                .map(|(after, before)| after.since(&before)),
        });
        self.logs.check(step, &self.cluster)
    }

    /// Looks into the logs of another cluster, which has no step of its own.
    pub(crate) fn check_logs_of(&mut self, step: &str, cluster: &LocalCluster) -> Result<()> {
        self.logs.check(step, cluster)
    }

    /// The last step: all servers end in order, block nodes first.
    pub(crate) async fn stop(&mut self) -> Result<Tally> {
        let nodes = self.cluster.plan().nodes.iter().rev();
        let running = nodes.filter(|node| node.is_running());
        let names: Vec<String> = running.map(|node| node.name.clone()).collect();
        for name in &names {
            self.cluster.signal(name, Signal::TERM).await?;
        }
        Ok(Tally::operations(names.len() as u64))
    }

    /// Prints the table and removes everything.
    pub(crate) async fn end(mut self) -> Result<()> {
        println!("{}", self.table);
        if let Some(s3) = self.s3.take() {
            s3.stop().await.context("the S3 server did not stop")?;
        }
        drop(self.cluster);
        self.scratch.remove()
    }

    /// Ends everything at once, and says where the logs are.
    pub(crate) async fn fail(mut self) {
        println!("{}", self.table);
        if let Some(s3) = self.s3.take() {
            // It is killed when this fails.
            let _ = s3.stop().await;
        }
        // Its processes end before their folder goes.
        drop(self.cluster);
        let logs = self.scratch.keep_logs();
        eprintln!("the logs of this run are in {}", logs.display());
    }

    /// A path in the private folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Runs the command.
    pub(crate) async fn arustio(&self, words: &[&str]) -> Result<Said> {
        self.arustio_of(&self.cli, words).await
    }

    /// Runs the command against other servers.
    pub(crate) async fn arustio_of(&self, cli: &Cli, words: &[&str]) -> Result<Said> {
        let mut command = cli.command();
        command.args(["--json", "--verbose"]).args(words);
        command.env("ARUSTIO_LOG", "warn");
        let done = command.output().await.context("cannot start the command")?;
        let (out, err) = (lossy(&done.stdout), lossy(&done.stderr));
        let line = format!("{}: {}\n{err}", typed(words), done.status);
        self.commands.lock().write_all(line.as_bytes())?;
        ensure!(done.status.success(), "{}: {}", typed(words), err.trim());
        let last = out.lines().rfind(|line| !line.is_empty());
        let value = last.and_then(|line| serde_json::from_str(line).ok());
        Ok(Said {
            value: value.unwrap_or(Value::Null),
            repeats: repeats(&err),
        })
    }

    /// The command's program and environment, for a cluster at these servers.
    pub(crate) fn cli_of(&self, servers: &str) -> Cli {
        Cli::new(&self.options.bin_dir, servers, &self.scratch.path(""))
    }

    /// Options of a mount of the bucket.
    pub(crate) fn store_options(&self) -> Vec<String> {
        let options = [
            format!("access_key_id={ACCESS_KEY}"),
            format!("secret_access_key=@{}", self.path(SECRET).display()),
            format!("endpoint={}", self.store.endpoint),
        ];
        options
            .into_iter()
            .flat_map(|option| ["-o".to_owned(), option])
            .collect()
    }

    /// The bucket, as somebody sees it who knows nothing of us.
    pub(crate) fn bucket(&self) -> Result<AmazonS3> {
        processes::bucket(&self.store.endpoint, BUCKET)
    }

    /// A client of its own.
    pub(crate) async fn client(&self) -> Result<ArustioFileSystem> {
        connect(self.cluster.plan().metadata()).await
    }

    /// For questions about the cluster.
    pub(crate) fn admin(&self) -> Result<Admin> {
        let config = ClientConfig {
            addresses: self.cluster.plan().metadata(),
            ..ClientConfig::default()
        };
        Ok(Admin::new(&config, Entropy::from_os())?)
    }

    /// Requests that the store has got since, where it counts.
    pub(crate) async fn requests_since(
        &self,
        before: Option<Requests>,
    ) -> Result<Option<Requests>> {
        let now = self.store.requests().await?;
        Ok(now.zip(before).map(|(now, before)| now.since(&before)))
    }

    /// Waits until the group has a leader that hears all members, each with everything, and all
    /// block nodes that run serve.
    pub(crate) async fn whole(&self) -> Result<()> {
        let admin = self.admin()?;
        eventually("the cluster is not whole again", async || {
            self.is_whole(&admin).await
        })
        .await
    }

    async fn is_whole(&self, admin: &Admin) -> Result<()> {
        let group = admin.group().await?;
        ensure!(group.leader.is_some(), "nobody leads");
        for member in &group.members {
            let Some(progress) = member.progress else {
                continue;
            };
            let follows = progress.active && progress.matched >= group.commit;
            ensure!(follows, "member {} is behind: {progress:?}", member.id);
        }
        let nodes = admin.nodes().await?;
        let running = self.cluster.plan().nodes.iter();
        for node in running.filter(|node| node.member.is_none() && node.is_running()) {
            let address = node.grpc.to_string();
            let mut known = nodes.nodes.iter();
            let known = known.find(|known| known.entry.node.address == address && known.lives);
            ensure!(known.is_some(), "{} is not there", node.name);
        }
        Ok(())
    }
}

/// A client of the cluster at these addresses.
pub(crate) async fn connect(addresses: Vec<String>) -> Result<ArustioFileSystem> {
    let builder = Builder::new().of_this_process().addresses(addresses);
    Ok(builder.connect().await?)
}

/// Ends a client, and adds what it has repeated.
pub(crate) async fn close(fs: ArustioFileSystem, tally: &mut Tally) -> Result<()> {
    tally.repeats += fs.metadata_repeats();
    Ok(fs.close().await?)
}

/// Looks until something is so; what was seen last is in the error.
pub(crate) async fn eventually<F>(what: &str, look: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let deadline = Instant::now() + HEAL_LIMIT;
    loop {
        let Err(seen) = look().await else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            bail!("{what} after {} s: {seen:#}", HEAL_LIMIT.as_secs());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A command as it was typed; of many words the first and the last.
fn typed(words: &[&str]) -> String {
    let (first, last) = match words.len() > SHOWN {
        true => (&words[..SHOWN / 2], &words[words.len() - 2..]),
        false => (words, &[][..]),
    };
    let dots = (!last.is_empty()).then_some("...");
    let words: Vec<&str> = first
        .iter()
        .copied()
        .chain(dots)
        .chain(last.iter().copied())
        .collect();
    format!("arustio {}", words.join(" "))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `--verbose` says at the end of a command.
fn repeats(err: &str) -> u64 {
    let words = "requests to metadata servers that were repeated: ";
    let counts = err
        .lines()
        .filter_map(|line| line.strip_prefix(words)?.parse::<u64>().ok());
    counts.sum()
}
