//! Reading and changing records: typed access to an overlay of the engine.
//!
//! One transaction spans a slice of log entries, so that a later entry sees what an
//! earlier one did; each command works above a savepoint and leaves nothing behind when
//! it is refused. Queries use the same type and never change anything.

use std::ops::ControlFlow;

use arustio_types::meta::command::{Outcome, Refusal};
use arustio_types::meta::effect::Effect;
use arustio_types::meta::intent::Intent;
use arustio_types::meta::mount::MountEntry;
use arustio_types::{EffectId, InodeId, IntentId, LogIndex, MountId, NodeId, SessionId};

use crate::engine::overlay::Change;
use crate::engine::record::{Counters, DentryRecord, InodeRecord, Record};
use crate::engine::{EngineError, Family, KvEngine, Overlay, Scan, key, prefix_end};
use crate::error::StateMachineError;
use crate::mutation::Mutations;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// With an answer to the caller.
    Answer(Box<Outcome>),
    /// Because this replica cannot go on.
    Fault(StateMachineError),
}

/// A step of a command.
pub(crate) type Step<T> = Result<T, Stop>;

impl From<StateMachineError> for Stop {
    fn from(fault: StateMachineError) -> Self {
        Self::Fault(fault)
    }
}

impl From<EngineError> for Stop {
    fn from(fault: EngineError) -> Self {
        Self::Fault(fault.into())
    }
}

impl From<Outcome> for Stop {
    fn from(outcome: Outcome) -> Self {
        Self::Answer(Box::new(outcome))
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Outcome::Refused(refusal).into()
    }
}

/// A read of records.
pub(crate) type Read<T> = Result<T, StateMachineError>;

/// Inodes lie side by side, as merges make them, where so many numbers hold one of those
/// that are read: to pass a record costs that much less than to look for one.
const DENSE: u64 = 4;

/// Visits a pair; `Break` ends a scan.
pub(crate) type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> Read<ControlFlow<()>> + 'v;

/// Typed access to records, pending changes included.
#[derive(Debug)]
pub(crate) struct Txn<'e> {
    overlay: Overlay<'e>,
    /// Whether any path has settings, as long as that is known.
    settings: Option<bool>,
}

impl<'e> Txn<'e> {
    pub(crate) fn new(engine: &'e dyn KvEngine) -> Self {
        Self {
            overlay: Overlay::new(engine),
            settings: None,
        }
    }

    /// For a slice of entries: what is read once is remembered.
    pub(crate) fn of_slice(engine: &'e dyn KvEngine) -> Self {
        Self {
            overlay: Overlay::remembering(engine),
            settings: None,
        }
    }

    /// A refused command returns to here.
    pub(crate) fn savepoint(&mut self) {
        self.overlay.savepoint();
    }

    pub(crate) fn rollback(&mut self) {
        self.overlay.rollback();
    }

    pub(crate) fn into_changes(self) -> Read<Vec<Change>> {
        Ok(self.overlay.into_changes()?)
    }

    /// The same, where it is known already whether any path has settings.
    pub(crate) fn with_settings(mut self, any: bool) -> Self {
        self.settings = Some(any);
        self
    }

    /// Whether any path has settings.
    pub(crate) fn has_settings(&self) -> Read<bool> {
        match self.settings {
            Some(any) => Ok(any),
            None => self.any(Family::Settings, &[]),
        }
    }

    pub(crate) fn raw(&self, family: Family, at: &[u8]) -> Read<Option<Vec<u8>>> {
        Ok(self.overlay.get(family, at)?)
    }

    pub(crate) fn get<R: Record>(&self, family: Family, at: &[u8]) -> Read<Option<R>> {
        let bytes = self.overlay.get(family, at)?;
        bytes.map(|bytes| R::decode_stored(&bytes)).transpose()
    }

    pub(crate) fn put<R: Record>(&mut self, family: Family, at: Vec<u8>, record: &R) {
        self.put_raw(family, at, record.encode());
    }

    pub(crate) fn put_raw(&mut self, family: Family, at: Vec<u8>, value: Vec<u8>) {
        self.touch(family);
        self.overlay.put(family, at, value);
    }

    pub(crate) fn delete(&mut self, family: Family, at: Vec<u8>) {
        self.touch(family);
        self.overlay.delete(family, at);
    }

    fn touch(&mut self, family: Family) {
        if family == Family::Settings {
            self.settings = None;
        }
    }

