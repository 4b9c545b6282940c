//! Pages of directories, from the records straight into the form in which they travel.
//!
//! A page is read in two passes, the names of the directory and then the records that they
//! lead to, and kept in two buffers meanwhile. What its entries have in common is resolved
//! once, for the directory; only a directory that is a mount point, or whose objects have
//! not followed it yet, is a place of its own.

use std::ops::Range;

use arustio_types::meta::Answer;
use arustio_types::meta::entries::{Entries, Entry, EntrySource, Shared};
use arustio_types::meta::query::{MAX_LISTED, Page};
use arustio_types::meta::setting::PathConf;
use arustio_types::meta::status::{Content, FileKind, FileStatus, Persistence};
use arustio_types::path::InvalidPath;
use arustio_types::{FsPath, InodeId, UfsKey};

use super::query::{View, absent};
use super::resolve::{self, Found, Place};
use super::txn::Read;
use super::{inode, settings};
use crate::engine::record::{
    AttributesView, DentryRecord, DirRecord, FileView, InodeRecord, InodeView, Loaded, Marker,
};
use crate::error::StateMachineError;

/// Answers with a page of a directory.
pub(super) fn page(
    view: &View<'_>,
    path: &FsPath,
    after: Option<&str>,
    limit: usize,
) -> Read<Answer> {
    let place = match resolve::find(&view.txn, path)? {
        Found::Here(place) if place.dir().is_some() => place,
        Found::Missing(missing) => return Ok(absent(view, &missing)),
        Found::Here(file) | Found::Blocked(file) => {
            return Ok(Answer::Refused(resolve::blocked(path, &file)));
        }
    };
    let limit = limit.clamp(1, MAX_LISTED);
    let names = Names::read(view, place.id, after, limit)?;
    let records = Records::read(view, &names)?;
    let dir = Dir::new(view, place)?;
    let mut entries = Entries::with_capacity(dir.shared(), names.rows.len());
    for (at, row) in names.rows.iter().enumerate() {
        let name = names.text.get(row.name.clone()).unwrap_or_default();
        let record = InodeView::decode_stored(records.get(at))?;
        dir.push(&mut entries, name, &row.entry, record)?;
    }
    let last = names.rows.last().filter(|_| names.rows.len() == limit);
    let next = last.and_then(|last| names.text.get(last.name.clone()));
    Ok(Answer::Page(Page {
        entries,
        next: next.map(str::to_owned),
        position: view.applied.position.index,
        dir: dir.status,
    }))
}

/// Names of a directory.
#[derive(Debug, Default)]
struct Names {
    text: String,
    rows: Vec<NameRow>,
}

#[derive(Debug)]
struct NameRow {
    name: Range<usize>,
    entry: DentryRecord,
}

impl Names {
    fn read(view: &View<'_>, dir: InodeId, after: Option<&str>, limit: usize) -> Read<Self> {
        // A name has no NUL, so this is the first name that can follow.
        let start = after.map_or_else(String::new, |name| format!("{name}\0"));
        let mut names = Self::default();
        view.txn.each_name(dir, &start, limit, &mut |name, entry| {
            let from = names.text.len();
            names.text.push_str(name);
            let name = from..names.text.len();
            names.rows.push(NameRow { name, entry });
        })?;
        Ok(names)
    }
}

/// The records that names lead to, as they are stored.
#[derive(Debug)]
struct Records {
    bytes: Vec<u8>,
    at: Vec<Range<usize>>,
}

impl Records {
    fn read(view: &View<'_>, names: &Names) -> Read<Self> {
        let ids: Vec<InodeId> = names.rows.iter().map(|row| row.entry.child).collect();
        let mut records = Self {
            bytes: Vec::new(),
            at: vec![0..0; ids.len()],
        };
        view.txn.each_inode(&ids, &mut |at, value| {
            let from = records.bytes.len();
            records.bytes.extend_from_slice(value);
            if let Some(range) = records.at.get_mut(at) {
                *range = from..records.bytes.len();
            }
            Ok(())
        })?;
        Ok(records)
    }

    /// Of the name at a place of the page.
    fn get(&self, at: usize) -> &[u8] {
        let range = self.at.get(at).cloned();
        range
            .and_then(|range| self.bytes.get(range))
            .unwrap_or_default()
    }
}

