//! The memory tier.
//!
//! Blocks as runs of chunks in memory, under a limit that is exact: the bytes count
//! from before they are allocated until the last reader has let go of them, together
//! with their checksums and the index entry. Evicting a block that a slow reader still
//! holds therefore frees nothing yet, and a write finds no room instead of exceeding
//! the limit.
//!
//! Payloads are copied on the way in: a payload is usually a slice of a larger network
//! buffer, which would stay alive uncounted. The exception is a whole block that was handed
//! in as a memory file of its own (`sealed`): the tier keeps that file. One lock guards the index; bytes are
//! copied and checksums computed outside it.
//!
//! A partial block lies on the heap, in runs. Once all of it is there it gets a memory file
//! of its own (`sheet`), which can be lent as a file: a block that arrives whole at once,
//! one that grew by one more copy. Nothing unsealed is ever mapped or lent. What is lent is
//! kept from eviction until it is returned.
//!
//! Not here: what happens to evicted blocks (the caller gets those that are nowhere
//! else), and durability.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arustio_types::{BlockKey, Checksum, WallClock};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::age::Ages;
use crate::chunk;
use crate::config::CheckedMemory;
use crate::error::BlockError;
use crate::image::{Image, Run, clip};
use crate::metrics::{Counters, TierMetrics};
use crate::shelf::{Place, Shelf};
use crate::store::{
    BlockStore, BlockSummary, BlockWrite, Borrowed, BorrowedFile, Parts, Presence, Rejection,
    Removed, Selector, Tier, TierUsage, WriteHint, WriteOutcome,
};

mod budget;
mod map;
mod sealed;
mod sheet;

use budget::{Budget, Reserved};
pub use sealed::{NotSealed, Sealed};
use sheet::{Sheet, Sheets};

/// What an entry costs beside its runs: its place on the shelf, ghosts included, and the
/// vector of runs.
const ENTRY_COST: u64 = 320;
/// What a run costs beside its bytes and checksums: allocations and their headers.
const RUN_COST: u64 = 192;

/// Blocks in memory.
pub struct MemoryTier {
    state: Arc<Mutex<State>>,
    budget: Arc<Budget>,
    sheets: Sheets,
    ages: Ages,
    counters: Counters,
}

#[derive(Debug)]
struct State {
    blocks: Shelf<Entry>,
    /// Entries that there were.
    entries: u64,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    /// Which entry under this key; no other has the same.
    id: u64,
    image: Image,
    /// The file of its own, once the block is complete.
    sheet: Option<Arc<Sheet>>,
    /// A sheet is being made of it; it is pinned meanwhile.
    settling: bool,
    /// Borrowers of the sheet; it is pinned while there are any.
    lent: u32,
    /// Some chunk is nowhere else on this node.
    dirty: bool,
    pinned: bool,
    used: u32,
    /// Where the last read ended, to know one that goes on there.
    read_to: u32,
    /// It was read since it came, or came back soon after it had been evicted.
    proven: bool,
}

impl fmt::Debug for MemoryTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTier")
            .field("capacity", &self.budget.capacity())
            .field("used", &self.budget.used())
            .finish_non_exhaustive()
    }
}

/// What a write left behind for the tier below.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) outcome: WriteOutcome,
    /// The block is complete now and was not before.
    pub(crate) completed: bool,
}

/// A block of which some is nowhere else on this node.
#[derive(Debug)]
pub(crate) struct Unsaved {
    pub(crate) image: Image,
    /// It was read since it came, or came back soon after it had been evicted.
    pub(crate) proven: bool,
}

/// Where such blocks go when they have to go.
pub(crate) type Overflow<'a> = &'a (dyn Fn(Unsaved) + Sync);

