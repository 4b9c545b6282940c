//! Fingerprints of keys that are gone.
//!
//! A table of small buckets with the fingerprint and the time of each ghost, in
//! evictions. A ghost counts for as many evictions as there are keys in the cache; in a
//! full bucket the oldest gives way, which now and then forgets one too early. There are
//! as many places as keys, rounded up to a power of two, of 8 bytes each: 8 to 16 bytes
//! for each key in the cache, whatever the keys are.

use super::Print;

/// Ghosts of one bucket: few enough to look at all, enough to be filled evenly.
const WAYS: usize = 8;
/// A small cache remembers this many.
const FEWEST: usize = 64;

#[derive(Debug, Clone, Copy, Default)]
struct Ghost {
    print: Print,
    /// The eviction; 0 where there is no ghost.
    since: u32,
}

#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// A power of two of them.
    buckets: Vec<[Ghost; WAYS]>,
    evictions: u32,
}

impl Ghosts {
    /// Remembers a victim of a cache that has so many other keys.
    pub(super) fn add(&mut self, print: Print, keys: usize) {
        self.grow(keys);
        // 0 says that there is none. Once in 2^32 evictions old ghosts may count as new.
        self.evictions = self.evictions.checked_add(1).unwrap_or(1);
        let now = self.evictions;
        if let Some(bucket) = self.bucket(print) {
            put(bucket, Ghost { print, since: now }, now);
        }
    }

    /// Whether the key was a victim; it is none any more.
    pub(super) fn take(&mut self, print: Print, keys: usize) -> bool {
        let there = self.contains(print, keys);
        if let Some(bucket) = self.bucket(print).filter(|_| there) {
            let same = |ghost: &&mut Ghost| ghost.since != 0 && ghost.print == print;
            bucket
                .iter_mut()
                .filter(same)
                .for_each(|ghost| ghost.since = 0);
        }
        there
    }

    pub(super) fn contains(&self, print: Print, keys: usize) -> bool {
        let bucket = self.buckets.get(print.0 as usize & self.mask());
        let counts = |ghost: &Ghost| ghost.print == print && self.counts(ghost, keys);
        bucket.is_some_and(|bucket| bucket.iter().any(counts))
    }

    pub(super) fn memory(&self) -> u64 {
        (self.buckets.capacity() * size_of::<[Ghost; WAYS]>()) as u64
    }

    /// Those that count, oldest first.
    #[cfg(test)]
    pub(super) fn walk(&self, keys: usize) -> Vec<Print> {
        let all = self.buckets.iter().flatten();
        let mut all: Vec<&Ghost> = all.filter(|ghost| self.counts(ghost, keys)).collect();
        all.sort_by_key(|ghost| ghost.since);
        all.into_iter().map(|ghost| ghost.print).collect()
    }

    fn counts(&self, ghost: &Ghost, keys: usize) -> bool {
        let age = self.evictions.wrapping_sub(ghost.since) as usize;
        ghost.since != 0 && age < keys.max(FEWEST)
    }

    fn mask(&self) -> usize {
        self.buckets.len().wrapping_sub(1)
    }

    fn bucket(&mut self, print: Print) -> Option<&mut [Ghost; WAYS]> {
        let at = print.0 as usize & self.mask();
        self.buckets.get_mut(at)
    }

    /// Makes room for as many ghosts as keys. The table never shrinks, as that of the
    /// keys does not.
    fn grow(&mut self, keys: usize) {
        let wanted = keys.max(FEWEST).div_ceil(WAYS).next_power_of_two();
        if wanted <= self.buckets.len() {
            return;
        }
        let now = self.evictions;
        let before = std::mem::replace(&mut self.buckets, vec![Default::default(); wanted]);
        for ghost in before
            .into_iter()
            .flatten()
            .filter(|ghost| ghost.since != 0)
        {
            if let Some(bucket) = self.bucket(ghost.print) {
                put(bucket, ghost, now);
            }
        }
    }
}

/// In place of the same one, of none, or of the oldest.
fn put(bucket: &mut [Ghost; WAYS], new: Ghost, now: u32) {
    let rank = |ghost: &&mut Ghost| match ghost.since {
        since if since != 0 && ghost.print == new.print => u64::MAX,
        0 => u64::MAX - 1,
        since => u64::from(now.wrapping_sub(since)),
    };
    if let Some(place) = bucket.iter_mut().max_by_key(rank) {
        *place = new;
    }
}
