//! Least recently used, weighted by bytes: good for re-reading, not resistant to scans.

use super::list::List;
use super::{EvictionPolicy, Print, Slot};

/// Evicts what was not used for the longest time, in bytes rather than entries.
#[derive(Debug)]
pub struct Lru(List<1>);

impl Lru {
    /// An empty policy.
    pub fn new() -> Self {
        Self(List::new())
    }
}

impl Default for Lru {
    fn default() -> Self {
        Self::new()
    }
}

impl EvictionPolicy for Lru {
    fn insert(&mut self, print: Print, weight: u64) -> Slot {
        self.0.insert(print, weight, 0)
    }

    fn touch(&mut self, slot: Slot) {
        self.0.renew(slot, 0);
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        self.0.reweigh(slot, weight);
    }

    fn remove(&mut self, slot: Slot) {
        self.0.remove(slot);
    }

    fn pop_victim(&mut self) -> Option<(Slot, u64)> {
        let slot = self.0.oldest(0)?;
        Some((slot, self.0.remove(slot)))
    }

    fn pin(&mut self, slot: Slot) {
        self.0.pin(slot);
    }

    fn unpin(&mut self, slot: Slot) {
        self.0.unpin(slot);
    }

    fn weight(&self) -> u64 {
        self.0.weight()
    }

    fn pinned_weight(&self) -> u64 {
        self.0.pinned()
    }

    fn memory(&self) -> u64 {
        self.0.memory()
    }
}
