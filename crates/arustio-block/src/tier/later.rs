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
    /// Somebody sees to the queue, until it was told that nothing waits.
    attended: bool,
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
            attended: false,
        }
    }

    /// Adds a block. True: nobody sees to the queue yet, and whoever is told this has to.
    ///
    /// Of more than `most` bytes, which is what memory holds, the oldest are forgotten:
    /// memory has given them up, or will before long, and they go to disk on that way.
    pub(super) fn push(&mut self, key: BlockKey, bytes: u64, now: Instant, most: u64) -> bool {
        self.queue.push_back(Waiting {
            key,
            bytes,
            since: now,
        });
        self.bytes += bytes;
        self.newest = Some(now);
        while self.bytes > most && self.pop().is_some() {}
        !std::mem::replace(&mut self.attended, true)
    }

    fn pop(&mut self) -> Option<BlockKey> {
        let oldest = self.queue.pop_front()?;
        self.bytes -= oldest.bytes;
        Some(oldest.key)
    }

    /// What is to be done now, where memory has room for so many waiting bytes.
    pub(super) fn due(&mut self, now: Instant, room: u64) -> Due {
        let Some(oldest) = self.queue.front() else {
            (self.hurry, self.attended) = (false, false);
            return Due::Nothing;
        };
        let quiet = self.newest.map_or(now, |newest| newest + QUIET);
        let at = quiet.min(oldest.since + LONGEST);
        if !self.hurry && self.bytes <= room && now < at {
            return Due::At(at);
        }
        self.pop().map_or(Due::Nothing, Due::Now)
    }

    /// Everything is due from now on, until nothing waits.
    pub(super) fn hurry(&mut self) {
        self.hurry = !self.queue.is_empty();
    }

    /// Somebody else sees to all of them.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::small_key;

    const ROOM: u64 = 100;
    const MOST: u64 = 150;

    fn key(index: u64) -> BlockKey {
        small_key(1, index)
    }

    #[test]
    fn blocks_wait_until_none_comes_any_more() {
        let (mut later, start) = (Later::new(), Instant::now());
        assert_eq!(later.due(start, ROOM), Due::Nothing);
        assert!(later.push(key(0), 10, start, MOST));
        assert_eq!(later.due(start, ROOM), Due::At(start + QUIET));
        let next = start + QUIET / 2;
        assert!(!later.push(key(1), 10, next, MOST));
        assert_eq!(later.due(start + QUIET, ROOM), Due::At(next + QUIET));
        assert_eq!(later.due(next + QUIET, ROOM), Due::Now(key(0)));
        assert_eq!(later.due(next + QUIET, ROOM), Due::Now(key(1)));
        assert_eq!(later.due(next + QUIET, ROOM), Due::Nothing);
    }

    #[test]
    fn none_waits_for_ever_while_others_come() {
        let (mut later, start) = (Later::new(), Instant::now());
        later.push(key(0), 10, start, MOST);
        let end = start + LONGEST;
        later.push(key(1), 10, end - QUIET / 2, MOST);
        assert_eq!(later.due(end - QUIET / 4, ROOM), Due::At(end));
        assert_eq!(later.due(end, ROOM), Due::Now(key(0)));
        assert_eq!(later.due(end, ROOM), Due::At(end + QUIET / 2));
    }

    #[test]
    fn more_than_there_is_room_for_goes_at_once() {
        let (mut later, start) = (Later::new(), Instant::now());
        for index in 0..12 {
            later.push(key(index), 10, start, MOST);
        }
        assert_eq!(later.due(start, ROOM), Due::Now(key(0)));
        assert_eq!(later.due(start, ROOM), Due::Now(key(1)));
        assert_eq!(later.due(start, ROOM), Due::At(start + QUIET));
    }

    #[test]
    fn somebody_who_waits_hurries_those_that_are_there() {
        let (mut later, start) = (Later::new(), Instant::now());
        later.hurry();
        later.push(key(0), 10, start, MOST);
        assert_eq!(
            later.due(start, ROOM),
            Due::At(start + QUIET),
            "it came after"
        );
        later.hurry();
        later.push(key(1), 10, start, MOST);
        assert_eq!(later.due(start, ROOM), Due::Now(key(0)));
        assert_eq!(later.due(start, ROOM), Due::Now(key(1)));
        assert_eq!(later.due(start, ROOM), Due::Nothing);
        later.push(key(2), 10, start, MOST);
        assert_eq!(later.due(start, ROOM), Due::At(start + QUIET));
        later.clear();
        assert_eq!(later.due(start, ROOM), Due::Nothing);
    }

    #[test]
    fn one_sees_to_the_queue_until_it_was_told_that_nothing_waits() {
        let (mut later, start) = (Later::new(), Instant::now());
        assert!(later.push(key(0), 10, start, MOST));
        assert_eq!(later.due(start + QUIET, ROOM), Due::Now(key(0)));
        assert!(!later.push(key(1), 10, start, MOST), "it is on its way");
        later.clear();
        assert!(!later.push(key(2), 10, start, MOST));
        assert_eq!(later.due(start + QUIET, ROOM), Due::Now(key(2)));
        assert_eq!(later.due(start + QUIET, ROOM), Due::Nothing);
        assert!(later.push(key(3), 10, start, MOST));
    }

    #[test]
    fn no_more_waits_than_memory_holds_when_nobody_comes_for_it() {
        let (mut later, start) = (Later::new(), Instant::now());
        for index in 0..1_000 {
            later.push(key(index), 10, start, MOST);
        }
        assert_eq!(later.queue.len() as u64, MOST / 10);
        assert_eq!(later.due(start, ROOM), Due::Now(key(985)));
    }
}
