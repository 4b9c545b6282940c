//! How many bytes the memory tier may use, exactly.
//!
//! Bytes are reserved before anything is allocated for them, and given back by dropping
//! what they were reserved as.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The limit: bytes reserved now, of a total less what others hold.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) total: u64,
    pub(super) aside: AtomicU64,
    used: AtomicU64,
}

impl Budget {
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            aside: AtomicU64::new(0),
            used: AtomicU64::new(0),
        }
    }

    /// What is left for blocks.
    pub(super) fn capacity(&self) -> u64 {
        let aside = self.aside.load(Ordering::Relaxed);
        self.total.saturating_sub(aside.saturating_mul(2))
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reserved> {
        let capacity = self.capacity();
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= capacity);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        Some(Reserved {
            budget: Arc::clone(self),
            bytes,
        })
    }

    pub(super) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes of the budget, given back on drop.
#[derive(Debug)]
pub(super) struct Reserved {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reserved {
    pub(super) fn split(&mut self, bytes: u64) -> Reserved {
        self.bytes -= bytes;
        Reserved {
            budget: Arc::clone(&self.budget),
            bytes,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Leaves the bytes reserved; somebody else will release them.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}
