//! The Raft log, the hard state and the identity of this member, over the log engine.
//!
//! Entries lie in the family `log` by index; everything else in `meta`. One call of
//! [`RaftLog::append`] is one engine batch. The newest entries are also kept in memory,
//! because the library reads each entry again when it is committed. Compaction removes
//! entries that the state machine has made durable; the position of the last removed one
//! stays, for the library compares terms with it.
//!
//! The log of a new group starts *after* index 1 of term 1, as if that had been compacted:
//! the first membership is then part of the start and not of an entry. The log of a member
//! that joins later starts at 0, before that, so that it needs a snapshot first and gets
//! the membership with it.
//!
//! A snapshot that is being installed is marked here before the state is replaced; see
//! `snapshot`.

use std::cell::Cell;
use std::cmp;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use arustio_types::{LogIndex, NodeId};
use raft::eraftpb::{Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::consensus::membership::Membership;
use crate::consensus::{MemberIdentity, codec};
use crate::engine::{Batch, Durability, EngineError, Family, KvEngine, Scan};
use crate::error::FatalError;
use crate::state_machine::LogPosition;

const IDENTITY: &[u8] = b"identity";
const HARD_STATE: &[u8] = b"hard_state";
const MEMBERS: &[u8] = b"members";
const TRUNCATED: &[u8] = b"truncated";
const INSTALLING: &[u8] = b"installing";

/// Where the log of a new group starts.
pub(crate) const START: LogPosition = LogPosition {
    index: LogIndex::new(1),
    term: 1,
};

/// The identity that a log engine holds; `None` for an empty one.
pub(crate) fn read_identity(engine: &dyn KvEngine) -> Result<Option<MemberIdentity>, FatalError> {
    let bytes = engine
        .get(Family::Meta, IDENTITY)
        .map_err(FatalError::Log)?;
    bytes.as_deref().map(codec::decode_identity).transpose()
}

/// The commit index of the hard state; 0 in an empty engine.
pub(crate) fn read_commit(engine: &dyn KvEngine) -> Result<LogIndex, FatalError> {
    let bytes = engine.get(Family::Meta, HARD_STATE);
    let state = match bytes.map_err(FatalError::Log)? {
        Some(bytes) => codec::decode_hard_state(&bytes)?,
        None => HardState::default(),
    };
    Ok(LogIndex::new(state.commit))
}

/// The log of one member.
#[derive(Debug)]
pub(crate) struct RaftLog {
    engine: Arc<dyn KvEngine>,
    hard_state: HardState,
    /// As of the start of the log, or of whatever the caller has set since.
    members: Membership,
    truncated: LogPosition,
    last: LogPosition,
    tail: Tail,
    /// What the entries take, roughly.
    bytes: u64,
    /// The snapshot that can be shipped, and who belonged to the group then.
    offered: Option<(LogPosition, Membership)>,
    /// The library asked for a snapshot that there is not.
    wanted: Cell<bool>,
}

impl RaftLog {
    /// Opens the log, or founds one if the engine is empty: that of a group of these
    /// voters, or with none of a member that joins.
    pub(crate) fn open(
        engine: Arc<dyn KvEngine>,
        identity: MemberIdentity,
        founding: &Membership,
        cache_bytes: usize,
    ) -> Result<Self, FatalError> {
        match read_identity(engine.as_ref())? {
            None => {
                let start = match founding.voters.is_empty() {
                    true => LogPosition::default(),
                    false => START,
                };
                found(engine.as_ref(), identity, founding, start)?;
            }
            Some(found) if found == identity => {}
            Some(found) => {
                return Err(FatalError::WrongIdentity {
                    member: identity.member,
                    cluster: identity.cluster,
                    found_member: found.member,
                    found_cluster: found.cluster,
                });
            }
        }
        let read = |what, key: &[u8]| {
            let value = engine.get(Family::Meta, key).map_err(FatalError::Log)?;
            value.ok_or_else(|| missing(what))
        };
        let hard_state = codec::decode_hard_state(&read("the hard state", HARD_STATE)?)?;
        let members = Membership::decode(&read("the membership", MEMBERS)?)?;
        let truncated = codec::decode_position(&read("the start of the log", TRUNCATED)?)?;
        let mut log = Self {
            engine,
            hard_state,
            members,
            truncated,
            last: truncated,
            tail: Tail::new(cache_bytes),
            bytes: 0,
            offered: None,
            wanted: Cell::new(false),
        };
        log.load_tail()?;
        Ok(log)
    }

    /// Ends or forgets an installation that a crash has interrupted, by how far the state
    /// has come.
    pub(crate) fn settle_installation(&mut self, applied: LogIndex) -> Result<(), FatalError> {
        let mark = self
            .engine
            .get(Family::Meta, INSTALLING)
            .map_err(FatalError::Log)?;
        let Some(mark) = mark else {
            return Ok(());
        };
        let (position, members) = codec::decode_installation(&mark)?;
        if applied >= position.index {
            return self.restart(position, members, None);
        }
        let mut batch = Batch::new();
        batch.delete(Family::Meta, INSTALLING);
        self.engine
            .write(batch, Durability::Synced)
            .map_err(FatalError::Log)?;
        Ok(())
    }

    /// Marks that the state is about to be replaced by that of a later position.
    pub(crate) fn announce_installation(
        &self,
        position: LogPosition,
        members: &Membership,
    ) -> Result<(), FatalError> {
        let mut batch = Batch::new();
        let mark = codec::encode_installation(position, members);
        batch.put(Family::Meta, INSTALLING, mark);
        self.engine
            .write(batch, Durability::Synced)
            .map_err(FatalError::Log)?;
        Ok(())
    }

    /// Starts the log anew after a position that the state has reached by a snapshot. What
    /// this member voted for stays.
    pub(crate) fn restart(
        &mut self,
        position: LogPosition,
        members: Membership,
        hard_state: Option<&HardState>,
    ) -> Result<(), FatalError> {
        let mut state = hard_state.unwrap_or(&self.hard_state).clone();
        // Not what the round knows to be committed behind it: those entries are written next,
        // and a crash in between must not leave a commit index beyond the log.
        state.commit = position.index.get();
        let mut batch = Batch::new();
        batch.delete_range(Family::Log, key(0), key(u64::MAX));
        batch.put(Family::Meta, TRUNCATED, codec::encode_position(position));
        batch.put(Family::Meta, MEMBERS, members.encode());
        batch.put(Family::Meta, HARD_STATE, codec::encode_hard_state(&state));
        batch.delete(Family::Meta, INSTALLING);
        self.engine
            .write(batch, Durability::Synced)
            .map_err(FatalError::Log)?;
        self.hard_state = state;
        self.members = members;
        self.truncated = position;
        self.last = position;
        self.tail = Tail::new(self.tail.limit);
        self.bytes = 0;
        self.offered = None;
        Ok(())
    }

    /// Who belongs to the group at the position from which the library starts.
    pub(crate) fn members(&self) -> &Membership {
        &self.members
    }

    /// The state knows the membership of its own position better.
    pub(crate) fn set_members(&mut self, members: Membership) {
        self.members = members;
    }

    /// What the entries take, roughly, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A snapshot that can be shipped from now on; `None`: no more.
    pub(crate) fn offer(&mut self, offered: Option<(LogPosition, Membership)>) {
        self.offered = offered;
    }

    /// Whether the library has asked for a snapshot that there was not, since the last
    /// call.
    pub(crate) fn take_wanted(&self) -> bool {
        self.wanted.take()
    }

    /// Fills the cache with the newest entries and checks that they follow one another.
    fn load_tail(&mut self) -> Result<(), FatalError> {
        let mut newest: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut damage = None;
        let start = key(self.truncated.index.get() + 1);
        let scan = Scan::range(&start, None).backward();
        let limit = self.tail.limit;
        let visited = self.engine.scan(Family::Log, scan, &mut |key, value| {
            match entry_at(key, value) {
                Ok(entry) => {
                    bytes += size(&entry);
                    newest.push(entry);
                }
                Err(error) => damage = Some(error),
            }
            if damage.is_some() || bytes >= limit {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        visited.map_err(FatalError::Log)?;
        if let Some(damage) = damage {
            return Err(damage);
        }
        newest.reverse();
        for pair in newest.windows(2) {
            if pair[0].index + 1 != pair[1].index {
                return Err(gap(pair[0].index + 1));
            }
        }
        if let Some(first) = newest.first()
            && bytes < limit
            && first.index != self.truncated.index.get() + 1
        {
            return Err(gap(self.truncated.index.get() + 1));
        }
        if let Some(last) = newest.last() {
            self.last = position(last);
            let entries = self.last.index.get() - self.truncated.index.get();
            self.bytes = entries.saturating_mul(bytes as u64 / newest.len() as u64);
        }
        if self.hard_state.commit > self.last.index.get() {
            return Err(FatalError::LogBehindState {
                last: self.last.index,
                applied: LogIndex::new(self.hard_state.commit),
            });
        }
        newest.into_iter().for_each(|entry| self.tail.push(entry));
        Ok(())
    }

    /// Last entry, or where the log starts.
    pub(crate) fn last(&self) -> LogPosition {
        self.last
    }

    /// The last entry that was compacted away.
    pub(crate) fn truncated(&self) -> LogPosition {
        self.truncated
    }

    pub(crate) fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// Writes entries and hard state as one batch. Entries that stood at or after the
    /// first of the new ones are gone.
    pub(crate) fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<&HardState>,
        durability: Durability,
    ) -> Result<(), EngineError> {
        if entries.is_empty() && hard_state.is_none() {
            return Ok(());
        }
        let mut batch = Batch::new();
        if let Some(first) = entries.first()
            && first.index <= self.last.index.get()
        {
            let after_last = key(self.last.index.get() + 1);
            batch.delete_range(Family::Log, key(first.index), after_last);
            self.tail.truncate_from(first.index);
        }
        for entry in entries {
            batch.put(Family::Log, key(entry.index), codec::encode_entry(entry));
        }
        if let Some(state) = hard_state {
            batch.put(Family::Meta, HARD_STATE, codec::encode_hard_state(state));
            self.hard_state = state.clone();
        }
        self.engine.write(batch, durability)?;
        for entry in entries {
            self.last = position(entry);
            self.bytes += size(entry) as u64;
            self.tail.push(entry.clone());
        }
        Ok(())
    }

    /// Records that everything up to `commit` is committed, without waiting for the disk.
    pub(crate) fn set_commit(&mut self, commit: u64) -> Result<(), EngineError> {
        let state = HardState {
            commit,
            ..self.hard_state.clone()
        };
        self.append(&[], Some(&state), Durability::Buffered)
    }

    /// Removes entries up to `index`, which the state machine has made durable.
    pub(crate) fn compact(&mut self, index: LogIndex) -> Result<(), FatalError> {
        if index <= self.truncated.index {
            return Ok(());
        }
        let term = self.term_of(index.get())?;
        let truncated = LogPosition { index, term };
        let kept = self.last.index.get() - index.get();
        let had = self.last.index.get() - self.truncated.index.get();
        let mut batch = Batch::new();
        let first = key(self.truncated.index.get() + 1);
        batch.delete_range(Family::Log, first, key(index.get() + 1));
        batch.put(Family::Meta, TRUNCATED, codec::encode_position(truncated));
        self.engine
            .write(batch, Durability::Buffered)
            .map_err(FatalError::Log)?;
        self.truncated = truncated;
        self.bytes = self.bytes / had.max(1) * kept;
        self.tail.drop_up_to(index.get());
        Ok(())
    }

    /// Visits the entries after `after` in order.
    pub(crate) fn visit_after(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&Entry) -> Result<(), FatalError>,
    ) -> Result<(), FatalError> {
        let mut result = Ok(());
        let start = key(cmp::max(after, self.truncated.index.get()) + 1);
        let scan = Scan::range(&start, None);
        let visited = self.engine.scan(Family::Log, scan, &mut |key, value| {
            result = entry_at(key, value).and_then(|entry| visit(&entry));
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        visited.map_err(FatalError::Log)?;
        result
    }

    /// A stored entry; `None` outside the log.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn stored(&self, index: u64) -> Option<Entry> {
        if let Some(entry) = self.tail.get(index) {
            return Some(entry.clone());
        }
        let key = key(index);
        let value = self.engine.get(Family::Log, &key).ok()??;
        entry_at(&key, &value).ok()
    }

    fn term_of(&self, index: u64) -> Result<u64, FatalError> {
        if index == self.truncated.index.get() {
            return Ok(self.truncated.term);
        }
        if index == self.last.index.get() {
            return Ok(self.last.term);
        }
        if let Some(entry) = self.tail.get(index) {
            return Ok(entry.term);
        }
        let key = key(index);
        let value = self
            .engine
            .get(Family::Log, &key)
            .map_err(FatalError::Log)?;
        let value = value.ok_or_else(|| gap(index))?;
        Ok(entry_at(&key, &value)?.term)
    }

    fn read_entries(
        &self,
        low: u64,
        high: u64,
        max_bytes: Option<u64>,
    ) -> Result<Vec<Entry>, FatalError> {
        if let Some(cached) = self.tail.range(low, high, max_bytes) {
            return Ok(cached);
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0u64;
        let mut damage = None;
        let (start, end) = (key(low), key(high));
        let scan = Scan::range(&start, Some(&end));
        let visited =
            self.engine.scan(
                Family::Log,
                scan,
                &mut |key, value| match entry_at(key, value) {
                    Ok(entry) => {
                        bytes += size(&entry) as u64;
                        if !entries.is_empty() && max_bytes.is_some_and(|max| bytes > max) {
                            return ControlFlow::Break(());
                        }
                        entries.push(entry);
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        damage = Some(error);
                        ControlFlow::Break(())
                    }
                },
            );
        visited.map_err(FatalError::Log)?;
        match damage {
            Some(damage) => Err(damage),
            None if entries.first().is_none_or(|entry| entry.index != low) => Err(gap(low)),
            None => Ok(entries),
        }
    }
}

impl Storage for RaftLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.members.conf_state(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index.get() {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last.index.get() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        if low >= high {
            return Ok(Vec::new());
        }
        self.read_entries(low, high, max_size.into()).map_err(other)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.truncated.index.get() {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last.index.get() {
            return Err(StorageError::Unavailable.into());
        }
        self.term_of(index).map_err(other)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index.get() + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.index.get())
    }

    /// Only says what a snapshot holds: the content travels on its own.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let at_least = cmp::max(request_index, self.truncated.index.get());
        let fits = |offered: &&(LogPosition, Membership)| {
            let (position, members) = *offered;
            position.index.get() >= at_least && members.contains(NodeId::new(to))
        };
        let Some((position, members)) = self.offered.as_ref().filter(fits) else {
            self.wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        };
        let mut snapshot = Snapshot {
            data: members.encode(),
            ..Snapshot::default()
        };
        snapshot.set_metadata(SnapshotMetadata {
            conf_state: Some(members.conf_state()),
            index: position.index.get(),
            term: position.term,
        });
        Ok(snapshot)
    }
}

/// The newest entries, contiguous, at most so many bytes of them (always the last one).
#[derive(Debug)]
struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
}

impl Tail {
    fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += size(&entry);
        self.entries.push_back(entry);
        while self.bytes > self.limit && self.entries.len() > 1 {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= size(&entry);
        }
    }

    fn truncate_from(&mut self, index: u64) {
        while self
            .entries
            .back()
            .is_some_and(|entry| entry.index >= index)
        {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= size(&entry);
            }
        }
    }

    fn drop_up_to(&mut self, index: u64) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.index <= index)
        {
            self.pop_front();
        }
    }

    fn get(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.index;
        let offset = usize::try_from(index.checked_sub(first)?).ok()?;
        self.entries.get(offset)
    }

    fn range(&self, low: u64, high: u64, max_bytes: Option<u64>) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.index;
        let from = usize::try_from(low.checked_sub(first)?).ok()?;
        let to = usize::try_from(high.checked_sub(first)?).ok()?;
        if to > self.entries.len() {
            return None;
        }
        let mut bytes = 0u64;
        let mut entries = Vec::with_capacity(to - from);
        for entry in self.entries.range(from..to) {
            bytes += size(entry) as u64;
            if !entries.is_empty() && max_bytes.is_some_and(|max| bytes > max) {
                break;
            }
            entries.push(entry.clone());
        }
        Some(entries)
    }
}

