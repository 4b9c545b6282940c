//! Who stays in a cache: our policy with the index that the tiers use, and foyer's
//! in-memory cache, under the same traces.
//!
//! Blocks are of 4 MiB but for one in four, which is the short end of a file. Nothing is
//! stored: what is compared is who is there when asked, and how fast that is said. Ours
//! is a [`Shelf`] behind one lock, as both tiers have it; foyer has one shard, so that its
//! policies see all keys as ours does.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use arustio_block::config::EvictionKind;
use arustio_block::shelf::Shelf;
use arustio_types::{BlockKey, BlockSize, ContentId};
use foyer_memory::{
    Cache, CacheBuilder, EvictionConfig, FifoConfig, LfuConfig, LruConfig, S3FifoConfig,
    SieveConfig,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The exponent of the popularity of blocks.
const SKEW: f64 = 0.8;
/// Requests between two scans.
const BETWEEN: usize = 20_000;
/// Blocks of one scan, which nobody asks for again.
const SCAN: usize = 5000;

/// A trace: blocks in the order in which they are asked for.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) blocks: Vec<u32>,
    /// Bytes of all blocks that are asked for more than by chance.
    pub(crate) bytes: u64,
}

/// What came of a trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score {
    /// Hits of all requests.
    pub(crate) hits: f64,
    /// Requests a second.
    pub(crate) rate: f64,
}

/// Foyer's policies, with their defaults.
pub(crate) const FOYER: [&str; 5] = ["s3fifo", "lfu", "lru", "sieve", "fifo"];

impl Trace {
    /// Requests whose popularity follows Zipf's law; with scans in between if asked for.
    pub(crate) fn zipf(blocks: u32, requests: usize, scans: bool, seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut sum = 0.0;
        let weight = |rank: u32| f64::from(rank + 1).powf(-SKEW);
        let steps: Vec<f64> = (0..blocks)
            .map(|rank| {
                sum += weight(rank);
                sum
            })
            .collect();
        let mut cold = blocks;
        let mut asked = Vec::with_capacity(requests + requests / BETWEEN * SCAN);
        for request in 0..requests {
            if scans && request % BETWEEN == BETWEEN - 1 {
                asked.extend((cold..).take(SCAN));
                cold += SCAN as u32;
            }
            let at = chance.random_range(0.0..sum);
            asked.push(steps.partition_point(|step| *step < at) as u32);
        }
        Self {
            blocks: asked,
            bytes: (0..blocks).map(|block| u64::from(length(block))).sum(),
        }
    }
}

fn key(block: u32) -> BlockKey {
    BlockKey {
        content: ContentId::new(u128::from(block / 64) << 70 | 7),
        size: BlockSize::DEFAULT,
        index: u64::from(block % 64),
    }
}

/// Bytes of a block, by its number alone.
fn length(block: u32) -> u32 {
    let mixed = block.wrapping_mul(0x9e37_79b1) >> 7;
    match mixed % 4 {
        0 => 4096 + mixed % (4 << 20),
        _ => 4 << 20,
    }
}

/// Our own.
pub(crate) fn ours(kind: EvictionKind, capacity: u64, trace: &Trace) -> Score {
    let shelf: Mutex<Shelf<u32>> = Mutex::new(Shelf::new(kind));
    score(trace, |block, key| {
        let mut shelf = shelf.lock();
        if let Some(mut place) = shelf.place(key) {
            place.touch();
            return true;
        }
        let bytes = length(block);
        while shelf.weight() + u64::from(bytes) > capacity && shelf.pop_victim().is_some() {}
        shelf.insert(key, bytes, u64::from(bytes));
        false
    })
}

/// Foyer's.
pub(crate) fn foyer(policy: &str, capacity: u64, trace: &Trace) -> Result<Score> {
    let eviction: EvictionConfig = match policy {
        "s3fifo" => S3FifoConfig::default().into(),
        "lfu" => LfuConfig::default().into(),
        "lru" => LruConfig::default().into(),
        "sieve" => SieveConfig.into(),
        _ => FifoConfig::default().into(),
    };
    let capacity = usize::try_from(capacity).context("a capacity beyond this machine")?;
    let cache: Cache<BlockKey, u32> = CacheBuilder::new(capacity)
        .with_shards(1)
        .with_eviction_config(eviction)
        .with_weighter(|_: &BlockKey, bytes: &u32| *bytes as usize)
        .build();
    Ok(score(trace, |block, key| {
        if cache.get(&key).is_some() {
            return true;
        }
        drop(cache.insert(key, length(block)));
        false
    }))
}

/// Hits are counted once the cache is full; the time is that of the whole trace.
fn score(trace: &Trace, mut ask: impl FnMut(u32, BlockKey) -> bool) -> Score {
    let warm = trace.blocks.len() / 4;
    let (mut hits, started) = (0_u64, Instant::now());
    for (at, block) in trace.blocks.iter().enumerate() {
        let hit = ask(*block, key(*block));
        hits += u64::from(black_box(hit) && at >= warm);
    }
    let seconds = started.elapsed().as_secs_f64();
    Score {
        hits: hits as f64 / (trace.blocks.len() - warm) as f64,
        rate: trace.blocks.len() as f64 / seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small, so that it says something without optimisation too.
    #[test]
    fn ours_keeps_about_what_foyer_keeps_and_a_scan_hurts_lru_more() {
        let mut plain = Vec::new();
        for scans in [false, true] {
            let trace = Trace::zipf(4000, 200_000, scans, 1);
            let capacity = trace.bytes / 10;
            let own = ours(EvictionKind::S3Fifo, capacity, &trace).hits;
            let other = foyer("s3fifo", capacity, &trace).unwrap().hits;
            assert!(own > 0.97 * other, "{own} beside {other}");
            let lru = ours(EvictionKind::Lru, capacity, &trace).hits;
            assert!(own > 1.05 * lru, "{own} beside {lru} of LRU");
            plain.push(own / lru);
        }
        assert!(plain[1] > plain[0], "{plain:?}");
    }
}
