//! A tree of files in a local directory, read as `arustio bench epoch` reads one: each file
//! once, whole, in random order, by several readers. The page cache is warm: the limit of
//! epochs over cached files on the same host.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngCore, SeedableRng};
use serde_json::json;

use crate::load;

/// Reads all files of a directory twice, and says how long the second time took.
#[derive(Debug, Args)]
pub(crate) struct Tree {
    /// The directory
    folder: PathBuf,
    /// Readers at once
    #[arg(long)]
    readers: usize,
}

/// Makes so many files of one size.
pub(crate) fn make(folder: &Path, files: u64, size: usize) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut content = vec![0; size];
    let mut rng = SmallRng::seed_from_u64(14);
    for number in 0..files {
        rng.fill_bytes(&mut content);
        std::fs::write(folder.join(format!("file-{number:06}")), &content)?;
    }
    Ok(())
}

/// Runs it as a process of its own; bytes per second.
pub(crate) async fn rate(folder: &Path, readers: usize) -> Result<f64> {
    let folder = folder.to_str().context("the folder's name")?.to_owned();
    let said = load::part(&["tree".into(), folder, format!("--readers={readers}")]).await?;
    said["rate"].as_f64().context("no rate")
}

/// Does it and prints what came of it.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    let entries = std::fs::read_dir(&tree.folder)?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    files.sort();
    epoch(&mut files, tree.readers, 1)?;
    let started = Instant::now();
    let bytes = epoch(&mut files, tree.readers, 2)?;
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    println!("{}", json!({ "rate": rate }));
    Ok(())
}

fn epoch(files: &mut [PathBuf], readers: usize, number: u64) -> Result<u64> {
    files.shuffle(&mut SmallRng::seed_from_u64(number));
    let share = files.len().div_ceil(readers.max(1)).max(1);
    thread::scope(|scope| {
        let readers: Vec<_> = files
            .chunks(share)
            .map(|some| scope.spawn(|| read_all(some)))
            .collect();
        let mut bytes = 0;
        for reader in readers {
            bytes += reader.join().map_err(|_| anyhow!("a reader panicked"))??;
        }
        Ok(bytes)
    })
}

fn read_all(files: &[PathBuf]) -> Result<u64> {
    let mut bytes = 0;
    for file in files {
        bytes += std::fs::read(file)?.len() as u64;
    }
    Ok(bytes)
}
