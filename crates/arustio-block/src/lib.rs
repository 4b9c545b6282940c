//! The block cache of one node.
//!
//! A block key names immutable bytes ([`arustio_types::block`]), so a cache can only
//! have bytes or not have them: a miss is a value, a fault is answered by forgetting,
//! and no order between writers of one key is needed. This crate knows no transport
//! and no UFS; a miss is loaded through [`BlockSource`], which the server composes.
//!
//! - [`store`]: the trait that every tier implements, and its contract. Read it first.
//! - [`memory`], [`disk`], [`tier`]: blocks in memory, in files, and the two together.
//! - [`node`]: a store with single-flight loading, what a server serves.
//! - [`fills`]: of several clients that miss the same bytes one brings them.
//! - [`shelf`]: what a tier knows of its blocks, and [`eviction`]: who has to go first.
//! - [`config`], [`metrics`], [`error`]: as the names say.
//!
//! # Limits are exact
//! The memory tier counts bytes until their last reader let go of them, with checksums,
//! whole pages where a block has a memory file, entries and the index of the disk tier; the disk tier counts files in pages, with
//! those being written and those that are lent out. Not counted: buffers of reads and
//! writes that are under way, which the numbers of disk threads bound.
//!
//! # Not here
//! Moving blocks between directories when their capacities change: they are found where
//! they are, and go when their time has come.
//! Descriptors are lent here ([`BlockStore::borrow`]); passing them on is the server's.
// `memory::map` maps memory, and nothing else does.
#![deny(unsafe_code)]

pub mod chunk;
pub mod config;
pub mod disk;
pub mod error;
pub mod eviction;
pub mod fills;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod noop;
pub mod shelf;
pub mod source;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tier;

mod age;
mod image;
mod inflight;
mod scan;

pub use config::{BlockConfig, CheckedConfig, FillConfig, Machine};
pub use disk::{DiskBackend, DiskTier, Disks, LocalDisk};
pub use error::BlockError;
pub use fills::lease::{Ending, FillMetrics, Grant, Holder, LeaseId, MOST_GRANTS, Refusal};
pub use fills::{FillOffer, FillOutcome, FillWant, Fills, Look, Waiting};
pub use memory::{MemoryTier, NotSealed, Sealed};
pub use metrics::TierMetrics;
pub use node::{BlockNode, Fetch};
pub use noop::NoopStore;
pub use source::{BlockSource, SourceError};
pub use store::{
    BlockStore, BlockSummary, BlockWrite, Borrowed, BorrowedFile, Hold, Part, Parts, Presence,
    Rejection, Removed, Selector, Tier, TierUsage, WriteHint, WriteOutcome,
};
pub use tier::TieredStore;
