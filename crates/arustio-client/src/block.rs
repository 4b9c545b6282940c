//! Block nodes, as readers and writers need them.
//!
//! A cached block is immutable and checksummed, and a node owns nothing: whatever goes
//! wrong here costs time and never a byte. [`BlockClient`] is the seam that makes the
//! two wires comparable: [`FramedBlocks`], the default, and [`GrpcBlocks`]; [`LocalBlocks`]
//! reads the blocks of a node on this host without either. [`owner`] says which node to
//! ask; `fill` sends blocks in the background. [`lease`] is what readers of the same cold
//! bytes and their node say to one another.

pub mod buffers;
pub(crate) mod crowd;
pub mod epoch;
pub(crate) mod fill;
pub mod framed;
pub mod hedge;
pub mod lease;
pub mod local;
pub mod location;
pub mod owner;
pub(crate) mod remote;
mod usage;

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::cluster::NodeInfo;
use arustio_types::{BlockKey, BlockSize, Checksum, ContentId, ErrorKind, MountId};
use async_trait::async_trait;
use bytes::Bytes;

pub use framed::FramedBlocks;
pub use lease::{Alone, BlockLease, BlockOffer, BlockWant, LeaseWord};
pub use local::LocalBlocks;
pub use remote::GrpcBlocks;

/// Connections to block nodes.
///
/// # Contract
///
/// *Bytes* returned by [`read`](Self::read) that came through a socket have been compared
/// with their checksum; what did not match is [`BlockError::Corrupt`], never returned.
/// [`LocalBlocks`] reads what a node on this host has verified, and compares nothing.
///
/// *Deadlines* are kept: a call returns when its deadline is over. *Dropping a future*
/// is safe. *Retries* are the caller's business: it has the under file system to go to.
#[async_trait]
pub trait BlockClient: Send + Sync + fmt::Debug {
    /// The parts of a block's range that a node has; none is a miss.
    async fn read(
        &self,
        node: &NodeInfo,
        request: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError>;

    /// The same, and every byte is compared with its checksum, whatever way it comes.
    async fn read_checked(
        &self,
        node: &NodeInfo,
        request: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        self.read(node, request, deadline).await
    }

    /// As [`read`](Self::read), each part handed to `sink` when it is there: its bytes can be
    /// used, and let go of, while others are on their way. The number of bytes that were
    /// handed over. Those that were handed over before an error are as good as any; some may
    /// come twice.
    async fn read_into(
        &self,
        node: &NodeInfo,
        request: BlockRead,
        deadline: Duration,
        sink: PartSink,
    ) -> Result<u64, BlockError> {
        let parts = self.read(node, request, deadline).await?;
        Ok(parts.into_iter().map(|part| hand_over(&sink, part)).sum())
    }

    /// Gives bytes of a block to a node.
    async fn write(
        &self,
        node: &NodeInfo,
        request: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockStored, BlockError>;

    /// Bytes that a node has of each of these runs of blocks. One of an earlier release can
    /// only count from the first block on, and has none of the other runs by its word.
    async fn cached(
        &self,
        node: &NodeInfo,
        extents: &[BlockExtent],
        deadline: Duration,
    ) -> Result<Vec<u64>, BlockError>;

    /// Makes a node forget; the number of blocks that went.
    async fn remove(
        &self,
        node: &NodeInfo,
        selector: BlockSelector,
        deadline: Duration,
    ) -> Result<u64, BlockError>;

    /// The parts of a block's range that a node has, and what the caller is to bring of the
    /// rest. Where others bring all of it the node waits for them, at most as long as the
    /// request says. A client that knows no leases sends its callers away, as this one does.
    ///
    /// Whoever is given a lease brings its bytes with [`fill`](Self::fill), or ends it. A
    /// lease that nobody was told of, since the future was dropped, ends by itself.
    async fn want(
        &self,
        _node: &NodeInfo,
        _request: BlockWant,
        _deadline: Duration,
    ) -> Result<BlockOffer, BlockError> {
        Ok(BlockOffer::alone(Alone::Unsupported))
    }

    /// Gives bytes of a block to a node under a lease; without any where there are none.
    async fn fill(
        &self,
        node: &NodeInfo,
        _lease: u64,
        request: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockFilled, BlockError> {
        let stored = self.write(node, request, deadline).await?;
        Ok(BlockFilled {
            stored,
            awaited: false,
        })
    }

    /// Renews or ends a lease. False: it was lost before.
    async fn lease(
        &self,
        _node: &NodeInfo,
        _lease: u64,
        _word: LeaseWord,
        _deadline: Duration,
    ) -> Result<bool, BlockError> {
        Ok(false)
    }

    /// A whole block as part of a file, from a node on this host; `None` where it has not
    /// all of it. A client that takes no descriptors refuses, as this one does.
    async fn borrow(
        &self,
        node: &NodeInfo,
        _key: BlockKey,
        _deadline: Duration,
    ) -> Result<Option<BlockLoan>, BlockError> {
        Err(BlockError::Refused {
            address: node.address.clone(),
            cause: "no descriptors are passed this way".to_owned(),
        })
    }
}

/// Takes parts of a block. It is called by whoever receives them, and must not wait.
pub type PartSink = Arc<dyn Fn(BlockPart) + Send + Sync>;

/// Hands over a part; the number of its bytes.
pub(crate) fn hand_over(sink: &PartSink, part: BlockPart) -> u64 {
    let length = part.bytes.len() as u64;
    sink(part);
    length
}

/// A whole block as part of a file, for reading. The node keeps it until this is dropped;
/// its bytes stay readable for as long as the file is open.
pub struct BlockLoan {
    /// The file. Its cursor is nobody's.
    pub file: File,
    /// Where in the file the block begins.
    pub offset: u64,
    /// Bytes in the block.
    pub length: u64,
    /// CRC32C that the block had when it arrived at the node.
    pub checksum: Checksum,
    /// Given back when this is dropped.
    pub(crate) hold: Box<dyn Send + Sync>,
}

impl fmt::Debug for BlockLoan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockLoan")
            .field("offset", &self.offset)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Blocks of one content that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockExtent {
    /// Which content.
    pub content: ContentId,
    /// Into which blocks it is cut.
    pub size: BlockSize,
    /// The first of them.
    pub first: u64,
    /// How many of them.
    pub blocks: u64,
}

/// What to read of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRead {
    /// Which block.
    pub key: BlockKey,
    /// Bytes of it, relative to its start.
    pub range: Range<u64>,
    /// Epoch of the view by which the node was chosen.
    pub epoch: u64,
    /// Reads of one lane are best answered one after the other: who reads in sequence uses
    /// the first bytes first. `None`: whatever is quickest.
    pub lane: Option<u32>,
}

/// Bytes of a block. A run that was asked for may come as several that adjoin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPart {
    /// Relative to the block's start.
    pub offset: u64,
    /// The bytes, already compared with their checksum.
    pub bytes: Bytes,
}

/// Bytes for a node to keep.
#[derive(Debug, Clone)]
pub struct BlockWrite {
    /// Which block.
    pub key: BlockKey,
    /// The mount, so that an unmount can forget.
    pub mount: MountId,
    /// Bytes in this block of its content.
    pub block_length: u64,
    /// Where the bytes begin, relative to the block's start.
    pub offset: u64,
    /// The bytes, in order.
    pub pieces: Vec<Bytes>,
    /// Of all pieces together, computed when they arrived from where they are true.
    pub checksum: Checksum,
}

impl BlockExtent {
    /// The same for a node that counts from the first block on: none of them if it begins
    /// elsewhere.
    pub(crate) fn head(&self) -> Self {
        Self {
            first: 0,
            blocks: if self.first > 0 { 0 } else { self.blocks },
            ..*self
        }
    }
}

impl BlockWrite {
    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a node did with bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockStored {
    /// It keeps them.
    Stored,
    /// It had them.
    AlreadyPresent,
    /// It does not want them now, and why.
    Rejected(String),
    /// They came under a lease that was lost, and were not kept.
    Late,
}

/// What a node did with bytes under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockFilled {
    /// With the bytes.
    pub stored: BlockStored,
    /// Others wait for more of the block.
    pub awaited: bool,
}

/// Which blocks to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockSelector {
    /// One.
    Block(BlockKey),
    /// All of a content.
    Content(ContentId),
    /// All of a mount.
    Mount(MountId),
}

