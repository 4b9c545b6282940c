//! The entries of one page of a directory, held compactly.
//!
//! A page has thousands of entries that have nearly everything in common: the directory,
//! the mount, the rule by which keys follow from names. [`Entries`] holds what they share
//! once and what differs in rows beside one text, so that a page costs a handful of
//! allocations and not several for each entry. An [`Entry`] borrows from it; whoever needs
//! a [`FileStatus`] makes it from there.
//!
//! Invariant: every name can follow the directory in a path. It is checked when an entry is
//! added, so that making a status cannot fail.

use crate::block::BlockSize;
use crate::content::{Identity, ObjectVersion, Source, UfsKey};
use crate::id::{InodeId, LogIndex, MountId};
use crate::meta::status::{Content, Derivation, FileKind, FileStatus, Persistence};
use crate::path::{FsPath, InvalidPath};
use crate::time::Timestamp;

/// What the entries of a page have in common, unless one says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    dir: FsPath,
    mount: Option<MountId>,
    block_size: BlockSize,
    prefix: UfsKey,
    derivation: Option<Derivation>,
}

impl Shared {
    /// What entries share with their directory. `prefix` is what the keys of their sources
    /// start with, the name follows; `derivation` is how their content ids are derived.
    pub fn new(dir: &FileStatus, prefix: UfsKey, derivation: Option<Derivation>) -> Self {
        Self {
            dir: dir.path.clone(),
            mount: dir.mount,
            block_size: dir.block_size,
            prefix,
            derivation,
        }
    }

    /// The directory.
    pub fn dir(&self) -> &FsPath {
        &self.dir
    }

    /// The mount of the directory.
    pub fn mount(&self) -> Option<MountId> {
        self.mount
    }

    /// The block size that holds in the directory.
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// What keys start with.
    pub fn prefix(&self) -> &UfsKey {
        &self.prefix
    }

    /// How content ids are derived.
    pub fn derivation(&self) -> Option<Derivation> {
        self.derivation
    }

    /// Whether a key is the one that follows from a name.
    fn has_usual_key(&self, key: &str, name: &str, kind: FileKind) -> bool {
        let rest = key
            .strip_prefix(self.prefix.as_str())
            .and_then(|rest| rest.strip_prefix(name));
        rest == Some(key_end(kind))
    }
}

/// What follows a name in a key: the marker of a directory ends in `/`.
fn key_end(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "",
        FileKind::Directory => "/",
    }
}

/// Where the bytes of an entry are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntrySource<'a> {
    /// The key, where it is not the prefix and the name (and a `/` for a directory).
    pub key: Option<&'a str>,
    /// The version's identity.
    pub identity: &'a str,
    /// The version's id, where there is one.
    pub version_id: Option<&'a str>,
}

/// One entry; what it says is that of [`FileStatus`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry<'a> {
    /// The last component of the path.
    pub name: &'a str,
    /// The inode.
    pub inode: InodeId,
    /// File or directory.
    pub kind: FileKind,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name; empty where unknown.
    pub owner: &'a str,
    /// Group's name; empty where unknown.
    pub group: &'a str,
    /// The content, for files.
    pub content: Content,
    /// The cut of the content.
    pub block_size: BlockSize,
    /// Where the bytes are.
    pub source: Option<EntrySource<'a>>,
    /// Whether the UFS has them.
    pub persistence: Persistence,
    /// The mount it lies in.
    pub mount: Option<MountId>,
    /// It is a mount point.
    pub mount_point: bool,
    /// For directories: every name of the UFS is loaded.
    pub loaded: bool,
    /// Log index of the last change of this name.
    pub changed_at: LogIndex,
    /// When the UFS was last asked about this.
    pub checked_at: Option<Timestamp>,
}

impl<'a> Entry<'a> {
    /// The entry that a status tells.
    pub fn of(status: &'a FileStatus, shared: &Shared) -> Self {
        let name = status.path.name().unwrap_or_default();
        let source = status.source.as_ref().map(|source| EntrySource {
            key: Some(source.key.as_str())
                .filter(|key| !shared.has_usual_key(key, name, status.kind)),
            identity: source.version.identity.as_str(),
            version_id: source.version.version_id.as_deref(),
        });
        Self {
            name,
            inode: status.inode,
            kind: status.kind,
            size: status.size,
            modified: status.modified,
            mode: status.mode,
            owner: &status.owner,
            group: &status.group,
            content: status.content,
            block_size: status.block_size,
            source,
            persistence: status.persistence,
            mount: status.mount,
            mount_point: status.mount_point,
            loaded: status.loaded,
            changed_at: status.changed_at,
            checked_at: status.checked_at,
        }
    }
}

/// Entries in name order.
#[derive(Debug, Clone, PartialEq)]
pub struct Entries {
    shared: Shared,
    rows: Vec<Row>,
    /// The texts of all rows, one after the other.
    text: String,
}

