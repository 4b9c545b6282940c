//! A group of members stepped in one thread, for benchmarks: what agreement itself costs,
//! without disks, threads and networks. Not for servers: nothing here lasts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::{Command, Outcome, RequestContext};
use arustio_types::{ClusterId, FsPath, Incarnation, NodeId, RequestId, SessionId, WriteId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::member::{Input, Member, Surroundings};
use super::peer::Peer;
use super::snapshot::Workshop;
use super::{Envelope, MemberIdentity, MemberInfo, Membership, RaftTransport, Shipment};
use crate::config::MetaConfig;
use crate::engine::{EngineKind, MemEngine};
use crate::error::FatalError;
use crate::namespace::Namespace;
use crate::state_machine::{StateMachine as _, StateMachineError};
use crate::store::Role;

/// Beats within which a group has a leader, however its timeouts fall.
const ELECTION: usize = 1_000;

/// A group over engines in memory.
#[derive(Debug)]
pub struct Stepped {
    members: Vec<Member<Namespace>>,
    wire: Arc<Wire>,
    leader: usize,
    now: Duration,
    session: SessionId,
    made: u64,
}

impl Stepped {
    /// A group of so many members that has a leader, and a session; `None` if it could
    /// not agree on them.
    pub fn new(size: u64) -> Result<Option<Self>, FatalError> {
        let wire = Arc::new(Wire::default());
        let members = (1..=size).map(|id| member(id, size, &wire));
        let mut group = Self {
            members: members.collect::<Result<_, _>>()?,
            wire,
            leader: 0,
            now: Duration::ZERO,
            session: SessionId::default(),
            made: 0,
        };
        for member in &mut group.members {
            member.start()?;
        }
        for _ in 0..ELECTION {
            group.beat()?;
            let leads = |member: &Member<Namespace>| member.status().role == Role::Leader;
            if let Some(leader) = group.members.iter().position(leads) {
                group.leader = leader;
                return Ok(group.open_session()?.then_some(group));
            }
        }
        Ok(None)
    }

    /// One beat of the clock for everybody, and what it makes them say.
    pub fn beat(&mut self) -> Result<(), FatalError> {
        self.now += Duration::from_millis(50);
        for member in &mut self.members {
            member.tick();
            member.run(self.now)?;
        }
        self.deliver()
    }

    /// Has so many directories made, proposed in one round; returns how many were.
    pub fn propose(&mut self, commands: u64) -> Result<u64, FatalError> {
        let payloads = (0..commands).map(|_| self.creation()).collect();
        let outcomes = self.agree(payloads)?;
        let made = |outcome: &&Outcome| matches!(outcome, Outcome::DirectoryMade { .. });
        Ok(outcomes.iter().filter(made).count() as u64)
    }

    /// Proposes in one round; returns what came of those that were acknowledged.
    fn agree(&mut self, payloads: Vec<Vec<u8>>) -> Result<Vec<Outcome>, FatalError> {
        let mut answers = Vec::new();
        let leader = &mut self.members[self.leader];
        for payload in payloads {
            let (reply, answer) = oneshot::channel();
            leader.take(Input::Propose(payload, reply));
            answers.push(answer);
        }
        leader.run(self.now)?;
        self.deliver()?;
        let done = answers
            .iter_mut()
            .filter_map(|answer| answer.try_recv().ok());
        Ok(done.flatten().map(|proposed| proposed.outcome).collect())
    }

    fn open_session(&mut self) -> Result<bool, FatalError> {
        let open = Command::OpenSession {
            nonce: 1,
            ttl: Duration::from_secs(24 * 3_600),
        };
        let payload = Namespace::encode(&RequestContext::default(), &open);
        let outcomes = self.agree(vec![payload])?;
        let Some(Outcome::SessionOpened { session }) = outcomes.first() else {
            return Ok(false);
        };
        self.session = *session;
        Ok(true)
    }

    fn creation(&mut self) -> Vec<u8> {
        self.made += 1;
        let path = format!("/entry-{:012}", self.made);
        let command = Command::Mkdir {
            path: FsPath::new(&path).expect("it is a path"),
            parents: false,
            exist_ok: false,
            write_id: WriteId::new(u128::from(self.made)),
            proofs: Vec::new(),
        };
        let id = RequestId {
            session: self.session,
            sequence: self.made,
            first_unacked: self.made,
        };
        let context = RequestContext {
            id,
            ..RequestContext::default()
        };
        Namespace::encode(&context, &command)
    }

    fn deliver(&mut self) -> Result<(), FatalError> {
        loop {
            let messages = std::mem::take(&mut *self.wire.0.lock());
            if messages.is_empty() {
                return Ok(());
            }
            for envelope in messages {
                let at = usize::try_from(envelope.to.get() - 1).unwrap_or(usize::MAX);
                if let Some(member) = self.members.get_mut(at) {
                    member.take(Input::Step(envelope.bytes));
                }
            }
            for member in &mut self.members {
                member.run(self.now)?;
            }
        }
    }
}

fn member(id: u64, size: u64, wire: &Arc<Wire>) -> Result<Member<Namespace>, FatalError> {
    let identity = MemberIdentity {
        cluster: ClusterId::new(1),
        incarnation: Incarnation::new(1),
        member: NodeId::new(id),
    };
    let config = MetaConfig::default();
    let config = config.validate().expect("the defaults are valid");
    let state = Arc::new(MemEngine::new(EngineKind::State));
    let machine = Namespace::open(state, identity.cluster, identity.incarnation)?;
    let all = (1..=size).map(|id| (NodeId::new(id), MemberInfo::default()));
    let founding = Membership::founding(all);
    let log = Arc::new(MemEngine::new(EngineKind::Log));
    let peer = Peer::open(&config, identity, &founding, log, &machine, id)?;
    let around = Surroundings {
        transport: Arc::clone(wire) as Arc<dyn RaftTransport>,
        workshop: Box::new(Nothing),
        folder: PathBuf::new(),
        run: id,
    };
    Ok(Member::new(
        &config,
        peer,
        Arc::new(RwLock::new(machine)),
        around,
    ))
}

/// What is on its way.
#[derive(Debug, Default)]
struct Wire(Mutex<Vec<Envelope>>);

impl RaftTransport for Wire {
    fn send(&self, envelope: Envelope) {
        self.0.lock().push(envelope);
    }

    fn send_snapshot(&self, _: Shipment) {}

    fn members(&self, _: &Membership) {}
}

/// Nobody lags here, so no snapshot is made.
#[derive(Debug)]
struct Nothing;

impl Workshop for Nothing {
    fn settle(&self) -> Result<(), StateMachineError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_one_and_three_acknowledge_everything() {
        for size in [1, 3] {
            let mut group = Stepped::new(size).unwrap().unwrap();
            group.beat().unwrap();
            assert_eq!(group.propose(1).unwrap(), 1, "{size} members");
            assert_eq!(group.propose(16).unwrap(), 16, "{size} members");
        }
    }
}
