//! Agreement on the order of commands, with raft-rs.
//!
//! ```text
//!  propose, query (any task)             other members
//!        |  bounded channel                    ^ |
//!        v                                     | v
//!   +---------------- one thread: actor ---------------+
//!   | member: waiting writers (proposal), readers (read)|
//!   |   peer: the Raft library, stepped                |
//!   |     log: entries, hard state  -> log engine      |  synced once per round
//!   |   state machine               -> state engine    |  not synced, replayed
//!   +--------------------------------------------------+
//! ```
//!
//! A round: everything that waits becomes entries; one synced write; commit; one slice
//! applied as one batch; answers. The order inside a round and what breaks if it is
//! changed stand in `peer`; who waits for what, and how every waiting ends, in
//! `proposal` and `read`.
//!
//! A group of one is the same code: its only member elects itself at once, and because
//! nobody else can be elected, what it has applied is the newest there is, so that it
//! answers linearizable reads without asking. There is no leader lease anywhere.
//!
//! Not here yet: change of members, shipping of snapshots. Entries of either kind end the
//! process with a clear message instead of being skipped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arustio_types::meta::{Consistency, RequestContext};
use arustio_types::{ClusterId, Incarnation, NodeId};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};

mod actor;
mod codec;
mod log;
mod log_bridge;
mod member;
mod peer;
mod proposal;
mod read;
pub mod transport;

#[cfg(test)]
mod tests;

pub use transport::{Envelope, NullTransport, RaftTransport};

use crate::config::CheckedConfig;
use crate::engine::KvEngine;
use crate::error::{FatalError, StoreError};
use crate::state_machine::StateMachine;
use crate::store::{MetadataStore, Proposed, ReadOptions, StoreStatus};
use actor::{Actor, Shared};
use member::{Input, Member};
use peer::Peer;

/// Which member of which life of which cluster. Written when the log is founded, checked
/// whenever it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation (N9).
    pub incarnation: Incarnation,
    /// This member; never 0.
    pub member: NodeId,
}

impl MemberIdentity {
    /// The identity that a log engine holds; `None` for an engine that is still empty.
    pub fn read(log: &dyn KvEngine) -> Result<Option<MemberIdentity>, FatalError> {
        log::read_identity(log)
    }
}

/// Time that never goes back.
///
/// # Contract
/// Callable from any thread, never blocks. Counts from an arbitrary start; may stand still
/// while the machine is suspended.
pub trait MonotonicClock: Send + Sync + std::fmt::Debug {
    /// Time since the start.
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock, from its own creation.
#[derive(Debug, Clone, Copy)]
pub struct SystemMonotonic(Instant);

impl SystemMonotonic {
    /// A clock that starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place here that asks the machine"
    )]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for SystemMonotonic {
    fn default() -> Self {
        Self::new()
    }
}

impl MonotonicClock for SystemMonotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Puts a member together.
#[derive(Debug)]
pub struct ConsensusBuilder<S: StateMachine> {
    config: CheckedConfig,
    identity: MemberIdentity,
    log: Arc<dyn KvEngine>,
    machine: S,
    seed: u64,
    voters: Vec<NodeId>,
    transport: Arc<dyn RaftTransport>,
    clock: Arc<dyn MonotonicClock>,
}

impl<S: StateMachine> ConsensusBuilder<S> {
    /// A group of one over this log engine and this state. The seed decides election
    /// timeouts and distinguishes this run's proposals from those of every other run, so
    /// outside tests it has to be random.
    pub fn new(
        config: CheckedConfig,
        identity: MemberIdentity,
        log: Arc<dyn KvEngine>,
        machine: S,
        seed: u64,
    ) -> Self {
        Self {
            config,
            voters: vec![identity.member],
            identity,
            log,
            machine,
            seed,
            transport: Arc::new(NullTransport),
            clock: Arc::new(SystemMonotonic::new()),
        }
    }

    /// The members of a group that is founded now, the same on each of them; an existing
    /// log knows its own.
    pub fn voters(mut self, voters: Vec<NodeId>) -> Self {
        self.voters = voters;
        self
    }

    /// How to reach the other members.
    pub fn transport(mut self, transport: Arc<dyn RaftTransport>) -> Self {
        self.transport = transport;
        self
    }

