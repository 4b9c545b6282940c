//! Doubles and the conformance suite, for tests of this crate and of those above it
//! (feature `testing`).
//!
//! Everything random is drawn from a seed that the caller passes; nothing here sleeps.

pub mod conformance;
mod faulty_disk;
mod mem_disk;

pub use crate::disk::fuzz::blocks as fuzz_blocks;
pub use faulty_disk::{FaultyDisk, Stall};
pub use mem_disk::MemDisk;

use arustio_types::{BlockKey, BlockSize, ByteSize, ContentId};
use bytes::Bytes;

use crate::config::{BlockConfig, CheckedConfig, Machine};

/// The bytes of a content that tests agree on: different for each content and offset.
pub fn content_bytes(content: ContentId, start: u64, len: u64) -> Bytes {
    let mut seed = Seed::new(content.get() as u64);
    let salt = seed.next();
    let byte = |at: u64| {
        let mixed = ((at / 8) ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).to_le_bytes()[(at % 8) as usize]
    };
    (start..start + len).map(byte).collect()
}

/// A key of the smallest block size.
pub fn small_key(content: u64, index: u64) -> BlockKey {
    BlockKey {
        content: ContentId::new(u128::from(content)),
        size: BlockSize::MIN,
        index,
    }
}

/// Checked settings with these capacities, that keep no free space, never pause and never
/// scrub.
pub fn config(memory: u64, disk: u64) -> CheckedConfig {
    checked(memory, disk, true)
}

/// The same without memory files.
pub fn heap_config(memory: u64, disk: u64) -> CheckedConfig {
    checked(memory, disk, false)
}

fn checked(memory: u64, disk: u64, memfd: bool) -> CheckedConfig {
    let mut config = BlockConfig::default();
    config.memory.capacity = Some(ByteSize(memory));
    config.memory.memfd = memfd;
    config.disk.capacity = Some(ByteSize(disk));
    config.disk.min_free = ByteSize(0);
    config.disk.scrub_bandwidth = ByteSize(0);
    config.disk.retry_after = std::time::Duration::ZERO;
    let machine = Machine {
        memory: ByteSize(0),
        disk_free: ByteSize(0),
        disk_before: None,
        descriptors: 1024,
    };
    config
        .validate(&machine)
        .expect("defaults with other capacities are valid")
}

/// A stream of numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless stream is no iterator here"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }
}
