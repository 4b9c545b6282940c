//! The namespace with somebody who looks over its shoulder: every applied entry and its
//! outcome are noted, in order, for the invariants.

use std::path::Path;
use std::sync::Arc;

use arustio_types::NodeId;
use arustio_types::meta::{Answer, Command, Outcome, Query, RequestContext};
use parking_lot::Mutex;

use crate::namespace::Namespace;
use crate::state_machine::{
    Applied, Entry, LogPosition, ReplicatedTime, StateMachine, StateMachineError,
};

/// Something that a replica did.
#[derive(Debug, Clone)]
pub(super) enum Note {
    /// It was given an entry to apply.
    Entry(Taken),
    /// It has applied an entry, with this outcome.
    Outcome {
        by: NodeId,
        index: u64,
        outcome: Option<Box<Outcome>>,
    },
    /// It has taken a slice: its state then.
    State { applied: Applied, hash: u128 },
    /// Its state was replaced.
    Installed { by: NodeId, applied: Applied },
}

/// A committed entry.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) by: NodeId,
    pub(super) position: LogPosition,
    pub(super) time: ReplicatedTime,
    pub(super) payload: Vec<u8>,
    pub(super) members: Option<Vec<u8>>,
}

pub(super) type Notes = Arc<Mutex<Vec<Note>>>;

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) namespace: Namespace,
    id: NodeId,
    notes: Notes,
}

impl Watched {
    pub(super) fn new(namespace: Namespace, id: NodeId, notes: Notes) -> Self {
        Self {
            namespace,
            id,
            notes,
        }
    }
}

impl StateMachine for Watched {
    type Command = Command;
    type Outcome = Outcome;
    type Query = Query;
    type Answer = Answer;

    fn encode(context: &RequestContext, command: &Command) -> Vec<u8> {
        Namespace::encode(context, command)
    }

    fn apply(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Option<Outcome>>, StateMachineError> {
        for entry in entries {
            self.notes.lock().push(Note::Entry(Taken {
                by: self.id,
                position: entry.position,
                time: entry.time,
                payload: entry.payload.to_vec(),
                members: entry.members.map(<[u8]>::to_vec),
            }));
        }
        let outcomes = self.namespace.apply(entries)?;
        let mut notes = self.notes.lock();
        for (entry, outcome) in entries.iter().zip(&outcomes) {
            notes.push(Note::Outcome {
                by: self.id,
                index: entry.position.index.get(),
                outcome: outcome.clone().map(Box::new),
            });
        }
        notes.push(Note::State {
            applied: self.namespace.applied(),
            hash: self.namespace.state_hash().get(),
        });
        Ok(outcomes)
    }

    fn applied(&self) -> Applied {
        self.namespace.applied()
    }

    fn query(&self, query: Query) -> Result<Answer, StateMachineError> {
        self.namespace.query(query)
    }

    fn make_durable(&self) -> Result<(), StateMachineError> {
        self.namespace.make_durable()
    }

    fn members(&self) -> Result<Option<Vec<u8>>, StateMachineError> {
        self.namespace.members()
    }

    fn hash(&self) -> Option<u128> {
        self.namespace.hash()
    }

    fn settler(&self) -> Box<dyn FnOnce() -> Result<(), StateMachineError> + Send> {
        self.namespace.settler()
    }

    fn snapshot(&self, into: &Path) -> Result<Applied, StateMachineError> {
        self.namespace.snapshot(into)
    }

    fn install(&mut self, from: &Path) -> Result<Applied, StateMachineError> {
        let applied = self.namespace.install(from)?;
        let note = Note::Installed {
            by: self.id,
            applied,
        };
        self.notes.lock().push(note);
        Ok(applied)
    }
}
