//! Changes of the group, and leadership that is handed over: who waits for them.

use std::mem;
use std::sync::Arc;

use arustio_types::{ErrorKind, NodeId};

use super::Member;
use crate::consensus::Notice;
use crate::consensus::codec::Tag;
use crate::consensus::membership::{Change, Membership, Refusal};
use crate::error::StoreError;
use crate::state_machine::StateMachine;
use crate::store::Role;

/// Numbers of changes start here, so that they are never taken for those of writers.
const FIRST: u64 = 1 << 63;

/// Those who wait for a change.
#[derive(Debug)]
pub(super) struct Changes {
    run: u64,
    number: u64,
    waiting: Vec<(Tag, Notice<Arc<Membership>>)>,
    /// Applied, but the group is still between two configurations.
    between: Vec<Notice<Arc<Membership>>>,
    transfer: Option<(NodeId, Notice<NodeId>)>,
}

impl Changes {
    pub(super) fn new(run: u64) -> Self {
        Self {
            run,
            number: FIRST,
            waiting: Vec::new(),
            between: Vec::new(),
            transfer: None,
        }
    }

    fn next(&mut self) -> Tag {
        self.number += 1;
        Tag {
            run: self.run,
            number: self.number,
        }
    }

    /// Nobody learns any more what became of a change.
    pub(super) fn end_all(&mut self, error: &StoreError) {
        let waiting = self.waiting.drain(..).map(|(_, notice)| notice);
        for notice in waiting.chain(self.between.drain(..)) {
            let _ = notice.send(Err(error.clone()));
        }
    }
}

impl<S: StateMachine> Member<S> {
    pub(super) fn change(&mut self, change: &Change, notice: Notice<Arc<Membership>>) {
        let status = self.peer.status();
        if status.role != Role::Leader {
            let leader = status.leader;
            let _ = notice.send(Err(StoreError::NotLeader { leader }));
            return;
        }
        let tag = self.changes.next();
        match self.peer.propose_change(change, tag) {
            Ok(()) => self.changes.waiting.push((tag, notice)),
            Err(refusal) => drop(notice.send(Err(refused(refusal)))),
        }
    }

    /// An entry has changed the group, or was refused to.
    pub(super) fn changed(&mut self, tag: Option<Tag>, changed: &Result<Arc<Membership>, Refusal>) {
        let waits = |(known, _): &mut (Tag, _)| Some(*known) == tag;
        let notice = self.changes.waiting.extract_if(.., waits).next();
        let notice = notice.map(|(_, notice)| notice);
        match changed {
            Ok(members) => {
                self.changes.between.extend(notice);
                self.members_changed(members);
            }
            Err(refusal) => {
                let refusal = refused(refusal.clone());
                notice.map(|notice| notice.send(Err(refusal)));
            }
        }
    }

    /// The group is another from now on.
    pub(super) fn members_changed(&mut self, members: &Arc<Membership>) {
        tracing::info!(
            voters = ?members.voters,
            outgoing = ?members.outgoing,
            learners = ?members.learners,
            "the members of the group have changed"
        );
        self.transport.members(members);
        self.removed |= members.removed.contains(&self.peer.status().member);
        if members.is_joint() {
            return;
        }
        for notice in mem::take(&mut self.changes.between) {
            let _ = notice.send(Ok(Arc::clone(members)));
        }
    }

    pub(super) fn transfer(&mut self, to: Option<NodeId>, notice: Notice<NodeId>) {
        let status = self.peer.status();
        if status.role != Role::Leader {
            let leader = status.leader;
            let _ = notice.send(Err(StoreError::NotLeader { leader }));
            return;
        }
        match self.peer.transfer(to) {
            Ok(to) if to == status.member => drop(notice.send(Ok(to))),
            Ok(to) => self.changes.transfer = Some((to, notice)),
            Err(refusal) => drop(notice.send(Err(refused(refusal)))),
        }
    }

    /// Tells whoever handed leadership over what became of it; called at each beat.
    pub(super) fn watch_transfer(&mut self) {
        let status = self.peer.status();
        let transferring = self.peer.is_transferring();
        let over = |(to, _): &mut (NodeId, Notice<NodeId>)| {
            let given_up = status.role == Role::Leader && !transferring;
            status.leader == Some(*to) || given_up
        };
        let Some((to, notice)) = self.changes.transfer.take_if(over) else {
            return;
        };
        let answer = match status.leader {
            Some(leader) if leader == to => Ok(to),
            _ => Err(StoreError::ChangeRefused {
                kind: ErrorKind::Unavailable,
                reason: format!(
                    "member {to} did not take over in time, so member {} still leads; is {to} \
                     reachable and close to the end of the log? See: arustio admin raft list",
                    status.member
                ),
            }),
        };
        let _ = notice.send(answer);
    }
}

fn refused(refusal: Refusal) -> StoreError {
    StoreError::ChangeRefused {
        kind: refusal.kind,
        reason: refusal.reason,
    }
}
