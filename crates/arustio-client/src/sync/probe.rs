//! Looking at one name.
//!
//! A name is a file (an object of its key), a directory (anything below `key/`), both
//! (the directory wins, U3) or nothing: one HEAD and one LIST of a single name, asked
//! together. What the namespace has to be told follows from the two answers alone.

use arustio_types::meta::FileStatus;
use arustio_types::meta::merge::{KeyRange, MergeEntry, MergeKind};
use arustio_types::{FsPath, ObjectVersion};
use arustio_ufs::{ListOptions, ObjectEntry, UnderFileSystem};
use futures::StreamExt as _;

use super::order::{agrees, file_entry, only};
use crate::client::Client;
use crate::error::Result;
use crate::resolve::Mounted;

/// What a store has under a name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// An object.
    File(ObjectEntry),
    /// Something below; the marker where it was seen.
    Directory(Option<ObjectVersion>),
}

impl Client {
    /// Looks at the name of `path`.
    pub(crate) async fn probe(&self, mounted: &Mounted, path: &FsPath) -> Result<Found> {
        let ufs = &mounted.ufs;
        let file = mounted.file_key(path)?;
        let prefix = mounted.directory_key(path)?;
        let (head, below) = tokio::join!(ufs.head(&file), first_below(&**ufs, prefix.as_str()));
        let failed = |error| self.ufs_failed(mounted, path, error);
        if let Some(marker) = below.map_err(failed)? {
            return Ok(Found::Directory(marker));
        }
        Ok(head.map_err(failed)?.map_or(Found::Nothing, Found::File))
    }
}

/// Whether anything lies below a prefix, and its marker when that comes first.
async fn first_below(
    ufs: &dyn UnderFileSystem,
    prefix: &str,
) -> arustio_ufs::Result<Option<Option<ObjectVersion>>> {
    let mut pages = ufs.list(ListOptions {
        limit: Some(1),
        ..ListOptions::all(prefix)
    });
    while let Some(page) = pages.next().await {
        let page = page?;
        if let Some(first) = page.entries.into_iter().next() {
            let marker = first.key.as_str() == prefix && first.size == 0;
            return Ok(Some(marker.then_some(first.version)));
        }
        if !page.skipped.is_empty() {
            return Ok(Some(None));
        }
    }
    Ok(None)
}

/// What has to be merged so that the namespace, which knows `known`, says what was
/// found: ranges of one child key each, in order. Empty when it does already.
pub(crate) fn tell(
    name: &str,
    known: Option<&FileStatus>,
    found: &Found,
) -> Vec<(KeyRange, Vec<MergeEntry>)> {
    let (as_file, as_dir) = (only(name), only(&format!("{name}/")));
    let entry = match found {
        Found::Nothing => None,
        Found::File(object) => Some(file_entry(name, object)),
        Found::Directory(marker) => Some(MergeEntry {
            name: name.to_owned(),
            kind: MergeKind::Directory {
                marker: marker.clone(),
            },
        }),
    };
    let mut ranges = Vec::new();
    match (known, found) {
        (Some(status), Found::Nothing | Found::File(_)) if status.is_dir() => {
            ranges.push((as_dir.clone(), Vec::new()));
        }
        (Some(status), Found::Nothing | Found::Directory(_)) if !status.is_dir() => {
            ranges.push((as_file.clone(), Vec::new()));
        }
        _ => {}
    }
    if let Some(entry) = entry
        && !known.is_some_and(|status| agrees(status, &entry))
    {
        let range = match entry.kind {
            MergeKind::File { .. } => as_file,
            MergeKind::Directory { .. } => as_dir,
        };
        ranges.push((range, vec![entry]));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::meta::FileKind;
    use arustio_types::meta::status::{Content, Persistence};
    use arustio_types::{BlockSize, InodeId, LogIndex, Source, Timestamp, UfsKey};
    use arustio_ufs::EntryKind;

    fn known(kind: FileKind, version: &str) -> FileStatus {
        FileStatus {
            path: FsPath::new("/m/a").unwrap(),
            inode: InodeId::new(2),
            kind,
            size: 3,
            modified: Timestamp::default(),
            mode: 0,
            owner: String::new(),
            group: String::new(),
            content: Content::None,
            block_size: BlockSize::DEFAULT,
            source: Some(Source {
                key: UfsKey::new("a"),
                version: ObjectVersion::new(version),
            }),
            persistence: Persistence::Persisted,
            mount: None,
            mount_point: false,
            loaded: false,
            changed_at: LogIndex::new(1),
            checked_at: None,
            freshness: None,
        }
    }

    fn object(version: &str) -> Found {
        Found::File(ObjectEntry {
            key: UfsKey::new("a"),
            kind: EntryKind::Object,
            size: 3,
            modified: Timestamp::default(),
            version: ObjectVersion::new(version),
            write_id: None,
            young: false,
        })
    }

    fn told(known: Option<&FileStatus>, found: &Found) -> Vec<(String, usize)> {
        let ranges = tell("a", known, found).into_iter();
        ranges
            .map(|(range, entries)| (range.from, entries.len()))
            .collect()
    }

    #[test]
    fn l2_only_what_differs_is_told_and_only_of_this_name() {
        let (file, dir) = (known(FileKind::File, "v"), known(FileKind::Directory, "v"));
        let directory = Found::Directory(None);
        assert!(told(None, &Found::Nothing).is_empty());
        assert!(told(Some(&file), &object("v")).is_empty());
        assert!(told(Some(&dir), &directory).is_empty());
        assert_eq!(told(None, &object("v")), [("a".to_owned(), 1)]);
        assert_eq!(told(Some(&file), &object("w")), [("a".to_owned(), 1)]);
        assert_eq!(told(Some(&file), &Found::Nothing), [("a".to_owned(), 0)]);
        assert_eq!(told(Some(&dir), &Found::Nothing), [("a/".to_owned(), 0)]);
        assert_eq!(
            told(Some(&file), &directory),
            [("a".to_owned(), 0), ("a/".to_owned(), 1)]
        );
        assert_eq!(
            told(Some(&dir), &object("v")),
            [("a/".to_owned(), 0), ("a".to_owned(), 1)]
        );
    }
}
