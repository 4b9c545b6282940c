//! Several directories as one disk tier.
//!
//! Each directory is a [`DiskTier`] of its own, with its lock, its space and its pauses; no
//! file is in two by intent, and none knows of the others. A block belongs to the first of
//! them by weighted rendezvous hashing of its key, so each gets its share by capacity, and
//! a directory that comes or goes moves no blocks of the others.
//!
//! # When one fails
//! - Full, or read-only: it takes no writes for `retry_after` and is read on. New blocks
//!   go to the next by rank meanwhile, and are found there, since a read asks every
//!   directory that knows the block.
//! - Gone, or not answering as a whole: it is switched off, once in the log, and opened
//!   anew every `retry_after`. Its blocks are misses meanwhile. What is in it when it is
//!   back is taken in as after a restart.
//!
//! A directory of the configuration's list is never created: one that is missing may be a
//! disk that was not mounted. That holds at the start too, but another process in one of
//! them is an error then, as it is a mistake.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arustio_types::{BlockKey, WallClock};
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::DiskTier;
use crate::config::CheckedDisk;
use crate::error::BlockError;
use crate::image::Image;
use crate::metrics::{Counters, TierMetrics};
use crate::store::{
    BlockStore as _, BlockSummary, Borrowed, Presence, Rejection, Removed, Selector, Tier,
    TierUsage, WriteOutcome,
};

