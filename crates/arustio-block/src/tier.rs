//! Memory over disk: what is written goes to memory at once and to disk soon, what is
//! read from disk comes back to memory.
//!
//! - A write lands in memory. When its block is complete it is written to disk in the
//!   background, in a quiet moment (`later`); a partial block goes there when memory needs
//!   its space, merged with what is on disk already. A durable write goes to disk before it
//!   returns.
//! - What is on its way to disk is bounded in bytes. Beyond it blocks stay in memory,
//!   or are forgotten if memory needs their space. A write waits for the disk only when
//!   memory has no room for it at all.
//! - The second half of that room is for *proven* blocks: read since they came, or back
//!   soon after a tier had given them up. So when the disk cannot keep up, what is read
//!   once is what does not get there.
//! - A read takes what memory has and the rest from disk, which is kept in memory.
//! - Removing also stops what is on its way. A write that runs at the same moment may
//!   leave its block behind; its bytes are right all the same.
//!
//! Locks: the table of spills and what waits are each taken with no other lock held, and the
//! other way round.

mod later;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_types::{BlockKey, MountId};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use crate::disk::Disks;
use crate::error::BlockError;
use crate::image::Image;
use crate::memory::{MemoryTier, Unsaved};
use crate::metrics::TierMetrics;
use crate::store::{
    BlockStore, BlockSummary, BlockWrite, Borrowed, Parts, Presence, Rejection, Removed, Selector,
    TierUsage, WriteHint, WriteOutcome,
};

use later::{Due, Later};

/// A memory tier over a disk tier.
#[derive(Debug)]
pub struct TieredStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: MemoryTier,
    disk: Disks,
    spills: Mutex<Spills>,
    /// Complete blocks that nothing is done about yet.
    later: Mutex<Later>,
    /// Something was said to whoever sees to them.
    hurried: Notify,
    /// Something has reached the disk, or will not.
    arrived: Notify,
    limit: u64,
    tasks: TaskTracker,
    closed: AtomicBool,
}

/// What is on its way to disk.
#[derive(Debug, Default)]
struct Spills {
    under_way: HashMap<BlockKey, Spill>,
    bytes: u64,
}

impl Spills {
    /// One block always fits, however large.
    fn fits(&self, bytes: u64, room: u64) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= room
    }
}

#[derive(Debug)]
struct Spill {
    mount: MountId,
    cancelled: bool,
    /// Goes with it: whoever waits for its end hears that.
    end: watch::Sender<()>,
}

impl TieredStore {
    /// Puts one over the other. Has to be called inside a runtime.
    pub fn new(memory: MemoryTier, disk: impl Into<Disks>) -> Self {
        let disk = disk.into();
        let inner = Arc::new(Inner {
            limit: disk.write_behind(),
            memory,
            disk,
            spills: Mutex::default(),
            later: Mutex::new(Later::new()),
            hurried: Notify::new(),
            arrived: Notify::new(),
            tasks: TaskTracker::new(),
            closed: AtomicBool::new(false),
        });
        let counted = Arc::clone(&inner);
        inner.tasks.spawn(async move {
            counted.disk.recovered().await;
            counted.count_index();
        });
        Self { inner }
    }

    /// The tier below, for what only it knows.
    pub fn disk(&self) -> &Disks {
        &self.inner.disk
    }

    /// Waits until nothing is on its way to disk any more, and nothing waits for that. New
    /// writes may follow.
    pub async fn settled(&self) {
        self.inner.later.lock().hurry();
        self.inner.hurried.notify_one();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.tasks.reopen();
    }
}

impl Inner {
    /// The index of the disk tier lives in memory, so it counts there.
    fn count_index(self: &Arc<Self>) {
        let bytes = self.disk.index_memory();
        self.memory.count_aside(bytes, &|victim| self.spill(victim));
    }

