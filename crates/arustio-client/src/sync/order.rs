//! Key order against name order, and what one page of a listing says (L1). Pure.
//!
//! A store orders the children of a directory by key, where a file is `name` and a
//! directory is `name/`: `a.txt` comes before `a/`. The namespace orders them by name:
//! `a` before `a.txt`. A page is complete for a range of *keys*; a name may be shown
//! only when both its keys lie below the bound.

use std::collections::{BTreeMap, HashSet};

use arustio_types::meta::FileStatus;
use arustio_types::meta::merge::{KeyRange, MAX_MERGE, MergeEntry, MergeKind};
use arustio_types::{ErrorKind, ObjectVersion, UfsKey};
use arustio_ufs::key::{Child, child};
use arustio_ufs::{ListPage, ObjectEntry};

use crate::error::{FsError, Result};

/// What one page says about a directory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slice {
    /// Complete for these child keys.
    pub(crate) range: KeyRange,
    /// In key order, each name once.
    pub(crate) entries: Vec<MergeEntry>,
    /// Keys that cannot be a name.
    pub(crate) unusable: u64,
    /// The marker of the listed directory, where the page has it.
    pub(crate) marker: Option<ObjectVersion>,
}

/// Turns a page of the listing of `prefix` that continues at `from` into a slice.
pub(crate) fn slice(prefix: &UfsKey, from: String, page: ListPage) -> Result<Slice> {
    let to = page
        .next
        .as_ref()
        .map(|next| bound(prefix, next))
        .transpose()?;
    let mut slice = Slice {
        range: KeyRange { from, to },
        entries: Vec::with_capacity(page.names()),
        unusable: page.skipped.len() as u64,
        marker: None,
    };
    let mut directories = HashSet::new();
    for common in &page.common_prefixes {
        match child(prefix, common, 0) {
            Ok(Child::Directory(name)) => {
                directories.insert(name.to_owned());
            }
            _ => slice.unusable += 1,
        }
    }
    for entry in &page.entries {
        match child(prefix, &entry.key, entry.size) {
            Ok(Child::Itself) => slice.marker = Some(entry.version.clone()),
            Ok(Child::Directory(name)) => {
                directories.insert(name.to_owned());
            }
            // The directory wins over the file of the same name (U3).
            Ok(Child::File(name)) if directories.contains(name) => slice.unusable += 1,
            Ok(Child::File(name)) => slice.entries.push(file_entry(name, entry)),
            Err(_) => slice.unusable += 1,
        }
    }
    let directory = |name| MergeEntry {
        name,
        kind: MergeKind::Directory { marker: None },
    };
    slice.entries.extend(directories.into_iter().map(directory));
    slice.entries.sort_by_cached_key(child_key);
    // A store that lists outside its own bounds would make us forget names.
    slice
        .entries
        .retain(|entry| slice.range.contains(&child_key(entry)));
    Ok(slice)
}

/// A file as an entry of a merge.
pub(crate) fn file_entry(name: &str, entry: &ObjectEntry) -> MergeEntry {
    MergeEntry {
        name: name.to_owned(),
        kind: MergeKind::File {
            size: entry.size,
            version: entry.version.clone(),
            modified: entry.modified,
            write_id: entry.write_id,
        },
    }
}

/// The key of an entry below its directory.
pub(crate) fn child_key(entry: &MergeEntry) -> String {
    match entry.kind {
        MergeKind::File { .. } => entry.name.clone(),
        MergeKind::Directory { .. } => format!("{}/", entry.name),
    }
}

/// The range that holds exactly one child key.
pub(crate) fn only(child_key: &str) -> KeyRange {
    KeyRange {
        from: child_key.to_owned(),
        to: Some(format!("{child_key}\0")),
    }
}

/// Exclusive end of a page whose last name is `next`.
fn bound(prefix: &UfsKey, next: &UfsKey) -> Result<String> {
    match next.as_str().strip_prefix(prefix.as_str()) {
        Some(rest) => Ok(format!("{rest}\0")),
        None => Err(FsError::new(
            ErrorKind::Unavailable,
            format!("the store listed {next:?} outside the prefix {prefix:?} that was asked for"),
        )),
    }
}

/// Cuts a slice into merges of a bounded size, each complete for its own range.
pub(crate) fn cut(slice: Slice) -> Vec<(KeyRange, Vec<MergeEntry>)> {
    let mut parts = Vec::new();
    let mut from = slice.range.from;
    let mut rest = slice.entries;
    while rest.len() > MAX_MERGE {
        let tail = rest.split_off(MAX_MERGE);
        let to = rest.last().map(|last| format!("{}\0", child_key(last)));
        let range = KeyRange {
            from: std::mem::replace(&mut from, to.clone().unwrap_or_default()),
            to,
        };
        parts.push((range, std::mem::replace(&mut rest, tail)));
    }
    let range = KeyRange {
        from,
        to: slice.range.to,
    };
    parts.push((range, rest));
    parts
}

