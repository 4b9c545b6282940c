//! What a record means: sources, content ids, statuses.

use arustio_types::meta::command::{AttributeChange, Outcome, Refusal};
use arustio_types::meta::setting::PathConf;
use arustio_types::meta::status::{Content, Derivation, Persistence};
use arustio_types::meta::{FileKind, FileStatus};
use arustio_types::{
    ContentId, ErrorKind, FsPath, Incarnation, LogIndex, ObjectVersion, Source, Timestamp,
};

use super::permission;
use super::resolve::{self, Place, Under};
use super::txn::{Context, Step, Txn};
use crate::engine::record::{Attributes, DirRecord, Direct, FileRecord, InodeRecord, Loaded};

/// Permission bits of a file of which nothing else is known.
pub(crate) const FILE_MODE: u32 = 0o644;
/// Permission bits of a directory of which nothing else is known.
pub(crate) const DIR_MODE: u32 = 0o755;

/// Attributes of something that a user makes.
pub(crate) fn made_by(ctx: &Context, mode: u32) -> Attributes {
    Attributes {
        mode,
        owner: ctx.user.clone(),
        group: ctx.group.clone(),
        modified: ctx.now,
    }
}

/// Attributes of something that was found in a UFS.
pub(crate) fn found(modified: Timestamp, mode: u32) -> Attributes {
    Attributes {
        mode,
        owner: String::new(),
        group: String::new(),
        modified,
    }
}

/// A directory that is born now: nothing can have been removed from it before (F2).
pub(crate) fn new_dir(attributes: Attributes, at: LogIndex, loaded: Loaded) -> DirRecord {
    DirRecord {
        attributes,
        children: 0,
        loaded,
        last_removed_at: at,
        origin: None,
        marker: None,
        mount: None,
        direct: Some(Direct::default()),
    }
}

/// A file as a UFS has it.
pub(crate) fn persisted(attributes: Attributes, size: u64, version: ObjectVersion) -> FileRecord {
    FileRecord {
        attributes,
        size,
        version: Some(version),
        key: None,
        content: None,
        block_size: None,
        persistence: Persistence::Persisted,
    }
}

/// Where a file's bytes are.
pub(crate) fn source_of(file: &FileRecord, path: &FsPath, under: &Under) -> Option<Source> {
    let version = file.version.clone()?;
    let key = file.key.clone().unwrap_or_else(|| under.file_at(path));
    Some(Source { key, version })
}

/// Where a directory's marker is.
pub(crate) fn marker_of(dir: &DirRecord, path: &FsPath, under: &Under) -> Option<Source> {
    let marker = dir.marker.as_ref()?;
    Some(Source {
        key: marker.key.clone().unwrap_or_else(|| under.marker_at(path)),
        version: marker.version.clone(),
    })
}

/// How the content of a file is told: it follows from the source, if there is one, unless
/// a writer named it.
pub(crate) fn content(
    named: Option<ContentId>,
    has_source: bool,
    under: &Under,
    incarnation: Incarnation,
) -> Content {
    match named {
        Some(named) => Content::Named(named),
        None if has_source => Content::Derived(derivation(under, incarnation)),
        None => Content::None,
    }
}

/// What content ids in a mount follow from.
pub(crate) fn derivation(under: &Under, incarnation: Incarnation) -> Derivation {
    Derivation {
        incarnation,
        generation: under.entry.generation,
    }
}

/// The content id of a file.
pub(crate) fn content_of(
    file: &FileRecord,
    path: &FsPath,
    under: &Under,
    incarnation: Incarnation,
) -> Option<ContentId> {
    if file.content.is_some() {
        return file.content;
    }
    let source = source_of(file, path, under)?;
    Some(ContentId::derived(
        incarnation,
        under.id(),
        under.entry.generation,
        &source.key,
        &source.version.identity,
        file.size,
    ))
}

/// What is told about a place.
pub(crate) fn status(place: &Place, conf: &PathConf, incarnation: Incarnation) -> FileStatus {
    let under = place.under.as_ref();
    let mut status = FileStatus {
        path: place.path.clone(),
        inode: place.id,
        kind: place.inode.kind(),
        size: 0,
        modified: Timestamp::default(),
        mode: 0,
        owner: String::new(),
        group: String::new(),
        content: Content::None,
        block_size: conf.effective_block_size(),
        source: None,
        persistence: Persistence::Persisted,
        mount: under.map(Under::id),
        mount_point: place.is_mount_point(),
        loaded: false,
        changed_at: place.changed_at,
        checked_at: None,
        freshness: None,
    };
    let attributes = match &place.inode {
        InodeRecord::File(file) => {
            status.size = file.size;
            status.persistence = file.persistence;
            status.block_size = file.block_size.unwrap_or(status.block_size);
            status.source = under.and_then(|under| source_of(file, &place.path, under));
            status.content = under.map_or(Content::None, |under| {
                content(file.content, file.version.is_some(), under, incarnation)
            });
            &file.attributes
        }
        InodeRecord::Dir(dir) => {
            // Outside mounts there is nothing to load.
            status.loaded = under.is_none() || dir.loaded == Loaded::Complete;
            status.source = under.and_then(|under| marker_of(dir, &place.path, under));
            &dir.attributes
        }
    };
    status.modified = attributes.modified;
    status.mode = attributes.mode;
    status.owner.clone_from(&attributes.owner);
    status.group.clone_from(&attributes.group);
    status
}

/// The child key of a name in a listing: a directory has a `/` at its end (L1).
pub(crate) fn child_key(name: &str, kind: FileKind) -> String {
    match kind {
        FileKind::File => name.to_owned(),
        FileKind::Directory => format!("{name}/"),
    }
}

/// Longest name of an owner or group.
const MAX_PRINCIPAL: usize = 255;

/// Changes what is not derived from the UFS. No listing can undo it, so it is no change
/// of the name (L2).
pub(crate) fn set_attributes(
    txn: &mut Txn<'_>,
    path: &FsPath,
    change: &AttributeChange,
) -> Step<Outcome> {
    let place = resolve::lookup(txn, path)?
        .map_err(|_| Refusal::on(ErrorKind::NotFound, path, "no such file or directory"))?;
    if let Some(under) = &place.under {
        permission::writable(under, path)?;
    }
    let mut inode = place.inode;
    let attributes = inode.attributes_mut();
    if let Some(mode) = change.mode {
        permission::valid_mode(mode, path)?;
        attributes.mode = mode;
    }
    for (name, slot) in [
        (&change.owner, &mut attributes.owner),
        (&change.group, &mut attributes.group),
    ] {
        let Some(name) = name else { continue };
        if name.len() > MAX_PRINCIPAL {
            let message = "an owner or group has at most 255 bytes";
            return Err(Refusal::on(ErrorKind::InvalidArgument, path, message).into());
        }
        slot.clone_from(name);
    }
    attributes.modified = change.modified.unwrap_or(attributes.modified);
    txn.put_inode(place.id, &inode);
    Ok(Outcome::Done)
}