    /// Sends a block to disk in the background, if there is room on the way.
    fn spill(self: &Arc<Self>, block: Unsaved) {
        if !self.depart(&block) {
            return;
        }
        let image = block.image;
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            inner.disk.recovered().await;
            let (key, chunks, bytes) = (image.key, image.present_chunks(), image.present_bytes());
            let outcome = if inner.is_cancelled(key) {
                WriteOutcome::Rejected(Rejection::Busy)
            } else {
                inner.disk.put(image, false).await
            };
            if !matches!(outcome, WriteOutcome::Rejected(_)) {
                inner.memory.mark_clean(key, chunks);
            }
            inner.arrive(key, bytes).await;
        });
    }

    /// Sends a block to disk later.
    fn spill_later(self: &Arc<Self>, image: &Image) {
        let (now, most) = (Instant::now(), self.memory.capacity());
        let (key, bytes) = (image.key, image.block_len);
        let unattended = self.later.lock().push(key, bytes, now, most);
        if unattended {
            let inner = Arc::clone(self);
            self.tasks.spawn(async move { inner.see_to_later().await });
        }
    }

    /// Sends what waits to disk when it is due, as much at a time as there is room for.
    async fn see_to_later(self: &Arc<Self>) {
        loop {
            let room = self.room_to_wait();
            let due = self.later.lock().due(Instant::now(), room);
            match due {
                Due::Nothing => return,
                Due::At(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.hurried.notified() => {}
                },
                Due::Now(key) => {
                    self.room_on_the_way(key).await;
                    if let Some(block) = self.memory.dirty(key) {
                        self.spill(block);
                    }
                }
            }
        }
    }

    /// How many bytes may wait. What memory gives up next has to be on disk by then: the
    /// oldest of those that wait, so it is enough to be ahead by what may be on its way.
    fn room_to_wait(&self) -> u64 {
        let memory = self.memory.capacity();
        let ahead = self.limit.saturating_mul(2).max(memory / 8);
        memory.saturating_sub(ahead)
    }

    /// Waits until a block that nobody may have read again is admitted.
    async fn room_on_the_way(&self, key: BlockKey) {
        loop {
            let arrived = self.arrived.notified();
            let presence = self.memory.presence(key);
            let bytes = presence.map_or(0, |presence| presence.present);
            if self.spills.lock().fits(bytes, self.limit / 2) {
                return;
            }
            arrived.await;
        }
    }

    fn depart(&self, block: &Unsaved) -> bool {
        let image = &block.image;
        let bytes = image.present_bytes();
        let proven = block.proven || self.disk.remembers(image.key);
        let room = if proven { self.limit } else { self.limit / 2 };
        let mut spills = self.spills.lock();
        if spills.under_way.contains_key(&image.key) {
            return false;
        }
        if !spills.fits(bytes, room) {
            let full = !spills.fits(bytes, self.limit);
            drop(spills);
            match full {
                true => self.disk.count_dropped_spill(),
                false => self.disk.count_not_admitted(),
            }
            return false;
        }
        spills.bytes += bytes;
        let spill = Spill {
            mount: image.mount,
            cancelled: false,
            end: watch::Sender::new(()),
        };
        spills.under_way.insert(image.key, spill);
        true
    }

    fn is_cancelled(&self, key: BlockKey) -> bool {
        let spills = self.spills.lock();
        spills.under_way.get(&key).is_some_and(|s| s.cancelled)
    }

    /// A block that was removed while it was on its way is removed again.
    async fn arrive(self: &Arc<Self>, key: BlockKey, bytes: u64) {
        let spill = {
            let mut spills = self.spills.lock();
            spills.bytes -= bytes;
            spills.under_way.remove(&key)
        };
        if spill.as_ref().is_some_and(|spill| spill.cancelled) {
            // It has no error of its own.
            let _ = self.disk.remove(Selector::Block(key)).await;
        }
        self.count_index();
        drop(spill);
        self.arrived.notify_waiters();
    }

    /// Those that are on their way are not to stay; what ends with each of them.
    fn cancel(&self, selector: Selector) -> Vec<watch::Receiver<()>> {
        let mut spills = self.spills.lock();
        let mut ends = Vec::new();
        for (key, spill) in &mut spills.under_way {
            let selected = match selector {
                Selector::Block(block) => *key == block,
                Selector::Content(content) => key.content == content,
                Selector::Mount(mount) => spill.mount == mount,
                Selector::Idle(_) => false,
            };
            if selected {
                spill.cancelled = true;
                ends.push(spill.end.subscribe());
            }
        }
        ends
    }

    fn keep(self: &Arc<Self>, image: &Image, dirty: bool) -> WriteOutcome {
        self.count_index();
        let kept = self.memory.keep(image, dirty, &|victim| self.spill(victim));
        if kept.completed && self.memory.dirty(image.key).is_some() {
            self.spill_later(image);
        }
        kept.outcome
    }

    async fn write_plain(self: &Arc<Self>, image: Image) -> WriteOutcome {
        let on_disk = self.disk.known(image.key);
        if on_disk.is_some_and(|presence| presence.is_complete()) {
            return self.disk.put(image, false).await;
        }
        match self.keep(&image, true) {
            WriteOutcome::Rejected(Rejection::TooLarge | Rejection::NoSpace) => {
                self.disk.put(image, false).await
            }
            outcome => outcome,
        }
    }

    async fn read(self: &Arc<Self>, key: BlockKey, range: &Range<u64>) -> Parts {
        let in_memory = self.memory.lookup(key, range);
        let parts = self.parts(in_memory.as_ref(), range);
        self.memory.count_read(&parts, range);
        let gaps = parts.missing(range);
        let (Some(first), Some(last)) = (gaps.first(), gaps.last()) else {
            return parts;
        };
        let hull = first.start..last.end;
        let Some(from_disk) = self.disk.load(key, hull.clone()).await else {
            self.disk.count_read(false, 0);
            return parts;
        };
        self.keep(&from_disk, false);
        let lower = from_disk.parts(&hull).unwrap_or_default();
        self.disk.count_read(lower.covers(&hull), lower.len());
        let Some(mut both) = in_memory.filter(|_| !parts.is_empty()) else {
            return from_disk.parts(range).unwrap_or_default();
        };
        if let Ok(news) = both.news_in(&from_disk) {
            both.add(news);
        }
        self.parts(Some(&both), range)
    }

    fn parts(&self, image: Option<&Image>, range: &Range<u64>) -> Parts {
        let Some(image) = image else {
            return Parts::none();
        };
        image.parts(range).unwrap_or_else(|| {
            self.memory.drop_corrupt(image.key);
            Parts::none()
        })
    }

    /// Writes out what is only in memory; stops when the disk takes no more.
    async fn flush(&self) {
        self.disk.recovered().await;
        for key in self.memory.dirty_keys() {
            let Some(block) = self.memory.dirty(key) else {
                continue;
            };
            let outcome = self.disk.put(block.image, false).await;
            if matches!(
                outcome,
                WriteOutcome::Rejected(Rejection::WritesOff | Rejection::Closed)
            ) {
                return;
            }
        }
    }
}

