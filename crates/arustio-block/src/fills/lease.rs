//! Who fills what: the rules, without clock, store or network.
//!
//! A lease is the duty to bring the bytes of an exact range of a block. While it is live
//! nobody else is asked to bring them. Its holder renews it with every byte that arrives;
//! after [`FillConfig::lease`] without one it is *overdue*, which means that the next
//! reader who wants a part of it takes it away. As long as nobody does, the holder may go
//! on: a slow store is no reason to throw away what it sends.
//!
//! A lease that ends says why. What concerns all readers (the version is gone, the bytes
//! must not be cached, there is no room) leaves a *mark* on the block for as long as a
//! lease lasts: they are told instead of trying one after the other.
//!
//! # Invariants
//! - Live leases of one block never overlap.
//! - Leases, marks and waiters are bounded by the settings, whatever peers ask for; room is
//!   made by forgetting overdue leases and old marks, never live leases.
//! - A block without leases, mark and waiters has no entry.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use arustio_types::BlockKey;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::FillConfig;

/// After so many times its length without a sign of life an overdue lease is forgotten,
/// even if nobody wants it: its holder is gone.
const FORGOTTEN: u32 = 16;
/// Leases of one answer; what would be more is asked for again.
pub const MOST_GRANTS: usize = 32;

/// Names a lease of one run of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who holds leases, so that they can be taken away together; 0 is nobody in particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Holder(pub u64);

/// The duty to bring the bytes of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub lease: LeaseId,
    /// Which bytes of the block.
    pub range: Range<u64>,
    /// How long it lasts without a byte or a renewal.
    pub lasts: Duration,
}

/// Why a lease ends before all of its bytes are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The holder goes, or cannot; somebody else may try.
    GaveUp,
    /// The version is gone from the store below.
    Stale,
    /// The bytes must not be cached.
    Uncacheable,
    /// The node takes no bytes at the moment.
    NoRoom,
}

/// Why a reader has to go to the store below without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A filler found the version gone.
    Stale,
    /// A filler found that the bytes must not be cached.
    Uncacheable,
    /// There is no room for bytes, leases or waiters.
    Busy,
}

/// What a reader is told about the bytes that are missing.
#[derive(Debug)]
pub enum Verdict {
    /// The block changed since the reader looked: look again.
    Again,
    /// These are the reader's to bring; what else is missing is brought by others.
    Granted(Vec<Grant>),
    /// Others bring all of it. The reader counts as waiting until
    /// [`LeaseTable::leave`].
    Filling {
        /// Rings when something changes.
        bell: watch::Receiver<()>,
        /// When the first of these leases is overdue.
        until: Instant,
    },
    /// Neither.
    Refused(Refusal),
}

/// Counters of leases since the node was started. All only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FillMetrics {
    /// Leases that were given.
    pub granted: u64,
    /// Leases whose bytes are all there.
    pub completed: u64,
    /// Times that a reader waited for another's bytes.
    pub waited: u64,
    /// Leases that ended before their bytes were there.
    pub lost: u64,
    /// Bytes that came without a lease, as often as they came.
    pub late: u64,
    /// Readers that were sent to the store below.
    pub rejected: u64,
}

