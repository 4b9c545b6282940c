//! Who has to go when space is short.
//!
//! A policy is pure bookkeeping: it never locks, never does I/O and never decides
//! *when* to evict, only *who*. The tier that owns it holds it under its own lock and
//! keeps the [`Slot`] of every key beside the key's entry, so that a policy needs no
//! second map (index memory is counted, see the crate's header).

use std::fmt;

mod fifo;
mod list;
mod lru;

pub use fifo::Fifo;
pub use lru::Lru;

use crate::config::EvictionKind;

/// The place of a key in a policy; valid from `insert` until `remove` or until
/// `pop_victim` returned the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u32);

/// Chooses victims by bytes.
///
/// # Contract
/// - The caller passes only valid slots, inserts a key at most once at a time, and
///   serialises all calls.
/// - A pinned key is never a victim. Pins are counted.
/// - [`weight`](Self::weight) is the sum over all keys, pinned ones included; the caller
///   evicts while [`excess`](Self::excess) is above zero.
/// - Every call takes constant time but for memory growth.
pub trait EvictionPolicy<K>: Send + fmt::Debug {
    /// Adds a key of `weight` bytes.
    fn insert(&mut self, key: K, weight: u64) -> Slot;

    /// The key was used.
    fn touch(&mut self, slot: Slot);

    /// The key's weight changed.
    fn reweigh(&mut self, slot: Slot, weight: u64);

    /// Forgets a key, pinned or not.
    fn remove(&mut self, slot: Slot);

    /// Takes out the key that should go next, with its weight; `None` if every key is
    /// pinned.
    fn pop_victim(&mut self) -> Option<(K, u64)>;

    /// Keeps a key from being a victim until it was unpinned as often.
    fn pin(&mut self, slot: Slot);

    /// Takes one pin back.
    fn unpin(&mut self, slot: Slot);

    /// Bytes of all keys.
    fn weight(&self) -> u64;

    /// Bytes of the pinned keys.
    fn pinned_weight(&self) -> u64;

    /// Bytes that the keys may weigh.
    fn capacity(&self) -> u64;

    /// Changes the capacity; the caller then evicts what is in excess.
    fn set_capacity(&mut self, bytes: u64);

    /// Bytes of memory that the policy itself holds.
    fn memory(&self) -> u64;

    /// Bytes that have to go before `incoming` more fit.
    fn excess(&self, incoming: u64) -> u64 {
        (self.weight().saturating_add(incoming)).saturating_sub(self.capacity())
    }
}

/// The policy that a setting names.
pub(crate) fn build<K>(kind: EvictionKind, capacity: u64) -> Box<dyn EvictionPolicy<K>>
where
    K: Copy + Send + fmt::Debug + 'static,
{
    match kind {
        EvictionKind::Lru => Box::new(Lru::new(capacity)),
        EvictionKind::Fifo => Box::new(Fifo::new(capacity)),
    }
}

#[cfg(test)]
mod tests;