impl MemoryTier {
    /// An empty tier.
    pub fn new(config: &CheckedMemory, clock: Arc<dyn WallClock>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                blocks: Shelf::new(config.eviction),
                entries: 0,
                closed: false,
            })),
            sheets: Sheets::new(config.files),
            budget: Arc::new(Budget::new(config.capacity)),
            ages: Ages::new(clock),
            counters: Counters::default(),
        }
    }

    /// Counts `bytes` that others hold on behalf of the cache (the index of the disk
    /// tier) and keeps as much again free, since such things grow by doubling.
    pub(crate) fn count_aside(&self, bytes: u64, overflow: Overflow<'_>) {
        self.budget.aside.store(bytes, Ordering::Relaxed);
        while self.budget.used() > self.budget.capacity() {
            let Some(victim) = self.evict_one() else {
                return;
            };
            victim.hand_over(overflow);
        }
    }

    pub(crate) fn lookup(&self, key: BlockKey, range: &Range<u64>) -> Option<Image> {
        let mut state = self.state.lock();
        let mut entry = state.blocks.place(key)?;
        let image = entry.image.touching(range);
        if !image.runs.is_empty() {
            note_read(&mut entry, range, self.ages.now());
        }
        Some(image)
    }

    /// The parts that are there; a block that no longer matches is dropped.
    pub(crate) fn find(&self, key: BlockKey, range: &Range<u64>) -> Parts {
        let Some(image) = self.lookup(key, range) else {
            return Parts::none();
        };
        image.parts(range).unwrap_or_else(|| {
            self.drop_corrupt(key);
            Parts::none()
        })
    }

    pub(crate) fn drop_corrupt(&self, key: BlockKey) {
        if self.take(&mut self.state.lock(), key).is_some() {
            self.counters.corruptions.add(1);
            tracing::warn!(block = %key, "a cached block changed in memory and was dropped");
        }
    }

    /// Keeps an image. `dirty` says whether it is nowhere else on this node; what has to
    /// go for it and is nowhere else is handed to `overflow`.
    pub(crate) fn keep(&self, image: &Image, dirty: bool, overflow: Overflow<'_>) -> Kept {
        let outcome = self.keep_chunks(image, dirty, overflow);
        match outcome.outcome {
            WriteOutcome::Stored => self.counters.stored.add(1),
            WriteOutcome::AlreadyPresent => self.counters.already_present.add(1),
            WriteOutcome::Rejected(_) => self.counters.rejected.add(1),
        }
        outcome
    }

    fn keep_chunks(&self, image: &Image, dirty: bool, overflow: Overflow<'_>) -> Kept {
        let news = match self.news(image) {
            Ok(news) if news.is_empty() => return Kept::only(WriteOutcome::AlreadyPresent),
            Ok(news) => news,
            Err(reason) => return Kept::only(WriteOutcome::Rejected(reason)),
        };
        let news = Image {
            runs: news,
            ..image.clone()
        };
        if let Some(kept) = self.keep_whole(&news, dirty, overflow) {
            return kept;
        }
        let kept = self.keep_runs(&news, dirty, overflow);
        if kept.completed {
            self.settle(image.key, overflow);
        }
        kept
    }

    fn keep_runs(&self, news: &Image, dirty: bool, overflow: Overflow<'_>) -> Kept {
        let cost = ENTRY_COST + news.runs.iter().map(run_cost).sum::<u64>();
        let Some(mut reserved) = self.make_room(cost, overflow) else {
            let reason = if cost > self.budget.capacity() {
                Rejection::TooLarge
            } else {
                Rejection::NoSpace
            };
            return Kept::only(WriteOutcome::Rejected(reason));
        };
        let entry_cost = reserved.split(ENTRY_COST);
        let copies = Image {
            runs: news
                .runs
                .iter()
                .map(|run| copy(run, reserved.split(run_cost(run))))
                .collect(),
            ..news.clone()
        };
        self.insert(copies, None, entry_cost, dirty)
    }

    /// A block of which nothing was here and which is here now gets its sheet at once.
    /// `None`: it gets none.
    fn keep_whole(&self, news: &Image, dirty: bool, overflow: Overflow<'_>) -> Option<Kept> {
        if !news.is_complete() {
            return None;
        }
        let cost = self.sheets.cost(news)?;
        let mut reserved = self.make_room(ENTRY_COST + cost, overflow)?;
        let entry_cost = reserved.split(ENTRY_COST);
        let sheet = self.sheets.make(news, reserved)?;
        let whole = Image {
            runs: vec![sheet.run(news)],
            ..news.clone()
        };
        Some(self.insert(whole, Some(sheet), entry_cost, dirty))
    }

    /// Gives a block that has become complete its sheet, if it gets one.
    fn settle(&self, key: BlockKey, overflow: Overflow<'_>) {
        let Some((id, image)) = self.begin_settling(key) else {
            return;
        };
        let cost = self.sheets.cost(&image);
        let reserved = cost.and_then(|cost| self.make_room(cost, overflow));
        let sheet = reserved.and_then(|reserved| self.sheets.make(&image, reserved));
        self.end_settling(&image, id, sheet);
    }

    /// Pinned, so that no room is made for it by evicting it.
    fn begin_settling(&self, key: BlockKey) -> Option<(u64, Image)> {
        let mut state = self.state.lock();
        let mut entry = state.blocks.place(key)?;
        if entry.settling || entry.sheet.is_some() || !entry.image.is_complete() {
            return None;
        }
        entry.settling = true;
        entry.pin();
        Some((entry.id, entry.image.clone()))
    }

    fn end_settling(&self, image: &Image, id: u64, sheet: Option<Arc<Sheet>>) {
        let mut state = self.state.lock();
        let Some(mut entry) = state.blocks.place(image.key).filter(|e| e.id == id) else {
            return;
        };
        entry.settling = false;
        entry.unpin();
        if let Some(sheet) = sheet {
            entry.image.runs = vec![sheet.run(image)];
            entry.sheet = Some(sheet);
            let weight = weight(&entry);
            entry.reweigh(weight);
        }
    }

    fn news(&self, image: &Image) -> Result<Vec<Run>, Rejection> {
        let state = self.state.lock();
        if state.closed {
            return Err(Rejection::Closed);
        }
        let Some(entry) = state.blocks.get(image.key) else {
            return Ok(image.runs.clone());
        };
        entry.image.news_in(image).map_err(|_| Rejection::Disagrees)
    }

    /// Adds runs that were copied outside the lock, or a whole block with its sheet;
    /// whatever somebody else added meanwhile is looked at again.
    fn insert(
        &self,
        offered: Image,
        sheet: Option<Arc<Sheet>>,
        cost: Reserved,
        dirty: bool,
    ) -> Kept {
        let mut state = self.state.lock();
        if state.closed {
            return Kept::only(WriteOutcome::Rejected(Rejection::Closed));
        }
        let now = self.ages.now();
        if state.blocks.get(offered.key).is_none() {
            cost.keep();
            state.entries += 1;
            let mut entry = Entry::new(state.entries, &offered);
            entry.proven = state.blocks.remembers(offered.key);
            state.blocks.insert(offered.key, entry, ENTRY_COST);
        }
        let Some(mut entry) = state.blocks.place(offered.key) else {
            return Kept::only(WriteOutcome::Rejected(Rejection::Busy));
        };
        let before = entry.image.is_complete();
        let Ok(news) = entry.image.news_in(&offered) else {
            return Kept::only(WriteOutcome::Rejected(Rejection::Disagrees));
        };
        if news.is_empty() {
            return Kept::only(WriteOutcome::AlreadyPresent);
        }
        let stored = news.iter().map(|run| run.bytes.len() as u64).sum();
        self.counters.stored_bytes.add(stored);
        match sheet {
            Some(sheet) => {
                entry.image.runs = offered.runs;
                entry.sheet = Some(sheet);
            }
            None => entry.image.add(news),
        }
        entry.dirty |= dirty;
        entry.used = now;
        let weight = weight(&entry);
        entry.reweigh(weight);
        Kept {
            outcome: WriteOutcome::Stored,
            completed: !before && entry.image.is_complete(),
        }
    }

    /// A range of a complete block as part of its sheet, which is kept until it is returned.
    pub(crate) fn lend(&self, key: BlockKey, range: &Range<u64>) -> Option<BorrowedFile> {
        let mut state = self.state.lock();
        let mut entry = state.blocks.place(key)?;
        let sheet = entry.sheet.clone()?;
        let block_len = entry.image.block_len;
        if range.is_empty() || clip(range, block_len) != *range {
            return None;
        }
        if entry.lent == 0 {
            entry.pin();
        }
        entry.lent += 1;
        note_read(&mut entry, range, self.ages.now());
        let chunks = chunk::touched(range);
        let whole = chunk::bytes_of(&chunks, block_len) == *range;
        let sums = entry.image.runs.first().map(|run| run.slice(&chunks).sums);
        let sum = |sums: Vec<u32>| Checksum(chunk::combine(&sums, range.end - range.start));
        self.counters.read(true, range.end - range.start);
        Some(BorrowedFile {
            file: sheet.file(),
            offset: range.start,
            range: range.clone(),
            checksum: sums.filter(|_| whole).map(sum),
            tier: Tier::Memory,
            hold: Box::new(Lent {
                state: Arc::clone(&self.state),
                key,
                id: entry.id,
                _sheet: sheet,
            }),
        })
    }

    /// Reserves bytes, evicting until they fit; `None` if they never will.
    fn make_room(&self, bytes: u64, overflow: Overflow<'_>) -> Option<Reserved> {
        if bytes > self.budget.capacity() {
            return None;
        }
        loop {
            if let Some(reserved) = self.budget.reserve(bytes) {
                return Some(reserved);
            }
            self.evict_one()?.hand_over(overflow);
        }
    }

    fn evict_one(&self) -> Option<Entry> {
        let mut state = self.state.lock();
        let (_, entry, weight) = state.blocks.pop_victim()?;
        self.budget.release(ENTRY_COST);
        self.counters.evictions.add(1);
        self.counters.evicted_bytes.add(weight);
        Some(entry)
    }

    fn take(&self, state: &mut State, key: BlockKey) -> Option<Entry> {
        let entry = state.blocks.remove(key)?;
        self.budget.release(ENTRY_COST);
        Some(entry)
    }

    /// The block as it is now, if some of it is nowhere else.
    pub(crate) fn dirty(&self, key: BlockKey) -> Option<Unsaved> {
        let state = self.state.lock();
        let entry = state.blocks.get(key)?;
        entry.dirty.then(|| Unsaved {
            image: entry.image.clone(),
            proven: entry.proven,
        })
    }

    /// Keys of the blocks of which some is nowhere else.
    pub(crate) fn dirty_keys(&self) -> Vec<BlockKey> {
        let state = self.state.lock();
        let dirty = state.blocks.iter().filter(|(_, entry)| entry.dirty);
        dirty.map(|(key, _)| *key).collect()
    }

    /// The block has reached the disk with this many chunks.
    pub(crate) fn mark_clean(&self, key: BlockKey, chunks: u32) {
        if let Some(mut entry) = self.state.lock().blocks.place(key) {
            entry.dirty &= entry.image.present_chunks() > chunks;
        }
    }

    pub(crate) fn set_pinned(&self, key: BlockKey, pinned: bool) -> bool {
        let mut state = self.state.lock();
        let Some(mut entry) = state.blocks.place(key) else {
            return false;
        };
        match (entry.pinned, pinned) {
            (false, true) => entry.pin(),
            (true, false) => entry.unpin(),
            (true, true) | (false, false) => {}
        }
        entry.pinned = pinned;
        true
    }

    pub(crate) fn presence(&self, key: BlockKey) -> Option<Presence> {
        let state = self.state.lock();
        state.blocks.get(key).map(|entry| entry.image.presence())
    }

    pub(crate) fn forget(&self, selector: Selector) -> Removed {
        let now = self.ages.now();
        // Dropped after the lock: giving back memory takes time.
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        let matches = |key: &BlockKey, entry: &Entry| match selector {
            Selector::Block(block) => *key == block,
            Selector::Content(content) => key.content == content,
            Selector::Mount(mount) => entry.image.mount == mount,
            Selector::Idle(idle) => {
                !entry.pinned && entry.lent == 0 && Ages::idle(entry.used, now, idle)
            }
        };
        let keys: Vec<BlockKey> = if let Selector::Block(key) = selector {
            vec![key]
        } else {
            let found = state.blocks.iter().filter(|(key, e)| matches(key, e));
            found.map(|(key, _)| *key).collect()
        };
        let mut removed = Removed::default();
        for key in keys {
            if let Some(entry) = self.take(&mut state, key) {
                removed.blocks += 1;
                removed.bytes += weight(&entry);
                gone.push(entry);
            }
        }
        removed
    }

    /// Bytes that blocks may take up.
    pub(crate) fn capacity(&self) -> u64 {
        self.budget.capacity()
    }

    pub(crate) fn tier_usage(&self) -> TierUsage {
        let state = self.state.lock();
        TierUsage {
            tier: Tier::Memory,
            capacity: self.budget.total,
            used: self.budget.used() + self.budget.aside.load(Ordering::Relaxed),
            blocks: state.blocks.len() as u64,
            pinned: state.blocks.pinned_weight(),
            writable: !state.closed && self.budget.total > 0,
            off: 0,
        }
    }

    pub(crate) fn tier_metrics(&self) -> TierMetrics {
        self.counters.snapshot(Tier::Memory)
    }

    pub(crate) fn summaries(&self) -> Vec<BlockSummary> {
        let state = self.state.lock();
        let summary = |(key, entry): (&BlockKey, &Entry)| BlockSummary {
            key: *key,
            mount: entry.image.mount,
            presence: entry.image.presence(),
            pinned: entry.pinned,
        };
        state.blocks.iter().map(summary).collect()
    }

    pub(crate) fn count_read(&self, parts: &Parts, range: &Range<u64>) {
        self.counters.read(parts.covers(range), parts.len());
    }

    pub(crate) fn shut(&self) {
        // Dropped after the lock, as above.
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        state.closed = true;
        let keys: Vec<BlockKey> = state.blocks.iter().map(|(key, _)| *key).collect();
        gone.extend(
            keys.into_iter()
                .filter_map(|key| self.take(&mut state, key)),
        );
    }

    /// Reads for [`BlockStore::try_read_memory`].
    pub(crate) fn try_whole(&self, key: BlockKey, range: &Range<u64>) -> Option<Parts> {
        let parts = self.find(key, range);
        if !parts.covers(range) {
            return None;
        }
        self.count_read(&parts, range);
        Some(parts)
    }
}