/// An entry without its texts; their lengths stand in the order of the texts.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    inode: InodeId,
    size: u64,
    modified: Timestamp,
    changed_at: LogIndex,
    checked_at: Option<Timestamp>,
    mount: Option<MountId>,
    content: Content,
    text: usize,
    name: u32,
    owner: u32,
    group: u32,
    source: Option<SourceRow>,
    mode: u32,
    kind: FileKind,
    persistence: Persistence,
    block_size: BlockSize,
    mount_point: bool,
    loaded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct SourceRow {
    identity: u32,
    key: Option<u32>,
    version_id: Option<u32>,
}

impl Entries {
    /// None yet, and room for some.
    pub fn with_capacity(shared: Shared, entries: usize) -> Self {
        /// A name and an identity, roughly.
        const TEXT: usize = 64;
        Self {
            shared,
            rows: Vec::with_capacity(entries),
            text: String::with_capacity(entries * TEXT),
        }
    }

    /// Those that statuses tell.
    ///
    /// # Errors
    /// That of [`Entries::push`].
    pub fn of(shared: Shared, statuses: &[FileStatus]) -> Result<Self, InvalidPath> {
        let mut entries = Self::with_capacity(shared, statuses.len());
        for status in statuses {
            let entry = Entry::of(status, &entries.shared);
            entries.push(&entry)?;
        }
        Ok(entries)
    }

    /// Adds one behind the others.
    ///
    /// # Errors
    /// A name that cannot follow the directory in a path; nothing is added then.
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<(), InvalidPath> {
        self.shared.dir.check_child(entry.name)?;
        let text = self.text.len();
        let source = entry.source.map(|source| SourceRow {
            identity: self.add(source.identity),
            key: source.key.map(|key| self.add(key)),
            version_id: source.version_id.map(|id| self.add(id)),
        });
        let (name, owner, group) = (
            self.add(entry.name),
            self.add(entry.owner),
            self.add(entry.group),
        );
        self.rows.push(Row {
            inode: entry.inode,
            size: entry.size,
            modified: entry.modified,
            changed_at: entry.changed_at,
            checked_at: entry.checked_at,
            mount: entry.mount,
            content: entry.content,
            text,
            source,
            name,
            owner,
            group,
            mode: entry.mode,
            kind: entry.kind,
            persistence: entry.persistence,
            block_size: entry.block_size,
            mount_point: entry.mount_point,
            loaded: entry.loaded,
        });
        Ok(())
    }

    /// Nothing that is taken from anywhere is nearly as long as 4 GiB.
    fn add(&mut self, text: &str) -> u32 {
        self.text.push_str(text);
        u32::try_from(text.len()).unwrap_or(u32::MAX)
    }

    /// What they share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// In name order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Entry<'_>> + ExactSizeIterator {
        self.rows.iter().map(|row| row.entry(&self.text))
    }

    /// Whether any is a directory.
    pub fn has_directories(&self) -> bool {
        self.rows.iter().any(|row| row.kind == FileKind::Directory)
    }

    /// Says of every entry when the UFS was last asked about it.
    pub fn set_checked(&mut self, mut at: impl FnMut(&Entry<'_>) -> Option<Timestamp>) {
        for row in &mut self.rows {
            row.checked_at = at(&row.entry(&self.text));
        }
    }

    /// Keeps the first ones.
    pub fn truncate(&mut self, entries: usize) {
        self.rows.truncate(entries);
    }

    /// One of these entries as a status. For many, [`Entries::statuses`] takes less.
    pub fn status(&self, entry: &Entry<'_>) -> FileStatus {
        Maker::new(&self.shared).status(&self.shared, entry)
    }

    /// As statuses, one after the other.
    pub fn statuses(&self) -> impl Iterator<Item = FileStatus> + '_ {
        let mut maker = Maker::new(&self.shared);
        self.iter()
            .map(move |entry| maker.status(&self.shared, &entry))
    }
}

impl IntoIterator for Entries {
    type Item = FileStatus;
    type IntoIter = Statuses;

    fn into_iter(self) -> Statuses {
        Statuses {
            maker: Maker::new(&self.shared),
            entries: self,
            next: 0,
        }
    }
}

/// Entries on their way to becoming statuses, each when it is asked for.
#[derive(Debug)]
pub struct Statuses {
    entries: Entries,
    next: usize,
    maker: Maker,
}

impl Iterator for Statuses {
    type Item = FileStatus;

    fn next(&mut self) -> Option<FileStatus> {
        let Entries { shared, rows, text } = &self.entries;
        let entry = rows.get(self.next)?.entry(text);
        self.next += 1;
        Some(self.maker.status(shared, &entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.entries.len().saturating_sub(self.next);
        (left, Some(left))
    }
}

impl Row {
    fn entry<'t>(&self, text: &'t str) -> Entry<'t> {
        let mut rest = text.get(self.text..).unwrap_or_default();
        let mut take = |length: u32| {
            let (taken, after) = rest.split_at_checked(length as usize).unwrap_or_default();
            rest = after;
            taken
        };
        let source = self.source.map(|source| EntrySource {
            identity: take(source.identity),
            key: source.key.map(&mut take),
            version_id: source.version_id.map(&mut take),
        });
        Entry {
            source,
            name: take(self.name),
            owner: take(self.owner),
            group: take(self.group),
            inode: self.inode,
            kind: self.kind,
            size: self.size,
            modified: self.modified,
            mode: self.mode,
            content: self.content,
            block_size: self.block_size,
            persistence: self.persistence,
            mount: self.mount,
            mount_point: self.mount_point,
            loaded: self.loaded,
            changed_at: self.changed_at,
            checked_at: self.checked_at,
        }
    }
}

