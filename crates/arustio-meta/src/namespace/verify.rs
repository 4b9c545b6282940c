//! Every invariant of the state, checked over all of it.
//!
//! What it finds are defects of ours or of the disk: nothing that users do may lead to
//! one. Tests run it after every random command; an operator runs it on a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;

use arustio_types::meta::FileKind;
use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::meta::intent::Intent;
use arustio_types::meta::mount::MountEntry;
use arustio_types::{InodeId, MountId};

use super::owed;
use super::state_hash::StateHash;
use super::tree;
use super::txn::{Read, Txn};
use crate::engine::record::{DentryRecord, InodeRecord, NodeRecord, Record, SessionRecord};
use crate::engine::{EngineKind, Family, KvEngine, Scan, key};
use crate::error::StateMachineError;

/// Problems that are told; more are counted.
const MAX_TOLD: usize = 1_000;

/// What a check of the whole state found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Files and directories, those being freed included.
    pub inodes: u64,
    /// Names.
    pub names: u64,
    /// Writers' announcements.
    pub intents: u64,
    /// Pieces of work owed.
    pub effects: u64,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
    /// Problems beyond those.
    pub more_problems: u64,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn wrong(&mut self, problem: impl fmt::Display) {
        match self.problems.len() < MAX_TOLD {
            true => self.problems.push(problem.to_string()),
            false => self.more_problems += 1,
        }
    }
}

struct Inode {
    kind: FileKind,
    children: u64,
    mount: Option<MountId>,
    named: u64,
    holds: u64,
    /// Its object lies under another key than its path says.
    elsewhere: bool,
}

struct Check<'e> {
    engine: &'e dyn KvEngine,
    txn: Txn<'e>,
    inodes: BTreeMap<InodeId, Inode>,
    mounts: BTreeMap<MountId, MountEntry>,
    /// Roots of trees that were taken out of the namespace.
    detached: BTreeSet<InodeId>,
    /// Inodes whose objects are being moved.
    moving: BTreeSet<InodeId>,
    report: Verified,
}

/// Checks the state in an engine.
pub(crate) fn verify(engine: &dyn KvEngine) -> Read<Verified> {
    let txn = Txn::new(engine);
    let mounts = txn.mounts()?;
    let mut check = Check {
        engine,
        txn,
        inodes: BTreeMap::new(),
        mounts: mounts.into_iter().map(|mount| (mount.id, mount)).collect(),
        detached: BTreeSet::new(),
        moving: BTreeSet::new(),
        report: Verified::default(),
    };
    check.read_inodes()?;
    check.read_names()?;
    check.intents()?;
    check.effects()?;
    check.garbage()?;
    check.tree()?;
    check.mounts()?;
    check.others()?;
    check.hash()?;
    Ok(check.report)
}

/// Visits a pair.
type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> Read<()> + 'v;

