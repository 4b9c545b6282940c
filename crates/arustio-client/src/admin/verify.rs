//! Whether what the metadata servers hold is sound, and the same.
//!
//! One server checks its state after the other, so that they are not all slow at once. States
//! are compared where all that were checked have come to the same entry. That is so where
//! nothing is written; otherwise the leader puts an entry into the log at which each takes
//! down the sum over what it has, later than everything that was checked. A sum follows from
//! the one before and the records that change: replicas that have equal sums there, each of
//! which fitted to its own records before, hold the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use arustio_proto::admin::v1 as wire;
use arustio_proto::admin::v1::admin_client::AdminClient;
use arustio_proto::admin::v1::verify_state_response::Kind;
use arustio_proto::common::v1::Bits128;
use arustio_types::{ErrorKind, LogIndex, NodeId};

use super::state::next;
use super::{Admin, GroupMember, millis};
use crate::error::{FsError, Result};
use crate::metadata::route::{Repeat, Want, request};

const VERIFY: &str = "verify the metadata";

/// What a server found when it checked its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateReport {
    /// The last entry that the state reflects.
    pub index: LogIndex,
    /// Over all records as they are.
    pub sum: u128,
    /// Records of every kind.
    pub records: u64,
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Names.
    pub names: u64,
    /// Mounts.
    pub mounts: u64,
    /// Announced writes.
    pub intents: u64,
    /// Work owed to stores.
    pub effects: u64,
    /// Sessions of clients.
    pub sessions: u64,
    /// Block nodes.
    pub nodes: u64,
    /// What is wrong.
    pub problems: Vec<String>,
    /// Problems beyond those.
    pub more_problems: u64,
}

impl StateReport {
    /// Everything that is wrong, counted.
    pub fn wrong(&self) -> u64 {
        self.problems.len() as u64 + self.more_problems
    }
}

/// One server's part of a check.
#[derive(Debug, Clone)]
pub struct MemberCheck {
    /// Its number.
    pub id: NodeId,
    /// Where it was asked; empty where the group does not know it.
    pub address: String,
    /// What it found, or why there is nothing.
    pub found: Result<StateReport>,
}

/// The sums over the states of several servers at one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumsAt {
    /// The entry.
    pub index: LogIndex,
    /// Who has which.
    pub sums: BTreeMap<NodeId, u128>,
}

impl SumsAt {
    /// Who has the same, the larger groups first; one group where all do.
    pub fn groups(&self) -> Vec<Vec<NodeId>> {
        let mut groups: BTreeMap<u128, Vec<NodeId>> = BTreeMap::new();
        for (member, sum) in &self.sums {
            groups.entry(*sum).or_default().push(*member);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| (Reverse(group.len()), group.first().copied()));
        groups
    }

    /// Whether all have the same.
    pub fn agree(&self) -> bool {
        self.groups().len() < 2
    }

    /// Who holds something else than whom, in words.
    fn differing(&self) -> String {
        let groups = self.groups().into_iter().map(|group| {
            let numbers: Vec<_> = group.iter().map(NodeId::to_string).collect();
            let word = match group.len() {
                1 => "member",
                _ => "members",
            };
            format!("{word} {}", numbers.join(", "))
        });
        format!(
            "the states differ at entry {}: {}",
            self.index,
            groups.collect::<Vec<_>>().join(" against ")
        )
    }
}

/// What a check of several servers found.
#[derive(Debug, Clone)]
pub struct Verification {
    /// By number.
    pub members: Vec<MemberCheck>,
    /// Where the states were compared; `None` where there were no two of them.
    pub compared: Option<Result<SumsAt>>,
}

