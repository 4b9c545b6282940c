//! Bytes on their way to a node, joined while they come quickly.
//!
//! A store that is quick fills a block with one request, which a node on this host takes as
//! a file. One that is slow lets nobody who waits for its bytes wait for a whole block.

use std::time::Duration;

use tokio::time::Instant;

use super::fetch::Cut;

/// How long bytes wait for those behind them.
const GATHER: Duration = Duration::from_millis(20);
/// Bytes that are sent together at most.
const MOST: u64 = 8 << 20;

/// What was not sent yet. No I/O.
#[derive(Debug)]
pub(super) struct Gather {
    most: u64,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    cut: Cut,
    length: u64,
    since: Instant,
}

impl Gather {
    /// `room`: bytes that may be on their way at once; a quarter of them may wait here.
    pub(super) fn new(room: u64) -> Self {
        Self {
            most: MOST.min(room / 4),
            waiting: None,
        }
    }

    /// Takes bytes that follow those before them; `end` is where the block or the lease
    /// ends that they belong to. Returns what is to be sent now.
    pub(super) fn push(&mut self, cut: Cut, end: u64, now: Instant) -> Option<Cut> {
        let length = cut.length();
        if length == 0 {
            return None;
        }
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            cut: Cut {
                at: cut.at,
                pieces: Vec::new(),
            },
            length: 0,
            since: now,
        });
        waiting.cut.pieces.extend(cut.pieces);
        waiting.length += length;
        let ends = waiting.cut.at + waiting.length >= end;
        let late = now.duration_since(waiting.since) >= GATHER;
        let sent = ends || late || waiting.length >= self.most;
        if sent { self.take() } else { None }
    }

    /// When what waits has to go.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.since + GATHER)
    }

    /// All that waits.
    pub(super) fn take(&mut self) -> Option<Cut> {
        self.waiting.take().map(|waiting| waiting.cut)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const KIB: u64 = 1 << 10;

    fn cut(at: u64, length: u64) -> Cut {
        let piece = Bytes::from(vec![0; usize::try_from(length).unwrap()]);
        Cut {
            at,
            pieces: vec![piece],
        }
    }

    fn sent(cut: Option<Cut>) -> Option<(u64, u64)> {
        cut.map(|cut| (cut.at, cut.length()))
    }

    #[test]
    fn what_comes_quickly_goes_together_with_the_end_of_its_block() {
        let (mut gather, now) = (Gather::new(32 << 20), Instant::now());
        assert!(gather.push(cut(100, 0), 1000, now).is_none());
        assert_eq!(gather.due(), None, "nothing waits");
        assert!(gather.push(cut(100, 200), 1000, now).is_none());
        assert!(gather.push(cut(300, 200), 1000, now).is_none());
        let last = gather.push(cut(500, 500), 1000, now);
        assert_eq!(sent(last), Some((100, 900)));
        assert_eq!(gather.due(), None);
    }

    #[test]
    fn what_has_waited_goes_with_what_comes_next_or_when_it_is_due() {
        let (mut gather, now) = (Gather::new(32 << 20), Instant::now());
        assert!(gather.push(cut(0, 10), 1000, now).is_none());
        assert_eq!(gather.due(), Some(now + GATHER));
        let late = gather.push(cut(10, 10), 1000, now + GATHER);
        assert_eq!(sent(late), Some((0, 20)));
        assert!(gather.push(cut(20, 10), 1000, now).is_none());
        assert_eq!(sent(gather.take()), Some((20, 10)));
        assert!(gather.take().is_none());
    }

    #[test]
    fn no_more_waits_than_a_quarter_of_the_room() {
        let (mut gather, now) = (Gather::new(1024 * KIB), Instant::now());
        assert!(gather.push(cut(0, 255 * KIB), u64::MAX, now).is_none());
        let full = gather.push(cut(255 * KIB, KIB), u64::MAX, now);
        assert_eq!(sent(full), Some((0, 256 * KIB)));
    }
}
