//! What the disk tier does to files; everything here blocks and runs on its pool.
//!
//! Every read opens the file once, takes header and bytes from that one descriptor, and
//! checks key, lengths, header and chunks, so a concurrent replacement or removal can
//! make it miss but never mix. A file that fails any check is removed and counted.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_types::{BlockKey, Checksum};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::backend::{DiskBackend, DiskFile};
use super::format::{self, Header, Unusable};
use super::index::{Catalog, Claim, Entry, Facts};
use super::space::{Gate, STEP, Trouble};
use crate::age::Ages;
use crate::chunk;
use crate::config::CheckedDisk;
use crate::error::BlockError;
use crate::image::{Image, Run, clip};
use crate::metrics::Counters;
use crate::store::{
    Borrowed, BorrowedFile, Presence, Rejection, Removed, Selector, Tier, WriteOutcome,
};

#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) backend: Arc<dyn DiskBackend>,
    pub(crate) catalog: Catalog,
    pub(crate) gate: Gate,
    pub(crate) config: CheckedDisk,
    pub(crate) ages: Ages,
    pub(crate) counters: Counters,
    /// The directory has not been read to its end yet, so a block may be on disk that
    /// the catalog does not know.
    pub(crate) recovering: AtomicBool,
    pub(crate) closed: AtomicBool,
    /// The disk as a whole has not answered as it should.
    pub(crate) lost: CancellationToken,
    /// Why.
    pub(crate) loss: Mutex<String>,
}

/// Why a file could not be used.
#[derive(Debug)]
pub(crate) enum Bad {
    Gone,
    Unusable(Unusable),
    Io(io::Error),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            Self::Gone
        } else {
            Self::Io(error)
        }
    }
}

impl From<Unusable> for Bad {
    fn from(why: Unusable) -> Self {
        Self::Unusable(why)
    }
}

