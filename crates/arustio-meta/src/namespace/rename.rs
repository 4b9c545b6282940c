//! Moving a name inside one mount (N4, U4).
//!
//! The namespace moves one name at one instant. Every object that lies below it owes a
//! copy and a removal; until that is settled a moved file keeps its old source under its
//! new name, and its content id for ever, so that nothing that is cached or open notices.
//!
//! The objects of a small directory get their effects in the same command. A larger one
//! gets a single effect and remembers where its objects still lie; see `large`.

mod large;

use std::ops::ControlFlow;

use arustio_types::meta::command::{Outcome, Proof, Refusal};
use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::{ErrorKind, FsPath, InodeId, MountId, ObjectVersion, Source, UfsKey, WriteId};

use super::proof::Proofs;
use super::resolve::{self, Missing, Place, Under};
use super::tree::Node;
use super::txn::{Context, Read, Step, Txn};
use super::{delete, dentry, directory, inode, owed, permission, tree};
use crate::engine::record::{InodeRecord, Loaded, Marker};

pub(crate) use large::expand;

/// Names below a directory whose objects get their effects in one command.
const FEW: usize = 256;

/// What a caller of `rename` asks for.
#[derive(Debug)]
pub(crate) struct Rename<'c> {
    pub(crate) from: &'c FsPath,
    pub(crate) to: &'c FsPath,
    pub(crate) replace: bool,
    pub(crate) write_id: WriteId,
    pub(crate) proofs: &'c [Proof],
}

/// Where a name goes.
struct Target {
    parent: InodeId,
    /// The file that is replaced.
    replaced: Option<Place>,
}

/// Moves a name.
pub(crate) fn rename(txn: &mut Txn<'_>, ctx: &Context, asked: &Rename<'_>) -> Step<Outcome> {
    let source = match resolve::lookup(txn, asked.from)? {
        Ok(place) => place,
        Err(missing) => {
            let refusal = delete::absent(txn, ctx, asked.from, &missing, asked.proofs)?;
            return Err(refusal.into());
        }
    };
    delete::refuse_fixed(txn, &source, "moved")?;
    if asked.from == asked.to {
        return Ok(Outcome::Renamed {
            effects: Vec::new(),
        });
    }
    if asked.to.starts_with(asked.from) {
        let message = format!("a directory cannot be moved into itself ({})", asked.to);
        return Err(Refusal::on(ErrorKind::InvalidArgument, asked.from, message).into());
    }
    if let Some(under) = &source.under {
        permission::writable(under, asked.from)?;
        owed::await_name(txn, ctx, under, asked.from)?;
    }
    let target = target(txn, ctx, asked, &source)?;
    if let (Some(under), Some(_)) = (&source.under, source.dir()) {
        owed::await_below(txn, ctx, under, asked.from)?;
        owed::await_below(txn, ctx, under, asked.to)?;
    }
    let effects = match source.inode.clone() {
        InodeRecord::File(_) => move_file(txn, ctx, asked, &source, &target)?,
        InodeRecord::Dir(_) => move_dir(txn, ctx, asked, &source, &target)?,
    };
    Ok(Outcome::Renamed { effects })
}

fn target(txn: &Txn<'_>, ctx: &Context, asked: &Rename<'_>, source: &Place) -> Step<Target> {
    match resolve::lookup(txn, asked.to)? {
        Ok(place) => {
            if place.is_mount_point() || place.path.is_root() {
                delete::refuse_fixed(txn, &place, "replaced")?;
            }
            same_mount(asked, source, place.under.as_ref())?;
            existing(txn, ctx, asked, source, place)
        }
        Err(missing) => {
            same_mount(asked, source, missing.dir.under.as_ref())?;
            fresh(txn, ctx, asked, &missing)
        }
    }
}

fn same_mount(asked: &Rename<'_>, source: &Place, target: Option<&Under>) -> Step<()> {
    let id = |under: Option<&Under>| under.map(Under::id);
    if id(source.under.as_ref()) == id(target) {
        return Ok(());
    }
    let message = format!(
        "{} lies in another mount, and a move stays inside one; copy it and remove the \
         original (arustio fs cp -r, then arustio fs rm -r)",
        asked.to
    );
    Err(Refusal::on(ErrorKind::Unsupported, asked.from, message).into())
}

