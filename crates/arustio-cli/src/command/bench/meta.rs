//! Metadata operations by many clients at once.

use std::time::{Duration, Instant};

use arustio_client::{
    ArustioFileSystem, DeleteOptions, FileSystem, FsError, ListOptions, MkdirOptions, StatOptions,
};
use arustio_types::FsPath;
use futures::TryStreamExt;
use futures::future::try_join_all;
use serde_json::json;

use super::{Measured, micros_since};
use crate::args::MetaOp;
use crate::connect::Connection;

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) op: MetaOp,
    pub(super) directory: FsPath,
    pub(super) clients: usize,
    pub(super) duration: Duration,
}

/// Connections that the clients share: one per so many, as programs would.
const CLIENTS_PER_CONNECTION: usize = 16;

/// Runs `clients` loops for the duration, in a directory of their own.
pub(super) async fn run(connection: &Connection, plan: Plan) -> Result<Measured, FsError> {
    let mark: u32 = rand::random();
    let scratch = plan.directory.join(&format!("bench-{mark:08x}"))?;
    let fs = connection.fs();
    fs.mkdir(&scratch, MkdirOptions::default()).await?;
    let measured = measure(connection, &plan, &scratch).await;
    let options = DeleteOptions {
        recursive: true,
        arustio_only: false,
    };
    let removed = fs.delete(&scratch, options).await;
    let measured = measured?;
    removed.map(|_| measured)
}

async fn measure(
    connection: &Connection,
    plan: &Plan,
    scratch: &FsPath,
) -> Result<Measured, FsError> {
    let mut connections = Vec::new();
    for _ in 0..plan.clients.div_ceil(CLIENTS_PER_CONNECTION) {
        connections.push(connection.another(|_| {}).await?);
    }
    let started = Instant::now();
    let end = started + plan.duration;
    let loops = (0..plan.clients).map(|n| {
        let fs = &connections[n / CLIENTS_PER_CONNECTION];
        one_client(fs, plan.op, scratch, n, end)
    });
    let done = try_join_all(loops).await;
    let elapsed = started.elapsed();
    for fs in &connections {
        fs.close().await?;
    }
    let latencies: Vec<u32> = done?.into_iter().flatten().collect();
    Ok(Measured {
        workload: match plan.op {
            MetaOp::Stat => "stat",
            MetaOp::Create => "create",
            MetaOp::List => "list",
        },
        params: json!({"clients": plan.clients, "connections": connections.len()}),
        amount: latencies.len() as u64,
        unit: "op/s",
        elapsed,
        latencies,
    })
}

async fn one_client(
    fs: &ArustioFileSystem,
    op: MetaOp,
    scratch: &FsPath,
    number: usize,
    end: Instant,
) -> Result<Vec<u32>, FsError> {
    let mut latencies = Vec::new();
    let mut made = 0u64;
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(latencies);
        }
        match op {
            MetaOp::Stat => drop(fs.stat(scratch, StatOptions::default()).await?),
            MetaOp::Create => {
                let path = scratch.join(&format!("{number}-{made}"))?;
                fs.mkdir(&path, MkdirOptions::default()).await?;
                made += 1;
            }
            MetaOp::List => {
                let entries = fs.list(scratch, ListOptions::default());
                entries.try_fold((), |(), _| async { Ok(()) }).await?;
            }
        }
        latencies.push(micros_since(started));
    }
}
