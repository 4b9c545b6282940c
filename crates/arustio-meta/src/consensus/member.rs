//! A member without its thread: peer, state machine and everybody who waits.
//!
//! The same value is driven by the consensus thread and, step by step, by tests that crash
//! it at every write. An input only queues; [`Member::run`] does the rounds until nothing
//! is left to do: one synced write for everything that has queued up, then one slice to
//! apply, then the answers.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::{LogIndex, NodeId};
use parking_lot::RwLock;

use crate::config::CheckedConfig;
use crate::consensus::codec::Tag;
use crate::consensus::membership::{Change, Membership};
use crate::consensus::peer::{Begun, Committed, Meaning, Outgoing, Peer, Proposal, Refused};
use crate::consensus::proposal::{Proposals, Reply};
use crate::consensus::read::{Reads, Ready};
use crate::consensus::snapshot::{SnapshotFolder, StateCopy, Workshop};
use crate::consensus::transport::RaftTransport;
use crate::consensus::{GroupStatus, Notice, StateMark};
use crate::error::{FatalError, StoreError};
use crate::mutation::{Mutation, Mutations};
use crate::state_machine::{Entry, StateMachine, StateMachineError};
use crate::store::{Proposed, Role, StoreStatus};

mod changes;
mod compaction;
mod marks;
mod snapshots;

use changes::Changes;
use marks::Marks;
use snapshots::Snapshots;

/// What can happen to a member.
#[derive(Debug)]
pub(crate) enum Input<O> {
    /// A command, encoded.
    Propose(Vec<u8>, Reply<O>),
    /// Somebody wants to read what is newest now.
    Read(Ready),
    /// Somebody wants to read at least a position.
    ReadAt(LogIndex, Ready),
    /// A message from another member.
    Step(Vec<u8>),
    /// The group is to change.
    Change(Change, Notice<Arc<Membership>>),
    /// Leadership is to be handed over, to this voter or to the closest one.
    Transfer(Option<NodeId>, Notice<NodeId>),
    /// A snapshot is to be made, and the log below it dropped.
    Snapshot(Notice<crate::state_machine::LogPosition>),
    /// Somebody wants a copy of the state, to look into it.
    Copy(Notice<StateCopy>),
    /// Every member is to take down the sum over its state, at one new entry.
    TakeMark(Notice<StateMark>),
    /// Somebody wants to know what was taken down at an entry.
    MarkAt(LogIndex, Notice<StateMark>),
    /// Somebody wants to know how the group is.
    Group(Notice<GroupStatus>),
    /// The state is ready for a quick snapshot, or cannot be made so.
    Settled(Result<(), StateMachineError>),
    /// A snapshot has arrived: the message that goes with it, and its folder.
    SnapshotReceived(Vec<u8>, SnapshotFolder),
    /// A snapshot has arrived at a member, or not.
    SnapshotSent(NodeId, bool),
    /// A message could not be brought to a member.
    Unreachable(NodeId),
    /// Another member says that this one was removed.
    Removed,
    /// No input comes after this one.
    Stop,
}

/// Peer, state machine and everybody who waits.
#[derive(Debug)]
pub(crate) struct Member<S: StateMachine> {
    peer: Peer,
    machine: Arc<RwLock<S>>,
    transport: Arc<dyn RaftTransport>,
    proposals: Proposals<S::Outcome>,
    reads: Reads,
    /// Commands that the next round proposes, and their bytes.
    queued: Vec<Proposal>,
    queued_bytes: usize,
    max_batch: usize,
    max_waiting: usize,
    config: CheckedConfig,
    applied: LogIndex,
    led: bool,
    changes: Changes,
    snapshots: Snapshots,
    marks: Marks,
    removed: bool,
    rules: Mutations,
}

/// What a member needs beside its peer.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) transport: Arc<dyn RaftTransport>,
    pub(crate) workshop: Box<dyn Workshop>,
    /// Where snapshots are made.
    pub(crate) folder: PathBuf,
    /// Distinguishes this process from every other.
    pub(crate) run: u64,
}

impl<S: StateMachine> Member<S> {
    pub(crate) fn new(
        config: &CheckedConfig,
        peer: Peer,
        machine: Arc<RwLock<S>>,
        around: Surroundings,
    ) -> Self {
        let applied = machine.read().applied().position.index;
        around.transport.members(peer.members());
        Self {
            peer,
            machine,
            transport: around.transport,
            proposals: Proposals::new(around.run),
            reads: Reads::new(around.run),
            queued: Vec::new(),
            queued_bytes: 0,
            max_batch: usize::try_from(config.max_batch.get()).unwrap_or(usize::MAX),
            max_waiting: config.queue,
            config: config.clone(),
            applied,
            led: false,
            changes: Changes::new(around.run),
            snapshots: Snapshots::new(around.workshop, around.folder),
            marks: Marks::new(applied),
            removed: false,
            rules: Mutations::default(),
        }
    }

