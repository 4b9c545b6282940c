//! Every invariant of the state, checked over all of it.
//!
//! What it finds are defects of ours or of the disk: nothing that users do may lead to
//! one. Tests run it after every random command; an operator runs it on a checkpoint or on
//! the folder of a server that is stopped.
//!
//! Memory does not grow with the number of files: families are scanned side by side, the
//! names that lead to an inode are counted for a stretch of inodes at a time, and what is
//! kept for all of the state is what is owed, mounted and wrong.

mod beside;
mod names;
mod owed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;

use arustio_types::meta::mount::MountEntry;
use arustio_types::{FsPath, InodeId, MountId};

use super::state_hash::StateHash;
use super::tree;
use super::txn::{Read, Txn};
use crate::engine::record::Counters;
use crate::engine::{EngineKind, Family, KvEngine, Scan, key, prefix_end};
use crate::error::StateMachineError;
use crate::state_machine::Applied;

/// Problems that are told; more are counted.
const MAX_TOLD: usize = 1_000;
/// Inodes that look wrong and are looked up in the trees that are being freed; more are
/// told as they are.
const MAX_SUSPECTS: usize = 100_000;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The inode that it is about.
    pub inode: Option<InodeId>,
    /// The path that leads to that inode, where one does.
    pub path: Option<FsPath>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.inode) {
            (Some(path), Some(inode)) => write!(f, "{path} (inode {inode}): {}", self.what),
            (None, Some(inode)) => write!(f, "inode {inode}: {}", self.what),
            (_, None) => f.write_str(&self.what),
        }
    }
}

/// What a check of the whole state found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// The position that it reflects.
    pub applied: Applied,
    /// Over all records as they are: equal for replicas that have come to the same position.
    pub sum: StateHash,
    /// Records of every kind.
    pub records: u64,
    /// Files and directories, those being freed included.
    pub inodes: u64,
    /// The files among them.
    pub files: u64,
    /// Names.
    pub names: u64,
    /// Mounts.
    pub mounts: u64,
    /// Writers' announcements.
    pub intents: u64,
    /// Pieces of work owed.
    pub effects: u64,
    /// Sessions of clients.
    pub sessions: u64,
    /// Block nodes.
    pub nodes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Problems beyond those.
    pub more_problems: u64,
}

impl Verified {
    /// The directories among the inodes.
    pub fn directories(&self) -> u64 {
        self.inodes - self.files
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn tell(&mut self, inode: Option<InodeId>, what: String) {
        match self.problems.len() < MAX_TOLD {
            true => self.problems.push(Problem {
                inode,
                path: None,
                what,
            }),
            false => self.more_problems += 1,
        }
    }

    fn wrong(&mut self, what: impl fmt::Display) {
        self.tell(None, what.to_string());
    }

    fn wrong_inode(&mut self, inode: InodeId, what: impl fmt::Display) {
        self.tell(Some(inode), what.to_string());
    }
}

struct Check<'e> {
    engine: &'e dyn KvEngine,
    txn: Txn<'e>,
    applied: Applied,
    counters: Counters,
    root: InodeId,
    mounts: BTreeMap<MountId, MountEntry>,
    /// Roots of trees that were taken out of the namespace.
    detached: BTreeSet<InodeId>,
    /// Inodes whose objects are being moved.
    moving: BTreeSet<InodeId>,
    /// Directories whose objects are moved step by step.
    moving_trees: BTreeSet<InodeId>,
    /// What is wrong unless the inode lies in a tree that was taken out: counts of those
    /// are not kept.
    suspects: BTreeMap<InodeId, Vec<String>>,
    report: Verified,
}

/// Checks the state in an engine.
pub(crate) fn verify(engine: &dyn KvEngine) -> Read<Verified> {
    let txn = Txn::new(engine);
    let mounts = txn.mounts()?;
    let applied: Applied = txn.get(Family::Meta, key::APPLIED)?.unwrap_or_default();
    let mut check = Check {
        engine,
        applied,
        counters: txn.counters()?,
        root: txn.root()?,
        mounts: mounts.into_iter().map(|mount| (mount.id, mount)).collect(),
        txn,
        detached: BTreeSet::new(),
        moving: BTreeSet::new(),
        moving_trees: BTreeSet::new(),
        suspects: BTreeMap::new(),
        report: Verified {
            applied,
            ..Verified::default()
        },
    };
    check.report.mounts = check.mounts.len() as u64;
    check.meta()?;
    check.intents()?;
    check.effects()?;
    check.garbage()?;
    check.inodes()?;
    let named_once = check.names()?;
    check.mounts()?;
    check.credentials()?;
    check.settings()?;
    check.sessions()?;
    check.nodes()?;
    check.hash()?;
    check.trees(named_once)?;
    Ok(check.report)
}

