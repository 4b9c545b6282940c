//! The metadata service, as the file system needs it.
//!
//! [`MetadataClient`] is a narrow waist: propose, query, and the turn to look at an
//! under file system. Finding the leader, backing off and repeating the same request id
//! are inside an implementation and invisible to callers. What a session and its leases
//! are is decided one level up, in `session`; what a command has to prove, in `command`.

pub(crate) mod drift;
pub(crate) mod remote;
pub(crate) mod route;
mod servers;
pub(crate) mod session;
mod together;
pub(crate) mod trouble;

use std::fmt;
use std::sync::Arc;

use arustio_types::LogIndex;
use arustio_types::cluster::ClusterView;
use arustio_types::meta::entries::Entries;
use arustio_types::meta::sync::{SyncRequest, SyncTarget, SyncTurn};
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query, RequestContext};
use arustio_types::used::Used;
use arustio_types::{ClusterId, Incarnation};
use async_trait::async_trait;

use crate::error::Result;
pub use remote::RemoteMetadata;

/// A metadata service somewhere.
///
/// # Contract
///
/// *Who calls.* Any task, concurrently.
///
/// *Durable and visible.* When [`propose`](Self::propose) returned an outcome, the
/// command was committed and applied once, refusals included, however often it was
/// sent.
///
/// *Errors* are failures of the way there. `Unavailable`: the command certainly was not
/// applied. `Unknown`: it was sent, repeated until the deadline of its context, and may
/// have been applied. A refusal is an outcome or an answer, never an error.
///
/// *Dropping a future* leaves the outcome of a command open.
#[async_trait]
pub trait MetadataClient: Send + Sync + fmt::Debug {
    /// Which cluster this is. Asked once, when a client starts.
    async fn identity(&self) -> Result<ClusterIdentity>;

    /// Changes the namespace; repeats under the request id of `context` until its
    /// deadline.
    async fn propose(&self, context: &RequestContext, command: &Command) -> Result<Proposed>;

    /// Reads the namespace.
    async fn query(&self, query: Query, consistency: Consistency) -> Result<Answer>;

    /// Reads a page of a directory, and its entries only when they are taken: meanwhile the
    /// next page can be on its way. Anything but a page is told as it is.
    async fn query_page(&self, query: Query, consistency: Consistency) -> Result<PageAnswer> {
        self.query(query, consistency).await.map(PageAnswer::from)
    }

    /// Asks for the turn to look at an under file system (L4).
    async fn begin_sync(&self, request: SyncRequest) -> Result<SyncTurn>;

    /// Gives the turn back; `looked` says that the look was complete and is merged.
    async fn end_sync(&self, target: SyncTarget, ticket: u64, looked: bool) -> Result<()>;

    /// Tells what this client did since it told last; told twice when an answer is lost.
    async fn tell_used(&self, _used: &Used) -> Result<()> {
        Ok(())
    }

    /// The block nodes, possibly a few seconds old: correctness never depends on it.
    async fn cluster_view(&self) -> Result<Arc<ClusterView>>;

    /// How often requests were tried again so far; 0 where nothing is repeated.
    fn repeats(&self) -> u64 {
        0
    }
}

/// What comes of asking for a page.
#[derive(Debug)]
pub enum PageAnswer {
    /// A page.
    Page(ArrivedPage),
    /// A refusal, or that the directory is not there.
    Other(Box<Answer>),
}

impl From<Answer> for PageAnswer {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Page(page) => Self::Page(ArrivedPage {
                next: page.next,
                entries: Box::new(|| Ok(page.entries)),
            }),
            other => Self::Other(Box::new(other)),
        }
    }
}

/// A page of a directory as it came.
pub struct ArrivedPage {
    /// The name after which the next page begins; `None`: this was the last.
    pub next: Option<String>,
    entries: Box<dyn FnOnce() -> Result<Entries> + Send>,
}

impl ArrivedPage {
    /// Reads the entries.
    ///
    /// # Errors
    /// `Internal`: they are not in a form that this release can read.
    pub fn entries(self) -> Result<Entries> {
        (self.entries)()
    }
}

impl fmt::Debug for ArrivedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrivedPage")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// A cluster and its incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClusterIdentity {
    /// For ever.
    pub cluster: ClusterId,
    /// Until the cluster is restored from a backup (N9).
    pub incarnation: Incarnation,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposed {
    /// The same for every repeat.
    pub outcome: Outcome,
    /// Where it was applied.
    pub position: LogIndex,
    /// How often it was sent: after one attempt a request of an unknown session was
    /// certainly not applied earlier.
    pub attempts: u32,
}
