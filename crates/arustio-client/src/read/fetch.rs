//! One range: what the nodes have of it, the rest from the store, and what was fetched
//! goes to the nodes.
//!
//! Every request to the store carries the pinned version, and the identity and total
//! length of every answer are compared (R1). Bytes that come from the store are cut into
//! blocks on arrival and summed there, so that a node can never be given others.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::block::slices;
use arustio_types::cluster::NodeInfo;
use arustio_types::{BlockKey, Classify, ErrorKind};
use arustio_ufs::{ReadOptions, UfsError};
use bytes::{Buf as _, Bytes};
use futures::future::join_all;
use futures::stream::{BoxStream, try_unfold};
use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until};

use super::pin::{Counters, Pin};
use crate::block::fill::checksum;
use crate::block::{BlockError, BlockPart, BlockRead, BlockSelector, BlockWrite, PartSink};
use crate::client::Client;
use crate::error::{FsError, Result};

/// Bytes at a position of the content.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) at: u64,
    pub(crate) bytes: Bytes,
}

impl Piece {
    pub(crate) fn range(&self) -> Range<u64> {
        self.at..self.at + self.bytes.len() as u64
    }

    /// The part of it that lies in `range`.
    pub(crate) fn within(&self, range: &Range<u64>) -> Option<Piece> {
        let own = self.range();
        let start = own.start.max(range.start);
        let end = own.end.min(range.end);
        if start >= end {
            return None;
        }
        let offset = |at: u64| usize::try_from(at - own.start).unwrap_or(usize::MAX);
        Some(Piece {
            at: start,
            bytes: self.bytes.slice(offset(start)..offset(end)),
        })
    }
}

/// A pinned content, read by one handle.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    pub(crate) client: Arc<Client>,
    pub(crate) pin: Arc<Pin>,
    pub(crate) counters: Arc<Counters>,
    /// Of a stream.
    pub(crate) stream: Option<StreamMark>,
}

/// What the ranges of one stream share.
#[derive(Debug, Clone)]
pub(crate) struct StreamMark {
    /// Its first bytes are used first.
    pub(crate) lane: u32,
    /// When something last came for it from a node.
    heard: Arc<Mutex<Instant>>,
}

impl StreamMark {
    pub(crate) fn new(lane: u32) -> Self {
        Self {
            lane,
            heard: Arc::new(Mutex::new(Instant::now())),
        }
    }

