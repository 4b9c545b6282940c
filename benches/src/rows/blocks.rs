//! Rows about block nodes: warm reads over sockets and by descriptors, small random ones,
//! cold files that many want, and what a random read costs the store.

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::json;

use super::Pace;
use super::bytes::{Series, number};
use crate::redis::Redis;
use crate::report::{Line, median};
use crate::stage::Stage;
use crate::{loopback, pread};

/// A file that the memory tier holds.
const WARM: u64 = 256 << 20;
/// Bytes that one measurement of warm reads moves.
const MOVED: &str = "2GiB";
const PATH: &str = "/data/warm";

/// Row 2 measures the disk tier with room in memory for an eighth of the file, which blocks
/// pass through on their way to disk.
pub(crate) const LITTLE_MEMORY: [(&str, &str); 1] = [("ARUSTIO_BLOCK__MEMORY__CAPACITY", "32MiB")];

/// Brings a file into the cache: the second pass brings what the first one dropped.
async fn warm(stage: &Stage) -> Result<()> {
    stage.plain("put", &["warm", &WARM.to_string()]).await?;
    let read = ["bench", "read", "--no-local", PATH];
    for _ in 0..20 {
        let said = stage.measure(&read).await?;
        if said["params"]["ufs_bytes"].as_u64() == Some(0) {
            return Ok(());
        }
    }
    anyhow::bail!("{PATH} does not stay in the cache")
}

/// Row 1: warm sequential reads over sockets, framed beside raw TCP and beside gRPC.
pub(crate) async fn remote(stage: &Stage, pace: Pace) -> Result<Vec<Line>> {
    warm(stage).await?;
    let mut lines = Vec::new();
    for streams in [1, 4] {
        let total = format!("{}", (2_u64 << 30) / streams as u64);
        let many = streams.to_string();
        let command = |wire| {
            [
                "bench",
                "read",
                "--no-local",
                "--transport",
                wire,
                "--streams",
                many.as_str(),
                "--total",
                total.as_str(),
                PATH,
            ]
        };
        let (mut framed, mut grpc) = (Series::default(), Series::default());
        let (mut limits, mut ratios, mut over_grpc) = (vec![], vec![], vec![]);
        for _ in 0..pace.rounds {
            let limit = loopback::rate(streams).await?;
            let ours = framed.measure(stage, &command("framed")).await?;
            let theirs = grpc.measure(stage, &command("grpc")).await?;
            limits.push(limit);
            ratios.push(ours / limit);
            over_grpc.push(ours / theirs);
        }
        let params = json!({"size": WARM, "streams": streams, "transport": "framed"});
        let line = |params| framed.line("1", "warm read", params);
        lines.push(
            line(params.clone())?
                .against("raw loopback TCP", &limits, &ratios)?
                .bounded(0.6, 0.9),
        );
        // Stated: three times as much is more than raw TCP has (ADR 0021).
        lines.push(line(params)?.against("our own gRPC", &grpc.rates, &over_grpc)?);
    }
    Ok(lines)
}

/// Row 2: reads by descriptors on the same host, beside `pread` of the page cache.
pub(crate) async fn local(stage: &Stage, tier: &str, pace: Pace) -> Result<Vec<Line>> {
    warm(stage).await?;
    let file = stage.path("page-cache");
    std::fs::write(&file, vec![7; usize::try_from(WARM)?])?;
    let command = [
        "bench",
        "read",
        "--local",
        "--read-at",
        "--total",
        MOVED,
        PATH,
    ];
    let mut ours = Series::default();
    let (mut limits, mut ratios) = (vec![], vec![]);
    for _ in 0..pace.rounds {
        let limit = pread::rate(&file, 1 << 20, 2 << 30).await?;
        let rate = ours.measure(stage, &command).await?;
        limits.push(limit);
        ratios.push(rate / limit);
    }
    let params = json!({"size": WARM, "request": 1 << 20, "tier": tier});
    let line = ours.line("2", "local read", params)?;
    let line = line.against("pread of the page cache", &limits, &ratios)?;
    Ok(vec![line.bounded(0.8, 0.97)])
}

