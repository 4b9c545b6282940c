//! What a metadata node offers to its own process: two verbs and a status.
//!
//! A narrow waist of *propose* and *query* makes retry, metrics and simulation one
//! wrapper each. Everything that is specific to the namespace lies in the types of the
//! [`StateMachine`]; everything that is specific to Raft lies behind this trait.

use std::time::Duration;

use arustio_types::meta::{Consistency, RequestContext};
use arustio_types::{LogIndex, NodeId};
use async_trait::async_trait;
use tokio::sync::watch;

pub use crate::error::StoreError;
use crate::state_machine::{LogPosition, StateMachine};

/// What this member is in its group at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Follows, or looks for a leader.
    #[default]
    Follower,
    /// Asks to be elected.
    Candidate,
    /// Orders the commands.
    Leader,
    /// No longer takes part.
    Stopped,
}

/// How a metadata node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStatus {
    /// Who this is.
    pub member: NodeId,
    /// What it is.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// Who leads, where known.
    pub leader: Option<NodeId>,
    /// Last entry known to be committed.
    pub commit: LogIndex,
    /// Last entry applied here.
    pub applied: LogIndex,
}

/// How a query is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// How fresh the answer has to be.
    pub consistency: Consistency,
    /// How long the caller waits.
    pub deadline: Duration,
}

impl ReadOptions {
    /// How long a query waits where nobody says so: longer than any election.
    pub const DEADLINE: Duration = Duration::from_secs(10);
}

impl Default for ReadOptions {
    fn default() -> Self {
        Consistency::default().into()
    }
}

impl From<Consistency> for ReadOptions {
    fn from(consistency: Consistency) -> Self {
        Self {
            consistency,
            deadline: Self::DEADLINE,
        }
    }
}

/// What came of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed<O> {
    /// The outcome, refusals by the namespace included.
    pub outcome: O,
    /// The entry that carried it; a repeated request gets its own.
    pub position: LogPosition,
}

/// A replicated state in this process.
///
/// # Contract
/// - **Who calls**: any task of any runtime that has timers. Every call ends: answered,
///   refused, or unknown, at the latest when the deadline has passed.
/// - **Durable on return**: a proposal that returned is committed by a majority, synced,
///   and applied here: a `Stale` query at this node sees it. So is a refused one: the
///   refusal is recorded for the request id.
/// - **Errors**: see [`StoreError`]; an error of `propose` never means "it did not
///   happen" unless the variant says that it was refused. Repeating with the same request
///   id is always safe.
/// - **Dropping the future** of `propose` does not withdraw the command; dropping that of
///   `query` costs nothing.
#[async_trait]
pub trait MetadataStore<S: StateMachine>: Send + Sync {
    /// Has a command agreed upon and applied. The deadline is that of the context.
    async fn propose(
        &self,
        context: RequestContext,
        command: S::Command,
    ) -> Result<Proposed<S::Outcome>, StoreError>;

    /// Answers a question from this node's state, once it is as fresh as asked.
    async fn query(&self, query: S::Query, options: ReadOptions) -> Result<S::Answer, StoreError>;

    /// How this node is doing now.
    fn status(&self) -> StoreStatus;

    /// Sees every change of role, term and leader; the positions in it are those of that
    /// moment.
    fn watch(&self) -> watch::Receiver<StoreStatus>;
}