impl FillMetrics {
    /// Name and value of each counter.
    pub fn values(&self) -> [(&'static str, u64); 6] {
        [
            ("arustio_block_fills_granted_total", self.granted),
            ("arustio_block_fills_completed_total", self.completed),
            ("arustio_block_fills_waited_total", self.waited),
            ("arustio_block_fills_lost_total", self.lost),
            ("arustio_block_fills_late_total", self.late),
            ("arustio_block_fills_rejected_total", self.rejected),
        ]
    }
}

#[derive(Debug)]
struct Lease {
    id: LeaseId,
    holder: Holder,
    range: Range<u64>,
    /// Bytes that did not come yet.
    left: u64,
    expires: Instant,
}

#[derive(Debug)]
struct Block {
    leases: Vec<Lease>,
    mark: Option<(Refusal, Instant)>,
    waiters: usize,
    /// Of the last change; 0 is none.
    version: u64,
    bell: watch::Sender<()>,
}

/// All leases of a node.
#[derive(Debug)]
pub struct LeaseTable {
    config: FillConfig,
    next: u64,
    changes: u64,
    blocks: HashMap<BlockKey, Block>,
    leases: HashMap<LeaseId, BlockKey>,
    /// All leases by when they are overdue.
    due: BTreeSet<(Instant, LeaseId)>,
    /// Marks by age: they all last equally long.
    marks: VecDeque<(Instant, BlockKey)>,
    waiters: usize,
    pub(super) metrics: FillMetrics,
}

impl LeaseTable {
    /// Empty. `first` is random, so that no lease of an earlier run is taken for one of this.
    pub fn new(config: FillConfig, first: u64) -> Self {
        Self {
            config,
            next: first,
            changes: 0,
            blocks: HashMap::new(),
            leases: HashMap::new(),
            due: BTreeSet::new(),
            marks: VecDeque::new(),
            waiters: 0,
            metrics: FillMetrics::default(),
        }
    }

    /// A number that differs after every change of a block.
    pub fn version(&self, key: &BlockKey) -> u64 {
        self.blocks.get(key).map_or(0, |block| block.version)
    }

    /// What becomes of `gaps`, the ranges of a block that a reader wants and did not find
    /// when the block's version was `seen`. Ascending and disjoint.
    pub fn want(
        &mut self,
        key: BlockKey,
        gaps: &[Range<u64>],
        seen: u64,
        holder: Holder,
        now: Instant,
    ) -> Verdict {
        self.tidy(now);
        if self.version(&key) != seen {
            return Verdict::Again;
        }
        if let Some(why) = self.marked(&key, now) {
            return self.refused(why);
        }
        self.take_overdue(key, gaps, now);
        let free = self.free(&key, gaps);
        if free.is_empty() {
            return self.wait(key, gaps, now);
        }
        let mut grants = Vec::new();
        for range in free.into_iter().take(MOST_GRANTS) {
            if !self.make_room(now) {
                break;
            }
            grants.push(self.grant(key, range, holder, now));
        }
        match grants.is_empty() {
            true => self.refused(Refusal::Busy),
            false => Verdict::Granted(grants),
        }
    }

    /// Takes grants back that were not needed: their bytes are there.
    pub fn cancel(&mut self, grants: &[Grant]) {
        for grant in grants {
            if let Some(key) = self.remove(grant.lease) {
                self.metrics.granted -= 1;
                self.ring(&key);
                self.drop_if_idle(&key);
            }
        }
    }

    /// Whether `lease` is still there and covers `range` of this block.
    pub fn holds(&self, lease: LeaseId, key: &BlockKey, range: &Range<u64>) -> bool {
        let covers =
            |lease: &Lease| lease.range.start <= range.start && range.end <= lease.range.end;
        self.leases.get(&lease) == Some(key) && self.find(lease).is_some_and(covers)
    }

    /// Bytes of a lease are in the store: it is renewed, or over with the last of them.
    pub fn progress(&mut self, id: LeaseId, bytes: u64, now: Instant) {
        self.renew(id, now);
        let Some(key) = self.leases.get(&id).copied() else {
            return;
        };
        let mut done = false;
        if let Some(lease) = self.find_mut(id) {
            lease.left = lease.left.saturating_sub(bytes);
            done = lease.left == 0;
        }
        if done {
            self.metrics.completed += 1;
            self.remove(id);
        }
        self.ring(&key);
        self.drop_if_idle(&key);
    }

    /// A sign of life. False: the lease is gone.
    pub fn renew(&mut self, id: LeaseId, now: Instant) -> bool {
        let expires = now + self.config.lease;
        let Some(lease) = self.find_mut(id) else {
            return false;
        };
        let before = std::mem::replace(&mut lease.expires, expires);
        self.due.remove(&(before, id));
        self.due.insert((expires, id));
        true
    }

