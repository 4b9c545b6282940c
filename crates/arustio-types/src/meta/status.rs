//! What is known of a name.

use std::time::Duration;

use super::setting::SyncInterval;
use crate::block::BlockSize;
use crate::content::{ContentId, Source};
use crate::id::{Incarnation, InodeId, LogIndex, MountId};
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

/// What a content id follows from, beside the source and the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Derivation {
    /// Of the cluster.
    pub incarnation: Incarnation,
    /// Of the mount.
    pub generation: u32,
}

/// How the content of a name is told. What can be derived costs a hash, which only those
/// pay who ask for it ([`FileStatus::content_id`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Content {
    /// There is none, as for a directory.
    #[default]
    None,
    /// By its id.
    Named(ContentId),
    /// By its source.
    Derived(Derivation),
}

/// A name, what it stands for, and how fresh that knowledge is.
///
/// Equal are two that say the same, however each tells the content.
#[derive(Debug, Clone)]
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
    /// The content, for files; see [`FileStatus::content_id`].
    pub content: Content,
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
    /// How new this is; only of a name that was asked for by itself. Two statuses that
    /// differ in nothing else are equal.
    pub freshness: Option<Freshness>,
}

/// How new the knowledge of a name is, as the server that answers knows it (R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How old it may be.
    pub interval: SyncInterval,
    /// How long ago the look began that is the newest in the answer, by the monotonic clock
    /// of the server; `None` where it knows of none, which says nothing.
    pub age: Option<Duration>,
    /// The directory that holds the name, by which the turn to look is asked for; `None` for
    /// the root and from servers of earlier releases.
    pub dir: Option<InodeId>,
}

impl Freshness {
    /// Whether nobody has to look. An interval of zero asks for a look each time.
    pub fn holds(&self) -> bool {
        match self.interval {
            SyncInterval::Never => true,
            SyncInterval::Every(most) => !most.is_zero() && self.age.is_some_and(|age| age <= most),
        }
    }
}

impl FileStatus {
    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// The content, for files.
    pub fn content_id(&self) -> Option<ContentId> {
        let derivation = match self.content {
            Content::None => return None,
            Content::Named(id) => return Some(id),
            Content::Derived(derivation) => derivation,
        };
        let source = self.source.as_ref()?;
        Some(ContentId::derived(
            derivation.incarnation,
            self.mount?,
            derivation.generation,
            &source.key,
            &source.version.identity,
            self.size,
        ))
    }

    /// What a name is compared by, but for the content.
    fn facts(&self) -> impl PartialEq + '_ {
        let about = (&self.path, self.inode, self.kind, self.size, self.modified);
        let rights = (self.mode, &self.owner, &self.group);
        let bytes = (self.block_size, &self.source, self.persistence);
        let place = (self.mount, self.mount_point, self.loaded);
        (
            about,
            rights,
            bytes,
            place,
            self.changed_at,
            self.checked_at,
        )
    }
}

impl PartialEq for FileStatus {
    fn eq(&self, other: &Self) -> bool {
        let same_content = self.content == other.content || self.content_id() == other.content_id();
        same_content && self.facts() == other.facts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_what_is_older_than_its_interval_or_of_unknown_age_does_not_hold() {
        let known = |interval, age| {
            let dir = None;
            Freshness { interval, age, dir }.holds()
        };
        let every = |secs| SyncInterval::Every(Duration::from_secs(secs));
        let age = |secs| Some(Duration::from_secs(secs));
        assert!(known(every(60), age(60)));
        assert!(!known(every(60), age(61)));
        assert!(!known(every(60), None));
        assert!(!known(every(0), age(0)), "zero asks for a look each time");
        assert!(known(SyncInterval::Never, None));
    }
}
