//! A batch in the making that reads its own writes.
//!
//! Applying a slice of log entries is one engine batch, and a later entry must see what
//! an earlier one of the same slice did. An overlay keeps the pending changes in ordered
//! maps above the engine, answers reads from both, and ends as a [`Batch`]. It may remember
//! what the engine answered: the commands of one slice read the same directories, and who
//! ends it may want to know what each change replaces.
//!
//! Range deletes are not offered: the state machine deletes keys that it has read.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, ControlFlow};

use super::{Batch, Direction, EngineError, Family, KvEngine, Scan, Visit};

type Pending = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
type Seen = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// What was pending for a key before a change: nothing, or a value or removal.
type Before = (Family, Vec<u8>, Option<Option<Vec<u8>>>);

/// Pending changes above an engine. Nothing reaches the engine before the batch from
/// [`Overlay::into_batch`] is written.
#[derive(Debug)]
pub struct Overlay<'e> {
    engine: &'e dyn KvEngine,
    pending: BTreeMap<Family, Pending>,
    /// What the engine answered, where that is remembered.
    seen: Option<RefCell<BTreeMap<Family, Seen>>>,
    /// Changes since the savepoint, in order.
    journal: Vec<Before>,
}

impl<'e> Overlay<'e> {
    /// No change yet.
    pub fn new(engine: &'e dyn KvEngine) -> Self {
        Self {
            engine,
            pending: BTreeMap::new(),
            seen: None,
            journal: Vec::new(),
        }
    }

    /// The same; what the engine answers is asked once and kept. For a bounded number of
    /// reads, while nobody else writes.
    pub fn remembering(engine: &'e dyn KvEngine) -> Self {
        Self {
            seen: Some(RefCell::default()),
            ..Self::new(engine)
        }
    }

