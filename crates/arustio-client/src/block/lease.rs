//! Leases, as readers see them: who brings the bytes that a node does not have.
//!
//! A reader that missed says that it would bring what is missing. For each part of its
//! range it gets the bytes, or a lease, or the node waits with it for somebody else's. No
//! answer of a node is more than advice: whatever it says, the store below can be asked.

use std::ops::Range;
use std::time::Duration;

use arustio_types::BlockKey;

use super::BlockPart;

/// What a reader wants of a block, and would bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockWant {
    /// Which block.
    pub key: BlockKey,
    /// Bytes of it, relative to its start: from a chunk's beginning (32 KiB) to a chunk's
    /// end, or the block's.
    pub range: Range<u64>,
    /// Bytes in this block of its content.
    pub block_length: u64,
    /// Epoch of the view by which the node was chosen.
    pub epoch: u64,
    /// How long the node may wait for what others bring.
    pub wait: Duration,
}

/// The duty to bring bytes of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockLease {
    /// Its name at the node that gave it.
    pub lease: u64,
    /// Which bytes, relative to the block's start.
    pub range: Range<u64>,
    /// How long it lasts without a byte or a renewal.
    pub lasts: Duration,
}

/// What a node answers. With neither parts nor leases nor a reason to do without it, it was
/// waited in vain for what others bring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockOffer {
    /// The bytes that are there, already compared with their checksums.
    pub parts: Vec<BlockPart>,
    /// What the reader has to bring: ascending, disjoint, inside what was wanted.
    pub leases: Vec<BlockLease>,
    /// Why the reader has to do without the node for the rest.
    pub alone: Option<Alone>,
}

impl BlockOffer {
    /// Nothing, for this reason.
    pub fn alone(why: Alone) -> Self {
        Self {
            alone: Some(why),
            ..Self::default()
        }
    }

    /// Whether all leases lie in what was wanted, ascend, and do not overlap.
    pub(crate) fn fits(&self, wanted: &Range<u64>) -> bool {
        let mut at = wanted.start;
        self.leases.iter().all(|lease| {
            let fits = lease.range.start >= at && lease.range.start < lease.range.end;
            at = lease.range.end;
            fits && at <= wanted.end
        })
    }
}

/// Why a reader has to go to the store below without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// The node knows no leases.
    Unsupported,
    /// It has no room.
    Busy,
    /// Somebody who had a lease found the version gone.
    Stale,
    /// Somebody who had a lease found that the bytes must not be cached.
    Uncacheable,
}

/// What a holder says about its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseWord {
    /// It goes on.
    Renew,
    /// Somebody else may try.
    GiveUp,
    /// The version is gone from the store below.
    Stale,
    /// The bytes must not be cached.
    Uncacheable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_leases_that_were_not_asked_for_are_told_apart() {
        let fits = |ranges: &[(u64, u64)]| {
            let lease = |&(start, end): &(u64, u64)| BlockLease {
                lease: 1,
                range: start..end,
                lasts: Duration::ZERO,
            };
            let leases = ranges.iter().map(lease).collect();
            let offer = BlockOffer {
                leases,
                ..BlockOffer::default()
            };
            offer.fits(&(10..20))
        };
        assert!(fits(&[]) && fits(&[(10, 12), (12, 13), (19, 20)]));
        let twice = [(12, 14), (13, 15)];
        for odd in [&[(9, 12)][..], &[(19, 21)], &twice, &[(13, 13)]] {
            assert!(!fits(odd), "{odd:?}");
        }
    }
}