/// Visits a pair.
type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> Read<()> + 'v;

/// Visits every pair of a family whose key starts with `prefix`.
fn each(engine: &dyn KvEngine, family: Family, prefix: &[u8], visit: &mut Visit<'_>) -> Read<()> {
    let mut fault = Ok(());
    let end = prefix_end(prefix);
    let scan = Scan::range(prefix, end.as_deref());
    engine.scan(family, scan, &mut |at, value| match visit(at, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            fault = Err(error);
            ControlFlow::Break(())
        }
    })?;
    fault
}

fn odd_key(family: Family) -> StateMachineError {
    StateMachineError::Corrupt {
        what: "a key",
        detail: format!("the family {family} has a key of another form"),
    }
}

impl Check<'_> {
    fn meta(&mut self) -> Read<()> {
        let report = &mut self.report;
        each(self.engine, Family::Meta, &[], &mut |at, _| {
            if !key::ALL_META.contains(&at) {
                let at = String::from_utf8_lossy(at);
                report.wrong(format!("the family meta has an entry {at:?} of no meaning"));
            }
            Ok(())
        })
    }

    /// A number that its counter has not reached yet would be given again.
    fn given(&mut self, what: &str, id: u64, next: u64) {
        if id >= next {
            self.report.wrong(format!(
                "{what} {id} exists, and the next one will be numbered {next}"
            ));
        }
    }

    fn suspect(&mut self, inode: InodeId, what: String) {
        match self.suspects.len() < MAX_SUSPECTS {
            true => self.suspects.entry(inode).or_default().push(what),
            false => self.report.wrong_inode(inode, what),
        }
    }

    fn hash(&mut self) -> Read<()> {
        let mut sum = StateHash::default();
        for family in EngineKind::State.families() {
            each(self.engine, *family, &[], &mut |at, value| {
                self.report.records += 1;
                if StateHash::counts(*family, at) {
                    sum.add(*family, at, value);
                }
                Ok(())
            })?;
        }
        self.report.sum = sum;
        let kept = StateHash::load(self.engine)?;
        if sum != kept {
            self.report.wrong(format!(
                "the sum over the state is {sum} and was kept as {kept}"
            ));
        }
        Ok(())
    }

    /// Everything hangs on the root or on a tree that was taken out; suspects in the
    /// latter are acquitted, and problems get their paths. Where names lead to one inode
    /// twice there may be circles, which a walk would not leave.
    fn trees(&mut self, named_once: bool) -> Read<()> {
        let mut reached = 0_u64;
        let suspects = &mut self.suspects;
        if named_once {
            for top in &self.detached {
                suspects.remove(top);
                tree::walk(&self.txn, *top, &mut |node| {
                    suspects.remove(&node.id);
                    reached += 1;
                    Ok(ControlFlow::Continue(()))
                })?;
            }
        }
        for (inode, problems) in std::mem::take(&mut self.suspects) {
            for what in problems {
                self.report.wrong_inode(inode, what);
            }
        }
        if !named_once {
            return Ok(());
        }
        let problems = &mut self.report.problems;
        let about: BTreeSet<InodeId> = problems.iter().filter_map(|one| one.inode).collect();
        let mut paths = BTreeMap::from([(self.root, FsPath::root())]);
        tree::walk(&self.txn, self.root, &mut |node| {
            reached += 1;
            if about.contains(&node.id)
                && let Ok(path) = FsPath::root().join_relative(&node.relative)
            {
                paths.insert(node.id, path);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for problem in problems.iter_mut() {
            problem.path = problem.inode.and_then(|inode| paths.get(&inode).cloned());
        }
        if reached != self.report.names {
            let lost = self.report.names.abs_diff(reached);
            self.report.wrong(format!(
                "{lost} names are reached neither from the root nor from a tree that is being freed"
            ));
        }
        Ok(())
    }
}