/// The shortest time between two attempts to open a directory.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Directories that hold blocks.
///
/// Dropping it without [`close`](Self::close) leaves background work running for a moment.
#[derive(Debug)]
pub struct Disks {
    inner: Arc<Inner>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Inner {
    members: Vec<Member>,
    clock: Arc<dyn WallClock>,
    write_behind: u64,
    /// What no directory counts.
    own: Counters,
    /// What directories had counted that were switched off.
    gone: Mutex<TierMetrics>,
    closed: AtomicBool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Member {
    /// Where it is opened again; `None` for a tier that was given ready made.
    directory: Option<Directory>,
    weight: u64,
    salt: u64,
    tier: RwLock<Option<Arc<DiskTier>>>,
}

#[derive(Debug, Clone)]
struct Directory {
    path: PathBuf,
    config: CheckedDisk,
    /// It may be made.
    own: bool,
}

impl Directory {
    async fn open(&self, clock: Arc<dyn WallClock>) -> Result<DiskTier, BlockError> {
        // Looking at a path may block, but no longer than opening it does.
        if !self.own
            && !tokio::fs::metadata(&self.path)
                .await
                .is_ok_and(|meta| meta.is_dir())
        {
            return Err(BlockError::Directory {
                dir: self.path.clone(),
                operation: "finding it",
                source: std::io::ErrorKind::NotFound.into(),
            });
        }
        DiskTier::open(&self.path, self.config.clone(), clock).await
    }
}

impl Disks {
    /// Opens the directories of the configuration, or `default` where it names none.
    ///
    /// A directory of the list that cannot be used is left out, and tried again; an error
    /// means that another process uses one, or that `default` cannot be used.
    pub async fn open(
        default: &Path,
        config: CheckedDisk,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, BlockError> {
        let mut members = Vec::new();
        for directory in directories(default, &config) {
            let tier = match directory.open(Arc::clone(&clock)).await {
                Ok(tier) => Some(tier),
                Err(error @ BlockError::Locked { .. }) => return Err(error),
                Err(error) if directory.own => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        %error, retry_after_s = config.settings.retry_after.as_secs(),
                        "a cache directory is left out; the others serve",
                    );
                    None
                }
            };
            members.push(Member::new(Some(directory), tier, 0));
        }
        Ok(Self::of(members, &config, clock))
    }

    fn of(members: Vec<Member>, config: &CheckedDisk, clock: Arc<dyn WallClock>) -> Self {
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            members,
            clock,
            write_behind: config.settings.write_behind.get(),
            own: Counters::default(),
            gone: Mutex::new(Counters::default().snapshot(Tier::Disk)),
            closed: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        });
        let pause = config.settings.retry_after.max(SHORTEST_PAUSE);
        for (at, member) in inner.members.iter().enumerate() {
            if let Some(directory) = &member.directory {
                let watch = watch(Arc::clone(&inner), at, directory.clone(), pause);
                let stop = stop.clone();
                inner.tasks.spawn(async move {
                    stop.run_until_cancelled(watch).await;
                });
            }
        }
        Self {
            inner,
            _stop: stop.drop_guard(),
        }
    }

    /// Waits until everything that was on disk is known. Safe to drop.
    pub async fn recovered(&self) {
        for tier in self.serving() {
            tier.recovered().await;
        }
    }

    /// Bytes of memory that the indexes hold.
    pub fn index_memory(&self) -> u64 {
        self.serving().iter().map(|tier| tier.index_memory()).sum()
    }

    /// Bytes that may be on their way here at a time.
    pub(crate) fn write_behind(&self) -> u64 {
        self.inner.write_behind
    }

    /// The chunks that `range` touches, as far as they are there.
    pub(crate) async fn load(&self, key: BlockKey, range: Range<u64>) -> Option<Image> {
        for tier in self.candidates(key) {
            if let Some(image) = tier.load(key, range.clone()).await {
                return Some(image);
            }
        }
        None
    }

    /// Adds to a block where it is, or else in the first directory that takes it.
    pub(crate) async fn put(&self, image: Image, durable: bool) -> WriteOutcome {
        let mut tiers = self.ranked(image.key);
        tiers.sort_by_key(|tier| tier.known(image.key).is_none());
        let mut outcome = WriteOutcome::Rejected(match self.inner.is_closed() {
            true => Rejection::Closed,
            false => Rejection::WritesOff,
        });
        for tier in tiers {
            outcome = tier.put(image.clone(), durable).await;
            let elsewhere = matches!(
                outcome,
                WriteOutcome::Rejected(
                    Rejection::WritesOff
                        | Rejection::Recovering
                        | Rejection::NoSpace
                        | Rejection::TooLarge
                        | Rejection::Closed
                )
            );
            if !elsewhere {
                break;
            }
        }
        outcome
    }

    /// What is known without touching a disk.
    pub(crate) fn known(&self, key: BlockKey) -> Option<Presence> {
        let known = self
            .serving()
            .into_iter()
            .filter_map(|tier| tier.known(key));
        known.max_by_key(|presence| presence.present)
    }

    /// Whether the block had to go from here not long ago.
    pub(crate) fn remembers(&self, key: BlockKey) -> bool {
        self.serving().iter().any(|tier| tier.remembers(key))
    }

    pub(crate) async fn contains(&self, key: BlockKey) -> Result<Option<Presence>, BlockError> {
        let mut most: Option<Presence> = None;
        for tier in self.candidates(key) {
            let there = tier.contains(key).await?;
            most = most.into_iter().chain(there).max_by_key(|p| p.present);
        }
        Ok(most)
    }

    pub(crate) async fn borrow(
        &self,
        key: BlockKey,
        range: Range<u64>,
    ) -> Result<Option<Borrowed>, BlockError> {
        let candidates = self.candidates(key);
        if candidates.is_empty() {
            self.count_read(false, 0);
        }
        for tier in candidates {
            if let Some(borrowed) = tier.borrow(key, range.clone()).await? {
                return Ok(Some(borrowed));
            }
        }
        Ok(None)
    }

    pub(crate) async fn remove(&self, selector: Selector) -> Result<Removed, BlockError> {
        let mut removed = Removed::default();
        for tier in self.serving() {
            removed += tier.remove(selector).await?;
        }
        Ok(removed)
    }

    pub(crate) async fn pin(&self, key: BlockKey) -> Result<bool, BlockError> {
        for tier in self.candidates(key) {
            if tier.pin(key).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) async fn unpin(&self, key: BlockKey) -> Result<bool, BlockError> {
        let mut there = false;
        for tier in self.candidates(key) {
            there |= tier.unpin(key).await?;
        }
        Ok(there)
    }

    pub(crate) fn count_read(&self, complete: bool, bytes: u64) {
        self.inner.own.read(complete, bytes);
    }

    pub(crate) fn count_dropped_spill(&self) {
        self.inner.own.spills_dropped.add(1);
    }

    pub(crate) fn count_not_admitted(&self) {
        self.inner.own.not_admitted.add(1);
    }

    pub(crate) fn summaries(&self) -> Vec<BlockSummary> {
        let tiers = self.serving().into_iter();
        tiers.flat_map(|tier| tier.summaries()).collect()
    }

    pub(crate) fn tier_usage(&self) -> TierUsage {
        let serving = self.serving();
        let missing = self.inner.members.len() - serving.len();
        let nothing = TierUsage {
            tier: Tier::Disk,
            capacity: 0,
            used: 0,
            blocks: 0,
            pinned: 0,
            writable: false,
            off: missing as u64,
        };
        serving.iter().fold(nothing, |sum, tier| {
            let one = tier.tier_usage();
            TierUsage {
                capacity: sum.capacity.saturating_add(one.capacity),
                used: sum.used + one.used,
                blocks: sum.blocks + one.blocks,
                pinned: sum.pinned + one.pinned,
                writable: sum.writable || one.writable,
                off: sum.off + one.off,
                ..sum
            }
        })
    }

    pub(crate) fn tier_metrics(&self) -> TierMetrics {
        let sum = self
            .inner
            .own
            .snapshot(Tier::Disk)
            .plus(*self.inner.gone.lock());
        let serving = self.serving();
        serving
            .iter()
            .fold(sum, |sum, tier| sum.plus(tier.tier_metrics()))
    }

    /// Ends the watching of directories, and closes them all.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        for tier in self.serving() {
            tier.close().await;
        }
    }

    fn serving(&self) -> Vec<Arc<DiskTier>> {
        let members = self.inner.members.iter();
        members.filter_map(Member::serving).collect()
    }

    /// Those that serve, the one that a block belongs to first.
    fn ranked(&self, key: BlockKey) -> Vec<Arc<DiskTier>> {
        let members = self.inner.members.iter();
        let mut scored: Vec<(f64, Arc<DiskTier>)> = members
            .filter_map(|member| Some((member.score(key), member.serving()?)))
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().map(|(_, tier)| tier).collect()
    }

    /// Those that have a block, or may have it.
    fn candidates(&self, key: BlockKey) -> Vec<Arc<DiskTier>> {
        let mut tiers = self.ranked(key);
        tiers.retain(|tier| tier.may_have(key));
        tiers
    }
}

