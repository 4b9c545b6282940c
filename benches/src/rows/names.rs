//! Rows 10 to 12: large directories and many files.
//!
//! `--scale` makes them larger: what holds for a million has to hold for ten.

use anyhow::{Context, Result};
use arustio_types::FsPath;
use serde_json::json;

use crate::engine;
use crate::report::{Line, median};
use crate::rows::Pace;
use crate::stage::Stage;

/// Files of a directory in row 12.
const EACH: u64 = 1_000;
/// Files that rows 11 and 12 load at scale 1.
const FILES: u64 = 1_000_000;
/// Entries of the large directory of row 10 at scale 1.
const LARGE: u64 = 100_000;
/// Moves of which the median is taken.
const MOVES: &str = "200";

/// Row 12 measures with little memory, so that everything that has a bound has reached
/// it before half of the files are there.
pub(crate) const SMALL_MEMORY: [(&str, &str); 2] = [
    ("ARUSTIO_METADATA__STATE__BLOCK_CACHE", "32MiB"),
    ("ARUSTIO_METADATA__STATE__WRITE_BUFFER", "16MiB"),
];

/// Row 10: rename of a directory with 10 entries and with many.
pub(crate) async fn rename(stage: &Stage, pace: Pace) -> Result<Vec<Line>> {
    let large_entries = LARGE * pace.scale;
    let (mut small, mut large, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..pace.rounds {
        let few = moves(stage, 10).await?;
        let many = moves(stage, large_entries).await?;
        small.push(few);
        large.push(many);
        ratios.push(few / many);
    }
    let params = json!({"entries": large_entries, "moves": MOVES, "under": "no mount"});
    let mut line = Line::stated("10", "rename", params, median(&large)?, "us");
    line.p50_us = Some(median(&large)?);
    Ok(vec![
        line.against("a directory with 10 entries", &small, &ratios)?
            .bounded(0.77, 1.0),
    ])
}

/// The median of the moves of a directory with so many entries, in microseconds.
async fn moves(stage: &Stage, entries: u64) -> Result<f64> {
    let entries = entries.to_string();
    let command = [
        "bench",
        "meta",
        "--op",
        "rename",
        "--clients",
        "1",
        "--files",
        &entries,
        "--count",
        MOVES,
        "--duration",
        "10m",
        "--keep",
        "/",
    ];
    let said = stage.measure(&command).await?;
    said["p50_us"].as_f64().context("no p50_us")
}

/// Row 11: listing one directory with many entries.
pub(crate) async fn list(stage: &mut Stage, pace: Pace) -> Result<Vec<Line>> {
    let files = FILES * pace.scale;
    let dir = "/data/large";
    prepare(stage, dir).await?;
    let path = FsPath::new(dir)?;
    let loader = stage.loader().await?;
    loader.files(&path, 0..files).await?;
    let inode = loader.stat(&path).await?.inode;
    stage.stop_server().await?;
    let copy = stage.path("state-copy");
    engine::copy(&stage.state_folder(), &copy)?;
    stage.start_server(&[]).await?;
    let (mut ours, mut scans, mut ratios) = (vec![], vec![], vec![]);
    let (mut first, mut peak) = (vec![], vec![]);
    for _ in 0..pace.rounds {
        let listed = stage.watch(&["fs", "ls", dir]).await?;
        anyhow::ensure!(listed.lines == files, "{} of {files} entries", listed.lines);
        let rate = files as f64 / listed.total.as_secs_f64();
        let scan = engine::scan_rate(&copy, inode).await?;
        ours.push(rate);
        scans.push(scan);
        ratios.push(rate / scan);
        first.push(listed.first_line.as_secs_f64());
        peak.push(listed.peak_rss as f64);
    }
    let params = json!({"entries": files, "command": "fs ls"});
    let stated = |workload, value, unit| Line::stated("11", workload, params.clone(), value, unit);
    let (page, memory) = (0.1, f64::from(64 << 20));
    Ok(vec![
        stated("list", median(&ours)?, "entries/s")
            .against("RocksDB scan of the same keys", &scans, &ratios)?
            .bounded(0.25, 0.5),
        stated("list, first page", median(&first)?, "s")
            .against("allowed 100 ms", &[page], &allowed(page, &first))?
            .bounded(1.0, 1.0),
        stated("list, client memory", median(&peak)?, "B")
            .against("allowed 64 MiB", &[memory], &allowed(memory, &peak))?
            .bounded(1.0, 1.0),
    ])
}

/// Row 12: what a file takes, on disk and in the memory of the daemon.
pub(crate) async fn size(stage: &mut Stage, pace: Pace) -> Result<Vec<Line>> {
    let directories = FILES * pace.scale / EACH;
    let dir = "/data/many";
    prepare(stage, dir).await?;
    let path = FsPath::new(dir)?;
    let loader = stage.loader().await?;
    loader.directories(&path, directories).await?;
    let empty = engine::disk_bytes(&stage.state_folder())?;
    let half = directories / 2;
    loader.tree(&path, 0..half, EACH).await?;
    let before = stage.server_memory()?;
    loader.tree(&path, half..directories, EACH).await?;
    let after = stage.server_memory()?;
    let grown = after.saturating_sub(before) as f64 / ((directories - half) * EACH) as f64;
    stage.stop_server().await?;
    let folder = stage.state_folder();
    engine::compact(&folder).await?;
    let files = directories * EACH;
    let bytes = engine::disk_bytes(&folder)? as f64 / files as f64;
    stage.start_server(&[]).await?;
    let params = json!({
        "files": files,
        "per_directory": EACH,
        "settings": SMALL_MEMORY.iter().map(|(key, value)| json!({*key: value})).collect::<Vec<_>>(),
        "rss_half": before,
        "rss_full": after,
        "disk_before": empty,
    });
    // A memory that did not grow is as good as one byte.
    let grown = grown.max(1.0);
    let line = |workload, value: f64, name, limit: f64, goal: f64| {
        Line::stated("12", workload, params.clone(), value, "B/file")
            .against(name, &[limit], &[limit / value])
            .map(|line| line.bounded(1.0, limit / goal))
    };
    Ok(vec![
        line("disk", bytes, "allowed 160 B", 160.0, 100.0)?,
        line("daemon's memory", grown, "allowed 60 B", 60.0, 10.0)?,
    ])
}

/// A directory in the mount that nobody looks at the store for.
async fn prepare(stage: &Stage, dir: &str) -> Result<()> {
    let never: [&[&str]; 2] = [
        &["fs", "mkdir", dir],
        &["fs", "set-conf", dir, "sync.interval=never"],
    ];
    for command in never {
        stage.cli().run(command).await?;
    }
    Ok(())
}

fn allowed(limit: f64, values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| limit / value).collect()
}
