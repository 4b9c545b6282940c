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
//! How the group changes stands in `membership`; how a member that lags too far behind gets
//! a copy of the state, in `snapshot`. Every so many entries the leader has all members
//! compare their states: a replica that differs ends itself rather than answer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arustio_types::meta::{Consistency, RequestContext};
use arustio_types::{ClusterId, Incarnation, LogIndex, NodeId};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};

mod actor;
#[cfg(feature = "testing")]
pub mod bench;
mod codec;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod inside;
mod log;
mod log_bridge;
mod member;
mod membership;
mod peer;
mod proposal;
mod read;
mod snapshot;
pub mod transport;

#[cfg(test)]
mod tests;

pub use membership::{Change, MemberInfo, Membership};
pub use peer::MemberProgress;
pub use snapshot::{Shipment, SnapshotFolder, StateCopy};
pub use transport::{Envelope, NullTransport, RaftTransport};

use crate::config::CheckedConfig;
use crate::engine::KvEngine;
use crate::error::{FatalError, StoreError};
use crate::state_machine::{LogPosition, StateMachine, StateMachineError};
use crate::store::{MetadataStore, Proposed, ReadOptions, StoreStatus};
use actor::{Actor, Shared};
use member::{Input, Member, Surroundings};
use peer::Peer;
use snapshot::Workshop;

/// How long an input that must not be lost waits for room in the queue.
const FULL: Duration = Duration::from_millis(5);

/// Told what became of a request about the group.
pub(crate) type Notice<T> = oneshot::Sender<Result<T, StoreError>>;

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

/// The last entry that this member knew to be committed when its log was written, so that
/// whoever looks at the state alone can tell whether it is behind.
pub fn committed(log: &dyn KvEngine) -> Result<LogIndex, FatalError> {
    log::read_commit(log)
}

/// Founds the log of a group of one in an empty engine, behind a state that was restored
/// from a backup and has come to `position`. Durable on return.
pub(crate) fn found_restored(
    log: &dyn KvEngine,
    identity: MemberIdentity,
    position: LogPosition,
) -> Result<(), FatalError> {
    let alone = Membership::founding([(identity.member, MemberInfo::default())]);
    log::found(log, identity, &alone, position.max(log::START))
}

/// Time that never goes back.
///
/// # Contract
/// Callable from any thread, never blocks. Counts from an arbitrary start; may stand still
/// while the machine is suspended.
pub trait MonotonicClock: Send + Sync + fmt::Debug {
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

/// How the group is, as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    /// The member that answers.
    pub status: StoreStatus,
    /// Who belongs to the group.
    pub membership: Arc<Membership>,
    /// How far the others are; empty unless the member that answers leads.
    pub progress: Vec<MemberProgress>,
    /// First entry that its log still has.
    pub log_first: LogIndex,
    /// Last entry of its log.
    pub log_last: LogIndex,
    /// What its log takes, roughly, in bytes.
    pub log_bytes: u64,
}

/// The sum over the state of a member at an entry that every member knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateMark {
    /// The entry.
    pub index: LogIndex,
    /// As [`StateMachine::hash`] has it.
    pub sum: u128,
}

/// Puts a member together.
#[derive(Debug)]
pub struct ConsensusBuilder<S: StateMachine> {
    config: CheckedConfig,
    identity: MemberIdentity,
    log: Arc<dyn KvEngine>,
    machine: S,
    seed: u64,
    founding: Membership,
    snapshots: Option<PathBuf>,
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
            founding: Membership::founding([(identity.member, MemberInfo::default())]),
            snapshots: None,
            identity,
            log,
            machine,
            seed,
            transport: Arc::new(NullTransport),
            clock: Arc::new(SystemMonotonic::new()),
        }
    }

    /// The members of a group that is founded now, the same on each of them; none for a
    /// member that joins a group. An existing log knows its own.
    pub fn founding(mut self, members: impl IntoIterator<Item = (NodeId, MemberInfo)>) -> Self {
        self.founding = Membership::founding(members);
        self
    }

    /// Where snapshots are made and staged. What lies there when the member starts is
    /// removed: it is half a snapshot, or one that nobody waits for any more. Unset: a
    /// folder of the system for what is temporary.
    pub fn snapshots(mut self, folder: PathBuf) -> Self {
        self.snapshots = Some(folder);
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
        let config = &self.config;
        let log = Arc::clone(&self.log);
        let machine = &self.machine;
        let identity = self.identity;
        let peer = Peer::open(config, identity, &self.founding, log, machine, self.seed)?;
        let folder = match self.snapshots {
            Some(folder) => folder,
            None => std::env::temp_dir().join(format!("arustio-snapshots-{:016x}", self.seed)),
        };
        empty(&folder)?;
        let machine = Arc::new(RwLock::new(self.machine));
        let (inputs, inbox) = sync_channel(config.queue);
        let around = Surroundings {
            transport: self.transport,
            workshop: Box::new(Thread {
                machine: Arc::clone(&machine),
                inputs: inputs.clone(),
            }),
            folder: folder.clone(),
            run: self.seed,
        };
        let member = Member::new(config, peer, Arc::clone(&machine), around);
        let shared = Arc::new(Shared::new(member.status(), member.members()));
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
            folder,
            thread: Mutex::new(Some(thread)),
        })
    }
}

