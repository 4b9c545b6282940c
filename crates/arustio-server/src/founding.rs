//! How a cluster begins, and how a server comes to be one of its members: the decision.
//!
//! Every data folder has a nonce, its *instance*. The listed server with the lowest number
//! asks all the others; when all have answered that their folders are empty, it mints the
//! cluster and makes the *founding record*, with everybody's instance in it. The others
//! fetch that record and look for their own instance.
//!
//! All have to answer, not a majority: a majority could found a second cluster beside
//! members that are merely away, or were wiped. Because everybody's instance stands in the
//! record, and later in the group's membership, a server that lost its folder finds its
//! number with another instance and ends: it has forgotten its votes.
//!
//! [`decide`] looks at what was heard and says what to do next. It does nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use arustio_meta::MemberIdentity;
use arustio_meta::consensus::MemberInfo;
use arustio_types::{Classify, ClusterId, ErrorKind, Incarnation, NodeId};

/// Tells cluster keys apart.
pub(crate) type Fingerprint = [u8; 4];

/// How a cluster began: the same on all of its first members, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Founding {
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) founders: BTreeMap<NodeId, MemberInfo>,
}

impl Founding {
    /// A member of it.
    pub(crate) fn identity(&self, member: NodeId) -> MemberIdentity {
        MemberIdentity {
            cluster: self.cluster,
            incarnation: self.incarnation,
            member,
        }
    }
}

/// This server, before it belongs to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Me {
    pub(crate) member: NodeId,
    pub(crate) instance: u128,
    /// Where others reach it.
    pub(crate) address: String,
    pub(crate) key: Fingerprint,
    /// The servers of `cluster.members`.
    pub(crate) listed: BTreeMap<NodeId, String>,
}

impl Me {
    /// The listed servers that can be asked.
    pub(crate) fn others(&self) -> impl Iterator<Item = (NodeId, &str)> {
        let others = self
            .listed
            .iter()
            .filter(|(number, _)| **number != self.member);
        others.map(|(number, address)| (*number, address.as_str()))
    }
}

/// What a server said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) member: NodeId,
    pub(crate) instance: u128,
    pub(crate) key: Vec<u8>,
    pub(crate) listed: BTreeSet<NodeId>,
    /// Absent while its folder is empty.
    pub(crate) founding: Option<Founding>,
    /// Absent before its log is open.
    pub(crate) members: Option<Members>,
}

/// Who belongs to a group, as a server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Members {
    pub(crate) position: u64,
    pub(crate) members: BTreeMap<NodeId, MemberInfo>,
    pub(crate) removed: BTreeSet<NodeId>,
    pub(crate) leader: Option<NodeId>,
}

/// What came of asking each listed server: its answer, or why there was none.
pub(crate) type Answers = BTreeMap<NodeId, Result<Heard, String>>;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing yet; this is waited for.
    Wait(String),
    /// Found the cluster with these members.
    Found(BTreeMap<NodeId, MemberInfo>),
    /// This cluster was founded with this server in it.
    Adopt(Founding),
    /// The group has a place for this server, which has to be bound to its folder.
    Join(Founding, Members),
    /// This server can never take part like this.
    End(Unfit),
}

/// Why a server can never take part, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unfit {
    kind: ErrorKind,
    reason: String,
}

impl Unfit {
    pub(crate) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { kind, reason }
    }
}

