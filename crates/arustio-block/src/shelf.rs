//! Entries by block key, and who of them has to go first: what both tiers keep under
//! their lock.
//!
//! A key lies here once, beside its entry, in a vector by the policy's slot; the table and
//! the policy hold numbers and fingerprints. Vectors grow by an eighth, so the worst case
//! of a block is close to the usual one: for an entry of 32 bytes about 100 bytes, ghosts
//! included ([`Shelf::memory`]).
//!
//! Not here: locks, budgets, and when to evict.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::{Deref, DerefMut};

use arustio_types::BlockKey;
use hashbrown::HashTable;

use crate::config::EvictionKind;
use crate::eviction::{self, EvictionPolicy, Print, Slot, push_lean};

/// Entries with an eviction policy over them.
#[derive(Debug)]
pub struct Shelf<E> {
    table: HashTable<Slot>,
    places: Vec<Option<(BlockKey, E)>>,
    policy: Box<dyn EvictionPolicy>,
    /// Seeded by chance: keys are chosen by clients.
    hasher: RandomState,
}

/// An entry in its place.
pub struct Place<'a, E> {
    entry: &'a mut E,
    slot: Slot,
    policy: &'a mut dyn EvictionPolicy,
}

impl<E> Shelf<E> {
    /// An empty one.
    pub fn new(kind: EvictionKind) -> Self {
        Self {
            table: HashTable::new(),
            places: Vec::new(),
            policy: eviction::build(kind),
            hasher: RandomState::new(),
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The entry of a key. Looking is no use of it.
    pub fn get(&self, key: BlockKey) -> Option<&E> {
        let slot = self.find(key, self.hasher.hash_one(key))?;
        self.at(slot.index()).map(|(_, entry)| entry)
    }

    /// The entry of a key, to change it or to tell the policy about it.
    pub fn place(&mut self, key: BlockKey) -> Option<Place<'_, E>> {
        let slot = self.find(key, self.hasher.hash_one(key))?;
        let (_, entry) = self.places.get_mut(slot.index())?.as_mut()?;
        Some(Place {
            entry,
            slot,
            policy: &mut *self.policy,
        })
    }

    /// Adds an entry of `weight` bytes for a key that has none.
    pub fn insert(&mut self, key: BlockKey, entry: E, weight: u64) -> Place<'_, E> {
        let hash = self.hasher.hash_one(key);
        debug_assert!(self.find(key, hash).is_none(), "one entry for a key");
        let slot = self.policy.insert(print(hash), weight);
        if slot.index() == self.places.len() {
            push_lean(&mut self.places, None);
        }
        let (places, hasher) = (&self.places, &self.hasher);
        // Those that are in the table already are what is hashed again when it grows.
        let again = |slot: &Slot| hash_of(places, hasher, *slot);
        self.table.insert_unique(hash, slot, again);
        let (_, entry) = self.places[slot.index()].insert((key, entry));
        Place {
            entry,
            slot,
            policy: &mut *self.policy,
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: BlockKey) -> Option<E> {
        let slot = self.unlist(key)?;
        self.policy.remove(slot);
        self.places
            .get_mut(slot.index())?
            .take()
            .map(|(_, entry)| entry)
    }

    /// Takes out the entry that should go next, with its weight; `None` if all are pinned.
    pub fn pop_victim(&mut self) -> Option<(BlockKey, E, u64)> {
        let (slot, weight) = self.policy.pop_victim()?;
        let key = *self.at(slot.index())?.0;
        self.unlist(key);
        let (_, entry) = self.places.get_mut(slot.index())?.take()?;
        Some((key, entry, weight))
    }

    /// Whether the key was evicted not long ago.
    pub fn remembers(&self, key: BlockKey) -> bool {
        self.policy.remembers(print(self.hasher.hash_one(key)))
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&BlockKey, &E)> {
        self.places
            .iter()
            .flatten()
            .map(|(key, entry)| (key, entry))
    }

    /// What is in a place, for whoever goes through all of them bit by bit. An entry stays
    /// in its place.
    pub fn at(&self, place: usize) -> Option<(&BlockKey, &E)> {
        self.places
            .get(place)?
            .as_ref()
            .map(|(key, entry)| (key, entry))
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Bytes of all entries, as they were told.
    pub fn weight(&self) -> u64 {
        self.policy.weight()
    }

    /// Bytes of the pinned ones.
    pub fn pinned_weight(&self) -> u64 {
        self.policy.pinned_weight()
    }

    /// Bytes of memory that all of this takes up, beside what entries own elsewhere.
    pub fn memory(&self) -> u64 {
        let places = self.places.capacity() * size_of::<Option<(BlockKey, E)>>();
        (places + self.table.allocation_size()) as u64 + self.policy.memory()
    }

    fn find(&self, key: BlockKey, hash: u64) -> Option<Slot> {
        let same = |slot: &Slot| {
            self.at(slot.index())
                .is_some_and(|(other, _)| *other == key)
        };
        self.table.find(hash, same).copied()
    }

    /// Takes a key out of the table; its place has to be filled still.
    fn unlist(&mut self, key: BlockKey) -> Option<Slot> {
        let hash = self.hasher.hash_one(key);
        let places = &self.places;
        let same = |slot: &Slot| {
            let there = places.get(slot.index()).and_then(Option::as_ref);
            there.is_some_and(|(other, _)| *other == key)
        };
        let found = self.table.find_entry(hash, same).ok()?;
        Some(found.remove().0)
    }
}

fn hash_of<E>(places: &[Option<(BlockKey, E)>], hasher: &RandomState, slot: Slot) -> u64 {
    let there = places.get(slot.index()).and_then(Option::as_ref);
    there.map_or(0, |(key, _)| hasher.hash_one(key))
}

/// The table goes by the low bits and the highest ones.
fn print(hash: u64) -> Print {
    Print((hash >> 24) as u32)
}

impl<E> Place<'_, E> {
    /// The entry was used.
    pub fn touch(&mut self) {
        self.policy.touch(self.slot);
    }

    /// It weighs so many bytes now.
    pub fn reweigh(&mut self, weight: u64) {
        self.policy.reweigh(self.slot, weight);
    }

    /// Keeps it from being a victim until it was unpinned as often.
    pub fn pin(&mut self) {
        self.policy.pin(self.slot);
    }

    /// Takes one pin back.
    pub fn unpin(&mut self) {
        self.policy.unpin(self.slot);
    }
}

impl<E> Deref for Place<'_, E> {
    type Target = E;

