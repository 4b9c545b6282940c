//! Moving a directory that is too large for one command.
//!
//! ```text
//! rename     the name moves, whatever lies below; the directory keeps the prefix of its
//!            objects (its origin), and one effect lies on both prefixes
//! expand     the next names in the order of a walk get their keys and effects of their
//!            own, as the objects of a small directory do at once; the last ends the tree
//! ```
//!
//! As long as the effect lies on both prefixes nothing below can change but by it, so the
//! walk goes on behind the last name that was reached, whoever the executor is.

use std::ops::ControlFlow;

use arustio_types::meta::command::{Outcome, Refusal};
use arustio_types::meta::effect::{Effect, EffectKind, TreeRename};
use arustio_types::{EffectId, ErrorKind, FsPath};

use super::{Proofs, Rename, Tree, detach_source, owe_all, place_of};
use crate::engine::record::InodeRecord;
use crate::namespace::resolve::{Place, Under};
use crate::namespace::tree::{self, Node};
use crate::namespace::txn::{Context, Read, Step, Txn};
use crate::namespace::{dentry, directory, owed};

/// Names that one command gives effects of their own.
const STEP: usize = 256;

/// Lets a directory find its objects where they are, and owes their move. That everything
/// below is loaded is taken at the word of a caller who has just looked at it.
pub(super) fn begin(
    txn: &mut Txn<'_>,
    ctx: &Context,
    asked: &Rename<'_>,
    source: &Place,
    under: &Under,
) -> Step<Effect> {
    Proofs(asked.proofs).whole(ctx, asked.from)?;
    let from = under.dir_key(asked.from);
    let mut record = dentry::dir_record(txn, source.id)?;
    record.origin = Some(from.clone());
    txn.put_inode(source.id, &InodeRecord::Dir(record));
    let kind = EffectKind::RenameTree(TreeRename {
        from,
        to: under.dir_key(asked.to),
        root: source.id,
        write_id: asked.write_id,
        old_path: asked.from.clone(),
        new_path: asked.to.clone(),
        after: None,
        moved: 0,
    });
    Ok(owed::new_effect(txn, ctx, under.id(), kind)?)
}

/// Gives the next names effects of their own. Those come first in the outcome; the effect
/// of the tree follows if it is not done.
pub(crate) fn expand(txn: &mut Txn<'_>, ctx: &Context, id: EffectId) -> Step<Outcome> {
    let effect = owed::own_effect(txn, ctx, id)?;
    let mut moving = moving(&effect)?;
    let under = owed::mount_of(txn, effect.mount)?;
    let nodes = next(txn, &moving)?;
    let last = nodes.len() < STEP;
    let mut effects = step(txn, ctx, &under, &mut moving, nodes)?;
    if last {
        effects.extend(end(txn, ctx, &under, &effect, &moving)?);
    } else {
        let effect = Effect {
            kind: EffectKind::RenameTree(moving),
            last_error: None,
            ..effect
        };
        owed::put_effect(txn, &effect);
        effects.push(effect);
    }
    Ok(Outcome::Renamed { effects })
}

fn moving(effect: &Effect) -> Step<TreeRename> {
    match &effect.kind {
        EffectKind::RenameTree(moving) => Ok(moving.clone()),
        other => {
            let message = format!("this effect is a {} and moves no directory", other.name());
            Err(Refusal::new(ErrorKind::InvalidArgument, message).into())
        }
    }
}

fn tree_of<'t>(moving: &'t TreeRename, under: &'t Under) -> Tree<'t> {
    Tree {
        under,
        old: &moving.old_path,
        new: &moving.new_path,
        write_id: moving.write_id,
    }
}

fn next(txn: &Txn<'_>, moving: &TreeRename) -> Read<Vec<Node>> {
    let mut nodes = Vec::new();
    tree::walk_after(txn, moving.root, moving.after.as_deref(), &mut |node| {
        nodes.push(node);
        Ok(match nodes.len() == STEP {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    Ok(nodes)
}

fn step(
    txn: &mut Txn<'_>,
    ctx: &Context,
    under: &Under,
    moving: &mut TreeRename,
    nodes: Vec<Node>,
) -> Step<Vec<Effect>> {
    let mut moves = Vec::new();
    for node in nodes {
        moving.after = Some(node.relative.clone());
        let old = moving.old_path.join_relative(&node.relative);
        let new = moving.new_path.join_relative(&node.relative);
        let (Ok(old), Ok(_)) = (old, new) else {
            leave(txn, ctx, &node)?;
            continue;
        };
        let place = place_of(txn, node, old, Some(under.clone()))?;
        let tree = tree_of(moving, under);
        let Some(one) = detach_source(txn, ctx, &tree, place, moving.moved)? else {
            continue;
        };
        moves.push(one);
        moving.moved += 1;
    }
    owe_all(txn, ctx, moves)
}

/// A name whose path would be too long where it is now stays where its object is: it goes
/// here, and the next look at the old place finds it there.
fn leave(txn: &mut Txn<'_>, ctx: &Context, node: &Node) -> Read<()> {
    dentry::unlink(txn, node.parent, &node.name, ctx.at)?;
    txn.delete_inode(node.id);
    Ok(())
}

/// The directory itself comes last, with its marker; where nothing was moved it gets one.
fn end(
    txn: &mut Txn<'_>,
    ctx: &Context,
    under: &Under,
    effect: &Effect,
    moving: &TreeRename,
) -> Step<Vec<Effect>> {
    let mut record = dentry::dir_record(txn, moving.root)?;
    record.origin = None;
    let marked = record.marker.is_some();
    let inode = InodeRecord::Dir(record);
    txn.put_inode(moving.root, &inode);
    owed::delete_effect(txn, effect);
    dentry::touch_path(txn, &moving.old_path, ctx.at)?;
    dentry::touch_path(txn, &moving.new_path, ctx.at)?;
    let at = |path: &FsPath| Place {
        path: path.clone(),
        id: moving.root,
        inode: inode.clone(),
        changed_at: ctx.at,
        parent: None,
        under: Some(under.clone()),
    };
    if !marked && moving.moved == 0 {
        let dir = at(&moving.new_path);
        let marker = directory::owe_marker(txn, ctx, under, &dir, moving.write_id)?;
        return Ok(vec![marker]);
    }
    let tree = tree_of(moving, under);
    let own = detach_source(txn, ctx, &tree, at(&moving.old_path), moving.moved)?;
    owe_all(txn, ctx, own.into_iter().collect())
}