impl Classify for Unfit {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// What a server with an empty folder does next.
pub(crate) fn decide(me: &Me, answers: &Answers) -> Step {
    for (number, heard) in heard(answers) {
        if heard.instance == me.instance {
            return Step::End(copied(me, number));
        }
        if heard.member != number {
            return Step::Wait(format!(
                "{} answers as member {}, but cluster.members lists it as {number}: correct the \
                 list here, or cluster.member there",
                address(me, number),
                heard.member
            ));
        }
    }
    match other_key(me, answers) {
        Some(step) => step,
        None if heard(answers).any(|(_, heard)| heard.founding.is_some()) => enter(me, answers),
        None => begin(me, answers),
    }
}

fn heard(answers: &Answers) -> impl Iterator<Item = (NodeId, &Heard)> {
    let good = answers.iter();
    good.filter_map(|(number, answer)| Some((*number, answer.as_ref().ok()?)))
}

fn address(me: &Me, number: NodeId) -> &str {
    me.listed.get(&number).map_or("?", String::as_str)
}

fn copied(me: &Me, number: NodeId) -> Unfit {
    Unfit::new(
        ErrorKind::Conflict,
        format!(
            "member {number} at {} runs on a copy of this data folder: no two servers may share \
             one. Give this server (member {}) an empty folder",
            address(me, number),
            me.member
        ),
    )
}

/// A cluster has one key. Whoever differs from a cluster that exists, or from more than half
/// of those that found one, is the odd one out; else it cannot be told who is wrong.
fn other_key(me: &Me, answers: &Answers) -> Option<Step> {
    let others: Vec<_> = heard(answers)
        .filter(|(_, heard)| heard.key != me.key)
        .collect();
    let (number, _) = *others.first()?;
    let reason = format!(
        "member {number} at {} has another cluster key than this server (member {}), and one \
         cluster has one key, or nobody could read the credentials of the mounts: copy the file \
         (cluster.key in the data folder, or cluster.key_file) from one server to all others",
        address(me, number),
        me.member
    );
    let exists = others.iter().any(|(_, heard)| heard.founding.is_some());
    if exists || others.len() > me.listed.len() / 2 {
        return Some(Step::End(Unfit::new(ErrorKind::Unauthenticated, reason)));
    }
    Some(Step::Wait(reason))
}

/// There is a cluster: is this server one of its members?
fn enter(me: &Me, answers: &Answers) -> Step {
    let founded: Vec<_> = heard(answers)
        .filter_map(|(number, heard)| Some((number, heard.founding.as_ref()?, heard)))
        .collect();
    let Some((first, founding, _)) = founded.first() else {
        return begin(me, answers);
    };
    let same = |other: &Founding| {
        (other.cluster, other.incarnation) == (founding.cluster, founding.incarnation)
    };
    if let Some((other, ..)) = founded.iter().find(|(_, other, _)| !same(other)) {
        return Step::End(Unfit::new(
            ErrorKind::Conflict,
            format!(
                "{} and {} belong to two different clusters: correct cluster.members",
                address(me, *first),
                address(me, *other)
            ),
        ));
    }
    // Who knows of the latest change knows best.
    let known = founded
        .iter()
        .filter_map(|(_, _, heard)| heard.members.as_ref());
    let members = match known.max_by_key(|members| members.position) {
        Some(members) => members.clone(),
        None => Members {
            members: founding.founders.clone(),
            ..Members::default()
        },
    };
    place(me, founding, members)
}

fn place(me: &Me, founding: &Founding, members: Members) -> Step {
    let number = me.member;
    if members.removed.contains(&number) {
        return Step::End(removed(number));
    }
    let Some(info) = members.members.get(&number) else {
        return Step::Wait(format!(
            "this server (member {number}) does not belong to cluster {} yet; make it a member: \
             arustio admin raft add {number} {}",
            founding.cluster, me.address
        ));
    };
    if info.instance != 0 && info.instance != me.instance {
        return Step::End(wiped(number));
    }
    let founder = founding.founders.get(&number);
    match founder.is_some_and(|founder| founder.instance == me.instance) {
        true => Step::Adopt(founding.clone()),
        false => Step::Join(founding.clone(), members),
    }
}

/// A removed member must not come back.
pub(crate) fn removed(number: NodeId) -> Unfit {
    Unfit::new(
        ErrorKind::NotFound,
        format!(
            "member {number} was removed from its cluster, and its number never comes back: stop \
             this server for good, or give it an empty data folder and a number that was never \
             used (cluster.member), and add that one: arustio admin raft add NEW ADDRESS"
        ),
    )
}

/// A member that lost its folder must not come back under its number.
pub(crate) fn wiped(number: NodeId) -> Unfit {
    Unfit::new(
        ErrorKind::Conflict,
        format!(
            "member {number} of this cluster came with another data folder before. A member that \
             lost its folder has forgotten its votes and must not come back under its number: \
             bring the old folder back, or remove the member (arustio admin raft remove {number}), \
             add a number that was never used (arustio admin raft add NEW ADDRESS), and start \
             this server with that number (cluster.member) and an empty folder"
        ),
    )
}

/// There is no cluster, as far as was heard.
fn begin(me: &Me, answers: &Answers) -> Step {
    let silent = silent(me, answers);
    let mut numbers: BTreeSet<_> = me.listed.keys().copied().collect();
    if numbers.is_empty() {
        numbers.insert(me.member);
    }
    if !numbers.contains(&me.member) {
        return Step::Wait(match silent.is_empty() {
            true => "none of the servers in cluster.members has a cluster yet; this server is not \
                     among them, so it waits for them to found one"
                .to_owned(),
            false => format!("a cluster to join; {silent}"),
        });
    }
    if let Some((number, _)) = heard(answers).find(|(_, heard)| heard.listed != numbers) {
        return Step::Wait(format!(
            "member {number} at {} was given another list of members: cluster.members has to be \
             the same on every server that founds the cluster",
            address(me, number)
        ));
    }
    if !silent.is_empty() {
        return Step::Wait(format!("all members that found the cluster; {silent}"));
    }
    match numbers.first() {
        Some(lowest) if *lowest != me.member => Step::Wait(format!(
            "member {lowest} at {} to found the cluster",
            address(me, *lowest)
        )),
        Some(_) | None => Step::Found(founders(me, answers)),
    }
}

fn founders(me: &Me, answers: &Answers) -> BTreeMap<NodeId, MemberInfo> {
    let others = heard(answers).map(|(number, heard)| {
        let address = address(me, number).to_owned();
        let instance = heard.instance;
        (number, MemberInfo { address, instance })
    });
    let own = MemberInfo {
        address: me.address.clone(),
        instance: me.instance,
    };
    others.chain([(me.member, own)]).collect()
}

/// Who did not answer, in words; empty if all did.
fn silent(me: &Me, answers: &Answers) -> String {
    let silent = me.others().filter_map(|(number, address)| {
        let why = match answers.get(&number) {
            Some(Ok(_)) => return None,
            Some(Err(why)) => why.as_str(),
            None => "not asked yet",
        };
        Some(format!(
            "member {number} at {address} does not answer ({why})"
        ))
    });
    silent.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
