//! Who belongs to the group, and how that changes.
//!
//! A membership is part of the replicated state: every change of it is an entry of the
//! log, and the state machine keeps the result, opaque, in the same batch as the position
//! of that entry. A member that restarts or installs a snapshot therefore has the
//! membership of exactly the position that it stands at.
//!
//! The way of a new member: *learner* (gets the log, has no vote), then *voter* once it is
//! close to the end of the log. Replacing a voter promotes and removes in one step, through
//! a joint configuration in which both majorities decide (Raft thesis, section 4.3). The
//! number of a removed member is never given again, and a member is bound to the data
//! folder that it first came with: one that comes with an empty folder has forgotten what
//! it voted for, and must not take part under its old number.

use std::collections::{BTreeMap, BTreeSet};

use arustio_types::{ErrorKind, NodeId};
use raft::eraftpb::ConfState;

use crate::error::FatalError;

use super::codec;

/// How a member is reached and recognised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberInfo {
    /// `host:port` of its gRPC; empty where it is not known.
    pub address: String,
    /// The nonce of its data folder; 0 until it is bound to one.
    pub instance: u128,
}

/// Who belongs to the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// Members that vote.
    pub voters: BTreeSet<NodeId>,
    /// Voters of the configuration that is being left; a majority of these has to agree
    /// too for as long as there are any.
    pub outgoing: BTreeSet<NodeId>,
    /// Members that follow without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Outgoing voters that become learners when the joint configuration is left.
    pub learners_next: BTreeSet<NodeId>,
    /// The joint configuration is left as soon as it has been reached.
    pub auto_leave: bool,
    /// What is known of each member.
    pub members: BTreeMap<NodeId, MemberInfo>,
    /// Numbers that must not come back.
    pub removed: BTreeSet<NodeId>,
}

/// A change of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new member starts to follow.
    AddLearner {
        /// A number that was never used.
        id: NodeId,
        /// `host:port` of its gRPC.
        address: String,
    },
    /// A learner gets a vote.
    Promote {
        /// Which.
        id: NodeId,
        /// A voter that is removed in the same step.
        replacing: Option<NodeId>,
    },
    /// A member leaves for good.
    Remove {
        /// Which.
        id: NodeId,
    },
    /// A member is recognised by its data folder from now on, or is reached elsewhere.
    Bind {
        /// Which.
        id: NodeId,
        /// The nonce of its data folder.
        instance: u128,
        /// `host:port` of its gRPC.
        address: String,
    },
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the caller should do about it.
    pub(crate) kind: ErrorKind,
    /// For people.
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }
}

impl Membership {
    /// A group of these voters.
    pub fn founding(members: impl IntoIterator<Item = (NodeId, MemberInfo)>) -> Self {
        let members: BTreeMap<_, _> = members.into_iter().collect();
        Self {
            voters: members.keys().copied().collect(),
            members,
            ..Self::default()
        }
    }

    /// Whether two configurations decide together.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether a member votes, in either configuration.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether a member belongs to the group in any role.
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Everybody but this one, voters and learners.
    pub fn others(&self, me: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let all = self.voters.union(&self.outgoing).copied();
        let all: BTreeSet<_> = all.chain(self.learners.iter().copied()).collect();
        all.into_iter().filter(move |id| *id != me)
    }

    /// Where a member is reached.
    pub fn address(&self, id: NodeId) -> Option<&str> {
        let info = self.members.get(&id)?;
        (!info.address.is_empty()).then_some(info.address.as_str())
    }

