//! Making directories, and the parents that something needs.

use arustio_types::meta::command::{Outcome, Proof, Refusal};
use arustio_types::meta::effect::EffectKind;
use arustio_types::{ErrorKind, FsPath, WriteId};

use super::proof::{Proofs, first_missing};
use super::resolve::{self, Missing, Place, Under};
use super::txn::{Context, Read, Step, Txn};
use super::{dentry, inode, owed, permission, settings};
use crate::engine::record::{InodeRecord, Loaded};

/// What a caller of `mkdir` asks for.
#[derive(Debug)]
pub(crate) struct Mkdir<'c> {
    pub(crate) path: &'c FsPath,
    pub(crate) parents: bool,
    pub(crate) exist_ok: bool,
    pub(crate) write_id: WriteId,
    pub(crate) proofs: &'c [Proof],
}

/// Makes a directory; under a mount it owes the UFS a marker (U2).
pub(crate) fn mkdir(txn: &mut Txn<'_>, ctx: &Context, asked: &Mkdir<'_>) -> Step<Outcome> {
    match resolve::lookup(txn, asked.path)? {
        Ok(place) => exists(txn, ctx, asked, &place),
        Err(missing) => make(txn, ctx, asked, &missing),
    }
}

fn exists(txn: &Txn<'_>, ctx: &Context, asked: &Mkdir<'_>, place: &Place) -> Step<Outcome> {
    if let Some(under) = &place.under
        && !place.is_mount_point()
    {
        owed::await_name(txn, ctx, under, asked.path)?;
    }
    let taken = |message: &str| Refusal::on(ErrorKind::AlreadyExists, asked.path, message);
    if place.dir().is_none() {
        return Err(taken("a file of this name exists; choose another name or remove it").into());
    }
    if !asked.exist_ok {
        return Err(taken("the directory exists; pass --parents if that is fine").into());
    }
    made(txn, ctx, place, Vec::new())
}

fn make(txn: &mut Txn<'_>, ctx: &Context, asked: &Mkdir<'_>, missing: &Missing) -> Step<Outcome> {
    prepare(txn, ctx, asked.path, missing)?;
    Proofs(asked.proofs).absent(ctx, missing)?;
    if !asked.parents {
        require_parent(asked.path, missing)?;
    }
    let count = missing.names.len();
    let made_dirs = make_missing(txn, ctx, missing, count, &Loaded::Complete)?;
    let mut effects = Vec::new();
    if let Some(under) = &missing.dir.under {
        for (at, dir) in made_dirs.iter().enumerate() {
            let write_id = WriteId::new(asked.write_id.get().wrapping_add(at as u128));
            effects.push(owe_marker(txn, ctx, under, dir, write_id)?);
        }
    }
    match made_dirs.last() {
        Some(place) => made(txn, ctx, place, effects),
        None => Ok(Outcome::Done),
    }
}

/// Records that a directory's marker is to be written.
pub(crate) fn owe_marker(
    txn: &mut Txn<'_>,
    ctx: &Context,
    under: &Under,
    dir: &Place,
    write_id: WriteId,
) -> Read<arustio_types::meta::effect::Effect> {
    let kind = EffectKind::PutMarker {
        key: under.dir_key(&dir.path),
        dir: dir.id,
        write_id,
    };
    owed::new_effect(txn, ctx, under.id(), kind)
}

fn made(
    txn: &Txn<'_>,
    ctx: &Context,
    place: &Place,
    effects: Vec<arustio_types::meta::effect::Effect>,
) -> Step<Outcome> {
    let conf = settings::effective(txn, &place.path)?;
    Ok(Outcome::DirectoryMade {
        status: inode::status(place, &conf, ctx.incarnation),
        effects,
    })
}

/// Stops where nothing may be made: below a read-only mount, or where something is owed
/// on a name that is missing.
pub(crate) fn prepare(txn: &Txn<'_>, ctx: &Context, path: &FsPath, missing: &Missing) -> Step<()> {
    let Some(under) = &missing.dir.under else {
        return Ok(());
    };
    permission::writable(under, path)?;
    let mut at = missing.dir.path.clone();
    for name in &missing.names {
        at = resolve::path_in(&at, name)?;
        owed::await_name(txn, ctx, under, &at)?;
    }
    Ok(())
}

/// Refuses when more than the last component is missing.
pub(crate) fn require_parent(path: &FsPath, missing: &Missing) -> Step<()> {
    if missing.parent_exists() {
        return Ok(());
    }
    let first = first_missing(missing)?;
    let message = format!("the directory {first} does not exist; make it first (mkdir --parents)");
    Err(Refusal::on(ErrorKind::NotFound, path, message).into())
}

/// Makes the first `count` of the directories that are missing. Where their absence was
/// proven there is nothing of them to load.
pub(crate) fn make_missing(
    txn: &mut Txn<'_>,
    ctx: &Context,
    missing: &Missing,
    count: usize,
    loaded: &Loaded,
) -> Read<Vec<Place>> {
    let mut made = Vec::new();
    let mut parent = missing.dir.clone();
    for name in missing.names.iter().take(count) {
        let record = inode::new_dir(inode::made_by(ctx, inode::DIR_MODE), ctx.at, loaded.clone());
        let record = InodeRecord::Dir(record);
        let id = txn.next_inode()?;
        dentry::link(txn, parent.id, name, id, &record, ctx.at)?;
        let place = Place {
            path: resolve::path_in(&parent.path, name)?,
            id,
            inode: record,
            changed_at: ctx.at,
            parent: Some(parent.id),
            under: parent.under.clone(),
        };
        made.push(place.clone());
        parent = place;
    }
    Ok(made)
}

/// The directory that holds a path, made with everything above it where it is missing.
pub(crate) fn ensure_parent(txn: &mut Txn<'_>, ctx: &Context, path: &FsPath) -> Step<Place> {
    let parent = path.parent().unwrap_or_else(FsPath::root);
    match resolve::lookup(txn, &parent)? {
        Ok(place) => Ok(place),
        Err(missing) => {
            let count = missing.names.len();
            let mut made = make_missing(txn, ctx, &missing, count, &Loaded::None)?;
            Ok(made.pop().unwrap_or(missing.dir))
        }
    }
}
