//! Whom is asked, and who is avoided for how long.

use super::*;
use arustio_types::{BlockSize, ContentId};

fn view() -> ClusterView {
    let nodes = (1..=3).map(|id| NodeInfo {
        id: NodeId::new(id),
        address: format!("n{id}:1"),
        weight: 1,
        draining: false,
        data: arustio_types::cluster::DataEndpoints::default(),
    });
    ClusterView {
        epoch: 1,
        nodes: nodes.collect(),
    }
}

fn key() -> BlockKey {
    BlockKey {
        content: ContentId::new(9),
        size: BlockSize::DEFAULT,
        index: 0,
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ids(nodes: &[&NodeInfo]) -> Vec<NodeId> {
    nodes.iter().map(|node| node.id).collect()
}

#[test]
fn r4_a_failing_node_is_avoided_for_a_growing_interval_and_probed_once() {
    let (view, owners, start) = (view(), Owners::default(), Instant::now());
    let key = key();
    let choose = |at| owners.choose(&view, &key, at).unwrap().id;
    let first = choose(start);
    owners.failed(first, start);
    let second = choose(start);
    assert_ne!(first, second);
    let later = start + ms(600);
    assert_eq!(choose(later), first);
    assert_eq!(choose(later), second, "one probe at a time");
    owners.failed(first, later);
    let soon = later + ms(900);
    assert_eq!(choose(soon), second);
    owners.succeeded(first);
    assert_eq!(choose(soon), first);
}

#[test]
fn requests_that_fail_together_are_one_failure() {
    let (owners, start) = (Owners::default(), Instant::now());
    let node = NodeId::new(1);
    for _ in 0..8 {
        owners.failed(node, start);
    }
    assert!(!owners.asking(node, start + ms(499)));
    assert!(owners.asking(node, start + ms(500)));
    // The probe fails: twice as long from then on, up to half a minute.
    let mut at = start + ms(500);
    for wait in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        owners.failed(node, at);
        assert!(!owners.asking(node, at + ms(wait - 1)), "{wait}");
        at += ms(wait);
        assert!(owners.asking(node, at), "{wait}");
    }
}

#[test]
fn a_probe_that_nobody_waits_for_any_more_is_followed_by_another_one() {
    let (owners, start) = (Owners::default(), Instant::now());
    let node = NodeId::new(1);
    owners.failed(node, start);
    let probe = start + ms(500);
    assert!(owners.asking(node, probe));
    assert!(!owners.asking(node, probe + PROBE - ms(1)));
    assert!(owners.asking(node, probe + PROBE));
}

#[test]
fn a_node_that_loses_again_and_again_is_avoided_and_one_answer_in_time_makes_up_for_it() {
    let (owners, start) = (Owners::default(), Instant::now());
    let node = NodeId::new(1);
    owners.lost(node, start);
    owners.lost(node, start);
    assert!(owners.asking(node, start));
    owners.succeeded(node);
    owners.lost(node, start);
    owners.lost(node, start);
    assert!(owners.asking(node, start));
    owners.lost(node, start);
    assert!(!owners.asking(node, start + ms(499)));
    // Its probe loses, too.
    assert!(owners.asking(node, start + ms(500)));
    owners.lost(node, start + ms(600));
    assert!(!owners.asking(node, start + ms(1_599)));
    assert!(owners.asking(node, start + ms(1_600)));
}

#[test]
fn replicas_are_the_first_nodes_that_are_not_avoided() {
    let (view, owners, now) = (view(), Owners::default(), Instant::now());
    let key = key();
    let ranked = ids(&placement::ranked(&view, &key));
    assert_eq!(ids(&owners.takers(&view, &key, 2, now)), ranked[..2]);
    owners.failed(ranked[0], now);
    assert_eq!(ids(&owners.takers(&view, &key, 2, now)), ranked[1..]);
    let first = Some(ranked[0]);
    assert!(owners.others(&view, &key, first, 1).is_empty());
    assert_eq!(ids(&owners.others(&view, &key, first, 2)), ranked[1..2]);
    assert_eq!(ids(&owners.others(&view, &key, None, 1)), ranked[..1]);
}

#[test]
fn a_draining_node_is_asked_for_what_it_owned_after_those_that_own_it_now() {
    let (mut view, owners, now) = (view(), Owners::default(), Instant::now());
    let key = key();
    let drained = placement::owner(&view, &key).unwrap().id;
    for node in &mut view.nodes {
        node.draining = node.id == drained;
    }
    let owner = owners.choose(&view, &key, now).unwrap().id;
    assert_ne!(owner, drained);
    assert_eq!(ids(&owners.others(&view, &key, Some(owner), 1)), [drained]);
    // Nobody is left who takes blocks: it is still read.
    for node in &mut view.nodes {
        node.draining = true;
    }
    assert!(owners.choose(&view, &key, now).is_none());
    assert_eq!(ids(&owners.others(&view, &key, None, 1)), [drained]);
}