/// A node that could not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It cannot be reached.
    #[error("the block node at {address} cannot be reached: {cause}")]
    Unreachable {
        /// Where it was expected.
        address: String,
        /// What happened.
        cause: String,
    },
    /// It did not answer in time.
    #[error("the block node at {address} did not answer within {after:?}")]
    Timeout {
        /// Where.
        address: String,
        /// How long was waited.
        after: Duration,
    },
    /// What it sent does not match its checksum.
    #[error("the block node at {address} sent bytes of {key} that do not match their checksum")]
    Corrupt {
        /// Where.
        address: String,
        /// Of which block.
        key: BlockKey,
    },
    /// It refused, or its answer cannot be used.
    #[error("the block node at {address} refused: {cause}")]
    Refused {
        /// Where.
        address: String,
        /// What it said.
        cause: String,
    },
}

impl arustio_types::Classify for BlockError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { .. } | Self::Refused { .. } => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
        }
    }
}

/// A client without block nodes: everything comes from the under file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBlocks;

#[async_trait]
impl BlockClient for NoBlocks {
    async fn read(
        &self,
        _: &NodeInfo,
        _: BlockRead,
        _: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        Ok(Vec::new())
    }

    async fn write(
        &self,
        _: &NodeInfo,
        _: BlockWrite,
        _: Duration,
    ) -> Result<BlockStored, BlockError> {
        Ok(BlockStored::Rejected("there is no cache".to_owned()))
    }

    async fn cached(
        &self,
        _: &NodeInfo,
        extents: &[BlockExtent],
        _: Duration,
    ) -> Result<Vec<u64>, BlockError> {
        Ok(vec![0; extents.len()])
    }

    async fn remove(&self, _: &NodeInfo, _: BlockSelector, _: Duration) -> Result<u64, BlockError> {
        Ok(0)
    }
}
