//! Three members stepped by hand, by the beat, over a network from which some are cut off.
//! A network that loses, doubles and reorders is played by [`crate::testing::sim`].

use std::sync::Arc;
use std::time::Duration;

use arustio_types::NodeId;
use parking_lot::{Mutex, RwLock};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::oneshot;

use super::{Answer, open, propose};
use crate::config::{CheckedConfig, MetaConfig};
use crate::consensus::member::{Input, Member};
use crate::consensus::transport::{Envelope, RaftTransport};
use crate::consensus::{Membership, Shipment, SnapshotFolder};
use crate::engine::{EngineKind, MemEngine};
use crate::error::{FatalError, StoreError};
use crate::state_machine::StateMachine as _;
use crate::store::Role;
use crate::testing::register::Register;

#[derive(Debug, Default)]
pub(super) struct Wire {
    messages: Mutex<Vec<Envelope>>,
    shipments: Mutex<Vec<Shipment>>,
}

impl RaftTransport for Wire {
    fn send(&self, envelope: Envelope) {
        self.messages.lock().push(envelope);
    }

    fn send_snapshot(&self, shipment: Shipment) {
        self.shipments.lock().push(shipment);
    }

    fn members(&self, _: &Membership) {}
}

pub(super) struct Node {
    log: Arc<MemEngine>,
    state: Arc<MemEngine>,
    pub(super) member: Member<Register>,
    pub(super) machine: Arc<RwLock<Register>>,
}

pub(super) struct World {
    wire: Arc<Wire>,
    pub(super) nodes: Vec<Node>,
    /// Does not hear and is not heard.
    pub(super) cut_off: Vec<usize>,
    /// Found itself removed, or other than the leader.
    pub(super) ended: Vec<usize>,
    pub(super) config: CheckedConfig,
    folder: tempfile::TempDir,
    staged: u64,
    rng: StdRng,
    pub(super) now: Duration,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, MetaConfig::default())
    }

    pub(super) fn with(seed: u64, config: MetaConfig) -> Self {
        let mut world = Self {
            wire: Arc::new(Wire::default()),
            nodes: Vec::new(),
            cut_off: Vec::new(),
            ended: Vec::new(),
            config: config.validate().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            staged: 0,
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
        };
        for _ in 0..3 {
            world.add(&[1, 2, 3]);
        }
        world
    }

    /// A server more, with empty engines; founding nobody, it joins.
    pub(super) fn add(&mut self, founding: &[u64]) -> u64 {
        let id = self.nodes.len() as u64 + 1;
        let log = Arc::new(MemEngine::crashing(EngineKind::Log));
        let state = Arc::new(MemEngine::crashing(EngineKind::State));
        let node = self.boot(id, founding, log, state);
        self.nodes.push(node);
        id
    }

    fn boot(
        &mut self,
        id: u64,
        founding: &[u64],
        log: Arc<MemEngine>,
        state: Arc<MemEngine>,
    ) -> Node {
        let seed = self.rng.random();
        let wire = Arc::clone(&self.wire) as Arc<dyn RaftTransport>;
        let (held_log, held_state) = (Arc::clone(&log), Arc::clone(&state));
        let folder = self.folder.path().join(format!("{id}-{seed:x}"));
        std::fs::create_dir(&folder).unwrap();
        let config = self.config.clone();
        let opened = open(
            id, founding, &config, held_log, held_state, wire, folder, seed,
        );
        let (member, machine) = opened.unwrap();
        Node {
            log,
            state,
            member,
            machine,
        }
    }

    /// Loses power at one node; some of what it had not synced may survive.
    pub(super) fn crash(&mut self, at: usize) {
        let node = &self.nodes[at];
        let (log, state) = (node.log.unsynced(), node.state.unsynced());
        let log = node.log.after_crash(self.rng.random_range(0..=log));
        let state = node.state.after_crash(self.rng.random_range(0..=state));
        let id = at as u64 + 1;
        self.nodes[at] = self.boot(id, &[1, 2, 3], Arc::new(log), Arc::new(state));
    }

    /// One beat for everybody, and everything that is on the wire.
    pub(super) fn beat(&mut self) {
        self.now += Duration::from_millis(50);
        for at in 0..self.nodes.len() {
            self.nodes[at].member.tick();
            self.hand(at, Input::Settled(Ok(())));
        }
        for _ in 0..4 {
            self.deliver();
            self.ship();
        }
    }

    /// Hands over an input; a member that ends as it should is heard no more.
    fn hand(&mut self, at: usize, input: Input<u64>) {
        if self.ended.contains(&at) {
            return;
        }
        let member = &mut self.nodes[at].member;
        member.take(input);
        match member.run(self.now) {
            Err(FatalError::Removed { .. } | FatalError::Diverged { .. }) => {
                self.ended.push(at);
                self.cut_off.push(at);
            }
            ran => ran.unwrap(),
        }
    }

    pub(super) fn beats(&mut self, count: usize) {
        (0..count).for_each(|_| self.beat());
    }

    fn reaches(&self, envelope: &Envelope) -> bool {
        let at = |id: NodeId| id.get() as usize - 1;
        let ends = [at(envelope.from.member), at(envelope.to)];
        ends.iter()
            .all(|end| *end < self.nodes.len() && !self.cut_off.contains(end))
    }

    /// Brings folders as a transport does: a copy, then the message, then the report.
    fn ship(&mut self) {
        let shipments = std::mem::take(&mut *self.wire.shipments.lock());
        for shipment in shipments {
            let from = shipment.envelope.from.member.get() as usize - 1;
            let to = shipment.envelope.to;
            let arrives = self.reaches(&shipment.envelope);
            if arrives {
                let folder = self.stage(shipment.folder.path());
                let bytes = shipment.envelope.bytes;
                let received = Input::SnapshotReceived(bytes, folder);
                self.hand(to.get() as usize - 1, received);
            }
            self.hand(from, Input::SnapshotSent(to, arrives));
        }
    }

    fn stage(&mut self, made: &std::path::Path) -> SnapshotFolder {
        self.staged += 1;
        let staged = self.folder.path().join(format!("staged-{}", self.staged));
        std::fs::create_dir(&staged).unwrap();
        for file in std::fs::read_dir(made).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), staged.join(file.file_name())).unwrap();
        }
        SnapshotFolder::new(staged)
    }

    fn deliver(&mut self) {
        let messages = std::mem::take(&mut *self.wire.messages.lock());
        for envelope in messages {
            if self.reaches(&envelope) {
                let at = envelope.to.get() as usize - 1;
                self.hand(at, Input::Step(envelope.bytes));
            }
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| node.member.status().role == Role::Leader;
        let term = |at: &usize| self.nodes[*at].member.status().term;
        (0..self.nodes.len())
            .filter(|at| !self.cut_off.contains(at))
            .filter(|at| leads(&self.nodes[*at]))
            .max_by_key(term)
    }

    pub(super) fn await_leader(&mut self) -> usize {
        for _ in 0..400 {
            if let Some(leader) = self.leader() {
                return leader;
            }
            self.beat();
        }
        panic!("no leader in 20 seconds");
    }

    pub(super) fn lists(&self) -> Vec<Vec<u64>> {
        let list = |node: &Node| node.machine.read().query(0).unwrap();
        self.nodes.iter().map(list).collect()
    }
}

