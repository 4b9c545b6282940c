//! How work that is owed to a UFS ends (P1 to P5, U4).
//!
//! Only the executor that the record names may say so, and never while a request without
//! an answer may still be carried out. Every end counts as a change of the names that the
//! effect covers and as a removal in their directories (F1): a listing that was read
//! before may still show what is gone.

use arustio_types::meta::command::{Outcome, Owed, Refusal};
use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::{EffectId, ErrorKind, FsPath, InodeId, ObjectVersion, Source, UfsKey};

use super::resolve::{self, Found, Under};
use super::txn::{Context, Step, Txn};
use super::{dentry, directory, owed, tree};
use crate::engine::record::{InodeRecord, Marker};

/// Longest error that is kept.
const MAX_ERROR: usize = 1_000;

/// The parts of a rename.
struct Moving {
    from: UfsKey,
    version: ObjectVersion,
    to: UfsKey,
    inode: InodeId,
    old_path: FsPath,
    new_path: FsPath,
}

/// The effect, if the caller may end it now.
fn ending(txn: &Txn<'_>, ctx: &Context, id: EffectId) -> Step<(Effect, Under)> {
    let effect = owed::own_effect(txn, ctx, id)?;
    let on = owed::describe_target(txn, &effect)?;
    owed::await_silence(ctx, Owed::Effect(id), on, effect.unanswered_until)?;
    let under = owed::mount_of(txn, effect.mount)?;
    Ok((effect, under))
}

fn moving(effect: &Effect) -> Step<Moving> {
    match &effect.kind {
        EffectKind::Rename {
            from,
            version,
            to,
            inode,
            old_path,
            new_path,
            ..
        } => Ok(Moving {
            from: from.clone(),
            version: version.clone(),
            to: to.clone(),
            inode: *inode,
            old_path: old_path.clone(),
            new_path: new_path.clone(),
        }),
        other => {
            let message = format!(
                "this effect is a {} and not, or no longer, a rename; look at it again",
                other.name()
            );
            Err(Refusal::new(ErrorKind::InvalidArgument, message).into())
        }
    }
}

/// The copy of a rename is verified: it is the source now (F6).
pub(crate) fn copy_settled(
    txn: &mut Txn<'_>,
    ctx: &Context,
    id: EffectId,
    version: &ObjectVersion,
) -> Step<Outcome> {
    let (effect, under) = ending(txn, ctx, id)?;
    let moving = moving(&effect)?;
    set_source(txn, &under, &moving, version)?;
    owed::delete_effect(txn, &effect);
    let effect = Effect {
        kind: EffectKind::Delete {
            key: moving.from.clone(),
            version: moving.version.clone(),
        },
        last_error: None,
        ..effect
    };
    owed::put_effect(txn, &effect);
    dentry::touch_path(txn, &moving.new_path, ctx.at)?;
    Ok(Outcome::CopySettled(effect))
}

fn set_source(
    txn: &mut Txn<'_>,
    under: &Under,
    moving: &Moving,
    version: &ObjectVersion,
) -> Step<()> {
    let Some(mut inode) = txn.inode(moving.inode)? else {
        return Ok(());
    };
    match &mut inode {
        InodeRecord::File(file) => {
            let derived = under.file_key(&moving.new_path);
            file.key = (moving.to != derived).then(|| moving.to.clone());
            file.version = Some(version.clone());
        }
        InodeRecord::Dir(dir) => {
            let derived = under.dir_key(&moving.new_path);
            dir.marker = Some(Marker {
                version: version.clone(),
                key: (moving.to != derived).then(|| moving.to.clone()),
            });
        }
    }
    txn.put_inode(moving.inode, &inode);
    Ok(())
}

/// The work is done.
pub(crate) fn finish(
    txn: &mut Txn<'_>,
    ctx: &Context,
    id: EffectId,
    marker: Option<&ObjectVersion>,
) -> Step<Outcome> {
    let (effect, under) = ending(txn, ctx, id)?;
    match &effect.kind {
        EffectKind::Delete { key, .. } => dentry::touch(txn, &under, key, ctx.at)?,
        EffectKind::DeleteTree { prefix, root } => {
            tree::discard(txn, *root);
            dentry::touch(txn, &under, prefix, ctx.at)?;
        }
        EffectKind::PutMarker { key, dir, .. } => {
            if let (Some(version), Some(InodeRecord::Dir(mut record))) = (marker, txn.inode(*dir)?)
            {
                record.marker = Some(Marker {
                    version: version.clone(),
                    key: None,
                });
                txn.put_inode(*dir, &InodeRecord::Dir(record));
            }
            dentry::touch(txn, &under, key, ctx.at)?;
        }
        EffectKind::Rename { .. } | EffectKind::RenameTree(_) => {
            let message = "a rename ends with its copy settled, undone or dropped, never so";
            return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
        }
    }
    owed::delete_effect(txn, &effect);
    Ok(Outcome::Done)
}

