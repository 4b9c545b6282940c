//! Epochs over a tree of files, as a training loader reads it: each file once, whole, in an
//! order that is shuffled anew, by several readers that open one after the other.

use std::time::Instant;

use arustio_client::{FileSystem, FsError, ListOptions, OpenOptions};
use arustio_types::{ErrorKind, FsPath};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::json;

use super::{Beside, Measured, micros_since};
use crate::connect::Connection;

/// What to read, and by how many.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) directory: FsPath,
    pub(super) streams: usize,
    pub(super) epochs: u32,
    /// Take descriptors, where that is configured.
    pub(super) local: bool,
}

/// What one reader did.
#[derive(Default)]
struct Done {
    bytes: u64,
    cache_bytes: u64,
    ufs_bytes: u64,
    latencies: Vec<u32>,
}

/// One measurement for each epoch: bytes a second, and the latency of a file from opening it
/// to its last byte.
pub(super) async fn run(connection: &Connection, plan: Plan) -> Result<Vec<Measured>, FsError> {
    let everything = ListOptions {
        recursive: true,
        ..ListOptions::default()
    };
    let listing = connection.fs().list(&plan.directory, everything);
    let files = listing.try_filter(|entry| std::future::ready(!entry.is_dir()));
    let mut files: Vec<FsPath> = files.map_ok(|entry| entry.path).try_collect().await?;
    if files.is_empty() {
        let message = "there are no files below it";
        let path = &plan.directory;
        return Err(FsError::on(ErrorKind::InvalidArgument, path, message));
    }
    let local = plan.local && connection.config().local.enabled;
    let fs = connection
        .another(|config| config.local.enabled = local)
        .await?;
    let mut measured = Vec::new();
    for number in 1..=plan.epochs {
        files.shuffle(&mut SmallRng::seed_from_u64(number.into()));
        measured.push(epoch(&fs, &plan, &files, number).await?);
    }
    fs.close().await?;
    Ok(measured)
}

async fn epoch(
    fs: &arustio_client::ArustioFileSystem,
    plan: &Plan,
    files: &[FsPath],
    number: u32,
) -> Result<Measured, FsError> {
    let started = Instant::now();
    let share = files.len().div_ceil(plan.streams);
    // A task each, so that they run on all cores.
    let readers = files.chunks(share).map(|some| {
        let (fs, some) = (fs.clone(), some.to_vec());
        tokio::spawn(async move { read_all(&fs, &some).await })
    });
    let done = try_join_all(readers)
        .await
        .map_err(|error| FsError::new(ErrorKind::Internal, format!("a reader ended: {error}")))?;
    let elapsed = started.elapsed();
    let done = done.into_iter().collect::<Result<Vec<Done>, _>>()?;
    let sum = |of: fn(&Done) -> u64| done.iter().map(of).sum::<u64>();
    Ok(Measured {
        workload: "epoch",
        params: json!({
            "path": plan.directory.as_str(),
            "epoch": number,
            "files": files.len(),
            "files_per_second": files.len() as f64 / elapsed.as_secs_f64().max(1e-9),
            "streams": plan.streams,
            "local": plan.local,
            "cache_bytes": sum(|d| d.cache_bytes),
            "ufs_bytes": sum(|d| d.ufs_bytes),
        }),
        amount: sum(|d| d.bytes),
        unit: "B/s",
        elapsed,
        cpu: None,
        latencies: done.into_iter().flat_map(|d| d.latencies).collect(),
        beside: Some(Beside::Loopback {
            streams: plan.streams,
        }),
    })
}

async fn read_all(fs: &dyn FileSystem, files: &[FsPath]) -> Result<Done, FsError> {
    stream::iter(files)
        .map(Ok)
        .try_fold(Done::default(), |mut done, path| async move {
            let started = Instant::now();
            let reader = fs.open(path, OpenOptions::default()).await?;
            let mut pieces = reader.stream(0..u64::MAX);
            while let Some(piece) = pieces.try_next().await? {
                done.bytes += piece.len() as u64;
            }
            let stats = reader.stats();
            done.cache_bytes += stats.cache_bytes;
            done.ufs_bytes += stats.ufs_bytes;
            done.latencies.push(micros_since(started));
            Ok(done)
        })
        .await
}
