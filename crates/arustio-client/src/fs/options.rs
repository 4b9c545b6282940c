//! Knobs of single calls and what the calls report, as plain data.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use arustio_types::meta::mount::{MountCapabilities, MountEntry, WriteType};
use arustio_types::meta::setting::{Origin, PathConf};
use arustio_types::{BlockSize, FsPath};

use crate::error::FsError;

/// How to open a file for reading.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Accept what the nearest metadata server knows, however old.
    pub stale_ok: bool,
}

/// How to open a name for writing.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// Replace a file that is there; without it the name must be free.
    pub overwrite: bool,
    /// Add to the file that is there. No store can do that: it is refused with
    /// `Unsupported` (W6).
    pub append: bool,
    /// Make missing parents.
    pub parents: bool,
    /// Overrides the path's setting.
    pub write_type: Option<WriteType>,
    /// Overrides the path's setting.
    pub block_size: Option<BlockSize>,
}

/// How to look at a name.
#[derive(Debug, Clone, Default)]
pub struct StatOptions {
    /// Accept what the nearest metadata server knows, however old.
    pub stale_ok: bool,
}

/// How to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Everything below as well, each directory before its entries.
    pub recursive: bool,
    /// Accept what the nearest metadata server knows, however old; the under file system
    /// is not asked, not even for a directory of which nothing is known yet.
    pub stale_ok: bool,
}

/// How to make a directory.
#[derive(Debug, Clone, Default)]
pub struct MkdirOptions {
    /// Make missing parents.
    pub parents: bool,
    /// A directory that exists is success.
    pub exist_ok: bool,
}

/// How to move.
#[derive(Debug, Clone, Default)]
pub struct RenameOptions {
    /// Replace a file that is there.
    pub replace: bool,
    /// Make missing parents of the new name.
    pub parents: bool,
}

/// How to remove.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Also a directory with entries.
    pub recursive: bool,
    /// Forget the name here and leave the objects alone.
    pub arustio_only: bool,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteSummary {
    /// Names that went.
    pub names: u64,
}

/// What to mount, as it was typed.
#[derive(Clone)]
pub struct MountRequest {
    /// The mount point.
    pub path: FsPath,
    /// Such as `s3a://bucket/prefix`.
    pub uri: String,
    /// Options under any of their names, secrets in clear.
    pub options: BTreeMap<String, String>,
    /// Refuse every change.
    pub readonly: bool,
    /// Others than the mounting user may use it.
    pub shared: bool,
}

impl MountRequest {
    /// Writable, without options.
    pub fn new(path: FsPath, uri: impl Into<String>) -> Self {
        Self {
            path,
            uri: uri.into(),
            options: BTreeMap::new(),
            readonly: false,
            shared: false,
        }
    }

    /// Adds an option under any of its names.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }
}

impl std::fmt::Debug for MountRequest {
    // Option values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MountRequest")
            .field("path", &self.path)
            .field("uri", &self.uri)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .field("readonly", &self.readonly)
            .field("shared", &self.shared)
            .finish()
    }
}

/// The mount that stands.
#[derive(Debug, Clone, PartialEq)]
pub struct MountOutcome {
    /// As it is now, without credential.
    pub entry: MountEntry,
    /// It stood before, with the same URI and options.
    pub already: bool,
}

/// What an under file system was seen to do.
#[derive(Debug, Clone, PartialEq)]
pub struct MountCheck {
    /// The canonical URI.
    pub uri: String,
    /// What it obeys.
    pub capabilities: MountCapabilities,
    /// One line for each thing that was tried, in order.
    pub tried: Vec<String>,
}

/// What unmounting left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnmountSummary {
    /// What was abandoned by force, one line each.
    pub abandoned: Vec<String>,
}

/// Settings of a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathConfView {
    /// Set on exactly this path.
    pub own: PathConf,
    /// With everything inherited.
    pub effective: PathConf,
    /// Where each of those was set; what is not named here is a default.
    pub origins: Vec<Origin>,
}

impl PathConfView {
    /// The path on which the value of a canonical key was set; `None` for a default.
    pub fn origin(&self, key: &str) -> Option<&FsPath> {
        let origin = self.origins.iter().find(|origin| origin.key == key);
        origin.map(|origin| &origin.path)
    }
}

