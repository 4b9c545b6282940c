//! `arustio admin node ...` and `arustio admin report capacity`: the block nodes.

use std::time::Duration;

use arustio_client::FsError;
use arustio_client::admin::{Admin, BlockNode, BlockNodes, NodeTier};
use arustio_client::types::cluster::NodeChange;
use arustio_client::types::unit::format_duration;
use arustio_client::types::{ErrorKind, NodeId};
use serde_json::{Value, json};

use super::columns;
use crate::args::NodeCommand;
use crate::output::{Output, printable, size};

/// Runs one verb about nodes.
pub(super) async fn run(admin: &Admin, out: &mut Output, verb: NodeCommand) -> Result<(), FsError> {
    let (id, change) = match verb {
        NodeCommand::List => return list(out, &admin.nodes().await?),
        NodeCommand::Drain { id, undo } => (id, NodeChange::Draining(!undo)),
        NodeCommand::Weight { id, weight } => (id, NodeChange::Weight(weight)),
        NodeCommand::Remove { id } => (id, NodeChange::Remove),
    };
    let id = number(id)?;
    let nodes = admin.change_node(id, change).await?;
    match out.is_json() {
        true => objects(out, &nodes),
        false => out.line(&said(id, change)),
    }
}

/// Size and use, by node and tier.
pub(super) async fn report(admin: &Admin, out: &mut Output) -> Result<(), FsError> {
    let nodes = admin.nodes().await?;
    if out.is_json() {
        return tiers(&nodes).try_for_each(|(node, tier)| out.object(&tier_object(node, tier)));
    }
    capacity(&nodes).iter().try_for_each(|line| out.line(line))
}

/// A number that was typed.
fn number(number: u64) -> Result<NodeId, FsError> {
    if number == 0 {
        let message = "0 is no number of a block node; see: arustio admin node list";
        return Err(FsError::new(ErrorKind::InvalidArgument, message));
    }
    Ok(NodeId::new(number))
}

fn said(id: NodeId, change: NodeChange) -> String {
    match change {
        NodeChange::Draining(true) => format!(
            "block node {id} gets no new blocks and is still read; when others have what is \
             wanted, stop it and: arustio admin node remove {id}"
        ),
        NodeChange::Draining(false) => format!("block node {id} gets new blocks again"),
        NodeChange::Weight(0) => format!(
            "block node {id} has weight 0: it owns no blocks, and is not asked for those it has"
        ),
        NodeChange::Weight(weight) => format!("block node {id} has weight {weight}"),
        NodeChange::Remove => format!(
            "block node {id} was removed, and its number never comes back; its server may be \
             stopped for good"
        ),
    }
}

fn list(out: &mut Output, nodes: &BlockNodes) -> Result<(), FsError> {
    match out.is_json() {
        true => objects(out, nodes),
        false => table(nodes).iter().try_for_each(|line| out.line(line)),
    }
}

fn objects(out: &mut Output, nodes: &BlockNodes) -> Result<(), FsError> {
    let mut all = nodes.nodes.iter();
    all.try_for_each(|node| out.object(&object(nodes, node)))
}

fn object(nodes: &BlockNodes, node: &BlockNode) -> Value {
    let info = &node.entry.node;
    let known = !node.tiers.is_empty();
    json!({
        "id": info.id.get(),
        "address": info.address,
        "frames": info.data.frames,
        "state": node.state(),
        "weight": info.weight,
        "draining": info.draining,
        "removed": node.entry.removed,
        "lives": node.lives,
        "heard_ms_ago": node.heard_ago.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        "capacity": known.then(|| sum(node, |tier| tier.capacity)),
        "used": known.then(|| sum(node, |tier| tier.used)),
        "epoch": nodes.epoch,
    })
}

fn sum(node: &BlockNode, of: impl Fn(&NodeTier) -> u64) -> u64 {
    node.tiers.iter().map(of).fold(0, u64::saturating_add)
}

