//! Whose turn it is to ask a UFS, and when it was asked last (L4, R3).
//!
//! Soft state of one metadata server: it is not replicated, it is bounded, and losing it
//! costs a request to the UFS and never an answer. One look per directory (or name) and
//! interval is under way at a time; whoever else asks is told to wait for its result. A
//! turn that is not reported back passes on.
//!
//! Knowledge is as old as the beginning of the look that it came from. A caller that
//! waited and wants a look at least as new as its own question adds the time it waited to
//! the age that will do.
//!
//! Tickets are drawn at random: what a client reports late, to the server that leads now
//! about a turn that another one gave it, must not end somebody else's turn.
//!
//! The caller brings the time: a monotonic one for ages, a wall clock for people.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::Duration;

use arustio_types::meta::sync::{SyncRequest, SyncTarget, SyncTurn};
use arustio_types::{InodeId, LogIndex, Timestamp};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// How much is remembered and for how long a turn lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncLimits {
    /// Directories and names; the ones longest unused are forgotten.
    pub entries: usize,
    /// A look that takes longer passes its turn on.
    pub turn: Duration,
    /// How long others wait before they ask again.
    pub retry: Duration,
}

impl Default for SyncLimits {
    fn default() -> Self {
        Self {
            entries: 1 << 17,
            turn: Duration::from_secs(60),
            retry: Duration::from_millis(20),
        }
    }
}

/// An instant, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic, from an arbitrary start.
    pub elapsed: Duration,
    /// For people.
    pub wall: Timestamp,
}

/// Who looks at what, and who looked when.
#[derive(Debug)]
pub struct SyncTable {
    limits: SyncLimits,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Ordered, so that the names of a directory stand together.
    entries: BTreeMap<SyncTarget, Entry>,
    /// By last use, for forgetting.
    order: BTreeMap<u64, SyncTarget>,
    tickets: HashMap<u64, SyncTarget>,
    uses: u64,
    chance: StdRng,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    checked: Option<Moment>,
    turn: Option<Turn>,
    used: u64,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    ticket: u64,
    began: Moment,
}

impl SyncTable {
    /// Nothing is known yet. Tickets are drawn from `seed`, which every server and every
    /// run has for itself.
    pub fn new(limits: SyncLimits, seed: u64) -> Self {
        Self {
            limits,
            inner: Mutex::new(Inner::new(seed)),
        }
    }

    /// Asks for the turn. `applied` is the position that this server has applied; a merge
    /// names it as `seen`.
    pub fn ask(&self, request: &SyncRequest, applied: LogIndex, now: Moment) -> SyncTurn {
        let mut inner = self.inner.lock();
        if let Some(checked) = inner.checked(&request.target) {
            let age = now.elapsed.saturating_sub(checked.elapsed);
            // "At most this old", and zero forces a look even within one tick.
            let fresh = request
                .max_age
                .is_none_or(|max| !max.is_zero() && age <= max);
            if fresh {
                inner.touch(&request.target);
                return SyncTurn::Fresh {
                    checked_at: checked.wall,
                };
            }
        }
        let turn = inner.entries.get(&request.target).and_then(|e| e.turn);
        if let Some(turn) = turn {
            let taken = now.elapsed.saturating_sub(turn.began.elapsed);
            if taken < self.limits.turn {
                let left = self.limits.turn - taken;
                return SyncTurn::Busy {
                    retry_in: left.min(self.limits.retry),
                };
            }
            inner.tickets.remove(&turn.ticket);
        }
        let ticket = inner.grant(&request.target, now);
        inner.bound(self.limits.entries);
        SyncTurn::Yours {
            ticket,
            seen: applied,
        }
    }

    /// Ends a turn. A look that failed leaves the knowledge as old as it was; a turn that
    /// has passed on says nothing.
    pub fn finish(&self, ticket: u64, looked: bool) {
        let mut inner = self.inner.lock();
        let Some(target) = inner.tickets.remove(&ticket) else {
            return;
        };
        if let Some(entry) = inner.entries.get_mut(&target)
            && let Some(turn) = entry.turn.filter(|turn| turn.ticket == ticket)
        {
            entry.turn = None;
            if looked {
                entry.checked = Some(turn.began);
            }
        }
    }

