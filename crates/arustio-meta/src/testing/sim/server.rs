//! A server: two disks that may lose what was not synced, a clock of its own, and as long
//! as it lives a member with everybody who waits for it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arustio_types::NodeId;
use arustio_types::meta::{Outcome, Query};
use parking_lot::{Mutex, RwLock};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

use super::truth::{identity, open};
use super::watched::{Notes, Watched};
use crate::config::CheckedConfig;
use crate::consensus::inside::{Input, Member, Peer, Surroundings, Workshop};
use crate::consensus::{Envelope, Membership, RaftTransport, Shipment};
use crate::engine::memory::Shelf;
use crate::engine::{EngineKind, KvEngine, MemEngine};
use crate::error::{FatalError, StoreError};
use crate::state_machine::{StateMachine as _, StateMachineError};
use crate::store::Proposed;
use crate::testing::Mutation;
use crate::testing::faulty::{Faults, FaultyEngine};

/// What members put on the wire, until the world takes it off.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) messages: Mutex<Vec<Envelope>>,
    pub(super) shipments: Mutex<Vec<Shipment>>,
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

/// Counts what it is asked for; the world answers later.
#[derive(Debug, Clone, Default)]
pub(super) struct Bench(Arc<AtomicUsize>);

impl Bench {
    pub(super) fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Workshop for Bench {
    fn settle(&self) -> Result<(), StateMachineError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A clock that counts from anywhere, fast or slow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    since: Duration,
    reads: Duration,
    rate: f64,
}

impl Clock {
    pub(super) fn new(reads: Duration, rate: f64) -> Self {
        Self {
            since: Duration::ZERO,
            reads,
            rate,
        }
    }

    pub(super) fn read(&self, now: Duration) -> Duration {
        self.reads + now.saturating_sub(self.since).mul_f64(self.rate)
    }

    /// Runs on from here at another rate, after a jump.
    pub(super) fn change(&mut self, now: Duration, jump: Duration, rate: f64) {
        *self = Self {
            since: now,
            reads: self.read(now) + jump,
            rate,
        };
    }

    pub(super) fn beat(&self, tick: Duration) -> Duration {
        tick.div_f64(self.rate.max(0.2))
    }
}

/// Where an answer goes: a task, and which of its questions it answers.
pub(super) type Asker = (usize, u64);

type Promised<T> = oneshot::Receiver<Result<T, StoreError>>;

/// A server from when it starts until it crashes.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) member: Member<Watched>,
    pub(super) machine: Arc<RwLock<Watched>>,
    pub(super) faults: Arc<Faults>,
    pub(super) bench: Bench,
    pub(super) inbox: VecDeque<Input<Outcome>>,
    pub(super) writers: Vec<(Asker, Promised<Proposed<Outcome>>)>,
    pub(super) readers: Vec<(Asker, Query, Promised<()>)>,
    /// A round is on the calendar.
    pub(super) due: bool,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) id: NodeId,
    log: Arc<MemEngine>,
    state: Arc<MemEngine>,
    founding: Membership,
    pub(super) life: Option<Life>,
    /// Which life it is.
    pub(super) lives: u64,
    pub(super) clock: Clock,
    pub(super) stalled: Duration,
    /// It has found itself removed.
    pub(super) removed: bool,
}

/// What all servers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: CheckedConfig,
    pub(super) wire: Arc<Wire>,
    pub(super) notes: Notes,
    pub(super) shelf: Arc<Shelf>,
    pub(super) broken: Option<Mutation>,
}

impl Server {
    pub(super) fn new(id: u64, founding: Membership, shared: &Shared, clock: Clock) -> Self {
        let engine = |kind| {
            let engine = MemEngine::crashing(kind).on_shelf(Arc::clone(&shared.shelf));
            Arc::new(engine)
        };
        Self {
            id: NodeId::new(id),
            log: engine(EngineKind::Log),
            state: engine(EngineKind::State),
            founding,
            life: None,
            lives: 0,
            clock,
            stalled: Duration::ZERO,
            removed: false,
        }
    }

    /// Where its snapshots are, on the shelf: no such folder is on any disk.
    pub(super) fn folder(&self) -> PathBuf {
        PathBuf::from(format!("simulated-disk/{}/{}", self.id, self.lives))
    }

    /// Starts, with what the disks hold.
    pub(super) fn boot(
        &mut self,
        shared: &Shared,
        faults: Faults,
        seed: u64,
    ) -> Result<(), FatalError> {
        self.lives += 1;
        let faults = Arc::new(faults);
        let faulty = |engine: &Arc<MemEngine>| -> Arc<dyn KvEngine> {
            Arc::new(FaultyEngine::new(Arc::clone(engine), Arc::clone(&faults)))
        };
        let namespace = open(faulty(&self.state), shared.broken)?;
        let watched = Watched::new(namespace, self.id, Arc::clone(&shared.notes));
        let me = identity(self.id.get());
        let log = faulty(&self.log);
        let peer = Peer::open(&shared.config, me, &self.founding, log, &watched, seed)?;
        let machine = Arc::new(RwLock::new(watched));
        let bench = Bench::default();
        let around = Surroundings {
            transport: Arc::clone(&shared.wire) as Arc<dyn RaftTransport>,
            workshop: Box::new(bench.clone()),
            folder: self.folder(),
            run: seed,
        };
        let member = Member::new(&shared.config, peer, Arc::clone(&machine), around);
        let mut member = member.breaking(shared.broken);
        member.start()?;
        self.life = Some(Life {
            member,
            machine,
            faults,
            bench,
            inbox: VecDeque::new(),
            writers: Vec::new(),
            readers: Vec::new(),
            due: false,
        });
        Ok(())
    }

    /// Loses power; some of what was not synced may have reached the disks.
    pub(super) fn crash(&mut self, rng: &mut StdRng) {
        self.life = None;
        let mut lose = |engine: &MemEngine| {
            let kept = match rng.random_range(0..4) {
                0 => 0,
                1 => engine.unsynced(),
                _ => rng.random_range(0..=engine.unsynced()),
            };
            Arc::new(engine.after_crash(kept))
        };
        self.log = lose(&self.log);
        self.state = lose(&self.state);
    }

    pub(super) fn applied(&self) -> Option<u64> {
        let life = self.life.as_ref()?;
        let applied = life.machine.read().applied();
        Some(applied.position.index.get())
    }
}
