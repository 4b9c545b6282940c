//! Who serves: nodes and the view of them that clients place blocks by.

use crate::id::NodeId;

/// One block node as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number; never reused for another data directory.
    pub id: NodeId,
    /// Where its gRPC is reached, `host:port`.
    pub address: String,
    /// Share of the blocks relative to other nodes; at 0 it owns none, and is not asked.
    pub weight: u32,
    /// It gets no new blocks, and is still asked for those that its weight gave it.
    pub draining: bool,
    /// Faster ways to its bytes.
    pub data: DataEndpoints,
}

/// One block node as it is recorded, whether it lives or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// What clients may be told of it.
    pub node: NodeInfo,
    /// Names its data directory.
    pub instance: u128,
    /// It was removed: its number stays taken, and its data directory is refused.
    pub removed: bool,
}

/// What an operator decides about a block node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeChange {
    /// Its share of the blocks, whatever the node itself says.
    Weight(u32),
    /// Whether it gets no new blocks.
    Draining(bool),
    /// It never comes back.
    Remove,
}

/// Largest share of one node: ratios beyond it mean nothing.
pub const MAX_WEIGHT: u32 = 1_000_000;

/// Ways to the bytes of a block node beside gRPC, as far as it offers them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataEndpoints {
    /// Where the framed protocol is spoken, `host:port`.
    pub frames: Option<String>,
    /// The path of the UNIX socket where it is spoken, for clients on the node's host.
    pub socket: Option<String>,
    /// Names the running system that the node is on: who has the same name can try the
    /// socket.
    pub host: Option<String>,
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