/// Row 3: random reads of 4 KiB over sockets: the time of one, the rate of 32 at once.
pub(crate) async fn small(stage: &Stage, pace: Pace) -> Result<Vec<Line>> {
    warm(stage).await?;
    let redis = Redis::start().await?;
    let command = |streams, total| {
        [
            "bench",
            "read",
            "--no-local",
            "--random",
            "--request",
            "4KiB",
            "--streams",
            streams,
            "--total",
            total,
            PATH,
        ]
    };
    let (mut ours, mut pings, mut times) = (vec![], vec![], vec![]);
    let (mut rates, mut gets, mut of_redis) = (vec![], vec![], vec![]);
    for _ in 0..pace.rounds {
        let ping = loopback::ping_pong().await?;
        let one = number(&stage.measure(&command("1", "64MiB")).await?, "p50_us")?;
        pings.push(ping);
        ours.push(one);
        times.push(ping / one);
        let many = stage.measure(&command("32", "512MiB")).await?;
        let rate = number(&many, "rate")? / f64::from(4 << 10);
        rates.push(rate);
        if let Some(redis) = &redis {
            let get = number(&redis.load(32, pace.seconds).await?, "rate")?;
            gets.push(get);
            of_redis.push(rate / get);
        }
    }
    let params = |clients: u32| json!({"request": 4096, "in_flight": clients});
    let one = Line::stated("3", "random 4 KiB", params(1), median(&ours)?, "us");
    let one = one.against("64-byte TCP ping-pong", &pings, &times)?;
    let many = Line::stated("3", "random 4 KiB", params(32), median(&rates)?, "op/s");
    let many = match redis {
        Some(_) => many
            .against("Redis GET", &gets, &of_redis)?
            .bounded(0.6, 1.0),
        None => many,
    };
    Ok(vec![one.bounded(0.4, 0.67), many])
}

/// Row 5: a cold file that 8 clients want at once.
pub(crate) async fn herd(stage: &Stage, pace: Pace) -> Result<Vec<Line>> {
    const READERS: usize = 8;
    let size: u64 = 1 << 30;
    let (mut asked, mut ratios, mut rates) = (vec![], vec![], vec![]);
    for round in 0..pace.rounds {
        let key = format!("herd-{round}");
        let path = format!("/data/{key}");
        stage.plain("put", &[&key, &size.to_string()]).await?;
        // Known before, so that all begin with the bytes.
        stage.cli().run(&["fs", "stat", &path]).await?;
        let before = stage.store_bytes().await?;
        let read = ["bench", "read", "--no-local", path.as_str()];
        let readers = (0..READERS).map(|_| stage.measure(&read));
        let said = try_join_all(readers).await?;
        let bytes = stage.store_bytes().await? - before;
        let slowest = said.iter().filter_map(|one| one["rate"].as_f64());
        rates.push(slowest.fold(f64::INFINITY, f64::min));
        asked.push(bytes);
        ratios.push(size as f64 / bytes);
        stage.cli().run(&["fs", "rm", &path]).await?;
    }
    let params = json!({
        "size": size,
        "readers": READERS,
        "slowest_reader": median(&rates)?,
    });
    let line = Line::stated("5", "cold herd", params, median(&asked)?, "B");
    let line = line.against("the file's size", &[size as f64], &ratios)?;
    Ok(vec![line.bounded(0.99, 1.0)])
}

/// Row 6: cold random reads of 64 KiB until a hundredth of the file was asked for.
pub(crate) async fn scattered(stage: &Stage, pace: Pace) -> Result<Vec<Line>> {
    let size: u64 = 1 << 30;
    let wanted = size / 100;
    let (mut asked, mut ratios) = (vec![], vec![]);
    for round in 0..pace.rounds {
        let key = format!("scattered-{round}");
        let path = format!("/data/{key}");
        stage.plain("put", &[&key, &size.to_string()]).await?;
        let total = wanted.to_string();
        let command = [
            "bench",
            "read",
            "--random",
            "--request",
            "64KiB",
            "--total",
            &total,
            &path,
        ];
        stage.cli().run(&["fs", "stat", &path]).await?;
        let before = stage.store_bytes().await?;
        let said = stage.measure(&command).await?;
        let bytes = stage.store_bytes().await? - before;
        let got = number(&said, "rate")? * number(&said, "seconds")?;
        asked.push(bytes);
        ratios.push(got / bytes);
        stage.cli().run(&["fs", "rm", &path]).await?;
    }
    let params = json!({"size": size, "request": 64 << 10, "asked": wanted});
    let line = Line::stated("6", "cold random", params, median(&asked)?, "B");
    let line = line.against("bytes that were asked for", &[wanted as f64], &ratios)?;
    Ok(vec![line.bounded(0.24, 0.25)])
}
