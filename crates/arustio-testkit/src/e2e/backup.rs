//! The metadata is backed up while it is used, and brings up an empty cluster.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::compare;
use super::files::text;
use super::stage::{MOUNT, Stage, close, connect};
use super::table::Tally;
use crate::cluster::{LocalCluster, Shape};

/// Block nodes of the restored cluster, which is one metadata server at first.
const NODES: usize = 1;
/// Of so many files one is read there, all from the store; all are listed.
const SHARE: usize = 5;
pub(crate) const RESTORE: &str = "restore it into an empty cluster";

pub(crate) async fn play(stage: &mut Stage) -> Result<()> {
    stage
        .step("back the metadata up, verify it", back_up)
        .await?;
    stage.step(RESTORE, restore).await
}

async fn back_up(stage: &mut Stage) -> Result<Tally> {
    let file = stage.path("metadata.backup");
    let made = stage
        .arustio(&["admin", "metadata", "backup", text(&file)])
        .await?;
    let verified = stage.arustio(&["admin", "metadata", "verify"]).await?;
    Ok(Tally {
        operations: made.number("records")?,
        bytes: made.number("bytes")?,
        repeats: made.repeats + verified.repeats,
    })
}

/// The steps of docs/operations.md; the first cluster goes on meanwhile.
async fn restore(stage: &mut Stage) -> Result<Tally> {
    let program = stage.options.bin_dir.join("arustio-server");
    let dir = stage.path("restored");
    let shape = Shape {
        metadata: 1,
        block: NODES,
        namespaces: stage.options.namespaces,
    };
    let planned = LocalCluster::planned(&dir, &program, shape)?.stop_on_drop();
    let data = planned.plan().find("meta-1")?.data.clone();
    restore_folder(&program, &data, &stage.path("metadata.backup")).await?;
    let mut cluster = planned.start_planned().await?;
    let servers = cluster.plan().metadata();
    let cli = stage.cli_of(&servers.join(","));
    // Secrets are in no backup.
    let options = stage.store_options();
    let mut words = vec!["fs", "update-mount"];
    words.extend(options.iter().map(String::as_str));
    words.push(MOUNT);
    let mut tally = stage.arustio_of(&cli, &words).await?.tally();
    let fs = connect(servers).await?;
    compare::names(&fs, &stage.model).await?;
    let some = stage.model.sample(SHARE, 0);
    tally += compare::read(&fs, &some).await?.0;
    close(fs, &mut tally).await?;
    stage.check_logs_of(RESTORE, &cluster)?;
    cluster.down().await?;
    Ok(tally)
}

async fn restore_folder(program: &Path, data: &Path, backup: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(data);
    command.args(["metadata", "restore"]).arg(backup);
    command.env_remove("ARUSTIO_CONFIG").kill_on_drop(true);
    let done = command.output().await.context("cannot start the server")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "restoring: {}", said.trim());
    Ok(())
}
