//! One file of a load: what is there, what goes from node to node, what is verified.

use std::ops::Range;

use arustio_types::cluster::{ClusterView, NodeInfo};
use arustio_types::{BlockKey, Classify as _, ErrorKind};
use arustio_ufs::UfsError;
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::{Duration, Instant};

use super::{Job, STEP};
use crate::block::fill::checksum;
use crate::block::{BlockExtent, BlockPart, BlockRead, BlockStored, BlockWrite};
use crate::error::{FsError, Result};
use crate::read::fetch::Fetcher;
use crate::read::pin::Counters;
use crate::read::plan;

/// Blocks that are looked at together.
const TOGETHER: usize = 1024;
/// Runs of blocks of one file at once.
const RUNS: usize = 8;
/// How long a node may take to count blocks.
const COUNTING: Duration = Duration::from_secs(2);
/// How long a node may take for bytes; more than readers allow, since nobody waits.
pub(super) const PATIENT: Duration = Duration::from_secs(10);

/// A file, and the job that it is part of.
#[derive(Debug)]
pub(super) struct Loader<'a> {
    pub(super) job: &'a Job,
    pub(super) fetcher: Fetcher,
}

/// A block that is not on all nodes where it belongs.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub(super) key: BlockKey,
    /// Bytes of the content that are still to be brought, ascending, from and to the end of
    /// chunks.
    pub(super) missing: Vec<Range<u64>>,
    /// A node that has all of it, and those that are to get it from there.
    copy: Option<(NodeInfo, Vec<NodeInfo>)>,
}

impl Need {
    /// A block of which these bytes of the content come from the store.
    #[cfg(test)]
    pub(super) fn of(key: BlockKey, missing: Vec<Range<u64>>) -> Self {
        Self {
            key,
            missing,
            copy: None,
        }
    }
}