    /// Ends a lease before its bytes are there. False: it is gone already.
    pub fn end(&mut self, id: LeaseId, why: Ending, now: Instant) -> bool {
        let Some(key) = self.remove(id) else {
            return false;
        };
        self.metrics.lost += 1;
        let refusal = match why {
            Ending::GaveUp => None,
            Ending::Stale => Some(Refusal::Stale),
            Ending::Uncacheable => Some(Refusal::Uncacheable),
            Ending::NoRoom => Some(Refusal::Busy),
        };
        if let Some(refusal) = refusal {
            self.mark(key, refusal, now);
        }
        self.ring(&key);
        self.drop_if_idle(&key);
        true
    }

    /// Ends all leases of a holder that is gone.
    pub fn abandon(&mut self, holder: Holder, now: Instant) {
        let theirs = |block: &Block| -> Vec<LeaseId> {
            let leases = block.leases.iter();
            let theirs = leases.filter(|lease| lease.holder == holder);
            theirs.map(|lease| lease.id).collect()
        };
        let ids: Vec<LeaseId> = self.blocks.values().flat_map(theirs).collect();
        for id in ids {
            self.end(id, Ending::GaveUp, now);
        }
    }

    /// Tells those who wait that something of a block has changed.
    pub fn ring(&mut self, key: &BlockKey) {
        if let Some(block) = self.blocks.get_mut(key) {
            self.changes += 1;
            block.version = self.changes;
            // Nobody has to be waiting.
            let _ = block.bell.send(());
        }
    }

    /// Somebody waits no longer.
    pub fn leave(&mut self, key: &BlockKey) {
        self.waiters = self.waiters.saturating_sub(1);
        if let Some(block) = self.blocks.get_mut(key) {
            block.waiters = block.waiters.saturating_sub(1);
        }
        self.drop_if_idle(key);
    }

    /// Whether somebody waits for something of a block.
    pub fn is_awaited(&self, key: &BlockKey) -> bool {
        self.blocks.get(key).is_some_and(|block| block.waiters > 0)
    }

    /// Leases, marks and waiters that there are.
    pub fn load(&self) -> (usize, usize, usize) {
        (self.leases.len(), self.marks.len(), self.waiters)
    }

    /// Whether nothing is kept of any block.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.due.is_empty()
    }

    /// What was counted.
    pub fn metrics(&self) -> FillMetrics {
        self.metrics
    }

    pub(super) fn refused(&mut self, why: Refusal) -> Verdict {
        self.metrics.rejected += 1;
        Verdict::Refused(why)
    }

    /// Forgets what is too old to matter.
    fn tidy(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.marks.front().filter(|(at, _)| *at <= now) {
            self.marks.pop_front();
            self.unmark(&key, at);
        }
        let patience = self.config.lease * FORGOTTEN;
        while let Some(&(expires, id)) = self.due.first().filter(|(at, _)| *at + patience <= now) {
            debug_assert!(expires <= now);
            self.end(id, Ending::GaveUp, now);
        }
    }

    fn marked(&self, key: &BlockKey, now: Instant) -> Option<Refusal> {
        let (why, until) = self.blocks.get(key)?.mark?;
        (now < until).then_some(why)
    }

    /// What somebody wants of a lease that is overdue, its holder has lost.
    fn take_overdue(&mut self, key: BlockKey, gaps: &[Range<u64>], now: Instant) {
        let Some(block) = self.blocks.get(&key) else {
            return;
        };
        let overdue = |lease: &&Lease| {
            lease.expires <= now && gaps.iter().any(|gap| overlap(gap, &lease.range).is_some())
        };
        let ids: Vec<_> = block.leases.iter().filter(overdue).map(|l| l.id).collect();
        for id in ids {
            self.end(id, Ending::GaveUp, now);
        }
    }

    /// What of the gaps nobody brings.
    fn free(&self, key: &BlockKey, gaps: &[Range<u64>]) -> Vec<Range<u64>> {
        let leases = self.blocks.get(key).map_or(&[][..], |block| &block.leases);
        let mut free = gaps.to_vec();
        for lease in leases {
            free = free
                .into_iter()
                .flat_map(|range| without(range, &lease.range))
                .collect();
        }
        free
    }

