//! A block node: a store, and what it takes to load what the store does not have.
//!
//! By default clients load (`fill = client`) and the node only answers from its store.
//! With a [`BlockSource`] the node loads itself, each byte at most once at a time
//! however many ask for it (R5), on a grid of `fetch.min_fetch` (R6).

use std::ops::Range;
use std::sync::Arc;

use arustio_types::{BlockKey, ErrorKind, MountId, Source};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chunk;
use crate::config::CheckedFetch;
use crate::error::BlockError;
use crate::image::clip;
use crate::inflight::{Flight, Inflight, Landed};
use crate::source::{BlockSource, FetchRequest, SourceError};
use crate::store::{BlockStore, BlockWrite, Part, Parts, Removed, Selector, WriteHint};

/// What is to be read, and where it can be fetched from if it is not here.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The block.
    pub key: BlockKey,
    /// The range of the block.
    pub range: Range<u64>,
    /// Length of the whole content; the block's own follows from it.
    pub content_len: u64,
    /// The mount that the content belongs to.
    pub mount: MountId,
    /// Where its bytes are.
    pub source: Source,
}

/// A store with loading on a miss.
#[derive(Debug)]
pub struct BlockNode {
    store: Arc<dyn BlockStore>,
    source: Option<Arc<dyn BlockSource>>,
    inflight: Arc<Inflight>,
    permits: Arc<Semaphore>,
    min_fetch: u64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl BlockNode {
    /// A node over a store; without a source it never loads.
    pub fn new(
        store: Arc<dyn BlockStore>,
        source: Option<Arc<dyn BlockSource>>,
        config: &CheckedFetch,
    ) -> Self {
        Self {
            store,
            source,
            inflight: Arc::default(),
            permits: Arc::new(Semaphore::new(config.concurrency)),
            min_fetch: config.min_fetch,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn BlockStore> {
        &self.store
    }

    /// What the store has of a range; memory is asked without waiting. Safe to drop.
    pub async fn read(&self, key: BlockKey, range: Range<u64>) -> Result<Parts, BlockError> {
        match self.store.try_read_memory(key, range.clone()) {
            Some(parts) => Ok(parts),
            None => self.store.read(key, range).await,
        }
    }

    /// All of a range, from the store or from the source. Dropping the future leaves the
    /// loading to others who wait for it, and to the cache.
    pub async fn fetch(&self, fetch: &Fetch) -> Result<Parts, BlockError> {
        let block_len = fetch.key.len_in(fetch.content_len);
        let range = clip(&fetch.range, block_len);
        let mut parts = self.read(fetch.key, range.clone()).await?;
        if parts.block_len.is_some_and(|len| len != block_len) {
            // Somebody filled a block of another length under this key.
            self.distrust(fetch.key).await?;
            parts = Parts::none();
        }
        if range.is_empty() || parts.covers(&range) {
            return Ok(parts);
        }
        if self.stop.is_cancelled() {
            return Err(BlockError::Closed);
        }
        let gaps = parts.missing(&range);
        let source = self.source.as_ref();
        let source = source.ok_or(BlockError::NoSource { key: fetch.key })?;
        let wanted = self.cells(&gaps);
        let (flights, waiting) = self.inflight.board(fetch.key, wanted.into_iter());
        for flight in flights {
            self.take_off(flight, fetch, Arc::clone(source), block_len);
        }
        parts.block_len = Some(block_len);
        for waiting in waiting {
            let landed = waiting.landing().await.ok_or(BlockError::Closed)?;
            let landed = landed.map_err(|source| BlockError::Fetch {
                key: fetch.key,
                range: range.clone(),
                source,
            })?;
            parts.parts.extend(cut(&landed, &gaps));
        }
        parts.parts.sort_by_key(|part| part.range.start);
        Ok(parts)
    }

    /// Drops a block that somebody found to be corrupt. Its bytes are fetched again by
    /// whoever needs them.
    pub async fn distrust(&self, key: BlockKey) -> Result<Removed, BlockError> {
        tracing::warn!(block = %key, "a reader found a cached block corrupt; it is dropped");
        self.store.remove(Selector::Block(key)).await
    }

    /// Ends all loading, waits for it, and closes the store.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }

    /// The cells that the gaps fall on, ascending, each once.
    fn cells(&self, gaps: &[Range<u64>]) -> Vec<u64> {
        let cell = |gap: &Range<u64>| gap.start / self.min_fetch..gap.end.div_ceil(self.min_fetch);
        let mut cells: Vec<u64> = gaps.iter().flat_map(cell).collect();
        cells.dedup();
        cells
    }

    fn take_off(
        &self,
        flight: Flight,
        fetch: &Fetch,
        source: Arc<dyn BlockSource>,
        block_len: u64,
    ) {
        let cells = &flight.cells;
        let start = cells.start * self.min_fetch;
        let request = FetchRequest {
            key: fetch.key,
            range: start..(cells.end * self.min_fetch).min(block_len),
            mount: fetch.mount,
            source: fetch.source.clone(),
            content_len: fetch.content_len,
        };
        let store = Arc::clone(&self.store);
        let permits = Arc::clone(&self.permits);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let work = async {
                // The semaphore is never closed.
                let _permit = permits.acquire_owned().await;
                load(&*store, &*source, &request, block_len).await
            };
            if let Some(result) = stop.run_until_cancelled(work).await {
                flight.land(result);
            }
        });
    }
}

async fn load(
    store: &dyn BlockStore,
    source: &dyn BlockSource,
    request: &FetchRequest,
    block_len: u64,
) -> Result<Landed, SourceError> {
    let bytes = source.fetch(request).await?;
    let asked = request.range.end - request.range.start;
    if bytes.len() as u64 != asked {
        return Err(SourceError::new(
            ErrorKind::Unavailable,
            format!("the store sent {} of {asked} bytes", bytes.len()),
        ));
    }
    let write = BlockWrite {
        key: request.key,
        offset: request.range.start,
        checksum: chunk::checksum(&bytes),
        payload: bytes.clone(),
        block_len,
        mount: request.mount,
        hint: WriteHint::Cache,
        sealed: None,
    };
    // Best effort: whoever waits gets the bytes in any case.
    if let Err(error) = store.write(write).await {
        tracing::debug!(%error, block = %request.key, "fetched bytes were not cached");
    }
    Ok(Landed {
        start: request.range.start,
        bytes,
    })
}

/// What a landing has for the gaps.
fn cut(landed: &Landed, gaps: &[Range<u64>]) -> Vec<Part> {
    let end = landed.start + landed.bytes.len() as u64;
    let part = |gap: &Range<u64>| {
        let range = gap.start.max(landed.start)..gap.end.min(end);
        (range.start < range.end).then(|| {
            let local = range.start - landed.start..range.end - landed.start;
            let bytes: Bytes = landed.bytes.slice(local.start as usize..local.end as usize);
            Part {
                checksum: chunk::checksum(&bytes),
                range,
                bytes,
                file: None,
            }
        })
    };
    gaps.iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests;
