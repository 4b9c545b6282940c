//! Which UFS stands where (N7, N8).

use arustio_types::meta::command::{Outcome, Refusal};
use arustio_types::meta::credential::Credential;
use arustio_types::meta::effect::EffectKind;
use arustio_types::meta::mount::{MountEntry, MountSpec};
use arustio_types::{ErrorKind, FsPath, InodeId};

use super::resolve::{self, Place};
use super::txn::{Context, Read, Step, Txn};
use super::{credential, dentry, directory, inode, owed, settings, tree};
use crate::engine::record::{DirRecord, InodeRecord, Loaded};
use crate::engine::{Family, key};

/// Most mounts of a cluster.
const MAX_MOUNTS: usize = 10_000;
/// Abandoned intents and effects that an unmount ends; more is refused.
const MAX_ABANDONED: usize = 100_000;
/// Of these so many are named.
const MAX_NAMED: usize = 1_000;

fn refuse(kind: ErrorKind, path: &FsPath, message: impl Into<String>) -> super::txn::Stop {
    Refusal::on(kind, path, message).into()
}

/// Mounts a UFS.
pub(crate) fn mount(txn: &mut Txn<'_>, ctx: &Context, spec: &MountSpec) -> Step<Outcome> {
    let mounts = txn.mounts()?;
    if let Some(standing) = mounts.iter().find(|mount| mount.spec.path == spec.path) {
        return mounted_before(standing, spec);
    }
    if mounts.len() >= MAX_MOUNTS {
        let message = format!("there are {MAX_MOUNTS} mounts already; unmount one first");
        return Err(refuse(ErrorKind::NoSpace, &spec.path, message));
    }
    refuse_overlap(&mounts, spec)?;
    let place = mount_point(txn, ctx, &spec.path)?;
    let id = txn.next_mount()?;
    credential::store(txn, id, &spec.credential)?;
    let entry = MountEntry {
        id,
        generation: 1,
        root: place.id,
        spec: without_credential(spec),
    };
    txn.put(Family::Mounts, key::mount(id), &entry);
    let attributes = match &place.inode {
        InodeRecord::Dir(dir) => dir.attributes.clone(),
        InodeRecord::File(file) => file.attributes.clone(),
    };
    let record = DirRecord {
        mount: Some(id),
        ..inode::new_dir(attributes, ctx.at, Loaded::None)
    };
    txn.put_inode(place.id, &InodeRecord::Dir(record));
    Ok(Outcome::Mounted {
        entry,
        already: false,
    })
}

fn without_credential(spec: &MountSpec) -> MountSpec {
    MountSpec {
        credential: Credential::Provider,
        ..spec.clone()
    }
}

fn mounted_before(standing: &MountEntry, spec: &MountSpec) -> Step<Outcome> {
    let own = &standing.spec;
    let same = own.uri == spec.uri
        && own.options == spec.options
        && own.readonly == spec.readonly
        && own.shared == spec.shared;
    if same {
        return Ok(Outcome::Mounted {
            entry: standing.clone(),
            already: true,
        });
    }
    let message = if own.uri == spec.uri {
        "it is mounted with other options; change them with arustio fs update-mount, or unmount \
         it first"
            .to_owned()
    } else {
        format!(
            "{} is mounted here; choose another path, or first: arustio fs unmount {}",
            own.uri, own.path
        )
    };
    Err(refuse(ErrorKind::AlreadyExists, &spec.path, message))
}

