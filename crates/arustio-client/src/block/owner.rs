//! Which node to ask for a block.
//!
//! The owner by rendezvous hashing, unless it failed lately: then the next one. A node
//! that fails is avoided for an interval that doubles with each failure, and asked
//! again by one request when it is over, so that nobody waits twice for the same dead
//! node (R4). An answer ends that. Requests that were under way together when a node died
//! are one failure. A node that again and again answers later than whoever was asked instead
//! counts as one that fails.

use std::collections::HashMap;
use std::time::Duration;

use arustio_types::cluster::{ClusterView, NodeInfo};
use arustio_types::placement;
use arustio_types::{BlockKey, NodeId};
use parking_lot::Mutex;
use tokio::time::Instant;

const FIRST_AVOIDANCE: Duration = Duration::from_millis(500);
const LONGEST_AVOIDANCE: Duration = Duration::from_secs(30);
/// How long a probe is waited for before another one is sent: more than a read may take. One
/// that was dropped keeps the others away for no longer.
const PROBE: Duration = Duration::from_secs(3);
/// Races that a node loses one after the other before it is avoided.
const LOST: u32 = 3;

/// What is known of the nodes' health. One short lock, never held across an await.
#[derive(Debug, Default)]
pub struct Owners {
    nodes: Mutex<HashMap<NodeId, Health>>,
}

#[derive(Debug, Clone, Copy)]
struct Health {
    /// Failures one after the other.
    failures: u32,
    /// Races lost one after the other since the last failure.
    lost: u32,
    /// Avoided until then.
    until: Instant,
    /// One request is on its way to see whether it works again.
    probed: bool,
}

impl Owners {
    /// The best node of `view` that is not avoided at `now`; `None`: do without. It is about
    /// to be asked: where it was avoided until now, this is the probe.
    pub fn choose<'a>(
        &self,
        view: &'a ClusterView,
        key: &BlockKey,
        now: Instant,
    ) -> Option<&'a NodeInfo> {
        let mut ranked = placement::ranked(view, key).into_iter();
        ranked.find(|node| self.asking(node.id, now))
    }

    /// The nodes that a block goes to at `now`: the best so many that are not avoided, each
    /// of them about to be asked.
    pub fn takers<'a>(
        &self,
        view: &'a ClusterView,
        key: &BlockKey,
        replicas: usize,
        now: Instant,
    ) -> Vec<&'a NodeInfo> {
        let ranked = placement::ranked(view, key).into_iter();
        let usable = ranked.filter(|node| self.asking(node.id, now));
        usable.take(replicas).collect()
    }

    /// Who else may have the block when `first` has not: other replicas, best first, then
    /// nodes that drain and owned it. Say [`asking`](Self::asking) before one is asked.
    pub fn others<'a>(
        &self,
        view: &'a ClusterView,
        key: &BlockKey,
        first: Option<NodeId>,
        replicas: usize,
    ) -> Vec<&'a NodeInfo> {
        let copies = match replicas {
            // Looked at for every block that is missing: what is not needed is not ranked.
            0 | 1 if first.is_some() => Vec::new(),
            _ => placement::ranked(view, key),
        };
        let copies = copies.into_iter().take(replicas);
        let copies = copies.filter(|node| Some(node.id) != first);
        copies
            .chain(placement::former(view, key, replicas))
            .collect()
    }

    /// Whether a node may be asked at `now`; where it was avoided until now, by one request.
    pub fn asking(&self, node: NodeId, now: Instant) -> bool {
        let mut nodes = self.nodes.lock();
        match nodes.get_mut(&node) {
            Some(health) if health.until > now => false,
            Some(health) if health.failures > 0 => {
                health.probed = true;
                health.until = now + PROBE;
                true
            }
            Some(_) | None => true,
        }
    }

    /// The node answered.
    pub fn succeeded(&self, node: NodeId) {
        self.nodes.lock().remove(&node);
    }

    /// The node did not answer, or badly.
    pub fn failed(&self, node: NodeId, now: Instant) {
        self.with(node, now, |health| health.fail(now));
    }

    /// The node was given up, since whoever was asked instead was first.
    pub fn lost(&self, node: NodeId, now: Instant) {
        self.with(node, now, |health| {
            health.lost += 1;
            // A probe that is late has shown what it was sent for.
            if health.lost >= LOST || health.probed {
                health.fail(now);
            }
        });
    }

    fn with(&self, node: NodeId, now: Instant, change: impl FnOnce(&mut Health)) {
        let mut nodes = self.nodes.lock();
        change(nodes.entry(node).or_insert(Health {
            failures: 0,
            lost: 0,
            until: now,
            probed: false,
        }));
    }
}

impl Health {
    fn fail(&mut self, now: Instant) {
        if self.until > now && !self.probed {
            return;
        }
        let doubled = FIRST_AVOIDANCE.saturating_mul(1 << self.failures.min(10));
        self.until = now + doubled.min(LONGEST_AVOIDANCE);
        self.failures = self.failures.saturating_add(1);
        self.lost = 0;
        self.probed = false;
    }
}

#[cfg(test)]
mod tests;
