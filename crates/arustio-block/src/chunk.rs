//! Chunks: the unit in which a block may be partially present, and its checksums.
//!
//! A block is cut into chunks of 32 KiB (the last one may be shorter). A chunk is
//! there as a whole or not at all, and its CRC32C is computed once, when its bytes
//! arrive; from then on every checksum that leaves this crate is *derived* from
//! those of the chunks instead of being computed over whatever the memory holds by
//! then. A flipped bit is therefore seen by whoever checks last, the client.

use std::ops::Range;
use std::sync::LazyLock;

use arustio_types::Checksum;

pub use arustio_types::block::CHUNK;

/// CRC32C of `bytes`, the checksum that [`crate::store::BlockWrite`] carries.
pub fn checksum(bytes: &[u8]) -> Checksum {
    Checksum(crc32c::crc32c(bytes))
}

/// How many chunks a block of `block_len` bytes has.
pub(crate) fn count(block_len: u64) -> u32 {
    let chunks = block_len.div_ceil(CHUNK);
    u32::try_from(chunks).expect("a block is at most 256 MiB, so at most 8192 chunks")
}

/// The bytes of a run of chunks, relative to the block.
pub(crate) fn bytes_of(chunks: &Range<u32>, block_len: u64) -> Range<u64> {
    let start = u64::from(chunks.start) * CHUNK;
    let end = (u64::from(chunks.end) * CHUNK).min(block_len);
    start.min(end)..end
}

/// The chunks that lie wholly inside `range`.
pub(crate) fn covered(range: &Range<u64>, block_len: u64) -> Range<u32> {
    let first = range.start.div_ceil(CHUNK);
    let last = if range.end >= block_len {
        u64::from(count(block_len))
    } else {
        range.end / CHUNK
    };
    narrow(first.min(last))..narrow(last)
}

/// The chunks that `range` touches; the range must lie inside the block.
pub(crate) fn touched(range: &Range<u64>) -> Range<u32> {
    if range.is_empty() {
        return 0..0;
    }
    narrow(range.start / CHUNK)..narrow(range.end.div_ceil(CHUNK))
}

fn narrow(chunk: u64) -> u32 {
    u32::try_from(chunk).unwrap_or(u32::MAX)
}

/// The checksum of every chunk of `bytes`, which start on a chunk boundary.
pub(crate) fn sums(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(CHUNK as usize).map(crc32c::crc32c).collect()
}

/// The checksum of `len` consecutive bytes from those of their chunks.
pub(crate) fn combine(sums: &[u32], len: u64) -> u32 {
    let Some((last, whole)) = sums.split_last() else {
        return 0;
    };
    let head = whole.iter().fold(0, |crc, sum| shift(crc) ^ sum);
    append(head, *last, len - CHUNK * whole.len() as u64)
}

/// The checksum of two adjacent runs of bytes; the second has `len` bytes.
pub(crate) fn append(first: u32, second: u32, len: u64) -> u32 {
    if len == CHUNK {
        return shift(first) ^ second;
    }
    let len = usize::try_from(len).expect("a block fits in memory");
    crc32c::crc32c_combine(first, second, len)
}

/// What `crc` becomes when a chunk of zeros follows. Appending is linear over GF(2),
/// so 32 precomputed images replace the general algorithm, which costs more than
/// reading the bytes again.
fn shift(crc: u32) -> u32 {
    static BASIS: LazyLock<[u32; 32]> = LazyLock::new(|| {
        std::array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, CHUNK as usize))
    });
    let basis = &*BASIS;
    let mut rest = crc;
    let mut image = 0;
    while rest != 0 {
        image ^= basis[rest.trailing_zeros() as usize];
        rest &= rest - 1;
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_whole_chunks_count_and_the_last_may_be_short() {
        let len = 3 * CHUNK + 5;
        assert_eq!(count(len), 4);
        assert_eq!(covered(&(0..len), len), 0..4);
        assert_eq!(covered(&(1..len), len), 1..4);
        assert_eq!(covered(&(0..len - 1), len), 0..3);
        assert!(covered(&(1..CHUNK), len).is_empty());
        assert_eq!(touched(&(CHUNK - 1..CHUNK + 1)), 0..2);
        assert_eq!(bytes_of(&(3..4), len), 3 * CHUNK..len);
    }

    proptest! {
        #[test]
        fn combined_checksums_are_those_of_the_bytes(
            content in any::<u64>(), len in 1u64..200_000,
        ) {
            let bytes = crate::testing::content_bytes(arustio_types::ContentId::new(content.into()), 0, len);
            let sums = sums(&bytes);
            prop_assert_eq!(combine(&sums, bytes.len() as u64), crc32c::crc32c(&bytes));
        }
    }
}
