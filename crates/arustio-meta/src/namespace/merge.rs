//! What a UFS said about a key range comes into the namespace (L1, L2, U3).
//!
//! A merge says what a request saw that began at position `seen`. It is believed where
//! nothing changed since: a name that changed later, a directory where something was
//! removed later, and whatever lies under an intent or a pending effect are left alone
//! and reported, to be looked at one by one. Names are removed only in the range that was
//! listed completely. What is as it was costs no write.
//!
//! Ranges are in key order, where a directory is `name/`: `a.txt` comes before `a/`.

use std::collections::BTreeMap;

use arustio_types::meta::FileKind;
use arustio_types::meta::command::{Outcome, Refusal};
use arustio_types::meta::merge::{KeyRange, MAX_MERGE, Merge, MergeEntry, MergeKind, MergeReport};
use arustio_types::path::name_fault;
use arustio_types::{ErrorKind, FsPath, LogIndex, ObjectVersion, Timestamp};

use super::inode::child_key;
use super::resolve::{self, Found, Place, Under};
use super::txn::{Context, Read, Step, Txn};
use super::{dentry, inode, owed, tree};
use crate::engine::record::{DentryRecord, DirRecord, InodeRecord, Loaded, Marker};
use crate::mutation::Mutation;

/// Names of the namespace that one merge looks at; what lies behind stays as it is, and
/// the directory is not complete.
const MAX_LOOKED_AT: usize = 10_000;
/// Names below a directory that is gone from the UFS which are looked at before it goes
/// here too; a larger one is emptied by listings of its own first.
const MAX_FORGOTTEN: u64 = 10_000;

/// What the UFS has under one name.
#[derive(Debug, Clone, Default)]
struct Listed {
    file: Option<ListedFile>,
    /// The marker's version, where one was seen.
    dir: Option<Option<ObjectVersion>>,
}

#[derive(Debug, Clone)]
struct ListedFile {
    size: u64,
    version: ObjectVersion,
    modified: Timestamp,
}

/// A merge at work.
struct Work<'m> {
    dir: Place,
    under: Under,
    seen: LogIndex,
    range: KeyRange,
    /// Something is announced or owed somewhere in the directory.
    guarded: bool,
    /// Something was removed from the directory after the look.
    removed_later: bool,
    report: MergeReport,
    ctx: &'m Context,
}

/// Brings a listing into the namespace.
pub(crate) fn merge(txn: &mut Txn<'_>, ctx: &Context, asked: &Merge) -> Step<Outcome> {
    check(asked)?;
    let Some((dir, under)) = still_there(txn, asked)? else {
        let moved_on = MergeReport {
            moved_on: true,
            ..MergeReport::default()
        };
        return Ok(Outcome::Merged(moved_on));
    };
    let (known, range) = known_in(txn, &dir, &asked.range)?;
    let mut listed = listed(&asked.entries, &range);
    let seen = match ctx.rules.has(Mutation::MergeWithoutIndexes) {
        true => LogIndex::new(u64::MAX),
        false => asked.seen,
    };
    let removed_at = dir
        .dir()
        .map_or(LogIndex::new(0), |dir| dir.last_removed_at);
    let mut work = Work {
        guarded: owed::guards(txn, &under, &dir.path)?,
        removed_later: removed_at > seen,
        dir,
        under,
        seen,
        range,
        report: MergeReport::default(),
        ctx,
    };
    for (name, entry) in known {
        let found = listed.remove(&name).unwrap_or_default();
        work.known(txn, &name, entry, found)?;
    }
    for (name, found) in listed {
        work.unknown(txn, &name, found)?;
    }
    work.loaded(txn)?;
    Ok(Outcome::Merged(work.report))
}

fn check(asked: &Merge) -> Step<()> {
    let refuse = |message: String| Refusal::on(ErrorKind::InvalidArgument, &asked.dir, message);
    if asked.entries.len() > MAX_MERGE {
        let message = format!("a merge has at most {MAX_MERGE} names; send pages");
        return Err(refuse(message).into());
    }
    for entry in &asked.entries {
        if !asked.range.contains(&entry_key(entry)) {
            let message = format!("{:?} lies outside the range of its merge", entry.name);
            return Err(refuse(message).into());
        }
    }
    Ok(())
}

