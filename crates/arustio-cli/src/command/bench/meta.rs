//! Metadata operations by many clients at once.
//!
//! A client is a loop that has one request under way. Several share a connection, as the
//! tasks of a program would. Everything happens in a directory that is made for it and
//! removed afterwards unless it is to be kept; what an operation needs is made before the clock starts.

use std::time::{Duration, Instant};

use arustio_client::{
    ArustioFileSystem, FileSystem, FsError, ListOptions, MkdirOptions, RenameOptions, StatOptions,
};
use arustio_types::FsPath;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{Beside, Measured, micros_since, scratch};
use crate::args::MetaOp;
use crate::connect::Connection;

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) op: MetaOp,
    pub(super) directory: FsPath,
    pub(super) clients: usize,
    pub(super) connections: Option<usize>,
    pub(super) files: usize,
    pub(super) duration: Duration,
    pub(super) count: Option<u64>,
    pub(super) keep: bool,
}

/// Clients that share a connection where nobody says otherwise.
const CLIENTS_PER_CONNECTION: usize = 16;
/// Entries of a directory that are made at a time before the clock starts.
const MADE_AT_ONCE: usize = 256;

impl Plan {
    fn connections(&self) -> usize {
        let usual = self.clients.div_ceil(CLIENTS_PER_CONNECTION);
        self.connections.unwrap_or(usual).clamp(1, self.clients)
    }

    fn params(&self) -> Value {
        let mut params = json!({"clients": self.clients, "connections": self.connections()});
        if !matches!(self.op, MetaOp::Stat | MetaOp::Create) {
            params["files"] = self.files.into();
        }
        params
    }
}

/// Runs `clients` loops for the duration, in a directory of their own.
pub(super) async fn run(connection: &Connection, plan: Plan) -> Result<Measured, FsError> {
    scratch::within(
        connection.fs(),
        &plan.directory,
        plan.keep,
        async |scratch| measure(connection, &plan, scratch).await,
    )
    .await
}

async fn measure(
    connection: &Connection,
    plan: &Plan,
    scratch: &FsPath,
) -> Result<Measured, FsError> {
    let mut connections = Vec::new();
    for _ in 0..plan.connections() {
        connections.push(connection.another(|_| {}).await?);
    }
    let mut clients = Vec::new();
    for number in 0..plan.clients {
        let fs = &connections[number % connections.len()];
        clients.push(Client::prepare(fs, plan, scratch, number).await?);
    }
    let cpu = crate::process::cost().cpu;
    let started = Instant::now();
    let end = started + plan.duration;
    let loops = clients.into_iter().map(|client| client.work(plan, end));
    let done = try_join_all(loops).await;
    let elapsed = started.elapsed();
    let cpu = crate::process::cost().cpu.saturating_sub(cpu);
    for fs in &connections {
        fs.close().await?;
    }
    let latencies: Vec<u32> = done?.into_iter().flatten().collect();
    Ok(Measured {
        workload: match plan.op {
            MetaOp::Stat => "stat",
            MetaOp::Create => "create",
            MetaOp::Rename => "rename",
            MetaOp::List => "list",
            MetaOp::Mix => "mix",
        },
        params: plan.params(),
        amount: latencies.len() as u64,
        unit: "op/s",
        elapsed,
        cpu: Some(cpu),
        latencies,
        beside: Some(Beside::PingPong {
            streams: plan.clients,
        }),
    })
}

/// One loop, and what it works on.
struct Client<'a> {
    fs: &'a ArustioFileSystem,
    scratch: FsPath,
    number: usize,
    made: u64,
    listed: FsPath,
    /// Where the directory that it moves is, and where it goes next.
    moved: (FsPath, FsPath),
    rng: SmallRng,
}

