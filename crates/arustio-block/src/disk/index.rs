//! What is on disk, as far as memory knows: one small entry for each block.
//!
//! Chunk checksums and bitmaps stay in the files' headers. What an entry costs is
//! counted ([`Catalog::memory`]): about 100 bytes, at most 200.
//!
//! # Order of things
//! Whoever changes the file of a key holds a [`Claim`] on it; there is one at a time,
//! and a claimed block is no victim. An eviction claims its victim in the moment it is
//! chosen. Nobody waits for a claim while holding one, so nobody waits for ever. The
//! one lock here is never held over a disk operation.
//!
//! # Bytes
//! Space is reserved before a file is written and given back after one is gone. A file
//! that a borrower holds open keeps its space until it is returned, also when its name
//! was removed or replaced meanwhile.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;

use arustio_types::{BlockKey, MountId};
use parking_lot::{Condvar, Mutex};

use super::format;
use crate::config::EvictionKind;
use crate::shelf::Shelf;
use crate::store::Presence;

/// Removes the file of a victim, which takes up so many bytes.
pub(crate) type Unlink<'a> = &'a dyn Fn(BlockKey, u64) -> io::Result<()>;

#[derive(Debug)]
pub(crate) struct Catalog {
    index: Mutex<Index>,
    settled: Condvar,
    capacity: u64,
}

#[derive(Debug)]
struct Index {
    blocks: Shelf<Entry>,
    claimed: HashSet<BlockKey>,
    holds: HashMap<(BlockKey, u32), Hold>,
    used: u64,
    generation: u32,
}

/// What is known of a block's file. Lengths fit 32 bits, as the largest block does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) mount: MountId,
    /// Which file under this name; rises with each.
    pub(crate) generation: u32,
    block_len: u32,
    present: u32,
    pub(crate) used: u32,
    /// Where the last read ended, to know one that goes on there.
    read_to: u32,
    /// Not to be evicted.
    pub(crate) pinned: bool,
    /// Its checksums were verified by this process, or it was written by it.
    pub(crate) trusted: bool,
    /// It was synced by this process.
    pub(crate) synced: bool,
}

/// What is to be known of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) mount: MountId,
    pub(crate) presence: Presence,
    /// Space that the file takes up.
    pub(crate) cost: u64,
    pub(crate) used: u32,
    pub(crate) pinned: bool,
    pub(crate) trusted: bool,
    pub(crate) synced: bool,
}

#[derive(Debug)]
struct Hold {
    count: u32,
    /// Bytes to give back at the end, when the name is gone already.
    orphaned: Option<u64>,
}

impl Entry {
    pub(crate) fn presence(&self) -> Presence {
        Presence {
            block_len: u64::from(self.block_len),
            present: u64::from(self.present),
        }
    }

    fn cost(&self) -> u64 {
        format::cost_of(self.presence())
    }
}

/// Places that are looked at under the lock before others get it.
const STRIDE: usize = 1024;

/// A step of a walk through all blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// A block, in the place from which one the walk goes on.
    Block {
        place: usize,
        key: BlockKey,
        generation: u32,
    },
    /// Nothing up to here.
    Nothing { next: usize },
    /// That was all.
    End,
}

/// How a tier stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) used: u64,
    pub(crate) blocks: u64,
    pub(crate) pinned: u64,
}

impl Catalog {
    pub(crate) fn new(eviction: EvictionKind, capacity: u64) -> Self {
        Self {
            index: Mutex::new(Index {
                blocks: Shelf::new(eviction),
                claimed: HashSet::new(),
                holds: HashMap::new(),
                used: 0,
                generation: 0,
            }),
            settled: Condvar::new(),
            capacity,
        }
    }

