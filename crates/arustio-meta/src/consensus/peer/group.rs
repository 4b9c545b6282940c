//! Changes of the group as the leader's peer checks, proposes and follows them.

use std::sync::Arc;

use arustio_types::{ErrorKind, LogIndex, NodeId};
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry};
use raft::{ProgressState, StateRole};

use super::{MemberProgress, Peer, Refused, raft_error};
use crate::consensus::codec::{self, Tag};
use crate::consensus::membership::{Change, Membership, Refusal};
use crate::error::FatalError;

impl Peer {
    /// Puts a change of members into the log of a leader.
    pub(crate) fn propose_change(&mut self, change: &Change, tag: Tag) -> Result<(), Refusal> {
        self.members.check(change)?;
        self.check_change(change)?;
        let taken = match change {
            Change::Bind { .. } => self.append(vec![Entry {
                data: codec::encode_bind(change),
                context: tag.to_bytes(),
                ..Entry::default()
            }]),
            Change::AddLearner { .. } | Change::Promote { .. } | Change::Remove { .. } => {
                let words = conf_change(change);
                let taken = self.node.propose_conf_change(tag.to_bytes(), words);
                self.own_the_chance();
                taken.map_err(|_| Refused::Busy)
            }
        };
        let busy = "leadership is being handed over, or too much waits for a majority; repeat";
        taken.map_err(|_| Refusal::new(ErrorKind::Unavailable, busy))
    }

    /// What only the leader knows: who is close to the end of the log, and who answers.
    fn check_change(&self, change: &Change) -> Result<(), Refusal> {
        let raft = &self.node.raft;
        if !raft.apply_to_current_term() || raft.has_pending_conf() || self.members.is_joint() {
            let reason = "another change of the group is under way; repeat when it is done";
            return Err(Refusal::new(ErrorKind::Unavailable, reason));
        }
        match change {
            Change::AddLearner { .. } | Change::Bind { .. } => Ok(()),
            Change::Promote { id, replacing } => {
                self.refuse_leader(*replacing)?;
                self.check_close(*id)?;
                self.check_majority(*replacing, Some(*id))
            }
            Change::Remove { id } => {
                self.refuse_leader(Some(*id))?;
                self.check_majority(Some(*id), None)
            }
        }
    }

    fn refuse_leader(&self, leaving: Option<NodeId>) -> Result<(), Refusal> {
        if leaving != Some(self.identity.member) {
            return Ok(());
        }
        let reason = format!(
            "member {} leads the group; hand leadership over first: arustio admin raft transfer",
            self.identity.member
        );
        Err(Refusal::new(ErrorKind::Conflict, reason))
    }

    fn check_close(&self, id: NodeId) -> Result<(), Refusal> {
        let last = self.node.raft.raft_log.last_index();
        let progress = self.node.raft.prs().get(id.get());
        let matched = progress.map_or(0, |progress| progress.matched);
        let active = progress.is_some_and(|progress| progress.recent_active);
        if active && matched > 0 && last - matched <= self.promote_lag {
            return Ok(());
        }
        let reason = match (active, matched) {
            (false, _) => format!("member {id} does not answer; is its server running?"),
            (true, 0) => format!("member {id} is still being sent its first snapshot; repeat"),
            (true, _) => format!(
                "member {id} is {} entries behind, at most {} are allowed; repeat in a while",
                last - matched,
                self.promote_lag
            ),
        };
        Err(Refusal::new(ErrorKind::Unavailable, reason))
    }

    /// The group that a change makes must be able to decide at once.
    fn check_majority(
        &self,
        leaving: Option<NodeId>,
        coming: Option<NodeId>,
    ) -> Result<(), Refusal> {
        let staying = self.members.voters.iter().copied();
        let staying = staying.filter(|id| Some(*id) != leaving).chain(coming);
        let (mut all, mut active) = (0, 0);
        for id in staying {
            all += 1;
            active += usize::from(self.answers(id));
        }
        if active > all / 2 {
            return Ok(());
        }
        let reason = format!(
            "only {active} of the {all} voters that would be left answer, so nothing could be \
             decided any more; bring others back or add new ones first"
        );
        Err(Refusal::new(ErrorKind::Conflict, reason))
    }

