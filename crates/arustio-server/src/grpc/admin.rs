//! What operators ask: how the group of metadata servers is, and to change it.
//!
//! Each request is one call of the consensus; what it refuses, and why, is decided there.
//! Only the leader takes changes: another server says who leads, and the client follows.
//! A change that was taken goes on when its caller stops waiting, so nothing here is
//! repeated on anybody's behalf.
//!
//! Backup, dump and check of the state stand in `state`, and how they read it without being
//! in anybody's way in `copies`.

mod copies;
mod nodes;
mod state;
mod summary;

use std::sync::Arc;
use std::time::Duration;

use arustio_meta::Consensus;
use arustio_meta::consensus::{Change, GroupStatus, Membership};
use arustio_meta::namespace::Namespace;
use arustio_proto::admin::v1 as wire;
use arustio_proto::admin::v1::admin_server::Admin as AdminService;
use arustio_proto::admin::v1::change_group_request::Change as Asked;
use arustio_proto::failure::Failure;
use arustio_types::{ErrorKind, NodeId};
use async_trait::async_trait;
use tonic::{Request, Response, Status};

pub(crate) use copies::Copies;

use super::{answer, store_failure};
use crate::compose::Opened;
use crate::config::is_address;
use crate::late::Late;
use crate::metrics::Metrics;
use copies::Answers;

/// How long a request waits that does not say.
const USUAL: Duration = Duration::from_secs(30);
/// The longest that a request may wait, whatever it says.
const LONGEST: Duration = Duration::from_secs(600);
/// Bytes of an address that are shown.
const SHOWN: usize = 259;

/// The service.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) late: Arc<Late<Opened>>,
    pub(crate) metrics: Metrics,
    pub(crate) copies: Copies,
}

#[async_trait]
impl AdminService for Admin {
    async fn get_group(
        &self,
        _: Request<wire::GetGroupRequest>,
    ) -> Result<Response<wire::GetGroupResponse>, Status> {
        answer(&self.metrics, "get_group", self.group()).await
    }

    async fn change_group(
        &self,
        request: Request<wire::ChangeGroupRequest>,
    ) -> Result<Response<wire::ChangeGroupResponse>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "change_group", self.change(request)).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<wire::TransferLeadershipRequest>,
    ) -> Result<Response<wire::TransferLeadershipResponse>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "transfer_leadership", self.transfer(request)).await
    }

    async fn take_snapshot(
        &self,
        request: Request<wire::TakeSnapshotRequest>,
    ) -> Result<Response<wire::TakeSnapshotResponse>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "take_snapshot", self.snapshot(request)).await
    }

    type BackUpStateStream = Answers<wire::BackUpStateResponse>;

    async fn back_up_state(
        &self,
        request: Request<wire::BackUpStateRequest>,
    ) -> Result<Response<Self::BackUpStateStream>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "back_up_state", self.back_up(request)).await
    }

    type DumpStateStream = Answers<wire::DumpStateResponse>;

    async fn dump_state(
        &self,
        request: Request<wire::DumpStateRequest>,
    ) -> Result<Response<Self::DumpStateStream>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "dump_state", self.dump(request)).await
    }

    type VerifyStateStream = Answers<wire::VerifyStateResponse>;

    async fn verify_state(
        &self,
        request: Request<wire::VerifyStateRequest>,
    ) -> Result<Response<Self::VerifyStateStream>, Status> {
        let request = request.into_inner();
        let work = async { self.verify(request) };
        answer(&self.metrics, "verify_state", work).await
    }

    async fn take_mark(
        &self,
        request: Request<wire::TakeMarkRequest>,
    ) -> Result<Response<wire::TakeMarkResponse>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "take_mark", self.mark_taken(request)).await
    }

    async fn get_mark(
        &self,
        request: Request<wire::GetMarkRequest>,
    ) -> Result<Response<wire::GetMarkResponse>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "get_mark", self.mark_got(request)).await
    }

    async fn list_nodes(
        &self,
        _: Request<wire::ListNodesRequest>,
    ) -> Result<Response<wire::ListNodesResponse>, Status> {
        answer(&self.metrics, "list_nodes", self.nodes()).await
    }

    async fn change_node(
        &self,
        request: Request<wire::ChangeNodeRequest>,
    ) -> Result<Response<wire::ChangeNodeResponse>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "change_node", self.decide(request)).await
    }

    async fn get_summary(
        &self,
        _: Request<wire::GetSummaryRequest>,
    ) -> Result<Response<wire::GetSummaryResponse>, Status> {
        answer(&self.metrics, "get_summary", self.summary()).await
    }
}

impl Admin {
    fn store(&self) -> Result<&Consensus<Namespace>, Failure> {
        Ok(&self.late.there()?.store)
    }

    async fn group(&self) -> Result<wire::GetGroupResponse, Failure> {
        let store = self.store()?;
        let found = store.group().await;
        Ok(group(&found.map_err(|error| store_failure(store, &error))?))
    }

