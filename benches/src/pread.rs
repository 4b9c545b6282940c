//! Bytes of a file in the page cache, read by `pread`: the limit of reads on the same host.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::load;

/// Reads a file once to have it in the page cache, then so many bytes of it.
#[derive(Debug, Args)]
pub(crate) struct Pread {
    /// The file
    file: PathBuf,
    /// Bytes of a request
    #[arg(long)]
    request: usize,
    /// Bytes in all
    #[arg(long)]
    total: u64,
}

/// Runs it as a process of its own; bytes per second.
pub(crate) async fn rate(file: &Path, request: usize, total: u64) -> Result<f64> {
    let file = file.to_str().context("the file's name")?.to_owned();
    let (request, total) = (format!("--request={request}"), format!("--total={total}"));
    let said = load::part(&["pread".into(), file, request, total]).await?;
    said["rate"].as_f64().context("no rate")
}

/// Does it and prints what came of it.
pub(crate) fn run(pread: &Pread) -> Result<()> {
    let file = File::open(&pread.file)?;
    let size = file.metadata()?.len();
    read(&file, size, pread.request, size)?;
    let started = Instant::now();
    let bytes = read(&file, size, pread.request, pread.total)?;
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    println!("{}", json!({ "rate": rate }));
    Ok(())
}

/// Each request into memory of its own, as a caller gets it.
fn read(file: &File, size: u64, request: usize, total: u64) -> Result<u64> {
    let (mut offset, mut bytes) = (0, 0);
    while bytes < total {
        let mut piece = vec![0; request];
        let read = file.read_at(&mut piece, offset)? as u64;
        bytes += read;
        offset += read;
        if read == 0 || offset >= size {
            offset = 0;
        }
    }
    Ok(bytes)
}