#[async_trait]
impl BlockStore for TieredStore {
    fn try_read_memory(&self, key: BlockKey, range: Range<u64>) -> Option<Parts> {
        self.inner.memory.try_whole(key, &range)
    }

    async fn read(&self, key: BlockKey, range: Range<u64>) -> Result<Parts, BlockError> {
        Ok(self.inner.read(key, &range).await)
    }

    async fn borrow(
        &self,
        key: BlockKey,
        range: Range<u64>,
    ) -> Result<Option<Borrowed>, BlockError> {
        // A file is worth more than bytes: it can be passed on.
        if let Some(file) = self.inner.memory.lend(key, &range) {
            return Ok(Some(Borrowed::File(file)));
        }
        match self.inner.disk.borrow(key, range.clone()).await? {
            Some(Borrowed::File(file)) => Ok(Some(Borrowed::File(file))),
            other => {
                let parts = self.inner.memory.try_whole(key, &range);
                Ok(parts.map(Borrowed::Memory).or(other))
            }
        }
    }

    async fn write(&self, write: BlockWrite) -> Result<WriteOutcome, BlockError> {
        let image = match Image::of_write(&write)? {
            Ok(image) => image,
            Err(reason) => return Ok(WriteOutcome::Rejected(reason)),
        };
        if self.inner.closed.load(Ordering::Acquire) {
            return Ok(WriteOutcome::Rejected(Rejection::Closed));
        }
        if write.hint == WriteHint::Cache {
            return Ok(self.inner.write_plain(image).await);
        }
        let outcome = self.inner.disk.put(image.clone(), true).await;
        if !matches!(outcome, WriteOutcome::Rejected(_)) {
            self.inner.keep(&image, false);
        }
        Ok(outcome)
    }

    async fn contains(&self, key: BlockKey) -> Result<Option<Presence>, BlockError> {
        let memory = self.inner.memory.presence(key);
        if memory.is_some_and(|presence| presence.is_complete()) {
            return Ok(memory);
        }
        let disk = self.inner.disk.contains(key).await?;
        Ok(memory.into_iter().chain(disk).max_by_key(|p| p.present))
    }

    async fn remove(&self, selector: Selector) -> Result<Removed, BlockError> {
        let mut removed = self.inner.memory.forget(selector);
        let ends = self.inner.cancel(selector);
        removed += self.inner.disk.remove(selector).await?;
        for mut end in ends {
            // One that was being written may be on disk until it has ended.
            let _ = end.changed().await;
        }
        Ok(removed)
    }

    async fn pin(&self, key: BlockKey) -> Result<bool, BlockError> {
        if let Some(block) = self.inner.memory.dirty(key) {
            self.inner.disk.put(block.image, false).await;
        }
        if self.inner.disk.pin(key).await? {
            return Ok(true);
        }
        Ok(self.inner.memory.set_pinned(key, true))
    }

    async fn unpin(&self, key: BlockKey) -> Result<bool, BlockError> {
        let memory = self.inner.memory.set_pinned(key, false);
        Ok(self.inner.disk.unpin(key).await? || memory)
    }

    fn usage(&self) -> Vec<TierUsage> {
        vec![self.inner.memory.tier_usage(), self.inner.disk.tier_usage()]
    }

    fn metrics(&self) -> Vec<TierMetrics> {
        vec![
            self.inner.memory.tier_metrics(),
            self.inner.disk.tier_metrics(),
        ]
    }

    async fn scan(
        &self,
        after: Option<BlockKey>,
        limit: usize,
    ) -> Result<Vec<BlockSummary>, BlockError> {
        let mut all = self.inner.memory.summaries();
        all.extend(self.inner.disk.summaries());
        Ok(crate::scan::page(all, after, limit))
    }

    /// Refuses writes, waits for what is on its way, writes out what is only in memory,
    /// and closes the disk.
    async fn close(&self) {
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.inner.later.lock().clear();
        self.inner.hurried.notify_one();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.flush().await;
        self.inner.memory.shut();
        self.inner.disk.close().await;
    }
}
