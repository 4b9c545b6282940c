//! The consensus as a whole: crashes at every write, three members by hand, the thread.

mod crash;
mod live;
mod network;

use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::RequestContext;
use arustio_types::{ClusterId, Incarnation, NodeId, RequestId, SessionId};
use parking_lot::RwLock;
use tokio::sync::oneshot;

use super::member::{Input, Member};
use super::peer::Peer;
use super::transport::RaftTransport;
use super::{MemberIdentity, NullTransport};
use crate::config::{CheckedConfig, MetaConfig};
use crate::engine::KvEngine;
use crate::error::{FatalError, StoreError};
use crate::state_machine::StateMachine as _;
use crate::store::Proposed;
use crate::testing::register::{Append, Register};

/// Compacts early, so that every test of one member does.
fn config() -> CheckedConfig {
    let config = MetaConfig {
        compact_after: 20,
        compact_keep: 5,
        ..MetaConfig::default()
    };
    config.validate().unwrap()
}

fn identity(member: u64) -> MemberIdentity {
    MemberIdentity {
        cluster: ClusterId::new(7),
        incarnation: Incarnation::new(1),
        member: NodeId::new(member),
    }
}

fn context(session: u64, sequence: u64) -> RequestContext {
    RequestContext {
        id: RequestId {
            session: SessionId::new(session),
            sequence,
            first_unacked: 1,
        },
        ..RequestContext::default()
    }
}

type Answer = oneshot::Receiver<Result<Proposed<u64>, StoreError>>;

fn propose(member: &mut Member<Register>, session: u64, sequence: u64) -> Answer {
    let (reply, answer) = oneshot::channel();
    let command = Append {
        list: 0,
        number: sequence,
    };
    let payload = Register::encode(&context(session, sequence), &command);
    member.take(Input::Propose(payload, reply));
    answer
}

fn open(
    id: u64,
    voters: &[u64],
    log: Arc<dyn KvEngine>,
    state: Arc<dyn KvEngine>,
    transport: Arc<dyn RaftTransport>,
    seed: u64,
) -> Result<(Member<Register>, Arc<RwLock<Register>>), FatalError> {
    let machine = Register::open(state)?;
    let applied = machine.applied();
    let voters: Vec<_> = voters.iter().map(|id| NodeId::new(*id)).collect();
    // Who lags behind a compacted log needs a snapshot, and those are not shipped yet.
    let config = match voters.len() {
        1 => config(),
        _ => MetaConfig::default().validate().unwrap(),
    };
    let peer = Peer::open(&config, identity(id), &voters, log, applied, seed)?;
    let machine = Arc::new(RwLock::new(machine));
    let shared = Arc::clone(&machine);
    let member = Member::new(&config, peer, shared, transport, seed);
    Ok((member, machine))
}

fn open_alone(
    log: Arc<dyn KvEngine>,
    state: Arc<dyn KvEngine>,
    seed: u64,
) -> Result<(Member<Register>, Arc<RwLock<Register>>), FatalError> {
    let (mut member, machine) = open(1, &[1], log, state, Arc::new(NullTransport), seed)?;
    member.start()?;
    member.run(Duration::ZERO)?;
    Ok((member, machine))
}
