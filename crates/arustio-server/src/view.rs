//! Which block nodes live: soft state of the leading metadata server.
//!
//! Who a node *is* is replicated; whether it lives is known here, from its signs of
//! life, and forgotten with the leadership. A view names the registered nodes that gave one
//! within the expiry; in the first while of a leadership it names those, too, from whom
//! nothing was heard yet, since they may not have found the new leader. Its epoch rises
//! with every change; with each leadership it starts from the wall clock, so that it does
//! not fall behind what an earlier leader gave out. Correctness never depends on any of
//! this.
//!
//! A data folder that two processes use, and an address that two of them give, show here:
//! the one that lives is believed, and the other one refused for as long as it lives.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arustio_proto::block::v1::TierUsage;
use arustio_types::cluster::{ClusterView, NodeEntry, NodeInfo};
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
    /// The last sign of life of each.
    beats: HashMap<NodeId, Heard>,
    /// Nodes that said that they leave.
    left: HashSet<NodeId>,
    last: Vec<NodeInfo>,
    /// Those that are registered, as they were seen last.
    registered: Vec<NodeInfo>,
    epoch: u64,
}

/// A sign of life.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    /// Where the node is reached.
    pub(crate) address: String,
    /// How full it is, passed on to whoever asks as it came.
    pub(crate) tiers: Vec<TierUsage>,
}

/// How many block nodes there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NodeStates {
    /// Registered, and not removed.
    pub(crate) registered: usize,
    /// Of those, the ones in the view that clients are given.
    pub(crate) live: usize,
    /// Of those, the ones that drain.
    pub(crate) draining: usize,
}

/// A node that lives and makes another one impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rival {
    /// It has the same data folder, and is elsewhere.
    SameFolder { node: NodeId, address: String },
    /// It has another data folder, and is at the same address.
    SameAddress { node: NodeId },
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

    /// Its last sign of life, if that is young enough and it did not leave since.
    fn alive(&self, node: NodeId, now: Instant, expiry: Duration) -> Option<&Heard> {
        let heard = self.beats.get(&node)?;
        let young = now.duration_since(heard.at) < expiry;
        (young && !self.left.contains(&node)).then_some(heard)
    }
}

