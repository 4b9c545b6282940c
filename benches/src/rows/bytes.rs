//! Rows about bytes: cold reads, writes, memory.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::report::{Line, median};
use crate::stage::Stage;

const GIB: &str = "1073741824";

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key]
        .as_f64()
        .with_context(|| format!("no {key} in {value}"))
}

/// Row 7: write of 1 GiB, THROUGH beside a plain multipart upload; CACHE_THROUGH stated.
pub(crate) async fn write(stage: &Stage, rounds: usize) -> Result<Vec<Line>> {
    let (mut ours, mut limits, mut ratios, mut cached) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let through = bench_write(stage, "THROUGH").await?;
        let plain = stage.plain("put", &["plain-put", GIB]).await?;
        ours.push(through);
        limits.push(plain);
        ratios.push(through / plain);
        cached.push(bench_write(stage, "CACHE_THROUGH").await?);
    }
    let through = json!({"size": GIB, "write_type": "THROUGH"});
    let both = json!({"size": GIB, "write_type": "CACHE_THROUGH"});
    Ok(vec![
        Line::stated("7", "write", through, median(&ours)?, "B/s")
            .against("plain multipart upload", &limits, &ratios)?
            .bounded(0.9, 1.0),
        Line::stated("7", "write", both, median(&cached)?, "B/s"),
    ])
}

async fn bench_write(stage: &Stage, write_type: &str) -> Result<f64> {
    let command = [
        "bench",
        "write",
        "--size",
        "1GiB",
        "--write-type",
        write_type,
        "/data",
    ];
    number(&stage.measure(&command).await?, "rate")
}

/// Row 4: cold sequential read of 1 GiB, without and with fill, beside plain reads;
/// then warm reads, beside raw TCP over loopback.
pub(crate) async fn cold_read(stage: &Stage, rounds: usize) -> Result<Vec<Line>> {
    let (mut limits, mut bare, mut fill, mut warm, mut raw) =
        (vec![], vec![], vec![], vec![], vec![]);
    let (mut bare_ratios, mut fill_ratios, mut warm_ratios) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        // A new object each round is cold by its identity.
        let key = format!("cold-{round}");
        let path = format!("/data/{key}");
        stage.plain("put", &[&key, GIB]).await?;
        let plain = stage.plain("get", &[&key]).await?;
        let without = bench_read(stage, &["--no-cache", &path]).await?;
        let with = bench_read(stage, &[&path]).await?;
        // What the first pass could not fill in time, the second one does.
        bench_read(stage, &[&path]).await?;
        let again = bench_read(stage, &[&path]).await?;
        let loopback = crate::loopback::rate().await?;
        limits.push(plain);
        bare.push(without);
        fill.push(with);
        warm.push(again);
        raw.push(loopback);
        bare_ratios.push(without / plain);
        fill_ratios.push(with / plain);
        warm_ratios.push(again / loopback);
        stage.cli().run(&["fs", "rm", &path]).await?;
    }
    let line = |fill: bool, rates: &[f64]| -> Result<Line> {
        let params = json!({"size": GIB, "fill": fill, "readers": 1});
        Ok(Line::stated(
            "4",
            "cold read",
            params,
            median(rates)?,
            "B/s",
        ))
    };
    let params = json!({"size": GIB, "wire": "grpc", "readers": 1});
    Ok(vec![
        line(false, &bare)?.against("plain GET", &limits, &bare_ratios)?,
        line(true, &fill)?.against("plain GET", &limits, &fill_ratios)?,
        Line::stated("4", "warm read", params, median(&warm)?, "B/s").against(
            "raw loopback TCP",
            &raw,
            &warm_ratios,
        )?,
    ])
}

async fn bench_read(stage: &Stage, rest: &[&str]) -> Result<f64> {
    let command = [&["bench", "read"], rest].concat();
    number(&stage.measure(&command).await?, "rate")
}

/// Peak memory of the client: copying 4 GiB, and listing 100,000 keys.
pub(crate) async fn memory(stage: &Stage) -> Result<Vec<Line>> {
    let source = stage.path("4g.bin");
    std::fs::File::create(&source)?.set_len(4 << 30)?;
    let from = source.to_str().context("the folder's name")?;
    let target = stage.path("back.bin");
    let back = target.to_str().context("the folder's name")?;
    // A copy prints one object; a listing's first line is what is looked at.
    let up = stage
        .watch(&["--json", "fs", "copy-from-local", from, "/data/4g.bin"])
        .await?;
    let down = stage
        .watch(&["--json", "fs", "copy-to-local", "/data/4g.bin", back])
        .await?;
    std::fs::remove_file(&target)?;
    stage.plain("fill", &["many", "100000"]).await?;
    let listed = stage.watch(&["fs", "ls", "-R", "/data/many"]).await?;
    let mut lines = Vec::new();
    for (workload, watched) in [("copy up", &up), ("copy down", &down)] {
        let params = json!({"size": 4u64 << 30, "seconds": watched.total.as_secs_f64()});
        let allowed = f64::from(256 << 20);
        let peak = watched.peak_rss as f64;
        let line = Line::stated("memory", workload, params, peak, "B");
        let line = line.against("allowed 256 MiB", &[allowed], &[allowed / peak])?;
        lines.push(line.bounded(1.0, 2.0));
    }
    let params = json!({
        "lines": listed.lines,
        "seconds": listed.total.as_secs_f64(),
        "peak_rss": listed.peak_rss,
    });
    let first = listed.first_line.as_secs_f64();
    lines.push(
        Line::stated("memory", "ls -R, first line", params, first, "s")
            .against("allowed 1 s", &[1.0], &[1.0 / first])?
            .bounded(1.0, 5.0),
    );
    Ok(lines)
}
