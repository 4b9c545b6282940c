//! Blocks: how a content is cut for caching.
//!
//! Block `i` of a content of length `len` holds bytes `[i*B, min((i+1)*B, len))`,
//! `B` a power of two. The size is part of the key, so that changing the block
//! size of a path can never mix blocks of two cuts.

use std::fmt;
use std::ops::Range;

use crate::content::ContentId;

/// Bytes of a chunk, the unit in which a block may be partially present at a node: what
/// readers bring and wait for begins and ends where chunks do, or with the block.
pub const CHUNK: u64 = 32 << 10;

/// A power of two between 64 KiB and 256 MiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize(u8);

impl BlockSize {
    /// 4 MiB, unless the mount or path says otherwise.
    pub const DEFAULT: BlockSize = BlockSize(22);
    /// Smallest: below it the index would cost more than it saves.
    pub const MIN: BlockSize = BlockSize(16);
    /// Largest: a block has to fit in memory.
    pub const MAX: BlockSize = BlockSize(28);

    /// From a number of bytes; `None` unless a power of two within the bounds.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        if !bytes.is_power_of_two() {
            return None;
        }
        Self::from_log2(u8::try_from(bytes.trailing_zeros()).ok()?)
    }

    /// From the exponent; `None` outside the bounds.
    pub fn from_log2(log2: u8) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0)
            .contains(&log2)
            .then_some(Self(log2))
    }

    /// The exponent.
    pub fn log2(self) -> u8 {
        self.0
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        1 << self.0
    }

    /// The block that holds the byte at `offset`.
    pub fn index_of(self, offset: u64) -> u64 {
        offset >> self.0
    }
}

impl Default for BlockSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Debug for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockSize({} B)", self.bytes())
    }
}

/// Names the immutable bytes of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// The content that was cut.
    pub content: ContentId,
    /// The cut.
    pub size: BlockSize,
    /// Which block, from 0.
    pub index: u64,
}

impl BlockKey {
    /// Offset in the content of the block's first byte.
    pub fn start(&self) -> u64 {
        self.index.saturating_mul(self.size.bytes())
    }

    /// Bytes in this block of a content of `length` bytes; 0 past the end.
    pub fn len_in(&self, length: u64) -> u64 {
        length.saturating_sub(self.start()).min(self.size.bytes())
    }
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.content, self.size.log2(), self.index)
    }
}

/// A part of one block that a byte range of a content falls on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSlice {
    /// Which block.
    pub index: u64,
    /// Bytes of it, relative to the block's start.
    pub range: Range<u64>,
}

/// Cuts `range` of a content into block slices, in order; the range is clipped to
/// `length`.
pub fn slices(size: BlockSize, range: Range<u64>, length: u64) -> impl Iterator<Item = BlockSlice> {
    let end = range.end.min(length);
    let start = range.start.min(end);
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let index = size.index_of(at);
        let base = index << size.log2();
        let stop = end.min(base + size.bytes());
        let slice = BlockSlice {
            index,
            range: at - base..stop - base,
        };
        at = stop;
        Some(slice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_powers_of_two_within_bounds_are_sizes() {
        assert_eq!(BlockSize::from_bytes(4 << 20), Some(BlockSize::DEFAULT));
        assert_eq!(BlockSize::from_bytes(3 << 20), None);
        assert_eq!(BlockSize::from_bytes(1 << 10), None);
        assert_eq!(BlockSize::from_bytes(0), None);
    }

    proptest! {
        #[test]
        fn slices_tile_the_range_exactly(start in 0u64..1 << 24, len in 0u64..1 << 22, total in 0u64..1 << 24, log2 in 16u8..20) {
            let size = BlockSize::from_log2(log2).unwrap();
            let end = (start + len).min(total);
            let mut at = start.min(end);
            for slice in slices(size, start..start + len, total) {
                let base = slice.index * size.bytes();
                prop_assert_eq!(base + slice.range.start, at);
                prop_assert!(slice.range.end <= size.bytes() && slice.range.start < slice.range.end);
                at = base + slice.range.end;
            }
            prop_assert_eq!(at, end.max(start.min(end)));
        }
    }
}