fn existing(
    txn: &Txn<'_>,
    ctx: &Context,
    asked: &Rename<'_>,
    source: &Place,
    place: Place,
) -> Step<Target> {
    let refuse = |kind, message: &str| Refusal::on(kind, asked.to, message);
    if let Some(under) = &place.under {
        owed::await_name(txn, ctx, under, asked.to)?;
    }
    if place.dir().is_some() {
        let message = "a directory of this name exists; name a path inside it, or remove it first";
        let kind = match source.dir() {
            Some(_) => ErrorKind::AlreadyExists,
            None => ErrorKind::IsADirectory,
        };
        return Err(refuse(kind, message).into());
    }
    if source.dir().is_some() {
        let message = "a file of this name exists, and a directory cannot replace it";
        return Err(refuse(ErrorKind::NotADirectory, message).into());
    }
    if !asked.replace {
        let message = "a file of this name exists; choose another name or replace it (--force)";
        return Err(refuse(ErrorKind::AlreadyExists, message).into());
    }
    match place.parent {
        Some(parent) => Ok(Target {
            parent,
            replaced: Some(place),
        }),
        None => Err(refuse(ErrorKind::IsADirectory, "it is the root").into()),
    }
}

fn fresh(txn: &Txn<'_>, ctx: &Context, asked: &Rename<'_>, missing: &Missing) -> Step<Target> {
    directory::prepare(txn, ctx, asked.to, missing)?;
    Proofs(asked.proofs).absent(ctx, missing)?;
    directory::require_parent(asked.to, missing)?;
    Ok(Target {
        parent: missing.dir.id,
        replaced: None,
    })
}

fn move_file(
    txn: &mut Txn<'_>,
    ctx: &Context,
    asked: &Rename<'_>,
    source: &Place,
    target: &Target,
) -> Step<Vec<Effect>> {
    let mut effects = Vec::new();
    let mut expected = None;
    if let Some(place) = &target.replaced {
        expected = place.file().and_then(|file| file.version.clone());
    }
    let mut inode = source.inode.clone();
    if let (InodeRecord::File(file), Some(under)) = (&mut inode, &source.under)
        && let Some(object) = inode::source_of(file, asked.from, under)
    {
        file.content = inode::content_of(file, asked.from, under, ctx.incarnation);
        file.key = Some(object.key.clone());
        effects.push(Move {
            mount: under.id(),
            inode: source.id,
            source: object,
            to: under.file_key(asked.to),
            expected,
            old_path: asked.from.clone(),
            new_path: asked.to.clone(),
            write_id: asked.write_id,
        });
    }
    dentry::unlink_place(txn, source, ctx.at)?;
    let name = asked.to.name().unwrap_or_default();
    dentry::link(txn, target.parent, name, source.id, &inode, ctx.at)?;
    if let Some(place) = &target.replaced {
        txn.delete_inode(place.id);
    }
    owe_all(txn, ctx, effects)
}

/// One object's move.
struct Move {
    mount: MountId,
    inode: InodeId,
    source: Source,
    to: UfsKey,
    expected: Option<ObjectVersion>,
    old_path: FsPath,
    new_path: FsPath,
    write_id: WriteId,
}

fn owe_all(txn: &mut Txn<'_>, ctx: &Context, moves: Vec<Move>) -> Step<Vec<Effect>> {
    let mut effects = Vec::with_capacity(moves.len());
    for one in moves {
        let kind = EffectKind::Rename {
            from: one.source.key,
            version: one.source.version,
            to: one.to,
            expected: one.expected,
            write_id: one.write_id,
            inode: one.inode,
            old_path: one.old_path,
            new_path: one.new_path,
        };
        effects.push(owed::new_effect(txn, ctx, one.mount, kind)?);
    }
    Ok(effects)
}

fn move_dir(
    txn: &mut Txn<'_>,
    ctx: &Context,
    asked: &Rename<'_>,
    source: &Place,
    target: &Target,
) -> Step<Vec<Effect>> {
    let effects = match &source.under {
        Some(under) => match few(txn, source.id)? {
            Some(nodes) => move_few(txn, ctx, asked, source, under, nodes)?,
            None => vec![large::begin(txn, ctx, asked, source, under)?],
        },
        None => Vec::new(),
    };
    dentry::unlink_place(txn, source, ctx.at)?;
    let name = asked.to.name().unwrap_or_default();
    let inode = txn.named_inode(source.id)?;
    dentry::link_existing(txn, target.parent, name, source.id, &inode, ctx.at)?;
    Ok(effects)
}