#[async_trait]
impl BlockStore for MemoryTier {
    fn try_read_memory(&self, key: BlockKey, range: Range<u64>) -> Option<Parts> {
        self.try_whole(key, &range)
    }

    async fn read(&self, key: BlockKey, range: Range<u64>) -> Result<Parts, BlockError> {
        let parts = self.find(key, &range);
        self.count_read(&parts, &range);
        Ok(parts)
    }

    async fn borrow(
        &self,
        key: BlockKey,
        range: Range<u64>,
    ) -> Result<Option<Borrowed>, BlockError> {
        if let Some(file) = self.lend(key, &range) {
            return Ok(Some(Borrowed::File(file)));
        }
        Ok(self.try_whole(key, &range).map(Borrowed::Memory))
    }

    async fn write(&self, write: BlockWrite) -> Result<WriteOutcome, BlockError> {
        let image = match Image::of_write(&write)? {
            Ok(_) if write.hint == WriteHint::Durable => Err(Rejection::NotDurable),
            other => other,
        };
        match image {
            Ok(image) => Ok(self.keep(&image, false, &|_| {}).outcome),
            Err(reason) => {
                self.counters.rejected.add(1);
                Ok(WriteOutcome::Rejected(reason))
            }
        }
    }

    async fn contains(&self, key: BlockKey) -> Result<Option<Presence>, BlockError> {
        Ok(self.presence(key))
    }

