//! What operators ask of the metadata servers: who belongs to the group, and to change it.
//!
//! [`Admin`] stands beside the file system and needs none: it speaks to the same servers,
//! and works while nothing is mounted and nobody leads. A change is sent again only after
//! a server has said that it did nothing with it; one whose answer got lost is `Unknown`.
//! Backups and dumps of a whole state stand in `state`, checks of it in `verify`, block nodes
//! in `nodes`.

mod nodes;
mod state;
mod summary;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use arustio_proto::admin::v1 as wire;
use arustio_proto::admin::v1::admin_client::AdminClient;
use arustio_proto::admin::v1::change_group_request::Change as Asked;
use arustio_proto::common::v1::Caller;
use arustio_types::{ErrorKind, LogIndex, NodeId};
use tonic::transport::Channel;

use crate::config::ClientConfig;
use crate::entropy::Entropy;
use crate::error::{FsError, Result};
use crate::metadata::route::{Answered, Call, Repeat, Route, Want, request};
use crate::metadata::trouble::Failed;

pub use nodes::{BlockNode, BlockNodes, NodeTier};
pub use state::{BackupMade, BackupStream, DumpStream};
pub use summary::Summary;
pub use verify::{MemberCheck, StateReport, SumsAt, Verification};

/// Where to see what became of a change.
const LOOK: &str = "look with: arustio admin raft list,";

/// The metadata servers, as an operator speaks to them.
#[derive(Debug)]
pub struct Admin {
    route: Route,
    client: u128,
    entropy: Arc<Entropy>,
    timeout: Duration,
}

/// The group of metadata servers, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The address that was asked.
    pub server: String,
    /// The number of the server that answered.
    pub answered_by: NodeId,
    /// Who leads, where that server knows.
    pub leader: Option<NodeId>,
    /// The term of the group.
    pub term: u64,
    /// Last entry that is decided.
    pub commit: LogIndex,
    /// Last entry that the server has applied.
    pub applied: LogIndex,
    /// First entry that its log still has.
    pub log_first: LogIndex,
    /// Last entry of its log.
    pub log_last: LogIndex,
    /// What its log takes, roughly, in bytes.
    pub log_bytes: u64,
    /// By number.
    pub members: Vec<GroupMember>,
    /// Numbers that were removed and never come back.
    pub removed: Vec<NodeId>,
}

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its number.
    pub id: NodeId,
    /// `host:port`; empty where it is not known.
    pub address: String,
    /// What it is.
    pub role: GroupRole,
    /// How far it is; only the leader knows.
    pub progress: Option<GroupProgress>,
}

impl GroupMember {
    /// Where it is asked.
    fn reached(&self) -> Result<&str> {
        if !self.address.is_empty() {
            return Ok(&self.address);
        }
        let message = format!(
            "the group does not know yet where member {} is reached: start it",
            self.id
        );
        Err(FsError::new(ErrorKind::Unavailable, message))
    }
}

/// What a member is in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupRole {
    /// Orders the changes.
    Leader,
    /// Votes.
    Voter,
    /// Follows without a vote.
    Learner,
    /// Votes until the group has become another one, and leaves then or loses its vote.
    Outgoing,
}

impl GroupRole {
    /// As people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Outgoing => "joint",
        }
    }
}

/// How far a member is, as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupProgress {
    /// The last entry that it certainly has.
    pub matched: LogIndex,
    /// It is being sent a snapshot.
    pub snapshot: bool,
    /// It has answered lately.
    pub active: bool,
}

/// A change of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupChange {
    /// A new member starts to follow, without a vote.
    Add {
        /// A number that was never used.
        id: NodeId,
        /// `host:port` of its gRPC.
        address: String,
    },
    /// A member that follows gets a vote.
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
}

/// A snapshot that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMade {
    /// The number of the server that made it.
    pub by: NodeId,
    /// Up to which entry.
    pub index: LogIndex,
}

impl Admin {
    /// Connects when it is first asked.
    ///
    /// # Errors
    /// `InvalidArgument` for an address that cannot be one.
    pub fn new(config: &ClientConfig, entropy: Entropy) -> Result<Self> {
        let entropy = Arc::new(entropy);
        Ok(Self {
            route: Route::new(config, Arc::clone(&entropy))?,
            client: entropy.bits(),
            entropy,
            timeout: config.request_timeout,
        })
    }

    /// How the group is. The leader answers, or else any server: then without knowing how
    /// far the others are. Safe to drop.
    ///
    /// # Errors
    /// `Unavailable` when no server answers.
    pub async fn group(&self) -> Result<Group> {
        let call = self.call(Want::Newest, Repeat::Freely);
        let answered = self
            .ask(call, |mut admin, left| {
                let asked = request(wire::GetGroupRequest {}, left);
                async move { admin.get_group(asked).await }
            })
            .await;
        let answered = answered.map_err(|failed| failed.explain().during("list the group"))?;
        Ok(group(answered.server, answered.value))
    }

    /// Changes the group; returns when it has become that. Dropping the future does not
    /// withdraw the change.
    ///
    /// # Errors
    /// `Unknown` when the answer got lost; else why the change was refused.
    pub async fn change(&self, change: &GroupChange) -> Result<Group> {
        let asked = |left: Duration| wire::ChangeGroupRequest {
            caller: Some(self.caller()),
            change: Some(change.into()),
            deadline_millis: millis(left),
        };
        let call = self.call(Want::Leader, Repeat::Undone);
        let answered = self
            .ask(call, |mut admin, left| {
                let asked = request(asked(left), left);
                async move { admin.change_group(asked).await }
            })
            .await;
        let answered = answered.map_err(|failed| failed.lost(LOOK).during(change.verb()))?;
        let found = answered.value.group.unwrap_or_default();
        Ok(group(answered.server, found))
    }

