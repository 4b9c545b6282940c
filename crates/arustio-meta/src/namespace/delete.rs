//! Removing names; the objects follow as effects (P1, P3).
//!
//! A file or an empty directory goes with one effect on its object. A tree is detached
//! by taking away one name: its records still hold the (key, version) pairs that the
//! executor removes page by page, and nothing else is ever removed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arustio_types::meta::command::{Outcome, Proof, Refusal};
use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::meta::query::MAX_PAGE;
use arustio_types::{EffectId, ErrorKind, FsPath, InodeId};

use super::proof::Proofs;
use super::resolve::{self, Missing, Place, Under};
use super::txn::{Context, Read, Step, Txn};
use super::{dentry, directory, inode, owed, permission, tree};

/// Names below a directory that are looked at before it goes; a larger tree is taken at
/// its caller's word to be loaded.
const MAX_SURVEY: u64 = 20_000;

/// What a caller of `delete` asks for.
#[derive(Debug)]
pub(crate) struct Delete<'c> {
    pub(crate) path: &'c FsPath,
    pub(crate) recursive: bool,
    pub(crate) arustio_only: bool,
    pub(crate) proofs: &'c [Proof],
}

/// Removes a name.
pub(crate) fn delete(txn: &mut Txn<'_>, ctx: &Context, asked: &Delete<'_>) -> Step<Outcome> {
    let place = match resolve::lookup(txn, asked.path)? {
        Ok(place) => place,
        Err(missing) => return Err(absent(txn, ctx, asked.path, &missing, asked.proofs)?.into()),
    };
    refuse_fixed(txn, &place, "removed")?;
    if let Some(under) = &place.under {
        if !asked.arustio_only {
            permission::writable(under, asked.path)?;
        }
        owed::await_name(txn, ctx, under, asked.path)?;
    }
    match (&place.inode.kind(), asked.recursive) {
        (arustio_types::meta::FileKind::File, _) => delete_file(txn, ctx, asked, &place),
        (_, false) => delete_empty(txn, ctx, asked, &place),
        (_, true) => delete_tree(txn, ctx, asked, &place),
    }
}

/// A name that is not there, as far as the UFS has been asked.
pub(crate) fn absent(
    txn: &Txn<'_>,
    ctx: &Context,
    path: &FsPath,
    missing: &Missing,
    proofs: &[Proof],
) -> Step<Refusal> {
    directory::prepare(txn, ctx, path, missing)?;
    Proofs(proofs).absent(ctx, missing)?;
    Ok(Refusal::on(
        ErrorKind::NotFound,
        path,
        "no such file or directory",
    ))
}

/// Refuses to move or remove `/`, mount points, and what holds one (N7).
pub(crate) fn refuse_fixed(txn: &Txn<'_>, place: &Place, verb: &str) -> Step<()> {
    let refuse = |message: String| Refusal::on(ErrorKind::Unsupported, &place.path, message);
    if place.is_mount_point() {
        let path = &place.path;
        let message = format!(
            "it is a mount point and cannot be {verb}; to take the mount away: arustio fs unmount {path}"
        );
        return Err(refuse(message).into());
    }
    if place.path.is_root() {
        return Err(refuse(format!("the root cannot be {verb}; name something in it")).into());
    }
    if place.dir().is_none() {
        return Ok(());
    }
    for mount in txn.mounts()? {
        let path = &mount.spec.path;
        if path.starts_with(&place.path) {
            let message = format!(
                "the mount point {path} lies below it, so it cannot be {verb}; first: arustio fs unmount {path}"
            );
            return Err(refuse(message).into());
        }
    }
    Ok(())
}

fn delete_file(
    txn: &mut Txn<'_>,
    ctx: &Context,
    asked: &Delete<'_>,
    place: &Place,
) -> Step<Outcome> {
    let source = match (&place.under, place.file()) {
        (Some(under), Some(file)) if !asked.arustio_only => {
            inode::source_of(file, &place.path, under)
        }
        _ => None,
    };
    dentry::unlink_place(txn, place, ctx.at)?;
    txn.delete_inode(place.id);
    let effects = owe_delete(txn, ctx, place, source)?;
    Ok(Outcome::Deleted { effects, names: 1 })
}