fn table(nodes: &BlockNodes) -> Vec<String> {
    let header = [
        "ID", "ADDRESS", "STATE", "WEIGHT", "HEARD", "CAPACITY", "USED",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    for node in &nodes.nodes {
        let known = |bytes: u64| match node.tiers.is_empty() {
            true => "-".to_owned(),
            false => size(bytes, true),
        };
        rows.push([
            node.id().to_string(),
            printable(&node.entry.node.address),
            node.state().to_owned(),
            node.entry.node.weight.to_string(),
            ago(node.heard_ago),
            known(sum(node, |tier| tier.capacity)),
            known(sum(node, |tier| tier.used)),
        ]);
    }
    columns(&rows)
}

fn ago(heard: Option<Duration>) -> String {
    match heard.map(|ago| ago.as_secs()) {
        None => "-".to_owned(),
        Some(0) => "now".to_owned(),
        Some(seconds) => format!("{} ago", format_duration(Duration::from_secs(seconds))),
    }
}

/// The tiers of nodes that live.
pub(super) fn tiers(nodes: &BlockNodes) -> impl Iterator<Item = (&BlockNode, &NodeTier)> {
    let there = nodes.nodes.iter().filter(|node| node.lives);
    there.flat_map(|node| node.tiers.iter().map(move |tier| (node, tier)))
}

fn tier_object(node: &BlockNode, tier: &NodeTier) -> Value {
    json!({
        "node": node.id().get(),
        "address": node.entry.node.address,
        "tier": tier.name,
        "capacity": tier.capacity,
        "used": tier.used,
        "blocks": tier.blocks,
        "pinned": tier.pinned,
        "writable": tier.writable,
        "hits": tier.hits,
        "partial_hits": tier.partial_hits,
        "misses": tier.misses,
    })
}

/// A line for each tier of each node that lives, and one for all of them.
fn capacity(nodes: &BlockNodes) -> Vec<String> {
    let header = [
        "NODE", "TIER", "CAPACITY", "USED", "FULL", "BLOCKS", "PINNED", "HITS", "WRITES",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    let (mut all, mut used, mut blocks, mut pinned) = (0u64, 0u64, 0u64, 0u64);
    for (node, tier) in tiers(nodes) {
        all = all.saturating_add(tier.capacity);
        used = used.saturating_add(tier.used);
        blocks = blocks.saturating_add(tier.blocks);
        pinned = pinned.saturating_add(tier.pinned);
        rows.push([
            node.id().to_string(),
            printable(&tier.name),
            size(tier.capacity, true),
            size(tier.used, true),
            percent(tier.used, tier.capacity),
            tier.blocks.to_string(),
            size(tier.pinned, true),
            percent(tier.hits, tier.reads()),
            if tier.writable { "yes" } else { "off" }.to_owned(),
        ]);
    }
    rows.push([
        "all".to_owned(),
        String::new(),
        size(all, true),
        size(used, true),
        percent(used, all),
        blocks.to_string(),
        size(pinned, true),
        String::new(),
        String::new(),
    ]);
    columns(&rows)
}

/// Whole percents, rounded down.
pub(super) fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        whole => format!("{}%", u128::from(part) * 100 / u128::from(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_client::types::cluster::{DataEndpoints, NodeEntry, NodeInfo};

    fn node(id: u64, lives: bool, heard: Option<u64>) -> BlockNode {
        let tier = |name: &str, capacity, used| NodeTier {
            name: name.to_owned(),
            capacity,
            used,
            blocks: 3,
            pinned: 0,
            writable: name == "memory",
            hits: 3,
            partial_hits: 0,
            misses: if name == "memory" { 1 } else { 0 },
        };
        BlockNode {
            entry: NodeEntry {
                node: NodeInfo {
                    id: NodeId::new(id),
                    address: format!("node{id}:7411"),
                    weight: 100,
                    draining: id == 2,
                    data: DataEndpoints::default(),
                },
                instance: 9,
                removed: id == 3,
            },
            lives,
            heard_ago: heard.map(Duration::from_millis),
            tiers: match heard {
                Some(_) => vec![tier("memory", 1 << 30, 1 << 29), tier("disk", 1 << 30, 0)],
                None => Vec::new(),
            },
        }
    }

    fn nodes() -> BlockNodes {
        BlockNodes {
            nodes: vec![
                node(1, true, Some(1_300)),
                node(2, true, Some(400)),
                node(3, false, Some(90_000)),
                node(4, false, None),
            ],
            epoch: 7,
        }
    }

    #[test]
    fn a_table_says_what_each_node_is_and_how_full() {
        assert_eq!(
            table(&nodes()),
            [
                "ID  ADDRESS     STATE     WEIGHT  HEARD    CAPACITY  USED",
                "1   node1:7411  serves    100     1s ago   2 GiB     512 MiB",
                "2   node2:7411  draining  100     now      2 GiB     512 MiB",
                "3   node3:7411  removed   100     90s ago  2 GiB     512 MiB",
                "4   node4:7411  down      100     -        -         -",
            ]
        );
    }

    #[test]
    fn capacity_is_that_of_nodes_that_live() {
        let lines = capacity(&nodes());
        assert_eq!(lines.len(), 6, "{lines:#?}");
        assert!(
            lines[1].starts_with("1     memory") && lines[1].contains(" 75% "),
            "{lines:#?}"
        );
        assert!(
            lines[5].starts_with("all") && lines[5].contains("25%"),
            "{lines:#?}"
        );
        assert!(lines[2].ends_with("off"), "{lines:#?}");
    }

    #[test]
    fn what_is_not_known_is_null_for_programs() {
        let all = nodes();
        let down = object(&all, &all.nodes[3]);
        assert_eq!(down["used"], Value::Null);
        assert_eq!(down["heard_ms_ago"], Value::Null);
        assert_eq!(object(&all, &all.nodes[0])["used"], 1u64 << 29);
        assert!(number(0).is_err());
    }
}
