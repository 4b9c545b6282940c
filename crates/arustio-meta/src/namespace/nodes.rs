//! Block nodes: who they are, and what operators decided about them. Whether they live is
//! soft state of the servers.
//!
//! A data folder keeps its number for ever, also when its node was removed: then it is
//! refused. A decision outlives every registration.

use arustio_types::cluster::{
    ClusterView, DataEndpoints, MAX_WEIGHT, NodeChange, NodeEntry, NodeInfo,
};
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
    let before: Option<NodeRecord> = txn.get(Family::Nodes, &key::node(id))?;
    let decided = before.as_ref().map(|before| before.decided);
    let record = NodeRecord {
        id,
        instance,
        address: address.to_owned(),
        weight,
        data: data.clone(),
        decided: decided.unwrap_or_default(),
    };
    if record.decided.removed {
        return Err(gone(id).into());
    }
    if before.as_ref() == Some(&record) {
        return Ok(Outcome::NodeRegistered(id));
    }
    let number = id.get().to_be_bytes().to_vec();
    txn.put_raw(Family::Nodes, key::node_instance(instance), number);
    put(txn, &record)?;
    Ok(Outcome::NodeRegistered(id))
}

/// Its data folder is known for ever, so that nobody takes what it holds for that of a new
/// node.
fn gone(id: NodeId) -> Refusal {
    let message = format!(
        "block node {id} was removed, and its number never comes back: give this one an \
         empty data folder, and it becomes a new node; a server that holds metadata as well goes \
         on without blocks (--role metadata)"
    );
    Refusal::new(ErrorKind::Conflict, message)
}

/// An operator decides about a node.
pub(crate) fn change(txn: &mut Txn<'_>, id: NodeId, change: NodeChange) -> Step<Outcome> {
    let before: Option<NodeRecord> = txn.get(Family::Nodes, &key::node(id))?;
    let Some(before) = before else {
        let message = format!("there is no block node {id}; see: arustio admin node list");
        return Err(Refusal::new(ErrorKind::NotFound, message).into());
    };
    let mut record = before.clone();
    match change {
        NodeChange::Remove => record.decided.removed = true,
        NodeChange::Weight(_) | NodeChange::Draining(_) if before.decided.removed => {
            let message = format!(
                "block node {id} was removed, and its number never comes back; see: arustio \
                 admin node list"
            );
            return Err(Refusal::new(ErrorKind::Conflict, message).into());
        }
        NodeChange::Weight(weight) if weight > MAX_WEIGHT => {
            let message =
                format!("a weight is at most {MAX_WEIGHT}; 100 is what a node begins with");
            return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
        }
        NodeChange::Weight(weight) => record.decided.weight = Some(weight),
        NodeChange::Draining(draining) => record.decided.draining = draining,
    }
    if record != before {
        put(txn, &record)?;
    }
    Ok(Outcome::Done)
}

/// Stores a record that has changed, and with it the view.
fn put(txn: &mut Txn<'_>, record: &NodeRecord) -> Read<()> {
    txn.put(Family::Nodes, key::node(record.id), record);
    let mut counters = txn.counters()?;
    counters.epoch += 1;
    txn.set_counters(&counters);
    Ok(())
}

/// Every node that ever registered, by number.
pub(crate) fn entries(txn: &Txn<'_>) -> Read<Vec<NodeEntry>> {
    let records: Vec<NodeRecord> = txn.records(Family::Nodes, &key::all_nodes(), MAX_NODES)?;
    let entry = |record: NodeRecord| NodeEntry {
        instance: record.instance,
        removed: record.decided.removed,
        node: NodeInfo {
            id: record.id,
            weight: record.share(),
            address: record.address,
            draining: record.decided.draining,
            data: record.data,
        },
    };
    Ok(records.into_iter().map(entry).collect())
}

/// Every node that registered and was not removed.
pub(crate) fn view(txn: &Txn<'_>) -> Read<ClusterView> {
    let there = entries(txn)?.into_iter().filter(|entry| !entry.removed);
    Ok(ClusterView {
        epoch: txn.counters()?.epoch,
        nodes: there.map(|entry| entry.node).collect(),
    })
}