    /// Hands leadership over, to this voter or to the one that is closest; returns who
    /// leads then. Dropping the future does not withdraw it.
    ///
    /// # Errors
    /// `Unavailable` when the other one did not take over, and the group goes on as it was.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId> {
        let asked = |left: Duration| wire::TransferLeadershipRequest {
            caller: Some(self.caller()),
            to: to.map_or(0, NodeId::get),
            deadline_millis: millis(left),
        };
        let call = self.call(Want::Leader, Repeat::Undone);
        let answered = self
            .ask(call, |mut admin, left| {
                let asked = request(asked(left), left);
                async move { admin.transfer_leadership(asked).await }
            })
            .await;
        let verb = "hand leadership over";
        let answered = answered.map_err(|failed| failed.lost(LOOK).during(verb))?;
        Ok(NodeId::new(answered.value.leader))
    }

    /// Makes a snapshot on the leader, or else on any server, and drops its log below it.
    /// Dropping the future does not withdraw it.
    ///
    /// # Errors
    /// `Unknown` when the answer got lost; asking again is harmless.
    pub async fn snapshot(&self) -> Result<SnapshotMade> {
        let asked = |left: Duration| wire::TakeSnapshotRequest {
            caller: Some(self.caller()),
            deadline_millis: millis(left),
        };
        let call = self.call(Want::Newest, Repeat::Undone);
        let answered = self
            .ask(call, |mut admin, left| {
                let asked = request(asked(left), left);
                async move { admin.take_snapshot(asked).await }
            })
            .await;
        let answered = answered.map_err(|failed| failed.lost(LOOK).during("make a snapshot"))?;
        Ok(SnapshotMade {
            by: NodeId::new(answered.value.answered_by),
            index: LogIndex::new(answered.value.index),
        })
    }

    async fn ask<T, F>(
        &self,
        call: Call,
        ask: impl Fn(AdminClient<Channel>, Duration) -> F + Send + Sync,
    ) -> Result<Answered<T>, Failed>
    where
        T: Send,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
    {
        let ask = |channel, left| ask(AdminClient::new(channel), left);
        let answered = self.route.call(call, ask).await?;
        Ok(Answered {
            value: answered.value.into_inner(),
            attempts: answered.attempts,
            server: answered.server,
        })
    }

    fn call(&self, want: Want, repeat: Repeat) -> Call {
        Call {
            want,
            repeat,
            timeout: self.timeout,
        }
    }

    fn caller(&self) -> Caller {
        Caller {
            client: Some(self.client.into()),
            request: self.entropy.bits() as u64,
        }
    }
}

impl GroupChange {
    fn verb(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add the member",
            Self::Promote { .. } => "promote the member",
            Self::Remove { .. } => "remove the member",
        }
    }

    /// A number that was typed.
    ///
    /// # Errors
    /// `InvalidArgument` for 0, which no member has.
    pub fn member(number: u64) -> Result<NodeId> {
        if number == 0 {
            let message = "0 is no number of a member; see: arustio admin raft list";
            return Err(FsError::new(ErrorKind::InvalidArgument, message));
        }
        Ok(NodeId::new(number))
    }
}

impl From<&GroupChange> for Asked {
    fn from(change: &GroupChange) -> Self {
        match change {
            GroupChange::Add { id, address } => Self::Add(wire::AddMember {
                id: id.get(),
                address: address.clone(),
            }),
            GroupChange::Promote { id, replacing } => Self::Promote(wire::PromoteMember {
                id: id.get(),
                replacing: replacing.map_or(0, NodeId::get),
            }),
            GroupChange::Remove { id } => Self::Remove(wire::RemoveMember { id: id.get() }),
        }
    }
}

fn group(server: String, found: wire::GetGroupResponse) -> Group {
    let leader = Some(NodeId::new(found.leader)).filter(|leader| leader.get() != 0);
    Group {
        server,
        answered_by: NodeId::new(found.answered_by),
        leader,
        term: found.term,
        commit: LogIndex::new(found.commit),
        applied: LogIndex::new(found.applied),
        log_first: LogIndex::new(found.log_first),
        log_last: LogIndex::new(found.log_last),
        log_bytes: found.log_bytes,
        members: found
            .members
            .into_iter()
            .map(|m| member(m, leader))
            .collect(),
        removed: found.removed.into_iter().map(NodeId::new).collect(),
    }
}

fn member(member: wire::GroupMember, leader: Option<NodeId>) -> GroupMember {
    let id = NodeId::new(member.id);
    let role = match (member.voter, member.outgoing) {
        _ if leader == Some(id) => GroupRole::Leader,
        (true, _) => GroupRole::Voter,
        (false, true) => GroupRole::Outgoing,
        (false, false) => GroupRole::Learner,
    };
    let progress = member.progress.map(|progress| GroupProgress {
        matched: LogIndex::new(progress.matched),
        snapshot: progress.snapshot,
        active: progress.active,
    });
    GroupMember {
        id,
        address: member.address,
        role,
        progress,
    }
}

fn millis(left: Duration) -> u64 {
    // A little less than the caller waits, so that the reason still arrives.
    let left = left.saturating_sub(Duration::from_millis(200));
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
}
