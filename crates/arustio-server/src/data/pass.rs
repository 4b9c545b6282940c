//! Who is passed descriptors, and what is kept for those who have some.
//!
//! A block whose descriptor was passed is not evicted, and counts, until its client gives
//! it back or goes. So that a client that keeps what it gets harms nobody, a connection has
//! so many at a time, and all connections together have at most half of each tier; whoever
//! wants more is told to come back, and reads through the socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arustio_block::{Hold, Tier};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Passing;

/// Whether a peer may have descriptors.
pub(super) fn may_have(passing: Passing, peer: Option<u32>, own: u32) -> bool {
    match passing {
        Passing::Nobody => false,
        Passing::Anyone => true,
        Passing::SameUser => peer.is_some_and(|uid| uid == own || uid == 0),
    }
}

/// Bytes of each tier that clients have descriptors of. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lending {
    memory: Arc<AtomicU64>,
    disk: Arc<AtomicU64>,
}

/// Bytes that are lent until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    lent: Arc<AtomicU64>,
    bytes: u64,
}

impl Lending {
    /// Bytes that are lent of each tier.
    pub(crate) fn lent(&self) -> [(Tier, u64); 2] {
        let of = |lent: &AtomicU64| lent.load(Ordering::Relaxed);
        [
            (Tier::Memory, of(&self.memory)),
            (Tier::Disk, of(&self.disk)),
        ]
    }

    /// Counts bytes of a tier; `None` if they would be more than half of it.
    pub(super) fn take(&self, tier: Tier, bytes: u64, capacity: u64) -> Option<Share> {
        let lent = match tier {
            Tier::Memory => &self.memory,
            Tier::Disk => &self.disk,
        };
        let fits = |lent: u64| lent.checked_add(bytes).filter(|sum| *sum <= capacity / 2);
        lent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        Some(Share {
            lent: Arc::clone(lent),
            bytes,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.lent.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A block that is kept for a client.
pub(super) struct Lent {
    pub(super) _hold: Hold,
    pub(super) _share: Share,
    pub(super) _place: OwnedSemaphorePermit,
}

/// What one connection has.
pub(super) struct Holds {
    places: Arc<Semaphore>,
    lent: Mutex<HashMap<u64, Lent>>,
}

impl Holds {
    pub(super) fn new(most: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            lent: Mutex::default(),
        }
    }

    /// Room for one more, if there is any.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Keeps what a request was answered with. The same id again gives back the one before.
    pub(super) fn keep(&self, request: u64, lent: Lent) {
        let before = self.lent.lock().insert(request, lent);
        drop(before);
    }

    /// Gives back what a request was answered with; how many there were.
    pub(super) fn release(&self, request: u64) -> u64 {
        let lent = self.lent.lock().remove(&request);
        u64::from(lent.is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lent.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_go_to_the_own_user_and_to_root() {
        let own = 1000;
        for (passing, peer, expected) in [
            (Passing::SameUser, Some(1000), true),
            (Passing::SameUser, Some(0), true),
            (Passing::SameUser, Some(1001), false),
            (Passing::SameUser, None, false),
            (Passing::Anyone, Some(1001), true),
            (Passing::Nobody, Some(1000), false),
            (Passing::Nobody, Some(0), false),
        ] {
            let may = may_have(passing, peer, own);
            assert_eq!(may, expected, "{passing:?} {peer:?}");
        }
    }

    #[test]
    fn half_of_each_tier_is_lent_at_most() {
        let lending = Lending::default();
        let first = lending.take(Tier::Memory, 30, 100).unwrap();
        assert!(lending.take(Tier::Memory, 21, 100).is_none());
        let _other = lending.take(Tier::Disk, 50, 100).unwrap();
        let _second = lending.take(Tier::Memory, 20, 100).unwrap();
        assert_eq!(lending.lent(), [(Tier::Memory, 50), (Tier::Disk, 50)]);
        drop(first);
        assert!(lending.take(Tier::Memory, 30, 100).is_some());
        assert!(lending.take(Tier::Memory, u64::MAX, 100).is_none());
    }
}
