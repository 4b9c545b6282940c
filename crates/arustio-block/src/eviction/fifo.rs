//! First in, first out: the plainest policy, and the baseline of the others.

use super::list::List;
use super::{EvictionPolicy, Print, Slot};

/// Evicts in the order of insertion.
#[derive(Debug)]
pub struct Fifo(List<1>);

impl Fifo {
    /// An empty policy.
    pub fn new() -> Self {
        Self(List::new())
    }
}

impl Default for Fifo {
    fn default() -> Self {
        Self::new()
    }
}

impl EvictionPolicy for Fifo {
    fn insert(&mut self, print: Print, weight: u64) -> Slot {
        self.0.insert(print, weight, 0)
    }

    fn touch(&mut self, _slot: Slot) {}

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