impl Files {
    pub(crate) fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::Acquire)
    }

    /// What is there of the chunks that `range` touches, verified.
    pub(crate) fn load(&self, key: BlockKey, range: &Range<u64>) -> Option<Image> {
        let entry = self.find(key, Some(range))?;
        match self.read(key, range) {
            Ok((image, _)) => Some(image),
            Err(bad) => {
                self.give_up(key, entry.generation, &bad);
                None
            }
        }
    }

    /// The entry of a block, from its file where the catalog is not complete yet. `read`
    /// says what is going to be read of it.
    pub(crate) fn find(&self, key: BlockKey, read: Option<&Range<u64>>) -> Option<Entry> {
        let known = match read {
            Some(range) => self.catalog.lookup(key, range, self.ages.now()),
            None => self.catalog.peek(key),
        };
        match known {
            None if self.is_recovering() => self.adopt(key),
            known => known,
        }
    }

    /// Reads and checks a part of a block, without a trace of it having been read. `None`:
    /// it is not this file any more, or was dropped. Else the length of the block.
    pub(crate) fn scrub(&self, key: BlockKey, generation: u32, part: &Range<u64>) -> Option<u64> {
        let same = |entry: &Entry| entry.generation == generation;
        let entry = self.catalog.peek(key).filter(same)?;
        match self.read(key, part) {
            Ok((image, _)) => {
                self.counters.scrubbed_bytes.add(image.present_bytes());
                Some(entry.presence().block_len)
            }
            Err(bad) => {
                self.give_up(key, generation, &bad);
                None
            }
        }
    }

    fn read(&self, key: BlockKey, range: &Range<u64>) -> Result<(Image, Header), Bad> {
        let file = self.backend.open(&format::file_name(key))?;
        let header = read_header(&*file, key)?;
        let image = read_chunks(&*file, &header, range)?;
        Ok((image, header))
    }

    fn header(&self, key: BlockKey) -> Result<Header, Bad> {
        read_header(&*self.backend.open(&format::file_name(key))?, key)
    }

    /// Drops a block whose file cannot be used, unless the file was replaced since.
    fn give_up(&self, key: BlockKey, generation: u32, bad: &Bad) {
        let claim = self.catalog.claim(key);
        let same = claim.entry().is_some_and(|e| e.generation == generation);
        if same {
            self.discard(&claim, key, bad);
        }
    }

    fn discard(&self, claim: &Claim<'_>, key: BlockKey, bad: &Bad) {
        match bad {
            // Then it says nothing about this block.
            Bad::Gone if self.is_lost() => return,
            Bad::Gone => {
                self.counters.io_errors.add(1);
                tracing::warn!(block = %key, "the file of a cached block has disappeared");
            }
            Bad::Unusable(Unusable::Corrupt) => {
                self.counters.corruptions.add(1);
                tracing::warn!(block = %key, "a cached block is corrupt on disk and is dropped");
            }
            Bad::Unusable(Unusable::Foreign | Unusable::Newer) => self.counters.foreign.add(1),
            Bad::Io(error) => {
                self.counters.io_errors.add(1);
                self.trouble(Trouble::Failed, error);
                if self.is_promised(claim, key) {
                    return;
                }
            }
        }
        if self.unlink(key).is_ok() {
            claim.forget();
        }
    }

    /// Whether the block may be the only copy; then an error that may pass is no reason
    /// to drop it.
    fn is_promised(&self, claim: &Claim<'_>, key: BlockKey) -> bool {
        match claim.entry() {
            Some(entry) => entry.pinned,
            None => self.backend.open(&format::pin_name(key)).is_ok(),
        }
    }

    /// Removes the file and the pin of a block.
    pub(crate) fn unlink(&self, key: BlockKey) -> io::Result<()> {
        let removed = self
            .backend
            .remove(&format::file_name(key))
            .and_then(|()| self.backend.remove(&format::pin_name(key)));
        if let Err(error) = &removed {
            self.counters.io_errors.add(1);
            self.trouble(Trouble::Failed, error);
        }
        removed
    }

    fn evict(&self, key: BlockKey, bytes: u64) -> io::Result<()> {
        // Victims are never pinned, so there is no second file.
        self.backend.remove(&format::file_name(key))?;
        self.counters.evictions.add(1);
        self.counters.evicted_bytes.add(bytes);
        Ok(())
    }

    /// After an error: whether it is not one of a single file.
    pub(crate) fn is_lost(&self) -> bool {
        if self.lost.is_cancelled() {
            return true;
        }
        let Err(error) = self.backend.check() else {
            return false;
        };
        *self.loss.lock() = error.to_string();
        self.lost.cancel();
        true
    }

    fn trouble(&self, why: Trouble, detail: &dyn std::fmt::Display) {
        if why == Trouble::Failed && self.is_lost() {
            // Whoever watches the directory says so, once.
            self.gate.shut(self.ages.clock());
            return;
        }
        self.gate.trouble(self.ages.clock(), why, detail);
    }

    /// Takes a file into the catalog that an earlier process left.
    pub(crate) fn adopt(&self, key: BlockKey) -> Option<Entry> {
        let claim = self.catalog.claim(key);
        if let Some(entry) = claim.entry() {
            return Some(entry);
        }
        let header = match self.header(key) {
            Ok(header) => header,
            Err(Bad::Gone) => return None,
            Err(bad) => {
                self.discard(&claim, key, &bad);
                return None;
            }
        };
        let presence = header.presence();
        let facts = Facts {
            mount: header.mount,
            presence,
            cost: format::cost_of(presence),
            used: self.ages.now(),
            pinned: self.backend.open(&format::pin_name(key)).is_ok(),
            trusted: false,
            synced: false,
        };
        self.catalog.count_space(facts.cost);
        let entry = claim.publish(facts);
        self.counters.recovered.add(1);
        drop(claim);
        self.note_eviction(
            self.catalog
                .shrink(&|victim, bytes| self.evict(victim, bytes)),
        );
        Some(entry)
    }

    fn note_eviction<T>(&self, result: io::Result<T>) -> Option<T> {
        if let Err(error) = &result {
            self.counters.io_errors.add(1);
            self.trouble(Trouble::Failed, error);
        }
        result.ok()
    }

    /// Adds chunks to a block, keeping those that are there.
    pub(crate) fn put(&self, offered: &Image, durable: bool) -> WriteOutcome {
        let outcome = self
            .try_put(offered, durable)
            .unwrap_or_else(WriteOutcome::Rejected);
        match outcome {
            WriteOutcome::Stored => {
                self.counters.stored.add(1);
                self.counters.stored_bytes.add(offered.present_bytes());
            }
            WriteOutcome::AlreadyPresent => self.counters.already_present.add(1),
            WriteOutcome::Rejected(_) => self.counters.rejected.add(1),
        }
        outcome
    }

    fn try_put(&self, offered: &Image, durable: bool) -> Result<WriteOutcome, Rejection> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Rejection::Closed);
        }
        if self.is_recovering() {
            return Err(Rejection::Recovering);
        }
        if !self.gate.is_open(self.ages.clock()) {
            return Err(Rejection::WritesOff);
        }
        let claim = self.catalog.claim(offered.key);
        if !durable
            && claim
                .entry()
                .is_some_and(|entry| entry.presence().is_complete())
        {
            match self.header(offered.key) {
                Ok(header) if header.disagrees(offered) => return Err(Rejection::Disagrees),
                Ok(_) => return Ok(WriteOutcome::AlreadyPresent),
                Err(bad) => self.discard(&claim, offered.key, &bad),
            }
        }
        let mut image = self.existing(&claim, offered)?;
        let news = image.news_in(offered).map_err(|_| Rejection::Disagrees)?;
        let before = claim.entry();
        let kept = before.is_some_and(|entry| entry.synced && entry.pinned);
        if news.is_empty() && (!durable || kept) {
            return Ok(WriteOutcome::AlreadyPresent);
        }
        let outcome = if news.is_empty() {
            WriteOutcome::AlreadyPresent
        } else {
            WriteOutcome::Stored
        };
        image.add(news);
        let pinned = durable || before.is_some_and(|entry| entry.pinned);
        self.write(&claim, &image, durable, pinned)?;
        Ok(outcome)
    }

    /// All that is on disk of the block; empty where there is nothing usable.
    fn existing(&self, claim: &Claim<'_>, offered: &Image) -> Result<Image, Rejection> {
        let nothing = Image::empty(offered.key, offered.mount, offered.block_len);
        if claim.entry().is_none() {
            return Ok(nothing);
        }
        let whole = 0..u64::MAX;
        match self.read(offered.key, &whole) {
            Ok((_, header)) if header.disagrees(offered) => Err(Rejection::Disagrees),
            Ok((image, _)) => Ok(image),
            Err(bad) => {
                self.discard(claim, offered.key, &bad);
                Ok(nothing)
            }
        }
    }

    fn write(
        &self,
        claim: &Claim<'_>,
        image: &Image,
        durable: bool,
        pinned: bool,
    ) -> Result<(), Rejection> {
        let sync = durable || self.config.settings.sync;
        let facts = Facts {
            mount: image.mount,
            presence: image.presence(),
            cost: format::cost_of(image.presence()),
            used: self.ages.now(),
            pinned,
            trusted: true,
            synced: sync,
        };
        self.make_room(facts.cost)?;
        let was_pinned = claim.entry().is_some_and(|entry| entry.pinned);
        let written = self.put_files(image, sync, pinned && !was_pinned);
        if let Err(error) = written {
            self.catalog.give_back(facts.cost);
            self.write_failed(&error);
            return Err(Rejection::WritesOff);
        }
        self.gate.worked();
        claim.publish(facts);
        Ok(())
    }

    fn put_files(&self, image: &Image, sync: bool, pin: bool) -> io::Result<()> {
        let mut parts = vec![Bytes::from(Header::of(image).encode())];
        parts.extend(image.runs.iter().map(|run| run.bytes.clone()));
        let pin_name = format::pin_name(image.key);
        if pin {
            // First the mark, so that no crash leaves a promised block without it.
            self.backend.put_atomic(&pin_name, &[], true)?;
        }
        let written = self
            .backend
            .put_atomic(&format::file_name(image.key), &parts, sync);
        if written.is_err() && pin {
            // A mark without a block is removed at the next start at the latest.
            let _ = self.backend.remove(&pin_name);
        }
        written
    }

    fn write_failed(&self, error: &io::Error) {
        self.counters.io_errors.add(1);
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        let why = if full { Trouble::Full } else { Trouble::Failed };
        self.trouble(why, error);
    }

    /// Reserves space in the tier, and sees to it that the file system keeps its own.
    fn make_room(&self, cost: u64) -> Result<(), Rejection> {
        if cost > self.config.capacity {
            return Err(Rejection::TooLarge);
        }
        self.leave_free_space(cost)?;
        let reserved = self
            .catalog
            .reserve(cost, &|victim, bytes| self.evict(victim, bytes));
        let reserved = self.note_eviction(reserved).ok_or(Rejection::WritesOff)?;
        reserved.then_some(()).ok_or(Rejection::NoSpace)
    }

    fn leave_free_space(&self, cost: u64) -> Result<(), Rejection> {
        let wanted = cost.saturating_add(self.config.settings.min_free.get());
        let free = || self.note_eviction(self.backend.free_space());
        let deficit = wanted.saturating_sub(free().ok_or(Rejection::WritesOff)?);
        if deficit == 0 {
            return Ok(());
        }
        let mut evicted = 0;
        while evicted < deficit.min(STEP) {
            let one = self
                .catalog
                .evict_one(&|victim, bytes| self.evict(victim, bytes));
            match self.note_eviction(one).flatten() {
                Some(bytes) => evicted += bytes,
                None => break,
            }
        }
        if free().ok_or(Rejection::WritesOff)? >= wanted {
            return Ok(());
        }
        self.trouble(
            Trouble::LowSpace,
            &format_args!("{wanted} bytes are wanted free"),
        );
        Err(Rejection::WritesOff)
    }

    /// Keeps a block from being evicted, or lets it.
    pub(crate) fn set_pinned(&self, key: BlockKey, pinned: bool) -> Result<bool, BlockError> {
        if self.find(key, None).is_none() {
            return Ok(false);
        }
        let claim = self.catalog.claim(key);
        let Some(entry) = claim.entry() else {
            return Ok(false);
        };
        if entry.pinned == pinned {
            return Ok(true);
        }
        let name = format::pin_name(key);
        let changed = if pinned {
            self.backend.put_atomic(&name, &[], true)
        } else {
            self.backend.remove(&name)
        };
        changed.map_err(|source| BlockError::Pin { key, source })?;
        claim.set_pinned(pinned);
        Ok(true)
    }

    /// Forgets what is selected. Everything has to be in the catalog by now, except for
    /// a single block, which is found by its name.
    pub(crate) fn remove(&self, selector: Selector) -> Removed {
        let now = self.ages.now();
        let matches = |key: &BlockKey, entry: &Entry| match selector {
            Selector::Block(block) => *key == block,
            Selector::Content(content) => key.content == content,
            Selector::Mount(mount) => entry.mount == mount,
            Selector::Idle(idle) => !entry.pinned && Ages::idle(entry.used, now, idle),
        };
        let keys = if let Selector::Block(key) = selector {
            self.find(key, None).map(|_| key).into_iter().collect()
        } else {
            let mut all = self.catalog.all();
            all.retain(|(key, entry)| matches(key, entry));
            all.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let mut removed = Removed::default();
        for key in keys {
            removed += self.remove_block(key);
        }
        removed
    }

    fn remove_block(&self, key: BlockKey) -> Removed {
        let claim = self.catalog.claim(key);
        let Some(entry) = claim.entry() else {
            return Removed::default();
        };
        if self.unlink(key).is_err() {
            return Removed::default();
        }
        claim.forget();
        Removed {
            blocks: 1,
            bytes: format::cost_of(entry.presence()),
        }
    }

    /// Opens a range as part of a file that stays until it is returned.
    pub(crate) fn borrow(self: &Arc<Self>, key: BlockKey, range: &Range<u64>) -> Option<Borrowed> {
        self.find(key, Some(range))?;
        let entry = self.catalog.hold(key)?;
        let hold = FileHold {
            files: Arc::clone(self),
            key,
            generation: entry.generation,
        };
        match self.borrow_held(&entry, range, hold) {
            Ok(borrowed) => borrowed,
            Err(bad) => {
                self.give_up(key, entry.generation, &bad);
                None
            }
        }
    }

    fn borrow_held(
        &self,
        entry: &Entry,
        range: &Range<u64>,
        hold: FileHold,
    ) -> Result<Option<Borrowed>, Bad> {
        let key = hold.key;
        let opened = self.backend.open(&format::file_name(key))?;
        let same = self.catalog.peek(key);
        if same.is_none_or(|now| now.generation != entry.generation) {
            return Ok(None);
        }
        let header = read_header(&*opened, key)?;
        if clip(range, header.block_len) != *range || range.is_empty() {
            return Ok(None);
        }
        let chunks = chunk::touched(range);
        let stretches = header.stretches(&chunks);
        let [stretch] = &stretches[..] else {
            return Ok(None);
        };
        if stretch.chunks != chunks {
            return Ok(None);
        }
        if !entry.trusted {
            read_chunks(&*opened, &header, &(0..u64::MAX))?;
            self.catalog.trust(key, entry.generation);
        }
        let Some(file) = opened.file() else {
            let parts = read_chunks(&*opened, &header, range)?.parts(range);
            return Ok(parts.map(Borrowed::Memory));
        };
        let into = range.start - chunk::bytes_of(&chunks, header.block_len).start;
        Ok(Some(Borrowed::File(BorrowedFile {
            file,
            offset: stretch.offset + into,
            range: range.clone(),
            checksum: whole_sum(&header, &chunks, range),
            tier: Tier::Disk,
            hold: Box::new(hold),
        })))
    }

    pub(crate) fn presence(&self, key: BlockKey) -> Option<Presence> {
        self.find(key, None).map(|entry| entry.presence())
    }
}

