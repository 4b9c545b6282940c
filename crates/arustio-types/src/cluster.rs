//! Who serves: nodes and the view of them that clients place blocks by.

use crate::id::NodeId;

/// One block node as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number; never reused for another data directory.
    pub id: NodeId,
    /// Where its gRPC is reached, `host:port`.
    pub address: String,
    /// Share of the blocks relative to other nodes; 0 drains it.
    pub weight: u32,
}

/// The block nodes that live, with an epoch that rises at every change.
///
/// Correctness never depends on it: a client with an old view gets right bytes,
/// only fewer from the cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterView {
    /// Rises with every change.
    pub epoch: u64,
    /// Live nodes, by id.
    pub nodes: Vec<NodeInfo>,
}
