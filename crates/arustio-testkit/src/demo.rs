//! The main job, shown on real processes and real data.
//!
//! [`run`] starts an S3 server and `arustio-server`, mounts a bucket and a local
//! directory, writes, lists, reads cold and warm through the command line as a
//! person would, and compares checksums. Every step is one row of the table that it
//! prints at the end; the first step that fails ends the run and says why.

pub(crate) mod data;
mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use serde_json::Value;

use crate::processes::{self, ACCESS_KEY, Cli, Process, S3Choice, SECRET_KEY};
use table::{Row, Table};

/// What to run.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Where `arustio`, `arustio-server` and `arustio-s3` lie.
    pub bin_dir: PathBuf,
    /// 64 MiB and 300 files instead of 1 GiB and 3,000.
    pub small: bool,
    /// Which S3 server.
    pub s3: S3Choice,
    /// Leave it running.
    pub keep: bool,
}

const BUCKET: &str = "demo-bucket";

/// A running set of servers with a mounted namespace.
struct Stage {
    folder: tempfile::TempDir,
    cli: Cli,
    endpoint: String,
    s3: Process,
    server: Process,
}

/// Runs the demonstration.
///
/// Safe to drop: the processes that it started are killed, and its folder goes.
pub async fn run(options: DemoOptions) -> Result<()> {
    let stage = Stage::start(&options).await?;
    let mut table = Table::default();
    let played = play(&stage, &options, &mut table).await;
    println!("{table}");
    if options.keep && played.is_ok() {
        return stage.keep();
    }
    stage.stop().await?;
    played
}

