//! The key/value seam: families of ordered keys, atomic batches, two durabilities.
//!
//! It is the only storage that the metadata service knows. A server has two engines:
//! the *log engine* holds the Raft log, the hard state and this member's identity and
//! is synced once per round of the consensus loop; the *state engine* holds everything
//! that is replicated, with the applied position in the same batch, and is not synced
//! for each write: after a crash it is a prefix of what was written and the log replays
//! the rest. A snapshot is a checkpoint of the state engine alone.
//!
//! What is deliberately absent: transactions over reads (there is one writer, the
//! state machine), iterators that outlive a call, and any knowledge of what is stored.
//! A batch that must read its own writes is built on an [`Overlay`].

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

pub mod key;
pub mod memory;
pub mod overlay;
pub mod record;
#[cfg(feature = "rocksdb")]
pub mod rocks;

pub use crate::error::EngineError;
pub use memory::MemEngine;
pub use overlay::Overlay;
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksConfig, RocksEngine};

/// Which of the two engines of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// Everything that is replicated.
    State,
    /// Raft log, hard state, member identity: never part of a snapshot.
    Log,
}

impl EngineKind {
    /// The families that such an engine has.
    pub const fn families(self) -> &'static [Family] {
        match self {
            EngineKind::State => &[
                Family::Dentries,
                Family::Inodes,
                Family::Mounts,
                Family::Credentials,
                Family::Intents,
                Family::Effects,
                Family::Settings,
                Family::Nodes,
                Family::Sessions,
                Family::Jobs,
                Family::Meta,
            ],
            EngineKind::Log => &[Family::Log, Family::Meta],
        }
    }

    /// The word that names it on disk and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            EngineKind::State => "state",
            EngineKind::Log => "log",
        }
    }
}

/// A separate key space inside an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Parent inode and name to child.
    Dentries,
    /// Inode to its record.
    Inodes,
    /// Mount id to its entry.
    Mounts,
    /// Sealed secrets of mounts.
    Credentials,
    /// Writers' announcements (W3).
    Intents,
    /// Work owed to a UFS (P1).
    Effects,
    /// Settings of paths.
    Settings,
    /// Block nodes.
    Nodes,
    /// Sessions and the outcomes of their requests (N2).
    Sessions,
    /// Jobs of the servers.
    Jobs,
    /// Format version, applied position, counters, replicated time; in the log engine
    /// hard state, membership, identity.
    Meta,
    /// Raft entries by index; log engine only.
    Log,
}

impl Family {
    /// Every family of either engine.
    pub const ALL: &'static [Family] = &[
        Family::Dentries,
        Family::Inodes,
        Family::Mounts,
        Family::Credentials,
        Family::Intents,
        Family::Effects,
        Family::Settings,
        Family::Nodes,
        Family::Sessions,
        Family::Jobs,
        Family::Meta,
        Family::Log,
    ];

    /// Its name on disk; never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Dentries => "dentries",
            Family::Inodes => "inodes",
            Family::Mounts => "mounts",
            Family::Credentials => "credentials",
            Family::Intents => "intents",
            Family::Effects => "effects",
            Family::Settings => "settings",
            Family::Nodes => "nodes",
            Family::Sessions => "sessions",
            Family::Jobs => "jobs",
            Family::Meta => "meta",
            Family::Log => "log",
        }
    }

    /// The family with this name.
    pub fn from_name(name: &str) -> Option<Family> {
        Family::ALL.iter().copied().find(|f| f.name() == name)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a write has to survive before the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The loss of power.
    Synced,
    /// Nothing yet; after a crash it is there if every earlier batch is.
    Buffered,
}

/// In which order a scan visits keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Forward,
    /// Descending.
    Backward,
}

/// Keys from `start` (included) to `end` (excluded), at most `limit` of them.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// First key; empty for the beginning of the family.
    pub start: &'a [u8],
    /// First key that no longer belongs to it; `None` for the end of the family.
    pub end: Option<&'a [u8]>,
    /// Most keys to visit.
    pub limit: usize,
    /// Ascending from `start` or descending from `end`.
    pub direction: Direction,
}

impl<'a> Scan<'a> {
    /// A range in ascending order, without limit.
    pub const fn range(start: &'a [u8], end: Option<&'a [u8]>) -> Self {
        Self {
            start,
            end,
            limit: usize::MAX,
            direction: Direction::Forward,
        }
    }

    /// The whole family in ascending order.
    pub const fn all() -> Self {
        Self::range(&[], None)
    }

    /// The same, at most so many keys.
    pub const fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The same, from the end.
    pub const fn backward(self) -> Self {
        Self {
            direction: Direction::Backward,
            ..self
        }
    }

    /// Whether a key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start && self.end.is_none_or(|end| key < end)
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.limit == 0 || self.end.is_some_and(|end| end <= self.start)
    }
}

/// The first key after every key with this prefix; `None` if there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// Where.
        family: Family,
        /// Which.
        key: Vec<u8>,
        /// To what.
        value: Vec<u8>,
    },
    /// Removes a key; absent is fine.
    Delete {
        /// Where.
        family: Family,
        /// Which.
        key: Vec<u8>,
    },
    /// Removes every key from `start` (included) to `end` (excluded).
    DeleteRange {
        /// Where.
        family: Family,
        /// From.
        start: Vec<u8>,
        /// To.
        end: Vec<u8>,
    },
}

