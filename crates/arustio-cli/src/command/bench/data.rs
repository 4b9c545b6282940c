//! Reading and writing bytes.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arustio_client::block::local::running_system;
use arustio_client::{
    ClientConfig, CreateOptions, DeleteOptions, FileReader, FileSystem, FsError, OpenOptions,
    ReadStats, StatOptions, Transport,
};
use arustio_types::meta::mount::WriteType;
use arustio_types::{ByteSize, ErrorKind, FsPath, SystemClock};
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::try_join_all;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::{Value, json};

use super::rate::Schedule;
use super::{Beside, Measured, micros_since};
use crate::connect::Connection;

/// What to read.
#[derive(Debug)]
pub(super) struct ReadPlan {
    pub(super) path: FsPath,
    pub(super) request: u64,
    pub(super) streams: usize,
    pub(super) order: Order,
    pub(super) total: Option<u64>,
    /// Requests that begin in a second, answered or not.
    pub(super) rate: Option<u64>,
    /// Ask block nodes at all.
    pub(super) cache: bool,
    /// Give them what was read from the UFS.
    pub(super) fill: bool,
    /// Free the file before each pass.
    pub(super) cold: bool,
    /// Another wire than the configured one.
    pub(super) transport: Option<Transport>,
    /// Whether to take descriptors, if not as configured.
    pub(super) local: Option<bool>,
}

/// Which bytes a reader asks for, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// All of the file, as they come.
    Stream,
    /// All of the file, a request at a time.
    Offsets,
    /// Requests anywhere, one at a time.
    Random,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Offsets => "offsets",
            Self::Random => "random",
        }
    }
}

impl ReadPlan {
    fn change(&self, config: &mut ClientConfig) {
        config.read.cache = self.cache;
        config.transport = self.transport.unwrap_or(config.transport);
        config.local.enabled = self.local.unwrap_or(config.local.enabled);
        if !self.fill {
            config.read.fill_buffer = ByteSize(0);
            config.read.fill_wait = Duration::ZERO;
        }
    }

    /// Bytes of each pass: all at once, or the file again and again.
    fn passes(&self, size: u64) -> Vec<Option<u64>> {
        if !self.cold {
            return vec![self.total];
        }
        let mut left = self.total.unwrap_or(size);
        let mut passes = Vec::new();
        while left > 0 {
            passes.push(Some(left.min(size)));
            left -= left.min(size);
        }
        passes
    }
}

/// Up to here the time of a request is what counts, and not its bytes.
const SMALL: u64 = 64 << 10;

impl ReadPlan {
    fn beside(&self, by_descriptor: bool) -> Beside {
        let (streams, request) = (self.streams, self.request);
        match (by_descriptor, self.order) {
            (true, _) => Beside::Memory {
                request: usize::try_from(request).unwrap_or(usize::MAX),
            },
            (false, Order::Random | Order::Offsets) if request <= SMALL => {
                Beside::Requests { streams, request }
            }
            (false, _) => Beside::Loopback { streams },
        }
    }

    fn params(&self, config: &ClientConfig, passed: &Passed) -> Value {
        json!({
            "path": self.path.as_str(),
            "request": self.request,
            "streams": self.streams,
            "random": self.order == Order::Random,
            "order": self.order.name(),
            "cache": self.cache,
            "fill": self.cache && self.fill,
            "cold": self.cold,
            "transport": self.transport.unwrap_or(config.transport).name(),
            "local": self.local.unwrap_or(config.local.enabled),
            "cache_bytes": passed.sum(|stats| stats.cache_bytes),
            "ufs_bytes": passed.sum(|stats| stats.ufs_bytes),
            "ufs_requests": passed.sum(|stats| stats.ufs_requests),
            "hedges": passed.sum(|stats| stats.hedges),
            "hedges_won": passed.sum(|stats| stats.hedges_won),
            "paced": passed.paced,
        })
    }
}

/// What all passes came to.
#[derive(Default)]
struct Passed {
    bytes: u64,
    elapsed: Duration,
    latencies: Vec<u32>,
    stats: Vec<ReadStats>,
    /// What came of each pass at a fixed rate.
    paced: Vec<Value>,
}

impl Passed {
    fn sum(&self, of: fn(&ReadStats) -> u64) -> u64 {
        self.stats.iter().map(of).sum()
    }
}

