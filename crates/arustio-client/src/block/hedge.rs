//! Hedged reads: who waits for a slow node asks elsewhere, too, and takes what comes first.
//!
//! Dean and Barroso (The Tail at Scale, 2013): when a node has not answered within the 99th
//! percentile of its recent answers, a second request goes to a replica or to the under file
//! system. A budget keeps that from making things worse when everything is slow: extra
//! requests are at most 2 of 100, at any moment since the client began. The loser is dropped,
//! which cancels it.
//!
//! What a node usually takes is kept as a histogram of logarithmic buckets, 280 bytes a node,
//! whose counts are halved now and then so that what is old fades. A request that was given
//! up counts as one that took as long as was waited.

use std::collections::HashMap;
use std::time::Duration;

use arustio_types::NodeId;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Extra requests that each request pays for, in hundredths: at most so many of 100.
const PAID: u32 = 2;
/// What an extra request costs in the same unit.
const PRICE: u32 = 100;
/// Extra requests that may be saved up for a bad moment.
const SAVED: u32 = 10 * PRICE;

/// Nobody is hedged earlier: below it a second request costs more than it can win.
const LEAST: Duration = Duration::from_millis(10);
/// A node is waited for no longer, whatever it usually takes.
const MOST: Duration = Duration::from_secs(1);
/// Answers after which what a node usually takes is taken to be known.
const KNOWN: u32 = 32;
/// Answers after which all counts are halved.
const FADE: u32 = 2048;
/// Nodes that are remembered.
const MOST_NODES: usize = 10_000;

/// Buckets of a histogram: four for each doubling, from 64 microseconds to 4 seconds.
const BUCKETS: usize = 4 * 16;
const FIRST_BIT: u32 = 6;

/// What came of a request and, where there was one, of the extra one.
#[derive(Debug)]
pub struct Raced<T, E> {
    /// What the node answered; `None`: it was given up, since the other one was first.
    pub asked: Option<Result<T, E>>,
    /// What was got elsewhere; then this is what counts.
    pub backup: Option<T>,
    /// Whether anybody else was asked.
    pub hedged: bool,
}

/// What all readers of a client have asked for so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HedgeStats {
    /// Requests to nodes.
    pub requests: u64,
    /// Extra requests; at most 2 of 100 requests.
    pub hedges: u64,
    /// Extra requests that were answered first.
    pub won: u64,
}

/// What nodes usually take, and the budget. One short lock, never held across an await.
#[derive(Debug)]
pub struct Hedges {
    enabled: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: HashMap<NodeId, Histogram>,
    saved: u32,
    stats: HedgeStats,
}

impl Hedges {
    /// Without `enabled` nobody is asked twice.
    pub fn new(enabled: bool) -> Self {
        Self {
            enabled,
            inner: Mutex::default(),
        }
    }

    /// What was asked for so far.
    pub fn stats(&self) -> HedgeStats {
        self.inner.lock().stats
    }

    /// Waits for a node, and when it is late asks elsewhere as well. An answer of which
    /// `enough` says no is no reason to stop waiting for the other one. `backup` is called
    /// at most once, and only when the budget has room for it.
    ///
    /// `floor` is how long is waited in any case: what the other way costs at best.
    /// Dropping the future drops both requests.
    pub async fn race<T, E, B>(
        &self,
        node: NodeId,
        floor: Duration,
        asked: impl Future<Output = Result<T, E>>,
        enough: impl Fn(&T) -> bool,
        backup: impl FnOnce() -> B,
    ) -> Raced<T, E>
    where
        B: Future<Output = Option<T>>,
    {
        let began = Instant::now();
        let patience = self.begin(node).max(floor);
        let mut asked = std::pin::pin!(asked);
        let answer = tokio::select! {
            biased;
            answer = &mut asked => Some(answer),
            () = tokio::time::sleep(patience) => None,
        };
        if answer.is_some() || !self.afford() {
            let answer = match answer {
                Some(answer) => answer,
                None => asked.await,
            };
            self.took(node, began);
            return Raced {
                asked: Some(answer),
                backup: None,
                hedged: false,
            };
        }
        let mut backup = std::pin::pin!(backup());
        let (asked, backup) = tokio::select! {
            biased;
            answer = &mut asked => {
                let backup = match &answer {
                    Ok(answer) if enough(answer) => None,
                    Ok(_) | Err(_) => backup.await,
                };
                (Some(answer), backup)
            }
            got = &mut backup => match got {
                Some(got) => (None, Some(got)),
                None => (Some(asked.await), None),
            },
        };
        self.took(node, began);
        if backup.is_some() {
            self.inner.lock().stats.won += 1;
        }
        Raced {
            asked,
            backup,
            hedged: true,
        }
    }

    /// Counts a request; the result is how long it is waited for before anybody else is asked.
    fn begin(&self, node: NodeId) -> Duration {
        let mut inner = self.inner.lock();
        inner.stats.requests += 1;
        inner.saved = (inner.saved + PAID).min(SAVED);
        let known = inner.nodes.get(&node).and_then(Histogram::p99);
        known.unwrap_or(MOST).clamp(LEAST, MOST)
    }

    fn afford(&self) -> bool {
        let mut inner = self.inner.lock();
        if !self.enabled || inner.saved < PRICE {
            return false;
        }
        inner.saved -= PRICE;
        inner.stats.hedges += 1;
        true
    }

    fn took(&self, node: NodeId, began: Instant) {
        let took = began.elapsed();
        let mut inner = self.inner.lock();
        if inner.nodes.len() >= MOST_NODES && !inner.nodes.contains_key(&node) {
            inner.nodes.clear();
        }
        inner.nodes.entry(node).or_default().add(took);
    }
}

/// How long answers took, by buckets of which each is a quarter of a doubling.
#[derive(Debug)]
struct Histogram {
    counts: [u16; BUCKETS],
    total: u32,
    seen: u32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            total: 0,
            seen: 0,
        }
    }
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        self.counts[bucket(took)] += 1;
        self.total += 1;
        self.seen = self.seen.saturating_add(1);
        if self.total >= FADE {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
    }

    /// The upper end of the bucket in which 99 of 100 answers had come; `None` before there
    /// were enough of them.
    fn p99(&self) -> Option<Duration> {
        if self.seen < KNOWN {
            return None;
        }
        let later = self.total / 100;
        let mut after = 0;
        for (at, count) in self.counts.iter().enumerate().rev() {
            after += u32::from(*count);
            if after > later {
                return Some(end_of(at));
            }
        }
        None
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let Some(bit) = micros.checked_ilog2().filter(|bit| *bit >= FIRST_BIT) else {
        return 0;
    };
    // The two bits below the highest one.
    let quarter = (micros >> (bit - 2)) & 3;
    let at = 4 * (bit - FIRST_BIT) as usize + quarter as usize;
    at.min(BUCKETS - 1)
}

/// Answers of a bucket took less than this.
fn end_of(bucket: usize) -> Duration {
    let (octave, quarter) = (bucket / 4, bucket % 4);
    let base = 1u64 << (FIRST_BIT as usize + octave);
    Duration::from_micros(base + base / 4 * (quarter as u64 + 1))
}

#[cfg(test)]
mod tests;