/// Writes an empty log that starts after a position.
pub(crate) fn found(
    engine: &dyn KvEngine,
    identity: MemberIdentity,
    founding: &Membership,
    start: LogPosition,
) -> Result<(), FatalError> {
    let state = HardState {
        term: start.term,
        vote: 0,
        commit: start.index.get(),
    };
    let mut batch = Batch::new();
    batch.put(Family::Meta, IDENTITY, codec::encode_identity(&identity));
    batch.put(Family::Meta, MEMBERS, founding.encode());
    batch.put(Family::Meta, HARD_STATE, codec::encode_hard_state(&state));
    batch.put(Family::Meta, TRUNCATED, codec::encode_position(start));
    engine
        .write(batch, Durability::Synced)
        .map_err(FatalError::Log)?;
    Ok(())
}

fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn position(entry: &Entry) -> LogPosition {
    LogPosition {
        index: LogIndex::new(entry.index),
        term: entry.term,
    }
}

/// What an entry counts for; a little more than its bytes.
fn size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 32
}

fn entry_at(key: &[u8], value: &[u8]) -> Result<Entry, FatalError> {
    let entry = codec::decode_entry(value)?;
    if key == entry.index.to_be_bytes() {
        return Ok(entry);
    }
    Err(FatalError::CorruptLog {
        what: "a log entry",
        detail: format!("entry {} lies under another index", entry.index),
    })
}

fn gap(index: u64) -> FatalError {
    FatalError::CorruptLog {
        what: "a log entry",
        detail: format!("entry {index} is missing"),
    }
}

fn missing(what: &'static str) -> FatalError {
    FatalError::CorruptLog {
        what,
        detail: "it is missing".to_owned(),
    }
}

fn other(error: FatalError) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}

#[cfg(test)]
mod tests;
