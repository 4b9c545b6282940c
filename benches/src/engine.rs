//! The state engine of a server that has ended, looked at directly: the limit of a
//! listing, and what a file takes on disk.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use arustio_meta::engine::record::{DentryRecord, Record};
use arustio_meta::engine::{
    EngineKind, Family, KvEngine, RocksConfig, RocksEngine, Scan, key, prefix_end,
};
use arustio_types::InodeId;
use clap::Subcommand;
use serde_json::json;

use crate::load;

/// What to do with one.
#[derive(Debug, Subcommand)]
pub(crate) enum Engine {
    /// Reads every name of a directory and every record that it leads to
    Scan {
        /// The engine's folder
        folder: PathBuf,
        /// The directory's inode
        directory: u64,
    },
    /// Compacts everything
    Compact {
        /// The engine's folder
        folder: PathBuf,
    },
}

/// Scans in a process of its own; entries per second.
pub(crate) async fn scan_rate(folder: &Path, directory: InodeId) -> Result<f64> {
    let folder = folder.to_str().context("the folder's name")?.to_owned();
    let directory = directory.get().to_string();
    let said = load::part(&["engine".into(), "scan".into(), folder, directory]).await?;
    said["rate"].as_f64().context("no rate")
}

/// Compacts in a process of its own.
pub(crate) async fn compact(folder: &Path) -> Result<()> {
    let folder = folder.to_str().context("the folder's name")?.to_owned();
    let said = load::part(&["engine".into(), "compact".into(), folder]).await?;
    said["compacted"].as_bool().context("no answer").map(drop)
}

/// Does it and prints what came of it.
pub(crate) fn run(engine: &Engine) -> Result<()> {
    match engine {
        Engine::Scan { folder, directory } => {
            let engine = open(folder)?;
            // Once to warm the cache, as the server's is, and to learn which records.
            let seen = names(&engine, *directory)?;
            records(&engine, seen.inodes)?;
            let started = Instant::now();
            let entries = count(&engine, Family::Dentries, *directory..*directory + 1)?;
            records(&engine, seen.inodes)?;
            let rate = entries as f64 / started.elapsed().as_secs_f64();
            println!("{}", json!({"entries": entries, "rate": rate}));
        }
        Engine::Compact { folder } => {
            open(folder)?.compact()?;
            println!("{}", json!({"compacted": true}));
        }
    }
    Ok(())
}

fn open(folder: &Path) -> Result<RocksEngine> {
    let config = RocksConfig::default_for(EngineKind::State);
    Ok(RocksEngine::open(EngineKind::State, folder, config)?)
}

/// The records that the names of a directory lead to.
#[derive(Debug)]
struct Seen {
    inodes: (u64, u64),
}

fn names(engine: &dyn KvEngine, directory: u64) -> Result<Seen> {
    let prefix = key::dentries_of(InodeId::new(directory));
    let end = prefix_end(&prefix);
    let mut inodes = (u64::MAX, 0);
    let mut failed = None;
    let scan = Scan::range(&prefix, end.as_deref());
    engine.scan(
        Family::Dentries,
        scan,
        &mut |_, value| match DentryRecord::decode_stored(value) {
            Ok(entry) => {
                let child = entry.child.get();
                inodes = (inodes.0.min(child), inodes.1.max(child));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(Seen { inodes }),
    }
}

/// The records of inodes that lie side by side, as merges make them.
fn records(engine: &dyn KvEngine, (first, last): (u64, u64)) -> Result<u64> {
    count(engine, Family::Inodes, first..last.saturating_add(1))
}

fn count(engine: &dyn KvEngine, family: Family, ids: std::ops::Range<u64>) -> Result<u64> {
    let (start, end) = (ids.start.to_be_bytes(), ids.end.to_be_bytes());
    let mut pairs = 0;
    let scan = Scan::range(&start, Some(&end));
    engine.scan(family, scan, &mut |key, value| {
        std::hint::black_box((key, value));
        pairs += 1;
        ControlFlow::Continue(())
    })?;
    Ok(pairs)
}

/// Bytes of all files in a folder.
pub(crate) fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => disk_bytes(&entry.path())?,
            false => metadata.len(),
        };
    }
    Ok(bytes)
}

/// Copies a folder with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.metadata()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => fs::copy(entry.path(), &target).map(drop)?,
        }
    }
    Ok(())
}