impl From<DiskTier> for Disks {
    /// A single one, which is not opened again.
    fn from(tier: DiskTier) -> Self {
        let (config, clock) = tier.parts();
        Self::of(vec![Member::new(None, Some(tier), 1)], &config, clock)
    }
}

impl Inner {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    async fn switch_off(&self, at: usize, directory: &Directory, pause: Duration) {
        let Some(tier) = self.members[at].tier.write().take() else {
            return;
        };
        tracing::warn!(
            directory = %directory.path.display(), reason = %tier.loss(),
            retry_after_s = pause.as_secs(),
            "a cache directory is switched off; its blocks are read from elsewhere",
        );
        tier.close().await;
        let mut gone = self.gone.lock();
        *gone = gone.plus(tier.tier_metrics());
    }

    async fn switch_on(&self, at: usize, directory: &Directory) {
        match directory.open(Arc::clone(&self.clock)).await {
            Ok(tier) => {
                tracing::info!(directory = %directory.path.display(), "a cache directory is back");
                *self.members[at].tier.write() = Some(Arc::new(tier));
            }
            Err(error) => tracing::debug!(%error, "a cache directory stays off"),
        }
    }
}

/// Switches a directory off when it is lost, and on again when it is back.
async fn watch(inner: Arc<Inner>, at: usize, directory: Directory, pause: Duration) {
    loop {
        let lost = inner.members[at].serving().map(|tier| tier.lost());
        if let Some(lost) = lost {
            lost.cancelled().await;
            inner.switch_off(at, &directory, pause).await;
        }
        tokio::time::sleep(pause).await;
        inner.switch_on(at, &directory).await;
    }
}

fn directories(default: &Path, config: &CheckedDisk) -> Vec<Directory> {
    let listed = &config.settings.directories;
    if listed.is_empty() {
        return vec![Directory {
            path: default.to_owned(),
            config: config.clone(),
            own: true,
        }];
    }
    let directory = |listed: &crate::config::DirectoryConfig| Directory {
        path: listed.path.clone(),
        config: CheckedDisk {
            capacity: listed.capacity.get(),
            settings: config.settings.clone(),
        },
        own: false,
    };
    listed.iter().map(directory).collect()
}

impl Member {
    fn new(directory: Option<Directory>, tier: Option<DiskTier>, weight: u64) -> Self {
        let path = directory
            .as_ref()
            .map(|directory| directory.path.as_os_str());
        let name = path.map_or(&[][..], |path| path.as_encoded_bytes());
        Self {
            weight: directory.as_ref().map_or(weight, |it| it.config.capacity),
            // Its place in the order survives a restart, and a change of the list.
            salt: u64::from(crate::chunk::checksum(name).0),
            directory,
            tier: RwLock::new(tier.map(Arc::new)),
        }
    }

    fn serving(&self) -> Option<Arc<DiskTier>> {
        self.tier.read().clone()
    }

    /// Rendezvous hashing with the logarithmic weights of Schindelhauer and Schomaker (2005),
    /// as for nodes.
    fn score(&self, key: BlockKey) -> f64 {
        let content = key.content.get();
        let mut hash = mix(self.salt ^ 0x9e37_79b9_7f4a_7c15);
        hash = mix(hash ^ (content as u64));
        hash = mix(hash ^ ((content >> 64) as u64));
        hash = mix(hash ^ key.index.rotate_left(8) ^ u64::from(key.size.log2()));
        let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -(self.weight as f64) / unit.ln()
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