/// The checksum of a range, where it is one of whole chunks.
fn whole_sum(header: &Header, chunks: &Range<u32>, range: &Range<u64>) -> Option<Checksum> {
    let whole = chunk::bytes_of(chunks, header.block_len) == *range;
    let sum = || chunk::combine(&header.sums_of(chunks), range.end - range.start);
    whole.then(|| Checksum(sum()))
}

/// Keeps a file from being evicted.
#[derive(Debug)]
struct FileHold {
    files: Arc<Files>,
    key: BlockKey,
    generation: u32,
}

impl Drop for FileHold {
    fn drop(&mut self) {
        self.files.catalog.release(self.key, self.generation);
    }
}

fn read_header(file: &dyn DiskFile, key: BlockKey) -> Result<Header, Bad> {
    let file_len = file.size()?;
    let page = file.read_at(0, format::PAGE as usize)?;
    let len = Header::peek(&page)?;
    if len <= format::PAGE {
        return Ok(Header::decode(&page, key, file_len)?);
    }
    let whole = file.read_at(0, len as usize)?;
    Ok(Header::decode(&whole, key, file_len)?)
}

fn read_chunks(file: &dyn DiskFile, header: &Header, range: &Range<u64>) -> Result<Image, Bad> {
    let chunks = chunk::touched(&clip(range, header.block_len));
    let mut image = Image::empty(header.key, header.mount, header.block_len);
    for stretch in header.stretches(&chunks) {
        let bytes = file.read_at(stretch.offset, stretch.len as usize)?;
        let sums = header.sums_of(&stretch.chunks);
        if bytes.len() as u64 != stretch.len || chunk::sums(&bytes) != sums {
            return Err(Unusable::Corrupt.into());
        }
        image.runs.push(Run {
            first: stretch.chunks.start,
            bytes,
            sums,
            file: None,
        });
    }
    Ok(image)
}
