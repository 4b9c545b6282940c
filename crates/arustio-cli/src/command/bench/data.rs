//! Reading and writing bytes.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arustio_client::{
    ClientConfig, CreateOptions, DeleteOptions, FileReader, FileSystem, FsError, OpenOptions,
    Transport,
};
use arustio_types::meta::mount::WriteType;
use arustio_types::{ErrorKind, FsPath};
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::try_join_all;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::json;

use super::{Measured, micros_since};
use crate::connect::Connection;

/// What to read.
#[derive(Debug)]
pub(super) struct ReadPlan {
    pub(super) path: FsPath,
    pub(super) request: u64,
    pub(super) streams: usize,
    pub(super) order: Order,
    pub(super) total: Option<u64>,
    /// Ask block nodes at all.
    pub(super) cache: bool,
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

/// Reads one file by several readers, each with a handle of its own.
pub(super) async fn read(connection: &Connection, plan: ReadPlan) -> Result<Measured, FsError> {
    let other;
    let configured = plan.transport.is_none() && plan.local.is_none();
    let fs: &dyn FileSystem = if plan.cache && configured {
        connection.fs()
    } else {
        let change = |config: &mut ClientConfig| {
            config.read.cache = plan.cache;
            config.transport = plan.transport.unwrap_or(config.transport);
            config.local.enabled = plan.local.unwrap_or(config.local.enabled);
        };
        other = connection.another(change).await?;
        &other
    };
    let mut readers = Vec::new();
    for _ in 0..plan.streams {
        let reader = fs.open(&plan.path, OpenOptions::default()).await?;
        if reader.status().size < plan.request.max(1) {
            let message = "the file is smaller than one request";
            return Err(FsError::on(ErrorKind::InvalidArgument, &plan.path, message));
        }
        readers.push(reader);
    }
    let started = Instant::now();
    let plan = &plan;
    let work = readers.iter().zip(0..).map(|(reader, seed)| async move {
        match plan.order {
            Order::Stream => sequential(&**reader, plan).await,
            Order::Offsets => offsets(&**reader, plan).await,
            Order::Random => random(&**reader, plan, seed).await,
        }
    });
    let done = try_join_all(work).await?;
    let elapsed = started.elapsed();
    let read: Vec<_> = readers.iter().map(|reader| reader.stats()).collect();
    let params = json!({
        "path": plan.path.as_str(),
        "request": plan.request,
        "streams": plan.streams,
        "random": plan.order == Order::Random,
        "order": plan.order.name(),
        "cache": plan.cache,
        "transport": plan.transport.unwrap_or(connection.config().transport).name(),
        "local": plan.local.unwrap_or(connection.config().local.enabled),
        "cache_bytes": read.iter().map(|s| s.cache_bytes).sum::<u64>(),
        "ufs_bytes": read.iter().map(|s| s.ufs_bytes).sum::<u64>(),
        "ufs_requests": read.iter().map(|s| s.ufs_requests).sum::<u64>(),
        "hedges": read.iter().map(|s| s.hedges).sum::<u64>(),
        "hedges_won": read.iter().map(|s| s.hedges_won).sum::<u64>(),
    });
    Ok(Measured {
        workload: "read",
        params,
        amount: done.iter().map(|(bytes, _)| bytes).sum(),
        unit: "B/s",
        elapsed,
        cpu: None,
        latencies: done.into_iter().flat_map(|(_, l)| l).collect(),
    })
}

type Done = (u64, Vec<u32>);

/// From the beginning, again from the beginning at the end.
async fn sequential(reader: &dyn FileReader, plan: &ReadPlan) -> Result<Done, FsError> {
    let size = reader.status().size;
    let mut left = plan.total.unwrap_or(size);
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
async fn offsets(reader: &dyn FileReader, plan: &ReadPlan) -> Result<Done, FsError> {
    let size = reader.status().size;
    let wanted = plan.total.unwrap_or(size);
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
async fn random(reader: &dyn FileReader, plan: &ReadPlan, seed: u64) -> Result<Done, FsError> {
    let slots = reader.status().size / plan.request;
    let wanted = plan.total.unwrap_or(reader.status().size) / plan.streams as u64;
    let length = usize::try_from(plan.request).unwrap_or(usize::MAX);
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut done = (0, Vec::new());
    while done.0 < wanted {
        let offset = rng.random_range(0..slots) * plan.request;
        let started = Instant::now();
        let piece = reader.read_at(offset, length).await?;
        done.1.push(micros_since(started));
        done.0 += piece.len() as u64;
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
