//! Least recently used, weighted by bytes: good for re-reading, not resistant to scans.

use super::list::List;
use super::{EvictionPolicy, Slot};

/// Evicts what was not used for the longest time, in bytes rather than entries.
#[derive(Debug)]
pub struct Lru<K>(List<K>);

impl<K: Copy> Lru<K> {
    /// An empty policy.
    pub fn new(capacity: u64) -> Self {
        Self(List::new(capacity))
    }
}

impl<K: Copy + Send + std::fmt::Debug> EvictionPolicy<K> for Lru<K> {
    fn insert(&mut self, key: K, weight: u64) -> Slot {
        self.0.insert(key, weight)
    }

    fn touch(&mut self, slot: Slot) {
        self.0.renew(slot);
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        self.0.reweigh(slot, weight);
    }

    fn remove(&mut self, slot: Slot) {
        self.0.remove(slot);
    }

    fn pop_victim(&mut self) -> Option<(K, u64)> {
        self.0.pop_oldest()
    }

    fn pin(&mut self, slot: Slot) {
        self.0.pin(slot);
    }

    fn unpin(&mut self, slot: Slot) {
        self.0.unpin(slot);
    }

    fn weight(&self) -> u64 {
        self.0.weight
    }

    fn pinned_weight(&self) -> u64 {
        self.0.pinned
    }

    fn capacity(&self) -> u64 {
        self.0.capacity
    }

    fn set_capacity(&mut self, bytes: u64) {
        self.0.capacity = bytes;
    }

    fn memory(&self) -> u64 {
        self.0.memory()
    }
}