/// How far to look.
#[derive(Debug, Clone, Default)]
pub struct SyncOptions {
    /// Everything below, not only the entries.
    pub recursive: bool,
}

/// What looking brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncSummary {
    /// Names that appeared.
    pub added: u64,
    /// Names whose content changed.
    pub changed: u64,
    /// Names that went.
    pub removed: u64,
    /// Directories that were listed.
    pub directories: u64,
    /// Keys that cannot be a path; `sync --report` names them.
    pub unusable: u64,
}

/// A key that cannot be a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncFinding {
    /// The key, as the store has it, relative to the mount's root.
    pub key: String,
    /// Why not.
    pub reason: String,
}

/// Something announced or owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingItem {
    /// What it is.
    pub kind: PendingKind,
    /// Its number.
    pub id: u64,
    /// The path, where one is known, else the key.
    pub on: String,
    /// One line for people.
    pub what: String,
    /// How long ago it was recorded.
    pub age: Duration,
    /// What the store said last when it refused.
    pub last_error: Option<String>,
}

/// What is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingKind {
    /// A writer's announcement.
    Intent,
    /// Work owed to the under file system.
    Effect,
}

impl PendingKind {
    /// One word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Effect => "effect",
        }
    }
}

/// How to count.
#[derive(Debug, Clone, Default)]
pub struct UsageOptions {
    /// Accept what the nearest metadata server knows, however old; what the under file
    /// system holds in directories that were never listed is not counted.
    pub stale_ok: bool,
}

/// What lies at and below a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files.
    pub files: u64,
    /// Directories, the path itself included.
    pub directories: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// What was dropped from the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FreeSummary {
    /// Files whose blocks were dropped.
    pub files: u64,
    /// Bytes of them that nodes held just before, as far as they said so.
    pub bytes: u64,
    /// Block nodes that could not be asked.
    pub unreachable: u64,
}

/// How to bring files to the block nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Nodes that each block is given to, 1 to 8; as readers are set up unless given.
    pub replicas: Option<usize>,
    /// Read back what is cached and compare it with its checksums, and the version with the
    /// store; what is missing or damaged is loaded once more.
    pub verify: bool,
    /// Bytes a second that are read from under file systems at most.
    pub bandwidth: Option<NonZeroU64>,
}

/// What a load tells while it goes on.
#[derive(Debug, Clone)]
pub enum LoadEvent {
    /// It begins: each block is given to so many nodes. Fewer than asked for where fewer
    /// take blocks.
    Begins {
        /// Nodes for each block.
        replicas: usize,
    },
    /// So many bytes more are on block nodes, or were there.
    Bytes(u64),
    /// Nothing more is to be done for a file.
    File(LoadedFile),
}

/// What became of a file that was to be loaded.
#[derive(Debug, Clone)]
pub struct LoadedFile {
    /// Its name.
    pub path: FsPath,
    /// Its bytes.
    pub size: u64,
    /// Bytes that block nodes had, or that others brought meanwhile.
    pub cache_bytes: u64,
    /// Bytes that were read from the under file system.
    pub ufs_bytes: u64,
    /// Requests to the under file system.
    pub ufs_requests: u64,
    /// Why it is not, or not wholly, on the block nodes.
    pub failed: Option<FsError>,
}

/// Where the bytes of a reader came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Bytes from block nodes.
    pub cache_bytes: u64,
    /// Bytes from the under file system, what was read too much included.
    pub ufs_bytes: u64,
    /// Requests to the under file system.
    pub ufs_requests: u64,
    /// Blocks, or pieces of blocks, offered to block nodes.
    pub fills: u64,
    /// Those not offered because the node or the client was busy.
    pub fills_dropped: u64,
    /// Bytes from a node that did not match their checksum.
    pub corrupt_blocks: u64,
    /// Blocks that were asked for elsewhere, too, since their node was late.
    pub hedges: u64,
    /// Those of them that came from there first.
    pub hedges_won: u64,
}

/// Where the bytes of a writer went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Bytes accepted.
    pub bytes: u64,
    /// Requests to the under file system.
    pub ufs_requests: u64,
    /// Blocks that block nodes took.
    pub cached_blocks: u64,
}