impl<'a> Client<'a> {
    /// Makes what its operations need.
    async fn prepare(
        fs: &'a ArustioFileSystem,
        plan: &Plan,
        scratch: &FsPath,
        number: usize,
    ) -> Result<Self, FsError> {
        let listed = scratch.join("listed")?;
        let moved = scratch.join(&format!("moved-{number}-a"))?;
        let back = scratch.join(&format!("moved-{number}-b"))?;
        let (lists, renames) = match plan.op {
            MetaOp::Stat | MetaOp::Create => (false, false),
            MetaOp::Rename => (false, true),
            MetaOp::List => (true, false),
            MetaOp::Mix => (true, true),
        };
        // One directory will do for all who only look at it.
        if lists && number == 0 {
            fill(fs, &listed, plan.files).await?;
        }
        if renames {
            fill(fs, &moved, plan.files).await?;
        }
        Ok(Self {
            fs,
            scratch: scratch.clone(),
            number,
            made: 0,
            listed,
            moved: (moved, back),
            rng: SmallRng::seed_from_u64(number as u64),
        })
    }

    /// Works until the end or until its count is reached; the latencies in microseconds.
    async fn work(mut self, plan: &Plan, end: Instant) -> Result<Vec<u32>, FsError> {
        let mut latencies = Vec::new();
        let most = plan.count.unwrap_or(u64::MAX);
        while (latencies.len() as u64) < most {
            let started = Instant::now();
            if started >= end {
                break;
            }
            self.once(plan.op).await?;
            latencies.push(micros_since(started));
        }
        Ok(latencies)
    }

    async fn once(&mut self, op: MetaOp) -> Result<(), FsError> {
        match op {
            MetaOp::Stat => self.stat().await,
            MetaOp::Create => self.create().await,
            MetaOp::Rename => self.rename().await,
            MetaOp::List => self.list().await,
            MetaOp::Mix => match self.rng.random_range(0..100) {
                0..80 => self.stat().await,
                80..90 => self.list().await,
                90..97 => self.create().await,
                _ => self.rename().await,
            },
        }
    }

    async fn stat(&self) -> Result<(), FsError> {
        let looked = self.fs.stat(&self.scratch, StatOptions::default());
        looked.await.map(drop)
    }

    async fn create(&mut self) -> Result<(), FsError> {
        let path = self
            .scratch
            .join(&format!("{}-{}", self.number, self.made))?;
        self.made += 1;
        self.fs
            .mkdir(&path, MkdirOptions::default())
            .await
            .map(drop)
    }

    async fn rename(&mut self) -> Result<(), FsError> {
        let (from, to) = &self.moved;
        self.fs.rename(from, to, RenameOptions::default()).await?;
        std::mem::swap(&mut self.moved.0, &mut self.moved.1);
        Ok(())
    }

    async fn list(&self) -> Result<(), FsError> {
        let entries = self.fs.list(&self.listed, ListOptions::default());
        entries.try_fold((), |(), _| async { Ok(()) }).await
    }
}

/// Makes a directory with so many in it.
async fn fill(fs: &ArustioFileSystem, dir: &FsPath, entries: usize) -> Result<(), FsError> {
    fs.mkdir(dir, MkdirOptions::default()).await?;
    stream::iter(0..entries)
        .map(|n| async move {
            let path = dir.join(&format!("entry-{n:08}"))?;
            fs.mkdir(&path, MkdirOptions::default()).await.map(drop)
        })
        .buffer_unordered(MADE_AT_ONCE)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(clients: usize, connections: Option<usize>) -> Plan {
        Plan {
            op: MetaOp::Stat,
            directory: FsPath::root(),
            clients,
            connections,
            files: 10,
            duration: Duration::from_secs(1),
            count: None,
            keep: false,
        }
    }

    #[test]
    fn every_connection_has_a_client_and_every_client_a_connection() {
        assert_eq!(plan(1, None).connections(), 1);
        assert_eq!(plan(17, None).connections(), 2);
        assert_eq!(plan(4, Some(64)).connections(), 4);
        assert_eq!(plan(4, Some(0)).connections(), 1);
    }

    #[test]
    fn the_entries_are_told_only_where_they_matter() {
        let mut plan = plan(1, None);
        assert!(plan.params().get("files").is_none());
        plan.op = MetaOp::Rename;
        assert_eq!(plan.params()["files"], 10);
    }
}