/// Everything below a directory, if that is not much.
fn few(txn: &Txn<'_>, root: InodeId) -> Read<Option<Vec<Node>>> {
    let mut nodes = Vec::new();
    tree::walk(txn, root, &mut |node| {
        nodes.push(node);
        Ok(match nodes.len() > FEW {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    Ok((nodes.len() <= FEW).then_some(nodes))
}

fn move_few(
    txn: &mut Txn<'_>,
    ctx: &Context,
    asked: &Rename<'_>,
    source: &Place,
    under: &Under,
    nodes: Vec<Node>,
) -> Step<Vec<Effect>> {
    let tree = Tree {
        under,
        old: asked.from,
        new: asked.to,
        write_id: asked.write_id,
    };
    let mut moves = Vec::new();
    for place in loaded(txn, ctx, asked, source, nodes)? {
        moves.extend(detach_source(txn, ctx, &tree, place, moves.len() as u64)?);
    }
    if moves.is_empty() {
        let dir = Place {
            path: asked.to.clone(),
            ..source.clone()
        };
        let marker = directory::owe_marker(txn, ctx, under, &dir, asked.write_id)?;
        return Ok(vec![marker]);
    }
    owe_all(txn, ctx, moves)
}

/// The directory and everything below it, if its listings are complete.
fn loaded(
    txn: &Txn<'_>,
    ctx: &Context,
    asked: &Rename<'_>,
    source: &Place,
    nodes: Vec<Node>,
) -> Step<Vec<Place>> {
    let mut places = vec![source.clone()];
    for node in nodes {
        let path = join(asked.from, &node.relative)?;
        places.push(place_of(txn, node, path, source.under.clone())?);
    }
    for place in &places {
        if place
            .dir()
            .is_some_and(|dir| dir.loaded != Loaded::Complete)
        {
            Proofs(asked.proofs).whole(ctx, &place.path)?;
        }
    }
    Ok(places)
}

fn place_of(txn: &Txn<'_>, node: Node, path: FsPath, under: Option<Under>) -> Read<Place> {
    Ok(Place {
        path,
        id: node.id,
        inode: txn.named_inode(node.id)?,
        changed_at: node.changed_at,
        parent: Some(node.parent),
        under,
    })
}

fn join(path: &FsPath, relative: &str) -> Step<FsPath> {
    path.join_relative(relative).map_err(|error| {
        let message = format!("a name below it would become too long there: {error}");
        Refusal::on(ErrorKind::InvalidPath, path, message).into()
    })
}

/// A directory on its way.
struct Tree<'t> {
    under: &'t Under,
    /// Where it was.
    old: &'t FsPath,
    /// Where it is.
    new: &'t FsPath,
    /// Seed of the write ids that the copies carry.
    write_id: WriteId,
}

/// Makes one inode remember where its object lies now, by its old path.
fn detach_source(
    txn: &mut Txn<'_>,
    ctx: &Context,
    tree: &Tree<'_>,
    place: Place,
    number: u64,
) -> Step<Option<Move>> {
    let under = tree.under;
    let relative = place.path.relative_to(tree.old).unwrap_or_default();
    let new_path = join(tree.new, relative)?;
    let mut inode = place.inode.clone();
    let (source, to) = match &mut inode {
        InodeRecord::File(file) => {
            let source = inode::source_of(file, &place.path, under);
            file.content = inode::content_of(file, &place.path, under, ctx.incarnation);
            file.key = source.as_ref().map(|source| source.key.clone());
            (source, under.file_key(&new_path))
        }
        InodeRecord::Dir(dir) => {
            let source = inode::marker_of(dir, &place.path, under);
            dir.marker = source.clone().map(|source| Marker {
                version: source.version,
                key: Some(source.key),
            });
            (source, under.dir_key(&new_path))
        }
    };
    let Some(source) = source else {
        return Ok(None);
    };
    txn.put_inode(place.id, &inode);
    let write_id = WriteId::new(tree.write_id.get().wrapping_add(number.into()));
    Ok(Some(Move {
        mount: under.id(),
        inode: place.id,
        source,
        to,
        expected: None,
        old_path: place.path,
        new_path,
        write_id,
    }))
}