/// Makes a folder, without content.
fn empty(folder: &Path) -> Result<(), FatalError> {
    let failed = |source| FatalError::Snapshots {
        path: folder.to_owned(),
        source,
    };
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    std::fs::create_dir_all(folder).map_err(failed)
}

/// Settles the state on a thread of its own.
struct Thread<S: StateMachine> {
    machine: Arc<RwLock<S>>,
    inputs: SyncSender<Input<S::Outcome>>,
}

impl<S: StateMachine> fmt::Debug for Thread<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").finish_non_exhaustive()
    }
}

impl<S: StateMachine> Workshop for Thread<S> {
    fn settle(&self) -> Result<(), StateMachineError> {
        let settler = self.machine.read().settler();
        let inputs = self.inputs.clone();
        let work = move || {
            let settled = settler();
            // Waits for room; when the member has ended, nobody wants to know.
            let _ = inputs.send(Input::Settled(settled));
        };
        let thread = std::thread::Builder::new().name("snapshot".to_owned());
        thread
            .spawn(work)
            .map(drop)
            .map_err(StateMachineError::Thread)
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
    folder: PathBuf,
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

    /// A message could not be brought to a member.
    pub fn unreachable(&self, member: NodeId) {
        let _ = self.inputs.try_send(Input::Unreachable(member));
    }

    /// Another member says that the group has removed this one: it ends.
    pub fn removed(&self) {
        let _ = self.inputs.try_send(Input::Removed);
    }

    /// Where snapshots are made, and where what arrives has to be staged: a rename must be
    /// able to bring it to the state.
    pub fn snapshot_folder(&self) -> &Path {
        &self.folder
    }

    /// Takes a snapshot that a transport has brought: the message, and the folder, whole,
    /// checked and synced. The folder is this member's from now on.
    pub async fn receive_snapshot(&self, envelope: Envelope, staged: PathBuf) {
        let folder = SnapshotFolder::new(staged);
        if envelope.from.cluster == self.identity.cluster && envelope.to == self.identity.member {
            self.bring(Input::SnapshotReceived(envelope.bytes, folder))
                .await;
        }
    }

    /// What became of a shipment. A snapshot is not tried again before this is told.
    pub async fn snapshot_sent(&self, to: NodeId, arrived: bool) {
        self.bring(Input::SnapshotSent(to, arrived)).await;
    }

    /// Brings an input that must not be lost to the thread, however full its queue is.
    async fn bring(&self, input: Input<S::Outcome>) {
        let mut input = input;
        while let Err(TrySendError::Full(back)) = self.inputs.try_send(input) {
            input = back;
            tokio::time::sleep(FULL).await;
        }
    }

    /// Who belongs to the group, as applied here.
    pub fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.shared.members.borrow())
    }

    /// Sees every change of the group.
    pub fn watch_membership(&self) -> watch::Receiver<Arc<Membership>> {
        self.shared.members.subscribe()
    }

    /// How the group is, as this member sees it.
    pub async fn group(&self) -> Result<GroupStatus, StoreError> {
        self.ask(ReadOptions::DEADLINE, Input::Group).await
    }

    /// Changes the group. Returns when the change is applied here, and the group has left
    /// what lies between two configurations. Asks the leader only. Dropping the future does
    /// not withdraw the change.
    pub async fn change(
        &self,
        change: Change,
        deadline: Duration,
    ) -> Result<Arc<Membership>, StoreError> {
        self.ask(deadline, |notice| Input::Change(change, notice))
            .await
    }

    /// Hands leadership over: to this voter, or to the one that is closest. Returns who
    /// leads then. Asks the leader only.
    pub async fn transfer(
        &self,
        to: Option<NodeId>,
        deadline: Duration,
    ) -> Result<NodeId, StoreError> {
        self.ask(deadline, |notice| Input::Transfer(to, notice))
            .await
    }

    /// Makes a snapshot here and drops the log below it. Returns its position.
    pub async fn snapshot(&self, deadline: Duration) -> Result<LogPosition, StoreError> {
        self.ask(deadline, Input::Snapshot).await
    }

    /// A copy of the state as it is here, which can be looked into while this member goes on.
    /// Dropping the future leaves nothing behind.
    pub async fn copy(&self, deadline: Duration) -> Result<StateCopy, StoreError> {
        self.ask(deadline, Input::Copy).await
    }

    /// Has every member take down the sum over its state, at one entry behind all that were
    /// proposed before; returns what this one has there. Asks the leader only. Dropping the
    /// future does not withdraw it, which harms nobody.
    pub async fn take_mark(&self, deadline: Duration) -> Result<StateMark, StoreError> {
        self.ask(deadline, Input::TakeMark).await
    }

    /// What this member has taken down at an entry, once it has applied that. Only the last
    /// ones are remembered.
    pub async fn mark_at(
        &self,
        index: LogIndex,
        deadline: Duration,
    ) -> Result<StateMark, StoreError> {
        self.ask(deadline, |notice| Input::MarkAt(index, notice))
            .await
    }

    async fn ask<T>(
        &self,
        deadline: Duration,
        input: impl FnOnce(Notice<T>) -> Input<S::Outcome>,
    ) -> Result<T, StoreError> {
        let (notice, answer) = oneshot::channel();
        self.send(input(notice))?;
        self.wait(deadline, answer).await
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

    /// Waits until the state here is as fresh as asked. Safe to drop.
    pub async fn freshen(&self, options: ReadOptions) -> Result<(), StoreError> {
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
