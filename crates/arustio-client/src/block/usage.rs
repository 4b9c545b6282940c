//! How much of a file the block nodes hold.

use std::time::Duration;

use arustio_types::meta::FileStatus;
use futures::future::join_all;

use super::BlockExtent;
use crate::client::Client;

/// Blocks that one request asks about.
const MOST_BLOCKS: u64 = 100_000;
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

impl Client {
    /// Bytes of each file that nodes hold, at most its size. `None` for a directory, for
    /// a file too large to be counted, and where a node does not answer.
    pub(crate) async fn cached_bytes(&self, files: &[FileStatus]) -> Vec<Option<u64>> {
        let mut counted = Vec::with_capacity(files.len());
        let mut rest = files;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(some(rest));
            counted.extend(self.count(now).await);
            rest = later;
        }
        counted
    }

    async fn count(&self, files: &[FileStatus]) -> Vec<Option<u64>> {
        let unknown = || vec![None; files.len()];
        let extents: Vec<BlockExtent> = files.iter().filter_map(extent).collect();
        let Ok(view) = self.metadata.cluster_view().await else {
            return unknown();
        };
        let asked = view
            .nodes
            .iter()
            .map(|node| self.blocks.cached(node, &extents, DEADLINE));
        let mut sums = vec![0u64; extents.len()];
        for answer in join_all(asked).await {
            let Ok(present) = answer else {
                return unknown();
            };
            for (sum, present) in sums.iter_mut().zip(present) {
                *sum = sum.saturating_add(present);
            }
        }
        let mut sums = sums.into_iter();
        files
            .iter()
            .map(|file| {
                extent(file)?;
                // Blocks of two nodes may overlap while a node joins.
                sums.next().map(|sum| sum.min(file.size))
            })
            .collect()
    }
}

/// How many files fit into one request; at least one.
fn some(files: &[FileStatus]) -> usize {
    let mut blocks = 0;
    let fits = |file: &&FileStatus| {
        blocks += extent(file).map_or(0, |extent| extent.blocks);
        blocks <= MOST_BLOCKS
    };
    files.iter().take_while(fits).count().max(1)
}

pub(super) fn extent(file: &FileStatus) -> Option<BlockExtent> {
    let blocks = file.size.div_ceil(file.block_size.bytes());
    (blocks <= MOST_BLOCKS).then_some(BlockExtent {
        content: file.content_id()?,
        size: file.block_size,
        first: 0,
        blocks,
    })
}
