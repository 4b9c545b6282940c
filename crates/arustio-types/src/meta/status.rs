//! What is known of a name.

use crate::block::BlockSize;
use crate::content::{ContentId, Source};
use crate::id::{InodeId, LogIndex, MountId};
use crate::path::FsPath;
use crate::time::Timestamp;

/// File or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A sequence of bytes.
    File,
    /// A set of names.
    Directory,
}

/// Whether the UFS has a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Persistence {
    /// It does.
    Persisted,
    /// It will; until then block nodes hold them.
    ToBePersisted,
    /// Only block nodes do.
    NotPersisted,
}

impl Persistence {
    /// As listings show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Persisted => "PERSISTED",
            Self::ToBePersisted => "TO_BE_PERSISTED",
            Self::NotPersisted => "NOT_PERSISTED",
        }
    }
}

/// A name, what it stands for, and how fresh that knowledge is.
#[derive(Debug, Clone, PartialEq)]
pub struct FileStatus {
    /// The path that was asked for.
    pub path: FsPath,
    /// The inode.
    pub inode: InodeId,
    /// File or directory.
    pub kind: FileKind,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Last change of the content, as the UFS tells it.
    pub modified: Timestamp,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name; empty where unknown.
    pub owner: String,
    /// Group's name; empty where unknown.
    pub group: String,
    /// The content, for files.
    pub content: Option<ContentId>,
    /// The cut of the content.
    pub block_size: BlockSize,
    /// Where the bytes are, for persisted files; for a directory its marker.
    pub source: Option<Source>,
    /// Whether the UFS has them.
    pub persistence: Persistence,
    /// The mount it lies in; `None` outside mounts.
    pub mount: Option<MountId>,
    /// The path is a mount point.
    pub mount_point: bool,
    /// For directories: every name of the UFS is loaded.
    pub loaded: bool,
    /// Log index of the last change of this name.
    pub changed_at: LogIndex,
    /// When the UFS was last asked about this, wall clock; soft state (R3).
    pub checked_at: Option<Timestamp>,
}

impl FileStatus {
    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }
}
