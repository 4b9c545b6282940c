//! Block nodes: who they are, how full, and what an operator decides about them.
//!
//! The leading metadata server answers: what was decided is replicated, signs of life are
//! heard by it alone. A decision says what is to be, so that it is sent again freely.

use std::time::Duration;

use arustio_proto::admin::v1 as wire;
use arustio_proto::convert;
use arustio_types::cluster::{NodeChange, NodeEntry};
use arustio_types::{Classify as _, ErrorKind, NodeId};

use super::{Admin, millis};
use crate::error::{FsError, Result};
use crate::metadata::route::{Repeat, Want, request};

/// The block nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockNodes {
    /// By number, removed ones included.
    pub nodes: Vec<BlockNode>,
    /// Epoch of the view that clients are given.
    pub epoch: u64,
}

/// A block node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockNode {
    /// As it is recorded.
    pub entry: NodeEntry,
    /// It is in the view that clients are given.
    pub lives: bool,
    /// Since its last sign of life to the server that leads; `None`: it heard none yet.
    pub heard_ago: Option<Duration>,
    /// How full its tiers were then.
    pub tiers: Vec<NodeTier>,
}

impl BlockNode {
    /// Its number.
    pub fn id(&self) -> NodeId {
        self.entry.node.id
    }

    /// What it is, in one word.
    pub fn state(&self) -> &'static str {
        match (&self.entry, self.lives) {
            (entry, _) if entry.removed => "removed",
            (_, false) => "down",
            (entry, true) if entry.node.draining => "draining",
            (_, true) => "serves",
        }
    }
}

/// How full a tier of a block node is, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTier {
    /// `memory` or `disk`.
    pub name: String,
    /// Bytes that it may use.
    pub capacity: u64,
    /// Bytes that it uses.
    pub used: u64,
    /// Blocks, partial ones included.
    pub blocks: u64,
    /// Bytes that may not be evicted.
    pub pinned: u64,
    /// It takes writes at the moment.
    pub writable: bool,
    /// Reads since the node was started that found all they asked for.
    pub hits: u64,
    /// Reads that found some of it.
    pub partial_hits: u64,
    /// Reads that found nothing.
    pub misses: u64,
}

impl NodeTier {
    /// Reads of this tier since the node was started.
    pub fn reads(&self) -> u64 {
        let reads = self.hits.saturating_add(self.partial_hits);
        reads.saturating_add(self.misses)
    }
}

impl Admin {
    /// The block nodes, as the leader knows them. Safe to drop.
    ///
    /// # Errors
    /// `Unavailable` when no server leads.
    pub async fn nodes(&self) -> Result<BlockNodes> {
        let call = self.call(Want::Leader, Repeat::Freely);
        let answered = self
            .ask(call, |mut admin, left| {
                let asked = request(wire::ListNodesRequest {}, left);
                async move { admin.list_nodes(asked).await }
            })
            .await;
        let answered = answered.map_err(|failed| failed.explain().during("list the block nodes"));
        nodes(answered?.value)
    }

    /// Decides about a block node; returns when that is so, with all nodes as they are then.
    /// Dropping the future does not withdraw it.
    ///
    /// # Errors
    /// `NotFound` for a number that no node has, `Conflict` for one that was removed.
    pub async fn change_node(&self, node: NodeId, change: NodeChange) -> Result<BlockNodes> {
        let caller = self.caller();
        let asked = |left: Duration| wire::ChangeNodeRequest {
            caller: Some(caller),
            change: Some(convert::change_node(node, change)),
            deadline_millis: millis(left),
        };
        let call = self.call(Want::Leader, Repeat::Freely);
        let answered = self
            .ask(call, |mut admin, left| {
                let asked = request(asked(left), left);
                async move { admin.change_node(asked).await }
            })
            .await;
        let answered = answered.map_err(|failed| failed.explain().during(verb(change)))?;
        match answered.value.nodes {
            Some(found) => nodes(found),
            // The server that made the change has stopped leading since.
            None => self.nodes().await,
        }
    }
}

fn verb(change: NodeChange) -> &'static str {
    match change {
        NodeChange::Weight(_) => "change the weight of the block node",
        NodeChange::Draining(true) => "drain the block node",
        NodeChange::Draining(false) => "stop draining the block node",
        NodeChange::Remove => "remove the block node",
    }
}

fn nodes(found: wire::ListNodesResponse) -> Result<BlockNodes> {
    let nodes = found.nodes.into_iter().map(node).collect::<Result<_>>()?;
    Ok(BlockNodes {
        nodes,
        epoch: found.epoch,
    })
}

fn node(state: wire::NodeState) -> Result<BlockNode> {
    let entry = state.entry.ok_or_else(|| {
        FsError::new(
            ErrorKind::Internal,
            "a block node was answered without its record",
        )
    })?;
    let entry = NodeEntry::try_from(entry)
        .map_err(|error| FsError::new(error.kind(), error.to_string()))?;
    let tier = |tier: arustio_proto::block::v1::TierUsage| NodeTier {
        name: tier.name,
        capacity: tier.capacity,
        used: tier.used,
        blocks: tier.blocks,
        pinned: tier.pinned,
        writable: tier.writable,
        hits: tier.hits,
        partial_hits: tier.partial_hits,
        misses: tier.misses,
    };
    Ok(BlockNode {
        entry,
        lives: state.lives,
        heard_ago: state.heard_ago.map(Into::into),
        tiers: state.tiers.into_iter().map(tier).collect(),
    })
}

#[cfg(test)]
mod tests {
    use arustio_types::cluster::{DataEndpoints, NodeInfo};

    use super::*;

    #[test]
    fn what_was_decided_comes_before_what_is_heard() {
        let node = |removed, draining, lives| BlockNode {
            entry: NodeEntry {
                node: NodeInfo {
                    id: NodeId::new(1),
                    address: "n1:1".to_owned(),
                    weight: 100,
                    draining,
                    data: DataEndpoints::default(),
                },
                instance: 1,
                removed,
            },
            lives,
            heard_ago: None,
            tiers: Vec::new(),
        };
        assert_eq!(node(true, true, true).state(), "removed");
        assert_eq!(node(false, true, true).state(), "draining");
        assert_eq!(node(false, true, false).state(), "down");
        assert_eq!(node(false, false, true).state(), "serves");
    }
}
