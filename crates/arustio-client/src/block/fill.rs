//! Sending blocks to nodes in the background.
//!
//! Bounded by bytes, and never in anybody's way: a block that does not fit is dropped
//! and counted. A reader is as fast as it would be without a cache (R4), a writer's
//! object is in the store whatever becomes of its blocks.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::cluster::NodeInfo;
use arustio_types::{Checksum, ContentId};
use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::owner::Owners;
use super::{BlockClient, BlockSelector, BlockStored, BlockWrite};
use crate::config::ReadConfig;
use crate::metadata::MetadataClient;
use crate::tasks::Tasks;

/// How long one block may take; more than a read, since nobody waits.
const FILL_DEADLINE: Duration = Duration::from_secs(10);

/// Sends blocks, at most so many bytes at once.
#[derive(Debug, Clone)]
pub(crate) struct Filler {
    metadata: Arc<dyn MetadataClient>,
    blocks: Arc<dyn BlockClient>,
    owners: Arc<Owners>,
    kib: Arc<Semaphore>,
    tasks: Tasks,
    replicas: usize,
    enabled: bool,
}

impl Filler {
    pub(crate) fn new(
        metadata: Arc<dyn MetadataClient>,
        blocks: Arc<dyn BlockClient>,
        owners: Arc<Owners>,
        tasks: Tasks,
        read: &ReadConfig,
    ) -> Self {
        let kib = usize::try_from(read.fill_buffer.get() >> 10).unwrap_or(usize::MAX);
        Self {
            metadata,
            blocks,
            owners,
            kib: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))),
            tasks,
            replicas: read.replicas,
            enabled: read.cache,
        }
    }

    /// Whether blocks are sent at all.
    pub(crate) fn enabled(&self) -> bool {
        self.enabled
    }

    /// Offers bytes of a block. `None`: dropped. Otherwise the answer says later whether
    /// a node took them.
    pub(crate) fn offer(&self, write: BlockWrite) -> Option<oneshot::Receiver<bool>> {
        if !self.enabled || write.is_empty() {
            return None;
        }
        let kib = u32::try_from(write.len().div_ceil(1 << 10)).ok()?;
        let permit = Arc::clone(&self.kib).try_acquire_many_owned(kib).ok()?;
        let (answer, answered) = oneshot::channel();
        let filler = self.clone();
        self.tasks.lingering(async move {
            let taken = filler.send(write).await;
            drop(permit);
            // The reader or writer may have gone on.
            let _ = answer.send(taken);
        });
        Some(answered)
    }

    /// Makes every node forget a content, in the background.
    pub(crate) fn forget(&self, content: ContentId) {
        if !self.enabled {
            return;
        }
        let filler = self.clone();
        self.tasks.lingering(async move {
            let Ok(view) = filler.metadata.cluster_view().await else {
                return;
            };
            for node in &view.nodes {
                let selector = BlockSelector::Content(content);
                let removed = filler.blocks.remove(node, selector, FILL_DEADLINE).await;
                if let Err(error) = removed {
                    tracing::debug!(%error, "blocks of an abandoned write stay until evicted");
                }
            }
        });
    }

    async fn send(&self, write: BlockWrite) -> bool {
        let Ok(view) = self.metadata.cluster_view().await else {
            return false;
        };
        let owners = self
            .owners
            .takers(&view, &write.key, self.replicas, Instant::now());
        let sent = owners.iter().map(|node| self.give(node, write.clone()));
        join_all(sent).await.contains(&true)
    }

    async fn give(&self, node: &NodeInfo, write: BlockWrite) -> bool {
        match self.blocks.write(node, write, FILL_DEADLINE).await {
            Ok(stored) => {
                self.owners.succeeded(node.id);
                !matches!(stored, BlockStored::Rejected(_))
            }
            Err(error) => {
                tracing::debug!(%error, "a block was not cached");
                self.owners.failed(node.id, Instant::now());
                false
            }
        }
    }
}

/// The checksum of pieces, in order.
pub(crate) fn checksum(pieces: &[Bytes]) -> Checksum {
    let crc = pieces
        .iter()
        .fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
    Checksum(crc)
}