    async fn change(
        &self,
        request: wire::ChangeGroupRequest,
    ) -> Result<wire::ChangeGroupResponse, Failure> {
        let change = change(request.change)?;
        let deadline = bounded(request.deadline_millis);
        let store = self.store()?;
        let changed = store.change(change, deadline).await;
        let members = changed.map_err(|error| store_failure(store, &error))?;
        let found = store.group().await;
        // The change is made; who belongs to the group is known in any case.
        let group = match found {
            Ok(found) => group(&found),
            Err(_) => wire::GetGroupResponse {
                answered_by: store.identity().member.get(),
                members: roll(&members, &[]),
                ..wire::GetGroupResponse::default()
            },
        };
        Ok(wire::ChangeGroupResponse { group: Some(group) })
    }

    async fn transfer(
        &self,
        request: wire::TransferLeadershipRequest,
    ) -> Result<wire::TransferLeadershipResponse, Failure> {
        let deadline = bounded(request.deadline_millis);
        let store = self.store()?;
        let leads = store.transfer(given(request.to), deadline).await;
        let leader = leads.map_err(|error| store_failure(store, &error))?.get();
        Ok(wire::TransferLeadershipResponse { leader })
    }

    async fn snapshot(
        &self,
        request: wire::TakeSnapshotRequest,
    ) -> Result<wire::TakeSnapshotResponse, Failure> {
        let store = self.store()?;
        let made = store.snapshot(bounded(request.deadline_millis)).await;
        let position = made.map_err(|error| store_failure(store, &error))?;
        Ok(wire::TakeSnapshotResponse {
            answered_by: store.identity().member.get(),
            index: position.index.get(),
        })
    }
}

fn group(found: &GroupStatus) -> wire::GetGroupResponse {
    let status = &found.status;
    wire::GetGroupResponse {
        answered_by: status.member.get(),
        leader: status.leader.map_or(0, NodeId::get),
        term: status.term,
        commit: status.commit.get(),
        applied: status.applied.get(),
        log_first: found.log_first.get(),
        log_last: found.log_last.get(),
        log_bytes: found.log_bytes,
        members: roll(&found.membership, &progress(found)),
        removed: found.membership.removed.iter().map(|id| id.get()).collect(),
    }
}

/// How far everybody is, the leader itself included; empty unless it answers.
fn progress(found: &GroupStatus) -> Vec<(NodeId, wire::GroupProgress)> {
    let status = &found.status;
    if status.leader != Some(status.member) {
        return Vec::new();
    }
    let own = wire::GroupProgress {
        matched: found.log_last.get(),
        snapshot: false,
        active: true,
    };
    let others = found.progress.iter().map(|member| {
        let progress = wire::GroupProgress {
            matched: member.matched.get(),
            snapshot: member.snapshot,
            active: member.active,
        };
        (member.id, progress)
    });
    others
        .filter(|(id, _)| *id != status.member)
        .chain([(status.member, own)])
        .collect()
}

fn roll(
    members: &Membership,
    progress: &[(NodeId, wire::GroupProgress)],
) -> Vec<wire::GroupMember> {
    let all = members.voters.union(&members.outgoing).copied();
    let all: std::collections::BTreeSet<_> = all.chain(members.learners.iter().copied()).collect();
    let member = |id: NodeId| wire::GroupMember {
        id: id.get(),
        address: members.address(id).unwrap_or_default().to_owned(),
        voter: members.voters.contains(&id),
        outgoing: members.outgoing.contains(&id),
        progress: progress
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, progress)| *progress),
    };
    all.into_iter().map(member).collect()
}

fn change(asked: Option<Asked>) -> Result<Change, Failure> {
    let missing = || Failure::new(ErrorKind::InvalidArgument, "the change is missing");
    Ok(match asked.ok_or_else(missing)? {
        Asked::Add(add) => Change::AddLearner {
            id: NodeId::new(add.id),
            address: address(add.address)?,
        },
        Asked::Promote(promote) => Change::Promote {
            id: NodeId::new(promote.id),
            replacing: given(promote.replacing),
        },
        Asked::Remove(remove) => Change::Remove {
            id: NodeId::new(remove.id),
        },
    })
}

/// An address that stands in the log for ever has to be one.
fn address(text: String) -> Result<String, Failure> {
    if is_address(&text) {
        return Ok(text);
    }
    let message = format!(
        "{:?} is not an address at which other servers can reach the new one; give host:port, \
         such as node4:7411",
        text.chars().take(SHOWN).collect::<String>()
    );
    Err(Failure::new(ErrorKind::InvalidArgument, message))
}

/// A number, where one was given.
fn given(number: u64) -> Option<NodeId> {
    (number != 0).then(|| NodeId::new(number))
}

fn bounded(deadline_millis: u64) -> Duration {
    match deadline_millis {
        0 => USUAL,
        millis => Duration::from_millis(millis).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_an_address_never_enters_the_log() {
        for good in ["node4:7411", "10.0.0.4:1", "[::1]:7411"] {
            assert_eq!(address(good.to_owned()), Ok(good.to_owned()));
        }
        let long = format!("{}:1", "x".repeat(300));
        for bad in [
            "",
            "node4",
            ":7411",
            "node4:0",
            "http://a:1",
            "a b:1",
            &long,
        ] {
            let failure = address(bad.to_owned()).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn nobody_waits_longer_than_the_longest() {
        assert_eq!(bounded(0), USUAL);
        assert_eq!(bounded(u64::MAX), LONGEST);
    }
}
