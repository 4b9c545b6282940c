//! The replicated state as a seam: what consensus needs to know of the namespace.
//!
//! Consensus carries opaque bytes; the state machine encodes commands into them before
//! they are proposed and decodes them when they are applied, so that the log's format
//! belongs to whoever understands it. Applying is deterministic: time arrives with the
//! entry, chance inside the command.

use std::fmt;
use std::path::Path;

use arustio_types::LogIndex;
use arustio_types::meta::RequestContext;

pub use crate::error::StateMachineError;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition {
    /// The entry's index; 0 before the first.
    pub index: LogIndex,
    /// The term in which it was proposed.
    pub term: u64,
}

/// Milliseconds of the cluster's own time: starts at 0, never goes back, stands still
/// while no leader runs. Leases and sessions expire by it, never by a wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReplicatedTime(u64);

impl ReplicatedTime {
    /// From milliseconds since the cluster was formed.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the cluster was formed.
    pub const fn millis(self) -> u64 {
        self.0
    }
}

/// What has been applied: written in the same batch as the data it describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Applied {
    /// The last entry.
    pub position: LogPosition,
    /// Its time.
    pub time: ReplicatedTime,
}

/// A committed entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it stands.
    pub position: LogPosition,
    /// When the leader proposed it; at least the time of the entry before.
    pub time: ReplicatedTime,
    /// What [`StateMachine::encode`] made; empty for an entry of consensus itself (a new
    /// leader's first, a change of members), which changes nothing but the position and
    /// the members.
    pub payload: &'a [u8],
    /// Who belongs to the group from this entry on; kept as it is, together with the
    /// position.
    pub members: Option<&'a [u8]>,
}

/// The replicated state.
///
/// # Contract
/// - **Who calls**: the consensus thread calls `apply` and `install`, alone and with
///   nobody reading; `query` is called from any thread, between two applies, and sees all
///   of one slice or nothing of it. `encode` is called by proposers.
/// - **Determinism**: outcomes and state follow from the entries alone: no clock, no
///   chance, no environment, no iteration over unordered maps.
/// - **Atomicity**: `apply` writes one engine batch for the whole slice, with the position
///   and time of its last entry in it. It need not be durable on return: after a crash the
///   state is that of some earlier `applied`, and the entries after it are given again.
/// - **Exactly once**: entries that carry the id of an applied request give its recorded
///   outcome; entries at or below `applied` are never given.
/// - **Errors**: a refusal is an outcome. `Err` from `apply`, `make_durable` or `install`
///   means that this replica cannot go on, and the process ends. `Err` from `query` is
///   given to the caller.
pub trait StateMachine: Send + Sync + fmt::Debug + 'static {
    /// What can be proposed.
    type Command: Send + Sync + 'static;
    /// What comes of it, refusals included.
    type Outcome: Send + 'static;
    /// What can be asked.
    type Query: Send + 'static;
    /// What is answered.
    type Answer: Send + 'static;

    /// The bytes of a command in the log, with what `apply` needs of its context (the
    /// request id, the principal, the proposer's wall clock). Never empty.
    fn encode(context: &RequestContext, command: &Self::Command) -> Vec<u8>;

    /// Applies entries in order and gives one outcome for each; `None` for an entry with
    /// an empty payload.
    fn apply(
        &mut self,
        entries: &[Entry<'_>],
    ) -> Result<Vec<Option<Self::Outcome>>, StateMachineError>;

    /// The last position and time; survives a restart together with the state.
    fn applied(&self) -> Applied;

    /// Answers from the state as it is.
    fn query(&self, query: Self::Query) -> Result<Self::Answer, StateMachineError>;

    /// Makes everything applied so far survive a crash; the log below it may then go.
    fn make_durable(&self) -> Result<(), StateMachineError>;

    /// Who belongs to the group, as the last entry that said so has it; `None` before the
    /// first.
    fn members(&self) -> Result<Option<Vec<u8>>, StateMachineError>;

    /// A sum over the state, equal on every replica that has applied the same entries,
    /// however they were sliced; `None` where none is kept.
    fn hash(&self) -> Option<u128>;

    /// A job that prepares the state for a snapshot, to be run on any thread, beside
    /// everything else: `snapshot` afterwards is quick.
    fn settler(&self) -> Box<dyn FnOnce() -> Result<(), StateMachineError> + Send>;

    /// Writes a copy of the state into a folder that does not exist yet.
    fn snapshot(&self, into: &Path) -> Result<Applied, StateMachineError>;

    /// Replaces the state by a copy that `snapshot` made; durable on return.
    fn install(&mut self, from: &Path) -> Result<Applied, StateMachineError>;
}
