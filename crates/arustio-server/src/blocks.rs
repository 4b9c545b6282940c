//! What the two wires of the block cache share: limits, and how answers are put.
//!
//! Nothing is allocated because a peer says so: what is being received, and what was read
//! from disk for somebody, counts against byte budgets of the whole process, whichever
//! wire it goes over.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arustio_block::{BlockStore, Ending, FillOffer, FillWant, Fills, Look, Refusal, Rejection};
use arustio_proto::block::v1::TierUsage;
use arustio_proto::failure::Failure;
use arustio_types::{BlockKey, ByteSize, ErrorKind, NodeId};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The unit in which byte budgets are counted.
const GRAIN: u64 = 4096;
/// Blocks that one request may ask about: looking at them takes well below a second.
const MOST_COUNTED: u64 = 1 << 20;

/// Longest wait for what others bring, whatever a reader says; it may ask again.
pub(crate) const MOST_WAIT: Duration = Duration::from_secs(5);

/// Who this node is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) instance: u128,
    pub(crate) node: Arc<Mutex<Option<NodeId>>>,
    /// Of the view of the cluster that the node heard of last. It tells clients, so that one
    /// with an older view asks for it.
    pub(crate) epoch: Arc<AtomicU64>,
}

impl Identity {
    /// Epoch of the view that it heard of last; 0 before it heard of any.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// A view of this epoch is given out now, also when an earlier leader gave out a later
    /// one: clients could never catch up with that.
    pub(crate) fn heard(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }
}

/// How full the tiers are, and how often they had what was asked for.
pub(crate) fn usage(store: &dyn BlockStore) -> Vec<TierUsage> {
    let counted = store.metrics();
    let tier = |tier: arustio_block::TierUsage| {
        let counted = counted.iter().find(|counted| counted.tier == tier.tier);
        TierUsage {
            name: tier.tier.name().to_owned(),
            used: tier.used,
            capacity: tier.capacity,
            blocks: tier.blocks,
            pinned: tier.pinned,
            writable: tier.writable,
            hits: counted.map_or(0, |counted| counted.hits),
            partial_hits: counted.map_or(0, |counted| counted.partial_hits),
            misses: counted.map_or(0, |counted| counted.misses),
        }
    };
    store.usage().into_iter().map(tier).collect()
}

/// Bytes on their way, all requests together. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    grains: Arc<Semaphore>,
    most: u32,
}

impl Budget {
    pub(crate) fn new(size: ByteSize) -> Self {
        let most = u32::try_from(size.get().div_ceil(GRAIN)).unwrap_or(u32::MAX);
        let most = most.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            grains: Arc::new(Semaphore::new(most as usize)),
            most,
        }
    }

    fn grains(&self, bytes: u64) -> u32 {
        let grains = u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX);
        grains.min(self.most)
    }

    pub(crate) fn try_take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let grains = self.grains(bytes);
        Arc::clone(&self.grains).try_acquire_many_owned(grains).ok()
    }

    pub(crate) async fn wait(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let grains = self.grains(bytes);
        // Never closed, so this always comes.
        Arc::clone(&self.grains)
            .acquire_many_owned(grains)
            .await
            .ok()
    }
}

/// A range that a peer asks for, as far as it lies in the block.
pub(crate) fn clipped(key: &BlockKey, offset: u64, length: u64) -> Range<u64> {
    let size = key.size.bytes();
    let start = offset.min(size);
    start..offset.saturating_add(length).min(size).max(start)
}

/// Bytes that are there of each of these: the first block, and how many follow it.
pub(crate) async fn present(
    store: &dyn BlockStore,
    extents: &[(BlockKey, u64)],
) -> Result<Vec<u64>, Failure> {
    let wanted = extents.iter().map(|(_, blocks)| *blocks);
    if wanted.fold(0, u64::saturating_add) > MOST_COUNTED {
        let message = format!("at most {MOST_COUNTED} blocks are counted at a time");
        return Err(Failure::new(ErrorKind::InvalidArgument, message));
    }
    let mut present = Vec::with_capacity(extents.len());
    for (first, blocks) in extents {
        let mut bytes = 0;
        for index in first.index..first.index.saturating_add(*blocks) {
            let found = store.contains(BlockKey { index, ..*first }).await;
            let found = found.map_err(|error| Failure::of(&error))?;
            bytes += found.map_or(0, |there| there.present);
        }
        present.push(bytes);
    }
    Ok(present)
}

/// Checks where the bytes of a write are to lie.
pub(crate) fn check_write(
    key: &BlockKey,
    offset: u64,
    length: u64,
    block_length: u64,
) -> Result<(), Failure> {
    let end = offset.saturating_add(length);
    if length == 0 || end > block_length || block_length > key.size.bytes() {
        let message = "the bytes do not lie inside the block";
        return Err(Failure::new(ErrorKind::InvalidArgument, message));
    }
    Ok(())
}

/// What a reader gets who would bring what is missing, and what counts for its bytes until
/// they are sent. Nothing is held while it waits. Safe to drop.
pub(crate) async fn wanted(
    fills: &Arc<Fills>,
    budgets: &[&Budget],
    want: &FillWant,
    until: Instant,
) -> Result<(FillOffer, Vec<OwnedSemaphorePermit>), Failure> {
    loop {
        // Bytes from disk are ours until they are sent.
        let mut held = Vec::new();
        for budget in budgets {
            held.extend(budget.wait(want.range.end - want.range.start).await);
        }
        let look = fills.look(want).await;
        match look.map_err(|error| Failure::of(&error))? {
            Look::Offer(offer) => return Ok((offer, held)),
            Look::Wait(waiting) => {
                drop(held);
                if !waiting.changed(until).await {
                    return Ok((FillOffer::default(), Vec::new()));
                }
            }
        }
    }
}

/// Ends a lease whose bytes cannot be received now.
pub(crate) fn no_room(fills: &Fills, lease: u64) {
    fills.end(arustio_block::LeaseId(lease), Ending::NoRoom);
}

/// Why a reader has to do without, in one line.
pub(crate) fn refusal(why: Refusal) -> &'static str {
    match why {
        Refusal::Stale => "the version is gone from the store below",
        Refusal::Uncacheable => "the bytes must not be cached",
        Refusal::Busy => "too much is under way",
    }
}

/// Why bytes were not kept, in one line.
pub(crate) fn reason(why: Rejection) -> &'static str {
    match why {
        Rejection::ChecksumMismatch => "the bytes do not match their checksum",
        Rejection::Disagrees => "other bytes are here under this key",
        Rejection::Unaligned => "the bytes cover no whole chunk",
        Rejection::NoSpace => "nothing that may be evicted makes enough room",
        Rejection::TooLarge => "larger than the cache",
        Rejection::Busy => "too much is under way",
        Rejection::Recovering => "the disk is still being read after a restart",
        Rejection::WritesOff => "writing to disk is off for a while",
        Rejection::NotDurable => "there is no disk to keep a promise with",
        Rejection::Closed => "the cache is closing",
    }
}
