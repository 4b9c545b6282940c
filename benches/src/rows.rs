//! The rows themselves.

mod blocks;
mod bytes;
mod cache;
mod epoch;
mod fail_over;
mod meta;
mod names;
mod start;
mod stop;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::report::Line;
use crate::stage::Stage;

/// Rows that can be measured, in the order of the table.
const ROWS: [&str; 18] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "stop",
    "memory",
];

/// How long and how large.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Pace {
    /// Rounds of ours and the limit in turn; below 5 the spread says little
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Seconds of one measurement of rows 8 and 9
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Files of row 14
    #[arg(long, default_value_t = 10_000)]
    pub(crate) files: u64,
    /// How many times as large rows 10 to 12 are
    #[arg(long, default_value_t = 1)]
    pub(crate) scale: u64,
}

impl Pace {
    /// Milliseconds of one measurement.
    fn millis(self) -> u64 {
        (self.seconds * 1e3) as u64
    }
}

/// Measures one row or all, prints the lines, and fails when one of them failed.
pub(crate) async fn run(
    bin_dir: Option<PathBuf>,
    row: Option<&str>,
    pace: Pace,
    json: bool,
) -> Result<()> {
    let bin_dir = bin_dir.context("--bin-dir is missing")?;
    if pace.rounds == 0 || pace.scale == 0 || pace.seconds.is_nan() || pace.seconds < 0.1 {
        bail!("--rounds and --scale must be at least 1, --seconds at least 0.1");
    }
    let rows: Vec<&str> = match row {
        Some(row) if ROWS.contains(&row) => vec![row],
        Some(row) => bail!("row {row:?} is not measured yet; known are {ROWS:?}"),
        None => ROWS.to_vec(),
    };
    let (mut failed, mut lines) = (Vec::new(), Vec::new());
    for row in rows {
        for line in measure(&bin_dir, row, pace).await? {
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

async fn measure(bin_dir: &Path, row: &str, pace: Pace) -> Result<Vec<Line>> {
    if row == "13" {
        return cache::engine(pace).context("row 13");
    }
    if row == "15" {
        return fail_over::measure(bin_dir).await.context("row 15");
    }
    if row == "stop" {
        return stop::measure(bin_dir, pace).await.context("row stop");
    }
    if row == "2" {
        return local(bin_dir, pace).await.context("row 2");
    }
    let settings: &[(&str, &str)] = match row {
        "12" => &names::SMALL_MEMORY,
        "14" => &epoch::ROOM,
        _ => &[],
    };
    let mut stage = Stage::start(bin_dir, settings).await?;
    let measured = match row {
        "1" => blocks::remote(&stage, pace).await,
        "3" => blocks::small(&stage, pace).await,
        "5" => blocks::herd(&stage, pace).await,
        "6" => blocks::scattered(&stage, pace).await,
        "4" => bytes::cold_read(&stage, pace.rounds).await,
        "7" => bytes::write(&stage, pace.rounds).await,
        "8" => meta::stat(&stage, pace).await,
        "9" => meta::create(&stage, pace).await,
        "10" => names::rename(&stage, pace).await,
        "11" => names::list(&mut stage, pace).await,
        "12" => names::size(&mut stage, pace).await,
        "14" => epoch::epoch(&stage, pace).await,
        "16" => start::start_up(&stage, pace.rounds).await,
        _ => bytes::memory(&stage).await,
    };
    let stopped = stage.stop().await;
    let lines = measured.with_context(|| format!("row {row}"))?;
    stopped?;
    Ok(lines)
}

/// Row 2 looks at both tiers, each on a stage of its own.
async fn local(bin_dir: &Path, pace: Pace) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let tiers: [(&str, &[_]); 2] = [("memory", &[]), ("disk", &blocks::LITTLE_MEMORY)];
    for (tier, settings) in tiers {
        let stage = Stage::start(bin_dir, settings).await?;
        let measured = blocks::local(&stage, tier, pace).await;
        let stopped = stage.stop().await;
        lines.extend(measured?);
        stopped?;
    }
    Ok(lines)
}