    /// When the UFS was last asked about a name in a directory, by itself or with the
    /// whole directory; or about the directory.
    pub fn checked_at(&self, dir: InodeId, name: Option<&str>) -> Option<Timestamp> {
        let target = SyncTarget {
            dir,
            name: name.map(str::to_owned),
        };
        let inner = self.inner.lock();
        inner.checked(&target).map(|checked| checked.wall)
    }

    /// When the newest look at a name in a directory began, and how long before `now`.
    pub fn look(&self, dir: InodeId, name: &str, now: Moment) -> Option<(Timestamp, Duration)> {
        let target = SyncTarget {
            dir,
            name: Some(name.to_owned()),
        };
        let mut inner = self.inner.lock();
        let checked = inner.checked(&target)?;
        // Whoever is told need not ask for the turn, which would have been a use.
        inner.touch(&target);
        let age = now.elapsed.saturating_sub(checked.elapsed);
        Some((checked.wall, age))
    }

    /// Whether anything is known about single names of a directory; where nothing is, all
    /// of them are as old as its listing.
    pub fn knows_names(&self, dir: InodeId) -> bool {
        let whole = SyncTarget { dir, name: None };
        let inner = self.inner.lock();
        let behind = (Bound::Excluded(whole), Bound::Unbounded);
        let next = inner.entries.range(behind).next();
        next.is_some_and(|(next, _)| next.dir == dir)
    }

    /// Forgets what is known about a directory, as when its names changed by a command.
    pub fn forget(&self, target: &SyncTarget) {
        let mut inner = self.inner.lock();
        inner.remove(target);
    }

