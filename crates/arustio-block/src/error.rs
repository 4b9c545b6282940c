//! What a block store can fail with.
//!
//! Few things: faults of memory and disk are misses and rejections, not errors. What
//! remains are calls that make no sense and a directory that cannot be used at start.

use std::io;
use std::path::PathBuf;

use arustio_types::{BlockKey, Classify, ErrorKind};

/// An error of the block cache.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The block length does not fit the key.
    #[error("block {key} cannot be {block_len} bytes long: a block of this size has 1 to {} bytes", key.size.bytes())]
    BlockLength {
        /// The block.
        key: BlockKey,
        /// What was claimed.
        block_len: u64,
    },
    /// The payload does not lie inside the block.
    #[error("bytes {offset}..{offset}+{len} do not lie inside block {key} of {block_len} bytes")]
    OutOfBlock {
        /// The block.
        key: BlockKey,
        /// Start of the payload in the block.
        offset: u64,
        /// Length of the payload.
        len: u64,
        /// Length of the block.
        block_len: u64,
    },
    /// A range that a reader would fill is not one of whole chunks.
    #[error("bytes {}..{} of block {key} are no run of whole chunks of it", range.start, range.end)]
    Misplaced {
        /// The block.
        key: BlockKey,
        /// The range.
        range: std::ops::Range<u64>,
    },
    /// Another process uses the cache directory.
    #[error("cache directory {} is in use by another process{}: stop that process, or give this one another directory", dir.display(), holder(*pid))]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The other process, where it left its number.
        pid: Option<u32>,
    },
    /// The cache directory cannot be used.
    #[error("cannot use cache directory {}: {operation} failed: {source}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The mark that protects a block from eviction could not be changed.
    #[error("cannot change the protection of block {key} on disk: {source}")]
    Pin {
        /// The block.
        key: BlockKey,
        /// Why it failed.
        source: io::Error,
    },
    /// A setting makes no sense.
    #[error("setting {name} = {value} of the block cache is refused: {reason}")]
    Setting {
        /// The setting's path in the configuration.
        name: &'static str,
        /// What it was.
        value: String,
        /// What it has to be.
        reason: &'static str,
    },
    /// The machine did not tell its sizes.
    #[error("cannot find out {what}: {source}; give the cache capacities in the configuration")]
    Probe {
        /// What was asked for.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The block could not be fetched from its source.
    #[error("cannot fetch bytes {}..{} of block {key}: {source}", range.start, range.end)]
    Fetch {
        /// The block.
        key: BlockKey,
        /// The range of the block that was asked for.
        range: std::ops::Range<u64>,
        /// Why.
        source: crate::source::SourceError,
    },
    /// A fetch was asked of a node that has no source.
    #[error(
        "this node reads no UFS itself (fill = client): block {key} has to be filled by the client"
    )]
    NoSource {
        /// The block.
        key: BlockKey,
    },
    /// The node is closing.
    #[error("the block node is closing")]
    Closed,
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl Classify for BlockError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::BlockLength { .. }
            | Self::OutOfBlock { .. }
            | Self::Misplaced { .. }
            | Self::Setting { .. } => ErrorKind::InvalidArgument,
            Self::Locked { .. } => ErrorKind::Conflict,
            Self::Directory { .. } | Self::Probe { .. } | Self::Pin { .. } | Self::Closed => {
                ErrorKind::Unavailable
            }
            Self::Fetch { source, .. } => source.kind(),
            Self::NoSource { .. } => ErrorKind::Unsupported,
        }
    }
}
