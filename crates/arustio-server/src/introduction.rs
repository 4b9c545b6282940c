//! What metadata servers tell one another of themselves, and the words for it.
//!
//! A server introduces itself from its first moment on: its number, the instance of its
//! folder, the fingerprint of its key, and, once there is one, the record of how its
//! cluster began and who belongs to the group.

use std::collections::BTreeMap;
use std::time::Duration;

use arustio_client::net;
use arustio_meta::MemberIdentity;
use arustio_meta::consensus::{MemberInfo, Membership};
use arustio_meta::store::StoreStatus;
use arustio_proto::failure::Failure;
use arustio_proto::raft::v1 as wire;
use arustio_proto::raft::v1::raft_service_client::RaftServiceClient;
use arustio_types::{ClusterId, ErrorKind, Incarnation, NodeId};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::founding::{Founding, Heard, Me, Members};

/// The version of the conversation.
pub(crate) const PROTOCOL: u32 = 1;
/// The one group there is.
pub(crate) const GROUP: u64 = 0;
/// How long a connection, and a short question, may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// More members than any list can have.
const MOST_MEMBERS: usize = 4096;

/// This server, and what became of it.
#[derive(Debug)]
pub(crate) struct Introduction {
    pub(crate) me: Me,
    founding: Mutex<Option<Founding>>,
}

impl Introduction {
    pub(crate) fn new(me: Me) -> Self {
        Self {
            me,
            founding: Mutex::default(),
        }
    }

    /// Tells of this cluster from now on; it has to be durable before.
    pub(crate) fn belongs_to(&self, founding: &Founding) {
        *self.founding.lock() = Some(founding.clone());
    }

    /// The answer to whoever asks.
    pub(crate) fn answer(&self, known: Option<(StoreStatus, &Membership)>) -> wire::HelloResponse {
        let listed = match self.me.listed.is_empty() {
            true => vec![self.me.member.get()],
            false => self.me.listed.keys().map(|number| number.get()).collect(),
        };
        wire::HelloResponse {
            protocol: PROTOCOL,
            software: concat!("arustio-server ", env!("CARGO_PKG_VERSION")).to_owned(),
            member: self.me.member.get(),
            instance: Some(self.me.instance.into()),
            key: self.me.key.to_vec().into(),
            listed,
            founding: self.founding.lock().as_ref().map(say_founding),
            members: known.map(|(status, members)| say_members(status, members)),
        }
    }
}

/// A connection to another server, made now.
pub(crate) async fn connect(address: &str) -> Result<Channel, Failure> {
    let endpoint = endpoint(address)?;
    let connected = tokio::time::timeout(TIMEOUT, net::channel_now(&endpoint)).await;
    let unreachable = |why: &str| Failure::new(ErrorKind::Unavailable, why);
    match connected {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(unreachable(&deepest(&error))),
        Err(_) => Err(unreachable("no connection within 2 s")),
    }
}

