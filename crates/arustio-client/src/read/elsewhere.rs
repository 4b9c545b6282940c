//! Where else bytes of a block are, when the node that owns it is slow or has not got them.
//!
//! Late: the next replica, or the store, is asked as well ([`Hedges`]). Missing: other
//! replicas, and nodes that drain and owned the block, are asked one after the other; what
//! they have is offered to the owner, so that reading moves blocks off a node that is to go.
//!
//! [`Hedges`]: crate::block::hedge::Hedges

use std::ops::Range;
use std::time::Duration;

use arustio_types::NodeId;
use arustio_types::cluster::ClusterView;
use futures::TryStreamExt as _;
use tokio::time::Instant;

use super::fetch::Fetcher;
use super::pin::Counters;
use crate::block::fill::checksum;
use crate::block::{BlockPart, BlockRead, BlockWrite};

/// How long a node is waited for at least before the store is asked as well: a request to a
/// store seldom takes less, and costs money.
pub(super) const STORE_FLOOR: Duration = Duration::from_millis(100);

impl Fetcher {
    /// What to wait for at least before anybody else is asked.
    pub(super) fn hedge_floor(&self) -> Duration {
        match self.client.config.read.replicas {
            0 | 1 => STORE_FLOOR,
            _ => Duration::ZERO,
        }
    }

    /// The bytes from anybody but `slow`, for a reader that has waited long enough.
    pub(super) async fn instead(
        &self,
        view: &ClusterView,
        slow: NodeId,
        request: &BlockRead,
    ) -> Option<Vec<BlockPart>> {
        let alone = self.client.config.read.replicas <= 1;
        if let Some(stream) = self.stream.as_ref().filter(|_| alone) {
            // Blocks of a stream come one after the other: one whose turn has not come is not
            // late, and a store that is asked for it as well is asked in vain.
            stream.silent(STORE_FLOOR).await;
        }
        Counters::add(&self.counters.hedges, 1);
        let parts = match alone {
            true => Vec::new(),
            false => self.elsewhere(view, Some(slow), request).await,
        };
        match parts.is_empty() {
            true => self.ask_store(request).await,
            false => Some(parts),
        }
    }

    /// What other nodes have of it, for a block that its owner has not. Faults are misses.
    pub(super) async fn elsewhere(
        &self,
        view: &ClusterView,
        owner: Option<NodeId>,
        request: &BlockRead,
    ) -> Vec<BlockPart> {
        let (owners, read) = (&self.client.owners, &self.client.config.read);
        for node in owners.others(view, &request.key, owner, read.replicas) {
            if !owners.asking(node.id, Instant::now()) {
                continue;
            }
            let asked = self
                .client
                .blocks
                .read(node, request.clone(), read.node_timeout);
            match asked.await {
                Ok(parts) => {
                    owners.succeeded(node.id);
                    if !parts.is_empty() {
                        self.count_cached(&parts);
                        self.pass_on(request, &parts);
                        return parts;
                    }
                }
                Err(error) => self.failed_at(node, request.key, &error).await,
            }
        }
        Vec::new()
    }

    async fn ask_store(&self, request: &BlockRead) -> Option<Vec<BlockPart>> {
        let start = request.key.start();
        let range: Range<u64> = start + request.range.start..start + request.range.end;
        let pieces = self.ask_ufs(range).await.ok()?;
        let part = |piece: super::fetch::Piece| BlockPart {
            offset: piece.at - start,
            bytes: piece.bytes,
        };
        pieces.map_ok(part).try_collect().await.ok()
    }

    /// Offers what another node had to those that own the block. Its bytes were compared with
    /// the checksum that they came with; they are summed again, since they may be a part.
    fn pass_on(&self, request: &BlockRead, parts: &[BlockPart]) {
        let mut runs: Vec<BlockWrite> = Vec::new();
        for part in parts {
            match runs.last_mut() {
                Some(run) if run.offset + run.len() == part.offset => {
                    run.pieces.push(part.bytes.clone());
                }
                _ => runs.push(BlockWrite {
                    key: request.key,
                    mount: self.pin.mounted.id(),
                    block_length: request.key.len_in(self.pin.length()),
                    offset: part.offset,
                    checksum: checksum(&[]),
                    pieces: vec![part.bytes.clone()],
                }),
            }
        }
        for mut run in runs {
            run.checksum = checksum(&run.pieces);
            self.offered(self.client.filler.offer(run).is_some());
        }
    }
}
