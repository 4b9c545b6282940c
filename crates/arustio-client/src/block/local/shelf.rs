//! What is at hand, and when not to ask. No I/O, and no clock of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use arustio_types::{BlockKey, NodeId};
use tokio::time::Instant;

use super::Kept;

/// After a node said that it has not all of a block.
const ABSENT: Duration = Duration::from_secs(1);
/// After a node refused, or could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// Blocks that are mapped: a process may have 65,530 mappings unless its system says
/// otherwise.
const MOST_MAPPED: usize = 16_384;
/// Notes of each kind; beyond it all are dropped, which costs a question each.
const MOST_NOTES: usize = 1024;

/// Blocks by least recent use, and notes.
#[derive(Debug)]
pub(super) struct Shelf {
    most_files: usize,
    most_bytes: u64,
    blocks: HashMap<BlockKey, Place>,
    files: Order,
    mapped: Order,
    bytes: u64,
    tick: u64,
    asking: HashSet<BlockKey>,
    absent: HashMap<BlockKey, Instant>,
    paused: HashMap<NodeId, Instant>,
}

/// The oldest use first.
type Order = BTreeMap<u64, BlockKey>;

#[derive(Debug)]
struct Place {
    kept: Kept,
    bytes: u64,
    used: u64,
}

impl Kept {
    /// What belongs to its kind.
    fn choose<'a, T>(&self, files: &'a mut T, mapped: &'a mut T) -> &'a mut T {
        match self {
            Self::File(_) => files,
            Self::Mapped(_) => mapped,
        }
    }
}

/// What to do about a block.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is here.
    Here(Kept),
    /// Ask its node, and call [`Shelf::asked`] then.
    Ask,
    /// Go another way.
    NotNow,
}

impl Shelf {
    /// Keeps at most so many descriptors, and blocks of so many bytes in all. What is
    /// mapped needs no descriptor.
    pub(super) fn new(most_files: usize, most_bytes: u64) -> Self {
        Self {
            most_files,
            most_bytes,
            blocks: HashMap::new(),
            files: Order::new(),
            mapped: Order::new(),
            bytes: 0,
            tick: 0,
            asking: HashSet::new(),
            absent: HashMap::new(),
            paused: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// `may_ask`: the node is on this host.
    pub(super) fn turn(
        &mut self,
        key: BlockKey,
        node: NodeId,
        may_ask: bool,
        now: Instant,
    ) -> Turn {
        if let Some(kept) = self.used(key) {
            return Turn::Here(kept);
        }
        let until = |note: Option<&Instant>| note.is_some_and(|until| now < *until);
        if until(self.absent.get(&key)) || until(self.paused.get(&node)) {
            return Turn::NotNow;
        }
        match may_ask && self.asking.insert(key) {
            true => Turn::Ask,
            false => Turn::NotNow,
        }
    }

    /// Whether a block is here.
    pub(super) fn has(&self, key: &BlockKey) -> bool {
        self.blocks.contains_key(key)
    }

    /// Nobody asks for it any more.
    pub(super) fn asked(&mut self, key: BlockKey) {
        self.asking.remove(&key);
    }

    /// A block that is here, which is used now.
    fn used(&mut self, key: BlockKey) -> Option<Kept> {
        let place = self.blocks.get_mut(&key)?;
        self.tick += 1;
        let order = place.kept.choose(&mut self.files, &mut self.mapped);
        order.remove(&place.used);
        order.insert(self.tick, key);
        place.used = self.tick;
        Some(place.kept.clone())
    }

    /// Keeps a block; what had to go for it is for the caller to drop, outside of locks. A
    /// block that is larger than everything is not kept.
    #[must_use]
    pub(super) fn keep(&mut self, key: BlockKey, kept: Kept, bytes: u64) -> Vec<Kept> {
        if bytes > self.most_bytes || self.most_files == 0 {
            return vec![kept];
        }
        let mut gone: Vec<Kept> = self.take(&key).into_iter().collect();
        self.tick += 1;
        let used = self.tick;
        let order = kept.choose(&mut self.files, &mut self.mapped);
        order.insert(used, key);
        self.bytes += bytes;
        self.blocks.insert(key, Place { kept, bytes, used });
        while let Some(oldest) = self.too_much() {
            gone.extend(self.take(&oldest));
        }
        gone
    }

    /// Who has to go, as long as there is more than there may be.
    fn too_much(&self) -> Option<BlockKey> {
        let (file, mapped) = (self.files.iter().next(), self.mapped.iter().next());
        let oldest = if self.files.len() > self.most_files {
            file
        } else if self.mapped.len() > MOST_MAPPED {
            mapped
        } else if self.bytes > self.most_bytes {
            file.into_iter().chain(mapped).min()
        } else {
            None
        };
        oldest.map(|(_, key)| *key)
    }

    fn take(&mut self, key: &BlockKey) -> Option<Kept> {
        let place = self.blocks.remove(key)?;
        let order = place.kept.choose(&mut self.files, &mut self.mapped);
        order.remove(&place.used);
        self.bytes -= place.bytes;
        Some(place.kept)
    }

    /// Takes away what is selected, for the caller to drop.
    #[must_use]
    pub(super) fn forget(&mut self, selected: impl Fn(&BlockKey) -> bool) -> Vec<Kept> {
        let keys: Vec<BlockKey> = self
            .blocks
            .keys()
            .filter(|k| selected(k))
            .copied()
            .collect();
        keys.iter().filter_map(|key| self.take(key)).collect()
    }

    /// Its node has not all of it.
    pub(super) fn absent(&mut self, key: BlockKey, now: Instant) {
        if self.absent.len() >= MOST_NOTES {
            self.absent.clear();
        }
        self.absent.insert(key, now + ABSENT);
    }

    /// Its node was given some of it.
    pub(super) fn may_be_there(&mut self, key: BlockKey) {
        self.absent.remove(&key);
    }

    /// A node passes nothing at the moment.
    pub(super) fn pause(&mut self, node: NodeId, now: Instant) {
        if self.paused.len() >= MOST_NOTES {
            self.paused.clear();
        }
        self.paused.insert(node, now + PAUSE);
    }
}
