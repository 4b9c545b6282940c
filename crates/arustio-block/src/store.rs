//! The block store: what every tier offers, and what its words mean.
//!
//! A block key names immutable bytes, so a store can only *have* bytes or *not have*
//! them; nothing is ever invalidated for correctness. That is why a miss is a value
//! and not an error, why concurrent writes of one key need no order, and why any
//! fault of a store may be answered by forgetting.
//!
//! Presence has a grain of one chunk (32 KiB, [`crate::chunk::CHUNK`]); reads may ask
//! for any range and get the parts that are there.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::{BlockKey, Checksum, ContentId, MountId};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::error::BlockError;
use crate::memory::Sealed;
use crate::metrics::TierMetrics;

/// Cached blocks of one node.
///
/// # Contract
/// - Called from async tasks of any thread, by the node's endpoints and by
///   [`crate::BlockNode`]. No method blocks an async worker on disk.
/// - Never returns bytes under a key whose header names another key, and never bytes
///   from disk that do not match their checksum: such a block is dropped, counted, and
///   the answer is a miss (R4). Bytes from memory come with a checksum derived from the
///   one taken at arrival, so that the last reader can check the whole way.
/// - Faults of memory or disk are misses and rejections. `Err` means a call that makes
///   no sense, never a fault of the cache.
/// - A plain write is best effort and may be forgotten at once. A write with
///   [`WriteHint::Durable`] is synced when `Stored` comes back, and pinned.
/// - Writing the same bytes again is harmless. Other bytes under the same key are
///   refused; the first ones stay.
/// - Dropping the future of any method is safe: the work is either not done or done
///   completely, in the background.
/// - After [`close`](Self::close) reads miss and writes are rejected.
#[async_trait]
pub trait BlockStore: Send + Sync + fmt::Debug {
    /// The whole of `range` from memory, or `None` without having waited for anything.
    ///
    /// `None` says nothing about what [`read`](Self::read) would find.
    fn try_read_memory(&self, key: BlockKey, range: Range<u64>) -> Option<Parts>;

    /// The parts of `range` (relative to the block) that are there: all, some or none,
    /// in order and without overlap; neighbours may touch. A range beyond the end of
    /// the block is clipped.
    async fn read(&self, key: BlockKey, range: Range<u64>) -> Result<Parts, BlockError>;

    /// The whole of `range` in a form that can be sent or passed without copying, or
    /// `None` if any of it is missing. What is borrowed as a file is not evicted, and
    /// counts, until the value is dropped.
    async fn borrow(
        &self,
        key: BlockKey,
        range: Range<u64>,
    ) -> Result<Option<Borrowed>, BlockError>;

    /// Offers bytes. Chunks that `offset..offset + payload.len()` covers only partly are
    /// not kept; a durable write that has such chunks is rejected.
    async fn write(&self, write: BlockWrite) -> Result<WriteOutcome, BlockError>;

    /// What is there of a block, without reading it; `None` for nothing.
    async fn contains(&self, key: BlockKey) -> Result<Option<Presence>, BlockError>;

    /// Forgets blocks, pinned ones too. Borrowed bytes stay readable for the borrower.
    async fn remove(&self, selector: Selector) -> Result<Removed, BlockError>;

    /// Keeps a block from being evicted, also over a restart where the tier outlives
    /// one. False if the block is not there. Pinning twice is pinning once.
    async fn pin(&self, key: BlockKey) -> Result<bool, BlockError>;

    /// Lets a block be evicted again. False if it is not there.
    async fn unpin(&self, key: BlockKey) -> Result<bool, BlockError>;

    /// Bytes in use, one entry for each tier, fastest first.
    fn usage(&self) -> Vec<TierUsage>;

    /// Counters since the store was opened, one entry for each tier, fastest first.
    fn metrics(&self) -> Vec<TierMetrics>;