    async fn remove(&self, selector: Selector) -> Result<Removed, BlockError> {
        Ok(self.forget(selector))
    }

    async fn pin(&self, key: BlockKey) -> Result<bool, BlockError> {
        Ok(self.set_pinned(key, true))
    }

    async fn unpin(&self, key: BlockKey) -> Result<bool, BlockError> {
        Ok(self.set_pinned(key, false))
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

    async fn close(&self) {
        self.shut();
    }
}

impl Entry {
    /// With nothing of the block that `image` is of.
    fn new(id: u64, image: &Image) -> Self {
        Self {
            id,
            image: Image::empty(image.key, image.mount, image.block_len),
            sheet: None,
            settling: false,
            lent: 0,
            dirty: false,
            pinned: false,
            used: 0,
            read_to: 0,
            proven: false,
        }
    }

    fn hand_over(self, overflow: Overflow<'_>) {
        if self.dirty {
            overflow(Unsaved {
                image: self.image,
                proven: self.proven,
            });
        }
    }
}

/// A sheet that somebody has borrowed.
struct Lent {
    state: Arc<Mutex<State>>,
    key: BlockKey,
    id: u64,
    /// Counts until it is returned, also when its entry is gone.
    _sheet: Arc<Sheet>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let Some(mut entry) = state.blocks.place(self.key).filter(|e| e.id == self.id) else {
            return;
        };
        entry.lent -= 1;
        if entry.lent == 0 {
            entry.unpin();
        }
    }
}