    /// The entry, whose block is being read. One that goes on where the last one ended is
    /// the same use.
    pub(crate) fn lookup(&self, key: BlockKey, range: &Range<u64>, now: u32) -> Option<Entry> {
        let mut index = self.index.lock();
        let mut entry = index.blocks.place(key)?;
        let goes_on = range.start > 0 && range.start == u64::from(entry.read_to);
        if !goes_on {
            entry.touch();
        }
        entry.read_to = narrow(range.end.min(u64::from(entry.block_len)));
        entry.used = now;
        Some(*entry)
    }

    /// Whether the block was evicted not long ago.
    pub(crate) fn remembers(&self, key: BlockKey) -> bool {
        self.index.lock().blocks.remembers(key)
    }

    /// The entry, without a trace.
    pub(crate) fn peek(&self, key: BlockKey) -> Option<Entry> {
        self.index.lock().blocks.get(key).copied()
    }

    /// Everything at this moment, in no order.
    pub(crate) fn all(&self) -> Vec<(BlockKey, Entry)> {
        let index = self.index.lock();
        index
            .blocks
            .iter()
            .map(|(key, entry)| (*key, *entry))
            .collect()
    }

    pub(crate) fn standing(&self) -> Standing {
        let index = self.index.lock();
        // A block that is being written is kept from eviction too, and is not pinned.
        let all = index.blocks.iter().map(|(_, entry)| entry);
        let pinned = all.filter(|entry| entry.pinned);
        Standing {
            used: index.used,
            blocks: index.blocks.len() as u64,
            pinned: pinned.map(Entry::cost).sum(),
        }
    }

    /// Bytes of memory that the index holds.
    pub(crate) fn memory(&self) -> u64 {
        self.index.lock().blocks.memory()
    }

    /// The right to change the key's file; waits for whoever has it.
    pub(crate) fn claim(&self, key: BlockKey) -> Claim<'_> {
        let mut index = self.index.lock();
        while index.claimed.contains(&key) {
            self.settled.wait(&mut index);
        }
        index.claimed.insert(key);
        if let Some(mut entry) = index.blocks.place(key) {
            entry.pin();
        }
        Claim { catalog: self, key }
    }

    /// Reserves space, evicting until there is enough; `false` if there never will be.
    /// The error is that of removing a victim's file.
    pub(crate) fn reserve(&self, bytes: u64, unlink: Unlink<'_>) -> io::Result<bool> {
        let target = self.capacity - super::space::slack(self.capacity);
        let mut evicting = false;
        loop {
            let limit = if evicting {
                target.max(bytes)
            } else {
                self.capacity
            };
            if self.take_space(bytes, limit) {
                return Ok(true);
            }
            evicting = true;
            if self.evict_one(unlink)?.is_none() {
                return Ok(self.take_space(bytes, self.capacity));
            }
        }
    }

    fn take_space(&self, bytes: u64, limit: u64) -> bool {
        let mut index = self.index.lock();
        let fits = index.used.saturating_add(bytes) <= limit;
        if fits {
            index.used += bytes;
        }
        fits
    }

    /// Counts space that is in use whether it fits or not; the caller then calls
    /// [`shrink`](Self::shrink).
    pub(crate) fn count_space(&self, bytes: u64) {
        self.index.lock().used += bytes;
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.index.lock().used -= bytes;
    }

    /// Evicts until the tier is within its capacity.
    pub(crate) fn shrink(&self, unlink: Unlink<'_>) -> io::Result<()> {
        while self.index.lock().used > self.capacity {
            if self.evict_one(unlink)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Evicts one block and says how much space that gave; `None` if all are pinned.
    pub(crate) fn evict_one(&self, unlink: Unlink<'_>) -> io::Result<Option<u64>> {
        let Some((key, entry)) = self.choose_victim() else {
            return Ok(None);
        };
        let claim = Claim { catalog: self, key };
        let cost = entry.cost();
        let removed = unlink(key, cost);
        if removed.is_ok() {
            self.give_back(cost);
        } else {
            claim.put_back(entry);
        }
        removed.map(|()| Some(cost))
    }

    fn choose_victim(&self) -> Option<(BlockKey, Entry)> {
        let mut index = self.index.lock();
        let (key, entry, _) = index.blocks.pop_victim()?;
        index.claimed.insert(key);
        Some((key, entry))
    }

    /// Keeps the key's file from being evicted until [`release`](Self::release).
    pub(crate) fn hold(&self, key: BlockKey) -> Option<Entry> {
        let mut index = self.index.lock();
        let entry = *index.blocks.get(key)?;
        let hold = index.holds.entry((key, entry.generation)).or_insert(Hold {
            count: 0,
            orphaned: None,
        });
        hold.count += 1;
        let first = hold.count == 1;
        if let Some(mut entry) = index.blocks.place(key).filter(|_| first) {
            entry.pin();
        }
        Some(entry)
    }

    pub(crate) fn release(&self, key: BlockKey, generation: u32) {
        let mut index = self.index.lock();
        let Some(hold) = index.holds.get_mut(&(key, generation)) else {
            return;
        };
        hold.count -= 1;
        if hold.count > 0 {
            return;
        }
        let orphaned = hold.orphaned;
        index.holds.remove(&(key, generation));
        if let Some(bytes) = orphaned {
            index.used -= bytes;
            return;
        }
        let entry = index.blocks.place(key);
        if let Some(mut entry) = entry.filter(|entry| entry.generation == generation) {
            entry.unpin();
        }
    }

    /// What there is from a place on, for whoever goes through all blocks without keeping
    /// a list of them. Looks at a bounded number of places.
    pub(crate) fn walk(&self, from: usize) -> Walk {
        let index = self.index.lock();
        let end = from.saturating_add(STRIDE).min(index.blocks.places());
        for place in from..end {
            if let Some((key, entry)) = index.blocks.at(place) {
                return Walk::Block {
                    place,
                    key: *key,
                    generation: entry.generation,
                };
            }
        }
        match end == index.blocks.places() {
            true => Walk::End,
            false => Walk::Nothing { next: end },
        }
    }

    /// Notes that the file's checksums were verified.
    pub(crate) fn trust(&self, key: BlockKey, generation: u32) {
        let mut index = self.index.lock();
        if let Some(mut entry) = index.blocks.place(key) {
            entry.trusted |= entry.generation == generation;
        }
    }
}

/// The right to change the file of one key.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    catalog: &'a Catalog,
    key: BlockKey,
}

