//! The disk tier: blocks as checksummed files that survive a restart.
//!
//! `format` says what a file looks like, `backend` what a disk is, `files` what is done
//! to files and in which order it is checked, `index` what is known without touching the
//! disk, `recovery` how that is learned again, `scrub` how faults are looked for, `space`
//! when writing stops, `set` how several directories are one tier.
//! This file is the async surface: it bounds the work, and closes in order.
//!
//! A partial block is a file with fewer chunks: adding to it writes the union to a new
//! file and renames it over the old one. That is simple and never torn, and costs a
//! rewrite; [`crate::TieredStore`] therefore collects partial blocks in memory and
//! writes them once.
//!
//! Invariants: bytes on disk never exceed the capacity (files being written and files
//! still held by borrowers included; unlinked files that a read has open for a moment
//! are not); no byte leaves that did not match its checksum when it was read; one
//! process for each directory.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_types::{BlockKey, WallClock};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::age::Ages;
use crate::config::CheckedDisk;
use crate::error::BlockError;
use crate::image::Image;
use crate::metrics::{Counters, TierMetrics};
use crate::store::{
    BlockStore, BlockSummary, BlockWrite, Borrowed, Parts, Presence, Rejection, Removed, Selector,
    Tier, TierUsage, WriteHint, WriteOutcome,
};

mod backend;
mod files;
mod format;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
mod index;
mod pool;
mod recovery;
mod scrub;
mod set;
mod space;

pub(crate) use backend::remembered_capacity;
pub use backend::{DiskBackend, DiskFile, LocalDisk};
pub use set::Disks;

#[cfg(test)]
pub(crate) use format::file_name;

use files::Files;
use index::Catalog;
use pool::Pool;
use scrub::Scrub;
use space::Gate;

