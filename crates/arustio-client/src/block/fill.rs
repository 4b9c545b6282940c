//! Sending blocks to nodes in the background.
//!
//! Bounded by bytes, and never in anybody's way: a block that does not fit is dropped
//! and counted. A reader is as fast as it would be without a cache (R4), a writer's
//! object is in the store whatever becomes of its blocks.
//!
//! A reader that has a lease sends its bytes the same way. Others may wait for them
//! ([`Crowd`]): then it waits for room itself, and what cannot be sent even so ends the
//! lease, so that they wait no longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arustio_types::cluster::NodeInfo;
use arustio_types::{Checksum, ContentId, NodeId};
use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use super::crowd::Crowd;
use super::owner::Owners;
use super::{BlockClient, BlockError, BlockSelector, BlockStored, BlockWrite, LeaseWord};
use crate::config::ReadConfig;
use crate::metadata::MetadataClient;
use crate::tasks::Tasks;

/// How long one block may take; more than a read, since nobody waits.
const FILL_DEADLINE: Duration = Duration::from_secs(10);

/// A lease of this client, at the node that gave it.
#[derive(Debug)]
pub(crate) struct Lease {
    node: NodeInfo,
    id: u64,
    /// The node has ended it, or was told to.
    over: AtomicBool,
}

impl Lease {
    pub(crate) fn new(node: NodeInfo, id: u64) -> Arc<Self> {
        Arc::new(Self {
            node,
            id,
            over: AtomicBool::new(false),
        })
    }

    /// Whether bytes under it are still wanted.
    pub(crate) fn stands(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Whether it was still standing; it is not any more.
    fn end(&self) -> bool {
        !self.over.swap(true, Ordering::Relaxed)
    }
}

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
        let permit = self.room(&write)?;
        let (answer, answered) = oneshot::channel();
        let filler = self.clone();
        self.tasks.lingering(async move {
            let taken = filler.give_all(write, None).await;
            drop(permit);
            // The reader or writer may have gone on.
            let _ = answer.send(taken);
        });
        Some(answered)
    }

    /// Sends bytes under a lease, which lasts so long without any, when there is room for
    /// them. False: they were dropped, and the lease is over, since nobody will bring them.
    pub(crate) async fn fill(
        &self,
        lease: &Arc<Lease>,
        lasts: Duration,
        write: BlockWrite,
        crowd: &Arc<Crowd>,
    ) -> bool {
        if !lease.stands() {
            return false;
        }
        let patience = crowd.patience(lasts);
        let Some(permit) = self.room_within(patience, &write).await else {
            self.say(lease, LeaseWord::GiveUp);
            return false;
        };
        let (filler, lease, crowd) = (self.clone(), Arc::clone(lease), Arc::clone(crowd));
        self.tasks.lingering(async move {
            filler.bring(&lease, write, &crowd).await;
            drop(permit);
        });
        true
    }

    async fn room_within(
        &self,
        patience: Duration,
        write: &BlockWrite,
    ) -> Option<OwnedSemaphorePermit> {
        if let Some(room) = self.room(write) {
            return Some(room);
        }
        let room = Arc::clone(&self.kib).acquire_many_owned(kib(write)?);
        timeout(patience, room).await.ok()?.ok()
    }

    /// Says something about a lease in the background; if it ends it, at most once.
    pub(crate) fn say(&self, lease: &Arc<Lease>, word: LeaseWord) {
        let renews = word == LeaseWord::Renew;
        let stands = if renews { lease.stands() } else { lease.end() };
        // Without a runtime nobody can be told: the node finds out by itself.
        if !stands || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (filler, lease) = (self.clone(), Arc::clone(lease));
        self.tasks.lingering(async move {
            let (blocks, node) = (&filler.blocks, &lease.node);
            match blocks.lease(node, lease.id, word, FILL_DEADLINE).await {
                Ok(true) => {}
                Ok(false) => drop(lease.end()),
                Err(error) => tracing::debug!(%error, "a lease ends by itself"),
            }
        });
    }

    async fn bring(&self, lease: &Arc<Lease>, write: BlockWrite, crowd: &Crowd) {
        let node = &lease.node;
        let copy = (self.replicas > 1).then(|| write.clone());
        let filled = self.blocks.fill(node, lease.id, write, FILL_DEADLINE).await;
        if let Ok(filled) = &filled {
            crowd.heard(filled.awaited);
        }
        self.brought(lease, filled.map(|filled| filled.stored));
        if let Some(copy) = copy {
            self.give_all(copy, Some(node.id)).await;
        }
    }

    fn brought(&self, lease: &Arc<Lease>, filled: Result<BlockStored, BlockError>) {
        match self.answered(&lease.node, filled) {
            Some(BlockStored::Stored | BlockStored::AlreadyPresent) => {}
            // The node has ended it.
            Some(BlockStored::Rejected(_) | BlockStored::Late) => drop(lease.end()),
            None => self.say(lease, LeaseWord::GiveUp),
        }
    }

    /// Room for bytes on their way.
    fn room(&self, write: &BlockWrite) -> Option<OwnedSemaphorePermit> {
        let kib = kib(write)?;
        Arc::clone(&self.kib).try_acquire_many_owned(kib).ok()
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

    /// Gives bytes to all nodes that own their block but one. True: some node took them.
    async fn give_all(&self, write: BlockWrite, but: Option<NodeId>) -> bool {
        let Ok(view) = self.metadata.cluster_view().await else {
            return false;
        };
        let owners = self
            .owners
            .takers(&view, &write.key, self.replicas, Instant::now());
        let others = owners.into_iter().filter(|node| Some(node.id) != but);
        let sent = others.map(|node| self.give(node, write.clone()));
        join_all(sent).await.contains(&true)
    }

    async fn give(&self, node: &NodeInfo, write: BlockWrite) -> bool {
        let stored = self.blocks.write(node, write, FILL_DEADLINE).await;
        let stored = self.answered(node, stored);
        stored.is_some_and(|stored| !matches!(stored, BlockStored::Rejected(_)))
    }

    /// What a node did, if it did answer.
    fn answered(
        &self,
        node: &NodeInfo,
        stored: Result<BlockStored, BlockError>,
    ) -> Option<BlockStored> {
        match stored {
            Ok(stored) => {
                self.owners.succeeded(node.id);
                Some(stored)
            }
            Err(error) => {
                tracing::debug!(%error, "a block was not cached");
                self.owners.failed(node.id, Instant::now());
                None
            }
        }
    }
}

fn kib(write: &BlockWrite) -> Option<u32> {
    u32::try_from(write.len().div_ceil(1 << 10)).ok()
}

/// The checksum of pieces, in order.
pub(crate) fn checksum(pieces: &[Bytes]) -> Checksum {
    let crc = pieces
        .iter()
        .fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
    Checksum(crc)
}
