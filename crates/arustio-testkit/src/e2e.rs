//! The whole system from end to end, as its users have it: real processes, real files, the command
//! and the client library, and every byte compared with where it came from and where it lies.
//!
//! [`run`] starts three metadata servers, three block nodes and an S3 server, and plays a list of
//! steps on them. Each step is a row of the table at the end, and leaves the cluster whole and idle;
//! the first one that fails ends the run. What everything has to be is one model (`tree`) of
//! the mount that the steps change as they change the cluster: it is compared with the namespace,
//! with what is read, and with the bucket. The logs are read after each step, and a warning that
//! was not to be expected in it fails it, too (`logs`).
//!
//! It deliberately injects no faults into the store or the network: rings below do that from seeds.

mod backup;
mod cache;
mod compare;
mod faults;
mod files;
mod load;
mod logs;
mod names;
mod outside;
mod scratch;
mod stage;
mod table;
mod tree;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use crate::processes::S3Choice;
use stage::Stage;

/// What to run.
#[derive(Debug, Clone)]
pub struct E2eOptions {
    /// Where `arustio`, `arustio-server` and `arustio-s3` lie.
    pub bin_dir: PathBuf,
    /// 3,000 files instead of 20,000.
    pub small: bool,
    /// Which S3 server.
    pub s3: S3Choice,
    /// Each process in a namespace of the network, with an address of its own.
    pub namespaces: bool,
    /// The folder of folders of files; the sources of cargo's registry unless given.
    pub tree: Option<PathBuf>,
    /// The program of somebody else, built with our library; without it its step is left out.
    pub outside: Option<PathBuf>,
}

/// Runs it.
///
/// Safe to drop: the processes that it started are killed, and its folder goes.
///
/// # Errors
/// What the first step says that fails; the logs stay in a folder that was named on stderr.
pub async fn run(options: E2eOptions) -> Result<()> {
    let began = Instant::now();
    let mut stage = Stage::start(options).await?;
    if let Err(error) = play(&mut stage).await {
        stage.fail().await;
        return Err(error);
    }
    stage.end().await?;
    println!("everything in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// The steps, in order.
async fn play(stage: &mut Stage) -> Result<()> {
    files::play(stage).await?;
    outside::play(stage).await?;
    names::play(stage).await?;
    cache::play(stage).await?;
    faults::play(stage).await?;
    backup::play(stage).await?;
    stage
        .step("compare everything", compare::everything)
        .await?;
    stage.step(stage::STOP, Stage::stop).await
}
