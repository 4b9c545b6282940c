//! What the disk allows: appends of one size to one file, each followed by a sync.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::load;

/// How to append.
#[derive(Debug, Args)]
pub(crate) struct Append {
    /// A file that does not exist
    file: PathBuf,
    /// Bytes of one append
    #[arg(long)]
    bytes: usize,
    /// For so long
    #[arg(long)]
    seconds: f64,
}

/// Appends as a process of its own; appends per second.
pub(crate) async fn rate(file: &Path, bytes: usize, seconds: f64) -> Result<f64> {
    let name = file.to_str().context("the folder's name")?;
    let arguments = [
        "append".to_owned(),
        name.to_owned(),
        format!("--bytes={bytes}"),
        format!("--seconds={seconds}"),
    ];
    let said = load::part(&arguments).await?;
    said["rate"].as_f64().context("no rate")
}

/// Appends and prints the rate.
pub(crate) fn run(append: &Append) -> Result<()> {
    let mut file = File::create_new(&append.file)?;
    let batch = vec![7; append.bytes];
    let wanted = Duration::from_secs_f64(append.seconds);
    let (started, mut appends) = (Instant::now(), 0u64);
    while started.elapsed() < wanted {
        file.write_all(&batch)?;
        file.sync_data()?;
        appends += 1;
    }
    let rate = appends as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(&append.file)?;
    println!("{}", json!({ "rate": rate }));
    Ok(())
}
