//! What can fail in this crate, by who has to react.
//!
//! [`EngineError`] is the disk; most of them end the process. [`StateMachineError`] is a
//! replica that cannot go on. [`FatalError`] is what the consensus thread ends with: the
//! server logs it and aborts. [`StoreError`] is what a caller of the store sees, and most
//! of them mean "repeat with the same request id". A refused command is none of these:
//! it is an outcome.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::unit::format_duration;
use arustio_types::{Classify, ClusterId, ErrorKind, Incarnation, LogIndex, NodeId};

use crate::engine::{EngineKind, Family};

/// What to do with a member whose folder cannot be trusted any more.
const REPLACE: &str = "a member of a group is replaced: remove it (arustio admin raft remove), add \
    one with a number that was never used (arustio admin raft add), and start this server with \
    that number and an empty folder; a server that stands alone is restored from a backup \
    (arustio-server metadata restore)";

/// A failure of a key/value engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another process holds the folder.
    #[error(
        "the {} engine in {} is in use by another process: stop the other server, or choose \
         another data folder", .kind.name(), .path.display()
    )]
    Locked {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
    },
    /// What is stored cannot be trusted.
    #[error(
        "the {} engine in {} is damaged: {detail}; {REPLACE}", .kind.name(), .path.display()
    )]
    Corrupt {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The disk is full.
    #[error("no space left for the {} engine in {}: free some and start again", .kind.name(), .path.display())]
    NoSpace {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
    },
    /// Written by a later release.
    #[error(
        "the {} engine in {} has format {found}, this release reads up to {supported}: use the \
         release that wrote it", .kind.name(), .path.display()
    )]
    NewerFormat {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
        /// What is there.
        found: u32,
        /// What we know.
        supported: u32,
    },
    /// The folder holds something else.
    #[error("{} does not hold a {} engine: {found}", .path.display(), .expected.name())]
    NotAnEngine {
        /// What was asked for.
        expected: EngineKind,
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The engine lacks this family: a defect of the caller.
    #[error("the {} engine has no family {family}", .kind.name())]
    NoSuchFamily {
        /// Which engine.
        kind: EngineKind,
        /// Which family.
        family: Family,
    },
    /// The engine was left without content by a failed restore.
    #[error("the {} engine in {} is closed: a restore failed, start the server again", .kind.name(), .path.display())]
    Closed {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
    },
    /// Whoever asked for a look into the engine has gone.
    #[error("nobody waits any longer for what is read in the {} engine", .kind.name())]
    Abandoned {
        /// Which engine.
        kind: EngineKind,
    },
    /// The operating system refused something.
    #[error("cannot {action} in {}: {source}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The engine's library refused something.
    #[error("cannot {action} in the {} engine in {}: {detail}", .kind.name(), .path.display())]
    Backend {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// Why not.
        detail: String,
    },
}

impl Classify for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. } => ErrorKind::Conflict,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::NoSpace { .. } => ErrorKind::NoSpace,
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
            Self::NotAnEngine { .. } => ErrorKind::InvalidArgument,
            Self::NoSuchFamily { .. } => ErrorKind::Internal,
            Self::Closed { .. } => ErrorKind::Unavailable,
            Self::Abandoned { .. } => ErrorKind::Unavailable,
            Self::Io { .. } => ErrorKind::Internal,
            Self::Backend { .. } => ErrorKind::Internal,
        }
    }
}

/// A replica that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StateMachineError {
    /// Its engine failed.
    #[error("the state engine failed: {0}")]
    Engine(#[from] EngineError),
    /// A stored record or a committed command cannot be read.
    #[error("cannot read {what}: {detail}")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// What was found.
        detail: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for the state: {0}")]
    Thread(#[source] io::Error),
    /// A committed command is newer than this release.
    #[error("{what} has format {found}, this release reads up to {supported}: upgrade this server")]
    NewerFormat {
        /// What was read.
        what: &'static str,
        /// What is there.
        found: u32,
        /// What we know.
        supported: u32,
    },
}

impl Classify for StateMachineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Thread(_) => ErrorKind::Internal,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
        }
    }
}

