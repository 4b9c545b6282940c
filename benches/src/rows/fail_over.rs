//! Row 15: the leader is killed under load, again and again.
//!
//! Writers make directories that must be new, one after the other; each answer is noted.
//! A round kills the leader and takes the time until a write is acknowledged that began
//! when the process was gone. At the end every acknowledged name must be there, nothing
//! else but what was under way, and no writer may have seen an error: a creation that was
//! applied twice would have been refused the second time.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arustio_client::{
    ArustioFileSystem, Builder, FileSystem as _, FsPath, ListOptions, MkdirOptions,
};
use arustio_testkit::cluster::LocalCluster;
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::report::{Line, median};
use crate::trio::Trio;

/// Leaders that are killed.
const KILLS: usize = 20;
/// Loops of creations.
const WRITERS: usize = 8;
/// Work between two kills, once the killed server is back.
const CALM: Duration = Duration::from_millis(500);
/// Nothing takes so long unless the service is gone.
const GONE: Duration = Duration::from_secs(60);
/// Seconds that are allowed, and those that we want.
const ALLOWED: (f64, f64) = (3.0, 1.5);

/// What all writers share.
struct Load {
    fs: ArustioFileSystem,
    root: FsPath,
    ended: AtomicBool,
    /// When the last acknowledged write began that began latest.
    acknowledged: watch::Sender<Instant>,
}

/// Kills leaders and tells how long writers waited.
pub(crate) async fn measure(bin_dir: &Path) -> Result<Vec<Line>> {
    let mut trio = Trio::start(bin_dir).await?;
    let fs = Builder::new().config(trio.config()).connect().await?;
    let root = FsPath::new("/load")?;
    fs.mkdir(&root, MkdirOptions::default()).await?;
    let load = Load {
        fs,
        root,
        ended: AtomicBool::new(false),
        acknowledged: watch::channel(Instant::now()).0,
    };
    let writers = try_join_all((0..WRITERS).map(|writer| write(&load, writer)));
    let kills = async {
        let waited = kill_leaders(&mut trio, &load).await;
        load.ended.store(true, Ordering::Release);
        waited
    };
    let (names, waited) = tokio::join!(writers, kills);
    let (names, waited) = (names?, waited?);
    let names: BTreeSet<String> = names.into_iter().flatten().collect();
    verify(&load, &names).await?;
    trio.stop().await?;
    line(&waited, names.len())
}

async fn kill_leaders(trio: &mut Trio, load: &Load) -> Result<Vec<f64>> {
    let mut waited = Vec::new();
    for _ in 0..KILLS {
        sleep(CALM).await;
        let leader = trio.leader().await?;
        let waits = kill(&mut trio.cluster, &leader, load).await;
        waited.push(waits?.as_secs_f64());
        trio.cluster.start(&leader).await?;
    }
    Ok(waited)
}

/// Kills one server; how long until a write goes through that began afterwards.
async fn kill(cluster: &mut LocalCluster, leader: &str, load: &Load) -> Result<Duration> {
    let killed = Instant::now();
    cluster.signal(leader, Signal::KILL).await?;
    let gone = Instant::now();
    let mut acknowledged = load.acknowledged.subscribe();
    let next = acknowledged.wait_for(|began| *began > gone);
    timeout(GONE, next)
        .await
        .context("no write went through any more")??;
    Ok(killed.elapsed())
}

/// Creates until told to end; the names that were acknowledged.
async fn write(load: &Load, writer: usize) -> Result<Vec<String>> {
    let mut names = Vec::new();
    while !load.ended.load(Ordering::Acquire) {
        let name = format!("{writer}-{}", names.len());
        let path = load.root.join(&name)?;
        let began = Instant::now();
        let made = load.fs.mkdir(&path, MkdirOptions::default()).await;
        made.with_context(|| format!("a writer saw an error at {path}"))?;
        names.push(name);
        load.acknowledged.send_if_modified(|last| {
            let later = began > *last;
            *last = began.max(*last);
            later
        });
    }
    Ok(names)
}

/// Everything that was acknowledged is there, once, and nothing else.
async fn verify(load: &Load, acknowledged: &BTreeSet<String>) -> Result<()> {
    let listed = load.fs.list(&load.root, ListOptions::default());
    let listed: Vec<_> = listed.try_collect().await?;
    let found = listed
        .iter()
        .filter_map(|status| status.path.name())
        .map(str::to_owned);
    let found: BTreeSet<String> = found.collect();
    let lost = acknowledged.difference(&found).count();
    let invented = found.difference(acknowledged).count();
    ensure!(
        lost == 0 && invented == 0 && found.len() == listed.len(),
        "{lost} acknowledged names are lost, {invented} are there that nobody acknowledged"
    );
    Ok(())
}

fn line(waited: &[f64], acknowledged: usize) -> Result<Vec<Line>> {
    let slowest = waited.iter().copied().fold(0.0, f64::max);
    let params = json!({
        "servers": 3,
        "kills": waited.len(),
        "writers": WRITERS,
        "acknowledged": acknowledged,
        "lost": 0,
        "median_s": median(waited)?,
    });
    let (allowed, goal) = ALLOWED;
    Ok(vec![
        Line::stated("15", "fail-over", params, slowest, "s")
            .against("allowed 3 s", &[allowed], &[allowed / slowest])?
            .bounded(1.0, allowed / goal),
    ])
}
