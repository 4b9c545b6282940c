//! Copies of the state, and sums over it that members compare.

use std::sync::Arc;

use arustio_types::LogIndex;
use tokio::sync::oneshot;

use super::network::{World, answer};
use super::propose;
use crate::config::MetaConfig;
use crate::consensus::member::Input;
use crate::consensus::{StateCopy, StateMark};
use crate::engine::{EngineKind, KvEngine as _, MemEngine};
use crate::error::StoreError;
use crate::state_machine::{Entry, StateMachine as _};
use crate::testing::register::{Append, Register};

type Mark = oneshot::Receiver<Result<StateMark, StoreError>>;

fn write(world: &mut World, number: u64) {
    let leader = world.await_leader();
    let mut written = propose(&mut world.nodes[leader].member, 1, number);
    world.beats(2);
    assert_eq!(answer(&mut written), Some(number));
}

fn take_mark(world: &mut World, at: usize) -> Mark {
    let (notice, mark) = oneshot::channel();
    world.nodes[at].member.take(Input::TakeMark(notice));
    mark
}

fn mark_at(world: &mut World, at: usize, index: LogIndex) -> Mark {
    let (notice, mark) = oneshot::channel();
    world.nodes[at].member.take(Input::MarkAt(index, notice));
    mark
}

/// One more number at one member alone, at the position that it has.
fn deviate(world: &mut World, at: usize) {
    let mut machine = world.nodes[at].machine.write();
    let command = Append { list: 9, number: 9 };
    let payload = Register::encode(&super::context(9, 9), &command);
    let applied = machine.applied();
    let entry = Entry {
        position: applied.position,
        time: applied.time,
        payload: &payload,
        members: None,
    };
    machine.apply(&[entry]).unwrap();
}

#[test]
fn every_member_takes_down_the_same_sum_at_the_same_entry() {
    let mut world = World::new(21);
    write(&mut world, 1);
    let leader = world.await_leader();
    let last = world.nodes[leader].member.status().commit;
    let mut first = take_mark(&mut world, leader);
    let mut second = take_mark(&mut world, leader);
    // Whoever waits before the entry is there is answered as well.
    let early = last.get() + 1;
    let mut waits = mark_at(&mut world, (leader + 1) % 3, LogIndex::new(early));
    world.beats(4);
    let mark = first.try_recv().unwrap().unwrap();
    assert!(mark.index > last);
    assert_eq!(mark.index.get(), early);
    assert_eq!(second.try_recv().unwrap().unwrap(), mark);
    assert_eq!(waits.try_recv().unwrap().unwrap(), mark);
    write(&mut world, 2);
    for at in 0..3 {
        let mut late = mark_at(&mut world, at, mark.index);
        assert_eq!(late.try_recv().unwrap().unwrap(), mark);
        let mut none = mark_at(&mut world, at, last);
        let error = none.try_recv().unwrap().unwrap_err();
        assert!(matches!(error, StoreError::NoMark { .. }), "{error}");
    }
    let mut later = take_mark(&mut world, leader);
    world.beats(2);
    let later = later.try_recv().unwrap().unwrap();
    assert!(later.index > mark.index && later.sum != mark.sum);
}

#[test]
fn only_a_leader_has_a_mark_taken_and_says_so_when_it_is_none_any_more() {
    let mut world = World::new(22);
    let leader = world.await_leader();
    world.beats(4);
    let mut refused = take_mark(&mut world, (leader + 1) % 3);
    let error = refused.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, StoreError::NotLeader { .. }), "{error}");
    let mut lost = take_mark(&mut world, leader);
    world.cut_off.push(leader);
    world.beats(60);
    world.cut_off.clear();
    world.beats(10);
    let error = lost.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, StoreError::LeadershipLost), "{error}");
}

#[test]
fn a_member_that_differs_answers_an_operator_and_ends_at_the_next_regular_comparison() {
    let config = MetaConfig {
        check_every: 8,
        ..MetaConfig::default()
    };
    let mut world = World::with(23, config);
    write(&mut world, 1);
    let leader = world.await_leader();
    let other = (leader + 1) % 3;
    deviate(&mut world, other);
    let mut mark = take_mark(&mut world, leader);
    world.beats(4);
    let mark = mark.try_recv().unwrap().unwrap();
    let mut theirs = mark_at(&mut world, other, mark.index);
    let theirs = theirs.try_recv().unwrap().unwrap();
    assert_eq!(theirs.index, mark.index);
    assert_ne!(theirs.sum, mark.sum);
    assert!(world.ended.is_empty());
    (2..40).for_each(|number| write(&mut world, number));
    assert_eq!(world.ended, [other]);
}

fn copy(world: &mut World, at: usize) -> oneshot::Receiver<Result<StateCopy, StoreError>> {
    let (notice, copy) = oneshot::channel();
    world.nodes[at].member.take(Input::Copy(notice));
    copy
}

#[test]
fn a_copy_stays_as_it_was_beside_snapshots_and_is_gone_when_it_is_dropped() {
    let mut world = World::new(24);
    write(&mut world, 1);
    let leader = world.await_leader();
    for at in [leader, (leader + 1) % 3] {
        let mut first = copy(&mut world, at);
        let mut second = copy(&mut world, at);
        let (notice, mut made) = oneshot::channel();
        world.nodes[at].member.take(Input::Snapshot(notice));
        drop(copy(&mut world, at));
        world.beats(2);
        made.try_recv().unwrap().unwrap();
        let first = first.try_recv().unwrap().unwrap();
        let second = second.try_recv().unwrap().unwrap();
        let applied = first.applied.position.index;
        let next = world.lists()[leader].len() as u64 + 1;
        write(&mut world, next);
        let path = first.folder.path().to_owned();
        let engine = MemEngine::new(EngineKind::State);
        engine.restore(&path).unwrap();
        let copied = Register::open(Arc::new(engine)).unwrap();
        assert_eq!(copied.applied().position.index, applied);
        assert!(copied.query(0).unwrap().len() < world.lists()[leader].len());
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