    /// Visits every pair whose key starts with `prefix`, from `start` on.
    pub(crate) fn each(
        &self,
        family: Family,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
        visit: &mut Visit<'_>,
    ) -> Read<()> {
        let end = prefix_end(prefix);
        let scan = Scan::range(start.max(prefix), end.as_deref()).limit(limit);
        let mut fault = Ok(());
        self.overlay.scan(family, scan, &mut |found, value| {
            visit(found, value).unwrap_or_else(|error| {
                fault = Err(error);
                ControlFlow::Break(())
            })
        })?;
        fault
    }

    /// The keys that start with `prefix`, at most so many.
    pub(crate) fn keys(&self, family: Family, prefix: &[u8], limit: usize) -> Read<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        self.each(family, prefix, prefix, limit, &mut |at, _| {
            found.push(at.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The records whose keys start with `prefix`, at most so many.
    pub(crate) fn records<R: Record>(
        &self,
        family: Family,
        prefix: &[u8],
        limit: usize,
    ) -> Read<Vec<R>> {
        let mut found = Vec::new();
        self.each(family, prefix, prefix, limit, &mut |_, value| {
            found.push(R::decode_stored(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    pub(crate) fn any(&self, family: Family, prefix: &[u8]) -> Read<bool> {
        Ok(!self.keys(family, prefix, 1)?.is_empty())
    }

    pub(crate) fn dentry(&self, parent: InodeId, name: &str) -> Read<Option<DentryRecord>> {
        self.get(Family::Dentries, &key::dentry(parent, name))
    }

    pub(crate) fn put_dentry(&mut self, parent: InodeId, name: &str, record: &DentryRecord) {
        self.put(Family::Dentries, key::dentry(parent, name), record);
    }

    pub(crate) fn inode(&self, id: InodeId) -> Read<Option<InodeRecord>> {
        self.get(Family::Inodes, &key::inode(id))
    }

    /// The inode that a name leads to; without it the state is damaged.
    pub(crate) fn named_inode(&self, id: InodeId) -> Read<InodeRecord> {
        self.inode(id)?.ok_or_else(|| nameless(id))
    }

    /// Visits the stored records of inodes, each with its place in `ids`; in which order is
    /// left open. Cheaper than one by one.
    pub(crate) fn each_inode(
        &self,
        ids: &[InodeId],
        visit: &mut dyn FnMut(usize, &[u8]) -> Read<()>,
    ) -> Read<()> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|at| ids[*at]);
        let (Some(first), Some(last)) = (order.first(), order.last()) else {
            return Ok(());
        };
        let (first, last) = (ids[*first].get(), ids[*last].get());
        match last - first < DENSE * ids.len() as u64 {
            true => self.inodes_in_row(ids, &order, visit),
            false => self.inodes_apart(ids, &order, visit),
        }
    }

    /// One scan from the first to the last, past what lies between them.
    fn inodes_in_row(
        &self,
        ids: &[InodeId],
        order: &[usize],
        visit: &mut dyn FnMut(usize, &[u8]) -> Read<()>,
    ) -> Read<()> {
        let mut wanted = order.iter().copied().peekable();
        let start = order
            .first()
            .map_or_else(Vec::new, |at| key::inode(ids[*at]));
        let mut visit = |found: &[u8], value: &[u8]| {
            let found = key::inode_of(found);
            while let Some(at) = wanted.next_if(|at| Some(ids[*at]) == found) {
                visit(at, value)?;
            }
            Ok(match wanted.peek() {
                Some(at) if Some(ids[*at]) < found => return Err(nameless(ids[*at])),
                Some(_) => ControlFlow::Continue(()),
                None => ControlFlow::Break(()),
            })
        };
        self.each(Family::Inodes, &[], &start, usize::MAX, &mut visit)?;
        wanted.next().map_or(Ok(()), |at| Err(nameless(ids[at])))
    }

    fn inodes_apart(
        &self,
        ids: &[InodeId],
        order: &[usize],
        visit: &mut dyn FnMut(usize, &[u8]) -> Read<()>,
    ) -> Read<()> {
        let keys: Vec<Vec<u8>> = order.iter().map(|at| key::inode(ids[*at])).collect();
        let values = self.overlay.get_many(Family::Inodes, &keys)?;
        for (at, value) in order.iter().zip(values) {
            let value = value.ok_or_else(|| nameless(ids[*at]))?;
            visit(*at, &value)?;
        }
        Ok(())
    }

    pub(crate) fn put_inode(&mut self, id: InodeId, record: &InodeRecord) {
        self.put(Family::Inodes, key::inode(id), record);
    }

    pub(crate) fn delete_inode(&mut self, id: InodeId) {
        self.delete(Family::Inodes, key::inode(id));
    }

    /// Names of a directory from `start` on, in name order.
    pub(crate) fn names(
        &self,
        dir: InodeId,
        start: &str,
        limit: usize,
    ) -> Read<Vec<(String, DentryRecord)>> {
        let mut found = Vec::new();
        self.each_name(dir, start, limit, &mut |name, record| {
            found.push((name.to_owned(), record));
        })?;
        Ok(found)
    }

    /// Visits the names of a directory from `start` on, in name order.
    pub(crate) fn each_name(
        &self,
        dir: InodeId,
        start: &str,
        limit: usize,
        visit: &mut dyn FnMut(&str, DentryRecord),
    ) -> Read<()> {
        let (prefix, start) = (key::dentries_of(dir), key::dentry(dir, start));
        self.each(
            Family::Dentries,
            &prefix,
            &start,
            limit,
            &mut |at, value| {
                let name = key::name_of_dentry(at).ok_or_else(|| StateMachineError::Corrupt {
                    what: "a name of a directory",
                    detail: format!("inode {dir} has a name that is not UTF-8"),
                })?;
                visit(name, DentryRecord::decode_stored(value)?);
                Ok(ControlFlow::Continue(()))
            },
        )
    }

    /// The inode of `/`.
    pub(crate) fn root(&self) -> Read<InodeId> {
        let stored = self.raw(Family::Meta, key::ROOT)?;
        let raw = stored.and_then(|bytes| bytes.first_chunk().map(|raw| u64::from_be_bytes(*raw)));
        Ok(raw.map_or(InodeId::ROOT, InodeId::new))
    }

    pub(crate) fn set_root(&mut self, id: InodeId) {
        let bytes = id.get().to_be_bytes().to_vec();
        self.put_raw(Family::Meta, key::ROOT.to_vec(), bytes);
    }

    pub(crate) fn mount(&self, id: MountId) -> Read<Option<MountEntry>> {
        self.get(Family::Mounts, &key::mount(id))
    }

    /// Every mount, by number.
    pub(crate) fn mounts(&self) -> Read<Vec<MountEntry>> {
        self.records(Family::Mounts, &[], usize::MAX)
    }

    pub(crate) fn intent(&self, id: IntentId) -> Read<Option<Intent>> {
        self.get(Family::Intents, &key::owed(id.get()))
    }

    pub(crate) fn effect(&self, id: EffectId) -> Read<Option<Effect>> {
        self.get(Family::Effects, &key::owed(id.get()))
    }

    pub(crate) fn counters(&self) -> Read<Counters> {
        Ok(self.get(Family::Meta, key::COUNTERS)?.unwrap_or_default())
    }

    pub(crate) fn set_counters(&mut self, counters: &Counters) {
        self.put(Family::Meta, key::COUNTERS.to_vec(), counters);
    }

    fn next(&mut self, pick: impl FnOnce(&mut Counters) -> &mut u64) -> Read<u64> {
        let mut counters = self.counters()?;
        let counter = pick(&mut counters);
        let number = *counter;
        *counter += 1;
        self.set_counters(&counters);
        Ok(number)
    }

    pub(crate) fn next_inode(&mut self) -> Read<InodeId> {
        self.next(|counters| &mut counters.inode).map(InodeId::new)
    }

    pub(crate) fn next_mount(&mut self) -> Read<MountId> {
        self.next(|counters| &mut counters.mount).map(MountId::new)
    }

    pub(crate) fn next_session(&mut self) -> Read<SessionId> {
        self.next(|counters| &mut counters.session)
            .map(SessionId::new)
    }

    pub(crate) fn next_intent(&mut self) -> Read<IntentId> {
        self.next(|counters| &mut counters.intent)
            .map(IntentId::new)
    }

    pub(crate) fn next_effect(&mut self) -> Read<EffectId> {
        self.next(|counters| &mut counters.effect)
            .map(EffectId::new)
    }

    pub(crate) fn next_node(&mut self) -> Read<NodeId> {
        self.next(|counters| &mut counters.node).map(NodeId::new)
    }
}

fn nameless(id: InodeId) -> StateMachineError {
    StateMachineError::Corrupt {
        what: "an inode",
        detail: format!("inode {id} has a name and no record"),
    }
}

/// What a rule needs to know about the entry that it works for.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Where the entry stands; every change of this command carries it.
    pub(crate) at: LogIndex,
    /// Replicated milliseconds.
    pub(crate) time: u64,
    /// Who asks; 0 outside a session.
    pub(crate) session: SessionId,
    /// User name.
    pub(crate) user: String,
    /// Primary group.
    pub(crate) group: String,
    /// Wall clock of the proposer, for modification times only.
    pub(crate) now: arustio_types::Timestamp,
    /// Part of every derived content id.
    pub(crate) incarnation: arustio_types::Incarnation,
    /// What a test has broken.
    pub(crate) rules: Mutations,
}