    fn answers(&self, id: NodeId) -> bool {
        let progress = self.node.raft.prs().get(id.get());
        id == self.identity.member || progress.is_some_and(|progress| progress.recent_active)
    }

    /// Starts to hand leadership over: to this voter, or to the one that is closest. Says
    /// to whom; to this member itself there is nothing to do.
    pub(crate) fn transfer(&mut self, to: Option<NodeId>) -> Result<NodeId, Refusal> {
        let me = self.identity.member;
        let to = match to {
            Some(to) if !self.members.voters.contains(&to) => {
                let reason = format!("member {to} is no voter, so it cannot lead");
                return Err(Refusal::new(ErrorKind::InvalidArgument, reason));
            }
            Some(to) => to,
            None => self.closest_voter().ok_or_else(|| {
                let reason = "no other voter answers, so there is nobody to lead";
                Refusal::new(ErrorKind::Conflict, reason)
            })?,
        };
        if to != me {
            self.node.transfer_leader(to.get());
            self.own_the_chance();
        }
        Ok(to)
    }

    fn closest_voter(&self) -> Option<NodeId> {
        let others = self.progress().into_iter();
        let voters = others.filter(|other| other.active && self.members.is_voter(other.id));
        voters
            .max_by_key(|other| other.matched)
            .map(|other| other.id)
    }

    /// Whether leadership is being handed over.
    pub(crate) fn is_transferring(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// How far the others are; empty unless this member leads.
    pub(crate) fn progress(&self) -> Vec<MemberProgress> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let others = raft.prs().iter().filter(|(id, _)| **id != raft.id);
        let mut others: Vec<_> = others
            .map(|(id, progress)| MemberProgress {
                id: NodeId::new(*id),
                matched: LogIndex::new(progress.matched),
                snapshot: progress.state == ProgressState::Snapshot,
                active: progress.recent_active,
            })
            .collect();
        others.sort_by_key(|other| other.id);
        others
    }

    /// Who belongs to the group, as of the last entry that was given out to be applied.
    pub(crate) fn members(&self) -> &Arc<Membership> {
        &self.members
    }

    /// What the log holds: its first and last index, and bytes.
    pub(crate) fn log_range(&self) -> (LogIndex, LogIndex, u64) {
        let log = self.node.store();
        let first = LogIndex::new(log.truncated().index.get() + 1);
        (first, log.last().index, log.bytes())
    }

    pub(super) fn bind(&mut self, change: &Change) -> Result<Arc<Membership>, Refusal> {
        if let Change::Bind {
            id,
            instance,
            address,
        } = change
        {
            Arc::make_mut(&mut self.members).bind(*id, *instance, address)?;
        }
        Ok(Arc::clone(&self.members))
    }

    pub(super) fn change_members(&mut self, entry: &Entry) -> Result<Arc<Membership>, FatalError> {
        let words = codec::decode_conf_change(&entry.data)?;
        let change = match words.context.as_slice() {
            [] => None,
            bytes => Some(codec::decode_change(bytes)?),
        };
        let state = self
            .node
            .apply_conf_change(&words)
            .map_err(|error| raft_error("change the members", &error))?;
        Arc::make_mut(&mut self.members).follow(&state, change.as_ref());
        Ok(Arc::clone(&self.members))
    }
}

/// The library's words for a change.
fn conf_change(change: &Change) -> ConfChangeV2 {
    let single = |id: NodeId, kind| {
        let mut single = ConfChangeSingle {
            node_id: id.get(),
            ..ConfChangeSingle::default()
        };
        single.set_change_type(kind);
        single
    };
    let changes = match change {
        Change::AddLearner { id, .. } => vec![single(*id, ConfChangeType::AddLearnerNode)],
        Change::Promote { id, replacing } => {
            let out = replacing.map(|old| single(old, ConfChangeType::RemoveNode));
            let mut changes = vec![single(*id, ConfChangeType::AddNode)];
            changes.extend(out);
            changes
        }
        Change::Remove { id } => vec![single(*id, ConfChangeType::RemoveNode)],
        Change::Bind { .. } => Vec::new(),
    };
    let mut words = ConfChangeV2 {
        changes,
        context: codec::encode_change(change),
        ..ConfChangeV2::default()
    };
    // One change is made in one step; several go through a joint configuration, which the
    // library leaves by itself.
    words.set_transition(ConfChangeTransition::Auto);
    words
}
