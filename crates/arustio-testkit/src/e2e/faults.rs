//! The cluster is hurt while clients work, and no operation of theirs fails.

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::load::Load;
use super::stage::{Stage, eventually};
use super::table::Tally;

/// Operations that have to end well before, during and after each fault.
const SOME: u64 = 60;
pub(crate) const KILL: &str = "kill the leader under load";
pub(crate) const RESTART: &str = "restart all six, one by one, under load";

pub(crate) async fn play(stage: &mut Stage) -> Result<()> {
    stage.step(KILL, kill_leader).await?;
    stage.step(RESTART, restart).await
}

async fn kill_leader(stage: &mut Stage) -> Result<Tally> {
    let mut load = Load::start(stage, "killed").await?;
    load.goes_on(SOME).await?;
    let leader = leader(stage).await?;
    stage.cluster.signal(&leader, Signal::KILL).await?;
    load.goes_on(SOME).await?;
    stage.cluster.start(&leader).await?;
    load.goes_on(SOME).await?;
    stage.whole().await?;
    load.stop(stage).await
}

async fn restart(stage: &mut Stage) -> Result<Tally> {
    let mut load = Load::start(stage, "restarted").await?;
    let nodes = stage.cluster.plan().nodes.iter();
    let running = nodes.filter(|node| node.is_running());
    let names: Vec<String> = running.map(|node| node.name.clone()).collect();
    for name in &names {
        let restarted = restart_one(stage, &mut load, name).await;
        restarted.with_context(|| format!("restarting {name}"))?;
    }
    load.stop(stage).await
}

/// The next one is not touched before this one is back with everything.
async fn restart_one(stage: &mut Stage, load: &mut Load, name: &str) -> Result<()> {
    stage.cluster.signal(name, Signal::TERM).await?;
    load.goes_on(SOME).await?;
    stage.cluster.start(name).await?;
    stage.whole().await?;
    load.goes_on(SOME).await
}

/// Who leads, as the name of a node.
async fn leader(stage: &Stage) -> Result<String> {
    let admin = stage.admin()?;
    let led = async || {
        let group = admin.group().await?;
        group.leader.context("nobody leads").map(drop)
    };
    eventually("no leader", led).await?;
    let leader = admin.group().await?.leader.context("nobody leads")?;
    let mut nodes = stage.cluster.plan().nodes.iter();
    let node = nodes.find(|node| node.member == Some(leader.get()));
    Ok(node
        .context("a leader that is no node of ours")?
        .name
        .clone())
}