/// Why the consensus thread ended. The process must end too: a half-dead member is worse
/// than a dead one.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// The log engine failed; what it holds on disk is unknown.
    #[error("the log engine failed, so what was promised can no longer be kept: {0}")]
    Log(#[source] EngineError),
    /// The state machine cannot go on.
    #[error("cannot apply committed entries: {0}")]
    Apply(#[from] StateMachineError),
    /// The folder belongs to another cluster or member.
    #[error(
        "this data folder belongs to member {found_member} of cluster {found_cluster}, not to \
         member {member} of cluster {cluster}: use the folder of this member, or an empty one"
    )]
    WrongIdentity {
        /// Who we are.
        member: NodeId,
        /// Of which cluster.
        cluster: ClusterId,
        /// Whose folder it is.
        found_member: NodeId,
        /// Of which cluster.
        found_cluster: ClusterId,
    },
    /// The state has applied entries that the log has lost.
    #[error(
        "the log ends at {last}, but the state has applied {applied}: acknowledged entries were \
         lost here; {REPLACE}"
    )]
    LogBehindState {
        /// Last entry of the log.
        last: LogIndex,
        /// Last applied entry.
        applied: LogIndex,
    },
    /// The log no longer has the entries that the state needs.
    #[error(
        "the log starts after {truncated}, but the state has applied only {applied}: the two \
         folders do not belong together, restore both from one backup"
    )]
    StateBehindLog {
        /// Last entry that was compacted away.
        truncated: LogIndex,
        /// Last applied entry.
        applied: LogIndex,
    },
    /// A record of the log cannot be read.
    #[error("cannot read {what} in the log engine: {detail}")]
    CorruptLog {
        /// Which record.
        what: &'static str,
        /// What was found.
        detail: String,
    },
    /// A record of the log is newer than this release.
    #[error(
        "{what} in the log engine has format {found}, this release reads up to {supported}: use the release that wrote it"
    )]
    NewerLog {
        /// Which record.
        what: &'static str,
        /// What is there.
        found: u32,
        /// What we know.
        supported: u32,
    },
    /// The Raft library refused something that it must not refuse.
    #[error("the Raft library refused to {action}: {detail}")]
    Raft {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        detail: String,
    },
    /// The group has removed this member.
    #[error(
        "member {member} was removed from its group, so this server has nothing left to do: stop \
         it for good, or empty its data folder and add it under a new number (arustio admin raft \
         add NEW ADDRESS)"
    )]
    Removed {
        /// Who we are.
        member: NodeId,
    },
    /// This replica holds another state than the leader did at the same position.
    #[error(
        "the state of this server at entry {index} is not that of its group: nothing it holds can \
         be trusted. Remove it from the group (arustio admin raft remove {member}), empty its \
         data folder, add it under a new number, and report this with its log"
    )]
    Diverged {
        /// Who we are.
        member: NodeId,
        /// Where the two were compared.
        index: LogIndex,
    },
    /// The folder of snapshots cannot be used.
    #[error("cannot empty the folder of snapshots {}: {source}", .path.display())]
    Snapshots {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A snapshot holds something else than its message says.
    #[error("a snapshot of position {expected} holds the state of position {found}")]
    WrongSnapshot {
        /// What was announced.
        expected: LogIndex,
        /// What was found.
        found: LogIndex,
    },
    /// The thread could not be started.
    #[error("cannot start the consensus thread: {0}")]
    Thread(#[source] io::Error),
    /// The thread panicked; the panic says where.
    #[error("the consensus thread panicked")]
    Panicked,
}

impl Classify for FatalError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Log(error) => error.kind(),
            Self::Apply(error) => error.kind(),
            Self::WrongIdentity { .. } => ErrorKind::InvalidArgument,
            Self::LogBehindState { .. } => ErrorKind::Corrupt,
            Self::StateBehindLog { .. } => ErrorKind::Corrupt,
            Self::CorruptLog { .. } => ErrorKind::Corrupt,
            Self::NewerLog { .. } => ErrorKind::Unsupported,
            Self::Raft { .. } => ErrorKind::Internal,
            Self::Removed { .. } => ErrorKind::NotFound,
            Self::Diverged { .. } => ErrorKind::Corrupt,
            Self::Snapshots { .. } => ErrorKind::Internal,
            Self::WrongSnapshot { .. } => ErrorKind::Corrupt,
            Self::Thread(_) => ErrorKind::Internal,
            Self::Panicked => ErrorKind::Internal,
        }
    }
}

