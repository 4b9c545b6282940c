//! What this client has looked at lately, so that it need not ask whose turn it is.
//!
//! By key and not by path or inode: the promise (R3) is about what stands under a key of
//! an under file system. Losing an entry costs a request, never an answer.

use std::collections::HashMap;
use std::time::Duration;

use arustio_types::meta::setting::SyncInterval;
use arustio_types::{FsPath, MountId};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Entries of each kind; beyond it everything is forgotten and learnt anew.
const MOST: usize = 8_192;
/// How long a setting of a path is taken as known.
const SETTING_AGE: Duration = Duration::from_secs(1);
/// Names of a directory that are looked at by themselves before it is listed.
const FEW: usize = 8;
/// How many times as many, when it was too large for that.
const THEN: usize = 4;

/// Soft memory of looks and of sync intervals.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    keys: Mutex<HashMap<(MountId, String), Instant>>,
    intervals: Mutex<HashMap<FsPath, (Instant, SyncInterval)>>,
    /// By the prefix of the directory.
    singles: Mutex<HashMap<(MountId, String), Singles>>,
}

/// Names of a directory that were looked at by themselves.
#[derive(Debug, Clone, Copy)]
struct Singles {
    since: Instant,
    count: usize,
    most: usize,
}

impl Looked {
    /// Whether `key`, or the whole listing that it belongs to, was looked at within
    /// `age`.
    pub(crate) fn within(&self, mount: MountId, key: &str, age: Duration) -> bool {
        let now = Instant::now();
        let keys = self.keys.lock();
        let fresh = |key: &str| {
            let looked = keys.get(&(mount, key.to_owned()));
            looked.is_some_and(|at| now.duration_since(*at) < age)
        };
        let bare = key.strip_suffix('/').unwrap_or(key);
        let listing = bare.rfind('/').map_or("", |slash| &bare[..=slash]);
        fresh(key) || fresh(&listing_of(listing))
    }

    /// The name was looked at; `began` is when the look began.
    pub(crate) fn name(&self, mount: MountId, key: &str, began: Instant) {
        insert(&self.keys, (mount, key.to_owned()), began);
    }

    /// A name of this directory is about to be looked at. `Some`: enough of them were within
    /// `age`, so list the directory, of so many pages at most.
    pub(crate) fn one_of(&self, mount: MountId, prefix: &str, age: Duration) -> Option<usize> {
        let now = Instant::now();
        let mut all = self.singles.lock();
        if all.len() >= MOST {
            all.clear();
        }
        let singles = all.entry((mount, prefix.to_owned())).or_insert(Singles {
            since: now,
            count: 0,
            most: FEW,
        });
        if now.duration_since(singles.since) > age {
            (singles.since, singles.count) = (now, 0);
        }
        if singles.count < singles.most {
            singles.count += 1;
            return None;
        }
        singles.most = singles.most.saturating_mul(THEN);
        Some(std::mem::take(&mut singles.count))
    }

    /// The whole directory was listed; its prefix is empty or ends in `/`.
    pub(crate) fn listing(&self, mount: MountId, prefix: &str, began: Instant) {
        self.singles.lock().remove(&(mount, prefix.to_owned()));
        insert(&self.keys, (mount, listing_of(prefix)), began);
    }

    /// Whether the directory of this prefix was listed within `age`.
    pub(crate) fn listed_within(&self, mount: MountId, prefix: &str, age: Duration) -> bool {
        let keys = self.keys.lock();
        let looked = keys.get(&(mount, listing_of(prefix)));
        looked.is_some_and(|at| at.elapsed() < age)
    }

    /// The interval of a path, where it was asked for a moment ago.
    pub(crate) fn interval(&self, path: &FsPath) -> Option<SyncInterval> {
        let intervals = self.intervals.lock();
        let (at, interval) = intervals.get(path)?;
        (at.elapsed() < SETTING_AGE).then_some(*interval)
    }

    /// Remembers the interval of a path.
    pub(crate) fn learn(&self, path: &FsPath, interval: SyncInterval) {
        insert(&self.intervals, path.clone(), (Instant::now(), interval));
    }

    /// Settings changed, or a mount did.
    pub(crate) fn forget(&self) {
        self.keys.lock().clear();
        self.intervals.lock().clear();
        self.singles.lock().clear();
    }
}

/// A listing is remembered under a text that no key has.
fn listing_of(prefix: &str) -> String {
    format!("{prefix}\0")
}

fn insert<K: std::hash::Hash + Eq, V>(map: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut map = map.lock();
    if map.len() >= MOST {
        map.clear();
    }
    map.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_listed_after_some_names_and_later_if_that_was_in_vain() {
        let (looked, mount, long) = (Looked::default(), MountId::new(1), Duration::from_secs(60));
        let until_listed = || {
            let looks = (0..100).map(|_| looked.one_of(mount, "d/", long));
            let singles = looks.enumerate().find_map(|(n, pages)| Some((n, pages?)));
            singles.unwrap()
        };
        assert_eq!(until_listed(), (FEW, FEW));
        assert_eq!(looked.one_of(mount, "e/", long), None);
        let next = FEW * THEN;
        assert_eq!(until_listed(), (next, next), "it was too large");
        looked.listing(mount, "d/", Instant::now());
        assert_eq!(until_listed(), (FEW, FEW));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_looked_at_long_ago_does_not_count() {
        let (looked, mount, age) = (Looked::default(), MountId::new(1), Duration::from_secs(60));
        for _ in 0..3 * FEW {
            assert_eq!(looked.one_of(mount, "d/", age), None);
            tokio::time::advance(age / 4).await;
        }
    }

    #[test]
    fn r3_a_listing_covers_its_names_for_its_age_and_no_deeper() {
        let (looked, mount, long) = (Looked::default(), MountId::new(1), Duration::from_secs(60));
        looked.listing(mount, "d/", Instant::now());
        assert!(looked.within(mount, "d/f", long));
        assert!(looked.within(mount, "d/sub/", long));
        assert!(!looked.within(mount, "d/sub/f", long));
        assert!(!looked.within(mount, "d", long));
        assert!(!looked.within(MountId::new(2), "d/f", long));
        assert!(!looked.within(mount, "d/f", Duration::ZERO));
        looked.name(mount, "x", Instant::now());
        assert!(looked.within(mount, "x", long));
        assert!(!looked.listed_within(mount, "", long));
        looked.forget();
        assert!(!looked.within(mount, "x", long));
    }
}