/// Reads one file by several readers, each with a handle of its own.
pub(super) async fn read(connection: &Connection, plan: ReadPlan) -> Result<Measured, FsError> {
    let look = connection.fs().stat(&plan.path, StatOptions::default());
    let status = look.await?;
    if status.size < plan.request.max(1) {
        let message = "the file is smaller than one request";
        return Err(FsError::on(ErrorKind::InvalidArgument, &plan.path, message));
    }
    let mut passed = Passed::default();
    for total in plan.passes(status.size) {
        // A client of its own: when it is closed, nothing is on its way to nodes any more.
        let fs = connection.another(|config| plan.change(config)).await?;
        let done = pass(&fs, &plan, total, &mut passed).await;
        fs.close().await?;
        done?;
    }
    let local = plan.local.unwrap_or(connection.config().local.enabled);
    let cached = passed.sum(|stats| stats.cache_bytes);
    let params = plan.params(connection.config(), &passed);
    let by_descriptor = local && cached > 0 && on_this_host(connection.fs(), &plan.path).await;
    Ok(Measured {
        workload: "read",
        params,
        amount: passed.bytes,
        unit: "B/s",
        elapsed: passed.elapsed,
        cpu: None,
        latencies: passed.latencies,
        beside: Some(plan.beside(by_descriptor)),
    })
}

/// Whether all nodes that have bytes of a file are on this host.
async fn on_this_host(fs: &dyn FileSystem, path: &FsPath) -> bool {
    let (Some(here), Ok(found)) = (running_system(), fs.location(path).await) else {
        return false;
    };
    let mut have = found
        .nodes
        .iter()
        .filter(|share| share.cached.is_none_or(|bytes| bytes > 0))
        .peekable();
    have.peek().is_some() && have.all(|share| share.node.data.host.as_ref() == Some(&here))
}

async fn pass(
    fs: &dyn FileSystem,
    plan: &ReadPlan,
    total: Option<u64>,
    passed: &mut Passed,
) -> Result<(), FsError> {
    if plan.cold {
        fs.free(&plan.path).await?;
    }
    let mut readers = Vec::new();
    for _ in 0..plan.streams {
        readers.push(fs.open(&plan.path, OpenOptions::default()).await?);
    }
    let started = Instant::now();
    match plan.rate {
        Some(rate) => paced(&readers, plan, rate, total, passed).await?,
        None => answered(&readers, plan, total, passed).await?,
    }
    passed.elapsed += started.elapsed();
    passed
        .stats
        .extend(readers.iter().map(|reader| reader.stats()));
    Ok(())
}

type Readers = [Box<dyn FileReader>];
type Done = (u64, Vec<u32>);

/// Each stream asks again when it was answered.
async fn answered(
    readers: &Readers,
    plan: &ReadPlan,
    total: Option<u64>,
    passed: &mut Passed,
) -> Result<(), FsError> {
    let work = readers.iter().zip(0..).map(|(reader, seed)| async move {
        match plan.order {
            Order::Stream => sequential(&**reader, total).await,
            Order::Offsets => offsets(&**reader, plan, total).await,
            Order::Random => random(&**reader, plan, total, seed).await,
        }
    });
    for (bytes, latencies) in try_join_all(work).await? {
        passed.bytes += bytes;
        passed.latencies.extend(latencies);
    }
    Ok(())
}

/// Requests anywhere begin at a rate, each on a stream that is free.
async fn paced(
    readers: &Readers,
    plan: &ReadPlan,
    rate: u64,
    total: Option<u64>,
    passed: &mut Passed,
) -> Result<(), FsError> {
    let size = readers.first().map_or(0, |reader| reader.status().size);
    let requests = total.unwrap_or(size) / plan.request;
    let schedule = Schedule::begin(rate, requests, &SystemClock);
    let work = readers.iter().zip(0..).map(|(reader, seed)| {
        let schedule = &schedule;
        async move {
            let mut anywhere = Anywhere::new(&**reader, plan.request, seed);
            let mut done = (0, Vec::new());
            while let Some(planned) = schedule.next().await {
                done.0 += anywhere.read().await?;
                done.1.push((planned.at, planned.micros()));
            }
            Ok::<_, FsError>(done)
        }
    });
    let mut all = Vec::new();
    for (bytes, times) in try_join_all(work).await? {
        passed.bytes += bytes;
        all.extend(times);
    }
    passed.latencies.extend(all.iter().map(|(_, took)| took));
    passed.paced.push(schedule.report(&all));
    Ok(())
}

/// From the beginning, again from the beginning at the end.
async fn sequential(reader: &dyn FileReader, total: Option<u64>) -> Result<Done, FsError> {
    let size = reader.status().size;
    let mut left = total.unwrap_or(size);
    let mut bytes = 0;
    while left > 0 {
        let mut stream = reader.stream(0..left.min(size));
        while let Some(piece) = stream.try_next().await? {
            bytes += piece.len() as u64;
        }
        left -= left.min(size);
    }
    Ok((bytes, Vec::new()))
}