/// The directory that is mounted on, made where it is missing.
fn mount_point(txn: &mut Txn<'_>, ctx: &Context, path: &FsPath) -> Step<Place> {
    let place = match resolve::lookup(txn, path)? {
        Ok(place) => place,
        Err(missing) => {
            if let Some(under) = &missing.dir.under {
                owed::await_name(txn, ctx, under, path)?;
            }
            let count = missing.names.len();
            let mut made = directory::make_missing(txn, ctx, &missing, count, &Loaded::None)?;
            return Ok(made.pop().unwrap_or(missing.dir));
        }
    };
    if let Some(under) = &place.under {
        owed::await_name(txn, ctx, under, path)?;
        owed::await_below(txn, ctx, under, path)?;
    }
    match place.dir() {
        None => {
            let message = "a file stands there; mount on a directory or a path that does not exist";
            Err(refuse(ErrorKind::NotADirectory, path, message))
        }
        Some(dir) if dir.children > 0 => {
            let message = "the directory is not empty, and a mount would hide what is in it; \
                           choose an empty one or a path that does not exist";
            Err(refuse(ErrorKind::Conflict, path, message))
        }
        Some(_) => Ok(place),
    }
}

/// What tells two stores apart, and where in the store a URI points.
struct Location<'s> {
    scheme: &'s str,
    authority: &'s str,
    prefix: &'s str,
    endpoint: Option<&'s str>,
    bound_to: Option<&'s str>,
}

impl<'s> Location<'s> {
    fn of(spec: &'s MountSpec) -> Self {
        let (scheme, rest) = spec.uri.split_once("://").unwrap_or(("", &spec.uri));
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        Self {
            scheme,
            authority,
            prefix: prefix.trim_matches('/'),
            endpoint: spec
                .options
                .get("endpoint")
                .map(|url| url.trim_end_matches('/')),
            bound_to: spec.bound_to.as_deref(),
        }
    }

    fn overlaps(&self, other: &Location<'_>) -> bool {
        let same_store = self.scheme == other.scheme
            && self.authority == other.authority
            && self.endpoint == other.endpoint
            && self.bound_to == other.bound_to;
        same_store && (below(self.prefix, other.prefix) || below(other.prefix, self.prefix))
    }
}

