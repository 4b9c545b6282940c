//! Who has to go when space is short.
//!
//! A policy is pure bookkeeping: it never locks, never does I/O and never decides
//! *when* to evict, only *who*. It knows no keys either: it deals in [`Slot`]s, small
//! numbers under which the owner keeps what it has ([`crate::shelf`]), and in
//! [`Print`]s, by which it recognises a key that comes back. So a key is in memory once.

use std::fmt;

mod fifo;
mod ghosts;
mod list;
mod lru;
mod s3fifo;

pub use fifo::Fifo;
pub use lru::Lru;
pub use s3fifo::S3Fifo;

use crate::config::EvictionKind;

/// The place of a key in a policy; valid from `insert` until `remove` or until
/// `pop_victim` returned it. Slots are given again, the free ones first, so an owner may
/// keep a vector by slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u32);

impl Slot {
    /// Where to keep what belongs to the slot.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A fingerprint of a key: 32 bits of its hash. Keys that share one are mistaken for each
/// other where a policy remembers what is gone, which costs a hit at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Print(pub u32);

/// Chooses victims by bytes.
///
/// # Contract
/// - The caller passes only valid slots, inserts a key at most once at a time, and
///   serialises all calls.
/// - A pinned slot is never a victim. Pins are counted, up to 65,535.
/// - [`weight`](Self::weight) is the sum over all slots, pinned ones included.
/// - Every call takes constant time but for memory growth; `pop_victim` takes it on the
///   average of all calls, and never looks at a slot again that gave it nothing to do.
pub trait EvictionPolicy: Send + fmt::Debug {
    /// Adds a key of `weight` bytes.
    fn insert(&mut self, print: Print, weight: u64) -> Slot;

    /// The key was used.
    fn touch(&mut self, slot: Slot);

    /// The key's weight changed.
    fn reweigh(&mut self, slot: Slot, weight: u64);

    /// Forgets a key, pinned or not, without a trace.
    fn remove(&mut self, slot: Slot);

    /// Takes out the key that should go next, with its weight; `None` if every key is
    /// pinned.
    fn pop_victim(&mut self) -> Option<(Slot, u64)>;

    /// Keeps a key from being a victim until it was unpinned as often.
    fn pin(&mut self, slot: Slot);

    /// Takes one pin back.
    fn unpin(&mut self, slot: Slot);

    /// Bytes of all keys.
    fn weight(&self) -> u64;

    /// Bytes of the pinned keys.
    fn pinned_weight(&self) -> u64;

    /// Bytes of memory that the policy itself holds.
    fn memory(&self) -> u64;

    /// Whether the key was a victim not long ago, as far as the policy remembers any.
    fn remembers(&self, _print: Print) -> bool {
        false
    }
}

/// The policy that a setting names.
pub(crate) fn build(kind: EvictionKind) -> Box<dyn EvictionPolicy> {
    match kind {
        EvictionKind::S3Fifo => Box::new(S3Fifo::new()),
        EvictionKind::Lru => Box::new(Lru::new()),
        EvictionKind::Fifo => Box::new(Fifo::new()),
    }
}

/// Appends to a vector that grows by an eighth where others double: what is counted per
/// block should not depend on when the last growth was.
pub(crate) fn push_lean<T>(items: &mut Vec<T>, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact((items.len() / 8).max(16));
    }
    items.push(item);
}

#[cfg(test)]
mod tests;