/// Why a proposal or a query got no answer. What became of a proposal is unknown unless
/// the variant says that it was refused; repeating it with the same request id is safe
/// either way (N2).
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Refused: the queue is full.
    #[error("the metadata service is busy: {waiting} requests are waiting; repeat later")]
    Busy {
        /// How many it lets wait.
        waiting: usize,
    },
    /// Refused: another member leads.
    #[error("this metadata server is not the leader{}; ask the leader", .leader.map(|id| format!(", server {id} is")).unwrap_or_default())]
    NotLeader {
        /// Who leads, where known.
        leader: Option<NodeId>,
    },
    /// Refused: a change of the group that cannot be made now, or never.
    #[error("{reason}")]
    ChangeRefused {
        /// What to do about it.
        kind: ErrorKind,
        /// Why, for people.
        reason: String,
    },
    /// Leadership was lost while the proposal was under way; its outcome is unknown.
    #[error(
        "the leader changed while the request was under way; repeat it with the same request id"
    )]
    LeadershipLost,
    /// The deadline passed; the outcome of a proposal is unknown.
    #[error("no answer within {}; repeat with the same request id", format_duration(*.deadline))]
    DeadlinePassed {
        /// How long the caller waited.
        deadline: Duration,
    },
    /// Refused: more than one entry may hold.
    #[error("the request takes {size} bytes, at most {limit} are allowed; split it")]
    TooLarge {
        /// Its encoded size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Refused: the caller believes to speak to another cluster, or to one that was
    /// since restored from a backup (N9).
    #[error(
        "this is cluster {cluster} in incarnation {incarnation}, not the one that the request \
         is meant for: connect again"
    )]
    WrongCluster {
        /// Who we are.
        cluster: ClusterId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// Nothing was taken down at this entry, or it is forgotten.
    #[error(
        "this metadata server does not know the sum over its state at entry {index}: compare again"
    )]
    NoMark {
        /// The entry.
        index: LogIndex,
    },
    /// The server is stopping; the outcome of a proposal is unknown.
    #[error("the metadata server is stopping; repeat with the same request id")]
    Stopped,
    /// The server failed and is about to end; the outcome of a proposal is unknown.
    #[error("the metadata server failed: {0}")]
    Failed(Arc<FatalError>),
    /// A query could not be answered.
    #[error("cannot answer the query: {0}")]
    Query(Arc<StateMachineError>),
}

impl Classify for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy { .. } => ErrorKind::Unavailable,
            Self::NotLeader { .. } => ErrorKind::Unavailable,
            Self::ChangeRefused { kind, .. } => *kind,
            Self::LeadershipLost => ErrorKind::Unavailable,
            Self::DeadlinePassed { .. } => ErrorKind::Timeout,
            Self::TooLarge { .. } => ErrorKind::InvalidArgument,
            Self::WrongCluster { .. } => ErrorKind::Stale,
            Self::NoMark { .. } => ErrorKind::Stale,
            Self::Stopped => ErrorKind::Unavailable,
            Self::Failed(_) => ErrorKind::Unavailable,
            Self::Query(error) => error.kind(),
        }
    }
}
