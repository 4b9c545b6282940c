//! What a handle is pinned to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arustio_types::meta::FileStatus;
use arustio_types::{BlockSize, ContentId, ErrorKind, Source};

use crate::block::crowd::Crowd;
use crate::client::Client;
use crate::error::{FsError, Result};
use crate::fs::ReadStats;
use crate::resolve::Mounted;

/// One content, and where its bytes can be fetched.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) status: Arc<FileStatus>,
    pub(crate) mounted: Arc<Mounted>,
    pub(crate) content: ContentId,
    pub(crate) source: Source,
    pub(crate) block_size: BlockSize,
    /// Those who wait for what is brought of it.
    pub(crate) crowd: Arc<Crowd>,
}

impl Pin {
    /// Pins what a status says.
    pub(crate) async fn new(client: &Client, status: FileStatus) -> Result<Self> {
        let refuse = |kind, message: &str| FsError::on(kind, &status.path, message);
        if status.is_dir() {
            let message = "it is a directory; name a file in it";
            return Err(refuse(ErrorKind::IsADirectory, message));
        }
        let (Some(content), Some(source), Some(mount)) =
            (status.content_id(), status.source.clone(), status.mount)
        else {
            let message = "its bytes are only on block nodes, which this client cannot read yet";
            return Err(refuse(ErrorKind::Unsupported, message));
        };
        Ok(Self {
            mounted: client.mounted(mount).await?,
            content,
            source,
            block_size: status.block_size,
            crowd: Arc::default(),
            status: Arc::new(status),
        })
    }

    /// Bytes of the content.
    pub(crate) fn length(&self) -> u64 {
        self.status.size
    }

    /// The error of a version that is gone.
    pub(crate) fn stale(&self) -> FsError {
        FsError::on(
            ErrorKind::Stale,
            &self.status.path,
            "the file was replaced or deleted since it was opened; open it again",
        )
    }
}

/// Counters of one handle.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) cache_bytes: AtomicU64,
    pub(crate) ufs_bytes: AtomicU64,
    pub(crate) ufs_requests: AtomicU64,
    pub(crate) fills: AtomicU64,
    pub(crate) fills_dropped: AtomicU64,
    pub(crate) corrupt_blocks: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) hedges_won: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> ReadStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ReadStats {
            cache_bytes: of(&self.cache_bytes),
            ufs_bytes: of(&self.ufs_bytes),
            ufs_requests: of(&self.ufs_requests),
            fills: of(&self.fills),
            fills_dropped: of(&self.fills_dropped),
            corrupt_blocks: of(&self.corrupt_blocks),
            hedges: of(&self.hedges),
            hedges_won: of(&self.hedges_won),
        }
    }
}