fn below(path: &str, ancestor: &str) -> bool {
    ancestor.is_empty()
        || path
            .strip_prefix(ancestor)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Two mounts may share objects only if at most one of them is writable (N7).
fn refuse_overlap(mounts: &[MountEntry], spec: &MountSpec) -> Step<()> {
    let location = Location::of(spec);
    let clash = mounts.iter().find(|mount| {
        let other = &mount.spec;
        other.path != spec.path
            && !(other.readonly || spec.readonly)
            && location.overlaps(&Location::of(other))
    });
    match clash {
        None => Ok(()),
        Some(mount) => {
            let message = format!(
                "{} overlaps {}, which is mounted writable at {}; mount one of them with --readonly",
                spec.uri, mount.spec.uri, mount.spec.path
            );
            Err(refuse(ErrorKind::Conflict, &spec.path, message))
        }
    }
}

fn standing(txn: &Txn<'_>, path: &FsPath) -> Step<MountEntry> {
    let mounts = txn.mounts()?;
    let found = mounts.into_iter().find(|mount| mount.spec.path == *path);
    found.ok_or_else(|| {
        let message = "nothing is mounted there; arustio fs list shows the mounts";
        refuse(ErrorKind::NotFound, path, message)
    })
}

/// Replaces options and credential in place.
pub(crate) fn update(txn: &mut Txn<'_>, _ctx: &Context, spec: &MountSpec) -> Step<Outcome> {
    let mut entry = standing(txn, &spec.path)?;
    if entry.spec.uri != spec.uri {
        let message = format!(
            "it is a mount of {}; to put {} there, unmount it first",
            entry.spec.uri, spec.uri
        );
        return Err(refuse(ErrorKind::Unsupported, &spec.path, message));
    }
    refuse_overlap(&txn.mounts()?, spec)?;
    credential::store(txn, entry.id, &spec.credential)?;
    // Nothing that was cached of another store is taken for this one's.
    if !entry.spec.names_the_same_bytes(spec) {
        entry.generation += 1;
    }
    entry.spec = without_credential(spec);
    txn.put(Family::Mounts, key::mount(entry.id), &entry);
    Ok(Outcome::Mounted {
        entry,
        already: false,
    })
}

/// Forgets a mount and its subtree (N8).
pub(crate) fn unmount(
    txn: &mut Txn<'_>,
    ctx: &Context,
    path: &FsPath,
    force: bool,
) -> Step<Outcome> {
    let entry = standing(txn, path)?;
    if let Some(inner) = txn
        .mounts()?
        .into_iter()
        .find(|mount| mount.spec.path != *path && mount.spec.path.starts_with(path))
    {
        let inner = inner.spec.path;
        let message = format!("the mount {inner} lies below it; first: arustio fs unmount {inner}");
        return Err(refuse(ErrorKind::Conflict, path, message));
    }
    let abandoned = abandon(txn, path, &entry, force)?;
    txn.delete(Family::Mounts, key::mount(entry.id));
    credential::forget(txn, entry.id);
    settings::forget_below(txn, path)?;
    empty_mount_point(txn, ctx, path)?;
    Ok(Outcome::Unmounted {
        mount: entry.id,
        abandoned,
    })
}

fn abandon(txn: &mut Txn<'_>, path: &FsPath, entry: &MountEntry, force: bool) -> Step<Vec<String>> {
    let (intents, effects) = owed::of_mount(txn, entry.id, MAX_ABANDONED + 1)?;
    let open = intents.len() + effects.len();
    if open > 0 && !force {
        let message = format!(
            "{open} writes and removals in it are not finished; wait for them (arustio fs \
             pending), or abandon them with --force"
        );
        return Err(refuse(ErrorKind::Conflict, path, message));
    }
    if open > MAX_ABANDONED {
        let message = "more is pending than can be abandoned at once; wait for some of it";
        return Err(refuse(ErrorKind::Conflict, path, message));
    }
    let mut lines = Vec::new();
    for intent in &intents {
        lines.push(format!("write of {}", intent.path));
        owed::delete_intent(txn, intent);
    }
    for effect in &effects {
        let target = owed::describe_target(txn, effect)?;
        lines.push(format!("{} on {target}", effect.kind.name()));
        if let EffectKind::DeleteTree { root, .. } = effect.kind {
            tree::discard(txn, root);
        }
        owed::delete_effect(txn, effect);
    }
    if lines.len() > MAX_NAMED {
        let more = lines.len() - MAX_NAMED;
        lines.truncate(MAX_NAMED);
        lines.push(format!("and {more} more"));
    }
    Ok(lines)
}

/// The mount point stays, as a new and empty directory; the old one is freed bit by bit.
fn empty_mount_point(txn: &mut Txn<'_>, ctx: &Context, path: &FsPath) -> Step<()> {
    let Some((old, parent)) = resolve_bare(txn, path)? else {
        return Ok(());
    };
    let attributes = dentry::dir_record(txn, old)?.attributes;
    let record = InodeRecord::Dir(inode::new_dir(attributes, ctx.at, Loaded::None));
    let id = txn.next_inode()?;
    match (parent, path.name()) {
        (Some(parent), Some(name)) => dentry::link(txn, parent, name, id, &record, ctx.at)?,
        _ => {
            txn.put_inode(id, &record);
            txn.set_root(id);
        }
    }
    tree::discard(txn, old);
    Ok(())
}

/// A directory and its parent, without a look at mounts, whose record is gone already.
pub(crate) fn resolve_bare(
    txn: &Txn<'_>,
    path: &FsPath,
) -> Read<Option<(InodeId, Option<InodeId>)>> {
    let mut at = (txn.root()?, None);
    for name in path.components() {
        match txn.dentry(at.0, name)? {
            Some(entry) => at = (entry.child, Some(at.0)),
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Every mount, by path.
pub(crate) fn list(txn: &Txn<'_>) -> Read<Vec<MountEntry>> {
    let mut mounts = txn.mounts()?;
    mounts.sort_by(|a, b| a.spec.path.cmp(&b.spec.path));
    Ok(mounts)
}
