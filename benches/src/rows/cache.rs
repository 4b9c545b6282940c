//! Row 13, the cache engine: hit ratio and rate beside foyer's in-memory cache.

use anyhow::Result;
use arustio_block::config::EvictionKind;
use serde_json::json;

use super::Pace;
use crate::cache::{self, FOYER, Trace};
use crate::report::{Line, median};

/// Blocks that are asked for again and again: 400 GiB.
const BLOCKS: u32 = 100_000;
/// Requests of one measurement.
const REQUESTS: usize = 1_000_000;

/// Both traces with a cache of a tenth and of a hundredth of the blocks.
pub(crate) fn engine(pace: Pace) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (name, scans) in [("zipf 0.8", false), ("zipf with scans", true)] {
        for share in [10, 100] {
            lines.extend(one(name, scans, share, pace.rounds)?);
        }
    }
    Ok(lines)
}

fn one(name: &'static str, scans: bool, share: u64, rounds: usize) -> Result<Vec<Line>> {
    let (mut hits, mut rates) = (vec![], vec![]);
    let mut foyer: [(Vec<f64>, Vec<f64>); FOYER.len()] = Default::default();
    for seed in 0..rounds as u64 {
        let trace = Trace::zipf(BLOCKS, REQUESTS, scans, seed);
        let capacity = trace.bytes / share;
        for (policy, (hits, rates)) in FOYER.iter().zip(&mut foyer) {
            let score = cache::foyer(policy, capacity, &trace)?;
            hits.push(score.hits);
            rates.push(score.rate);
        }
        let score = cache::ours(EvictionKind::S3Fifo, capacity, &trace);
        hits.push(score.hits);
        rates.push(score.rate);
    }
    let of_each = FOYER.iter().zip(&foyer);
    let medians = of_each.map(|(policy, (hits, rates))| {
        Ok(json!({"name": format!("foyer {policy}"), "hits": median(hits)?, "rate": median(rates)?}))
    });
    let peers = medians.collect::<Result<Vec<_>>>()?;
    let mut best = 0;
    for at in 1..FOYER.len() {
        if median(&foyer[at].0)? > median(&foyer[best].0)? {
            best = at;
        }
    }
    let limit = format!("foyer {}", FOYER[best]);
    let (their_hits, their_rates) = &foyer[best];
    let ratios = |ours: &[f64], theirs: &[f64]| -> Vec<f64> {
        ours.iter()
            .zip(theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect()
    };
    let params = json!({"trace": name, "cache": format!("1/{share}"), "blocks": BLOCKS});
    let mut kept = Line::stated("13", "hit ratio", params.clone(), median(&hits)?, "of 1")
        .against(&limit, their_hits, &ratios(&hits, their_hits))?
        .bounded(0.99, 1.02);
    kept.peers = peers;
    let rate = Line::stated("13", "engine rate", params, median(&rates)?, "op/s").against(
        &limit,
        their_rates,
        &ratios(&rates, their_rates),
    )?;
    Ok(vec![kept, rate])
}