    fn wait(&mut self, key: BlockKey, gaps: &[Range<u64>], now: Instant) -> Verdict {
        if self.waiters >= self.config.waiters {
            return self.refused(Refusal::Busy);
        }
        let Some(block) = self.blocks.get_mut(&key) else {
            // No gaps, so nothing to wait for.
            return Verdict::Again;
        };
        let wanted = |lease: &&Lease| gaps.iter().any(|gap| overlap(gap, &lease.range).is_some());
        let first = block.leases.iter().filter(wanted).map(|l| l.expires).min();
        block.waiters += 1;
        self.waiters += 1;
        self.metrics.waited += 1;
        Verdict::Filling {
            bell: block.bell.subscribe(),
            until: first.unwrap_or(now),
        }
    }

    fn grant(&mut self, key: BlockKey, range: Range<u64>, holder: Holder, now: Instant) -> Grant {
        let id = LeaseId(self.next);
        self.next = self.next.wrapping_add(1);
        let expires = now + self.config.lease;
        let lease = Lease {
            id,
            holder,
            left: range.end - range.start,
            range: range.clone(),
            expires,
        };
        self.entry(key).leases.push(lease);
        self.leases.insert(id, key);
        self.due.insert((expires, id));
        self.metrics.granted += 1;
        Grant {
            lease: id,
            range,
            lasts: self.config.lease,
        }
    }

    /// Room for one lease more; overdue ones have to go for it.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.leases.len() < self.config.leases {
            return true;
        }
        match self.due.first() {
            Some(&(expires, id)) if expires <= now => self.end(id, Ending::GaveUp, now),
            _ => false,
        }
    }

    fn mark(&mut self, key: BlockKey, why: Refusal, now: Instant) {
        if self.marks.len() >= self.config.leases
            && let Some((at, oldest)) = self.marks.pop_front()
        {
            self.unmark(&oldest, at);
        }
        let until = now + self.config.lease;
        self.entry(key).mark = Some((why, until));
        self.marks.push_back((until, key));
    }

    fn unmark(&mut self, key: &BlockKey, at: Instant) {
        if let Some(block) = self.blocks.get_mut(key)
            && block.mark.is_some_and(|(_, until)| until <= at)
        {
            block.mark = None;
        }
        self.drop_if_idle(key);
    }

    fn entry(&mut self, key: BlockKey) -> &mut Block {
        self.blocks.entry(key).or_insert_with(|| Block {
            leases: Vec::new(),
            mark: None,
            waiters: 0,
            version: 0,
            bell: watch::Sender::new(()),
        })
    }

    fn find(&self, id: LeaseId) -> Option<&Lease> {
        let block = self.blocks.get(self.leases.get(&id)?)?;
        block.leases.iter().find(|lease| lease.id == id)
    }

    fn find_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        let block = self.blocks.get_mut(self.leases.get(&id)?)?;
        block.leases.iter_mut().find(|lease| lease.id == id)
    }

    /// Takes a lease out; its block stays until it is idle.
    fn remove(&mut self, id: LeaseId) -> Option<BlockKey> {
        let key = self.leases.remove(&id)?;
        let block = self.blocks.get_mut(&key)?;
        let at = block.leases.iter().position(|lease| lease.id == id)?;
        let lease = block.leases.swap_remove(at);
        self.due.remove(&(lease.expires, id));
        Some(key)
    }

    fn drop_if_idle(&mut self, key: &BlockKey) {
        let idle =
            |block: &Block| block.leases.is_empty() && block.mark.is_none() && block.waiters == 0;
        if self.blocks.get(key).is_some_and(idle) {
            self.blocks.remove(key);
        }
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> Option<Range<u64>> {
    let both = a.start.max(b.start)..a.end.min(b.end);
    (both.start < both.end).then_some(both)
}

/// What is left of a range.
fn without(range: Range<u64>, taken: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let (before, after) = match overlap(&range, taken) {
        None => (range, 0..0),
        Some(both) => (range.start..both.start, both.end..range.end),
    };
    [before, after].into_iter().filter(|rest| !rest.is_empty())
}
