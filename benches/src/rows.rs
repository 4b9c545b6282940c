//! The rows themselves.

mod bytes;
mod meta;
mod start;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::report::Line;
use crate::stage::Stage;

/// Rows that can be measured, in the order of the table.
const ROWS: [&str; 6] = ["4", "7", "8", "9", "16", "memory"];

/// Measures one row or all, prints the lines, and fails when one of them failed.
pub(crate) async fn run(
    bin_dir: Option<PathBuf>,
    row: Option<&str>,
    rounds: usize,
    json: bool,
) -> Result<()> {
    let bin_dir = bin_dir.context("--bin-dir is missing")?;
    let rows: Vec<&str> = match row {
        Some(row) if ROWS.contains(&row) => vec![row],
        Some(row) => bail!("row {row:?} is not measured yet; known are {ROWS:?}"),
        None => ROWS.to_vec(),
    };
    let (mut failed, mut lines) = (Vec::new(), Vec::new());
    for row in rows {
        for line in measure(&bin_dir, row, rounds.max(5)).await? {
            if line.failed() {
                failed.push(line.row);
            }
            if json {
                println!("{}", serde_json::to_string(&line)?);
            } else {
                println!("{}", line.text());
            }
            lines.push(serde_json::to_string(&line)? + "\n");
        }
    }
    keep(&lines.concat())?;
    if !failed.is_empty() {
        bail!("below the floor or unmeasurable: rows {failed:?}");
    }
    Ok(())
}

/// Keeps the lines of this run beside those of earlier ones, for `docs/performance.md`.
fn keep(lines: &str) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let file = folder.join(format!("{}.jsonl", since.as_secs()));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(&file, lines).with_context(|| format!("cannot write {}", file.display()))
}

async fn measure(bin_dir: &Path, row: &str, rounds: usize) -> Result<Vec<Line>> {
    let stage = Stage::start(bin_dir).await?;
    let measured = match row {
        "4" => bytes::cold_read(&stage, rounds).await,
        "7" => bytes::write(&stage, rounds).await,
        "8" => meta::stat(&stage).await,
        "9" => meta::create(&stage).await,
        "16" => start::start_up(&stage, rounds).await,
        _ => bytes::memory(&stage).await,
    };
    let stopped = stage.stop().await;
    let lines = measured.with_context(|| format!("row {row}"))?;
    stopped?;
    Ok(lines)
}
