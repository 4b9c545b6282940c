//! What a store counts.
//!
//! Plain atomic counters inside, a plain value outside: the roots decide how they are
//! exported. Names and units are constants here; they are stable.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::Tier;

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident = $name:literal;)*) => {
        /// Counters of one tier since it was opened. All only rise.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct TierMetrics {
            /// The tier.
            pub tier: Tier,
            $($(#[$doc])* pub $field: u64,)*
        }

        impl TierMetrics {
            /// Names of all counters, in the order of [`values`](Self::values).
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Both together; the tier is that of the first.
            pub(crate) fn plus(self, other: Self) -> Self {
                Self { tier: self.tier, $($field: self.$field + other.$field,)* }
            }

            /// Name and value of each counter; the tier is their one label.
            pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$field),)*].into_iter()
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $field: Counter,)* }

        impl Counters {
            pub(crate) fn snapshot(&self, tier: Tier) -> TierMetrics {
                TierMetrics { tier, $($field: self.$field.get(),)* }
            }
        }
    };
}

counters! {
    /// Reads that found all they asked for.
    hits = "arustio_block_hits_total";
    /// Reads that found some of it.
    partial_hits = "arustio_block_partial_hits_total";
    /// Reads that found nothing.
    misses = "arustio_block_misses_total";
    /// Bytes handed out.
    read_bytes = "arustio_block_read_bytes_total";
    /// Writes that were kept.
    stored = "arustio_block_stored_total";
    /// Bytes that were kept.
    stored_bytes = "arustio_block_stored_bytes_total";
    /// Writes of what was there already.
    already_present = "arustio_block_already_present_total";
    /// Writes that were not kept.
    rejected = "arustio_block_rejected_total";
    /// Blocks that had to go for space.
    evictions = "arustio_block_evictions_total";
    /// Bytes that had to go for space.
    evicted_bytes = "arustio_block_evicted_bytes_total";
    /// Blocks dropped because their bytes or header did not match.
    corruptions = "arustio_block_corruptions_total";
    /// Blocks of which all was read and checked in the background.
    scrubbed_blocks = "arustio_block_scrubbed_blocks_total";
    /// Bytes that were read and checked in the background.
    scrubbed_bytes = "arustio_block_scrubbed_bytes_total";
    /// Operations of the disk that failed.
    io_errors = "arustio_block_io_errors_total";
    /// Blocks found again after a restart.
    recovered = "arustio_block_recovered_total";
    /// Files in our directories that are not blocks of ours, or of a newer version.
    foreign = "arustio_block_foreign_total";
    /// Blocks on their way to disk that were given up because too much was under way.
    spills_dropped = "arustio_block_spills_dropped_total";
    /// Blocks that nobody had read yet and that were not written to disk because much was
    /// under way.
    not_admitted = "arustio_block_not_admitted_total";
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Counts a read that got `got` bytes.
    pub(crate) fn read(&self, complete: bool, got: u64) {
        match (complete, got) {
            (true, _) => self.hits.add(1),
            (false, 0) => self.misses.add(1),
            (false, _) => self.partial_hits.add(1),
        }
        self.read_bytes.add(got);
    }
}