    /// How many directories and names are remembered.
    pub fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn new(seed: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            tickets: HashMap::new(),
            uses: 0,
            chance: StdRng::seed_from_u64(seed),
        }
    }

    /// A look at the whole directory was a look at each of its names.
    fn checked(&self, target: &SyncTarget) -> Option<Moment> {
        let own = self.entries.get(target).and_then(|entry| entry.checked);
        let whole = SyncTarget {
            dir: target.dir,
            name: None,
        };
        let of_dir = self.entries.get(&whole).and_then(|entry| entry.checked);
        match (own, of_dir) {
            (Some(own), Some(of_dir)) if own.elapsed >= of_dir.elapsed => Some(own),
            (_, Some(of_dir)) => Some(of_dir),
            (own, None) => own,
        }
    }

    fn touch(&mut self, target: &SyncTarget) {
        self.uses += 1;
        let used = self.uses;
        if let Some(entry) = self.entries.get_mut(target) {
            self.order.remove(&entry.used);
            entry.used = used;
            self.order.insert(used, target.clone());
        }
    }

    fn grant(&mut self, target: &SyncTarget, now: Moment) -> u64 {
        let ticket = self.chance.random();
        let entry = self.entries.entry(target.clone()).or_default();
        entry.turn = Some(Turn { ticket, began: now });
        self.tickets.insert(ticket, target.clone());
        self.touch(target);
        ticket
    }

    fn bound(&mut self, most: usize) {
        while self.entries.len() > most.max(1) {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, target: &SyncTarget) {
        if let Some(entry) = self.entries.remove(target) {
            self.order.remove(&entry.used);
            if let Some(turn) = entry.turn {
                self.tickets.remove(&turn.ticket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment {
            elapsed: Duration::from_millis(millis),
            wall: Timestamp::from_millis(1_000_000 + i64::try_from(millis).unwrap()),
        }
    }

    fn request(dir: u64, name: Option<&str>, max_age: Option<u64>) -> SyncRequest {
        SyncRequest {
            target: SyncTarget {
                dir: InodeId::new(dir),
                name: name.map(str::to_owned),
            },
            max_age: max_age.map(Duration::from_millis),
        }
    }

    fn ticket(turn: &SyncTurn) -> u64 {
        match turn {
            SyncTurn::Yours { ticket, .. } => *ticket,
            other => panic!("expected a turn, got {other:?}"),
        }
    }

    #[test]
    fn l4_one_looks_and_the_others_wait_for_its_result() {
        let table = SyncTable::new(SyncLimits::default(), 1);
        let ask = |now| table.ask(&request(5, None, Some(60_000)), LogIndex::new(9), at(now));
        let first = ask(0);
        assert!(matches!(first, SyncTurn::Yours { seen, .. } if seen == LogIndex::new(9)));
        assert!(matches!(ask(1), SyncTurn::Busy { .. }));
        table.finish(ticket(&first), true);
        assert!(matches!(ask(2), SyncTurn::Fresh { checked_at } if checked_at == at(0).wall));
        assert!(matches!(ask(60_001), SyncTurn::Yours { .. }));
    }

    #[test]
    fn l4_a_look_that_failed_or_never_came_back_passes_its_turn_on() {
        let table = SyncTable::new(SyncLimits::default(), 1);
        let ask = |now| table.ask(&request(5, Some("a"), Some(1)), LogIndex::new(1), at(now));
        let first = ask(0);
        table.finish(ticket(&first), false);
        let second = ask(1);
        assert!(matches!(ask(59_999), SyncTurn::Busy { .. }));
        let third = ask(60_001);
        table.finish(ticket(&second), true);
        assert!(matches!(ask(60_002), SyncTurn::Busy { .. }));
        table.finish(ticket(&third), true);
        assert_eq!(
            table.checked_at(InodeId::new(5), Some("a")),
            Some(at(60_001).wall)
        );
    }

    #[test]
    fn l4_a_report_to_the_next_leader_ends_nobody_elses_turn() {
        let [before, now] = [1, 2].map(|seed| SyncTable::new(SyncLimits::default(), seed));
        let ask = |table: &SyncTable, moment| {
            table.ask(&request(5, None, Some(1)), LogIndex::new(1), at(moment))
        };
        let late = ask(&before, 0);
        let current = ask(&now, 1);
        now.finish(ticket(&late), true);
        assert!(matches!(ask(&now, 2), SyncTurn::Busy { .. }));
        assert_eq!(now.checked_at(InodeId::new(5), None), None);
        now.finish(ticket(&current), true);
        assert_eq!(now.checked_at(InodeId::new(5), None), Some(at(1).wall));
    }

    #[test]
    fn r3_a_listing_is_a_look_at_every_name_and_zero_forces_another() {
        let table = SyncTable::new(SyncLimits::default(), 1);
        let listing = table.ask(&request(5, None, None), LogIndex::new(1), at(0));
        table.finish(ticket(&listing), true);
        let age = |now| Some(table.look(InodeId::new(5), "a", at(now))?.1);
        assert_eq!(age(10), Some(Duration::from_millis(10)));
        assert_eq!(table.look(InodeId::new(6), "a", at(10)), None);
        let named = |max| table.ask(&request(5, Some("a"), max), LogIndex::new(1), at(10));
        assert!(matches!(named(Some(10)), SyncTurn::Fresh { .. }));
        assert!(matches!(named(None), SyncTurn::Fresh { .. }));
        assert!(matches!(named(Some(0)), SyncTurn::Yours { .. }));
        assert_eq!(
            table.checked_at(InodeId::new(5), Some("b")),
            Some(at(0).wall)
        );
        assert_eq!(table.checked_at(InodeId::new(6), None), None);
        assert!(
            table.knows_names(InodeId::new(5)),
            "a turn for one was given"
        );
        assert!(!table.knows_names(InodeId::new(4)));
    }

    #[test]
    fn the_longest_unused_are_forgotten() {
        let limits = SyncLimits {
            entries: 3,
            ..SyncLimits::default()
        };
        let table = SyncTable::new(limits, 1);
        for dir in 0..10 {
            let turn = table.ask(&request(dir, None, None), LogIndex::new(1), at(dir));
            table.finish(ticket(&turn), true);
        }
        assert_eq!(table.len(), 3);
        assert_eq!(table.checked_at(InodeId::new(0), None), None);
        assert!(table.checked_at(InodeId::new(9), None).is_some());
        table.forget(&request(9, None, None).target);
        assert_eq!(table.checked_at(InodeId::new(9), None), None);
    }
}
