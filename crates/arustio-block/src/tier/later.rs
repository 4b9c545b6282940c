//! Complete blocks that wait for a quiet moment to be written to disk.
//!
//! Whoever reads a store through the cache needs the processor and the memory's bandwidth
//! now; the disk needs its copy some time. So blocks are written when none has come for a
//! while, the oldest first, or when they have waited for long, or when so many wait that
//! memory could run out of blocks that it may give up at once. What waits takes up nothing:
//! the blocks are in memory anyway.
//!
//! No I/O, no clock, no locks.

use std::collections::VecDeque;
use std::time::Duration;

use arustio_types::BlockKey;
use tokio::time::Instant;

/// It is quiet when no block has come for so long.
const QUIET: Duration = Duration::from_millis(100);
/// The longest that a block waits.
const LONGEST: Duration = Duration::from_secs(10);

/// The queue.
#[derive(Debug)]
pub(super) struct Later {
    queue: VecDeque<Waiting>,
    bytes: u64,
    newest: Option<Instant>,
    /// Somebody waits until nothing waits here.
    hurry: bool,
}

#[derive(Debug)]
struct Waiting {
    key: BlockKey,
    bytes: u64,
    since: Instant,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Write this block; it waits here no longer.
    Now(BlockKey),
    /// Ask again then, or when something has changed.
    At(Instant),
    /// Nothing waits.
    Nothing,
}

impl Later {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            newest: None,
            hurry: false,
        }
    }

    /// Adds a block. True: nothing waited before.
    pub(super) fn push(&mut self, key: BlockKey, bytes: u64, now: Instant) -> bool {
        let first = self.queue.is_empty();
        self.queue.push_back(Waiting {
            key,
            bytes,
            since: now,
        });
        self.bytes += bytes;
        self.newest = Some(now);
        first
    }

    /// What is to be done now, where memory has room for so many waiting bytes.
    pub(super) fn due(&mut self, now: Instant, room: u64) -> Due {
        let Some(oldest) = self.queue.front() else {
            self.hurry = false;
            return Due::Nothing;
        };
        let quiet = self.newest.map_or(now, |newest| newest + QUIET);
        let at = quiet.min(oldest.since + LONGEST);
        if !self.hurry && self.bytes <= room && now < at {
            return Due::At(at);
        }
        let key = oldest.key;
        self.bytes -= oldest.bytes;
        self.queue.pop_front();
        Due::Now(key)
    }

    /// Everything is due from now on, until nothing waits.
    pub(super) fn hurry(&mut self) {
        self.hurry = !self.queue.is_empty();
    }

    /// Somebody else sees to all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::small_key;

    const ROOM: u64 = 100;

    fn key(index: u64) -> BlockKey {
        small_key(1, index)
    }

    #[test]
    fn blocks_wait_until_none_comes_any_more() {
        let (mut later, start) = (Later::new(), Instant::now());
        assert_eq!(later.due(start, ROOM), Due::Nothing);
        assert!(later.push(key(0), 10, start));
        assert_eq!(later.due(start, ROOM), Due::At(start + QUIET));
        let next = start + QUIET / 2;
        assert!(!later.push(key(1), 10, next));
        assert_eq!(later.due(start + QUIET, ROOM), Due::At(next + QUIET));
        assert_eq!(later.due(next + QUIET, ROOM), Due::Now(key(0)));
        assert_eq!(later.due(next + QUIET, ROOM), Due::Now(key(1)));
        assert_eq!(later.due(next + QUIET, ROOM), Due::Nothing);
    }

    #[test]
    fn none_waits_for_ever_while_others_come() {
        let (mut later, start) = (Later::new(), Instant::now());
        later.push(key(0), 10, start);
        let end = start + LONGEST;
        later.push(key(1), 10, end - QUIET / 2);
        assert_eq!(later.due(end - QUIET / 4, ROOM), Due::At(end));
        assert_eq!(later.due(end, ROOM), Due::Now(key(0)));
        assert_eq!(later.due(end, ROOM), Due::At(end + QUIET / 2));
    }

    #[test]
    fn more_than_there_is_room_for_goes_at_once() {
        let (mut later, start) = (Later::new(), Instant::now());
        for index in 0..12 {
            later.push(key(index), 10, start);
        }
        assert_eq!(later.due(start, ROOM), Due::Now(key(0)));
        assert_eq!(later.due(start, ROOM), Due::Now(key(1)));
        assert_eq!(later.due(start, ROOM), Due::At(start + QUIET));
    }

    #[test]
    fn somebody_who_waits_hurries_those_that_are_there() {
        let (mut later, start) = (Later::new(), Instant::now());
        later.hurry();
        later.push(key(0), 10, start);
        assert_eq!(
            later.due(start, ROOM),
            Due::At(start + QUIET),
            "it came after"
        );
        later.hurry();
        later.push(key(1), 10, start);
        assert_eq!(later.due(start, ROOM), Due::Now(key(0)));
        assert_eq!(later.due(start, ROOM), Due::Now(key(1)));
        assert_eq!(later.due(start, ROOM), Due::Nothing);
        later.push(key(2), 10, start);
        assert_eq!(later.due(start, ROOM), Due::At(start + QUIET));
        later.clear();
        assert_eq!(later.due(start, ROOM), Due::Nothing);
    }
}
