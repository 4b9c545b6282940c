//! Everything that can be asked, and the answers.

use crate::cluster::{ClusterView, NodeEntry};
use crate::id::{ClusterId, Incarnation, InodeId, LogIndex, MountId};
use crate::meta::command::{Owed, Refusal};
use crate::meta::credential::SecretOptions;
use crate::meta::effect::Effect;
use crate::meta::entries::Entries;
use crate::meta::intent::Intent;
use crate::meta::mount::MountEntry;
use crate::meta::setting::{Origin, PathConf};
use crate::meta::status::FileStatus;
use crate::path::FsPath;

/// Most entries in one page of anything but a directory.
pub const MAX_PAGE: usize = 1_000;
/// Most entries in one page of a directory: what a page costs beside its entries is paid
/// seldom, and a page is still made within a few milliseconds.
pub const MAX_LISTED: usize = 4_096;

/// How fresh an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// It reflects everything that was acknowledged before the question (N1).
    #[default]
    Linearizable,
    /// It reflects at least this position.
    AtLeast(LogIndex),
    /// Whatever this server has; only when asked for.
    Stale,
}

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// One name.
    Stat {
        /// Which.
        path: FsPath,
    },
    /// A page of a directory, in name order.
    List {
        /// Which.
        path: FsPath,
        /// Names after this one; `None` from the beginning.
        after: Option<String>,
        /// At most so many, [`MAX_LISTED`] in any case.
        limit: usize,
    },
    /// The mount table.
    Mounts,
    /// A mount with its secrets, for whoever opens the UFS (C1).
    OpenMount {
        /// Which.
        mount: MountId,
    },
    /// Settings of a path.
    Conf {
        /// Which.
        path: FsPath,
    },
    /// What is owed and announced, oldest first.
    Pending {
        /// After this one.
        after: Option<Owed>,
        /// At most so many.
        limit: usize,
    },
    /// Files of a detached tree that are still to be removed.
    Detached {
        /// The detached root.
        root: InodeId,
        /// After this inode; `None` from the beginning.
        after: Option<InodeId>,
        /// At most so many.
        limit: usize,
    },
    /// What lies at and below a path, a bounded part of it.
    Usage {
        /// Which.
        path: FsPath,
        /// What was counted up to here is left out: the `next` of the part before.
        after: Option<FsPath>,
    },
    /// The block nodes.
    ClusterView,
    /// The block nodes as they are recorded, removed ones included.
    Nodes,
    /// Who answers, and how far it has applied.
    Identity,
}

/// An answer. Each says which position it reflects, where that matters.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The name is there.
    Status(FileStatus),
    /// The name is not there; whether the UFS has it is for the client to see.
    Absent(Absent),
    /// A page.
    Page(Page),
    /// The mounts, by path.
    Mounts(Vec<MountEntry>),
    /// A mount and its secrets.
    OpenedMount {
        /// The mount, without credential.
        entry: MountEntry,
        /// Its secrets, in clear; empty means the provider chain.
        secrets: SecretOptions,
    },
    /// Settings.
    Conf {
        /// Set on exactly this path.
        own: PathConf,
        /// With everything inherited.
        effective: PathConf,
        /// Where each value of the effective ones was set; the others are defaults.
        origins: Vec<Origin>,
    },
    /// Announced and owed.
    Pending {
        /// Intents.
        intents: Vec<Intent>,
        /// Effects.
        effects: Vec<Effect>,
        /// Replicated time of the answer, in milliseconds, to tell ages from.
        now: u64,
        /// More follow after this one.
        next: Option<Owed>,
    },
    /// Files of a detached tree.
    Detached {
        /// Their statuses; the source is what may be removed.
        files: Vec<DetachedFile>,
        /// More follow after this inode.
        next: Option<InodeId>,
    },
    /// A part of what lies at and below a path.
    Usage(UsagePart),
    /// The block nodes.
    ClusterView(ClusterView),
    /// The block nodes as they are recorded, by number.
    Nodes(Vec<NodeEntry>),
    /// Who answers.
    Identity {
        /// The cluster.
        cluster: ClusterId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// Applied so far.
        applied: LogIndex,
    },
    /// Refused.
    Refused(Refusal),
}

/// A name that the namespace does not have.
#[derive(Debug, Clone, PartialEq)]
pub struct Absent {
    /// The deepest directory on the way that exists.
    pub dir: FsPath,
    /// Its inode.
    pub dir_inode: InodeId,
    /// The mount it lies in; outside mounts the name does not exist anywhere.
    pub mount: Option<MountId>,
    /// The next component below `dir`.
    pub name: String,
    /// The position of the answer; a merge names it as `seen`.
    pub position: LogIndex,
}

/// A page of a directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The directory.
    pub dir: FileStatus,
    /// Entries in name order.
    pub entries: Entries,
    /// Ask for names after this one; `None` at the end.
    pub next: Option<String>,
    /// The position of the answer.
    pub position: LogIndex,
}

/// Directories that one [`UsagePart`] names because they are not loaded.
pub const MAX_UNLOADED: usize = 64;

/// A part of what lies at and below a path; the parts together are all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsagePart {
    /// Files.
    pub files: u64,
    /// Directories, the path itself included.
    pub directories: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Directories whose names in the UFS are not all known here; what is missing of them
    /// is not counted. At most [`MAX_UNLOADED`].
    pub unloaded: Vec<FsPath>,
    /// Ask for the part after this path; `None` at the end.
    pub next: Option<FsPath>,
    /// The position of the answer.
    pub position: LogIndex,
}

/// An object of a detached tree.
#[derive(Debug, Clone, PartialEq)]
pub struct DetachedFile {
    /// The inode.
    pub inode: InodeId,
    /// What may be removed; `None` for a directory without marker.
    pub source: Option<crate::content::Source>,
}