impl Stage {
    async fn start(options: &DemoOptions) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("arustio-demo-")
            .tempdir()
            .context("cannot make a private folder")?;
        let s3_data = folder.path().join("s3");
        let (s3, endpoint) =
            processes::start_s3(options.s3, &options.bin_dir, &s3_data, BUCKET).await?;
        let (server, address) =
            processes::start_server(&options.bin_dir, &folder.path().join("server")).await?;
        eprintln!("S3 server {endpoint}, metadata and block node {address}");
        let cli = Cli::new(&options.bin_dir, &address, folder.path());
        Ok(Self {
            folder,
            cli,
            endpoint,
            s3,
            server,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn keep(self) -> Result<()> {
        let Self {
            folder,
            cli,
            endpoint,
            s3,
            server,
        } = self;
        let pids = [s3.detach(), server.detach()];
        println!("left running; talk to it with");
        println!("  export ARUSTIO_SERVER={}", cli.server());
        println!("  {} fs list", cli.program().display());
        println!("S3 endpoint {endpoint}, access key {ACCESS_KEY}, bucket {BUCKET}");
        println!("end it with");
        println!(
            "  kill {} {} && rm -r {}",
            pids[0],
            pids[1],
            folder.keep().display()
        );
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        self.server
            .stop()
            .await
            .context("arustio-server did not stop cleanly")?;
        self.s3.stop().await.context("the S3 server did not stop")?;
        self.folder.close().context("cannot remove the folder")
    }
}

/// The acts, in order.
async fn play(stage: &Stage, options: &DemoOptions, table: &mut Table) -> Result<()> {
    let (big_bytes, files) = if options.small {
        (64 << 20, 300)
    } else {
        (1 << 30, 3_000)
    };
    eprintln!(
        "making {} of data and a tree of {files} files",
        human(big_bytes)
    );
    let big = stage.path("big.bin");
    let tree = stage.path("tree");
    let big_sum = data::write_big(&big, big_bytes, 42)?;
    let tree_sum = data::write_tree(&tree, files, 43)?;

    mount(stage, table).await?;
    write(stage, table, &big, &tree).await?;
    behind_our_back(stage, table).await?;
    read(stage, table, &big_sum, &tree_sum).await?;
    local(stage, table, &tree_sum).await?;
    rename_and_remove(stage, table).await
}

async fn mount(stage: &Stage, table: &mut Table) -> Result<()> {
    let endpoint = format!("endpoint={}", stage.endpoint);
    let uri = format!("s3a://{BUCKET}");
    let access = format!("access_key_id={ACCESS_KEY}");
    let secret = format!("secret_access_key={SECRET_KEY}");
    let options = ["-o", &access, "-o", &secret, "-o", &endpoint];
    let command = [&["fs", "mount"], &options[..], &["/data", &uri]].concat();
    step(stage, table, "mount bucket at /data", &command).await?;
    let local = stage.path("local-ufs");
    std::fs::create_dir_all(&local)?;
    let uri = format!("file://{}", local.display());
    let command = ["fs", "mount", "/local", &uri];
    step(stage, table, "mount directory at /local", &command).await?;
    // Written through to the bucket only, so that the first read is a cold one.
    let command = ["fs", "set-conf", "/data", "write.type=THROUGH"];
    stage.cli.run(&command).await.map(drop)
}

async fn write(stage: &Stage, table: &mut Table, big: &Path, tree: &Path) -> Result<()> {
    let (big, tree) = (text(big), text(tree));
    let command = ["fs", "copy-from-local", big, "/data/big.bin"];
    step(stage, table, "write 1 file to S3", &command).await?;
    let command = ["fs", "copy-from-local", "-r", tree, "/data/tree"];
    step(stage, table, "write the tree to S3", &command).await?;
    step(stage, table, "list it all", &["fs", "ls", "-R", "/data"]).await
}

/// Somebody else writes into the bucket; the namespace shows it.
async fn behind_our_back(stage: &Stage, table: &mut Table) -> Result<()> {
    let store = processes::bucket(&stage.endpoint, BUCKET)?;
    let key = ObjectPath::from("from-outside/hello.txt");
    let content = b"put into the bucket by somebody else\n".to_vec();
    store.put(&key, content.clone().into()).await?;
    // Knowledge of a listing may be a minute old; this looks now.
    let command = ["fs", "sync", "/data"];
    step(stage, table, "look at the bucket now", &command).await?;
    let started = Instant::now();
    let shown = stage
        .cli
        .output(&["fs", "cat", "/data/from-outside/hello.txt"])
        .await?;
    ensure!(shown == content, "the foreign object reads differently");
    let row = Row::timed("read an object put by others", started.elapsed());
    table.add(row.bytes(content.len() as u64));
    Ok(())
}

async fn read(stage: &Stage, table: &mut Table, big_sum: &str, tree_sum: &str) -> Result<()> {
    for (label, tree_label, round) in [
        ("read 1 file, cold", "read the tree, cold", "cold"),
        ("read 1 file, warm", "read the tree, warm", "warm"),
    ] {
        let target = stage.path(&format!("big-{round}.bin"));
        let command = ["fs", "copy-to-local", "/data/big.bin", text(&target)];
        step(stage, table, label, &command).await?;
        check(&data::sum_file(&target)?, big_sum, label)?;
        std::fs::remove_file(&target)?;
        let target = stage.path(&format!("tree-{round}"));
        let command = ["fs", "copy-to-local", "-r", "/data/tree", text(&target)];
        step(stage, table, tree_label, &command).await?;
        check(&data::sum_tree(&target)?, tree_sum, tree_label)?;
        std::fs::remove_dir_all(&target)?;
    }
    Ok(())
}

async fn local(stage: &Stage, table: &mut Table, tree_sum: &str) -> Result<()> {
    let command = ["fs", "cp", "-r", "/data/tree", "/local/tree"];
    step(stage, table, "copy the tree, S3 to directory", &command).await?;
    let sum = data::sum_tree(&stage.path("local-ufs").join("tree"))?;
    check(&sum, tree_sum, "the tree in the local directory")
}

async fn rename_and_remove(stage: &Stage, table: &mut Table) -> Result<()> {
    let command = ["fs", "mv", "/data/big.bin", "/data/moved.bin"];
    step(stage, table, "rename 1 file", &command).await?;
    let command = ["fs", "rm", "-r", "/data/tree"];
    step(stage, table, "remove the tree", &command).await?;
    let left = stage.cli.output(&["fs", "ls", "-R", "/data"]).await?;
    let left = String::from_utf8_lossy(&left).into_owned();
    ensure!(
        left.contains("moved.bin") && !left.contains("tree"),
        "unexpected names are left:\n{left}"
    );
    Ok(())
}

/// Runs one command, timed, and adds its row.
async fn step(stage: &Stage, table: &mut Table, label: &str, command: &[&str]) -> Result<()> {
    let started = Instant::now();
    let result = stage.cli.run(command).await;
    let elapsed = started.elapsed();
    let summary = result.with_context(|| format!("step {label:?}"))?;
    table.add(Row::timed(label, elapsed).summary(summary.as_ref().unwrap_or(&Value::Null)));
    Ok(())
}

fn check(found: &str, expected: &str, what: &str) -> Result<()> {
    if found != expected {
        bail!("{what}: checksum {found}, expected {expected}");
    }
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or("<not UTF-8>")
}

fn human(bytes: u64) -> String {
    arustio_types::ByteSize(bytes).human()
}