fn endpoint(address: &str) -> Result<Endpoint, Failure> {
    let odd = |error: tonic::transport::Error| {
        let message = format!("{address:?} is no address: {error}");
        Failure::new(ErrorKind::InvalidArgument, message)
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(odd)?;
    // A peer that is cut off without a word is noticed within seconds.
    Ok(endpoint
        .connect_timeout(TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true))
}

/// The deepest cause says the most: "connection refused" rather than "transport error".
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Asks a server who it is.
pub(crate) async fn hello(address: &str, me: &Me) -> Result<Heard, String> {
    let asked = async {
        let channel = connect(address).await?;
        let request = wire::HelloRequest {
            protocol: PROTOCOL,
            member: me.member.get(),
            key: me.key.to_vec().into(),
        };
        let said = RaftServiceClient::new(channel).hello(request).await;
        said.map_err(|status| Failure::from(&status))
    };
    match tokio::time::timeout(TIMEOUT * 2, asked).await {
        Ok(Ok(answer)) => understand(answer.into_inner()),
        Ok(Err(failure)) => Err(failure.message),
        Err(_) => Err("no answer within 4 s".to_owned()),
    }
}

/// Asks a server to have a member bound to its folder.
pub(crate) async fn bind(address: &str, identity: MemberIdentity, me: &Me) -> Result<(), Failure> {
    let asked = async {
        let channel = connect(address).await?;
        let request = wire::BindRequest {
            from: Some(say_peer(identity)),
            instance: Some(me.instance.into()),
            address: me.address.clone(),
            key: me.key.to_vec().into(),
        };
        let said = RaftServiceClient::new(channel).bind(request).await;
        said.map(drop).map_err(|status| Failure::from(&status))
    };
    let late = || Failure::new(ErrorKind::Timeout, "no answer within 10 s");
    let most = Duration::from_secs(10);
    tokio::time::timeout(most, asked)
        .await
        .unwrap_or_else(|_| Err(late()))
}

pub(crate) fn say_peer(identity: MemberIdentity) -> wire::Peer {
    wire::Peer {
        cluster: Some(identity.cluster.get().into()),
        incarnation: identity.incarnation.get(),
        group: GROUP,
        member: identity.member.get(),
    }
}

/// Who a peer says it is; refused unless it is of the same life of the same cluster.
pub(crate) fn check_peer(
    peer: Option<wire::Peer>,
    own: MemberIdentity,
) -> Result<MemberIdentity, Failure> {
    let refuse = |message| Failure::new(ErrorKind::InvalidArgument, message);
    let peer = peer.ok_or_else(|| refuse("it is not said who sends this".to_owned()))?;
    let cluster = peer.cluster.map(u128::from).unwrap_or_default();
    let peer = (
        MemberIdentity {
            cluster: ClusterId::new(cluster),
            incarnation: Incarnation::new(peer.incarnation),
            member: NodeId::new(peer.member),
        },
        peer.group,
    );
    let (identity, group) = peer;
    if (identity.cluster, identity.incarnation) != (own.cluster, own.incarnation) {
        let message = format!(
            "this server belongs to cluster {} in incarnation {}, the sender to {} in {}: correct \
             the addresses of one of them",
            own.cluster, own.incarnation, identity.cluster, identity.incarnation
        );
        return Err(Failure::new(ErrorKind::Stale, message));
    }
    if group != GROUP || identity.member.get() == 0 || identity.member == own.member {
        return Err(refuse(format!(
            "member {} of group {group} cannot be the sender: two servers with one number?",
            identity.member
        )));
    }
    Ok(identity)
}

fn say_founding(founding: &Founding) -> wire::Founding {
    let founder = |(member, info): (&NodeId, &MemberInfo)| wire::Founder {
        member: member.get(),
        address: info.address.clone(),
        instance: Some(info.instance.into()),
    };
    wire::Founding {
        cluster: Some(founding.cluster.get().into()),
        incarnation: founding.incarnation.get(),
        founders: founding.founders.iter().map(founder).collect(),
    }
}

fn say_members(status: StoreStatus, members: &Membership) -> wire::Members {
    let member = |(number, info): (&NodeId, &MemberInfo)| wire::Member {
        member: number.get(),
        address: info.address.clone(),
        instance: (info.instance != 0).then(|| info.instance.into()),
        voter: members.is_voter(*number),
    };
    wire::Members {
        position: status.applied.get(),
        members: members.members.iter().map(member).collect(),
        removed: members.removed.iter().map(|number| number.get()).collect(),
        leader: status.leader.map_or(0, NodeId::get),
    }
}

fn understand(said: wire::HelloResponse) -> Result<Heard, String> {
    let bits =
        |bits: Option<arustio_proto::common::v1::Bits128>| bits.map(u128::from).unwrap_or_default();
    let counts = [
        said.listed.len(),
        said.founding.as_ref().map_or(0, |said| said.founders.len()),
        said.members.as_ref().map_or(0, |said| said.members.len()),
    ];
    if counts.iter().any(|count| *count > MOST_MEMBERS) {
        return Err("its answer is absurdly long".to_owned());
    }
    let founding = said.founding.map(|said| Founding {
        cluster: ClusterId::new(bits(said.cluster)),
        incarnation: Incarnation::new(said.incarnation),
        founders: said
            .founders
            .into_iter()
            .map(|founder| {
                let instance = bits(founder.instance);
                let address = founder.address;
                (
                    NodeId::new(founder.member),
                    MemberInfo { address, instance },
                )
            })
            .collect(),
    });
    let members = said.members.map(|said| Members {
        position: said.position,
        members: said
            .members
            .into_iter()
            .map(|member| {
                let instance = bits(member.instance);
                let address = member.address;
                (NodeId::new(member.member), MemberInfo { address, instance })
            })
            .collect::<BTreeMap<_, _>>(),
        removed: said.removed.into_iter().map(NodeId::new).collect(),
        leader: Some(NodeId::new(said.leader)).filter(|leader| leader.get() != 0),
    });
    Ok(Heard {
        member: NodeId::new(said.member),
        instance: bits(said.instance),
        key: said.key.to_vec(),
        listed: said.listed.into_iter().map(NodeId::new).collect(),
        founding,
        members,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_is_understood() {
        let me = Me {
            member: NodeId::new(2),
            instance: 22,
            address: "host2:1".to_owned(),
            key: [1; 4],
            listed: [(NodeId::new(2), "host2:1".to_owned())].into(),
        };
        let info = MemberInfo {
            address: "host2:1".to_owned(),
            instance: 22,
        };
        let founding = Founding {
            cluster: ClusterId::new(3),
            incarnation: Incarnation::new(4),
            founders: [(NodeId::new(2), info.clone())].into(),
        };
        let introduction = Introduction::new(me);
        let empty = understand(introduction.answer(None)).unwrap();
        assert_eq!((empty.member, empty.instance), (NodeId::new(2), 22));
        assert!(empty.founding.is_none() && empty.members.is_none());
        introduction.belongs_to(&founding);
        let mut members = Membership::founding([(NodeId::new(2), info)]);
        members.removed.insert(NodeId::new(9));
        let status = StoreStatus {
            leader: Some(NodeId::new(2)),
            ..StoreStatus::default()
        };
        let heard = understand(introduction.answer(Some((status, &members)))).unwrap();
        assert_eq!(heard.founding, Some(founding));
        let known = heard.members.unwrap();
        assert_eq!(known.members, members.members);
        assert_eq!(known.removed, members.removed);
        assert_eq!(known.leader, Some(NodeId::new(2)));
    }

    #[test]
    fn a_peer_of_another_cluster_or_with_our_number_is_refused() {
        let own = MemberIdentity {
            cluster: ClusterId::new(1),
            incarnation: Incarnation::new(1),
            member: NodeId::new(1),
        };
        let other = MemberIdentity {
            member: NodeId::new(2),
            ..own
        };
        assert_eq!(check_peer(Some(say_peer(other)), own).unwrap(), other);
        let foreign = MemberIdentity {
            cluster: ClusterId::new(9),
            ..other
        };
        let refused = |peer| check_peer(peer, own).unwrap_err().kind;
        assert_eq!(refused(Some(say_peer(foreign))), ErrorKind::Stale);
        assert_eq!(refused(Some(say_peer(own))), ErrorKind::InvalidArgument);
        assert_eq!(refused(None), ErrorKind::InvalidArgument);
    }
}
