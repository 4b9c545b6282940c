//! The records of a path and of everything below it.
//!
//! Names and inodes are found by walking the tree; mounts, settings, announced writes and
//! owed work by their paths. What belongs to no path (sessions, block nodes, counters) is
//! left out.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;

use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::meta::intent::Intent;
use arustio_types::meta::mount::MountEntry;
use arustio_types::{FsPath, InodeId, MountId};

use super::dump::{DumpError, line, lines};
use crate::engine::record::Record;
use crate::engine::{Family, KvEngine, key};
use crate::namespace::tree;
use crate::namespace::txn::Txn;

/// Writes one line for each record at or below a path; says how many there were.
pub fn dump_below(
    engine: &dyn KvEngine,
    path: &FsPath,
    out: &mut dyn Write,
) -> Result<u64, DumpError> {
    let txn = Txn::new(engine);
    let mut count = names(&txn, path, out)?;
    let mounts = txn.mounts()?.into_iter();
    let mounts: BTreeMap<MountId, FsPath> =
        mounts.map(|entry| (entry.id, entry.spec.path)).collect();
    let within = |other: &FsPath| other.starts_with(path);
    count += lines(engine, Family::Mounts, out, &mut |_, value| {
        MountEntry::decode_stored(value).is_ok_and(|entry| within(&entry.spec.path))
    })?;
    count += lines(engine, Family::Settings, out, &mut |at, _| {
        let of = std::str::from_utf8(at)
            .ok()
            .and_then(|at| FsPath::new(at).ok());
        of.is_some_and(|of| within(&of))
    })?;
    count += lines(engine, Family::Intents, out, &mut |at, value| {
        at.starts_with(&key::all_owed())
            && Intent::decode_stored(value).is_ok_and(|intent| within(&intent.path))
    })?;
    count += lines(engine, Family::Effects, out, &mut |at, value| {
        at.starts_with(&key::all_owed())
            && Effect::decode_stored(value)
                .is_ok_and(|effect| places(&effect, &mounts).iter().any(within))
    })?;
    out.flush().map_err(DumpError::Output)?;
    Ok(count)
}

/// The name that leads to the path, its inode, and all below.
fn names(txn: &Txn<'_>, path: &FsPath, out: &mut dyn Write) -> Result<u64, DumpError> {
    let mut at = txn.root()?;
    let mut count = 0;
    let mut name_of = None;
    for name in path.components() {
        let entry = txn.dentry(at, name)?;
        let entry = entry.ok_or_else(|| DumpError::Missing { path: path.clone() })?;
        name_of = Some((at, name));
        at = entry.child;
    }
    if let Some((parent, name)) = name_of {
        count += one(txn, Family::Dentries, key::dentry(parent, name), out)?;
    }
    count += one(txn, Family::Inodes, key::inode(at), out)?;
    count += below(txn, at, out)?;
    Ok(count)
}

fn below(txn: &Txn<'_>, root: InodeId, out: &mut dyn Write) -> Result<u64, DumpError> {
    let mut count = 0;
    let mut fault = Ok(());
    tree::walk(txn, root, &mut |node| {
        let name = key::dentry(node.parent, &node.name);
        let both = one(txn, Family::Dentries, name, out)
            .and_then(|first| Ok(first + one(txn, Family::Inodes, key::inode(node.id), out)?));
        match both {
            Ok(more) => {
                count += more;
                Ok(ControlFlow::Continue(()))
            }
            Err(error) => {
                fault = Err(error);
                Ok(ControlFlow::Break(()))
            }
        }
    })?;
    fault.map(|()| count)
}

/// A line for a record, if it is there.
fn one(txn: &Txn<'_>, family: Family, at: Vec<u8>, out: &mut dyn Write) -> Result<u64, DumpError> {
    let Some(value) = txn.raw(family, &at)? else {
        return Ok(0);
    };
    line(family, &at, &value, out).map_err(DumpError::Output)?;
    Ok(1)
}

/// The paths whose objects owed work is about.
fn places(effect: &Effect, mounts: &BTreeMap<MountId, FsPath>) -> Vec<FsPath> {
    let keys = match &effect.kind {
        EffectKind::Delete { key, .. } | EffectKind::PutMarker { key, .. } => vec![key],
        EffectKind::DeleteTree { prefix, .. } => vec![prefix],
        EffectKind::Rename { from, to, .. } => vec![from, to],
        EffectKind::RenameTree(tree) => vec![&tree.from, &tree.to],
    };
    let Some(mount) = mounts.get(&effect.mount) else {
        return Vec::new();
    };
    let path = |key: &arustio_types::UfsKey| {
        let relative = key.as_str();
        let relative = relative.strip_suffix('/').unwrap_or(relative);
        mount.join_relative(relative).ok()
    };
    keys.into_iter().filter_map(path).collect()
}