    fn came(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Waits until nothing has come for so long. Safe to drop.
    pub(super) async fn silent(&self, long: Duration) {
        loop {
            let until = *self.heard.lock() + long;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// What a node gave of a block.
#[derive(Debug, Default)]
struct Came {
    bytes: u64,
    /// Without what was handed over already.
    parts: Vec<BlockPart>,
}

impl Came {
    fn together(parts: Vec<BlockPart>) -> Self {
        Self {
            bytes: parts.iter().map(|part| part.bytes.len() as u64).sum(),
            parts,
        }
    }

    fn handed_over(bytes: u64) -> Self {
        Self {
            bytes,
            parts: Vec::new(),
        }
    }
}

impl Fetcher {
    /// Blocks of a mount that is gone may still be cached: they are not handed out (N8).
    pub(crate) async fn check_mount(&self) -> Result<()> {
        let stands = self.client.stands(self.pin.mounted.id()).await;
        stands.map_err(|_| self.pin.stale())
    }

    /// What the block nodes have of a range, in order. Faults are misses.
    pub(crate) async fn cached(&self, range: &Range<u64>) -> Vec<Piece> {
        if !self.client.config.read.cache || range.is_empty() {
            return Vec::new();
        }
        let size = self.pin.block_size;
        let blocks = slices(size, range.clone(), self.pin.length());
        let reads = blocks.map(|slice| {
            let key = self.key(slice.index);
            async move {
                let parts = self.ask_node(key, slice.range.clone(), None).await;
                let place = move |part: BlockPart| Piece {
                    at: key.start() + part.offset,
                    bytes: part.bytes,
                };
                parts.into_iter().map(place).collect::<Vec<_>>()
            }
        });
        let found = join_all(reads).await;
        let pieces = found
            .into_iter()
            .flatten()
            .filter_map(|piece| piece.within(range));
        let mut pieces: Vec<Piece> = pieces.collect();
        pieces.sort_by_key(|piece| piece.at);
        pieces
    }

    /// The same, handed over as it comes: the bytes of each block in order, and some perhaps
    /// twice.
    pub(crate) async fn cached_into(&self, range: &Range<u64>, pieces: UnboundedSender<Piece>) {
        if !self.client.config.read.cache || range.is_empty() {
            return;
        }
        let blocks = slices(self.pin.block_size, range.clone(), self.pin.length());
        let reads = blocks.map(|slice| {
            let (key, pieces) = (self.key(slice.index), pieces.clone());
            let mark = self.stream.clone();
            let sink: PartSink = Arc::new(move |part| {
                if let Some(mark) = &mark {
                    mark.came();
                }
                // Whoever takes them may be gone.
                let _ = pieces.send(Piece {
                    at: key.start() + part.offset,
                    bytes: part.bytes,
                });
            });
            async move {
                let parts = self.ask_node(key, slice.range, Some(&sink)).await;
                parts.into_iter().for_each(|part| sink(part));
            }
        });
        join_all(reads).await;
    }

    /// What a node has of a block. With a sink those parts are returned that did not go there.
    async fn ask_node(
        &self,
        key: BlockKey,
        range: Range<u64>,
        sink: Option<&PartSink>,
    ) -> Vec<BlockPart> {
        let Ok(view) = self.client.metadata.cluster_view().await else {
            return Vec::new();
        };
        let owners = &self.client.owners;
        let request = BlockRead {
            key,
            range,
            epoch: view.epoch,
            lane: self.stream.as_ref().map(|mark| mark.lane),
        };
        let Some(node) = owners.choose(&view, &key, Instant::now()) else {
            return Box::pin(self.elsewhere(&view, None, &request)).await;
        };
        let deadline = self.client.config.read.node_timeout;
        let asked = self.read_from(node, &request, deadline, sink);
        let hedges = &self.client.hedges;
        let there = |came: &Came| came.bytes > 0;
        // On the heap, since it is rare and large.
        let instead = || {
            let instead = self.instead(&view, node.id, &request);
            Box::pin(async move { instead.await.map(Came::together) })
        };
        let raced = hedges.race(node.id, self.hedge_floor(), asked, there, instead);
        let raced = raced.await;
        let came = match raced.asked {
            Some(Ok(came)) => {
                owners.succeeded(node.id);
                came
            }
            Some(Err(error)) => {
                self.failed_at(node, key, &error).await;
                Came::default()
            }
            None => {
                owners.lost(node.id, Instant::now());
                Came::default()
            }
        };
        if let Some(got) = raced.backup {
            Counters::add(&self.counters.hedges_won, 1);
            return got.parts;
        }
        if came.bytes == 0 {
            return Box::pin(self.elsewhere(&view, Some(node.id), &request)).await;
        }
        self.count_from_cache(came.bytes);
        came.parts
    }

    async fn read_from(
        &self,
        node: &NodeInfo,
        request: &BlockRead,
        deadline: Duration,
        sink: Option<&PartSink>,
    ) -> Result<Came, BlockError> {
        let (blocks, request) = (&self.client.blocks, request.clone());
        match sink {
            None => blocks
                .read(node, request, deadline)
                .await
                .map(Came::together),
            Some(sink) => {
                let sink = Arc::clone(sink);
                let read = blocks.read_into(node, request, deadline, sink).await;
                read.map(Came::handed_over)
            }
        }
    }

    /// A node could not help. What does not match its checksum is dropped there.
    pub(super) async fn failed_at(&self, node: &NodeInfo, key: BlockKey, error: &BlockError) {
        tracing::debug!(%error, "a block node could not help");
        let owners = &self.client.owners;
        if matches!(error, BlockError::Corrupt { .. }) {
            Counters::add(&self.counters.corrupt_blocks, 1);
            let selector = BlockSelector::Block(key);
            let deadline = self.client.config.read.node_timeout;
            // Best effort: the node finds it by itself when it checks.
            let _ = self.client.blocks.remove(node, selector, deadline).await;
            owners.succeeded(node.id);
        } else {
            owners.failed(node.id, Instant::now());
        }
    }

    pub(super) fn count_cached(&self, parts: &[BlockPart]) {
        let bytes = parts.iter().map(|part| part.bytes.len() as u64).sum();
        self.count_from_cache(bytes);
    }

    fn count_from_cache(&self, bytes: u64) {
        Counters::add(&self.counters.cache_bytes, bytes);
        self.client.mounts.tally.cached(bytes);
    }

    /// Streams a range from the store; the bytes also go to the nodes.
    pub(super) async fn ask_ufs(
        &self,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Piece>> + Send + use<>> {
        let cutter = Cutter::new(range.start, self.pin.block_size.bytes());
        let source = self.open(range).await?;
        let state = (self.clone(), source, cutter);
        Ok(try_unfold(
            state,
            |(fetcher, mut source, mut cutter)| async move {
                let Some(piece) = source.next(&fetcher).await? else {
                    if source.cacheable {
                        fetcher.offer(cutter.finish());
                    }
                    return Ok(None);
                };
                for cut in cutter.push(piece.bytes.clone()) {
                    if source.cacheable {
                        fetcher.offer(cut);
                    }
                }
                Ok(Some((piece, (fetcher, source, cutter))))
            },
        ))
    }

    /// Begins to read a range of the pinned version from the store.
    pub(super) async fn open(&self, range: Range<u64>) -> Result<Source> {
        let pin = &self.pin;
        let options = ReadOptions {
            range: Some(range.clone()),
            required: Some(pin.source.version.clone()),
        };
        Counters::add(&self.counters.ufs_requests, 1);
        let read = pin.mounted.ufs.read(&pin.source.key, options).await;
        let read = read.map_err(|error| self.failed(error))?;
        let matches = read.entry.version == pin.source.version && read.entry.size == pin.length();
        if !matches || read.range != range {
            return Err(pin.stale());
        }
        Ok(Source {
            cacheable: self.client.filler.enabled() && !read.entry.young,
            at: range.start,
            range,
            body: read.body,
        })
    }

    fn offer(&self, cut: Cut) {
        let Some(write) = self.write(cut) else {
            return;
        };
        self.offered(self.client.filler.offer(write).is_some());
    }

    pub(super) fn offered(&self, taken: bool) {
        let counter = match taken {
            true => &self.counters.fills,
            false => &self.counters.fills_dropped,
        };
        Counters::add(counter, 1);
    }

    /// Bytes as nodes take them; `None` if there are none.
    pub(super) fn write(&self, cut: Cut) -> Option<BlockWrite> {
        if cut.pieces.is_empty() {
            return None;
        }
        let key = self.key(self.pin.block_size.index_of(cut.at));
        Some(BlockWrite {
            key,
            mount: self.pin.mounted.id(),
            block_length: key.len_in(self.pin.length()),
            offset: cut.at - key.start(),
            checksum: checksum(&cut.pieces),
            pieces: cut.pieces,
        })
    }

    pub(super) fn key(&self, index: u64) -> BlockKey {
        BlockKey {
            content: self.pin.content,
            size: self.pin.block_size,
            index,
        }
    }

    fn failed(&self, error: UfsError) -> FsError {
        if matches!(error.kind(), ErrorKind::Stale | ErrorKind::NotFound) {
            return self.pin.stale();
        }
        let path = &self.pin.status.path;
        self.client.ufs_failed(&self.pin.mounted, path, error)
    }

    fn short(&self, range: &Range<u64>, got: u64) -> FsError {
        let mount = &self.pin.mounted;
        let place = mount.ufs.describe().place(&self.pin.source.key);
        FsError::on(
            ErrorKind::Unavailable,
            &self.pin.status.path,
            format!(
                "{place} answered a read of bytes {}..{} with bytes up to {got}",
                range.start, range.end
            ),
        )
    }
}

/// A range of the pinned version as it comes from the store.
pub(super) struct Source {
    /// Whether nodes may keep it: what is too young to be told from its successor is not
    /// cached (U8).
    pub(super) cacheable: bool,
    at: u64,
    range: Range<u64>,
    body: BoxStream<'static, Result<Bytes, UfsError>>,
}

impl Source {
    /// Whether all of the range has come.
    pub(super) fn is_done(&self) -> bool {
        self.at == self.range.end
    }

    /// The next bytes; `None` when all of the range has come.
    pub(super) async fn next(&mut self, fetcher: &Fetcher) -> Result<Option<Piece>> {
        let Some(bytes) = self.body.next().await else {
            return match self.at == self.range.end {
                true => Ok(None),
                false => Err(fetcher.short(&self.range, self.at)),
            };
        };
        let bytes = bytes.map_err(|error| fetcher.failed(error))?;
        let at = self.at;
        if bytes.len() as u64 > self.range.end - at {
            return Err(fetcher.short(&self.range, at + bytes.len() as u64));
        }
        Counters::add(&fetcher.counters.ufs_bytes, bytes.len() as u64);
        self.at += bytes.len() as u64;
        Ok(Some(Piece { at, bytes }))
    }
}

/// Bytes that lie in one cell of a grid.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) at: u64,
    pub(super) pieces: Vec<Bytes>,
}

impl Cut {
    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// Cuts a run of bytes on a grid, without copying.
#[derive(Debug)]
pub(super) struct Cutter {
    grid: u64,
    at: u64,
    begun: u64,
    pieces: Vec<Bytes>,
}

impl Cutter {
    pub(super) fn new(at: u64, grid: u64) -> Self {
        Self {
            grid,
            at,
            begun: at,
            pieces: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, mut bytes: Bytes) -> Vec<Cut> {
        let mut cuts = Vec::new();
        while bytes.has_remaining() {
            let left = self.grid - self.at % self.grid;
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            self.pieces.push(bytes.split_to(take));
            self.at += take as u64;
            if self.at.is_multiple_of(self.grid) {
                cuts.push(self.finish());
            }
        }
        cuts
    }

    pub(super) fn finish(&mut self) -> Cut {
        let cut = Cut {
            at: self.begun,
            pieces: std::mem::take(&mut self.pieces),
        };
        self.begun = self.at;
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_silent_once_nothing_came_for_a_while() {
        const LONG: Duration = Duration::from_millis(100);
        let mark = StreamMark::new(0);
        let began = Instant::now();
        let other = mark.clone();
        let hearing = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(60)).await;
                other.came();
            }
        };
        tokio::join!(mark.silent(LONG), hearing);
        assert_eq!(began.elapsed(), Duration::from_millis(280));
        mark.silent(LONG).await;
        assert_eq!(began.elapsed(), Duration::from_millis(280));
    }
}