/// A byte of every page is looked at: what is mapped has to be there as well.
const PAGE: usize = 4096;

/// One request after the other, from the beginning again at the end.
async fn offsets(
    reader: &dyn FileReader,
    plan: &ReadPlan,
    total: Option<u64>,
) -> Result<Done, FsError> {
    let size = reader.status().size;
    let wanted = total.unwrap_or(size);
    let length = usize::try_from(plan.request).unwrap_or(usize::MAX);
    let mut done = (0, Vec::new());
    let mut offset = 0;
    while done.0 < wanted {
        let started = Instant::now();
        let piece = reader.read_at(offset, length).await?;
        black_box(piece.iter().step_by(PAGE).fold(0, |all, byte| all ^ byte));
        done.1.push(micros_since(started));
        done.0 += piece.len() as u64;
        offset += piece.len() as u64;
        if offset >= size {
            offset = 0;
        }
    }
    Ok(done)
}

/// Offsets on the grid of the request size, from a seed.
struct Anywhere<'a> {
    reader: &'a dyn FileReader,
    request: u64,
    slots: u64,
    rng: SmallRng,
}

impl<'a> Anywhere<'a> {
    fn new(reader: &'a dyn FileReader, request: u64, seed: u64) -> Self {
        Self {
            reader,
            request,
            slots: reader.status().size / request,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// Bytes of one request.
    async fn read(&mut self) -> Result<u64, FsError> {
        let offset = self.rng.random_range(0..self.slots) * self.request;
        let length = usize::try_from(self.request).unwrap_or(usize::MAX);
        let piece = self.reader.read_at(offset, length).await?;
        Ok(piece.len() as u64)
    }
}

/// One request anywhere after the other.
async fn random(
    reader: &dyn FileReader,
    plan: &ReadPlan,
    total: Option<u64>,
    seed: u64,
) -> Result<Done, FsError> {
    let wanted = total.unwrap_or(reader.status().size) / plan.streams as u64;
    let mut anywhere = Anywhere::new(reader, plan.request, seed);
    let mut done = (0, Vec::new());
    while done.0 < wanted {
        let started = Instant::now();
        done.0 += anywhere.read().await?;
        done.1.push(micros_since(started));
    }
    Ok(done)
}

/// What to write.
#[derive(Debug)]
pub(super) struct WritePlan {
    pub(super) directory: FsPath,
    pub(super) bytes: u64,
    pub(super) streams: usize,
    pub(super) write_type: WriteType,
    pub(super) keep: bool,
}

const PIECE: usize = 1 << 20;

/// Writes one file per stream, commits, and removes them again.
pub(super) async fn write(connection: &Connection, plan: WritePlan) -> Result<Measured, FsError> {
    let fs = connection.fs();
    let mark: u32 = rand::random();
    let mut content = vec![0; PIECE];
    SmallRng::seed_from_u64(1).fill_bytes(&mut content);
    let content = Arc::new(Bytes::from(content));
    let paths = (0..plan.streams)
        .map(|n| plan.directory.join(&format!("bench-{mark:08x}-{n}")))
        .collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    let work = paths
        .iter()
        .map(|path| write_one(fs, path, &plan, Bytes::clone(&content)));
    let requests: u64 = try_join_all(work).await?.into_iter().sum();
    let elapsed = started.elapsed();
    if !plan.keep {
        for path in &paths {
            fs.delete(path, DeleteOptions::default()).await?;
        }
    }
    let params = json!({
        "size": plan.bytes,
        "streams": plan.streams,
        "write_type": plan.write_type.name(),
        "ufs_requests": requests,
    });
    Ok(Measured {
        workload: "write",
        params,
        amount: plan.bytes * plan.streams as u64,
        unit: "B/s",
        elapsed,
        cpu: None,
        latencies: Vec::new(),
        beside: Some(Beside::Loopback {
            streams: plan.streams,
        }),
    })
}

async fn write_one(
    fs: &dyn FileSystem,
    path: &FsPath,
    plan: &WritePlan,
    content: Bytes,
) -> Result<u64, FsError> {
    let options = CreateOptions {
        write_type: Some(plan.write_type),
        ..CreateOptions::default()
    };
    let mut writer = fs.create(path, options).await?;
    let mut left = plan.bytes;
    while left > 0 {
        let part = left.min(PIECE as u64);
        let end = usize::try_from(part).unwrap_or(PIECE);
        writer.write(content.slice(..end)).await?;
        left -= part;
    }
    let committed = writer.commit().await?;
    Ok(committed.stats.ufs_requests)
}