impl Verification {
    /// What has to be said of it: nothing, or the worst.
    ///
    /// # Errors
    /// `Corrupt` where a state is not sound, or differs from another one; else why a server
    /// was not checked, or the states were not compared.
    pub fn verdict(&self) -> Result<()> {
        let wrong = self.wrong();
        if !wrong.is_empty() {
            let message = format!(
                "{}. Replace a member that differs from the others or is not sound (arustio \
                 admin raft remove, then add under a number that was never used, with an empty \
                 data folder), keep its log and a dump of it, and report this",
                wrong.join("; ")
            );
            return Err(FsError::new(ErrorKind::Corrupt, message).during(VERIFY));
        }
        let failed = self.members.iter().find_map(|one| one.found.as_ref().err());
        let compared = self.compared.as_ref().and_then(|sums| sums.as_ref().err());
        match failed.or(compared) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn wrong(&self) -> Vec<String> {
        let unsound = self.members.iter().filter_map(|member| {
            let wrong = member.found.as_ref().ok()?.wrong();
            let told = || format!("member {} has {wrong} problems", member.id);
            (wrong > 0).then(told)
        });
        let sums = self.compared.as_ref().and_then(|sums| sums.as_ref().ok());
        let differing = sums.filter(|sums| !sums.agree()).map(SumsAt::differing);
        unsound.chain(differing).collect()
    }
}

impl Admin {
    /// Has each member check its state, or this one alone, and compares what they hold.
    /// `seen` is told how many records a member has looked at. Dropping the future ends the
    /// work on the servers.
    ///
    /// # Errors
    /// When the group cannot be listed, or has no such member. What is wrong with members is
    /// no error here: see [`Verification::verdict`].
    pub async fn verify(
        &self,
        only: Option<NodeId>,
        most_problems: u32,
        mut seen: impl FnMut(NodeId, u64) + Send,
    ) -> Result<Verification> {
        let members = match only {
            Some(member) => vec![self.member(member).await?],
            None => self.group().await?.members,
        };
        let mut checks = Vec::new();
        for member in members {
            let found = self.check(&member, most_problems, &mut seen).await;
            checks.push(MemberCheck {
                found: found.map_err(|error| of(member.id, error.during(VERIFY))),
                id: member.id,
                address: member.address,
            });
        }
        Ok(Verification {
            compared: self.compare(&checks).await,
            members: checks,
        })
    }

    /// The member with this number.
    pub(super) async fn member(&self, id: NodeId) -> Result<GroupMember> {
        let group = self.group().await?;
        let found = group.members.into_iter().find(|member| member.id == id);
        found.ok_or_else(|| {
            let message = format!("the group has no member {id}; see: arustio admin raft list");
            FsError::new(ErrorKind::NotFound, message)
        })
    }

    async fn check(
        &self,
        member: &GroupMember,
        most_problems: u32,
        seen: &mut (impl FnMut(NodeId, u64) + Send),
    ) -> Result<StateReport> {
        let asked = wire::VerifyStateRequest {
            member: member.id.get(),
            most_problems,
        };
        let server = member.reached()?;
        let ask = |channel, _| {
            // Without a limit: it takes as long as it takes.
            let asked = tonic::Request::new(asked);
            async move { AdminClient::new(channel).verify_state(asked).await }
        };
        let begun = self.route.one(server, self.timeout, ask).await;
        let mut from = begun.map_err(|failed| failed.explain())?.into_inner();
        loop {
            match next(&mut from, server, |said| said.kind).await? {
                Kind::Seen(count) => seen(member.id, count),
                Kind::Report(found) => return Ok(found.into()),
            }
        }
    }

    /// Compares the states of those who have told theirs.
    async fn compare(&self, checks: &[MemberCheck]) -> Option<Result<SumsAt>> {
        let told = |check: &MemberCheck| check.found.as_ref().ok().map(|found| found.index);
        let members: Vec<_> = checks.iter().filter(|one| told(one).is_some()).collect();
        if members.len() < 2 {
            return None;
        }
        let mut places: BTreeMap<LogIndex, BTreeMap<NodeId, u128>> = BTreeMap::new();
        for check in &members {
            if let Ok(found) = &check.found {
                let place = places.entry(found.index).or_default();
                place.insert(check.id, found.sum);
            }
        }
        let places = places.into_iter();
        let mut places = places.map(|(index, sums)| SumsAt { index, sums });
        let first = places.next()?;
        if first.sums.len() == members.len() {
            return Some(Ok(first));
        }
        // Two that differ do not show which of them is wrong, so all are asked even then.
        let differing = std::iter::once(first)
            .chain(places)
            .find(|sums| !sums.agree());
        let marked = self.mark(&members).await;
        Some(marked.or_else(|error| differing.ok_or(error)))
    }