/// The destination is somebody else's: the old name returns (F5).
pub(crate) fn undo(txn: &mut Txn<'_>, ctx: &Context, id: EffectId) -> Step<Outcome> {
    let (effect, under) = ending(txn, ctx, id)?;
    let moving = moving(&effect)?;
    owed::delete_effect(txn, &effect);
    match txn.inode(moving.inode)? {
        Some(InodeRecord::File(_)) => return_file(txn, ctx, &under, &moving)?,
        Some(InodeRecord::Dir(_)) => return_marker(txn, ctx, &under, &moving)?,
        None => {}
    }
    cover(txn, ctx, &under, &moving)
}

fn return_file(txn: &mut Txn<'_>, ctx: &Context, under: &Under, moving: &Moving) -> Step<()> {
    unlink_new(txn, ctx, moving)?;
    let Some(mut inode) = txn.inode(moving.inode)? else {
        return Ok(());
    };
    if let InodeRecord::File(file) = &mut inode {
        let derived = under.file_key(&moving.old_path);
        file.key = (moving.from != derived).then(|| moving.from.clone());
        file.version = Some(moving.version.clone());
    }
    let parent = directory::ensure_parent(txn, ctx, &moving.old_path)?;
    let name = moving.old_path.name().unwrap_or_default();
    if txn.dentry(parent.id, name)?.is_some() {
        // Its key is covered by the effect, so nobody can have taken the name; if it
        // were taken after all, the next sync finds the object.
        txn.delete_inode(moving.inode);
        return Ok(());
    }
    dentry::link(txn, parent.id, name, moving.inode, &inode, ctx.at)?;
    Ok(())
}

/// A marker that could not be copied still marks the old directory.
fn return_marker(txn: &mut Txn<'_>, ctx: &Context, under: &Under, moving: &Moving) -> Step<()> {
    if let Some(InodeRecord::Dir(mut dir)) = txn.inode(moving.inode)? {
        dir.marker = None;
        txn.put_inode(moving.inode, &InodeRecord::Dir(dir));
    }
    let child = resolve::path_in(&moving.old_path, "-")?;
    let old = directory::ensure_parent(txn, ctx, &child)?;
    if let InodeRecord::Dir(mut dir) = old.inode {
        let derived = under.dir_key(&moving.old_path);
        dir.marker = Some(Marker {
            version: moving.version.clone(),
            key: (moving.from != derived).then(|| moving.from.clone()),
        });
        txn.put_inode(old.id, &InodeRecord::Dir(dir));
    }
    Ok(())
}

/// The source is gone without a copy: the name is dropped.
pub(crate) fn drop_rename(txn: &mut Txn<'_>, ctx: &Context, id: EffectId) -> Step<Outcome> {
    let (effect, under) = ending(txn, ctx, id)?;
    let moving = moving(&effect)?;
    owed::delete_effect(txn, &effect);
    match txn.inode(moving.inode)? {
        Some(InodeRecord::File(_)) => {
            unlink_new(txn, ctx, &moving)?;
            txn.delete_inode(moving.inode);
        }
        Some(InodeRecord::Dir(mut dir)) => {
            dir.marker = None;
            txn.put_inode(moving.inode, &InodeRecord::Dir(dir));
        }
        None => {}
    }
    cover(txn, ctx, &under, &moving)
}

fn unlink_new(txn: &mut Txn<'_>, ctx: &Context, moving: &Moving) -> Step<()> {
    if let Found::Here(place) = resolve::find(txn, &moving.new_path)?
        && place.id == moving.inode
    {
        dentry::unlink_place(txn, &place, ctx.at)?;
    }
    Ok(())
}

fn cover(txn: &mut Txn<'_>, ctx: &Context, under: &Under, moving: &Moving) -> Step<Outcome> {
    dentry::touch(txn, under, &moving.from, ctx.at)?;
    dentry::touch(txn, under, &moving.to, ctx.at)?;
    Ok(Outcome::Done)
}

/// The UFS refused; the effect stays and says why.
pub(crate) fn failed(txn: &mut Txn<'_>, ctx: &Context, id: EffectId, error: &str) -> Step<Outcome> {
    let mut effect = owed::own_effect(txn, ctx, id)?;
    effect.last_error = Some(error.chars().take(MAX_ERROR).collect());
    owed::put_effect(txn, &effect);
    Ok(Outcome::Done)
}

/// Where a detached object lies, from what its record says and where it was.
pub(crate) fn detached_source(
    inode: &InodeRecord,
    prefix: &UfsKey,
    relative: &str,
) -> Option<Source> {
    let join = |end: &str| UfsKey::new(&format!("{}{relative}{end}", prefix.as_str()));
    match inode {
        InodeRecord::File(file) => Some(Source {
            key: file.key.clone().unwrap_or_else(|| join("")),
            version: file.version.clone()?,
        }),
        InodeRecord::Dir(dir) => {
            let marker = dir.marker.as_ref()?;
            let end = if relative.is_empty() { "" } else { "/" };
            Some(Source {
                key: marker.key.clone().unwrap_or_else(|| join(end)),
                version: marker.version.clone(),
            })
        }
    }
}
