//! Work owed to a UFS (P1 to P5).

use crate::content::{ObjectVersion, UfsKey, WriteId};
use crate::id::{EffectId, InodeId, LogIndex, MountId, SessionId};
use crate::path::FsPath;

/// One piece of work, recorded in the same batch as the command that owes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Its number.
    pub id: EffectId,
    /// The mount it works on.
    pub mount: MountId,
    /// What is to be done.
    pub kind: EffectKind,
    /// The one session that may execute it; its lease is the session's (P4).
    pub executor: SessionId,
    /// Replicated milliseconds until which an unanswered request may still arrive.
    pub unanswered_until: u64,
    /// Where it was recorded.
    pub recorded_at: LogIndex,
    /// When, in replicated milliseconds.
    pub recorded_time: u64,
    /// What the UFS said last when it refused.
    pub last_error: Option<String>,
}

/// What is to be done. Only recorded (key, version) pairs are ever touched (P3).
#[derive(Debug, Clone, PartialEq)]
pub enum EffectKind {
    /// Remove this version of this object.
    Delete {
        /// The object.
        key: UfsKey,
        /// The version that may go.
        version: ObjectVersion,
    },
    /// Remove every object of a tree that was detached from the namespace; its
    /// inodes still hold the (key, version) pairs and are read page by page.
    DeleteTree {
        /// All keys of the tree start with this.
        prefix: UfsKey,
        /// The detached root.
        root: InodeId,
    },
    /// Copy this version onto `to`, verify, then remove it.
    Rename {
        /// The object to copy.
        from: UfsKey,
        /// Its version.
        version: ObjectVersion,
        /// The new key.
        to: UfsKey,
        /// What may be replaced there; `None`: nothing.
        expected: Option<ObjectVersion>,
        /// What the copy carries, never its source's.
        write_id: WriteId,
        /// The inode whose source moves.
        inode: InodeId,
        /// The name that returns when it is undone.
        old_path: FsPath,
        /// The name it has now.
        new_path: FsPath,
    },
    /// Move every object of a directory that has its new name already. Until it ends, what
    /// lies below finds its objects under the old prefix; it is replaced step by step by
    /// one [`Rename`](Self::Rename) for each object.
    RenameTree(TreeRename),
    /// Write the marker of a directory.
    PutMarker {
        /// The marker's key, with a trailing `/`.
        key: UfsKey,
        /// The directory.
        dir: InodeId,
        /// What our own marker carries.
        write_id: WriteId,
    },
}

/// A directory on its way, and how far it has come.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeRename {
    /// All keys of the tree started with this, and do where nothing was moved yet.
    pub from: UfsKey,
    /// They will start with this.
    pub to: UfsKey,
    /// The directory.
    pub root: InodeId,
    /// Seed of the write ids that the copies carry.
    pub write_id: WriteId,
    /// The name it had.
    pub old_path: FsPath,
    /// The name it has now.
    pub new_path: FsPath,
    /// The last name below it whose object has an effect of its own, relative to it;
    /// `None` before the first.
    pub after: Option<String>,
    /// Objects that have, or had, an effect of their own.
    pub moved: u64,
}

impl EffectKind {
    /// One word for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delete { .. } => "delete",
            Self::DeleteTree { .. } => "delete-tree",
            Self::Rename { .. } => "rename",
            Self::RenameTree(_) => "rename-tree",
            Self::PutMarker { .. } => "marker",
        }
    }

    /// Whether an operation on `key` has to wait for this (P2).
    pub fn covers(&self, key: &UfsKey) -> bool {
        match self {
            Self::Delete { key: own, .. } | Self::PutMarker { key: own, .. } => own == key,
            Self::DeleteTree { prefix, .. } => key.as_str().starts_with(prefix.as_str()),
            Self::Rename { from, to, .. } => from == key || to == key,
            Self::RenameTree(tree) => [&tree.from, &tree.to]
                .iter()
                .any(|prefix| key.as_str().starts_with(prefix.as_str())),
        }
    }
}