    /// Another clock than the machine's.
    pub fn clock(mut self, clock: Arc<dyn MonotonicClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens or founds the log and starts the thread. Reads the disk, so it blocks.
    pub fn start(self) -> Result<Consensus<S>, FatalError> {
        let applied = self.machine.applied();
        let log = Arc::clone(&self.log);
        let config = &self.config;
        let peer = Peer::open(config, self.identity, &self.voters, log, applied, self.seed)?;
        let machine = Arc::new(RwLock::new(self.machine));
        let held = Arc::clone(&machine);
        let member = Member::new(config, peer, held, self.transport, self.seed);
        let shared = Arc::new(Shared::new(member.status()));
        let (inputs, inbox) = sync_channel(config.queue);
        let actor = Actor {
            member,
            machine: Arc::clone(&machine),
            inbox,
            shared: Arc::clone(&shared),
            clock: self.clock,
            tick: config.tick,
        };
        let thread = actor.spawn()?;
        Ok(Consensus {
            identity: self.identity,
            queue: config.queue,
            max_command: usize::try_from(config.max_command.get()).unwrap_or(usize::MAX),
            inputs,
            machine,
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }
}

/// A running member. Dropping it stops the thread without waiting; [`Consensus::close`]
/// waits.
#[derive(Debug)]
pub struct Consensus<S: StateMachine> {
    identity: MemberIdentity,
    queue: usize,
    max_command: usize,
    inputs: SyncSender<Input<S::Outcome>>,
    machine: Arc<RwLock<S>>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<S: StateMachine> Consensus<S> {
    /// Who this is.
    pub fn identity(&self) -> MemberIdentity {
        self.identity
    }

    /// Takes a message that another member's transport has carried here. Foreign, late or
    /// surplus ones are dropped.
    pub fn step(&self, envelope: Envelope) {
        let ours = envelope.to == self.identity.member
            && envelope.from.cluster == self.identity.cluster
            && envelope.from.incarnation == self.identity.incarnation;
        if !ours {
            tracing::warn!(?envelope, "dropped a message that is not for this member");
            return;
        }
        // A full queue loses the message, which the protocol survives.
        let _ = self.inputs.try_send(Input::Step(envelope.bytes));
    }

    /// Looks at the state between two applies, whatever it is at the moment.
    pub fn with_state<R>(&self, look: impl FnOnce(&S) -> R) -> R {
        look(&self.machine.read())
    }

    /// Waits until the thread ends. After an error the process has to end too: what this
    /// member has promised can no longer be kept by it.
    pub async fn ended(&self) -> Result<(), Arc<FatalError>> {
        let mut ended = self.shared.ended.subscribe();
        let end = ended.wait_for(Option::is_some).await;
        match end.as_deref() {
            Ok(Some(actor::End::Failed(error))) => Err(Arc::clone(error)),
            Ok(Some(actor::End::Stopped) | None) | Err(_) => Ok(()),
        }
    }

    /// Stops the thread and waits for it; everybody who waits is told. What was applied is
    /// durable afterwards. May be called again.
    pub async fn close(&self) -> Result<(), Arc<FatalError>> {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the thread; a full queue means that it is awake.
        let _ = self.inputs.try_send(Input::Stop);
        let result = self.ended().await;
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // It has nothing left to do, and a panic has been reported by `ended`.
            let _ = thread.join();
        }
        result
    }

    fn check(&self, context: &RequestContext) -> Result<(), StoreError> {
        let MemberIdentity {
            cluster,
            incarnation,
            ..
        } = self.identity;
        let unknown = context.cluster == ClusterId::default();
        if unknown || (context.cluster, context.incarnation) == (cluster, incarnation) {
            return Ok(());
        }
        Err(StoreError::WrongCluster {
            cluster,
            incarnation,
        })
    }

    fn send(&self, input: Input<S::Outcome>) -> Result<(), StoreError> {
        self.inputs.try_send(input).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy {
                waiting: self.queue,
            },
            TrySendError::Disconnected(_) => self.gone(),
        })
    }

    fn gone(&self) -> StoreError {
        let ended = self.shared.ended.borrow();
        ended
            .as_ref()
            .map_or(StoreError::Stopped, actor::End::as_error)
    }

    async fn wait<T>(
        &self,
        deadline: Duration,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(StoreError::DeadlinePassed { deadline }),
        }
    }

    /// Waits until the state is as fresh as asked.
    async fn freshen(&self, options: ReadOptions) -> Result<(), StoreError> {
        if let Some(end) = self.shared.ended.borrow().as_ref() {
            return Err(end.as_error());
        }
        let (ready, answer) = oneshot::channel();
        let input = match options.consistency {
            Consistency::Stale => return Ok(()),
            Consistency::AtLeast(index)
                if index.get() <= self.shared.applied.load(Ordering::Acquire) =>
            {
                return Ok(());
            }
            Consistency::Linearizable if self.shared.newest.load(Ordering::Acquire) => {
                return Ok(());
            }
            Consistency::AtLeast(index) => Input::ReadAt(index, ready),
            Consistency::Linearizable => Input::Read(ready),
        };
        self.send(input)?;
        self.wait(options.deadline, answer).await
    }
}

#[async_trait]
impl<S: StateMachine> MetadataStore<S> for Consensus<S> {
    async fn propose(
        &self,
        context: RequestContext,
        command: S::Command,
    ) -> Result<Proposed<S::Outcome>, StoreError> {
        self.check(&context)?;
        let payload = S::encode(&context, &command);
        if payload.len() > self.max_command {
            return Err(StoreError::TooLarge {
                size: payload.len(),
                limit: self.max_command,
            });
        }
        let deadline = match context.deadline {
            Duration::ZERO => ReadOptions::DEADLINE,
            given => given,
        };
        let (reply, answer) = oneshot::channel();
        self.send(Input::Propose(payload, reply))?;
        self.wait(deadline, answer).await
    }

    async fn query(&self, query: S::Query, options: ReadOptions) -> Result<S::Answer, StoreError> {
        self.freshen(options).await?;
        let answer = self.machine.read().query(query);
        answer.map_err(|error| StoreError::Query(Arc::new(error)))
    }

    fn status(&self) -> StoreStatus {
        self.shared.status()
    }

    fn watch(&self) -> watch::Receiver<StoreStatus> {
        self.shared.status.subscribe()
    }
}
