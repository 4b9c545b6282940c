//! One more replica, which never crashes: it takes each entry when the first member is
//! given it, and so knows the committed log and what came of it. The others are compared
//! with it, and the object store is judged by what it holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arustio_types::meta::Outcome;
use arustio_types::{ClusterId, Incarnation};

use super::invariants::{Checked, Finding};
use super::watched::Taken;
use crate::consensus::MemberIdentity;
use crate::engine::{EngineKind, MemEngine};
use crate::error::StateMachineError;
use crate::namespace::Namespace;
use crate::state_machine::{Entry, StateMachine as _};
use crate::testing::Mutation;

/// Where the log of a group starts.
const FIRST: u64 = 2;
const COMMITTED: &str = "committed entries are never lost";

/// An entry and what came of it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) taken: Taken,
    pub(super) outcome: Option<Outcome>,
    hash: u128,
}

#[derive(Debug)]
pub(super) struct Truth {
    pub(super) namespace: Namespace,
    records: Vec<Record>,
    /// Given out behind a gap.
    ahead: BTreeMap<u64, Taken>,
    hashes_ahead: BTreeMap<u64, u128>,
}

pub(super) fn identity(member: u64) -> MemberIdentity {
    MemberIdentity {
        cluster: ClusterId::new(7),
        incarnation: Incarnation::new(1),
        member: arustio_types::NodeId::new(member),
    }
}

/// A namespace over an engine, with a rule broken or none.
pub(super) fn open(
    engine: Arc<dyn crate::engine::KvEngine>,
    broken: Option<Mutation>,
) -> Result<Namespace, StateMachineError> {
    let MemberIdentity {
        cluster,
        incarnation,
        ..
    } = identity(0);
    Ok(Namespace::open(engine, cluster, incarnation)?.breaking(broken))
}

impl Truth {
    pub(super) fn new(broken: Option<Mutation>) -> Self {
        let engine = Arc::new(MemEngine::new(EngineKind::State));
        let namespace = open(engine, broken).expect("an engine in memory does not fail");
        Self {
            namespace,
            records: Vec::new(),
            ahead: BTreeMap::new(),
            hashes_ahead: BTreeMap::new(),
        }
    }

    /// The first entry that it does not know.
    fn next(&self) -> u64 {
        FIRST + self.records.len() as u64
    }

    pub(super) fn record(&self, index: u64) -> Option<&Record> {
        let at = usize::try_from(index.checked_sub(FIRST)?).ok()?;
        self.records.get(at)
    }

    /// Takes an entry that somebody was given; returns the indexes that are new.
    pub(super) fn take(&mut self, taken: Taken) -> Checked<std::ops::Range<u64>> {
        let index = taken.position.index.get();
        let from = self.next();
        let known = self.record(index).map(|record| &record.taken);
        if let Some(known) = known.or_else(|| self.ahead.get(&index)) {
            return same(known, &taken).map(|()| from..from);
        }
        self.ahead.insert(index, taken);
        while let Some(taken) = self.ahead.remove(&self.next()) {
            self.apply(taken)?;
        }
        Ok(from..self.next())
    }

    fn apply(&mut self, taken: Taken) -> Checked<()> {
        let entry = Entry {
            position: taken.position,
            time: taken.time,
            payload: &taken.payload,
            members: taken.members.as_deref(),
        };
        let index = taken.position.index.get();
        let broken = |error: StateMachineError| {
            Finding::new("entries can be applied", format!("entry {index}: {error}"))
        };
        let outcome = self
            .namespace
            .apply(&[entry])
            .map_err(broken)?
            .pop()
            .flatten();
        let hash = self.namespace.state_hash().get();
        self.records.push(Record {
            taken,
            outcome,
            hash,
        });
        match self.hashes_ahead.remove(&index) {
            Some(other) => same_hash(index, hash, other),
            None => Ok(()),
        }
    }

    /// A replica has applied up to here and has this sum over its state.
    pub(super) fn compare(&mut self, index: u64, hash: u128) -> Checked<()> {
        if index < FIRST {
            return Ok(());
        }
        match self.record(index) {
            Some(record) => same_hash(index, record.hash, hash),
            None => {
                self.hashes_ahead.insert(index, hash);
                Ok(())
            }
        }
    }
}

fn same(known: &Taken, taken: &Taken) -> Checked<()> {
    let parts = |taken: &Taken| {
        let Taken {
            position,
            time,
            payload,
            members,
            by: _,
        } = taken.clone();
        (position, time, payload, members)
    };
    if parts(known) == parts(taken) {
        return Ok(());
    }
    let what = format!(
        "entry {} is of term {} for member {} and of term {} for member {}, or differs",
        taken.position.index, known.position.term, known.by, taken.position.term, taken.by
    );
    Err(Finding::new(COMMITTED, what))
}

fn same_hash(index: u64, one: u128, other: u128) -> Checked<()> {
    match one == other {
        true => Ok(()),
        false => Err(Finding::new(
            "replicas have equal states",
            format!("after entry {index}: {one:032x} and {other:032x}"),
        )),
    }
}
