//! Which node to ask for a block.
//!
//! The owner by rendezvous hashing, unless it failed lately: then the next one. A node
//! that fails is avoided for an interval that doubles with each failure, and asked
//! again by one request when it is over, so that nobody waits twice for the same dead
//! node (R4).

use std::collections::HashMap;
use std::time::Duration;

use arustio_types::cluster::{ClusterView, NodeInfo};
use arustio_types::placement;
use arustio_types::{BlockKey, NodeId};
use parking_lot::Mutex;
use tokio::time::Instant;

const FIRST_AVOIDANCE: Duration = Duration::from_millis(500);
const LONGEST_AVOIDANCE: Duration = Duration::from_secs(30);

/// What is known of the nodes' health. One short lock, never held across an await.
#[derive(Debug, Default)]
pub struct Owners {
    avoided: Mutex<HashMap<NodeId, Avoided>>,
}

#[derive(Debug, Clone, Copy)]
struct Avoided {
    failures: u32,
    until: Instant,
}

impl Owners {
    /// The best node of `view` that is not avoided at `now`; `None`: do without.
    pub fn choose<'a>(
        &self,
        view: &'a ClusterView,
        key: &BlockKey,
        now: Instant,
    ) -> Option<&'a NodeInfo> {
        let mut avoided = self.avoided.lock();
        let usable = |node: &&NodeInfo| avoided.get(&node.id).is_none_or(|a| a.until <= now);
        let chosen = placement::ranked(view, key).into_iter().find(usable)?;
        if let Some(entry) = avoided.get_mut(&chosen.id) {
            // One probe at a time: the others keep away until it has answered.
            entry.until = now + FIRST_AVOIDANCE;
        }
        Some(chosen)
    }

    /// The node answered.
    pub fn succeeded(&self, node: NodeId) {
        self.avoided.lock().remove(&node);
    }

    /// The node did not answer, or badly.
    pub fn failed(&self, node: NodeId, now: Instant) {
        let mut avoided = self.avoided.lock();
        let entry = avoided.entry(node).or_insert(Avoided {
            failures: 0,
            until: now,
        });
        let doubled = FIRST_AVOIDANCE.saturating_mul(1 << entry.failures.min(10));
        entry.until = now + doubled.min(LONGEST_AVOIDANCE);
        entry.failures = entry.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::{BlockSize, ContentId};

    fn view() -> ClusterView {
        let nodes = (1..=3).map(|id| NodeInfo {
            id: NodeId::new(id),
            address: format!("n{id}:1"),
            weight: 1,
            draining: false,
            data: arustio_types::cluster::DataEndpoints::default(),
        });
        ClusterView {
            epoch: 1,
            nodes: nodes.collect(),
        }
    }

    #[test]
    fn r4_a_failing_node_is_avoided_for_a_growing_interval_and_probed_once() {
        let (view, owners, start) = (view(), Owners::default(), Instant::now());
        let key = BlockKey {
            content: ContentId::new(9),
            size: BlockSize::DEFAULT,
            index: 0,
        };
        let first = owners.choose(&view, &key, start).unwrap().id;
        owners.failed(first, start);
        let second = owners.choose(&view, &key, start).unwrap().id;
        assert_ne!(first, second);
        let later = start + Duration::from_millis(600);
        assert_eq!(owners.choose(&view, &key, later).unwrap().id, first);
        assert_eq!(owners.choose(&view, &key, later).unwrap().id, second);
        owners.failed(first, later);
        let soon = later + Duration::from_millis(900);
        assert_eq!(owners.choose(&view, &key, soon).unwrap().id, second);
        owners.succeeded(first);
        assert_eq!(owners.choose(&view, &key, soon).unwrap().id, first);
    }
}
