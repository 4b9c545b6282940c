//! The consensus as a whole: crashes at every write, three members by hand, the thread.

mod crash;
mod group;
mod live;
mod marks;
mod network;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::RequestContext;
use arustio_types::{ByteSize, ClusterId, Incarnation, NodeId, RequestId, SessionId};
use parking_lot::RwLock;
use tokio::sync::oneshot;

use super::member::{Input, Member, Surroundings};
use super::peer::Peer;
use super::snapshot::Workshop;
use super::transport::RaftTransport;
use super::{MemberIdentity, MemberInfo, Membership, NullTransport};
use crate::config::{CheckedConfig, MetaConfig};
use crate::engine::KvEngine;
use crate::error::{FatalError, StoreError};
use crate::state_machine::{StateMachine as _, StateMachineError};
use crate::store::Proposed;
use crate::testing::register::{Append, Register};

/// Compacts early, so that every test of one member does.
fn config() -> CheckedConfig {
    let config = MetaConfig {
        compact_after: ByteSize(20 * 70),
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

/// Leaves the settling of the state to whoever steps the member.
#[derive(Debug)]
struct ByHand;

impl Workshop for ByHand {
    fn settle(&self) -> Result<(), StateMachineError> {
        Ok(())
    }
}

/// Who founds a group of these; nobody: a member that joins.
fn founders(ids: &[u64]) -> Membership {
    let info = |id: u64| MemberInfo {
        address: format!("host{id}:1"),
        instance: u128::from(id),
    };
    Membership::founding(ids.iter().map(|id| (NodeId::new(*id), info(*id))))
}

#[expect(
    clippy::too_many_arguments,
    reason = "everything that a member is made of"
)]
fn open(
    id: u64,
    founding: &[u64],
    config: &CheckedConfig,
    log: Arc<dyn KvEngine>,
    state: Arc<dyn KvEngine>,
    transport: Arc<dyn RaftTransport>,
    folder: PathBuf,
    seed: u64,
) -> Result<(Member<Register>, Arc<RwLock<Register>>), FatalError> {
    let machine = Register::open(state)?;
    let founding = founders(founding);
    let peer = Peer::open(config, identity(id), &founding, log, &machine, seed)?;
    let machine = Arc::new(RwLock::new(machine));
    let around = Surroundings {
        transport,
        workshop: Box::new(ByHand),
        folder,
        run: seed,
    };
    let member = Member::new(config, peer, Arc::clone(&machine), around);
    Ok((member, machine))
}

fn open_alone(
    log: Arc<dyn KvEngine>,
    state: Arc<dyn KvEngine>,
    seed: u64,
) -> Result<(Member<Register>, Arc<RwLock<Register>>), FatalError> {
    let nowhere = (Arc::new(NullTransport), PathBuf::new());
    let (mut member, machine) = open(1, &[1], &config(), log, state, nowhere.0, nowhere.1, seed)?;
    member.start()?;
    member.run(Duration::ZERO)?;
    Ok((member, machine))
}
