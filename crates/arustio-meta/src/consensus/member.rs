//! A member without its thread: peer, state machine and everybody who waits.
//!
//! The same value is driven by the consensus thread and, step by step, by tests that crash
//! it at every write. An input only queues; [`Member::run`] does the rounds until nothing
//! is left to do: one synced write for everything that has queued up, then one slice to
//! apply, then the answers.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::LogIndex;
use parking_lot::RwLock;

use crate::config::CheckedConfig;
use crate::consensus::codec::Tag;
use crate::consensus::peer::{Committed, Peer, Proposal, Refused};
use crate::consensus::proposal::{Proposals, Reply};
use crate::consensus::read::{Reads, Ready};
use crate::consensus::transport::RaftTransport;
use crate::error::{FatalError, StoreError};
use crate::state_machine::{Entry, StateMachine};
use crate::store::{Proposed, Role, StoreStatus};

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
    compact_after: u64,
    compact_keep: u64,
    applied: LogIndex,
    led: bool,
}

impl<S: StateMachine> Member<S> {
    pub(crate) fn new(
        config: &CheckedConfig,
        peer: Peer,
        machine: Arc<RwLock<S>>,
        transport: Arc<dyn RaftTransport>,
        run: u64,
    ) -> Self {
        let applied = machine.read().applied().position.index;
        Self {
            peer,
            machine,
            transport,
            proposals: Proposals::new(run),
            reads: Reads::new(run),
            queued: Vec::new(),
            queued_bytes: 0,
            max_batch: usize::try_from(config.max_batch.get()).unwrap_or(usize::MAX),
            max_waiting: config.queue,
            compact_after: config.compact_after,
            compact_keep: config.compact_keep,
            applied,
            led: false,
        }
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
            Input::Propose(payload, reply) => {
                let tag = self.proposals.wait(reply);
                self.queued_bytes += payload.len();
                self.queued.push(Proposal { tag, payload });
            }
            Input::Read(ready) => self.reads.wait(ready),
            Input::ReadAt(index, ready) => self.reads.wait_for(index, ready),
            Input::Step(bytes) => {
                if let Err(reason) = self.peer.step(&bytes) {
                    tracing::warn!(reason, "dropped a message from another member");
                }
            }
            Input::Stop => {}
        }
        self.queued_bytes < self.max_batch
    }

    /// One beat of the group's clock.
    pub(crate) fn tick(&mut self) {
        self.peer.tick();
        self.proposals.sweep();
        self.reads.sweep();
        if let Some(tag) = self.reads.tick() {
            self.peer.read(tag);
        }
    }

    /// Does everything that can be done now; `now` is the monotonic clock.
    pub(crate) fn run(&mut self, now: Duration) -> Result<(), FatalError> {
        self.propose(now);
        if let Some(tag) = self.reads.question() {
            self.peer.read(tag);
        }
        while let Some(begun) = self.peer.begin() {
            let mut begun = begun;
            for envelope in mem::take(&mut begun.send_now) {
                self.transport.send(envelope);
            }
            let effects = self.peer.finish(begun)?;
            for envelope in effects.send {
                self.transport.send(envelope);
            }
            self.apply(&effects.committed)?;
            for (tag, index) in effects.reads {
                self.reads.answered(tag, index);
            }
            self.note_leadership();
        }
        self.reads.applied(self.applied);
        // Readers that came while the question was out are asked for now.
        if let Some(tag) = self.reads.question() {
            self.peer.read(tag);
            return self.run(now);
        }
        self.compact()
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

    fn apply(&mut self, committed: &[Committed]) -> Result<(), FatalError> {
        let Some(last) = committed.last() else {
            return Ok(());
        };
        let entries: Vec<Entry<'_>> = committed
            .iter()
            .map(|entry| Entry {
                position: entry.position,
                time: entry.time,
                payload: entry.payload(),
            })
            .collect();
        let outcomes = self.machine.write().apply(&entries)?;
        self.applied = last.position.index;
        self.peer.applied(self.applied);
        for (entry, outcome) in committed.iter().zip(outcomes) {
            if let (Some(tag), Some(outcome)) = (entry.tag, outcome) {
                let position = entry.position;
                self.proposals.applied(tag, Proposed { outcome, position });
            }
        }
        Ok(())
    }

    /// Ends the writers of a leader that is none any more.
    fn note_leadership(&mut self) {
        let leads = self.peer.status().role == Role::Leader;
        if self.led && !leads {
            self.proposals.end_all(&StoreError::LeadershipLost);
        }
        self.led = leads;
    }

    fn compact(&mut self) -> Result<(), FatalError> {
        let applied = self.applied;
        if applied.get() < self.peer.truncated().get() + self.compact_after {
            return Ok(());
        }
        self.machine.read().make_durable()?;
        let upto = LogIndex::new(applied.get() - self.compact_keep);
        tracing::debug!(%applied, %upto, "compacting the log");
        self.peer.compact(upto)
    }

    /// Ends everybody who waits.
    pub(crate) fn end_all(&mut self, error: &StoreError) {
        self.proposals.end_all(error);
        self.reads.end_all(error);
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
        self.proposals.len() + self.reads.len()
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
