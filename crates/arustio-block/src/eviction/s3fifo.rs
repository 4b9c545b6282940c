//! S3-FIFO, weighted by bytes: three first-in-first-out queues that a scan cannot sweep.
//!
//! The algorithm of J. Yang, Y. Zhang, Z. Qiu, Y. Yue and R. Vinayak, *FIFO queues are all
//! you need for cache eviction* (SOSP 2023). Most blocks that a cache takes in are never
//! read again before they go, so a new one has to prove itself first:
//!
//! ```text
//!            new                      used again
//!   insert --------> small (10 %) ----------------> main (90 %) <--+ used meanwhile:
//!      |                 | not used                   |  |         | once more,
//!      |                 v                            |  +---------+ one use less
//!      |               ghost (fingerprints)           v
//!      +--- known ---> main                         gone
//! ```
//!
//! A use is a count of at most 3 and moves nothing, so it costs next to nothing under the
//! lock that the tier holds. Each turn through the main queue takes one off.
//!
//! What is ours: queues are measured in bytes, and the share of the small one is taken of
//! what is there and not of a capacity, since the disk tier may have to stay below its own
//! when others need the space. There are as many ghosts as keys.

use super::ghosts::Ghosts;
use super::list::List;
use super::{EvictionPolicy, Print, Slot};

const SMALL: u8 = 0;
const MAIN: u8 = 1;
/// The small queue's share of the bytes: one of so many.
const SHARE: u64 = 10;
/// Uses that a key in the small queue needs to get into the main one.
const PROVEN: u8 = 1;
/// The highest count of uses: two bits.
const MOST_USES: u8 = 3;

/// Evicts first what was never used since it came.
#[derive(Debug)]
pub struct S3Fifo {
    list: List<2>,
    ghosts: Ghosts,
}

impl S3Fifo {
    /// An empty policy.
    pub fn new() -> Self {
        Self {
            list: List::new(),
            ghosts: Ghosts::default(),
        }
    }

    /// The next one to look at, and its queue.
    fn candidate(&mut self) -> Option<(u8, Slot)> {
        let (small, main) = (self.list.weight_of(SMALL), self.list.weight_of(MAIN));
        let first = if small * SHARE >= small + main {
            SMALL
        } else {
            MAIN
        };
        // The weights are those before pinned ones were parked, so either may be empty.
        for queue in [first, SMALL + MAIN - first] {
            if let Some(slot) = self.list.oldest(queue) {
                return Some((queue, slot));
            }
        }
        None
    }

    /// The queues, oldest first, with a star for each use.
    #[cfg(test)]
    pub(super) fn dump(&self) -> String {
        let queue = |queue| {
            let name = |node: &super::list::Node| {
                format!(" {}{}", node.print.0, "*".repeat(node.uses.into()))
            };
            self.list
                .walk(queue)
                .into_iter()
                .map(name)
                .collect::<String>()
        };
        let ghosts = self.ghosts.walk(self.list.keys());
        let ghosts: String = ghosts.iter().map(|print| format!(" {}", print.0)).collect();
        format!(
            "small{} | main{} | ghost{ghosts}",
            queue(SMALL),
            queue(MAIN)
        )
    }
}

impl Default for S3Fifo {
    fn default() -> Self {
        Self::new()
    }
}

impl EvictionPolicy for S3Fifo {
    fn insert(&mut self, print: Print, weight: u64) -> Slot {
        let known = self.ghosts.take(print, self.list.keys());
        let queue = if known { MAIN } else { SMALL };
        self.list.insert(print, weight, queue)
    }

    fn touch(&mut self, slot: Slot) {
        let node = self.list.node(slot);
        node.uses = (node.uses + 1).min(MOST_USES);
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        self.list.reweigh(slot, weight);
    }

    fn remove(&mut self, slot: Slot) {
        self.list.remove(slot);
    }

    fn pop_victim(&mut self) -> Option<(Slot, u64)> {
        loop {
            let (queue, slot) = self.candidate()?;
            let node = self.list.node(slot);
            let print = node.print;
            if queue == SMALL && node.uses >= PROVEN {
                node.uses = 0;
            } else if queue == MAIN && node.uses > 0 {
                node.uses -= 1;
            } else {
                let weight = self.list.remove(slot);
                if queue == SMALL {
                    self.ghosts.add(print, self.list.keys());
                }
                return Some((slot, weight));
            }
            self.list.renew(slot, MAIN);
        }
    }

    fn pin(&mut self, slot: Slot) {
        self.list.pin(slot);
    }

    fn unpin(&mut self, slot: Slot) {
        self.list.unpin(slot);
    }

    fn weight(&self) -> u64 {
        self.list.weight()
    }

    fn pinned_weight(&self) -> u64 {
        self.list.pinned()
    }

    fn memory(&self) -> u64 {
        self.list.memory() + self.ghosts.memory()
    }

    fn remembers(&self, print: Print) -> bool {
        self.ghosts.contains(print, self.list.keys())
    }
}
