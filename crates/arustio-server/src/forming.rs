//! From an empty folder to a member of a cluster: the acting half of `founding`.
//!
//! Asks the listed servers, over and over, does what [`decide`] says, and tells people what
//! is waited for. What it finds is durable before anybody else is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arustio_meta::MemberIdentity;
use arustio_types::{Classify as _, ClusterId, ErrorKind, Incarnation};
use futures::future::join_all;
use tokio::time::Instant;

use crate::data_dir::{Belonging, DataDir, random};
use crate::error::ServerError;
use crate::founding::{Answers, Founding, Me, Members, Step, Unfit, decide};
use crate::introduction::{self, Introduction};

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(300);
/// People are told again what is waited for, even when nothing changes.
const REMIND: Duration = Duration::from_secs(15);

/// A server on its way into a cluster.
pub(crate) struct Forming<'a> {
    pub(crate) introduction: &'a Introduction,
    pub(crate) data: &'a Arc<DataDir>,
    /// Told what is waited for.
    pub(crate) waiting: &'a (dyn Fn(&str) -> bool + Send + Sync),
    pub(crate) told: Option<Instant>,
}

impl Forming<'_> {
    /// Returns when this server is a member. Safe to drop.
    pub(crate) async fn run(&mut self) -> Result<Belonging, ServerError> {
        if let Some(known) = self.data.belonging()? {
            self.introduction.belongs_to(&known.founding);
            if known.joined && !known.started {
                // It may have stopped before the group knew its folder.
                self.bind(known.identity(), &Members::default()).await?;
            }
            return Ok(known);
        }
        loop {
            let answers = self.ask().await;
            let (founding, joined) = match decide(self.me(), &answers) {
                Step::Wait(what) => {
                    self.wait(&what).await;
                    continue;
                }
                Step::Found(founders) => {
                    let founding = Founding {
                        cluster: ClusterId::new(u128::from_le_bytes(random()?)),
                        incarnation: Incarnation::new(u64::from_le_bytes(random()?)),
                        founders,
                    };
                    (founding, None)
                }
                Step::Adopt(founding) => (founding, None),
                Step::Join(founding, members) => (founding, Some(members)),
                Step::End(unfit) => return Err(unfit.into()),
            };
            return self.belong(founding, joined).await;
        }
    }

    fn me(&self) -> &Me {
        &self.introduction.me
    }

    async fn belong(
        &self,
        founding: Founding,
        joined: Option<Members>,
    ) -> Result<Belonging, ServerError> {
        let belonging = Belonging {
            member: self.me().member,
            founding,
            joined: joined.is_some(),
            started: false,
        };
        let (data, settled) = (Arc::clone(self.data), belonging.clone());
        crate::compose::blocking(move || data.settle(&settled)).await?;
        let Founding {
            cluster, founders, ..
        } = &belonging.founding;
        tracing::info!(%cluster, member = %belonging.member, founders = founders.len(), "belongs to a cluster from now on");
        self.introduction.belongs_to(&belonging.founding);
        if let Some(members) = joined {
            self.bind(belonging.identity(), &members).await?;
        }
        Ok(belonging)
    }

    /// Asks every other listed server who it is, all at once.
    async fn ask(&self) -> Answers {
        let me = self.me();
        let asked = me.others().map(|(number, address)| async move {
            let answer = introduction::hello(address, me).await;
            (number, answer)
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn wait(&mut self, what: &str) {
        let news = (self.waiting)(what);
        let again = self.told.is_none_or(|told| told.elapsed() >= REMIND);
        if news || again {
            tracing::info!("waiting: {what}");
            self.told = Some(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }

    /// Has the group bind this member to its folder; the leader decides.
    async fn bind(&self, identity: MemberIdentity, members: &Members) -> Result<(), ServerError> {
        let mut asked = servers(self.me(), members);
        let mut at = 0;
        loop {
            let Some(address) = asked.get(at % asked.len().max(1)).cloned() else {
                let reason = "cluster.members is empty, so it is not known where its cluster is";
                return Err(Unfit::new(ErrorKind::InvalidArgument, reason).into());
            };
            let failure = match introduction::bind(&address, identity, self.me()).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if !matches!(failure.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
                return Err(Unfit::new(failure.kind, failure.message).into());
            }
            let what =
                format!("the group to bind this member to its folder ({address}: {failure})");
            if (self.waiting)(&what) {
                tracing::info!("waiting: {what}");
            }
            at += 1;
            if let Some(leader) = failure.leader.filter(|leader| *leader != address) {
                at = match asked.iter().position(|known| *known == leader) {
                    Some(known) => known,
                    None => {
                        asked.truncate(32);
                        asked.push(leader);
                        asked.len() - 1
                    }
                };
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Everybody who may know the leader, the leader first.
fn servers(me: &Me, members: &Members) -> Vec<String> {
    let leader = members
        .leader
        .and_then(|leader| members.members.get(&leader));
    let known = members.members.iter();
    let known = known.filter(|(number, _)| **number != me.member);
    let known = leader.into_iter().chain(known.map(|(_, info)| info));
    let known = known.map(|info| info.address.clone());
    let listed = me.others().map(|(_, address)| address.to_owned());
    let mut seen = BTreeSet::new();
    let all = known.chain(listed).filter(|address| !address.is_empty());
    all.filter(|address| seen.insert(address.clone())).collect()
}

/// Where members may be reached that the group's own record does not say.
pub(crate) fn fallbacks(me: &Me) -> BTreeMap<arustio_types::NodeId, String> {
    let others = me.others();
    others
        .map(|(number, address)| (number, address.to_owned()))
        .collect()
}
