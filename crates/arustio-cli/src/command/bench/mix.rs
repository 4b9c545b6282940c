//! Reads, writes and stats by weight, on small files in a tree of their own.
//!
//! Each loop has one operation under way and draws the next one by the weights. Reads and
//! stats go to files that were made before the clock started; a loop writes names of its
//! own, new ones first and then again, so that no read meets a version that is just gone.

use std::time::{Duration, Instant};

use arustio_client::{CreateOptions, FileSystem, FsError, OpenOptions, StatOptions};
use arustio_types::meta::mount::WriteType;
use arustio_types::{ErrorKind, FsPath};
use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use rand::distr::Distribution as _;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::json;

use super::{Beside, Measured, micros_since, scratch};
use crate::connect::Connection;

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) directory: FsPath,
    /// Of reading, writing and asking for a status.
    pub(super) weights: [u32; 3],
    pub(super) bytes: u64,
    pub(super) files: usize,
    pub(super) streams: usize,
    pub(super) duration: Duration,
    pub(super) write_type: WriteType,
    pub(super) keep: bool,
}

/// The kinds of operations, in the order of the weights.
const KINDS: [&str; 3] = ["mix read", "mix write", "mix stat"];
/// Files that are made at a time before the clock starts.
const MADE_AT_ONCE: usize = 32;
/// Largest file: each is one buffer.
const LARGEST: u64 = 64 << 20;

/// One measurement for each kind that has a weight, and one for all of them together.
pub(super) async fn run(connection: &Connection, plan: Plan) -> Result<Vec<Measured>, FsError> {
    let refuse = |message: &str| Err(FsError::new(ErrorKind::InvalidArgument, message));
    if plan.bytes > LARGEST {
        return refuse("--size must be at most 64MiB: each file is one buffer");
    }
    let Ok(weights) = WeightedIndex::new(plan.weights) else {
        return refuse("one of --read, --write and --stat must be above 0");
    };
    let fs = connection.fs();
    scratch::within(fs, &plan.directory, plan.keep, async |scratch| {
        measure(fs, &plan, scratch, &weights).await
    })
    .await
}

async fn measure(
    fs: &dyn FileSystem,
    plan: &Plan,
    scratch: &FsPath,
    weights: &WeightedIndex<u32>,
) -> Result<Vec<Measured>, FsError> {
    let mut content = vec![0; usize::try_from(plan.bytes).unwrap_or(usize::MAX)];
    SmallRng::seed_from_u64(1).fill_bytes(&mut content);
    let content = Bytes::from(content);
    let files = (0..plan.files)
        .map(|number| scratch.join(&format!("file-{number:06}")))
        .collect::<Result<Vec<_>, _>>()?;
    stream::iter(&files)
        .map(|path| write(fs, path, &content, plan.write_type))
        .buffer_unordered(MADE_AT_ONCE)
        .try_collect::<()>()
        .await?;
    let started = Instant::now();
    let end = started + plan.duration;
    let loops = (0..plan.streams).map(|number| {
        let looping = Loop {
            fs,
            plan,
            content: content.clone(),
            files: &files,
            written: 0,
            number,
            rng: SmallRng::seed_from_u64(number as u64),
        };
        looping.work(scratch, weights, end)
    });
    let done = try_join_all(loops).await?;
    let elapsed = started.elapsed();
    let kinds = KINDS.into_iter().enumerate();
    let kinds = kinds.filter(|(kind, _)| plan.weights[*kind] > 0);
    let of = |(kind, workload): (usize, _)| {
        let latencies = done.iter().flat_map(|one: &Latencies| one[kind].iter());
        plan.measured(workload, latencies.copied().collect(), elapsed)
    };
    let mut measured: Vec<Measured> = kinds.map(of).collect();
    let together = done.iter().flatten().flatten().copied().collect();
    measured.push(Measured {
        beside: Some(Beside::PingPong {
            streams: plan.streams,
        }),
        ..plan.measured("mix", together, elapsed)
    });
    Ok(measured)
}

impl Plan {
    fn measured(&self, workload: &'static str, latencies: Vec<u32>, elapsed: Duration) -> Measured {
        Measured {
            workload,
            params: json!({
                "size": self.bytes,
                "files": self.files,
                "streams": self.streams,
                "weights": self.weights,
                "write_type": self.write_type.name(),
            }),
            amount: latencies.len() as u64,
            unit: "op/s",
            elapsed,
            cpu: None,
            latencies,
            beside: None,
        }
    }
}

/// Of each kind, in microseconds.
type Latencies = [Vec<u32>; 3];

/// One loop, and what it works on.
struct Loop<'a> {
    fs: &'a dyn FileSystem,
    plan: &'a Plan,
    content: Bytes,
    files: &'a [FsPath],
    written: usize,
    number: usize,
    rng: SmallRng,
}

impl Loop<'_> {
    async fn work(
        mut self,
        scratch: &FsPath,
        weights: &WeightedIndex<u32>,
        end: Instant,
    ) -> Result<Latencies, FsError> {
        let mut latencies = Latencies::default();
        loop {
            let started = Instant::now();
            if started >= end {
                return Ok(latencies);
            }
            let kind = weights.sample(&mut self.rng);
            match kind {
                0 => self.read().await?,
                1 => self.write(scratch).await?,
                _ => self.stat().await?,
            }
            latencies[kind].push(micros_since(started));
        }
    }

    fn any(&mut self) -> &FsPath {
        &self.files[self.rng.random_range(0..self.files.len())]
    }

    async fn read(&mut self) -> Result<(), FsError> {
        let fs = self.fs;
        let reader = fs.open(self.any(), OpenOptions::default()).await?;
        let mut pieces = reader.stream(0..u64::MAX);
        while pieces.try_next().await?.is_some() {}
        Ok(())
    }

    async fn stat(&mut self) -> Result<(), FsError> {
        let fs = self.fs;
        fs.stat(self.any(), StatOptions::default()).await.map(drop)
    }

    async fn write(&mut self, scratch: &FsPath) -> Result<(), FsError> {
        let turn = self.written % self.files.len();
        self.written += 1;
        let path = scratch.join(&format!("written-{}-{turn:06}", self.number))?;
        write(self.fs, &path, &self.content, self.plan.write_type).await
    }
}

async fn write(
    fs: &dyn FileSystem,
    path: &FsPath,
    content: &Bytes,
    write_type: WriteType,
) -> Result<(), FsError> {
    let options = CreateOptions {
        overwrite: true,
        write_type: Some(write_type),
        ..CreateOptions::default()
    };
    let mut writer = fs.create(path, options).await?;
    writer.write(content.clone()).await?;
    writer.commit().await.map(drop)
}
