//! What has to hold after every step, one property per file. None of them looks into the
//! code that it judges for anything but facts: what lies on a disk, what was sent, what
//! was applied.

pub(super) mod applied_once;
pub(super) mod committed;
pub(super) mod kept_promises;
pub(super) mod log_matching;
pub(super) mod next_index;
pub(super) mod objects;
pub(super) mod one_executor;
pub(super) mod one_leader;
pub(super) mod one_vote;
pub(super) mod sessions;

use std::fmt;

use arustio_types::NodeId;

use super::truth::Record;
use crate::consensus::inside::{Look, Peer, Promise};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which property is violated.
    pub checker: &'static str,
    /// By what.
    pub what: String,
}

impl Finding {
    pub(super) fn new(checker: &'static str, what: String) -> Self {
        Self { checker, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" does not hold: {}", self.checker, self.what)
    }
}

pub(super) type Checked<T> = Result<T, Finding>;

/// The properties of the group, and what they remember.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    leaders: one_leader::OneLeader,
    votes: one_vote::OneVote,
    promises: kept_promises::KeptPromises,
    logs: log_matching::LogMatching,
    committed: committed::Committed,
    once: applied_once::AppliedOnce,
    sessions: sessions::Sessions,
}

impl Invariants {
    /// A member has done a round.
    pub(super) fn stepped(&mut self, id: NodeId, peer: &Peer) -> Checked<()> {
        let look = peer.look();
        next_index::check(id, &look)?;
        self.leaders.check(id, &look)?;
        self.logs.check(id, peer, &look)?;
        self.committed.check(id, peer, &look)
    }

    /// A member sends a message that promises something.
    pub(super) fn promised(&mut self, id: NodeId, promise: Promise) -> Checked<()> {
        match promise {
            Promise::Vote { term, candidate } => self.votes.promised(id, term, candidate),
            Promise::Stored { term, index } => {
                self.promises.promised(id, term, index);
                Ok(())
            }
        }
    }

    /// A member has come back after a crash, with what its disk kept.
    pub(super) fn reopened(&mut self, id: NodeId, look: &Look) -> Checked<()> {
        self.logs.forget(id);
        self.committed.forget(id);
        self.votes.reopened(id, look)?;
        self.promises.reopened(id, look)
    }

    /// The group has decided on an entry.
    pub(super) fn decided(&mut self, record: &Record) -> Checked<()> {
        let Some(request) = applied_once::request(record) else {
            return Ok(());
        };
        self.once.decided(record, &request)?;
        self.sessions.decided(record, &request)
    }
}