impl Inner {
    /// Those of these nodes that live, in a leadership that lasts since then.
    fn living(&self, mut nodes: Vec<NodeInfo>, since: Instant, expiry: Duration) -> Vec<NodeInfo> {
        let now = Instant::now();
        let new_here = now.duration_since(since) < expiry;
        nodes.retain(|node| {
            self.own == Some(node.id)
                || self.alive(node.id, now, expiry).is_some()
                || new_here && !self.left.contains(&node.id)
        });
        nodes
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
    pub(crate) fn beat(&self, term: u64, node: NodeId, heard: Option<Heard>) {
        let mut inner = self.inner.lock();
        inner.lead(term, &*self.wall);
        match heard {
            None => {
                inner.left.insert(node);
            }
            Some(heard) => {
                inner.left.remove(&node);
                inner.beats.insert(node, heard);
            }
        }
    }

    /// The last sign of life of each, as the leader of this term heard it.
    pub(crate) fn heard(&self, term: u64) -> HashMap<NodeId, Heard> {
        let mut inner = self.inner.lock();
        inner.lead(term, &*self.wall);
        inner.beats.clone()
    }

    /// Who lives and stands in the way of a node with this data folder at this address.
    pub(crate) fn rival(
        &self,
        term: u64,
        instance: u128,
        address: &str,
        registered: &[NodeEntry],
    ) -> Option<Rival> {
        let mut inner = self.inner.lock();
        inner.lead(term, &*self.wall);
        let now = Instant::now();
        registered.iter().find_map(|entry| {
            let node = entry.node.id;
            let heard = inner.alive(node, now, self.expiry)?;
            match (entry.instance == instance, heard.address == address) {
                (true, false) => Some(Rival::SameFolder {
                    node,
                    address: heard.address.clone(),
                }),
                (false, true) if !entry.removed => Some(Rival::SameAddress { node }),
                _ => None,
            }
        })
    }

    /// After how long without a sign of life a node is no longer taken to live.
    pub(crate) fn expiry(&self) -> Duration {
        self.expiry
    }

    /// How many nodes there are, as the leader of this term saw them last.
    pub(crate) fn states(&self, term: u64) -> NodeStates {
        let mut inner = self.inner.lock();
        let since = inner.lead(term, &*self.wall);
        let live = inner.living(inner.registered.clone(), since, self.expiry);
        NodeStates {
            registered: inner.registered.len(),
            live: live.len(),
            draining: live.iter().filter(|node| node.draining).count(),
        }
    }

    /// The registered nodes that live, as the leader of this term knows.
    pub(crate) fn living(&self, term: u64, registered: ClusterView) -> ClusterView {
        let mut inner = self.inner.lock();
        let since = inner.lead(term, &*self.wall);
        if inner.registered != registered.nodes {
            inner.registered.clone_from(&registered.nodes);
        }
        let nodes = inner.living(registered.nodes, since, self.expiry);
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
            draining: false,
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

    fn sign(id: u64) -> Option<Heard> {
        Some(Heard {
            at: Instant::now(),
            address: format!("node{id}:1"),
            tiers: Vec::new(),
        })
    }

    fn entries() -> Vec<NodeEntry> {
        let entry = |node: NodeInfo| NodeEntry {
            instance: u128::from(node.id.get()) + 70,
            removed: false,
            node,
        };
        registered().nodes.into_iter().map(entry).collect()
    }

    fn liveness() -> Liveness {
        let wall = Arc::new(ManualClock::new(Timestamp::from_millis(1000)));
        Liveness::new(Duration::from_secs(10), wall)
    }

    #[tokio::test(start_paused = true)]
    async fn states_are_counted_as_they_are_and_not_as_they_were_asked_for() {
        let liveness = liveness();
        let mut view = registered();
        view.nodes[2].draining = true;
        liveness.living(1, view);
        let all = NodeStates {
            registered: 3,
            live: 3,
            draining: 1,
        };
        assert_eq!(
            liveness.states(1),
            all,
            "they may not have found the leader yet"
        );
        tokio::time::advance(Duration::from_secs(8)).await;
        liveness.beat(1, NodeId::new(3), sign(3));
        tokio::time::advance(Duration::from_secs(8)).await;
        let one = NodeStates { live: 1, ..all };
        assert_eq!(liveness.states(1), one);
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_names_who_lives_and_its_epoch_rises_with_each_change() {
        let liveness = liveness();
        liveness.living(1, registered());
        tokio::time::advance(Duration::from_secs(11)).await;
        let nobody = liveness.living(1, registered());
        assert!(nobody.nodes.is_empty());
        liveness.own(Some(NodeId::new(2)));
        liveness.beat(1, NodeId::new(3), sign(3));
        let two = liveness.living(1, registered());
        assert_eq!(ids(&two), [2, 3]);
        assert!(two.epoch > nobody.epoch);
        assert_eq!(liveness.living(1, registered()).epoch, two.epoch);
        tokio::time::advance(Duration::from_secs(11)).await;
        let one = liveness.living(1, registered());
        assert_eq!(ids(&one), [2]);
        assert!(one.epoch > two.epoch);
        liveness.beat(1, NodeId::new(3), sign(3));
        liveness.beat(1, NodeId::new(3), None);
        assert_eq!(ids(&liveness.living(1, registered())), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_gives_nodes_the_time_to_find_it() {
        let liveness = liveness();
        liveness.beat(1, NodeId::new(1), None);
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
        liveness.beat(5, NodeId::new(1), sign(1));
        tokio::time::advance(Duration::from_secs(9)).await;
        liveness.beat(5, NodeId::new(1), sign(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(ids(&liveness.living(5, registered())), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_data_folder_and_an_address_belong_to_who_lives() {
        let liveness = liveness();
        let rival = |instance, address: &str| liveness.rival(1, instance, address, &entries());
        assert_eq!(rival(72, "elsewhere:1"), None, "nobody was heard yet");
        liveness.beat(1, NodeId::new(2), sign(2));
        assert_eq!(rival(72, "node2:1"), None, "it is that node itself");
        let node = NodeId::new(2);
        let address = "node2:1".to_owned();
        assert_eq!(
            rival(72, "elsewhere:1"),
            Some(Rival::SameFolder { node, address })
        );
        assert_eq!(rival(99, "node2:1"), Some(Rival::SameAddress { node }));
        assert_eq!(rival(99, "node3:1"), None, "whoever was there is silent");
        liveness.beat(1, node, None);
        assert_eq!(rival(72, "elsewhere:1"), None, "it has left");
        liveness.beat(1, node, sign(2));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(rival(72, "elsewhere:1"), None, "it died");
        assert_eq!(liveness.heard(1).len(), 1, "and when is still known");
    }
}