fn owe_delete(
    txn: &mut Txn<'_>,
    ctx: &Context,
    place: &Place,
    source: Option<arustio_types::Source>,
) -> Read<Vec<Effect>> {
    let (Some(under), Some(source)) = (&place.under, source) else {
        return Ok(Vec::new());
    };
    let kind = EffectKind::Delete {
        key: source.key,
        version: source.version,
    };
    Ok(vec![owed::new_effect(txn, ctx, under.id(), kind)?])
}

fn delete_empty(
    txn: &mut Txn<'_>,
    ctx: &Context,
    asked: &Delete<'_>,
    place: &Place,
) -> Step<Outcome> {
    let Some(dir) = place.dir() else {
        return Ok(Outcome::Done);
    };
    if dir.children > 0 {
        let message = "the directory has entries; pass --recursive to remove them too";
        return Err(Refusal::on(ErrorKind::NotEmpty, asked.path, message).into());
    }
    let mut marker = None;
    if let Some(under) = &place.under {
        owed::await_below(txn, ctx, under, asked.path)?;
        if !asked.arustio_only {
            Proofs(asked.proofs).whole(ctx, asked.path)?;
            marker = inode::marker_of(dir, asked.path, under);
        }
    }
    dentry::unlink_place(txn, place, ctx.at)?;
    txn.delete_inode(place.id);
    let effects = owe_delete(txn, ctx, place, marker)?;
    Ok(Outcome::Deleted { effects, names: 1 })
}

fn delete_tree(
    txn: &mut Txn<'_>,
    ctx: &Context,
    asked: &Delete<'_>,
    place: &Place,
) -> Step<Outcome> {
    let survey = tree::survey(txn, place.id, asked.path, MAX_SURVEY)?;
    let mut effects = Vec::new();
    match &place.under {
        Some(under) => {
            owed::await_below(txn, ctx, under, asked.path)?;
            let owes = !asked.arustio_only;
            if let (true, Some(dir)) = (owes, &survey.unloaded) {
                Proofs(asked.proofs).whole(ctx, dir)?;
            }
            dentry::unlink_place(txn, place, ctx.at)?;
            if owes && (survey.objects > 0 || !survey.complete) {
                effects.push(owe_tree(txn, ctx, under, place)?);
            } else {
                tree::discard(txn, place.id);
            }
        }
        None => {
            dentry::unlink_place(txn, place, ctx.at)?;
            tree::discard(txn, place.id);
        }
    }
    Ok(Outcome::Deleted {
        effects,
        names: survey.names + 1,
    })
}

fn owe_tree(txn: &mut Txn<'_>, ctx: &Context, under: &Under, place: &Place) -> Read<Effect> {
    let kind = EffectKind::DeleteTree {
        prefix: under.dir_key(&place.path),
        root: place.id,
    };
    owed::new_effect(txn, ctx, under.id(), kind)
}

/// Frees files of a detached tree whose objects are gone, so that whoever resumes the
/// effect starts behind them.
pub(crate) fn free_detached(
    txn: &mut Txn<'_>,
    ctx: &Context,
    effect: EffectId,
    inodes: &[InodeId],
) -> Step<Outcome> {
    let effect = owed::own_effect(txn, ctx, effect)?;
    let EffectKind::DeleteTree { root, .. } = effect.kind else {
        let message = "this effect removes no tree; this is a defect of the client";
        return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
    };
    if inodes.len() > MAX_PAGE {
        let message = format!("at most {MAX_PAGE} files are freed at once; send fewer");
        return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
    }
    let mut wanted: BTreeSet<InodeId> = inodes.iter().copied().collect();
    let mut doomed = Vec::new();
    let mut kept_below = BTreeSet::new();
    let mut left = wanted.len() + MAX_SURVEY as usize;
    tree::walk(txn, root, &mut |node| {
        left -= 1;
        // A directory stays as long as something in it does.
        if wanted.remove(&node.id) && !kept_below.remove(&node.id) {
            doomed.push(node);
        } else {
            kept_below.insert(node.parent);
        }
        Ok(match wanted.is_empty() || left == 0 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    for node in &doomed {
        tree::free(txn, node);
    }
    Ok(Outcome::Done)
}
