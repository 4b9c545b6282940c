//! Which block nodes live: soft state of the leading metadata server.
//!
//! Who a node *is* is replicated; whether it lives is known here, from its signs of
//! life, and forgotten with the leadership. A view names the registered nodes that gave one
//! within the expiry; in the first while of a leadership it names those, too, from whom
//! nothing was heard yet, since they may not have found the new leader. Its epoch rises
//! with every change; with each leadership it starts from the wall clock, so that it does
//! not fall behind what an earlier leader gave out. Correctness never depends on any of
//! this.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::cluster::{ClusterView, NodeInfo};
use arustio_types::{NodeId, WallClock};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Signs of life.
pub(crate) struct Liveness {
    expiry: Duration,
    wall: Arc<dyn WallClock>,
    inner: Mutex<Inner>,
}

impl fmt::Debug for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Liveness").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// The block node of this process lives as long as it does.
    own: Option<NodeId>,
    /// The term of the leadership, and when it was first noticed.
    leads: Option<(u64, Instant)>,
    beats: HashMap<NodeId, Instant>,
    /// Nodes that said that they leave.
    left: HashSet<NodeId>,
    last: Vec<NodeInfo>,
    epoch: u64,
}

impl Inner {
    /// What was heard in an earlier leadership says nothing; returns since when this one
    /// lasts.
    fn lead(&mut self, term: u64, wall: &dyn WallClock) -> Instant {
        if let Some((known, since)) = self.leads
            && known == term
        {
            return since;
        }
        let since = Instant::now();
        self.leads = Some((term, since));
        self.beats.clear();
        self.left.clear();
        let floor = u64::try_from(wall.now().millis()).unwrap_or_default();
        self.epoch = floor.max(self.epoch + 1);
        since
    }
}

impl Liveness {
    pub(crate) fn new(expiry: Duration, wall: Arc<dyn WallClock>) -> Self {
        Self {
            expiry,
            wall,
            inner: Mutex::default(),
        }
    }

    /// The block node of this process.
    pub(crate) fn own(&self, node: Option<NodeId>) {
        self.inner.lock().own = node;
    }

    /// A node gave a sign of life to the leader of this term, or says that it leaves.
    pub(crate) fn beat(&self, term: u64, node: NodeId, leaving: bool) {
        let mut inner = self.inner.lock();
        inner.lead(term, &*self.wall);
        if leaving {
            inner.beats.remove(&node);
            inner.left.insert(node);
        } else {
            inner.left.remove(&node);
            inner.beats.insert(node, Instant::now());
        }
    }

    /// The registered nodes that live, as the leader of this term knows.
    pub(crate) fn living(&self, term: u64, registered: ClusterView) -> ClusterView {
        let mut inner = self.inner.lock();
        let since = inner.lead(term, &*self.wall);
        let now = Instant::now();
        let expiry = self.expiry;
        let new_here = now.duration_since(since) < expiry;
        inner.beats.retain(|_, at| now.duration_since(*at) < expiry);
        let mut nodes = registered.nodes;
        nodes.retain(|node| {
            inner.own == Some(node.id)
                || inner.beats.contains_key(&node.id)
                || new_here && !inner.left.contains(&node.id)
        });
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
    use arustio_types::cluster::DataEndpoints;
    use arustio_types::{ManualClock, Timestamp};

    use super::*;

    fn registered() -> ClusterView {
        let nodes = (1..=3).map(|id| NodeInfo {
            id: NodeId::new(id),
            address: format!("node{id}:1"),
            weight: 1,
            data: DataEndpoints::default(),
        });
        ClusterView {
            epoch: 3,
            nodes: nodes.collect(),
        }
    }

    fn ids(view: &ClusterView) -> Vec<u64> {
        view.nodes.iter().map(|node| node.id.get()).collect()
    }

    fn liveness() -> Liveness {
        let wall = Arc::new(ManualClock::new(Timestamp::from_millis(1000)));
        Liveness::new(Duration::from_secs(10), wall)
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_names_who_lives_and_its_epoch_rises_with_each_change() {
        let liveness = liveness();
        liveness.living(1, registered());
        tokio::time::advance(Duration::from_secs(11)).await;
        let nobody = liveness.living(1, registered());
        assert!(nobody.nodes.is_empty());
        liveness.own(Some(NodeId::new(2)));
        liveness.beat(1, NodeId::new(3), false);
        let two = liveness.living(1, registered());
        assert_eq!(ids(&two), [2, 3]);
        assert!(two.epoch > nobody.epoch);
        assert_eq!(liveness.living(1, registered()).epoch, two.epoch);
        tokio::time::advance(Duration::from_secs(11)).await;
        let one = liveness.living(1, registered());
        assert_eq!(ids(&one), [2]);
        assert!(one.epoch > two.epoch);
        liveness.beat(1, NodeId::new(3), false);
        liveness.beat(1, NodeId::new(3), true);
        assert_eq!(ids(&liveness.living(1, registered())), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_gives_nodes_the_time_to_find_it() {
        let liveness = liveness();
        liveness.beat(1, NodeId::new(1), true);
        let first = liveness.living(1, registered());
        assert_eq!(
            ids(&first),
            [2, 3],
            "one has left, and nobody has had the time"
        );
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(liveness.living(1, registered()).nodes.is_empty());
        let again = liveness.living(5, registered());
        assert_eq!(ids(&again), [1, 2, 3]);
        assert!(again.epoch > first.epoch);
        liveness.beat(5, NodeId::new(1), false);
        tokio::time::advance(Duration::from_secs(9)).await;
        liveness.beat(5, NodeId::new(1), false);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(ids(&liveness.living(5, registered())), [1]);
    }
}
