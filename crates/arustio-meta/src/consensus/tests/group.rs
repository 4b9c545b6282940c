//! Groups that change, and members that get a snapshot, stepped by hand.

use std::sync::Arc;

use arustio_types::{ByteSize, ErrorKind, NodeId};
use tokio::sync::oneshot;

use super::network::{World, answer};
use super::propose;
use crate::config::MetaConfig;
use crate::consensus::member::Input;
use crate::consensus::{Change, Membership};
use crate::error::{FatalError, StoreError};
use crate::state_machine::StateMachine as _;
use crate::store::Role;

type Changed = oneshot::Receiver<Result<Arc<Membership>, StoreError>>;

/// Compacts early and keeps little, so that whoever was away needs a snapshot.
fn forgetful() -> MetaConfig {
    MetaConfig {
        compact_after: ByteSize(500),
        compact_keep: 2,
        ..MetaConfig::default()
    }
}

fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

fn change(world: &mut World, change: Change) -> Changed {
    let leader = world.await_leader();
    // It has applied an entry of its term.
    world.beats(20);
    let (notice, changed) = oneshot::channel();
    let member = &mut world.nodes[leader].member;
    member.take(Input::Change(change, notice));
    member.run(world.now).unwrap();
    world.beats(8);
    changed
}

fn add(number: u64) -> Change {
    Change::AddLearner {
        id: id(number),
        address: format!("host{number}:1"),
    }
}

fn promote(number: u64, replacing: Option<u64>) -> Change {
    Change::Promote {
        id: id(number),
        replacing: replacing.map(id),
    }
}

fn refusal(mut changed: Changed) -> (ErrorKind, String) {
    match changed.try_recv().unwrap().unwrap_err() {
        StoreError::ChangeRefused { kind, reason } => (kind, reason),
        other => panic!("{other}"),
    }
}

/// Writes numbers at the leader, each with its own round.
fn write(world: &mut World, numbers: std::ops::RangeInclusive<u64>) {
    let leader = world.await_leader();
    for number in numbers {
        let mut written = propose(&mut world.nodes[leader].member, 1, number);
        world.beat();
        world.beat();
        assert_eq!(answer(&mut written), Some(number));
    }
}

#[test]
fn who_was_away_for_too_long_gets_a_snapshot_and_keeps_its_vote() {
    let mut world = World::with(11, forgetful());
    let leader = world.await_leader();
    let away = (leader + 1) % 3;
    write(&mut world, 1..=3);
    world.cut_off.push(away);
    write(&mut world, 4..=60);
    let term = world.nodes[away].member.status().term;
    world.cut_off.clear();
    world.beats(40);
    write(&mut world, 61..=62);
    world.beats(4);
    let expected: Vec<u64> = (1..=62).collect();
    assert!(world.lists().iter().all(|list| *list == expected));
    assert!(world.nodes[away].member.status().term >= term);
    world.crash(away);
    world.beats(20);
    assert!(world.lists().iter().all(|list| *list == expected));
}

#[test]
fn a_new_member_learns_votes_and_replaces_another() {
    let mut world = World::with(12, forgetful());
    write(&mut world, 1..=30);
    let leader = world.await_leader();
    let new = world.add(&[]);
    let members = change(&mut world, add(new)).try_recv().unwrap().unwrap();
    assert!(members.learners.contains(&id(new)));
    world.beats(20);
    let old = ((leader + 1) % 3) as u64 + 1;
    let mut changed = change(&mut world, promote(new, Some(old)));
    world.beats(10);
    let members = changed.try_recv().unwrap().unwrap();
    assert!(!members.is_joint() && members.voters.contains(&id(new)));
    assert!(!members.contains(id(old)) && members.removed.contains(&id(old)));
    world.cut_off.push(old as usize - 1);
    write(&mut world, 31..=33);
    world.beats(4);
    let list = world.nodes[new as usize - 1]
        .machine
        .read()
        .query(0)
        .unwrap();
    assert_eq!(list, (1..=33).collect::<Vec<_>>());
    // Its number is gone for ever.
    let (kind, reason) = refusal(change(&mut world, add(old)));
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(reason.contains("never comes back"), "{reason}");
}

#[test]
fn a_member_that_learns_of_its_removal_ends() {
    let mut world = World::new(13);
    let leader = world.await_leader();
    write(&mut world, 1..=2);
    let gone = (leader + 1) % 3;
    let removed = Change::Remove {
        id: id(gone as u64 + 1),
    };
    let (notice, _changed) = oneshot::channel();
    let member = &mut world.nodes[leader].member;
    member.take(Input::Change(removed, notice));
    member.run(world.now).unwrap();
    world.cut_off.push(gone);
    world.beats(10);
    let member = &mut world.nodes[gone].member;
    member.take(Input::Removed);
    let error = member.run(world.now).unwrap_err();
    assert!(matches!(error, FatalError::Removed { .. }), "{error}");
    world.cut_off.clear();
    let left = world.nodes[leader].member.members();
    assert_eq!(left.voters.len(), 2);
}

#[test]
fn what_would_stop_the_group_is_refused() {
    let mut world = World::new(14);
    let leader = world.await_leader();
    let leader_id = leader as u64 + 1;
    let (kind, reason) = refusal(change(&mut world, Change::Remove { id: id(leader_id) }));
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(reason.contains("raft transfer"), "{reason}");
    let new = world.add(&[]);
    world.cut_off.push(new as usize - 1);
    change(&mut world, add(new)).try_recv().unwrap().unwrap();
    let (kind, reason) = refusal(change(&mut world, promote(new, None)));
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(reason.contains("does not answer"), "{reason}");
}

#[test]
fn leadership_is_handed_over() {
    let mut world = World::new(15);
    let leader = world.await_leader();
    world.beats(20);
    let (notice, mut transferred) = oneshot::channel();
    let member = &mut world.nodes[leader].member;
    member.take(Input::Transfer(None, notice));
    member.run(world.now).unwrap();
    world.beats(6);
    let to = transferred.try_recv().unwrap().unwrap();
    assert_eq!(world.leader(), Some(to.get() as usize - 1));
    assert_ne!(to, id(leader as u64 + 1));
    assert_eq!(world.nodes[leader].member.status().role, Role::Follower);
}

#[test]
fn a_snapshot_that_was_asked_for_drops_the_log_below_it() {
    let mut world = World::new(16);
    let leader = world.await_leader();
    write(&mut world, 1..=10);
    let (notice, mut made) = oneshot::channel();
    world.nodes[leader].member.take(Input::Snapshot(notice));
    world.beats(2);
    let position = made.try_recv().unwrap().unwrap();
    let (notice, mut group) = oneshot::channel();
    world.nodes[leader].member.take(Input::Group(notice));
    let group = group.try_recv().unwrap().unwrap();
    assert_eq!(group.log_first.get(), position.index.get() + 1);
    assert_eq!(group.progress.len(), 2);
    world.crash(leader);
    world.await_leader();
    world.beats(20);
    write(&mut world, 11..=12);
}

#[test]
fn a_member_bound_to_a_folder_cannot_come_with_another() {
    let mut world = World::new(17);
    let bind = |instance| Change::Bind {
        id: id(2),
        instance,
        address: "elsewhere:2".to_owned(),
    };
    let members = change(&mut world, bind(2)).try_recv().unwrap().unwrap();
    assert_eq!(members.address(id(2)), Some("elsewhere:2"));
    let (kind, reason) = refusal(change(&mut world, bind(77)));
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(reason.contains("raft remove 2"), "{reason}");
}