    /// The record of it, for the state machine.
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode_membership(self)
    }

    /// From a record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FatalError> {
        codec::decode_membership(bytes)
    }

    /// What the Raft library calls it.
    pub(crate) fn conf_state(&self) -> ConfState {
        let numbers = |set: &BTreeSet<NodeId>| set.iter().map(|id| id.get()).collect();
        ConfState {
            voters: numbers(&self.voters),
            voters_outgoing: numbers(&self.outgoing),
            learners: numbers(&self.learners),
            learners_next: numbers(&self.learners_next),
            auto_leave: self.auto_leave,
        }
    }

    /// Takes over what the library made of a change.
    pub(crate) fn follow(&mut self, state: &ConfState, change: Option<&Change>) {
        let set = |numbers: &[u64]| numbers.iter().map(|id| NodeId::new(*id)).collect();
        self.voters = set(&state.voters);
        self.outgoing = set(&state.voters_outgoing);
        self.learners = set(&state.learners);
        self.learners_next = set(&state.learners_next);
        self.auto_leave = state.auto_leave;
        if let Some(Change::AddLearner { id, address }) = change {
            let info = MemberInfo {
                address: address.clone(),
                instance: 0,
            };
            self.members.insert(*id, info);
        }
        let known = self.members.keys().copied();
        let gone: Vec<_> = known.filter(|id| !self.contains(*id)).collect();
        for id in gone {
            self.members.remove(&id);
            self.removed.insert(id);
        }
    }

    /// Binds a member to its data folder; says why not.
    pub(crate) fn bind(
        &mut self,
        id: NodeId,
        instance: u128,
        address: &str,
    ) -> Result<(), Refusal> {
        self.check_bind(id, instance)?;
        if let Some(info) = self.members.get_mut(&id) {
            info.instance = instance;
            address.clone_into(&mut info.address);
        }
        Ok(())
    }

    /// Whether a change makes sense here; what only a leader knows (who is close, who
    /// answers) is not looked at.
    pub(crate) fn check(&self, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::AddLearner { id, address } => self.check_add(*id, address),
            Change::Promote { id, replacing } => self.check_promote(*id, *replacing),
            Change::Remove { id } => self.check_remove(*id),
            Change::Bind { id, instance, .. } => self.check_bind(*id, *instance),
        }
    }

    fn check_add(&self, id: NodeId, address: &str) -> Result<(), Refusal> {
        if id.get() == 0 {
            return Err(invalid("0 is no number of a member; choose another"));
        }
        if self.removed.contains(&id) {
            return Err(invalid(format!(
                "member {id} was removed, and its number never comes back; choose another"
            )));
        }
        if self.contains(id) {
            return Err(Refusal::new(
                ErrorKind::AlreadyExists,
                format!("member {id} belongs to the group already"),
            ));
        }
        if address.is_empty() {
            return Err(invalid(
                "the new member's address is missing; give host:port",
            ));
        }
        match self
            .members
            .iter()
            .find(|(_, info)| info.address == address)
        {
            Some((other, _)) => Err(invalid(format!(
                "{address} is the address of member {other}; remove that one first"
            ))),
            None => Ok(()),
        }
    }

    fn check_promote(&self, id: NodeId, replacing: Option<NodeId>) -> Result<(), Refusal> {
        self.check_known(id)?;
        if self.is_voter(id) {
            return Err(Refusal::new(
                ErrorKind::AlreadyExists,
                format!("member {id} is a voter already"),
            ));
        }
        match replacing {
            Some(old) if !self.voters.contains(&old) => Err(invalid(format!(
                "member {old}, which is to be replaced, is no voter"
            ))),
            _ => Ok(()),
        }
    }

    fn check_remove(&self, id: NodeId) -> Result<(), Refusal> {
        self.check_known(id)?;
        if self.voters.len() == 1 && self.voters.contains(&id) {
            return Err(Refusal::new(
                ErrorKind::Conflict,
                format!("member {id} is the only voter; promote another one first"),
            ));
        }
        Ok(())
    }

    fn check_bind(&self, id: NodeId, instance: u128) -> Result<(), Refusal> {
        self.check_known(id)?;
        let known = self.members.get(&id).map_or(0, |info| info.instance);
        if instance == 0 || known == 0 || known == instance {
            return Ok(());
        }
        Err(Refusal::new(
            ErrorKind::Conflict,
            format!(
                "member {id} came with another data folder before. A member that lost its folder \
                 has forgotten its votes and must not come back under its number: remove it \
                 (arustio admin raft remove {id}), add it under a new number (arustio admin raft \
                 add NEW ADDRESS), and start it with that number and an empty folder"
            ),
        ))
    }

    fn check_known(&self, id: NodeId) -> Result<(), Refusal> {
        if self.removed.contains(&id) {
            return Err(Refusal::new(
                ErrorKind::NotFound,
                format!("member {id} was removed from the group; add it under a new number"),
            ));
        }
        if self.contains(id) {
            return Ok(());
        }
        Err(Refusal::new(
            ErrorKind::NotFound,
            format!("no member {id} belongs to the group; see: arustio admin raft list"),
        ))
    }
}

fn invalid(reason: impl Into<String>) -> Refusal {
    Refusal::new(ErrorKind::InvalidArgument, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number)
    }

    fn group() -> Membership {
        let info = |number: u64| MemberInfo {
            address: format!("host{number}:1"),
            instance: u128::from(number),
        };
        Membership::founding((1..=3).map(|number| (id(number), info(number))))
    }

    #[test]
    fn a_record_of_it_is_read_again() {
        let mut group = group();
        group.removed.insert(id(9));
        group.learners.insert(id(4));
        group.members.insert(id(4), MemberInfo::default());
        assert_eq!(Membership::decode(&group.encode()).unwrap(), group);
    }

    #[test]
    fn a_removed_number_never_comes_back() {
        let mut group = group();
        let mut state = group.conf_state();
        state.voters.retain(|voter| *voter != 3);
        group.follow(&state, Some(&Change::Remove { id: id(3) }));
        assert!(!group.contains(id(3)) && group.removed.contains(&id(3)));
        let address = "host9:1".to_owned();
        let again = Change::AddLearner { id: id(3), address };
        let refusal = group.check(&again).unwrap_err();
        assert!(refusal.reason.contains("never comes back"), "{refusal:?}");
    }

    #[test]
    fn a_member_with_an_emptied_folder_is_told_what_to_do() {
        let mut group = group();
        group.bind(id(2), 2, "elsewhere:1").unwrap();
        assert_eq!(group.address(id(2)), Some("elsewhere:1"));
        let refusal = group.bind(id(2), 77, "elsewhere:1").unwrap_err();
        assert!(refusal.reason.contains("raft remove 2"), "{refusal:?}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let group = group();
        let refused = |change| group.check(&change).unwrap_err().kind;
        let address = "host2:1".to_owned();
        assert_eq!(
            refused(Change::AddLearner { id: id(4), address }),
            ErrorKind::InvalidArgument
        );
        let replacing = None;
        assert_eq!(
            refused(Change::Promote {
                id: id(4),
                replacing
            }),
            ErrorKind::NotFound
        );
        assert_eq!(
            refused(Change::Promote {
                id: id(1),
                replacing
            }),
            ErrorKind::AlreadyExists
        );
        let alone = Membership::founding([(id(1), MemberInfo::default())]);
        let refusal = alone.check(&Change::Remove { id: id(1) }).unwrap_err();
        assert_eq!(refusal.kind, ErrorKind::Conflict);
    }
}
