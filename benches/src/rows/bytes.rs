//! Rows about bytes: cold reads, writes, memory.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::report::{Line, median};
use crate::stage::Stage;

const GIB: &str = "1073741824";

pub(super) fn number(value: &Value, key: &str) -> Result<f64> {
    value[key]
        .as_f64()
        .with_context(|| format!("no {key} in {value}"))
}

/// Row 7: write of 1 GiB, THROUGH beside a plain multipart upload; CACHE_THROUGH stated.
pub(crate) async fn write(stage: &Stage, rounds: usize) -> Result<Vec<Line>> {
    let (mut through, mut cached) = (Series::default(), Series::default());
    let (mut limits, mut ratios) = (vec![], vec![]);
    for _ in 0..rounds {
        let ours = bench_write(&mut through, stage, "THROUGH").await?;
        let plain = stage.plain("put", &["plain-put", GIB]).await?;
        limits.push(plain);
        ratios.push(ours / plain);
        bench_write(&mut cached, stage, "CACHE_THROUGH").await?;
    }
    let params = |write_type: &str| json!({"size": GIB, "write_type": write_type});
    Ok(vec![
        through
            .line("7", "write", params("THROUGH"))?
            .against("plain multipart upload", &limits, &ratios)?
            .bounded(0.9, 1.0),
        cached.line("7", "write", params("CACHE_THROUGH"))?,
    ])
}

/// A rate, and what it cost: CPU seconds per GiB, of servers and client together.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) rates: Vec<f64>,
    costs: Vec<f64>,
}

impl Series {
    /// Runs a command that moves bytes and prints its rate.
    pub(super) async fn measure(&mut self, stage: &Stage, command: &[&str]) -> Result<f64> {
        let before = stage.cpu_seconds()?;
        let said = stage.measure(command).await?;
        let rate = number(&said, "rate")?;
        let gibs = rate * number(&said, "seconds")? / f64::from(1 << 30);
        self.costs.push((stage.cpu_seconds()? - before) / gibs);
        self.rates.push(rate);
        Ok(rate)
    }

    pub(super) fn line(
        &self,
        row: &'static str,
        workload: &'static str,
        params: Value,
    ) -> Result<Line> {
        let mut line = Line::stated(row, workload, params, median(&self.rates)?, "B/s");
        line.cpu_s_per_gib = Some(median(&self.costs)?);
        Ok(line)
    }
}

async fn bench_write(series: &mut Series, stage: &Stage, write_type: &str) -> Result<f64> {
    let command = [
        "bench",
        "write",
        "--size",
        "1GiB",
        "--write-type",
        write_type,
        "/data",
    ];
    series.measure(stage, &command).await
}

/// Row 4: cold sequential read of 1 GiB, without and with fill, beside plain reads;
/// then warm reads, beside raw TCP over loopback.
pub(crate) async fn cold_read(stage: &Stage, rounds: usize) -> Result<Vec<Line>> {
    let (mut limits, mut raw) = (vec![], vec![]);
    let (mut bare, mut fill, mut warm) = (Series::default(), Series::default(), Series::default());
    let (mut bare_ratios, mut fill_ratios, mut warm_ratios) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        // A new object each round is cold by its identity.
        let key = format!("cold-{round}");
        let path = format!("/data/{key}");
        stage.plain("put", &[&key, GIB]).await?;
        let plain = stage.plain("get", &[&key]).await?;
        let read = ["bench", "read", &path];
        let uncached = ["bench", "read", "--no-cache", &path];
        let without = bare.measure(stage, &uncached).await?;
        let with = fill.measure(stage, &read).await?;
        // What the first pass could not fill in time, the second one does.
        stage.measure(&read).await?;
        let again = warm.measure(stage, &read).await?;
        let loopback = crate::loopback::rate(1).await?;
        limits.push(plain);
        raw.push(loopback);
        bare_ratios.push(without / plain);
        fill_ratios.push(with / plain);
        warm_ratios.push(again / loopback);
        // The next round begins with an empty cache, as the first one did.
        stage.cli().run(&["fs", "free", &path]).await?;
        stage.cli().run(&["fs", "rm", &path]).await?;
    }
    let cold = |fill: bool| json!({"size": GIB, "fill": fill, "readers": 1});
    let warm_params = json!({"size": GIB, "wire": "as the client chooses", "readers": 1});
    Ok(vec![
        bare.line("4", "cold read", cold(false))?
            .against("plain GET", &limits, &bare_ratios)?
            .bounded(0.9, 1.0),
        fill.line("4", "cold read", cold(true))?
            .against("plain GET", &limits, &fill_ratios)?
            .bounded(0.7, 0.9),
        warm.line("4", "warm read", warm_params)?.against(
            "raw loopback TCP",
            &raw,
            &warm_ratios,
        )?,
    ])
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
