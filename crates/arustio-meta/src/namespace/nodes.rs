//! Block nodes: who they are. Whether they live is soft state of the servers.

use arustio_types::cluster::{ClusterView, DataEndpoints, NodeInfo};
use arustio_types::meta::command::{Outcome, Refusal};
use arustio_types::{ErrorKind, NodeId};

use super::txn::{Read, Step, Txn};
use crate::engine::record::NodeRecord;
use crate::engine::{Family, key};

/// Most nodes of a cluster.
const MAX_NODES: usize = 10_000;
/// Longest address.
const MAX_ADDRESS: usize = 512;

/// A node says who it is: a data directory keeps its number.
pub(crate) fn register(
    txn: &mut Txn<'_>,
    instance: u128,
    address: &str,
    weight: u32,
    data: &DataEndpoints,
) -> Step<Outcome> {
    let ways = [&data.frames, &data.socket, &data.host];
    let long = |way: &str| way.is_empty() || way.len() > MAX_ADDRESS;
    if long(address) || ways.into_iter().flatten().any(|way| long(way)) {
        let message = "each address of a block node has at most 512 bytes, and is not empty";
        return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
    }
    let known = txn.raw(Family::Nodes, &key::node_instance(instance))?;
    let known = known.and_then(|raw| raw.first_chunk().map(|raw| u64::from_be_bytes(*raw)));
    let id = match known {
        Some(id) => NodeId::new(id),
        None => txn.next_node()?,
    };
    let record = NodeRecord {
        id,
        instance,
        address: address.to_owned(),
        weight,
        data: data.clone(),
    };
    let before: Option<NodeRecord> = txn.get(Family::Nodes, &key::node(id))?;
    if before.as_ref() == Some(&record) {
        return Ok(Outcome::NodeRegistered(id));
    }
    txn.put(Family::Nodes, key::node(id), &record);
    let number = id.get().to_be_bytes().to_vec();
    txn.put_raw(Family::Nodes, key::node_instance(instance), number);
    let mut counters = txn.counters()?;
    counters.epoch += 1;
    txn.set_counters(&counters);
    Ok(Outcome::NodeRegistered(id))
}

/// Every node that ever registered.
pub(crate) fn view(txn: &Txn<'_>) -> Read<ClusterView> {
    let records: Vec<NodeRecord> = txn.records(Family::Nodes, &key::all_nodes(), MAX_NODES)?;
    let nodes = records.into_iter().map(|record| NodeInfo {
        id: record.id,
        address: record.address,
        weight: record.weight,
        data: record.data,
    });
    Ok(ClusterView {
        epoch: txn.counters()?.epoch,
        nodes: nodes.collect(),
    })
}