impl Kept {
    fn only(outcome: WriteOutcome) -> Self {
        Self {
            outcome,
            completed: false,
        }
    }
}

/// One that goes on where the last one ended is the same use: a reader that takes a block
/// bit by bit has read it once, and a scan has to look like one.
fn note_read(entry: &mut Place<'_, Entry>, range: &Range<u64>, now: u32) {
    let goes_on = range.start > 0 && range.start == u64::from(entry.read_to);
    if !goes_on {
        entry.touch();
    }
    entry.read_to = u32::try_from(range.end.min(entry.image.block_len)).unwrap_or(u32::MAX);
    entry.proven = true;
    entry.used = now;
}

fn run_cost(run: &Run) -> u64 {
    run.bytes.len() as u64 + 4 * run.sums.len() as u64 + RUN_COST
}

fn weight(entry: &Entry) -> u64 {
    let runs = || entry.image.runs.iter().map(run_cost).sum();
    let sheet = entry.sheet.as_ref().map(|sheet| sheet.cost());
    ENTRY_COST + sheet.unwrap_or_else(runs)
}

/// A copy whose bytes count until the last clone of them is gone.
fn copy(run: &Run, reserved: Reserved) -> Run {
    let owner = Counted {
        bytes: Box::from(&run.bytes[..]),
        _reserved: reserved,
    };
    Run {
        first: run.first,
        bytes: Bytes::from_owner(owner),
        sums: run.sums.clone(),
        file: None,
    }
}

struct Counted {
    bytes: Box<[u8]>,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