    fn deref(&self) -> &E {
        self.entry
    }
}

impl<E> DerefMut for Place<'_, E> {
    fn deref_mut(&mut self) -> &mut E {
        self.entry
    }
}

impl<E: fmt::Debug> fmt::Debug for Place<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.entry).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Seed, small_key};
    use std::collections::HashMap;

    /// As large as that of the disk tier.
    type Entry = (u64, [u32; 5], [bool; 3]);

    #[test]
    fn it_is_a_map_whose_victims_are_gone() {
        let mut seed = Seed::new(5);
        let mut shelf: Shelf<u64> = Shelf::new(EvictionKind::default());
        let mut model: HashMap<BlockKey, u64> = HashMap::new();
        for round in 0..20_000 {
            let key = small_key(1, seed.below(300));
            match seed.below(10) {
                0 => assert_eq!(shelf.remove(key), model.remove(&key)),
                1 => {
                    if let Some((key, entry, weight)) = shelf.pop_victim() {
                        assert_eq!(weight, 7);
                        assert_eq!(model.remove(&key), Some(entry));
                        assert!(shelf.get(key).is_none());
                    }
                }
                2..=5 if shelf.get(key).is_none() => {
                    shelf.insert(key, round, 7);
                    model.insert(key, round);
                }
                _ => {
                    if let Some(mut place) = shelf.place(key) {
                        place.touch();
                        *place += 1;
                    }
                    if let Some(entry) = model.get_mut(&key) {
                        *entry += 1;
                    }
                }
            }
            assert_eq!(shelf.get(key), model.get(&key));
            assert_eq!(shelf.len(), model.len());
        }
        let all: HashMap<_, _> = shelf.iter().map(|(key, entry)| (*key, *entry)).collect();
        assert_eq!(all, model);
    }

    /// At every size, just before and just after tables and vectors grow, with as many
    /// ghosts as there can be.
    #[test]
    fn an_entry_costs_about_the_same_at_any_size() {
        let mut shelf: Shelf<Entry> = Shelf::new(EvictionKind::default());
        let (mut most, mut index) = (0, 0);
        for _ in 0..200_000 {
            shelf.insert(small_key(1, index), Entry::default(), 1);
            index += 1;
            // One of four goes, and leaves a ghost.
            if index % 4 == 0 {
                shelf.pop_victim();
            }
            if shelf.len() > 4096 {
                most = most.max(shelf.memory() / shelf.len() as u64);
            }
        }
        assert!(most <= 150, "{most} bytes for each entry at worst");
        let now = shelf.memory() / shelf.len() as u64;
        assert!(now <= 130, "{now} bytes for each of {}", shelf.len());
    }
}