impl Loader<'_> {
    /// The blocks of the file, some at a time.
    fn blocks(&self) -> impl Iterator<Item = Vec<BlockKey>> {
        let pin = &self.fetcher.pin;
        let last = pin.length().div_ceil(pin.block_size.bytes());
        (0..last).step_by(TOGETHER).map(move |first| {
            let end = last.min(first + TOGETHER as u64);
            (first..end).map(|index| self.fetcher.key(index)).collect()
        })
    }

    pub(super) fn range(&self, key: &BlockKey) -> Range<u64> {
        let start = key.start();
        start..start + self.length(key)
    }

    fn length(&self, key: &BlockKey) -> u64 {
        key.len_in(self.fetcher.pin.length())
    }

    /// Tells of bytes that nodes had.
    async fn was_there(&self, bytes: u64) {
        Counters::add(&self.fetcher.counters.cache_bytes, bytes);
        self.job.came(bytes).await;
    }

    /// Brings all blocks to the nodes where they belong.
    pub(super) async fn load(&self) -> Result<()> {
        for some in self.blocks() {
            let needs = self.survey(&some).await?;
            let all: u64 = some.iter().map(|key| self.length(key)).sum();
            let missing: u64 = needs.iter().map(|need| self.length(&need.key)).sum();
            self.was_there(all - missing).await;
            self.see_to(needs, true).await?;
        }
        Ok(())
    }

    /// Brings these to the nodes where they belong; `news` tells of their bytes.
    async fn see_to(&self, needs: Vec<Need>, news: bool) -> Result<()> {
        let keys: Vec<BlockKey> = needs.iter().map(|need| need.key).collect();
        let mut fetched = self.copy_all(needs, news).await?;
        fetched.sort_by_key(|need| need.key.index);
        if !fetched.is_empty() {
            let runs = futures::stream::iter(self.runs(fetched));
            let brought = runs.map(|run| self.bring(run, news)).buffer_unordered(RUNS);
            brought.try_collect::<Vec<()>>().await?;
            // What others have brought is on one node only.
            if self.job.replicas > 1 {
                let rest = self.survey(&keys).await?;
                let rest = self.copy_all(rest, false).await?;
                return self.all_copied(&rest);
            }
        }
        Ok(())
    }

    fn all_copied(&self, rest: &[Need]) -> Result<()> {
        if rest.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} of its blocks are not on all {} nodes where they belong; see: arustio fs location",
            rest.len(),
            self.job.replicas
        );
        Err(FsError::new(ErrorKind::Unavailable, message))
    }

    /// Which of these blocks are not on all nodes where they belong.
    async fn survey(&self, blocks: &[BlockKey]) -> Result<Vec<Need>> {
        let client = &self.job.client;
        let view = client.metadata.cluster_view().await?;
        let one = |key: &BlockKey| BlockExtent {
            content: key.content,
            size: key.size,
            first: key.index,
            blocks: 1,
        };
        let extents: Vec<_> = blocks.iter().map(one).collect();
        let counts = view.nodes.iter().map(|node| self.count(node, &extents));
        let counts = join_all(counts).await;
        let mut needs = Vec::new();
        for (at, key) in blocks.iter().enumerate() {
            let range = self.range(key);
            let whole = |node: &NodeInfo| {
                let nodes = view.nodes.iter().zip(&counts);
                let mut counted = nodes.filter(|(counted, _)| counted.id == node.id);
                let count = counted.find_map(|(_, counts)| counts.get(at).copied());
                count.is_some_and(|bytes| bytes >= range.end - range.start)
            };
            let now = Instant::now();
            let takers = client.owners.takers(&view, key, self.job.replicas, now);
            let lacking = takers.iter().filter(|node| !whole(node));
            let lacking: Vec<NodeInfo> = lacking.map(|node| (*node).clone()).collect();
            if lacking.is_empty() && !takers.is_empty() {
                continue;
            }
            let source = view.nodes.iter().find(|node| whole(node)).cloned();
            needs.push(Need {
                key: *key,
                missing: vec![range],
                copy: source.map(|source| (source, lacking)),
            });
        }
        Ok(needs)
    }

    /// Bytes that a node has of each; none if it cannot be asked.
    async fn count(&self, node: &NodeInfo, extents: &[BlockExtent]) -> Vec<u64> {
        let client = &self.job.client;
        if !client.owners.asking(node.id, Instant::now()) {
            return Vec::new();
        }
        match client.blocks.cached(node, extents, COUNTING).await {
            Ok(counts) => {
                client.owners.succeeded(node.id);
                counts
            }
            Err(error) => {
                tracing::debug!(%error, "a block node does not count");
                client.owners.failed(node.id, Instant::now());
                Vec::new()
            }
        }
    }

    /// Copies what some node has; gives those back that have to come from the store.
    async fn copy_all(&self, needs: Vec<Need>, news: bool) -> Result<Vec<Need>> {
        let copies = futures::stream::iter(needs).map(|need| self.copy_one(need, news));
        let copies: Vec<Option<Need>> = copies.buffer_unordered(RUNS).try_collect().await?;
        Ok(copies.into_iter().flatten().collect())
    }

    /// Copies a block; gives it back if it has to come from the store.
    async fn copy_one(&self, need: Need, news: bool) -> Result<Option<Need>> {
        if !self.copy(&need).await? {
            return Ok(Some(need));
        }
        if news {
            self.was_there(self.length(&need.key)).await;
        }
        Ok(None)
    }

    /// Copies a block from the node that has it to those that lack it. False: there is none,
    /// or not any more, or somebody does not take it.
    async fn copy(&self, need: &Need) -> Result<bool> {
        let Some((source, lacking)) = &need.copy else {
            return Ok(false);
        };
        let range = self.range(&need.key);
        for step in plan::segments(range, STEP, STEP) {
            let _room = self.job.room(step.end - step.start).await?;
            let Some(parts) = self.read_back(source, need.key, &step).await else {
                return Ok(false);
            };
            let pieces: Vec<_> = parts.into_iter().map(|part| part.bytes).collect();
            let write = BlockWrite {
                key: need.key,
                mount: self.fetcher.pin.mounted.id(),
                block_length: self.length(&need.key),
                offset: step.start - need.key.start(),
                checksum: checksum(&pieces),
                pieces,
            };
            let given = lacking.iter().map(|node| self.give(node, write.clone()));
            if join_all(given).await.iter().any(Result::is_err) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All of a range of the content in a block, compared with its checksums.
    async fn read_back(
        &self,
        node: &NodeInfo,
        key: BlockKey,
        range: &Range<u64>,
    ) -> Option<Vec<BlockPart>> {
        let start = key.start();
        let wanted = range.start - start..range.end - start;
        let request = BlockRead {
            key,
            range: wanted.clone(),
            epoch: 0,
            lane: None,
        };
        let blocks = &self.job.client.blocks;
        let mut parts = match blocks.read_checked(node, request, PATIENT).await {
            Ok(parts) => parts,
            Err(error) => {
                self.fetcher.failed_at(node, key, &error).await;
                return None;
            }
        };
        parts.sort_by_key(|part| part.offset);
        let mut at = wanted.start;
        for part in &parts {
            if part.offset != at {
                return None;
            }
            at += part.bytes.len() as u64;
        }
        (at == wanted.end).then_some(parts)
    }

    /// Gives bytes to a node.
    pub(super) async fn give(&self, node: &NodeInfo, write: BlockWrite) -> Result<()> {
        give(&self.job.client, node, write, None).await
    }

    /// Compares what is cached with its checksums and the version with the store. What is
    /// missing or damaged is brought once more.
    pub(super) async fn verify(&self) -> Result<()> {
        self.compare_version().await?;
        for some in self.blocks() {
            let wrong = self.wrong(&some).await?;
            if !wrong.is_empty() {
                self.mend(&wrong).await?;
            }
        }
        Ok(())
    }

    /// Brings these once more; they have to be there then.
    async fn mend(&self, wrong: &[BlockKey]) -> Result<()> {
        let needs = self.survey(wrong).await?;
        self.see_to(needs, false).await?;
        let still = self.wrong(wrong).await?;
        if still.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} of its blocks are missing or damaged on block nodes again, right after they were \
             brought there: the cache is too small, or a node is not sound",
            still.len()
        );
        Err(FsError::new(ErrorKind::NoSpace, message))
    }

    async fn compare_version(&self) -> Result<()> {
        let pin = &self.fetcher.pin;
        Counters::add(&self.fetcher.counters.ufs_requests, 1);
        let found = pin.mounted.ufs.head(&pin.source.key).await;
        let found = found.map_err(|error: UfsError| match error.kind() {
            ErrorKind::NotFound | ErrorKind::Stale => pin.stale(),
            _ => self
                .job
                .client
                .ufs_failed(&pin.mounted, &pin.status.path, error),
        })?;
        match found {
            Some(entry) if entry.version == pin.source.version => Ok(()),
            _ => Err(pin.stale()),
        }
    }

    /// Those that cannot be read back whole from every node where they belong.
    async fn wrong(&self, blocks: &[BlockKey]) -> Result<Vec<BlockKey>> {
        let view = self.job.client.metadata.cluster_view().await?;
        let looks = futures::stream::iter(blocks.to_vec()).map(|key| self.is_wrong(&view, key));
        let looks: Vec<Option<BlockKey>> = looks.buffer_unordered(RUNS).try_collect().await?;
        Ok(looks.into_iter().flatten().collect())
    }

    async fn is_wrong(&self, view: &ClusterView, key: BlockKey) -> Result<Option<BlockKey>> {
        let owners = &self.job.client.owners;
        let takers = owners.takers(view, &key, self.job.replicas, Instant::now());
        for node in &takers {
            for step in plan::segments(self.range(&key), STEP, STEP) {
                let _room = self.job.room(step.end - step.start).await?;
                if self.read_back(node, key, &step).await.is_none() {
                    return Ok(Some(key));
                }
            }
        }
        Ok(takers.is_empty().then_some(key))
    }

    /// Cuts blocks into runs that are each one request to the store (R6).
    fn runs(&self, needs: Vec<Need>) -> Vec<Vec<Need>> {
        let read = &self.job.client.config.read;
        let length = self.fetcher.pin.length();
        let most = match length <= read.whole_object.get() {
            true => length,
            false => read.part.get().max(self.fetcher.pin.block_size.bytes()),
        };
        let mut runs: Vec<Vec<Need>> = Vec::new();
        for need in needs {
            let run = runs.last_mut().filter(|run| {
                let start = run.first().map_or(0, |first| first.key.start());
                let next = run.last().map_or(0, |last| last.key.index + 1);
                next == need.key.index && self.range(&need.key).end - start <= most
            });
            match run {
                Some(run) => run.push(need),
                None => runs.push(vec![need]),
            }
        }
        runs
    }
}

/// Gives bytes to a node, under a lease or without one.
pub(super) async fn give(
    client: &crate::client::Client,
    node: &NodeInfo,
    write: BlockWrite,
    lease: Option<u64>,
) -> Result<()> {
    let stored = match lease {
        Some(lease) => {
            let filled = client.blocks.fill(node, lease, write, PATIENT).await;
            filled.map(|filled| filled.stored)
        }
        None => client.blocks.write(node, write, PATIENT).await,
    };
    match stored {
        Ok(BlockStored::Stored | BlockStored::AlreadyPresent) => {
            client.owners.succeeded(node.id);
            Ok(())
        }
        Ok(BlockStored::Rejected(why)) => {
            let message = format!("the block node at {} does not keep it: {why}", node.address);
            Err(FsError::new(ErrorKind::NoSpace, message))
        }
        Ok(BlockStored::Late) => {
            let message = format!("the block node at {} gave the lease away", node.address);
            Err(FsError::new(ErrorKind::Timeout, message))
        }
        Err(error) => {
            client.owners.failed(node.id, Instant::now());
            Err(FsError::caused_by(error))
        }
    }
}
