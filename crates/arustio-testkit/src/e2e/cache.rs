//! The cache is emptied and filled, and a block node is replaced while clients read.

use anyhow::{Context as _, Result, ensure};
use arustio_client::admin::BlockNode;
use rustix::process::Signal;

use super::compare;
use super::load::Load;
use super::names::folder;
use super::stage::{MOUNT, Stage, close, eventually};
use super::table::Tally;
use super::tree::Tree;

/// Operations that have to end well before and after each change.
const SOME: u64 = 40;
const REPLACE: &str = "drain and replace a block node under load";

pub(crate) async fn play(stage: &mut Stage) -> Result<()> {
    stage
        .step("free, load, look how much is cached", load_and_free)
        .await?;
    stage.step(REPLACE, replace).await
}

async fn load_and_free(stage: &mut Stage) -> Result<Tally> {
    let (folder, part) = folder(stage, 1)?;
    let path = format!("{MOUNT}/{folder}");
    let mut tally = stage.arustio(&["fs", "free", &path]).await?.tally();
    ensure!(
        cached(stage, &path).await? == 0,
        "bytes of {path} are cached after free"
    );
    let load = ["fs", "load", "--wait", "--verify", "--replicas", "2", &path];
    let said = stage.arustio(&load).await?;
    ensure!(
        said.number("ufs_bytes")? >= part.bytes(),
        "loaded from where? {}",
        said.value
    );
    tally += said.tally();
    let now = cached(stage, &path).await?;
    ensure!(
        now == part.bytes(),
        "{now} of {} bytes are cached after load",
        part.bytes()
    );
    tally += read_warm(stage, &part).await?;
    Ok(tally)
}

/// Bytes below a path that block nodes hold.
async fn cached(stage: &Stage, path: &str) -> Result<u64> {
    stage
        .arustio(&["fs", "du", "-s", path])
        .await?
        .number("cached_bytes")
}

/// Reads what is cached; the store is not asked for a byte of it.
async fn read_warm(stage: &Stage, part: &Tree) -> Result<Tally> {
    let fs = stage.client().await?;
    let (mut tally, stats) = compare::read(&fs, part).await?;
    ensure!(
        stats.ufs_requests == 0,
        "{} requests to the store for what is cached",
        stats.ufs_requests
    );
    close(fs, &mut tally).await?;
    Ok(tally)
}

/// As docs/operations.md says it.
async fn replace(stage: &mut Stage) -> Result<Tally> {
    let old = "block-1";
    let mut load = Load::start(stage, "replaced").await?;
    load.goes_on(SOME).await?;
    let new = stage.cluster.add_block().await?;
    let id = node(stage, old).await?.id().to_string();
    state(stage, &new, "serves").await?;
    stage.arustio(&["admin", "node", "drain", &id]).await?;
    state(stage, old, "draining").await?;
    load.goes_on(SOME).await?;
    let (folder, part) = folder(stage, 1)?;
    let path = format!("{MOUNT}/{folder}");
    let words = ["fs", "load", "--wait", "--replicas", "2", &path];
    let mut tally = stage.arustio(&words).await?.tally();
    stage.cluster.signal(old, Signal::TERM).await?;
    load.goes_on(SOME).await?;
    stage.arustio(&["admin", "node", "remove", &id]).await?;
    state(stage, old, "removed").await?;
    load.goes_on(SOME).await?;
    tally += read_warm(stage, &part).await?;
    stage.whole().await?;
    tally += load.stop(stage).await?;
    Ok(tally)
}

async fn state(stage: &Stage, name: &str, expected: &str) -> Result<()> {
    eventually("the block node is not what it was told", async || {
        let state = node(stage, name).await?.state();
        ensure!(state == expected, "{name} is {state}, not {expected}");
        Ok(())
    })
    .await
}

/// What the cluster knows of a block node.
async fn node(stage: &Stage, name: &str) -> Result<BlockNode> {
    let address = stage.cluster.plan().find(name)?.grpc.to_string();
    let known = stage.admin()?.nodes().await?.nodes.into_iter();
    let mut known = known.filter(|node| node.entry.node.address == address);
    known
        .next()
        .with_context(|| format!("{name} has not registered"))
}