impl Claim<'_> {
    pub(crate) fn entry(&self) -> Option<Entry> {
        self.catalog.peek(self.key)
    }

    /// A file is under the name now, and its space was reserved; it replaces what was
    /// there.
    pub(crate) fn publish(&self, facts: Facts) -> Entry {
        let mut index = self.catalog.index.lock();
        index.generation = index.generation.wrapping_add(1);
        let old = index.blocks.get(self.key).copied();
        let entry = Entry {
            mount: facts.mount,
            generation: index.generation,
            block_len: narrow(facts.presence.block_len),
            present: narrow(facts.presence.present),
            used: facts.used,
            read_to: 0,
            pinned: old.is_some_and(|old| old.pinned),
            trusted: facts.trusted,
            synced: facts.synced,
        };
        if let Some(old) = old {
            index.retire(self.key, old);
        }
        match index.blocks.place(self.key) {
            Some(mut place) => {
                place.reweigh(facts.cost);
                *place = entry;
            }
            // The claim's own pin, taken back when the claim ends.
            None => index.blocks.insert(self.key, entry, facts.cost).pin(),
        }
        drop(index);
        self.set_pinned(facts.pinned);
        entry
    }

    /// The file is gone.
    pub(crate) fn forget(&self) {
        let mut index = self.catalog.index.lock();
        if let Some(entry) = index.blocks.remove(self.key) {
            index.retire(self.key, entry);
        }
    }

    /// The victim is still there, since its file could not be removed.
    fn put_back(&self, entry: Entry) {
        let mut index = self.catalog.index.lock();
        index.blocks.insert(self.key, entry, entry.cost()).pin();
    }

    pub(crate) fn set_pinned(&self, pinned: bool) {
        let mut index = self.catalog.index.lock();
        let Some(mut entry) = index.blocks.place(self.key) else {
            return;
        };
        match (entry.pinned, pinned) {
            (false, true) => entry.pin(),
            (true, false) => entry.unpin(),
            (true, true) | (false, false) => {}
        }
        entry.pinned = pinned;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut index = self.catalog.index.lock();
        index.claimed.remove(&self.key);
        if let Some(mut entry) = index.blocks.place(self.key) {
            entry.unpin();
        }
        drop(index);
        self.catalog.settled.notify_all();
    }
}

