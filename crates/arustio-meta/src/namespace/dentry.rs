//! Names: adding, removing, and the two positions that keep stale listings out (L2).
//!
//! Every name stores the log index of its last change and every directory that of its
//! last removal. A merge that was read before either is not believed. Ending an effect,
//! changing a source and clearing an intent count as both, on every name they cover:
//! what a listing saw meanwhile may have been on its way out.
//!
//! A directory also counts its own names and adds up their bytes, in the record that every
//! change of a name writes anyway; nothing above it is touched (see the ADR "Directories
//! count their own names").

use arustio_types::{FsPath, InodeId, LogIndex, UfsKey};

use super::resolve::{self, Found, Place, Under};
use super::txn::{Read, Txn};
use crate::engine::Family;
use crate::engine::key;
use crate::engine::record::{DentryRecord, DirRecord, Direct, InodeRecord};
use crate::error::StateMachineError;

/// The record of a directory.
pub(crate) fn dir_record(txn: &Txn<'_>, id: InodeId) -> Read<DirRecord> {
    match txn.named_inode(id)? {
        InodeRecord::Dir(dir) => Ok(dir),
        InodeRecord::File(_) => Err(StateMachineError::Corrupt {
            what: "an inode",
            detail: format!("inode {id} has names in it and is a file"),
        }),
    }
}

/// Gives an inode a name, new or instead of another, and stores the inode.
pub(crate) fn link(
    txn: &mut Txn<'_>,
    parent: InodeId,
    name: &str,
    child: InodeId,
    inode: &InodeRecord,
    at: LogIndex,
) -> Read<()> {
    // What stands there may be the same inode as it was before.
    let before = share_of_name(txn, parent, name)?;
    txn.put_inode(child, inode);
    link_instead(txn, parent, name, child, inode, before, at)
}

/// Gives an inode a name; its record is as it should be.
pub(crate) fn link_existing(
    txn: &mut Txn<'_>,
    parent: InodeId,
    name: &str,
    child: InodeId,
    inode: &InodeRecord,
    at: LogIndex,
) -> Read<()> {
    let before = share_of_name(txn, parent, name)?;
    link_instead(txn, parent, name, child, inode, before, at)
}

fn link_instead(
    txn: &mut Txn<'_>,
    parent: InodeId,
    name: &str,
    child: InodeId,
    inode: &InodeRecord,
    before: Option<Direct>,
    at: LogIndex,
) -> Read<()> {
    let share = Direct::of(inode);
    if before != Some(share) {
        let mut dir = dir_record(txn, parent)?;
        count(&mut dir, before, Some(share));
        txn.put_inode(parent, &InodeRecord::Dir(dir));
    }
    let entry = DentryRecord {
        child,
        kind: inode.kind(),
        changed_at: at,
    };
    txn.put_dentry(parent, name, &entry);
    Ok(())
}

/// What a name adds to its directory; `None` where there is no such name.
fn share_of_name(txn: &Txn<'_>, parent: InodeId, name: &str) -> Read<Option<Direct>> {
    match txn.dentry(parent, name)? {
        Some(entry) => Ok(Some(Direct::of(&txn.named_inode(entry.child)?))),
        None => Ok(None),
    }
}

/// Counts one name of a directory as what it is now instead of what it was.
fn count(dir: &mut DirRecord, before: Option<Direct>, after: Option<Direct>) {
    if dir.children == 0 {
        // Nothing was missed by whoever did not count.
        dir.direct = Some(Direct::default());
    }
    if let Some(before) = before {
        dir.children = dir.children.saturating_sub(1);
        dir.direct.iter_mut().for_each(|sum| sum.remove(before));
    }
    if let Some(after) = after {
        dir.children += 1;
        dir.direct.iter_mut().for_each(|sum| sum.add(after));
    }
}

/// Takes a name away and leaves the inode alone; counts as a removal.
pub(crate) fn unlink(txn: &mut Txn<'_>, parent: InodeId, name: &str, at: LogIndex) -> Read<()> {
    let Some(before) = share_of_name(txn, parent, name)? else {
        return Ok(());
    };
    txn.delete(Family::Dentries, key::dentry(parent, name));
    let mut dir = dir_record(txn, parent)?;
    count(&mut dir, Some(before), None);
    dir.last_removed_at = at;
    txn.put_inode(parent, &InodeRecord::Dir(dir));
    Ok(())
}

/// Takes a place's name away.
pub(crate) fn unlink_place(txn: &mut Txn<'_>, place: &Place, at: LogIndex) -> Read<()> {
    match (place.parent, place.path.name()) {
        (Some(parent), Some(name)) => unlink(txn, parent, name, at),
        _ => Ok(()),
    }
}

/// Marks a key as changed now: its name if there is one, and a removal in the deepest
/// directory above it that there is (F1).
pub(crate) fn touch(txn: &mut Txn<'_>, under: &Under, key: &UfsKey, at: LogIndex) -> Read<()> {
    match under.path_of(key) {
        Some(path) => touch_path(txn, &path, at),
        None => Ok(()),
    }
}

/// As [`touch`], by path.
pub(crate) fn touch_path(txn: &mut Txn<'_>, path: &FsPath, at: LogIndex) -> Read<()> {
    match resolve::find(txn, path)? {
        Found::Here(place) => {
            if let (Some(parent), Some(name)) = (place.parent, path.name()) {
                let entry = DentryRecord {
                    child: place.id,
                    kind: place.inode.kind(),
                    changed_at: at,
                };
                txn.put_dentry(parent, name, &entry);
                mark_removal(txn, parent, at)?;
            }
        }
        Found::Missing(missing) => mark_removal(txn, missing.dir.id, at)?,
        Found::Blocked(file) => {
            if let Some(parent) = file.parent {
                mark_removal(txn, parent, at)?;
            }
        }
    }
    Ok(())
}

/// Counts as a removal in a directory.
pub(crate) fn mark_removal(txn: &mut Txn<'_>, dir: InodeId, at: LogIndex) -> Read<()> {
    let mut record = dir_record(txn, dir)?;
    record.last_removed_at = at;
    txn.put_inode(dir, &InodeRecord::Dir(record));
    Ok(())
}