fn each(engine: &dyn KvEngine, family: Family, visit: &mut Visit<'_>) -> Read<()> {
    let mut fault = Ok(());
    engine.scan(
        family,
        Scan::all(),
        &mut |at, value| match visit(at, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                fault = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    fault
}

fn odd_key(family: Family) -> StateMachineError {
    StateMachineError::Corrupt {
        what: "a key",
        detail: format!("the family {family} has a key of another form"),
    }
}

impl Check<'_> {
    fn read_inodes(&mut self) -> Read<()> {
        let inodes = &mut self.inodes;
        each(self.engine, Family::Inodes, &mut |at, value| {
            let id = key::parent_of_dentry(at).ok_or_else(|| odd_key(Family::Inodes))?;
            let record = InodeRecord::decode_stored(value)?;
            let (children, mount, elsewhere) = match &record {
                InodeRecord::Dir(dir) => {
                    let marker = dir.marker.as_ref();
                    let elsewhere = marker.is_some_and(|marker| marker.key.is_some());
                    (dir.children, dir.mount, elsewhere)
                }
                InodeRecord::File(file) => (0, None, file.key.is_some()),
            };
            let inode = Inode {
                kind: record.kind(),
                children,
                mount,
                named: 0,
                holds: 0,
                elsewhere,
            };
            inodes.insert(id, inode);
            Ok(())
        })?;
        self.report.inodes = self.inodes.len() as u64;
        Ok(())
    }

    fn read_names(&mut self) -> Read<()> {
        let (inodes, report) = (&mut self.inodes, &mut self.report);
        each(self.engine, Family::Dentries, &mut |at, value| {
            let odd = || odd_key(Family::Dentries);
            let parent = key::parent_of_dentry(at).ok_or_else(odd)?;
            let name = key::name_of_dentry(at).ok_or_else(odd)?;
            let entry = DentryRecord::decode_stored(value)?;
            report.names += 1;
            match inodes.get_mut(&parent) {
                Some(dir) if dir.kind == FileKind::Directory => dir.holds += 1,
                _ => report.wrong(format!(
                    "{name:?} is a name in {parent}, which is no directory"
                )),
            }
            match inodes.get_mut(&entry.child) {
                Some(child) if child.kind == entry.kind => child.named += 1,
                Some(_) => report.wrong(format!("{name:?} in {parent} is of another kind")),
                None => report.wrong(format!("{name:?} in {parent} leads nowhere")),
            }
            Ok(())
        })
    }

    fn intents(&mut self) -> Read<()> {
        let all: Vec<Intent> = self
            .txn
            .records(Family::Intents, &key::all_owed(), usize::MAX)?;
        self.report.intents = all.len() as u64;
        let mut keys = BTreeSet::new();
        for intent in &all {
            let (id, mount) = (intent.id, intent.mount);
            if !self.mounts.contains_key(&mount) {
                self.report
                    .wrong(format!("intent {id} is of mount {mount}, which is gone"));
            }
            if !keys.insert((mount, intent.key.clone())) {
                self.report
                    .wrong(format!("two intents lie on {}", intent.path));
            }
            let at = key::owed_on(mount, &intent.key, id.get());
            self.indexed(Family::Intents, &at, id.get())?;
        }
        self.index_size(Family::Intents, all.len(), all.len())
    }

    fn indexed(&mut self, family: Family, at: &[u8], id: u64) -> Read<()> {
        if self.txn.raw(family, at)?.is_none() {
            self.report
                .wrong(format!("{id} of {family} is not in the index of its keys"));
        }
        Ok(())
    }

    /// Records and index entries of a family, and nothing else.
    fn index_size(&mut self, family: Family, records: usize, entries: usize) -> Read<()> {
        let there = self.txn.keys(family, &[], usize::MAX)?.len();
        if there != records + entries {
            self.report.wrong(format!(
                "{family} has {there} entries instead of {records} records and {entries} of the index"
            ));
        }
        Ok(())
    }

    fn effects(&mut self) -> Read<()> {
        let all: Vec<Effect> = self
            .txn
            .records(Family::Effects, &key::all_owed(), usize::MAX)?;
        self.report.effects = all.len() as u64;
        let mut entries = 0;
        for effect in &all {
            let (id, mount) = (effect.id, effect.mount);
            if !self.mounts.contains_key(&mount) {
                self.report
                    .wrong(format!("effect {id} is of mount {mount}, which is gone"));
            }
            let refers = match &effect.kind {
                EffectKind::Delete { .. } => None,
                EffectKind::DeleteTree { root, .. } => {
                    self.detached.insert(*root);
                    Some(*root)
                }
                EffectKind::Rename { inode, .. } => {
                    self.moving.insert(*inode);
                    Some(*inode)
                }
                EffectKind::PutMarker { dir, .. } => Some(*dir),
            };
            if let Some(inode) = refers.filter(|inode| !self.inodes.contains_key(inode)) {
                self.report.wrong(format!(
                    "effect {id} refers to inode {inode}, which is gone"
                ));
            }
            for at in owed::index_keys(effect) {
                entries += 1;
                self.indexed(Family::Effects, &at, id.get())?;
            }
        }
        self.index_size(Family::Effects, all.len(), entries)
    }

    fn garbage(&mut self) -> Read<()> {
        for at in self
            .txn
            .keys(Family::Jobs, &key::all_garbage(), usize::MAX)?
        {
            let root = key::tagged_number(&at).ok_or_else(|| odd_key(Family::Jobs))?;
            if !self.detached.insert(InodeId::new(root)) {
                self.report
                    .wrong(format!("the tree {root} is to be freed and to be removed"));
            }
        }
        Ok(())
    }

    /// Each inode has a name, each count is right. Trees that were taken out have names
    /// below their root, and their counts are not kept.
    fn tree(&mut self) -> Read<()> {
        let root = self.txn.root()?;
        let mut freed = self.detached.clone();
        for top in self.detached.clone() {
            if !self.inodes.contains_key(&top) {
                self.report
                    .wrong(format!("the detached tree {top} is gone"));
                continue;
            }
            tree::walk(&self.txn, top, &mut |node| {
                freed.insert(node.id);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        for (id, inode) in &self.inodes {
            let top = *id == root || self.detached.contains(id);
            let expected = u64::from(!top);
            if inode.named != expected {
                let named = inode.named;
                self.report.wrong(format!(
                    "inode {id} has {named} names instead of {expected}"
                ));
            }
            if !freed.contains(id) && inode.children != inode.holds {
                let (says, holds) = (inode.children, inode.holds);
                self.report
                    .wrong(format!("inode {id} counts {says} names and holds {holds}"));
            }
            if !freed.contains(id) && inode.elsewhere != self.moving.contains(id) {
                self.report.wrong(format!(
                    "the object of inode {id} lies elsewhere, and no rename says so (or the reverse)"
                ));
            }
            let mount = inode.mount.filter(|_| !freed.contains(id));
            if let Some(mount) = mount.filter(|mount| !self.mounts.contains_key(mount)) {
                self.report.wrong(format!(
                    "inode {id} is the mount point of {mount}, which is gone"
                ));
            }
        }
        Ok(())
    }

    fn mounts(&mut self) -> Read<()> {
        for mount in self.mounts.values() {
            let on = self.inodes.get(&mount.root).and_then(|inode| inode.mount);
            if on != Some(mount.id) {
                let problem = format!("mount {} does not stand on its directory", mount.id);
                self.report.wrong(problem);
            }
        }
        for at in self.txn.keys(Family::Credentials, &[], usize::MAX)? {
            let id = key::parent_of_dentry(&at).map(|raw| MountId::new(raw.get()));
            if id.is_none_or(|id| !self.mounts.contains_key(&id)) {
                self.report.wrong("a credential belongs to no mount");
            }
        }
        Ok(())
    }

    /// Sessions and nodes can be read.
    fn others(&mut self) -> Read<()> {
        let _: Vec<SessionRecord> = self.txn.records(Family::Sessions, &[0], usize::MAX)?;
        let _: Vec<NodeRecord> = self
            .txn
            .records(Family::Nodes, &key::all_nodes(), usize::MAX)?;
        Ok(())
    }

    fn hash(&mut self) -> Read<()> {
        let mut sum = StateHash::default();
        for family in EngineKind::State.families() {
            each(self.engine, *family, &mut |at, value| {
                if StateHash::counts(*family, at) {
                    sum.add(*family, at, value);
                }
                Ok(())
            })?;
        }
        let kept = StateHash::load(self.engine)?;
        if sum != kept {
            self.report.wrong(format!(
                "the sum over the state is {sum} and was kept as {kept}"
            ));
        }
        Ok(())
    }
}