/// Makes statuses; what every path and key begins with is kept from one to the next.
#[derive(Debug)]
struct Maker {
    path: String,
    key: String,
    /// Bytes of `path` and `key` that stay.
    stays: (usize, usize),
}

impl Maker {
    fn new(shared: &Shared) -> Self {
        let mut path = shared.dir.as_str().to_owned();
        if !shared.dir.is_root() {
            path.push('/');
        }
        let key = shared.prefix.as_str().to_owned();
        Self {
            stays: (path.len(), key.len()),
            path,
            key,
        }
    }

    fn status(&mut self, shared: &Shared, entry: &Entry<'_>) -> FileStatus {
        debug_assert!(shared.dir.check_child(entry.name).is_ok());
        self.path.truncate(self.stays.0);
        self.path.push_str(entry.name);
        FileStatus {
            path: FsPath::of_checked(&self.path),
            inode: entry.inode,
            kind: entry.kind,
            size: entry.size,
            modified: entry.modified,
            mode: entry.mode,
            owner: entry.owner.to_owned(),
            group: entry.group.to_owned(),
            content: entry.content,
            block_size: entry.block_size,
            source: entry.source.map(|source| self.source(entry, source)),
            persistence: entry.persistence,
            mount: entry.mount,
            mount_point: entry.mount_point,
            loaded: entry.loaded,
            changed_at: entry.changed_at,
            checked_at: entry.checked_at,
            freshness: None,
        }
    }

    fn source(&mut self, entry: &Entry<'_>, source: EntrySource<'_>) -> Source {
        let key = match source.key {
            Some(key) => UfsKey::new(key),
            None => {
                self.key.truncate(self.stays.1);
                self.key.push_str(entry.name);
                self.key.push_str(key_end(entry.kind));
                UfsKey::new(&self.key)
            }
        };
        Source {
            key,
            version: ObjectVersion {
                identity: Identity::new(source.identity),
                version_id: source.version_id.map(str::to_owned),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    fn status(path: &str, kind: FileKind, key: &str) -> FileStatus {
        FileStatus {
            path: FsPath::new(path).unwrap(),
            inode: InodeId::new(7),
            kind,
            size: 5,
            modified: Timestamp::from_millis(-3),
            mode: 0o600,
            owner: "ada".to_owned(),
            group: String::new(),
            content: Content::None,
            block_size: BlockSize::DEFAULT,
            source: Some(Source {
                key: UfsKey::new(key),
                version: ObjectVersion::new("etag"),
            }),
            persistence: Persistence::Persisted,
            mount: Some(MountId::new(2)),
            mount_point: false,
            loaded: false,
            changed_at: LogIndex::new(9),
            checked_at: None,
            freshness: None,
        }
    }

    fn shared(dir: &str) -> Shared {
        let dir = status(dir, FileKind::Directory, "d/");
        Shared::new(&dir, UfsKey::new("d/"), None)
    }

    #[test]
    fn statuses_come_back_and_usual_keys_take_no_room() {
        let all = [
            status("/m/d/a", FileKind::File, "d/a"),
            status("/m/d/b", FileKind::Directory, "d/b/"),
            status("/m/d/c", FileKind::File, "elsewhere"),
            status("/m/d/e", FileKind::Directory, ""),
        ];
        let entries = Entries::of(shared("/m/d"), &all).unwrap();
        let keys: Vec<_> = entries.iter().map(|e| e.source.unwrap().key).collect();
        assert_eq!(keys, [None, None, Some("elsewhere"), Some("")]);
        assert!(entries.statuses().eq(all.iter().cloned()));
        assert!(entries.into_iter().eq(all));
    }

    #[test]
    fn a_name_that_makes_no_path_is_refused_and_leaves_nothing_behind() {
        let mut entries = Entries::with_capacity(shared("/"), 1);
        let fine = status("/x", FileKind::File, "d/x");
        let fine = Entry::of(&fine, &shared("/"));
        for name in ["", ".", "..", "a/b", "a\0"] {
            assert!(entries.push(&Entry { name, ..fine }).is_err(), "{name:?}");
        }
        assert!(entries.is_empty());
        entries.push(&fine).unwrap();
        assert_eq!(entries.statuses().next().unwrap().path.as_str(), "/x");
    }

    #[test]
    fn equal_is_what_says_the_same_content() {
        let derivation = Derivation {
            incarnation: Incarnation::new(1),
            generation: 0,
        };
        let mut derived = status("/m/d/a", FileKind::File, "d/a");
        derived.content = Content::Derived(derivation);
        let mut named = derived.clone();
        named.content = Content::Named(derived.content_id().unwrap());
        assert_eq!(derived, named);
        named.size += 1;
        derived.size += 1;
        assert_ne!(derived, named, "another size is another content");
    }
}