pub(super) fn answer(receiver: &mut Answer) -> Option<u64> {
    receiver
        .try_recv()
        .ok()?
        .ok()
        .map(|proposed| proposed.outcome)
}

#[test]
fn three_members_elect_and_agree() {
    let mut world = World::new(1);
    let leader = world.await_leader();
    let mut answers: Vec<_> = (1..=5)
        .map(|sequence| propose(&mut world.nodes[leader].member, 1, sequence))
        .collect();
    for _ in 0..6 {
        world.beat();
    }
    let outcomes: Vec<_> = answers.iter_mut().filter_map(answer).collect();
    assert_eq!(outcomes, [1, 2, 3, 4, 5]);
    assert!(world.lists().iter().all(|list| *list == [1, 2, 3, 4, 5]));
}

#[test]
fn a_follower_refuses_to_propose_and_answers_reads() {
    let mut world = World::new(2);
    let leader = world.await_leader();
    let follower = (leader + 1) % 3;
    for _ in 0..4 {
        world.beat();
    }
    let mut refused = propose(&mut world.nodes[follower].member, 1, 1);
    let mut taken = propose(&mut world.nodes[leader].member, 1, 1);
    let (ready, mut read) = oneshot::channel();
    world.beat();
    let error = refused.try_recv().unwrap().unwrap_err().to_string();
    assert!(
        error.contains(&format!("server {} is", leader + 1)),
        "{error}"
    );
    assert_eq!(answer(&mut taken), Some(1));
    world.nodes[follower].member.take(Input::Read(ready));
    for _ in 0..6 {
        world.beat();
    }
    read.try_recv().unwrap().unwrap();
    assert_eq!(world.nodes[follower].machine.read().query(0).unwrap(), [1]);
}

#[test]
fn a_read_that_the_library_dropped_is_asked_again_until_there_is_a_leader() {
    let mut world = World::new(5);
    let mut reads: Vec<_> = world
        .nodes
        .iter_mut()
        .map(|node| {
            let (ready, read) = oneshot::channel();
            node.member.take(Input::Read(ready));
            node.member.run(Duration::ZERO).unwrap();
            read
        })
        .collect();
    assert!(reads.iter_mut().all(|read| read.try_recv().is_err()));
    world.await_leader();
    for _ in 0..20 {
        world.beat();
    }
    for read in &mut reads {
        read.try_recv().unwrap().unwrap();
    }
}

#[test]
fn messages_of_strangers_and_noise_are_dropped() {
    let mut world = World::new(3);
    world.await_leader();
    let envelope = Envelope {
        from: super::identity(1),
        to: NodeId::new(2),
        bytes: vec![0xff; 40],
    };
    world.wire.send(envelope);
    world.beat();
}

#[test]
fn without_a_majority_requests_are_refused_as_busy_and_not_heaped_up() {
    let mut world = World::new(4);
    let leader = world.await_leader();
    let member = &mut world.nodes[leader].member;
    let mut answers: Vec<_> = (1..=5_000)
        .map(|sequence| {
            let answer = propose(member, 1, sequence);
            if sequence % 100 == 0 {
                member.run(world.now).unwrap();
            }
            answer
        })
        .collect();
    let mut busy = 0;
    for answer in &mut answers {
        if let Ok(Err(error)) = answer.try_recv() {
            assert!(
                matches!(error, StoreError::Busy { waiting: 4096 }),
                "{error}"
            );
            busy += 1;
        }
    }
    assert_eq!(busy, 5_000 - 4_096);
}