impl Index {
    /// Gives back the space of a file that lost its name, now or when its last
    /// borrower returns it.
    fn retire(&mut self, key: BlockKey, entry: Entry) {
        match self.holds.get_mut(&(key, entry.generation)) {
            Some(hold) => {
                hold.orphaned = Some(entry.cost());
                // The hold's own pin, where the name lives on.
                if let Some(mut place) = self.blocks.place(key) {
                    place.unpin();
                }
            }
            None => self.used -= entry.cost(),
        }
    }
}

fn narrow(len: u64) -> u32 {
    u32::try_from(len).expect("a block is at most 256 MiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::{BlockSize, ContentId};

    fn key(index: u64) -> BlockKey {
        BlockKey {
            content: ContentId::new(9),
            size: BlockSize::DEFAULT,
            index,
        }
    }

    fn catalog(capacity: u64) -> Catalog {
        Catalog::new(EvictionKind::default(), capacity)
    }

    fn put(catalog: &Catalog, index: u64) -> u64 {
        let presence = Presence {
            block_len: 4 << 20,
            present: 4 << 20,
        };
        let facts = Facts {
            mount: MountId::new(1),
            presence,
            cost: format::cost_of(presence),
            used: 0,
            pinned: false,
            trusted: true,
            synced: false,
        };
        let claim = catalog.claim(key(index));
        assert!(catalog.reserve(facts.cost, &|_, _| Ok(())).unwrap());
        claim.publish(facts);
        facts.cost
    }

    #[test]
    fn an_entry_costs_less_than_two_hundred_bytes() {
        let catalog = catalog(u64::MAX);
        for index in 0..100_000 {
            put(&catalog, index);
        }
        let each = catalog.memory() / 100_000;
        assert!(each <= 200, "{each} bytes for each block");
    }

    #[test]
    fn held_files_keep_their_space_after_their_name_is_gone() {
        let catalog = catalog(1 << 30);
        let cost = put(&catalog, 1);
        let held = catalog.hold(key(1)).unwrap();
        assert!(catalog.evict_one(&|_, _| Ok(())).unwrap().is_none());
        put(&catalog, 1);
        assert_eq!(catalog.standing().used, 2 * cost);
        catalog.release(key(1), held.generation);
        assert_eq!(catalog.standing().used, cost);
        let held = catalog.hold(key(1)).unwrap();
        catalog.claim(key(1)).forget();
        assert_eq!(catalog.standing().used, cost);
        catalog.release(key(1), held.generation);
        assert_eq!(catalog.standing().used, 0);
        assert_eq!(catalog.standing().pinned, 0);
    }

    #[test]
    fn a_claimed_block_is_no_victim_and_becomes_one_again() {
        let catalog = catalog(1 << 30);
        let cost = put(&catalog, 1);
        let claim = catalog.claim(key(1));
        assert_eq!(catalog.evict_one(&|_, _| Ok(())).unwrap(), None);
        assert_eq!(catalog.standing().pinned, 0, "nobody pinned it");
        drop(claim);
        let stuck = catalog.evict_one(&|_, _| Err(io::ErrorKind::Other.into()));
        assert!(stuck.is_err());
        assert_eq!(catalog.standing().used, cost);
        assert_eq!(catalog.evict_one(&|_, _| Ok(())).unwrap(), Some(cost));
        assert_eq!(catalog.standing().used, 0);
    }
}
