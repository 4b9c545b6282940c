//! Blocks of a node on this host, read without a socket.
//!
//! A cached block is a file descriptor of its own. A node on the same running system passes
//! it, read-only, and from then on a read is a copy out of the page cache, or no copy at
//! all: what lies in sealed memory is mapped, since nobody can change it any more, and what
//! lies on a disk is read with `pread`, since a file can.
//!
//! Whatever stands in the way (no socket, a refusal, too many descriptors, a block that is
//! not complete) is silent: the client beneath is asked, over frames or gRPC. Descriptors
//! and mappings are kept by least recent use, a bounded number of each and a bounded number
//! of bytes of address space. One that is here stays good for ever: the bytes of a block never change, even if
//! its node evicts it or is replaced.
//!
//! - `map`: the one place that maps memory.
//! - `shelf`: what is kept, and when not to ask; no I/O.
//!
//! Nothing is compared with checksums here: a node passes what it has verified. With
//! [`Verify::Always`](crate::config::Verify::Always) this client is not used at all.

mod map;
mod shelf;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::BlockKey;
use arustio_types::cluster::NodeInfo;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::ReadWriteFlags;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::buffers::{Buffer, Buffers};
use super::{
    BlockClient, BlockError, BlockExtent, BlockFilled, BlockLoan, BlockOffer, BlockPart, BlockRead,
    BlockSelector, BlockStored, BlockWant, BlockWrite, LeaseWord, PartSink, hand_over,
};
use crate::config::LocalConfig;
use map::Mapping;
use shelf::{Shelf, Turn};

/// How long a node may take to pass a descriptor before it is asked for the bytes instead.
const PATIENCE: Duration = Duration::from_millis(500);
/// Blocks that are asked for at a time before anybody needs them.
const MOST_AHEAD: usize = 8;
/// Up to this a worker copies by itself what is in the page cache; more would hold up its
/// other tasks for longer than handing it to a thread costs.
const AT_ONCE: usize = 1 << 20;

/// A client that reads local blocks by their descriptors, over one that does the rest.
pub struct LocalBlocks {
    shared: Arc<Shared>,
    /// Descriptors that are asked for before anybody needs them.
    ahead: Mutex<JoinSet<()>>,
}

struct Shared {
    inner: Box<dyn BlockClient>,
    host: String,
    shelf: Mutex<Shelf>,
    buffers: Buffers,
}

/// A block that is at hand. Clones share it.
#[derive(Debug, Clone)]
enum Kept {
    /// The whole block, mapped.
    Mapped(Bytes),
    /// To be read.
    File(Arc<BlockLoan>),
}

impl fmt::Debug for LocalBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBlocks")
            .field("inner", &self.shared.inner)
            .finish_non_exhaustive()
    }
}

/// The name of the running system, by which a node says that it is on this host; `None`
/// where there is no such name.
pub fn running_system() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let name = name.trim();
    (!name.is_empty() && name.len() <= 64).then(|| name.to_owned())
}

impl LocalBlocks {
    /// Over `inner`, on the running system `host` ([`running_system`]).
    pub fn new(inner: Box<dyn BlockClient>, host: String, config: &LocalConfig) -> Self {
        Self::reading_into(inner, host, config, Buffers::default())
    }

    /// The same, which reads what lies on a disk into these buffers.
    pub fn reading_into(
        inner: Box<dyn BlockClient>,
        host: String,
        config: &LocalConfig,
        buffers: Buffers,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                inner,
                host,
                shelf: Mutex::new(Shelf::new(config.descriptors, config.bytes.get())),
                buffers,
            }),
            ahead: Mutex::default(),
        }
    }

    /// Blocks at hand.
    pub fn kept(&self) -> usize {
        self.shared.shelf.lock().len()
    }

    /// The bytes of a range, if they are to be had without a socket.
    async fn at_hand(
        &self,
        node: &NodeInfo,
        asked: &BlockRead,
        deadline: Duration,
    ) -> Option<Vec<BlockPart>> {
        let parts = self.shared.at_hand(node, asked, deadline).await?;
        if asked.range.start == 0 {
            self.look_ahead(node, asked.key);
        }
        Some(parts)
    }

    /// Asks for the block after this one, if the one before it is at hand, too: then they
    /// are read in order. It may belong to another node; then it is asked for in its turn.
    fn look_ahead(&self, node: &NodeInfo, key: BlockKey) {
        let beside = |index: Option<u64>| index.map(|index| BlockKey { index, ..key });
        let (before, next) = (key.index.checked_sub(1), key.index.checked_add(1));
        let (Some(before), Some(next)) = (beside(before), beside(next)) else {
            return;
        };
        let mut ahead = self.ahead.lock();
        while ahead.try_join_next().is_some() {}
        let may_ask = ahead.len() < MOST_AHEAD && self.shared.is_local(node);
        let turn = {
            let mut shelf = self.shared.shelf.lock();
            let in_order = may_ask && shelf.has(&before) && !shelf.has(&next);
            in_order.then(|| shelf.turn(next, node.id, true, Instant::now()))
        };
        if let Some(Turn::Ask) = turn {
            let (asking, node) = (Asking(Arc::clone(&self.shared), next), node.clone());
            // What does not come is asked for when it is needed.
            ahead.spawn(async move { drop(asking.ask(&node, PATIENCE).await) });
        }
    }
}

