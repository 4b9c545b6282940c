//! Which nodes own a block: weighted rendezvous hashing.
//!
//! A pure function, here because clients and nodes must compute the same answer
//! without asking. When a node leaves, only its own blocks move. Method: Thaler and
//! Ravishankar 1998, with the logarithmic weights of Schindelhauer and Schomaker
//! 2005.

use crate::block::BlockKey;
use crate::cluster::{ClusterView, NodeInfo};

/// The nodes of `view` that may take `key`, best first: those of weight 0 and those that
/// drain are left out. The first so many, as replicas are wanted, own it.
pub fn ranked<'a>(view: &'a ClusterView, key: &BlockKey) -> Vec<&'a NodeInfo> {
    let mut nodes = scored(view, key);
    nodes.retain(|node| !node.draining);
    nodes
}

/// The nodes that drain and would be among the first `replicas` if they did not, best
/// first: what they were given before is found there.
pub fn former<'a>(view: &'a ClusterView, key: &BlockKey, replicas: usize) -> Vec<&'a NodeInfo> {
    if !view.nodes.iter().any(|node| node.draining) {
        return Vec::new();
    }
    let first = scored(view, key).into_iter().take(replicas);
    first.filter(|node| node.draining).collect()
}

fn scored<'a>(view: &'a ClusterView, key: &BlockKey) -> Vec<&'a NodeInfo> {
    let mut scored: Vec<(f64, &NodeInfo)> = view
        .nodes
        .iter()
        .filter(|node| node.weight > 0)
        .map(|node| (score(node, key), node))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.id.cmp(&b.1.id)));
    scored.into_iter().map(|(_, node)| node).collect()
}

/// The node that owns `key`; `None` when no node lives.
pub fn owner<'a>(view: &'a ClusterView, key: &BlockKey) -> Option<&'a NodeInfo> {
    ranked(view, key).into_iter().next()
}

fn score(node: &NodeInfo, key: &BlockKey) -> f64 {
    let content = key.content.get();
    let mut hash = mix(node.id.get() ^ 0x9e37_79b9_7f4a_7c15);
    hash = mix(hash ^ (content as u64));
    hash = mix(hash ^ ((content >> 64) as u64));
    hash = mix(hash ^ key.index.rotate_left(8) ^ u64::from(key.size.log2()));
    // 53 bits, never 0 and never 1, so that the logarithm is finite and negative.
    let unit = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(node.weight) / unit.ln()
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockSize;
    use crate::cluster::DataEndpoints;
    use crate::content::ContentId;
    use crate::id::NodeId;

    fn view(weights: &[u32]) -> ClusterView {
        let nodes = weights.iter().zip(1..).map(|(weight, id)| NodeInfo {
            id: NodeId::new(id),
            address: format!("node{id}:1"),
            weight: *weight,
            draining: false,
            data: DataEndpoints::default(),
        });
        ClusterView {
            epoch: 1,
            nodes: nodes.collect(),
        }
    }

    fn key(i: u64) -> BlockKey {
        BlockKey {
            content: ContentId::new(u128::from(i) << 64 | 77),
            size: BlockSize::DEFAULT,
            index: i % 5,
        }
    }

    #[test]
    fn load_follows_the_weights() {
        let view = view(&[1, 1, 2, 0]);
        let mut counts = [0u32; 5];
        for i in 0..20_000 {
            counts[owner(&view, &key(i)).unwrap().id.get() as usize] += 1;
        }
        assert!((4_700..5_300).contains(&counts[1]), "{counts:?}");
        assert!((9_600..10_400).contains(&counts[3]), "{counts:?}");
        assert_eq!(counts[4], 0);
    }

    #[test]
    fn a_leaving_node_moves_only_its_own_blocks() {
        let all = view(&[1, 1, 1]);
        let mut fewer = all.clone();
        fewer.nodes.remove(1);
        for i in 0..2_000 {
            let before = owner(&all, &key(i)).unwrap().id;
            let after = owner(&fewer, &key(i)).unwrap().id;
            assert!(before == NodeId::new(2) || before == after);
        }
        assert!(owner(&ClusterView::default(), &key(1)).is_none());
    }

    #[test]
    fn a_draining_node_owns_nothing_and_is_known_for_what_it_owned() {
        let before = view(&[1, 1, 1]);
        let mut after = before.clone();
        after.nodes[1].draining = true;
        let two = NodeId::new(2);
        for i in 0..2_000 {
            let owned = owner(&before, &key(i)).unwrap().id;
            let owns = owner(&after, &key(i)).unwrap().id;
            let former: Vec<_> = former(&after, &key(i), 1).iter().map(|n| n.id).collect();
            assert_ne!(owns, two);
            assert!(owned == two || owned == owns);
            assert_eq!(former, if owned == two { vec![two] } else { Vec::new() });
        }
    }
}
