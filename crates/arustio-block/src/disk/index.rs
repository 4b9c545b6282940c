//! What is on disk, as far as memory knows: one small entry for each block.
//!
//! Chunk checksums and bitmaps stay in the files' headers. What an entry costs is
//! counted ([`Catalog::memory`]); the goal is below 200 bytes.
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

use arustio_types::{BlockKey, MountId};
use parking_lot::{Condvar, Mutex};

use super::format;
use crate::eviction::{EvictionPolicy, Slot};
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
    blocks: HashMap<BlockKey, Entry>,
    policy: Box<dyn EvictionPolicy<BlockKey>>,
    claimed: HashSet<BlockKey>,
    holds: HashMap<(BlockKey, u32), Hold>,
    used: u64,
    generation: u32,
    /// The largest capacity that the map reported. It never shrinks, but what it reports
    /// does, by slots that removals have left behind.
    room: usize,
}

/// What is known of a block's file. Lengths fit 32 bits, as the largest block does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) mount: MountId,
    slot: Slot,
    /// Which file under this name; rises with each.
    pub(crate) generation: u32,
    block_len: u32,
    present: u32,
    pub(crate) used: u32,
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

/// How a tier stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) used: u64,
    pub(crate) blocks: u64,
    pub(crate) pinned: u64,
}

impl Catalog {
    pub(crate) fn new(policy: Box<dyn EvictionPolicy<BlockKey>>, capacity: u64) -> Self {
        Self {
            index: Mutex::new(Index {
                blocks: HashMap::new(),
                policy,
                claimed: HashSet::new(),
                holds: HashMap::new(),
                used: 0,
                generation: 0,
                room: 0,
            }),
            settled: Condvar::new(),
            capacity,
        }
    }

    /// The entry, marked as used now.
    pub(crate) fn lookup(&self, key: BlockKey, now: u32) -> Option<Entry> {
        let mut index = self.index.lock();
        let Index { blocks, policy, .. } = &mut *index;
        let entry = blocks.get_mut(&key)?;
        entry.used = now;
        policy.touch(entry.slot);
        Some(*entry)
    }

    /// The entry, without a trace.
    pub(crate) fn peek(&self, key: BlockKey) -> Option<Entry> {
        self.index.lock().blocks.get(&key).copied()
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
        let pinned = index.blocks.values().filter(|entry| entry.pinned);
        Standing {
            used: index.used,
            blocks: index.blocks.len() as u64,
            pinned: pinned.map(Entry::cost).sum(),
        }
    }

    /// Bytes of memory that the index holds.
    pub(crate) fn memory(&self) -> u64 {
        let index = self.index.lock();
        // A hash table has a slot and a control byte for each 7/8 of its capacity.
        let slots = index.room * 8 / 7;
        let slot = size_of::<(BlockKey, Entry)>() + 1;
        (slots * slot) as u64 + index.policy.memory()
    }

    /// The right to change the key's file; waits for whoever has it.
    pub(crate) fn claim(&self, key: BlockKey) -> Claim<'_> {
        let mut index = self.index.lock();
        while index.claimed.contains(&key) {
            self.settled.wait(&mut index);
        }
        index.claimed.insert(key);
        let Index { blocks, policy, .. } = &mut *index;
        if let Some(entry) = blocks.get(&key) {
            policy.pin(entry.slot);
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
        let (key, _) = index.policy.pop_victim()?;
        let entry = index.blocks.remove(&key)?;
        index.claimed.insert(key);
        Some((key, entry))
    }

    /// Keeps the key's file from being evicted until [`release`](Self::release).
    pub(crate) fn hold(&self, key: BlockKey) -> Option<Entry> {
        let mut index = self.index.lock();
        let entry = *index.blocks.get(&key)?;
        let hold = index.holds.entry((key, entry.generation)).or_insert(Hold {
            count: 0,
            orphaned: None,
        });
        hold.count += 1;
        if hold.count == 1 {
            index.policy.pin(entry.slot);
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
        let entry = index.blocks.get(&key).copied();
        if let Some(entry) = entry.filter(|entry| entry.generation == generation) {
            index.policy.unpin(entry.slot);
            // It was in use until now.
            index.policy.touch(entry.slot);
        }
    }

    /// Notes that the file's checksums were verified.
    pub(crate) fn trust(&self, key: BlockKey, generation: u32) {
        let mut index = self.index.lock();
        if let Some(entry) = index.blocks.get_mut(&key) {
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
        let old = index.blocks.get(&self.key).copied();
        let slot = match old {
            Some(old) => {
                index.retire(self.key, old);
                index.policy.reweigh(old.slot, facts.cost);
                old.slot
            }
            None => {
                let slot = index.policy.insert(self.key, facts.cost);
                // The claim's own pin, taken back when the claim ends.
                index.policy.pin(slot);
                slot
            }
        };
        let entry = Entry {
            mount: facts.mount,
            slot,
            generation: index.generation,
            block_len: narrow(facts.presence.block_len),
            present: narrow(facts.presence.present),
            used: facts.used,
            pinned: false,
            trusted: facts.trusted,
            synced: facts.synced,
        };
        let was_pinned = old.is_some_and(|old| old.pinned);
        index.blocks.insert(
            self.key,
            Entry {
                pinned: was_pinned,
                ..entry
            },
        );
        index.room = index.room.max(index.blocks.capacity());
        drop(index);
        self.set_pinned(facts.pinned);
        entry
    }

    /// The file is gone.
    pub(crate) fn forget(&self) {
        let mut index = self.catalog.index.lock();
        if let Some(entry) = index.blocks.remove(&self.key) {
            index.retire(self.key, entry);
            index.policy.remove(entry.slot);
        }
    }

    /// The victim is still there, since its file could not be removed.
    fn put_back(&self, mut entry: Entry) {
        let mut index = self.catalog.index.lock();
        entry.slot = index.policy.insert(self.key, entry.cost());
        index.policy.pin(entry.slot);
        index.blocks.insert(self.key, entry);
    }

    pub(crate) fn set_pinned(&self, pinned: bool) {
        let mut index = self.catalog.index.lock();
        let Index { blocks, policy, .. } = &mut *index;
        let Some(entry) = blocks.get_mut(&self.key) else {
            return;
        };
        match (entry.pinned, pinned) {
            (false, true) => policy.pin(entry.slot),
            (true, false) => policy.unpin(entry.slot),
            (true, true) | (false, false) => {}
        }
        entry.pinned = pinned;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut index = self.catalog.index.lock();
        index.claimed.remove(&self.key);
        if let Some(slot) = index.blocks.get(&self.key).map(|entry| entry.slot) {
            index.policy.unpin(slot);
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
                self.policy.unpin(entry.slot);
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
    use crate::config::EvictionKind;
    use crate::eviction;
    use arustio_types::{BlockSize, ContentId};

    fn key(index: u64) -> BlockKey {
        BlockKey {
            content: ContentId::new(9),
            size: BlockSize::DEFAULT,
            index,
        }
    }

    fn catalog(capacity: u64) -> Catalog {
        Catalog::new(eviction::build(EvictionKind::Lru, capacity), capacity)
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
