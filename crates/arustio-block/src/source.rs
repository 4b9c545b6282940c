//! Where a node gets bytes that it does not have (`fill = node`).
//!
//! The server composes a source from a UFS and the mount's credential; this crate never
//! knows what is behind it.

use std::fmt;
use std::ops::Range;

use arustio_types::{BlockKey, Classify, ErrorKind, MountId, Source};
use async_trait::async_trait;
use bytes::Bytes;

/// What to fetch.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// The block.
    pub key: BlockKey,
    /// The range of the block.
    pub range: Range<u64>,
    /// The mount whose UFS and credential to use.
    pub mount: MountId,
    /// The object and the version that holds the content; a precondition (R1).
    pub source: Source,
    /// Length of the whole content, to compare with the store's answer.
    pub content_len: u64,
}

/// Loads bytes on a miss.
///
/// # Contract
/// - Called by [`crate::BlockNode`] from a task of its own, at most once at a time for
///   any byte of a block; a bounded number at a time altogether.
/// - Returns exactly the bytes of the range, of exactly the version that is asked for,
///   or an error: `Stale` if that version is gone.
/// - Retries of what may pass are inside; the caller does not loop.
/// - The future runs to its end unless the node closes.
#[async_trait]
pub trait BlockSource: Send + Sync + fmt::Debug {
    /// Reads a range of a block from where its content comes from.
    async fn fetch(&self, request: &FetchRequest) -> Result<Bytes, SourceError>;
}

/// A source could not deliver. Cheap to clone, since several may have waited for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    kind: ErrorKind,
    message: String,
}

impl SourceError {
    /// An error of a kind, with a message that names the object and the reason and
    /// contains no secret.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl Classify for SourceError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}