    /// The value of a key, pending changes included.
    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        match self.pending.get(&family).and_then(|map| map.get(key)) {
            Some(pending) => Ok(pending.clone()),
            None => self.stored(family, key),
        }
    }

    /// The value of a key without pending changes.
    fn stored(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(seen) = &self.seen else {
            return self.engine.get(family, key);
        };
        let mut seen = seen.borrow_mut();
        let known = seen.entry(family).or_default();
        if let Some(value) = known.get(key) {
            return Ok(value.clone());
        }
        let value = self.engine.get(family, key)?;
        known.insert(key.to_vec(), value.clone());
        Ok(value)
    }

    /// The values of keys that ascend, in their order, pending changes included.
    pub fn get_many(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let mut values = self.engine.get_many(family, keys)?;
        let Some(map) = self.pending.get(&family) else {
            return Ok(values);
        };
        for (key, value) in keys.iter().zip(&mut values) {
            if let Some(pending) = map.get(key) {
                value.clone_from(pending);
            }
        }
        Ok(values)
    }

    /// Sets a key.
    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.change(family, key.into(), Some(value.into()));
    }

    /// Removes a key; absent is fine.
    pub fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        self.change(family, key.into(), None);
    }

    fn change(&mut self, family: Family, key: Vec<u8>, value: Option<Vec<u8>>) {
        let map = self.pending.entry(family).or_default();
        let before = map.insert(key.clone(), value);
        self.journal.push((family, key, before));
    }

    /// Keeps every change so far: a later [`Overlay::rollback`] returns to here.
    pub fn savepoint(&mut self) {
        self.journal.clear();
    }

    /// Forgets the changes since the last savepoint.
    pub fn rollback(&mut self) {
        while let Some((family, key, before)) = self.journal.pop() {
            let map = self.pending.entry(family).or_default();
            match before {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
    }

    /// Visits pairs of a range in key order, pending changes included.
    pub fn scan(
        &self,
        family: Family,
        scan: Scan<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        if scan.is_empty() {
            return Ok(());
        }
        let Some(map) = self.pending.get(&family) else {
            return self.engine.scan(family, scan, visit);
        };
        let upper = scan.end.map_or(Bound::Unbounded, Bound::Excluded);
        let range = map.range::<[u8], _>((Bound::Included(scan.start), upper));
        match scan.direction {
            Direction::Forward => self.merge(family, scan, range, visit),
            Direction::Backward => self.merge(family, scan, range.rev(), visit),
        }
    }

    fn merge<'p>(
        &self,
        family: Family,
        scan: Scan<'_>,
        pending: impl Iterator<Item = (&'p Vec<u8>, &'p Option<Vec<u8>>)>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let mut pending = pending.peekable();
        let mut left = scan.limit;
        let mut ended = false;
        let earlier = |a: &[u8], b: &[u8]| match scan.direction {
            Direction::Forward => a < b,
            Direction::Backward => a > b,
        };
        let mut emit = |key: &[u8], value: &[u8], ended: &mut bool| {
            left -= 1;
            *ended = visit(key, value).is_break() || left == 0;
        };
        // Deleted keys hide stored ones, so the stored side is not limited by count.
        let stored = Scan {
            limit: usize::MAX,
            ..scan
        };
        self.engine.scan(family, stored, &mut |key, value| {
            while let Some((ours, new)) = pending.next_if(|(ours, _)| earlier(ours, key)) {
                if let Some(new) = new {
                    emit(ours, new, &mut ended);
                }
                if ended {
                    return ControlFlow::Break(());
                }
            }
            match pending.next_if(|(ours, _)| ours.as_slice() == key) {
                Some((_, Some(new))) => emit(key, new, &mut ended),
                Some((_, None)) => {}
                None => emit(key, value, &mut ended),
            }
            if ended {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        for (key, value) in pending {
            if ended {
                break;
            }
            if let Some(value) = value {
                emit(key, value, &mut ended);
            }
        }
        Ok(())
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.pending.values().all(BTreeMap::is_empty)
    }

    /// Every key that has another value now, with both values, in the order of families
    /// and keys.
    pub fn into_changes(self) -> Result<Vec<Change>, EngineError> {
        let mut seen = self.seen.map(RefCell::into_inner).unwrap_or_default();
        let mut changes = Vec::new();
        for (family, pending) in self.pending {
            let known = seen.remove(&family).unwrap_or_default();
            changes_of(self.engine, family, pending, known, &mut changes)?;
        }
        Ok(changes)
    }

    /// Every change, as one batch.
    pub fn into_batch(self) -> Batch {
        let mut batch = Batch::new();
        for (family, map) in self.pending {
            for (key, new) in map {
                batch.set(family, key, new);
            }
        }
        batch
    }
}

/// A key and what it was and is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub family: Family,
    /// Which.
    pub key: Vec<u8>,
    /// Before; `None` where there was nothing.
    pub old: Option<Vec<u8>>,
    /// After; `None` where there is nothing.
    pub new: Option<Vec<u8>>,
}

fn changes_of(
    engine: &dyn KvEngine,
    family: Family,
    pending: Pending,
    mut known: Seen,
    changes: &mut Vec<Change>,
) -> Result<(), EngineError> {
    let unknown = pending.keys().filter(|key| !known.contains_key(*key));
    let unknown: Vec<Vec<u8>> = unknown.cloned().collect();
    let values = engine.get_many(family, &unknown)?;
    known.extend(unknown.into_iter().zip(values));
    for (key, new) in pending {
        let old = known.remove(&key).flatten();
        if old != new {
            changes.push(Change {
                family,
                key,
                old,
                new,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Durability, EngineKind, MemEngine};

    fn keys(overlay: &Overlay<'_>, scan: Scan<'_>) -> String {
        let mut out = String::new();
        overlay
            .scan(Family::Inodes, scan, &mut |key, value| {
                out.push_str(&String::from_utf8_lossy(key));
                out.push_str(&String::from_utf8_lossy(value));
                out.push(' ');
                ControlFlow::Continue(())
            })
            .unwrap();
        out
    }

    #[test]
    fn reads_see_pending_changes_in_order() {
        let engine = MemEngine::new(EngineKind::State);
        let mut batch = Batch::new();
        for key in ["a", "c", "e"] {
            batch.put(Family::Inodes, key, "1");
        }
        engine.write(batch, Durability::Buffered).unwrap();
        let mut overlay = Overlay::new(&engine);
        overlay.put(Family::Inodes, "b", "2");
        overlay.put(Family::Inodes, "c", "2");
        overlay.delete(Family::Inodes, "a");
        overlay.put(Family::Inodes, "f", "2");
        assert_eq!(keys(&overlay, Scan::all()), "b2 c2 e1 f2 ");
        assert_eq!(keys(&overlay, Scan::all().backward()), "f2 e1 c2 b2 ");
        assert_eq!(keys(&overlay, Scan::all().limit(2)), "b2 c2 ");
        assert_eq!(keys(&overlay, Scan::range(b"c", Some(b"f"))), "c2 e1 ");
        assert_eq!(overlay.get(Family::Inodes, b"a").unwrap(), None);
        let many = ["a", "b", "d", "e"].map(|key| key.as_bytes().to_vec());
        let many = overlay.get_many(Family::Inodes, &many).unwrap();
        let some = |value: &str| Some(value.as_bytes().to_vec());
        assert_eq!(many, [None, some("2"), None, some("1")]);
        overlay.savepoint();
        overlay.put(Family::Inodes, "b", "3");
        overlay.delete(Family::Inodes, "e");
        overlay.put(Family::Inodes, "b", "4");
        overlay.rollback();
        overlay.put(Family::Inodes, "e", "1");
        engine
            .write(overlay.into_batch(), Durability::Buffered)
            .unwrap();
        assert_eq!(keys(&Overlay::new(&engine), Scan::all()), "b2 c2 e1 f2 ");
    }

    #[test]
    fn changes_are_told_with_what_they_replace() {
        let engine = MemEngine::new(EngineKind::State);
        let mut batch = Batch::new();
        for key in ["a", "b", "c"] {
            batch.put(Family::Inodes, key, "1");
        }
        engine.write(batch, Durability::Buffered).unwrap();
        for mut overlay in [Overlay::new(&engine), Overlay::remembering(&engine)] {
            assert_eq!(
                overlay.get(Family::Inodes, b"b").unwrap(),
                Some(b"1".to_vec())
            );
            overlay.put(Family::Inodes, "a", "1");
            overlay.put(Family::Inodes, "b", "2");
            overlay.delete(Family::Inodes, "c");
            overlay.delete(Family::Inodes, "d");
            overlay.put(Family::Dentries, "a", "3");
            let told = overlay.into_changes().unwrap();
            let text =
                |value: &Option<Vec<u8>>| value.clone().map(|v| String::from_utf8(v).unwrap());
            let told: Vec<_> = told
                .iter()
                .map(|change| (change.family, text(&change.old), text(&change.new)))
                .collect();
            let one = || Some("1".to_owned());
            assert_eq!(
                told,
                [
                    (Family::Dentries, None, Some("3".to_owned())),
                    (Family::Inodes, one(), Some("2".to_owned())),
                    (Family::Inodes, one(), None),
                ]
            );
        }
    }
}