    /// Has everybody take down the sum at one new entry, and collects them.
    async fn mark(&self, members: &[&MemberCheck]) -> Result<SumsAt> {
        let what = "compare the metadata servers";
        let asked = |left: Duration| wire::TakeMarkRequest {
            caller: Some(self.caller()),
            deadline_millis: millis(left),
        };
        // One more of them harms nobody.
        let call = self.call(Want::Leader, Repeat::Freely);
        let taken = self
            .ask(call, |mut admin, left| {
                let asked = request(asked(left), left);
                async move { admin.take_mark(asked).await }
            })
            .await;
        let taken = taken.map_err(|failed| failed.explain().during(what))?;
        let mark = taken.value.mark.unwrap_or_default();
        let index = LogIndex::new(mark.index);
        let mut sums = BTreeMap::new();
        for member in members {
            let at = match member.id.get() == mark.answered_by {
                true => Ok(sum(mark.sum)),
                false => self.mark_at(member, index).await,
            };
            let at = at.map_err(|error| of(member.id, error.during(what)))?;
            sums.insert(member.id, at);
        }
        Ok(SumsAt { index, sums })
    }

    async fn mark_at(&self, member: &MemberCheck, index: LogIndex) -> Result<u128> {
        let ask = |channel, left: Duration| {
            let asked = wire::GetMarkRequest {
                member: member.id.get(),
                index: index.get(),
                deadline_millis: millis(left),
            };
            let asked = request(asked, left);
            async move { AdminClient::new(channel).get_mark(asked).await }
        };
        let got = self.route.one(&member.address, self.timeout, ask).await;
        let got = got.map_err(|failed| failed.explain())?.into_inner();
        Ok(sum(got.mark.unwrap_or_default().sum))
    }
}

/// Says whose trouble it is.
fn of(member: NodeId, error: FsError) -> FsError {
    error.at_text(&format!("member {member}"))
}

fn sum(bits: Option<Bits128>) -> u128 {
    bits.map(u128::from).unwrap_or_default()
}

impl From<wire::StateReport> for StateReport {
    fn from(found: wire::StateReport) -> Self {
        Self {
            index: LogIndex::new(found.index),
            sum: sum(found.sum),
            records: found.records,
            files: found.files,
            directories: found.directories,
            names: found.names,
            mounts: found.mounts,
            intents: found.intents,
            effects: found.effects,
            sessions: found.sessions,
            nodes: found.nodes,
            problems: found.problems,
            more_problems: found.more_problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: u64, problems: &[&str]) -> MemberCheck {
        let found = wire::StateReport {
            problems: problems.iter().map(|one| (*one).to_owned()).collect(),
            ..wire::StateReport::default()
        };
        MemberCheck {
            id: NodeId::new(id),
            address: format!("node{id}:7411"),
            found: Ok(found.into()),
        }
    }

    fn sums(sums: &[(u64, u128)]) -> SumsAt {
        let sums = sums.iter().map(|(id, sum)| (NodeId::new(*id), *sum));
        SumsAt {
            index: LogIndex::new(7),
            sums: sums.collect(),
        }
    }

    fn verdict(members: Vec<MemberCheck>, compared: Option<Result<SumsAt>>) -> Result<()> {
        let verification = Verification { members, compared };
        verification.verdict()
    }

    #[test]
    fn whoever_differs_or_is_not_sound_is_named() {
        let all = || vec![check(1, &[]), check(2, &[]), check(3, &[])];
        let equal = sums(&[(1, 5), (2, 5), (3, 5)]);
        assert!(verdict(all(), Some(Ok(equal))).is_ok());
        let differs = sums(&[(1, 5), (2, 6), (3, 5)]);
        let error = verdict(all(), Some(Ok(differs))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        let told = "entry 7: members 1, 3 against member 2";
        assert!(text.contains(told), "{text}");
        let error = verdict(vec![check(4, &["a", "b"])], None).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("member 4 has 2 problems"), "{text}");
    }

    #[test]
    fn what_was_not_checked_is_no_success_but_less_than_what_is_wrong() {
        let gone = || FsError::new(ErrorKind::Unavailable, "gone");
        let silent = || MemberCheck {
            found: Err(gone()),
            ..check(2, &[])
        };
        let kind = |members, compared| verdict(members, compared).unwrap_err().kind();
        let members = vec![check(1, &[]), silent()];
        assert_eq!(kind(members, None), ErrorKind::Unavailable);
        let members = vec![check(1, &["a"]), silent()];
        assert_eq!(kind(members, None), ErrorKind::Corrupt);
        let compared = Some(Err(gone()));
        assert_eq!(kind(vec![check(1, &[])], compared), ErrorKind::Unavailable);
    }
}