    /// Breaks a rule from now on.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn break_rules(&mut self, rules: Mutations) {
        self.rules = rules;
        self.peer.break_rules(rules);
    }

    /// The peer, to look at.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// A group of one need not wait for a clock to elect its only member.
    pub(crate) fn start(&mut self) -> Result<(), FatalError> {
        match self.peer.is_alone() {
            true => self.peer.campaign(),
            false => Ok(()),
        }
    }

    /// Takes an input. Returns whether there is room for more before the next round.
    pub(crate) fn take(&mut self, input: Input<S::Outcome>) -> bool {
        match input {
            Input::Propose(_, reply) if self.is_full() => {
                let _ = reply.send(Err(self.busy()));
            }
            Input::Read(ready) | Input::ReadAt(_, ready) if self.is_full() => {
                let _ = ready.send(Err(self.busy()));
            }
            Input::TakeMark(notice) | Input::MarkAt(_, notice) if self.is_full() => {
                let _ = notice.send(Err(self.busy()));
            }
            Input::Propose(payload, reply) => {
                let tag = self.proposals.wait(reply);
                self.queued_bytes += payload.len();
                self.queued.push(Proposal { tag, payload });
            }
            Input::Read(ready) if self.rules.has(Mutation::ReadWithoutIndex) => {
                let _ = ready.send(Ok(()));
            }
            Input::Read(ready) => self.reads.wait(ready),
            Input::ReadAt(index, ready) => self.reads.wait_for(index, ready),
            Input::Step(bytes) => {
                if let Err(reason) = self.peer.step(&bytes) {
                    tracing::warn!(reason, "dropped a message from another member");
                }
            }
            Input::Change(change, notice) => self.change(&change, notice),
            Input::Transfer(to, notice) => self.transfer(to, notice),
            Input::Snapshot(notice) => self.snapshots.ask(notice),
            Input::Copy(notice) => self.snapshots.ask_for_copy(notice),
            Input::TakeMark(notice) => self.take_mark(notice),
            Input::MarkAt(index, notice) => self.mark_at(index, notice),
            Input::Group(notice) => drop(notice.send(Ok(self.group()))),
            Input::Settled(result) => self.snapshots.settled(result),
            Input::SnapshotReceived(bytes, folder) => self.snapshot_received(&bytes, folder),
            Input::SnapshotSent(id, arrived) => self.peer.snapshot_sent(id, arrived),
            Input::Unreachable(id) => self.peer.unreachable(id),
            Input::Removed => self.removed = true,
            Input::Stop => {}
        }
        self.queued_bytes < self.max_batch
    }

    /// One beat of the group's clock.
    pub(crate) fn tick(&mut self) {
        self.peer.tick();
        self.proposals.sweep();
        self.reads.sweep();
        self.marks.sweep();
        self.watch_transfer();
        let patience = self.config.election_ticks;
        self.snapshots.release(&mut self.peer, patience);
        if let Some(tag) = self.reads.tick() {
            self.peer.read(tag);
        }
    }

    /// Does everything that can be done now; `now` is the monotonic clock.
    pub(crate) fn run(&mut self, now: Duration) -> Result<(), FatalError> {
        self.propose(now);
        loop {
            if let Some(tag) = self.reads.question() {
                self.peer.read(tag);
            }
            while let Some(begun) = self.peer.begin() {
                self.round(begun)?;
            }
            self.reads.applied(self.applied);
            self.ask_for_check();
            // Readers that came while a question was out are asked for now.
            if !self.peer.has_work() && !self.reads.has_question() {
                break;
            }
        }
        self.snapshots.forget_received();
        self.make_snapshot()?;
        self.compact()?;
        match self.removed {
            true => Err(FatalError::Removed {
                member: self.peer.status().member,
            }),
            false => Ok(()),
        }
    }

    fn round(&mut self, mut begun: Begun) -> Result<(), FatalError> {
        self.dispatch(mem::take(&mut begun.send_now));
        let installed = match &begun.install {
            Some(install) => Some(self.install(install)?),
            None => None,
        };
        let effects = self.peer.finish(begun)?;
        if let Some(index) = installed {
            self.peer.applied(index);
            self.members_changed(&Arc::clone(self.peer.members()));
        }
        self.dispatch(effects.send);
        self.apply(&effects.committed)?;
        for (tag, index) in effects.reads {
            self.reads.answered(tag, index);
        }
        self.note_leadership();
        Ok(())
    }

    fn dispatch(&mut self, messages: Vec<Outgoing>) {
        for Outgoing { envelope, snapshot } in messages {
            let Some(position) = snapshot else {
                self.transport.send(envelope);
                continue;
            };
            let to = envelope.to;
            match self.snapshots.shipment(envelope, position) {
                Some(shipment) => self.transport.send_snapshot(shipment),
                None => self.peer.snapshot_sent(to, false),
            }
        }
    }

    fn propose(&mut self, now: Duration) {
        if self.queued.is_empty() {
            return;
        }
        let queued = mem::take(&mut self.queued);
        self.queued_bytes = 0;
        let tags: Vec<Tag> = queued.iter().map(|proposal| proposal.tag).collect();
        let Err(refused) = self.peer.propose(queued, now) else {
            return;
        };
        let error = match refused {
            Refused::NotLeader(leader) => StoreError::NotLeader { leader },
            Refused::Busy => self.busy(),
        };
        for tag in tags {
            self.proposals.refused(tag, error.clone());
        }
    }

    /// Applies entries as one slice; a check of the state ends a slice, because a sum over
    /// the state is known at the end of a slice only.
    fn apply(&mut self, committed: &[Committed]) -> Result<(), FatalError> {
        let is_check = |entry: &Committed| matches!(entry.meaning, Meaning::Check(..));
        for slice in committed.split_inclusive(is_check) {
            self.apply_slice(slice)?;
            if let Some(Committed {
                meaning: Meaning::Check(index, hash),
                ..
            }) = slice.last()
            {
                self.compare(*index, *hash)?;
            }
        }
        Ok(())
    }

    fn apply_slice(&mut self, slice: &[Committed]) -> Result<(), FatalError> {
        let Some(last) = slice.last() else {
            return Ok(());
        };
        let members: Vec<_> = slice.iter().map(new_members).collect();
        let entries: Vec<Entry<'_>> = slice
            .iter()
            .zip(&members)
            .map(|(entry, members)| Entry {
                position: entry.position,
                time: entry.time,
                payload: entry.payload(),
                members: members.as_deref(),
            })
            .collect();
        let outcomes = self.machine.write().apply(&entries)?;
        self.applied = last.position.index;
        self.peer.applied(self.applied);
        for (entry, outcome) in slice.iter().zip(outcomes) {
            if let (Some(tag), Some(outcome)) = (entry.tag, outcome) {
                let position = entry.position;
                self.proposals.applied(tag, Proposed { outcome, position });
            }
            if let Meaning::Members(changed) = &entry.meaning {
                self.changed(entry.tag, changed);
            }
        }
        Ok(())
    }

    /// Ends the writers of a leader that is none any more.
    fn note_leadership(&mut self) {
        let leads = self.peer.status().role == Role::Leader;
        if self.led && !leads {
            self.proposals.end_all(&StoreError::LeadershipLost);
            self.changes.end_all(&StoreError::LeadershipLost);
            self.marks.end_wanted(&StoreError::LeadershipLost);
        }
        self.led = leads;
    }

    /// Ends everybody who waits.
    pub(crate) fn end_all(&mut self, error: &StoreError) {
        self.proposals.end_all(error);
        self.reads.end_all(error);
        self.changes.end_all(error);
        self.snapshots.end_all(error);
        self.marks.end_all(error);
    }

    /// Who belongs to the group.
    pub(crate) fn members(&self) -> &Arc<Membership> {
        self.peer.members()
    }

    fn group(&self) -> GroupStatus {
        let (first, last, bytes) = self.peer.log_range();
        GroupStatus {
            status: self.status(),
            membership: Arc::clone(self.peer.members()),
            progress: self.peer.progress(),
            log_first: first,
            log_last: last,
            log_bytes: bytes,
        }
    }

    pub(crate) fn status(&self) -> StoreStatus {
        StoreStatus {
            applied: self.applied,
            ..self.peer.status()
        }
    }

    /// Whether what is applied here is the newest there is, by membership alone.
    pub(crate) fn is_newest(&self) -> bool {
        self.peer.leads_alone() && self.applied == self.peer.status().commit
    }

    fn waiting(&self) -> usize {
        self.proposals.len() + self.reads.len() + self.marks.len()
    }

    /// Without a leader or a majority nobody is answered, and the queue must not grow.
    fn is_full(&self) -> bool {
        self.waiting() >= self.max_waiting
    }

    fn busy(&self) -> StoreError {
        StoreError::Busy {
            waiting: self.waiting(),
        }
    }
}

/// The record of a group that an entry makes.
fn new_members(entry: &Committed) -> Option<Vec<u8>> {
    match &entry.meaning {
        Meaning::Members(Ok(members)) => Some(members.encode()),
        Meaning::Members(Err(_)) | Meaning::Nothing | Meaning::Command | Meaning::Check(..) => None,
    }
}