fn entry_key(entry: &MergeEntry) -> String {
    let kind = match entry.kind {
        MergeKind::File { .. } => FileKind::File,
        MergeKind::Directory { .. } => FileKind::Directory,
    };
    child_key(&entry.name, kind)
}

/// The directory, if it is still the one that was listed.
fn still_there(txn: &Txn<'_>, asked: &Merge) -> Read<Option<(Place, Under)>> {
    let Found::Here(place) = resolve::find(txn, &asked.dir)? else {
        return Ok(None);
    };
    let Some(under) = place.under.clone() else {
        return Ok(None);
    };
    let same = place.id == asked.dir_inode && under.id() == asked.mount && place.dir().is_some();
    Ok(same.then_some((place, under)))
}

/// The names of the namespace whose child keys lie in the range, and the part of the
/// range that they cover.
fn known_in(
    txn: &Txn<'_>,
    dir: &Place,
    range: &KeyRange,
) -> Read<(BTreeMap<String, DentryRecord>, KeyRange)> {
    let mut known = BTreeMap::new();
    let mut covered = range.clone();
    // A directory `a` has the key `a/`, which may lie in a range that begins after `a`.
    for (end, _) in range.from.char_indices().skip(1) {
        let name = &range.from[..end];
        if let Some(entry) = txn.dentry(dir.id, name)? {
            known.insert(name.to_owned(), entry);
        }
    }
    let names = txn.names(dir.id, &range.from, MAX_LOOKED_AT + 1)?;
    for (at, (name, entry)) in names.into_iter().enumerate() {
        if range.to.as_ref().is_some_and(|to| name >= *to) {
            break;
        }
        if at == MAX_LOOKED_AT {
            covered.to = Some(name);
            break;
        }
        known.insert(name, entry);
    }
    known.retain(|name, entry| covered.contains(&child_key(name, entry.kind)));
    Ok((known, covered))
}

/// What was listed, by name: a file and a directory of one name are two keys.
fn listed(entries: &[MergeEntry], range: &KeyRange) -> BTreeMap<String, Listed> {
    let mut found: BTreeMap<String, Listed> = BTreeMap::new();
    for entry in entries {
        // What cannot be a name is the client's to report (U3); here it is nobody's.
        if name_fault(&entry.name).is_some() || !range.contains(&entry_key(entry)) {
            continue;
        }
        let slot = found.entry(entry.name.clone()).or_default();
        match &entry.kind {
            MergeKind::File {
                size,
                version,
                modified,
                write_id: _,
            } => {
                slot.file = Some(ListedFile {
                    size: *size,
                    version: version.clone(),
                    modified: *modified,
                });
            }
            MergeKind::Directory { marker } => slot.dir = Some(marker.clone()),
        }
    }
    found
}