/// The directory of a page, and what its entries are measured against.
struct Dir<'v> {
    view: &'v View<'v>,
    place: Place,
    status: FileStatus,
    conf: PathConf,
    /// A name in it may have settings of its own.
    own_settings: bool,
}

impl<'v> Dir<'v> {
    fn new(view: &'v View<'_>, place: Place) -> Read<Self> {
        let conf = settings::effective(&view.txn, &place.path)?;
        Ok(Self {
            own_settings: settings::any_below(&view.txn, &place.path)?,
            status: inode::status(&place, &conf, view.identity.incarnation),
            view,
            place,
            conf,
        })
    }

    fn shared(&self) -> Shared {
        let under = self.place.under.as_ref();
        let prefix = under.map(|under| under.prefix_of_names(&self.place.path));
        let derivation =
            under.map(|under| inode::derivation(under, self.view.identity.incarnation));
        Shared::new(&self.status, prefix.unwrap_or_default(), derivation)
    }

    fn push(
        &self,
        to: &mut Entries,
        name: &str,
        named: &DentryRecord,
        record: InodeView<'_>,
    ) -> Read<()> {
        let of_its_own = match &record {
            InodeView::File(_) => false,
            InodeView::Dir(dir) => dir.mount.is_some() || dir.origin.is_some(),
        };
        if self.own_settings || of_its_own {
            return self.push_place(to, name, named, record.into());
        }
        to.push(&self.entry(name, named, &record)).map_err(no_name)
    }

    /// An entry that shares everything with its directory.
    fn entry<'a>(
        &self,
        name: &'a str,
        named: &DentryRecord,
        record: &'a InodeView<'a>,
    ) -> Entry<'a> {
        let (kind, attributes) = match record {
            InodeView::File(file) => (FileKind::File, file.attributes),
            InodeView::Dir(dir) => (FileKind::Directory, (&dir.attributes).into()),
        };
        let AttributesView {
            mode,
            owner,
            group,
            modified,
        } = attributes;
        let mut entry = Entry {
            name,
            inode: named.child,
            kind,
            size: 0,
            modified,
            mode,
            owner,
            group,
            content: Content::None,
            block_size: self.status.block_size,
            source: None,
            persistence: Persistence::Persisted,
            mount: self.status.mount,
            mount_point: false,
            loaded: false,
            changed_at: named.changed_at,
            checked_at: None,
        };
        match record {
            InodeView::File(file) => self.tell_file(&mut entry, file),
            InodeView::Dir(dir) => self.tell_dir(&mut entry, dir),
        }
        entry
    }

    fn tell_file<'a>(&self, entry: &mut Entry<'a>, file: &FileView<'a>) {
        entry.size = file.size;
        entry.persistence = file.persistence;
        entry.block_size = file.block_size.unwrap_or(entry.block_size);
        if let Some(under) = &self.place.under {
            entry.source = file.version.map(|version| EntrySource {
                key: file.key,
                identity: version.identity,
                version_id: version.version_id,
            });
            let incarnation = self.view.identity.incarnation;
            entry.content =
                inode::content(file.content, file.version.is_some(), under, incarnation);
        }
    }

    fn tell_dir<'a>(&self, entry: &mut Entry<'a>, dir: &'a DirRecord) {
        let under = self.place.under.as_ref();
        // Outside mounts there is nothing to load.
        entry.loaded = under.is_none() || dir.loaded == Loaded::Complete;
        let marker = dir.marker.as_ref().filter(|_| under.is_some());
        entry.source = marker.map(|Marker { version, key }| EntrySource {
            key: key.as_ref().map(UfsKey::as_str),
            identity: version.identity.as_str(),
            version_id: version.version_id.as_deref(),
        });
    }

    /// An entry that is told by itself.
    fn push_place(
        &self,
        to: &mut Entries,
        name: &str,
        named: &DentryRecord,
        record: InodeRecord,
    ) -> Read<()> {
        let txn = &self.view.txn;
        let place = resolve::entered(txn, &self.place, name, named, record)?;
        let conf = match self.own_settings {
            true => settings::own(txn, &place.path)?.over(&self.conf),
            false => self.conf.clone(),
        };
        let status = inode::status(&place, &conf, self.view.identity.incarnation);
        let entry = Entry::of(&status, to.shared());
        to.push(&entry).map_err(no_name)
    }
}

fn no_name(error: InvalidPath) -> StateMachineError {
    StateMachineError::Corrupt {
        what: "a name of a directory",
        detail: error.to_string(),
    }
}