/// Names strictly below the answer are settled when all child keys below `bound` are:
/// the name itself and the name as a directory.
pub(crate) fn settled_below(bound: &str) -> &str {
    for (at, _) in bound.char_indices().skip(1) {
        let name = &bound[..at];
        if format!("{name}/").as_str() >= bound {
            return name;
        }
    }
    bound
}

/// What the namespace knows of a directory's names, pulled in as far as needed.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<String, FileStatus>);

impl Known {
    /// Adds entries of a page of the namespace.
    pub(crate) fn extend(&mut self, entries: impl IntoIterator<Item = FileStatus>) {
        for status in entries {
            let Some(name) = status.path.name() else {
                continue;
            };
            let slash = if status.is_dir() { "/" } else { "" };
            self.0.insert(format!("{name}{slash}"), status);
        }
    }

    /// Takes out everything below the end of the range and says whether a slice of that
    /// range tells something else.
    pub(crate) fn differs(&mut self, slice: &Slice) -> bool {
        let known = match &slice.range.to {
            Some(to) => {
                let later = self.0.split_off(to);
                std::mem::replace(&mut self.0, later)
            }
            None => std::mem::take(&mut self.0),
        };
        known.len() != slice.entries.len()
            || !slice.entries.iter().all(|entry| {
                known
                    .get(&child_key(entry))
                    .is_some_and(|status| agrees(status, entry))
            })
    }
}

/// Whether the namespace says of a name what the store says.
pub(crate) fn agrees(status: &FileStatus, entry: &MergeEntry) -> bool {
    match &entry.kind {
        MergeKind::Directory { marker } => {
            status.is_dir()
                && marker.as_ref().is_none_or(|marker| {
                    status.source.as_ref().map(|source| &source.version) == Some(marker)
                })
        }
        MergeKind::File { version, size, .. } => {
            !status.is_dir()
                && status.size == *size
                && status.source.as_ref().map(|source| &source.version) == Some(version)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::Timestamp;
    use arustio_ufs::EntryKind;
    use proptest::prelude::*;

    fn object(key: &str, size: u64) -> ObjectEntry {
        ObjectEntry {
            key: UfsKey::new(key),
            kind: EntryKind::Object,
            size,
            modified: Timestamp::default(),
            version: ObjectVersion::new("v"),
            write_id: None,
            young: false,
        }
    }

    #[test]
    fn l1_a_page_is_a_range_of_keys_and_hostile_ones_break_nobody() {
        let page = ListPage {
            entries: vec![
                object("d/", 0),
                object("d/a", 3),
                object("d/a.txt", 1),
                object("d/..", 1),
            ],
            common_prefixes: vec![UfsKey::new("d/a/"), UfsKey::new("d//")],
            skipped: Vec::new(),
            next: Some(UfsKey::new("d/a/")),
        };
        let slice = slice(&UfsKey::new("d/"), String::new(), page).unwrap();
        let keys: Vec<String> = slice.entries.iter().map(child_key).collect();
        assert_eq!(keys, ["a.txt", "a/"]);
        assert_eq!(slice.unusable, 3);
        assert!(slice.marker.is_some());
        assert_eq!(slice.range.to.as_deref(), Some("a/\0"));
    }

    #[test]
    fn l1_large_pages_are_cut_into_ranges_that_touch() {
        let entry = |n| MergeEntry {
            name: format!("{n:05}"),
            kind: MergeKind::Directory { marker: None },
        };
        let slice = Slice {
            range: KeyRange::all(),
            entries: (0..2_500).map(entry).collect(),
            unusable: 0,
            marker: None,
        };
        let parts = cut(slice);
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0].0.from, "");
        assert_eq!(parts[0].0.to.as_deref(), Some(parts[1].0.from.as_str()));
        assert_eq!(parts[1].0.to.as_deref(), Some(parts[2].0.from.as_str()));
        assert_eq!(parts[2].0.to, None);
        assert!(parts.iter().all(|(range, entries)| {
            entries
                .iter()
                .all(|entry| range.contains(&child_key(entry)))
        }));
    }

    proptest! {
        #[test]
        fn n5_names_below_the_settled_bound_have_both_keys_below_the_page(
            bound in "[!-0a]{1,6}", name in "[!-.0a]{1,6}"
        ) {
            let settled = settled_below(&bound);
            if name.as_str() < settled {
                prop_assert!(name < bound);
                prop_assert!(format!("{name}/") < bound, "{name} {bound} {settled}");
            }
        }
    }
}
