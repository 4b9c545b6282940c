//! Block nodes: where their bytes are, and what was decided about them.

use arustio_types::NodeId;
use arustio_types::cluster::{DataEndpoints, NodeChange, NodeEntry, NodeInfo};
use arustio_types::meta::Command;

use super::ConvertError;
use super::field::{MAX_TEXT, bits, message, required, required_bits, text};
use crate::common::v1 as wire;
use crate::meta::v1 as meta;

/// Absent where there is nothing but gRPC, so that a node without looks as it always did.
pub(super) fn endpoints(data: &DataEndpoints) -> Option<wire::DataEndpoints> {
    (*data != DataEndpoints::default()).then(|| wire::DataEndpoints {
        frames: data.frames.clone(),
        socket: data.socket.clone(),
        host: data.host.clone(),
    })
}

pub(super) fn read_endpoints(
    data: Option<wire::DataEndpoints>,
) -> Result<DataEndpoints, ConvertError> {
    let data = data.unwrap_or_default();
    let bounded = |value: Option<String>, field| {
        let value = value.map(|value| text(value, MAX_TEXT, field));
        value.transpose()
    };
    Ok(DataEndpoints {
        frames: bounded(data.frames, "data.frames")?,
        socket: bounded(data.socket, "data.socket")?,
        host: bounded(data.host, "data.host")?,
    })
}

/// A decision about a node as a message.
pub fn change_node(node: NodeId, change: NodeChange) -> meta::ChangeNode {
    use meta::change_node::Change;
    let change = match change {
        NodeChange::Weight(weight) => Change::Weight(weight),
        NodeChange::Draining(draining) => Change::Draining(draining),
        NodeChange::Remove => Change::Remove(meta::RemoveNode {}),
    };
    meta::ChangeNode {
        node: node.get(),
        change: Some(change),
    }
}

/// The command that decides about a node.
///
/// # Errors
/// For a change that is missing, or of a kind that this release does not know.
pub fn node_change(message: meta::ChangeNode) -> Result<Command, ConvertError> {
    use meta::change_node::Change;
    Ok(Command::ChangeNode {
        node: NodeId::new(message.node),
        change: match required(message.change, "change_node.change")? {
            Change::Weight(weight) => NodeChange::Weight(weight),
            Change::Draining(draining) => NodeChange::Draining(draining),
            Change::Remove(meta::RemoveNode {}) => NodeChange::Remove,
        },
    })
}

/// Who does not know that nodes drain sees one that does without a weight: it leaves it
/// alone.
impl From<&NodeInfo> for meta::NodeInfo {
    fn from(node: &NodeInfo) -> Self {
        Self {
            id: node.id.get(),
            address: node.address.clone(),
            weight: if node.draining { 0 } else { node.weight },
            data: endpoints(&node.data),
            draining_weight: node.draining.then_some(node.weight),
        }
    }
}

impl TryFrom<meta::NodeInfo> for NodeInfo {
    type Error = ConvertError;
    fn try_from(node: meta::NodeInfo) -> Result<Self, ConvertError> {
        Ok(Self {
            id: NodeId::new(node.id),
            address: text(node.address, MAX_TEXT, "node.address")?,
            weight: node.draining_weight.unwrap_or(node.weight),
            draining: node.draining_weight.is_some(),
            data: read_endpoints(node.data)?,
        })
    }
}

impl From<&NodeEntry> for meta::NodeEntry {
    fn from(entry: &NodeEntry) -> Self {
        Self {
            node: Some((&entry.node).into()),
            instance: bits(entry.instance),
            removed: entry.removed,
        }
    }
}

impl TryFrom<meta::NodeEntry> for NodeEntry {
    type Error = ConvertError;
    fn try_from(entry: meta::NodeEntry) -> Result<Self, ConvertError> {
        Ok(Self {
            node: message(entry.node, "node_entry.node")?,
            instance: required_bits(entry.instance, "node_entry.instance")?,
            removed: entry.removed,
        })
    }
}
