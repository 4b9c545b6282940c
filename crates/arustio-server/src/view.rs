//! Which block nodes live: soft state of a metadata server.
//!
//! Who a node *is* is replicated; whether it lives is known here, from its signs of
//! life, and forgotten with the process. A view names the registered nodes that gave one
//! within the expiry. Its epoch rises with every change of either part; it starts from
//! the wall clock, so that it does not fall behind what an earlier process gave out.
//! Correctness never depends on any of this.

use std::collections::HashMap;
use std::time::Duration;

use arustio_types::cluster::{ClusterView, NodeInfo};
use arustio_types::{NodeId, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Signs of life.
#[derive(Debug)]
pub(crate) struct Liveness {
    expiry: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The block node of this process lives as long as it does.
    own: Option<NodeId>,
    beats: HashMap<NodeId, Instant>,
    last: Vec<NodeInfo>,
    epoch: u64,
}

impl Liveness {
    pub(crate) fn new(expiry: Duration, now: Timestamp) -> Self {
        Self {
            expiry,
            inner: Mutex::new(Inner {
                own: None,
                beats: HashMap::new(),
                last: Vec::new(),
                epoch: u64::try_from(now.millis()).unwrap_or_default(),
            }),
        }
    }

    /// The block node of this process.
    pub(crate) fn own(&self, node: Option<NodeId>) {
        self.inner.lock().own = node;
    }

    /// A node gave a sign of life, or says that it leaves.
    pub(crate) fn beat(&self, node: NodeId, leaving: bool) {
        let mut inner = self.inner.lock();
        if leaving {
            inner.beats.remove(&node);
        } else {
            inner.beats.insert(node, Instant::now());
        }
    }

    /// The registered nodes that live.
    pub(crate) fn living(&self, registered: ClusterView) -> ClusterView {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let expiry = self.expiry;
        inner.beats.retain(|_, at| now.duration_since(*at) < expiry);
        let mut nodes = registered.nodes;
        nodes.retain(|node| inner.own == Some(node.id) || inner.beats.contains_key(&node.id));
        if nodes != inner.last {
            inner.epoch += 1;
            inner.last.clone_from(&nodes);
        }
        ClusterView {
            epoch: inner.epoch.saturating_add(registered.epoch),
            nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered() -> ClusterView {
        let nodes = (1..=3).map(|id| NodeInfo {
            id: NodeId::new(id),
            address: format!("node{id}:1"),
            weight: 1,
        });
        ClusterView {
            epoch: 3,
            nodes: nodes.collect(),
        }
    }

    fn ids(view: &ClusterView) -> Vec<u64> {
        view.nodes.iter().map(|node| node.id.get()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_names_who_lives_and_its_epoch_rises_with_each_change() {
        let liveness = Liveness::new(Duration::from_secs(10), Timestamp::from_millis(1000));
        let nobody = liveness.living(registered());
        assert!(nobody.nodes.is_empty());
        liveness.own(Some(NodeId::new(2)));
        liveness.beat(NodeId::new(3), false);
        let two = liveness.living(registered());
        assert_eq!(ids(&two), [2, 3]);
        assert!(two.epoch > nobody.epoch);
        assert_eq!(liveness.living(registered()).epoch, two.epoch);
        tokio::time::advance(Duration::from_secs(11)).await;
        let one = liveness.living(registered());
        assert_eq!(ids(&one), [2]);
        assert!(one.epoch > two.epoch);
        liveness.beat(NodeId::new(3), false);
        liveness.beat(NodeId::new(3), true);
        assert_eq!(ids(&liveness.living(registered())), [2]);
    }
}