impl Shared {
    async fn at_hand(
        self: &Arc<Self>,
        node: &NodeInfo,
        asked: &BlockRead,
        deadline: Duration,
    ) -> Option<Vec<BlockPart>> {
        let may_ask = self.is_local(node);
        let now = Instant::now();
        let turn = self.shelf.lock().turn(asked.key, node.id, may_ask, now);
        let kept = match turn {
            Turn::Here(kept) => kept,
            Turn::Ask => {
                let asking = Asking(Arc::clone(self), asked.key);
                asking.or_note(node, deadline).await?
            }
            Turn::NotNow => return None,
        };
        match kept.read(asked.range.clone(), &self.buffers).await {
            Ok(parts) => Some(parts),
            Err(error) => {
                tracing::debug!(%error, block = %asked.key, "a passed block cannot be read");
                let gone = self.shelf.lock().forget(|key| *key == asked.key);
                drop(gone);
                None
            }
        }
    }

    fn is_local(&self, node: &NodeInfo) -> bool {
        node.data.socket.is_some() && node.data.host.as_ref() == Some(&self.host)
    }
}

/// One caller at a time asks for a block; this is its turn.
struct Asking(Arc<Shared>, BlockKey);

impl Asking {
    /// Asks a node for the block, and keeps it.
    async fn ask(&self, node: &NodeInfo, patience: Duration) -> Result<Option<Kept>, BlockError> {
        let Self(shared, key) = self;
        let Some(loan) = shared.inner.borrow(node, *key, patience).await? else {
            return Ok(None);
        };
        let kept = Kept::of(loan);
        let mut shelf = shared.shelf.lock();
        let gone = shelf.keep(*key, kept.clone(), kept.length());
        // Giving back is sending: not under the lock.
        drop(shelf);
        drop(gone);
        Ok(Some(kept))
    }

    /// The same, and remembers for a while who had nothing to pass.
    async fn or_note(self, node: &NodeInfo, deadline: Duration) -> Option<Kept> {
        let answer = self.ask(node, (deadline / 2).min(PATIENCE)).await;
        let Self(shared, key) = &self;
        match answer {
            Ok(Some(kept)) => return Some(kept),
            Ok(None) => shared.shelf.lock().absent(*key, Instant::now()),
            Err(error) => {
                shared.shelf.lock().pause(node.id, Instant::now());
                tracing::debug!(%error, "no descriptor from the block node on this host");
            }
        }
        None
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.shelf.lock().asked(self.1);
    }
}

impl Kept {
    fn of(loan: BlockLoan) -> Self {
        match Mapping::of_sealed(&loan) {
            // The mapping needs no descriptor any more, of which a process has few.
            Some(mapping) => Self::Mapped(Bytes::from_owner(Whole {
                mapping,
                _hold: loan.hold,
            })),
            None => Self::File(Arc::new(loan)),
        }
    }

    fn length(&self) -> u64 {
        match self {
            Self::Mapped(bytes) => bytes.len() as u64,
            Self::File(loan) => loan.length,
        }
    }

    async fn read(&self, range: Range<u64>, buffers: &Buffers) -> io::Result<Vec<BlockPart>> {
        let end = range.end.min(self.length());
        let range = range.start.min(end)..end;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = match self {
            // Offsets in a mapping fit.
            Self::Mapped(bytes) => bytes.slice(range.start as usize..range.end as usize),
            Self::File(loan) => read(loan, &range, buffers).await?,
        };
        Ok(vec![BlockPart {
            offset: range.start,
            bytes,
        }])
    }
}

/// A mapping that gives its block back with the last of its bytes.
struct Whole {
    mapping: Mapping,
    _hold: Box<dyn Send + Sync>,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self.mapping.bytes()
    }
}