impl Op {
    /// The family that it changes.
    pub const fn family(&self) -> Family {
        match self {
            Op::Put { family, .. } | Op::Delete { family, .. } | Op::DeleteRange { family, .. } => {
                *family
            }
        }
    }
}

/// Changes that happen together or not at all, in the order they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// No change yet.
    pub const fn new() -> Self {
        Self { ops: Vec::new() }
    }

    /// Sets a key.
    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.ops.push(Op::Put {
            family,
            key: key.into(),
            value: value.into(),
        });
    }

    /// Removes a key; absent is fine.
    pub fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        self.ops.push(Op::Delete {
            family,
            key: key.into(),
        });
    }

    /// Sets a key, or removes it.
    pub fn set(&mut self, family: Family, key: Vec<u8>, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.put(family, key, value),
            None => self.delete(family, key),
        }
    }

    /// Removes every key from `start` (included) to `end` (excluded).
    pub fn delete_range(
        &mut self,
        family: Family,
        start: impl Into<Vec<u8>>,
        end: impl Into<Vec<u8>>,
    ) {
        self.ops.push(Op::DeleteRange {
            family,
            start: start.into(),
            end: end.into(),
        });
    }

    /// The changes, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The changes, in order.
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Visits one pair; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered, crash-safe key/value store with families.
///
/// # Contract
/// - **Who calls**: one writer at a time (the consensus thread), readers from any
///   thread. Calls may block on the disk; none of them needs a runtime.
/// - **Atomicity**: a batch is visible, and after a crash present, whole or not at all.
///   Within a batch later changes win.
/// - **Order**: batches become visible in the order of their `write` calls, and after a
///   crash the engine holds a prefix of them. [`Durability::Synced`] makes the batch and
///   every earlier one survive.
/// - **Views**: each `get`, `get_many` and `scan` sees one instant; two calls may see two.
/// - **Errors**: an error of `write` with [`Durability::Synced`] or of `make_durable`
///   leaves unknown what survives: the caller must stop using the engine and end the
///   process, never try again (a failed sync may have dropped the pages). Every other
///   call may be repeated. A key of a family that the engine does not have is
///   [`EngineError::NoSuchFamily`].
pub trait KvEngine: Send + Sync + fmt::Debug {
    /// Which families it has.
    fn kind(&self) -> EngineKind;

    /// The value of a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// The values of keys that ascend, in their order. Costs less than as many calls of
    /// `get`: keys that lie close together share the search.
    fn get_many(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<u8>>>, EngineError>;

    /// Visits pairs of a range in key order, from one view.
    fn scan(
        &self,
        family: Family,
        scan: Scan<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError>;

    /// Applies a batch and returns its index: 1 for the first since the engine was
    /// opened, one more for each that follows.
    fn write(&self, batch: Batch, durability: Durability) -> Result<u64, EngineError>;

    /// Makes everything written so far survive a crash.
    fn make_durable(&self) -> Result<(), EngineError>;

    /// Index of the last batch that would survive a crash now; what was there when the
    /// engine was opened is 0.
    fn durable_index(&self) -> u64;

    /// Brings what is only in memory to where a checkpoint finds it without work. Takes as
    /// long as it takes; changes nothing that a caller can see.
    fn settle(&self) -> Result<(), EngineError>;

    /// Writes a consistent copy of everything into a folder that does not exist yet,
    /// and syncs it. Later writes do not change the copy.
    fn checkpoint(&self, into: &Path) -> Result<(), EngineError>;

    /// Replaces everything by a copy that `checkpoint` of the same implementation made;
    /// durable on return. After a crash in the middle the engine holds either content.
    /// The copy stays where it is. Nobody else may use the engine meanwhile.
    fn restore(&self, from: &Path) -> Result<(), EngineError>;

    /// Opens a copy that `checkpoint` of the same implementation made, to look into it while
    /// this engine goes on. The copy has to stay where it is until the result is dropped, and
    /// is never written to. Memory is bounded, however large the copy is.
    fn open_copy(&self, from: &Path) -> Result<Box<dyn KvEngine>, EngineError>;

    /// Bytes that a family takes, roughly, memory and disk together.
    fn approximate_size(&self, family: Family) -> Result<u64, EngineError>;
}

/// What can be said with the methods of [`KvEngine`].
///
/// # Contract
/// That of [`KvEngine`]; implemented for every engine and never by hand.
pub trait KvEngineExt: KvEngine {
    /// Collects the pairs of a range. The caller bounds it by `scan.limit`.
    fn scan_to_vec(&self, family: Family, scan: Scan<'_>) -> Result<Vec<Pair>, EngineError> {
        let mut pairs = Vec::new();
        self.scan(family, scan, &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(pairs)
    }
}

impl<E: KvEngine + ?Sized> KvEngineExt for E {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_lacks_it() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(&[1, 0xff]), Some(vec![2]));
        assert_eq!(prefix_end(&[0xff, 0xff]), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn family_names_round_trip() {
        for family in Family::ALL {
            assert_eq!(Family::from_name(family.name()), Some(*family));
        }
    }
}
