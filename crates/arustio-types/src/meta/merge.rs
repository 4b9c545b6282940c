//! What a UFS said about a key range, on its way into the namespace (L1, L2).

use crate::content::{ObjectVersion, WriteId};
use crate::id::{InodeId, LogIndex, MountId};
use crate::path::FsPath;
use crate::time::Timestamp;

/// Most names in one merge.
pub const MAX_MERGE: usize = 1_000;

/// One directory's key range as a request that began at `seen` saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// The directory.
    pub dir: FsPath,
    /// It must still be this inode.
    pub dir_inode: InodeId,
    /// It must still lie in this mount.
    pub mount: MountId,
    /// Log index that was read before the UFS was asked.
    pub seen: LogIndex,
    /// The range, complete.
    pub range: KeyRange,
    /// What the UFS has in it, in key order.
    pub entries: Vec<MergeEntry>,
}

/// A range of child keys in key order, where a file is `name` and a directory is
/// `name/` (S3 puts `a.txt` before `a/`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Inclusive; empty from the beginning.
    pub from: String,
    /// Exclusive; `None` to the end.
    pub to: Option<String>,
}

impl KeyRange {
    /// The whole directory.
    pub fn all() -> Self {
        Self {
            from: String::new(),
            to: None,
        }
    }

    /// Whether a child key lies in the range.
    pub fn contains(&self, child_key: &str) -> bool {
        child_key >= self.from.as_str() && self.to.as_deref().is_none_or(|to| child_key < to)
    }
}

/// A name as the UFS has it.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeEntry {
    /// One component of a path.
    pub name: String,
    /// What it is.
    pub kind: MergeKind,
}

/// What a name is in the UFS.
#[derive(Debug, Clone, PartialEq)]
pub enum MergeKind {
    /// An object.
    File {
        /// Bytes.
        size: u64,
        /// Its version.
        version: ObjectVersion,
        /// As the UFS tells it.
        modified: Timestamp,
        /// Where a HEAD told it; a LIST does not.
        write_id: Option<WriteId>,
    },
    /// A common prefix.
    Directory {
        /// Version of its marker, where one was seen.
        marker: Option<ObjectVersion>,
    },
}

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MergeReport {
    /// Names that appeared.
    pub added: u64,
    /// Names whose content changed.
    pub changed: u64,
    /// Names that went.
    pub removed: u64,
    /// Names to be looked at again one by one: they changed later, or lie under an
    /// intent or a pending effect.
    pub skipped: Vec<String>,
    /// The directory is no longer there, or another one: nothing was done.
    pub moved_on: bool,
}
