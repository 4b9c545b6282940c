//! Rows about metadata; stated beside nothing until the cluster has its own limits.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::report::Line;
use crate::stage::Stage;

/// Row 8: linearizable stat.
pub(crate) async fn stat(stage: &Stage) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for clients in ["1", "64", "256"] {
        lines.push(bench(stage, "8", "stat", clients).await?);
    }
    Ok(lines)
}

/// Row 9: durable create.
pub(crate) async fn create(stage: &Stage) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for clients in ["16", "64", "256"] {
        lines.push(bench(stage, "9", "create", clients).await?);
    }
    Ok(lines)
}

async fn bench(stage: &Stage, row: &'static str, op: &'static str, clients: &str) -> Result<Line> {
    let command = ["bench", "meta", "--op", op, "--clients", clients, "/"];
    let value = stage.measure(&command).await?;
    let rate = value["rate"].as_f64().context("no rate")?;
    let mut line = Line::stated(row, op, value["params"].clone(), rate, "op/s");
    line.p50_us = value["p50_us"].as_f64();
    line.p99_us = value["p99_us"].as_f64();
    line.peers = Vec::<Value>::new();
    Ok(line)
}