impl Work<'_> {
    fn path(&self, name: &str) -> Read<FsPath> {
        resolve::path_in(&self.dir.path, name)
    }

    fn skip(&mut self, name: &str) {
        self.report.skipped.push(name.to_owned());
    }

    /// Whether a name may be changed on the word of this listing.
    fn believed(&self, txn: &Txn<'_>, name: &str, changed_at: LogIndex) -> Read<bool> {
        if changed_at > self.seen {
            return Ok(false);
        }
        if !self.guarded {
            return Ok(true);
        }
        Ok(owed::on_name(txn, &self.under, &self.path(name)?)?.is_none())
    }

    /// A name that the namespace has, in the range.
    fn known(
        &mut self,
        txn: &mut Txn<'_>,
        name: &str,
        entry: DentryRecord,
        found: Listed,
    ) -> Read<()> {
        match entry.kind {
            FileKind::File => self.known_file(txn, name, entry, found),
            FileKind::Directory => self.known_dir(txn, name, entry, found),
        }
    }

    fn known_file(
        &mut self,
        txn: &mut Txn<'_>,
        name: &str,
        entry: DentryRecord,
        found: Listed,
    ) -> Read<()> {
        let InodeRecord::File(mut file) = txn.named_inode(entry.child)? else {
            return Ok(());
        };
        let listed = match (&found.dir, found.file) {
            // The directory wins over the file of the same name (U3).
            (Some(_), _) => None,
            (None, file) => file,
        };
        if let Some(listed) = &listed
            && file.version.as_ref() == Some(&listed.version)
            && file.key.is_none()
        {
            return Ok(());
        }
        if !self.believed(txn, name, entry.changed_at)? {
            self.skip(name);
            return Ok(());
        }
        let Some(listed) = listed else {
            return self.replace_or_remove(txn, name, entry, found.dir);
        };
        file.attributes.modified = listed.modified;
        let file = inode::persisted(file.attributes, listed.size, listed.version);
        let inode = InodeRecord::File(file);
        dentry::link(txn, self.dir.id, name, entry.child, &inode, self.ctx.at)?;
        self.report.changed += 1;
        Ok(())
    }

    fn replace_or_remove(
        &mut self,
        txn: &mut Txn<'_>,
        name: &str,
        entry: DentryRecord,
        dir: Option<Option<ObjectVersion>>,
    ) -> Read<()> {
        dentry::unlink(txn, self.dir.id, name, self.ctx.at)?;
        txn.delete_inode(entry.child);
        match dir {
            Some(marker) => {
                self.add_dir(txn, name, marker)?;
                self.report.changed += 1;
            }
            None => self.report.removed += 1,
        }
        Ok(())
    }

    fn known_dir(
        &mut self,
        txn: &mut Txn<'_>,
        name: &str,
        entry: DentryRecord,
        found: Listed,
    ) -> Read<()> {
        match found.dir {
            Some(marker) => self.refresh_marker(txn, name, entry, marker),
            None => {
                if self.forget_dir(txn, name, entry)?
                    && let Some(file) = found.file
                {
                    self.add_file(txn, name, file)?;
                }
                Ok(())
            }
        }
    }

    /// A marker's version that was not known; where none was listed, none was looked for.
    fn refresh_marker(
        &mut self,
        txn: &mut Txn<'_>,
        name: &str,
        entry: DentryRecord,
        marker: Option<ObjectVersion>,
    ) -> Read<()> {
        let Some(version) = marker else { return Ok(()) };
        let mut record = dentry::dir_record(txn, entry.child)?;
        let known = record.marker.as_ref();
        if known.is_some_and(|known| known.version == version && known.key.is_none()) {
            return Ok(());
        }
        if !self.believed(txn, name, entry.changed_at)? {
            self.skip(name);
            return Ok(());
        }
        record.marker = Some(Marker { version, key: None });
        let inode = InodeRecord::Dir(record);
        dentry::link(txn, self.dir.id, name, entry.child, &inode, self.ctx.at)?;
        self.report.changed += 1;
        Ok(())
    }

    /// A directory that the UFS no longer has. It goes only if nothing in it changed
    /// after the look; says whether it went.
    fn forget_dir(&mut self, txn: &mut Txn<'_>, name: &str, entry: DentryRecord) -> Read<bool> {
        let path = self.path(name)?;
        if holds_mount(txn, &path)? {
            return Ok(false);
        }
        let believed = self.believed(txn, name, entry.changed_at)?;
        if !believed || (self.guarded && owed::below(txn, &self.under, &path)?.is_some()) {
            self.skip(name);
            return Ok(false);
        }
        let survey = tree::survey(txn, entry.child, &path, MAX_FORGOTTEN)?;
        if survey.newest > self.seen || !survey.complete {
            self.skip(name);
            return Ok(false);
        }
        dentry::unlink(txn, self.dir.id, name, self.ctx.at)?;
        tree::discard(txn, entry.child);
        self.report.removed += 1;
        Ok(true)
    }

    /// A name that the namespace does not have, or has as the other kind outside the
    /// range.
    fn unknown(&mut self, txn: &mut Txn<'_>, name: &str, found: Listed) -> Read<()> {
        if let Some(entry) = txn.dentry(self.dir.id, name)? {
            // Already handled, or its key lies outside the range: a directory whose file
            // was listed stays (U3), a file whose directory was listed gives way.
            return match (entry.kind, found.dir.is_some()) {
                (FileKind::File, true) => self.known_file(txn, name, entry, found),
                _ => Ok(()),
            };
        }
        let not_before = LogIndex::new(0);
        if self.removed_later || !self.believed(txn, name, not_before)? {
            self.skip(name);
            return Ok(());
        }
        match (found.dir, found.file) {
            (Some(marker), _) => self.add_dir(txn, name, marker)?,
            (None, Some(file)) => self.add_file(txn, name, file)?,
            (None, None) => return Ok(()),
        }
        self.report.added += 1;
        Ok(())
    }

    fn add_dir(
        &mut self,
        txn: &mut Txn<'_>,
        name: &str,
        marker: Option<ObjectVersion>,
    ) -> Read<()> {
        let attributes = inode::found(self.ctx.now, inode::DIR_MODE);
        let record = DirRecord {
            marker: marker.map(|version| Marker { version, key: None }),
            ..inode::new_dir(attributes, self.ctx.at, Loaded::None)
        };
        let id = txn.next_inode()?;
        let inode = InodeRecord::Dir(record);
        dentry::link(txn, self.dir.id, name, id, &inode, self.ctx.at)
    }

    fn add_file(&mut self, txn: &mut Txn<'_>, name: &str, file: ListedFile) -> Read<()> {
        let attributes = inode::found(file.modified, inode::FILE_MODE);
        let record = inode::persisted(attributes, file.size, file.version);
        let id = txn.next_inode()?;
        let inode = InodeRecord::File(record);
        dentry::link(txn, self.dir.id, name, id, &inode, self.ctx.at)
    }

    /// Extends what of the directory is loaded.
    fn loaded(&mut self, txn: &mut Txn<'_>) -> Read<()> {
        let mut dir = dentry::dir_record(txn, self.dir.id)?;
        let loaded = extend(&dir.loaded, &self.range);
        if loaded != dir.loaded {
            dir.loaded = loaded;
            txn.put_inode(self.dir.id, &InodeRecord::Dir(dir));
        }
        Ok(())
    }
}