/// Reads from a file on a disk: at once what little is in the page cache, else on a thread
/// that may wait.
async fn read(loan: &Arc<BlockLoan>, range: &Range<u64>, buffers: &Buffers) -> io::Result<Bytes> {
    // A block has at most 256 MiB.
    let mut buffer = buffers.take((range.end - range.start) as usize);
    let offset = loan.offset + range.start;
    if buffer.length() <= AT_ONCE {
        let slices = &mut [IoSliceMut::new(buffer.room(usize::MAX))];
        let read = rustix::io::preadv2(&loan.file, slices, offset, ReadWriteFlags::NOWAIT);
        buffer.advance(read.unwrap_or(0));
        if buffer.filled().len() == buffer.length() {
            return Ok(buffer.freeze());
        }
    }
    let loan = Arc::clone(loan);
    let read = tokio::task::spawn_blocking(move || read_on(&loan, offset, buffer));
    read.await.map_err(io::Error::other)?
}

/// Reads what is missing in the buffer, which begins at `offset` of the file.
fn read_on(loan: &BlockLoan, offset: u64, mut buffer: Buffer) -> io::Result<Bytes> {
    while buffer.filled().len() < buffer.length() {
        let at = offset + buffer.filled().len() as u64;
        match rustix::io::pread(&loan.file, buffer.room(usize::MAX), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => buffer.advance(read),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(buffer.freeze())
}

#[async_trait]
impl BlockClient for LocalBlocks {
    async fn read(
        &self,
        node: &NodeInfo,
        asked: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        let until = Instant::now() + deadline;
        if let Some(parts) = self.at_hand(node, &asked, deadline).await {
            return Ok(parts);
        }
        let left = until.saturating_duration_since(Instant::now());
        self.shared.inner.read(node, asked, left).await
    }

    /// Through a socket, where everything is compared.
    async fn read_checked(
        &self,
        node: &NodeInfo,
        asked: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        self.shared.inner.read_checked(node, asked, deadline).await
    }

    async fn read_into(
        &self,
        node: &NodeInfo,
        asked: BlockRead,
        deadline: Duration,
        sink: PartSink,
    ) -> Result<u64, BlockError> {
        let until = Instant::now() + deadline;
        if let Some(parts) = self.at_hand(node, &asked, deadline).await {
            return Ok(parts.into_iter().map(|part| hand_over(&sink, part)).sum());
        }
        let left = until.saturating_duration_since(Instant::now());
        self.shared.inner.read_into(node, asked, left, sink).await
    }

    async fn write(
        &self,
        node: &NodeInfo,
        write: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockStored, BlockError> {
        let key = write.key;
        let stored = self.shared.inner.write(node, write, deadline).await?;
        if stored == BlockStored::Stored {
            self.shared.shelf.lock().may_be_there(key);
        }
        Ok(stored)
    }

    async fn want(
        &self,
        node: &NodeInfo,
        wanted: BlockWant,
        deadline: Duration,
    ) -> Result<BlockOffer, BlockError> {
        self.shared.inner.want(node, wanted, deadline).await
    }

    async fn fill(
        &self,
        node: &NodeInfo,
        lease: u64,
        write: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockFilled, BlockError> {
        let key = write.key;
        let filled = self.shared.inner.fill(node, lease, write, deadline).await?;
        if filled.stored == BlockStored::Stored {
            self.shared.shelf.lock().may_be_there(key);
        }
        Ok(filled)
    }

    async fn lease(
        &self,
        node: &NodeInfo,
        lease: u64,
        word: LeaseWord,
        deadline: Duration,
    ) -> Result<bool, BlockError> {
        self.shared.inner.lease(node, lease, word, deadline).await
    }

    async fn cached(
        &self,
        node: &NodeInfo,
        extents: &[BlockExtent],
        deadline: Duration,
    ) -> Result<Vec<u64>, BlockError> {
        self.shared.inner.cached(node, extents, deadline).await
    }

    /// What is forgotten there is forgotten here, too. Of a mount nothing is known here, so
    /// everything goes.
    async fn remove(
        &self,
        node: &NodeInfo,
        selector: BlockSelector,
        deadline: Duration,
    ) -> Result<u64, BlockError> {
        let gone = self.shared.shelf.lock().forget(|key| match selector {
            BlockSelector::Block(block) => *key == block,
            BlockSelector::Content(content) => key.content == content,
            BlockSelector::Mount(_) => true,
        });
        drop(gone);
        self.shared.inner.remove(node, selector, deadline).await
    }

    async fn borrow(
        &self,
        node: &NodeInfo,
        key: BlockKey,
        deadline: Duration,
    ) -> Result<Option<BlockLoan>, BlockError> {
        self.shared.inner.borrow(node, key, deadline).await
    }
}