/// Blocks on a disk.
///
/// Dropping it without [`close`](BlockStore::close) leaves background work running for
/// a moment; what it does is complete in any case.
#[derive(Debug)]
pub struct DiskTier {
    files: Arc<Files>,
    readers: Arc<Pool>,
    writers: Pool,
    scrubber: Arc<Pool>,
    recovered: watch::Receiver<bool>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl DiskTier {
    /// Opens a directory of a local file system; refused if another process has it.
    ///
    /// Returns before the directory was read: blocks in it are served at once, writes
    /// are taken once [`recovered`](Self::recovered).
    pub async fn open(
        dir: &Path,
        config: CheckedDisk,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, BlockError> {
        let dir = dir.to_owned();
        let name = dir.display().to_string();
        let capacity = config.capacity;
        let disk = tokio::task::spawn_blocking(move || {
            let disk = LocalDisk::open(&dir)?;
            disk.remember_capacity(capacity);
            Ok(disk)
        })
        .await
        .map_err(|_| BlockError::Closed)??;
        Ok(Self::with_name(Arc::new(disk), config, clock, name))
    }

    /// Opens any disk. Has to be called inside a runtime.
    pub fn with_backend(
        backend: Arc<dyn DiskBackend>,
        config: CheckedDisk,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        Self::with_name(backend, config, clock, "a disk".to_owned())
    }

    /// `name` is for the log.
    fn with_name(
        backend: Arc<dyn DiskBackend>,
        config: CheckedDisk,
        clock: Arc<dyn WallClock>,
        name: String,
    ) -> Self {
        let readers = Arc::new(Pool::new(config.settings.read_threads));
        let writers = Pool::new(config.settings.write_threads);
        let files = Arc::new(Files {
            backend,
            catalog: Catalog::new(config.settings.eviction, config.capacity),
            gate: Gate::new(config.settings.retry_after, name),
            config,
            ages: Ages::new(clock),
            counters: Counters::default(),
            recovering: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            lost: CancellationToken::new(),
            loss: Mutex::default(),
        });
        let scrubber = Arc::new(Pool::new(1));
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let (done, recovered) = watch::channel(false);
        tasks.spawn(recover(
            Arc::clone(&files),
            Arc::clone(&readers),
            stop.clone(),
            done,
        ));
        let bandwidth = files.config.settings.scrub_bandwidth.get();
        if bandwidth > 0 {
            let scrub = Scrub::new(Arc::clone(&files), bandwidth, Arc::clone(&scrubber));
            let begun = recovered.clone();
            let stopped = stop.clone();
            tasks.spawn(async move {
                stopped.run_until_cancelled(scrub.run(begun)).await;
            });
        }
        Self {
            files,
            readers,
            writers,
            scrubber,
            recovered,
            tasks,
            stop,
        }
    }

    /// Waits until everything that was on disk is known. Safe to drop.
    pub async fn recovered(&self) {
        // An error means that the scan ended without finishing: the tier is closing.
        let _ = self.recovered.clone().wait_for(|done| *done).await;
    }

    /// Bytes of memory that the index holds.
    pub fn index_memory(&self) -> u64 {
        self.files.catalog.memory()
    }

    /// The chunks that `range` touches, as far as they are there.
    pub(crate) async fn load(&self, key: BlockKey, range: Range<u64>) -> Option<Image> {
        // The common miss costs no thread.
        if !self.files.is_recovering() && self.files.catalog.peek(key).is_none() {
            return None;
        }
        let files = Arc::clone(&self.files);
        self.readers
            .run(move || files.load(key, &range))
            .await
            .flatten()
    }

    pub(crate) async fn put(&self, image: Image, durable: bool) -> WriteOutcome {
        let files = Arc::clone(&self.files);
        self.writers
            .run(move || files.put(&image, durable))
            .await
            .unwrap_or(WriteOutcome::Rejected(Rejection::Closed))
    }

    /// What is known without touching the disk.
    pub(crate) fn known(&self, key: BlockKey) -> Option<Presence> {
        self.files.catalog.peek(key).map(|entry| entry.presence())
    }

    fn count_read(&self, complete: bool, bytes: u64) {
        self.files.counters.read(complete, bytes);
    }

    pub(crate) fn summaries(&self) -> Vec<BlockSummary> {
        let all = self.files.catalog.all().into_iter();
        all.map(|(key, entry)| BlockSummary {
            key,
            mount: entry.mount,
            presence: entry.presence(),
            pinned: entry.pinned,
        })
        .collect()
    }

    /// Whether the block had to go from here not long ago.
    pub(crate) fn remembers(&self, key: BlockKey) -> bool {
        self.files.catalog.remembers(key)
    }

    pub(crate) fn tier_usage(&self) -> TierUsage {
        let standing = self.files.catalog.standing();
        let takes_writes = self.files.gate.is_open(self.files.ages.clock());
        let open = !self.files.closed.load(Ordering::Acquire) && !self.files.is_recovering();
        TierUsage {
            tier: Tier::Disk,
            capacity: self.files.config.capacity,
            used: standing.used,
            blocks: standing.blocks,
            pinned: standing.pinned,
            writable: open && takes_writes,
            off: u64::from(!takes_writes),
        }
    }

    pub(crate) fn tier_metrics(&self) -> TierMetrics {
        self.files.counters.snapshot(Tier::Disk)
    }

    /// Whether the block may be here, as far as is known without touching the disk.
    pub(crate) fn may_have(&self, key: BlockKey) -> bool {
        self.files.is_recovering() || self.known(key).is_some()
    }

    /// Cancelled once the disk as a whole has not answered as it should.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.files.lost.clone()
    }

    /// Why it was lost.
    pub(crate) fn loss(&self) -> String {
        self.files.loss.lock().clone()
    }

    pub(crate) fn parts(&self) -> (CheckedDisk, Arc<dyn WallClock>) {
        (self.files.config.clone(), self.files.ages.wall_clock())
    }

    async fn set_pinned(&self, key: BlockKey, pinned: bool) -> Result<bool, BlockError> {
        let files = Arc::clone(&self.files);
        self.writers
            .run(move || files.set_pinned(key, pinned))
            .await
            .unwrap_or(Ok(false))
    }
}

/// Ends the scan and the scrub.
impl Drop for DiskTier {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn recover(
    files: Arc<Files>,
    readers: Arc<Pool>,
    stop: CancellationToken,
    done: watch::Sender<bool>,
) {
    for folder in format::folders() {
        if stop.is_cancelled() {
            return;
        }
        let files = Arc::clone(&files);
        readers.run(move || files.recover_folder(&folder)).await;
    }
    files.recovering.store(false, Ordering::Release);
    let standing = files.catalog.standing();
    tracing::info!(
        blocks = standing.blocks,
        bytes = standing.used,
        "the cache on disk has been read"
    );
    // Nobody may be waiting.
    let _ = done.send(true);
}

#[async_trait]
impl BlockStore for DiskTier {
    fn try_read_memory(&self, _key: BlockKey, _range: Range<u64>) -> Option<Parts> {
        None
    }

