//! Questions and answers, from the state as it is. No rule lives here.

use std::ops::ControlFlow;

use arustio_types::meta::Freshness;
use arustio_types::meta::command::{Owed, Refusal};
use arustio_types::meta::credential::SecretOptions;
use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::meta::intent::Intent;
use arustio_types::meta::query::{Absent, Answer, DetachedFile, MAX_PAGE, Query, UsagePart};
use arustio_types::{ErrorKind, FsPath, InodeId, MountId, UfsKey};

use super::resolve::{self, Found, Missing, Under};
use super::txn::{Read, Txn};
use super::{effect, inode, listing, mount_table, nodes, settings, tree, usage};
use crate::engine::record::{IdentityRecord, Record};
use crate::engine::{Family, key};
use crate::state_machine::Applied;

/// What a question needs beside the records.
#[derive(Debug)]
pub(crate) struct View<'e> {
    pub(crate) txn: Txn<'e>,
    pub(crate) applied: Applied,
    pub(crate) identity: IdentityRecord,
}

/// Answers a question.
pub(crate) fn query(view: &View<'_>, query: &Query) -> Read<Answer> {
    match query {
        Query::Stat { path } => stat(view, path),
        Query::List { path, after, limit } => listing::page(view, path, after.as_deref(), *limit),
        Query::Mounts => Ok(Answer::Mounts(mount_table::list(&view.txn)?)),
        Query::OpenMount { mount } => open_mount(view, *mount),
        Query::Conf { path } => Ok(Answer::Conf {
            own: settings::own(&view.txn, path)?,
            effective: settings::effective(&view.txn, path)?,
            origins: settings::origins(&view.txn, path)?,
        }),
        Query::Pending { after, limit } => pending(view, *after, *limit),
        Query::Detached { root, after, limit } => detached(view, *root, *after, *limit),
        Query::Usage { path, after } => usage(view, path, after.as_ref()),
        Query::Nodes => Ok(Answer::Nodes(nodes::entries(&view.txn)?)),
        Query::ClusterView => Ok(Answer::ClusterView(nodes::view(&view.txn)?)),
        Query::Identity => Ok(Answer::Identity {
            cluster: view.identity.cluster,
            incarnation: view.identity.incarnation,
            applied: view.applied.position.index,
        }),
    }
}

fn stat(view: &View<'_>, path: &FsPath) -> Read<Answer> {
    Ok(match resolve::find(&view.txn, path)? {
        Found::Here(place) => {
            let conf = settings::effective(&view.txn, path)?;
            let mut status = inode::status(&place, &conf, view.identity.incarnation);
            status.freshness = Some(Freshness {
                interval: conf.effective_sync_interval(),
                age: None,
                dir: place.parent,
            });
            Answer::Status(status)
        }
        Found::Missing(missing) => absent(view, &missing),
        Found::Blocked(file) => Answer::Refused(resolve::blocked(path, &file)),
    })
}

fn usage(view: &View<'_>, path: &FsPath, after: Option<&FsPath>) -> Read<Answer> {
    Ok(match resolve::find(&view.txn, path)? {
        Found::Here(place) => Answer::Usage(UsagePart {
            position: view.applied.position.index,
            ..usage::part(&view.txn, place, after)?
        }),
        Found::Missing(missing) => absent(view, &missing),
        Found::Blocked(file) => Answer::Refused(resolve::blocked(path, &file)),
    })
}

pub(super) fn absent(view: &View<'_>, missing: &Missing) -> Answer {
    Answer::Absent(Absent {
        dir: missing.dir.path.clone(),
        dir_inode: missing.dir.id,
        mount: missing.dir.under.as_ref().map(Under::id),
        name: missing.name().to_owned(),
        position: view.applied.position.index,
    })
}

fn page_size(limit: usize) -> usize {
    limit.clamp(1, MAX_PAGE)
}

/// The secrets are left out: whoever holds the cluster key opens the sealed credential.
fn open_mount(view: &View<'_>, mount: MountId) -> Read<Answer> {
    Ok(match view.txn.mount(mount)? {
        Some(entry) => Answer::OpenedMount {
            entry,
            secrets: SecretOptions::default(),
        },
        None => Answer::Refused(Refusal::new(
            ErrorKind::Stale,
            format!("mount {mount} is gone; look the path up again"),
        )),
    })
}

/// Intents first, then effects, each oldest first.
fn pending(view: &View<'_>, after: Option<Owed>, limit: usize) -> Read<Answer> {
    let limit = page_size(limit);
    let (mut intents, mut effects) = (Vec::new(), Vec::new());
    let start = match after {
        Some(Owed::Effect(_)) => None,
        Some(Owed::Intent(id)) => Some(id.get() + 1),
        None => Some(0),
    };
    if let Some(start) = start {
        intents = page_of(view, Family::Intents, start, limit)?;
    }
    let room = limit - intents.len();
    if room > 0 {
        let start = match after {
            Some(Owed::Effect(id)) => id.get() + 1,
            _ => 0,
        };
        effects = page_of(view, Family::Effects, start, room)?;
    }
    let full = intents.len() + effects.len() == limit;
    let last_intent = intents.last().map(|last: &Intent| Owed::Intent(last.id));
    let last_effect = effects.last().map(|last: &Effect| Owed::Effect(last.id));
    Ok(Answer::Pending {
        intents,
        effects,
        now: view.applied.time.millis(),
        next: last_effect.or(last_intent).filter(|_| full),
    })
}

fn page_of<R: Record>(view: &View<'_>, family: Family, start: u64, limit: usize) -> Read<Vec<R>> {
    let mut found = Vec::new();
    let (prefix, start) = (key::all_owed(), key::owed(start));
    view.txn
        .each(family, &prefix, &start, limit, &mut |_, value| {
            found.push(R::decode_stored(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
    Ok(found)
}

/// Objects of a detached tree, those in a directory before its marker, the root's last.
fn detached(view: &View<'_>, root: InodeId, after: Option<InodeId>, limit: usize) -> Read<Answer> {
    let txn = &view.txn;
    let Some(prefix) = prefix_of(view, root)? else {
        let message = "this tree is gone; the removal has ended";
        return Ok(Answer::Refused(Refusal::new(ErrorKind::NotFound, message)));
    };
    let limit = page_size(limit);
    let mut files = Vec::new();
    let mut passed = after.is_none();
    tree::walk(txn, root, &mut |node| {
        if !passed {
            passed = after == Some(node.id);
            return Ok(ControlFlow::Continue(()));
        }
        let record = txn.named_inode(node.id)?;
        files.push(DetachedFile {
            inode: node.id,
            source: effect::detached_source(&record, &prefix, &node.relative),
        });
        Ok(match files.len() == limit {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    if files.len() < limit && after != Some(root) {
        let record = txn.named_inode(root)?;
        files.push(DetachedFile {
            inode: root,
            source: effect::detached_source(&record, &prefix, ""),
        });
    }
    let last = files.last().map(|file| file.inode);
    let next = last.filter(|last| files.len() == limit && *last != root);
    Ok(Answer::Detached { files, next })
}

fn prefix_of(view: &View<'_>, root: InodeId) -> Read<Option<UfsKey>> {
    let mut found = None;
    let all = key::all_owed();
    view.txn
        .each(Family::Effects, &all, &all, usize::MAX, &mut |_, value| {
            let effect = Effect::decode_stored(value)?;
            if let EffectKind::DeleteTree { prefix, root: own } = effect.kind
                && own == root
            {
                found = Some(prefix);
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
    Ok(found)
}