fn extend(loaded: &Loaded, range: &KeyRange) -> Loaded {
    let reached = match loaded {
        Loaded::Complete => return Loaded::Complete,
        Loaded::Below(bound) => bound.as_str(),
        Loaded::None => "",
    };
    if range.from.as_str() > reached {
        return loaded.clone();
    }
    match &range.to {
        None => Loaded::Complete,
        Some(to) if to.as_str() > reached => Loaded::Below(to.clone()),
        Some(_) => loaded.clone(),
    }
}

fn holds_mount(txn: &Txn<'_>, path: &FsPath) -> Read<bool> {
    let mounts = txn.mounts()?;
    Ok(mounts.iter().any(|mount| mount.spec.path.starts_with(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &str, to: Option<&str>) -> KeyRange {
        KeyRange {
            from: from.to_owned(),
            to: to.map(str::to_owned),
        }
    }

    #[test]
    fn l1_only_adjoining_ranges_extend_what_is_loaded() {
        let none = Loaded::None;
        assert_eq!(extend(&none, &KeyRange::all()), Loaded::Complete);
        let first = extend(&none, &range("", Some("m")));
        assert_eq!(first, Loaded::Below("m".to_owned()));
        assert_eq!(extend(&first, &range("p", None)), first);
        assert_eq!(extend(&first, &range("a", Some("b"))), first);
        assert_eq!(extend(&first, &range("m", None)), Loaded::Complete);
        assert_eq!(
            extend(&Loaded::Complete, &range("", Some("a"))),
            Loaded::Complete
        );
    }
}
