//! What a test may see of a peer, in words that do not name the library.

use raft::StateRole;
use raft::eraftpb::MessageType;

use super::Peer;
use crate::consensus::codec;
use crate::state_machine::LogPosition;
use crate::store::Role;

/// How a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) role: Role,
    pub(crate) term: u64,
    /// As its log engine has it.
    pub(crate) stored_term: u64,
    pub(crate) stored_vote: u64,
    pub(crate) commit: u64,
    /// The last entry that was compacted away.
    pub(crate) truncated: LogPosition,
    pub(crate) last: LogPosition,
    /// As a leader it would send a member what that certainly has (tikv/raft-rs#557).
    pub(crate) next_too_low: bool,
}

/// What a message promises in its sender's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// No vote for anybody else in this term.
    Vote { term: u64, candidate: u64 },
    /// Everything up to the index, as the leader of the term has it, survives a crash.
    Stored { term: u64, index: u64 },
}

/// The promise in a message; none in most.
pub(crate) fn promise(bytes: &[u8], to: arustio_types::NodeId) -> Option<Promise> {
    let message = codec::decode_message(bytes, to).ok()?;
    let kind = message.msg_type;
    if kind == MessageType::MsgRequestVote as i32 {
        let (term, candidate) = (message.term, message.from);
        return Some(Promise::Vote { term, candidate });
    }
    if message.reject {
        return None;
    }
    if kind == MessageType::MsgRequestVoteResponse as i32 {
        let (term, candidate) = (message.term, message.to);
        return Some(Promise::Vote { term, candidate });
    }
    if kind == MessageType::MsgAppendResponse as i32 {
        let (term, index) = (message.term, message.index);
        return Some(Promise::Stored { term, index });
    }
    None
}

impl Peer {
    pub(crate) fn look(&self) -> Look {
        let raft = &self.node.raft;
        let log = self.node.store();
        let leads = raft.state == StateRole::Leader;
        let low = |(_, progress): (&u64, &raft::Progress)| progress.next_idx <= progress.matched;
        Look {
            role: self.status().role,
            term: raft.term,
            stored_term: log.hard_state().term,
            stored_vote: log.hard_state().vote,
            commit: raft.raft_log.committed,
            truncated: log.truncated(),
            last: log.last(),
            next_too_low: leads && raft.prs().iter().any(low),
        }
    }

    /// Term of a stored entry and a sum over what it says.
    pub(crate) fn stored_entry(&self, index: u64) -> Option<(u64, u32)> {
        let entry = self.node.store().stored(index)?;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&entry.data), &entry.context);
        Some((entry.term, sum))
    }
}