    async fn read(&self, key: BlockKey, range: Range<u64>) -> Result<Parts, BlockError> {
        let image = self.load(key, range.clone()).await;
        let parts = image
            .and_then(|image| image.parts(&range))
            .unwrap_or_default();
        self.count_read(parts.covers(&range), parts.len());
        Ok(parts)
    }

    async fn borrow(
        &self,
        key: BlockKey,
        range: Range<u64>,
    ) -> Result<Option<Borrowed>, BlockError> {
        let files = Arc::clone(&self.files);
        let len = range.end.saturating_sub(range.start);
        let borrowed = self
            .readers
            .run(move || files.borrow(key, &range))
            .await
            .flatten();
        self.count_read(borrowed.is_some(), borrowed.as_ref().map_or(0, |_| len));
        Ok(borrowed)
    }

    async fn write(&self, write: BlockWrite) -> Result<WriteOutcome, BlockError> {
        let durable = write.hint == WriteHint::Durable;
        match Image::of_write(&write)? {
            Ok(image) => Ok(self.put(image, durable).await),
            Err(reason) => {
                self.files.counters.rejected.add(1);
                Ok(WriteOutcome::Rejected(reason))
            }
        }
    }

    async fn contains(&self, key: BlockKey) -> Result<Option<Presence>, BlockError> {
        let known = self.known(key);
        if known.is_some() || !self.files.is_recovering() {
            return Ok(known);
        }
        let files = Arc::clone(&self.files);
        let found = self.readers.run(move || files.presence(key)).await;
        Ok(found.flatten())
    }

    /// All but a single block waits for [`recovered`](Self::recovered) first.
    async fn remove(&self, selector: Selector) -> Result<Removed, BlockError> {
        if !matches!(selector, Selector::Block(_)) {
            self.recovered().await;
        }
        let files = Arc::clone(&self.files);
        let removed = self.writers.run(move || files.remove(selector)).await;
        Ok(removed.unwrap_or_default())
    }

    async fn pin(&self, key: BlockKey) -> Result<bool, BlockError> {
        self.set_pinned(key, true).await
    }

    async fn unpin(&self, key: BlockKey) -> Result<bool, BlockError> {
        self.set_pinned(key, false).await
    }

    fn usage(&self) -> Vec<TierUsage> {
        vec![self.tier_usage()]
    }

    fn metrics(&self) -> Vec<TierMetrics> {
        vec![self.tier_metrics()]
    }

    async fn scan(
        &self,
        after: Option<BlockKey>,
        limit: usize,
    ) -> Result<Vec<BlockSummary>, BlockError> {
        Ok(crate::scan::page(self.summaries(), after, limit))
    }

    /// Stops the scan, then waits for writes, then for reads.
    async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.files.closed.store(true, Ordering::Release);
        self.writers.close().await;
        self.readers.close().await;
        self.scrubber.close().await;
    }
}

#[cfg(test)]
mod tests;
