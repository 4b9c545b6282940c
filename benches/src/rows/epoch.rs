//! Row 14: the second epoch over many small files, as a training job reads them.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Pace;
use super::bytes::Series;
use crate::report::Line;
use crate::stage::Stage;
use crate::tree;

/// Room for all of them, in memory too, as the limit has them in its page cache. A node
/// lends half of its memory to clients.
pub(crate) const ROOM: [(&str, &str); 2] = [
    ("ARUSTIO_BLOCK__MEMORY__CAPACITY", "3GiB"),
    ("ARUSTIO_BLOCK__DISK__CAPACITY", "4GiB"),
];
const SIZE: usize = 100 << 10;
const READERS: usize = 8;

/// Row 14: files of 100 KiB in random order by 8 readers, all cached, on the block node's
/// host; beside the same files in a local directory.
pub(crate) async fn epoch(stage: &Stage, pace: Pace) -> Result<Vec<Line>> {
    let folder = stage.path("tree");
    tree::make(&folder, pace.files, SIZE)?;
    let local = folder.to_str().context("the folder's name")?;
    let copy = [
        "fs",
        "copy-from-local",
        "-r",
        "--threads",
        "64",
        local,
        "/data",
    ];
    stage.cli().run(&copy).await?;
    let load = ["fs", "load", "--wait", "/data/tree"];
    stage.cli().run(&load).await?;
    let streams = READERS.to_string();
    let command = [
        "bench",
        "epoch",
        "--epochs",
        "2",
        "--streams",
        &streams,
        "/data/tree",
    ];
    let mut ours = Series::default();
    let (mut limits, mut ratios) = (vec![], vec![]);
    for _ in 0..pace.rounds {
        let limit = tree::rate(&folder, READERS).await?;
        let rate = ours.measure(stage, &command).await?;
        limits.push(limit);
        ratios.push(rate / limit);
    }
    let last = stage.measure(&command).await?;
    let from_store = last["params"]["ufs_bytes"].as_u64();
    ensure!(from_store == Some(0), "not all of it is cached: {last}");
    let params = json!({"files": pace.files, "size": SIZE, "readers": READERS});
    let line = ours.line("14", "second epoch", params)?;
    let line = line.against("the files in a local directory", &limits, &ratios)?;
    Ok(vec![line.bounded(0.1, 0.5)])
}