    /// Summaries in the order of their keys, from the first key after `after`, at most
    /// `limit`. A block in two tiers is listed once.
    async fn scan(
        &self,
        after: Option<BlockKey>,
        limit: usize,
    ) -> Result<Vec<BlockSummary>, BlockError>;

    /// Stops background work, writes out what is worth keeping, waits. Idempotent.
    async fn close(&self);
}

/// Bytes offered to a store.
#[derive(Debug, Clone)]
pub struct BlockWrite {
    /// The block.
    pub key: BlockKey,
    /// Where in the block the payload starts, in bytes.
    pub offset: u64,
    /// The bytes.
    pub payload: Bytes,
    /// CRC32C of `payload`, from where the bytes arrived; checked before anything is kept.
    pub checksum: Checksum,
    /// Length of the whole block in bytes; shorter than the block size for a last block.
    pub block_len: u64,
    /// The mount that the content belongs to, so that an unmount can forget it.
    pub mount: MountId,
    /// What the writer wants.
    pub hint: WriteHint,
    /// The memory file in which `payload` lies, if it lies in one and is all of it: a store
    /// may keep the file of a whole block instead of a copy.
    pub sealed: Option<Sealed>,
}

impl BlockWrite {
    /// A whole block, best effort, with its checksum computed here.
    pub fn whole(key: BlockKey, mount: MountId, payload: Bytes) -> Self {
        Self {
            key,
            offset: 0,
            checksum: crate::chunk::checksum(&payload),
            block_len: payload.len() as u64,
            payload,
            mount,
            hint: WriteHint::Cache,
            sealed: None,
        }
    }

    /// The range of the block that the payload covers.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.payload.len() as u64)
    }
}

/// What a writer wants of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WriteHint {
    /// Best effort: kept where it fits, forgotten when space is short.
    #[default]
    Cache,
    /// Synced to disk and pinned before the answer, or rejected (W4).
    Durable,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// At least one chunk is new here.
    Stored,
    /// Every chunk was here already, with the same checksum.
    AlreadyPresent,
    /// Nothing was kept.
    Rejected(Rejection),
}

/// Why a write was not kept. All but the first three are about this moment only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// The payload does not match its checksum.
    ChecksumMismatch,
    /// Other bytes or another block length are here under this key.
    Disagrees,
    /// The range covers no whole chunk (or, for a durable write, also covers part of one).
    Unaligned,
    /// Nothing that may be evicted makes enough room.
    NoSpace,
    /// Larger than the tier.
    TooLarge,
    /// Too much is under way.
    Busy,
    /// The disk is still being read after a restart.
    Recovering,
    /// Writing to disk is off for a while after a failure or for lack of space.
    WritesOff,
    /// There is no disk to keep a promise with.
    NotDurable,
    /// The store is closed.
    Closed,
}

/// What is there of a range of a block.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Length of the whole block, where anything is known about it.
    pub block_len: Option<u64>,
    /// The bytes that are there: ascending, disjoint, never empty.
    pub parts: Vec<Part>,
}

/// Some bytes of a block.
#[derive(Debug, Clone)]
pub struct Part {
    /// Where they are in the block.
    pub range: Range<u64>,
    /// The bytes.
    pub bytes: Bytes,
    /// CRC32C that the bytes had when they arrived at this node.
    pub checksum: Checksum,
    /// A sealed memory file in which the block lies from its first byte on, if it lies in
    /// one: what is sent from there is not copied.
    pub file: Option<Arc<File>>,
}

impl Part {
    /// Whether the bytes still are what arrived.
    pub fn verify(&self) -> bool {
        crate::chunk::checksum(&self.bytes) == self.checksum
    }
}

impl Parts {
    /// A miss.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes that are there.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }

    /// What is missing of `range`, clipped to the block where its length is known.
    pub fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let end = range.end.min(self.block_len.unwrap_or(u64::MAX));
        let mut gaps = Vec::new();
        let mut at = range.start;
        for part in &self.parts {
            if part.range.start > at {
                gaps.push(at..part.range.start.min(end));
            }
            at = at.max(part.range.end);
        }
        if at < end {
            gaps.push(at..end);
        }
        gaps
    }

    /// Whether all of `range` is there.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        self.missing(range).is_empty() && (self.block_len.is_some() || range.is_empty())
    }

    /// All bytes in a row, if there is no gap between the parts. Copies only where
    /// there is more than one part.
    pub fn contiguous(self) -> Option<Bytes> {
        let mut parts = self.parts;
        if parts.len() <= 1 {
            return parts.pop().map(|part| part.bytes);
        }
        let touching = |pair: &[Part]| pair[0].range.end == pair[1].range.start;
        if !parts.windows(2).all(touching) {
            return None;
        }
        let total = parts.iter().map(|part| part.bytes.len()).sum();
        let mut all = BytesMut::with_capacity(total);
        for part in &parts {
            all.extend_from_slice(&part.bytes);
        }
        Some(all.freeze())
    }
}

/// A range of a block that can be sent without copying.
#[derive(Debug)]
pub enum Borrowed {
    /// From memory.
    Memory(Parts),
    /// From a file.
    File(BorrowedFile),
}

/// A range of a block as a range of an open file, for reading.
///
/// The bytes were checked when this process began to trust the file; the block is not
/// evicted before this value is dropped.
pub struct BorrowedFile {
    /// The file; positions are given with each read, its cursor is nobody's.
    pub file: Arc<File>,
    /// Where in the file the first byte is.
    pub offset: u64,
    /// The range of the block that lies there.
    pub range: Range<u64>,
    /// CRC32C that the range had when it arrived, where it consists of whole chunks.
    pub checksum: Option<Checksum>,
    /// The tier that keeps it.
    pub tier: Tier,
    pub(crate) hold: Hold,
}

/// Keeps a borrowed block from being evicted until it is dropped.
pub type Hold = Box<dyn Send + Sync>;

impl BorrowedFile {
    /// The file, which may be closed before the block is returned, and what keeps the block.
    pub fn into_parts(self) -> (Arc<File>, Hold) {
        (self.file, self.hold)
    }
}

impl fmt::Debug for BorrowedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BorrowedFile")
            .field("offset", &self.offset)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// How much of a block is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Length of the whole block in bytes.
    pub block_len: u64,
    /// Bytes of it that are there, at least.
    pub present: u64,
}

impl Presence {
    /// Whether all of it is there.
    pub fn is_complete(&self) -> bool {
        self.present == self.block_len
    }
}

/// Which blocks to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// One block.
    Block(BlockKey),
    /// All blocks of a content.
    Content(ContentId),
    /// All blocks of a mount.
    Mount(MountId),
    /// All unpinned blocks that nobody read or wrote for longer than this.
    Idle(Duration),
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Blocks; one that was in two tiers counts twice.
    pub blocks: u64,
    /// Bytes that they took up.
    pub bytes: u64,
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
    }
}

/// A level of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Bytes in memory.
    Memory,
    /// Files.
    Disk,
}

impl Tier {
    /// The name used for metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// Space of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierUsage {
    /// Which tier.
    pub tier: Tier,
    /// Bytes it may use.
    pub capacity: u64,
    /// Bytes it uses, headers, index and what is being written included.
    pub used: u64,
    /// Blocks, partial ones included.
    pub blocks: u64,
    /// Bytes that may not be evicted now.
    pub pinned: u64,
    /// Whether the tier takes writes at the moment.
    pub writable: bool,
    /// Directories of a disk tier that take no writes at the moment or are switched off.
    pub off: u64,
}

/// One line of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSummary {
    /// The block.
    pub key: BlockKey,
    /// Its mount.
    pub mount: MountId,
    /// How much is there; of a block in two tiers, in the fuller one.
    pub presence: Presence,
    /// Whether it may not be evicted.
    pub pinned: bool,
}
