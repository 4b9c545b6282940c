//! How members of the metadata group reach one another: the transport over gRPC.
//!
//! ```text
//! consensus thread --send--> queue of one peer --its task--> one stream of batches
//!                  --send_snapshot--> a task, in line     --> one stream of chunks
//! ```
//!
//! Nothing here blocks the consensus thread, and nothing grows: a message that finds its
//! queue full is dropped, which the protocol survives. A stream that breaks is made anew
//! after a pause with some chance in it; what had queued up for it is dropped, since it is
//! old, and the peer is reported as unreachable. Peers and their addresses follow the
//! group; where it knows none, or only one that a server has moved away from, the list of
//! the settings and what a peer says of itself are tried.

mod arrival;
mod link;
mod pace;
mod queue;
mod shipping;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arustio_meta::consensus::{Envelope, Membership, RaftTransport, Shipment};
use arustio_meta::namespace::Namespace;
use arustio_meta::{Consensus, MemberIdentity};
use arustio_proto::failure::Failure;
use arustio_types::{ByteSize, ErrorKind, NodeId};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use arrival::{Arrival, Arrivals, free_space};
use link::Link;
pub(crate) use pace::{PIECE, Pace};

use crate::tasks::Tasks;

/// First and longest pause after a stream broke: short, so that a member that was started
/// again is heard before anybody calls an election.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Peers outside the group whose addresses are remembered.
const MOST_HINTS: usize = 64;
/// Snapshots that wait in line, with the one that is on its way.
const MOST_SHIPMENTS: usize = 16;

/// The transport of one member.
#[derive(Debug, Clone)]
pub(crate) struct GrpcTransport(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: MemberIdentity,
    /// Where others reach this member.
    address: String,
    rate: ByteSize,
    runtime: Handle,
    tasks: Tasks,
    links: Mutex<Links>,
    member: watch::Sender<Option<Weak<Consensus<Namespace>>>>,
    /// One snapshot at a time.
    shipping: Semaphore,
    in_line: Arc<Semaphore>,
    /// Names the snapshots of this process.
    run: u64,
    chance: Mutex<StdRng>,
}

#[derive(Debug, Default)]
struct Links {
    open: BTreeMap<NodeId, Arc<Link>>,
    /// What the group knows.
    members: BTreeMap<NodeId, String>,
    /// What the settings say, and what peers say of themselves.
    hints: BTreeMap<NodeId, String>,
    removed: std::collections::BTreeSet<NodeId>,
}

/// What a transport is made from.
#[derive(Debug)]
pub(crate) struct TransportParts {
    pub(crate) identity: MemberIdentity,
    pub(crate) address: String,
    /// Where members may be reached of whom the group does not say it.
    pub(crate) fallbacks: BTreeMap<NodeId, String>,
    /// Bytes of snapshots per second.
    pub(crate) rate: ByteSize,
    /// Chance for pauses, and a name for this run.
    pub(crate) seed: u64,
    /// Where its tasks live.
    pub(crate) runtime: Handle,
}

/// A peer that cannot be reached at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) member: NodeId,
    pub(crate) address: String,
    pub(crate) why: String,
}

impl GrpcTransport {
    pub(crate) fn new(parts: TransportParts) -> Self {
        Self(Arc::new(Inner {
            identity: parts.identity,
            address: parts.address,
            rate: parts.rate,
            runtime: parts.runtime,
            tasks: Tasks::default(),
            links: Mutex::new(Links {
                hints: parts.fallbacks,
                ..Links::default()
            }),
            member: watch::Sender::new(None),
            shipping: Semaphore::new(1),
            in_line: Arc::new(Semaphore::new(MOST_SHIPMENTS)),
            run: parts.seed,
            chance: Mutex::new(StdRng::seed_from_u64(parts.seed)),
        }))
    }

    /// Reports to this member from now on.
    pub(crate) fn attach(&self, member: &Arc<Consensus<Namespace>>) {
        self.0.member.send_replace(Some(Arc::downgrade(member)));
    }

    /// A peer says where it is reached; used where the group does not say so.
    pub(crate) fn hint(&self, member: NodeId, address: &str) {
        let mut links = self.0.links.lock();
        let known = links.hints.contains_key(&member);
        if !crate::config::is_address(address) || !known && links.hints.len() >= MOST_HINTS {
            return;
        }
        links.hints.insert(member, address.to_owned());
        links.readdress(member);
    }

    /// Who does not answer at the moment.
    pub(crate) fn silent(&self) -> Vec<Silent> {
        let links = self.0.links.lock();
        links
            .open
            .values()
            .filter_map(|link| link.silent())
            .collect()
    }

    /// Ends every stream and waits. False: something still runs.
    pub(crate) async fn close(&self, most: Duration) -> bool {
        self.0.tasks.close(most).await
    }
}

impl RaftTransport for GrpcTransport {
    fn send(&self, envelope: Envelope) {
        let Some(link) = Inner::link(&self.0, envelope.to) else {
            tracing::debug!(?envelope, "dropped: no address of this member is known");
            return;
        };
        link.queue.push(envelope.bytes.into());
    }

    fn send_snapshot(&self, shipment: Shipment) {
        let inner = Arc::clone(&self.0);
        let in_line = Arc::clone(&inner.in_line).try_acquire_owned();
        let _in = self.0.runtime.enter();
        self.0.tasks.spawn("snapshot", async move {
            let to = shipment.envelope.to;
            let arrived = match in_line {
                Ok(_in_line) => shipping::ship(&inner, shipment).await,
                Err(_) => false,
            };
            if let Some(member) = inner.member().await {
                member.snapshot_sent(to, arrived).await;
            }
        });
    }

    fn members(&self, members: &Membership) {
        let mut links = self.0.links.lock();
        links.removed.clone_from(&members.removed);
        links.members = members
            .members
            .keys()
            .filter_map(|member| Some((*member, members.address(*member)?.to_owned())))
            .collect();
        let gone: Vec<_> = links.open.keys().copied().collect();
        for member in gone {
            match links.addresses(member).is_empty() || members.removed.contains(&member) {
                true => drop(links.open.remove(&member).map(|link| link.stop.cancel())),
                false => links.readdress(member),
            }
        }
    }
}

impl Links {
    /// Where a member may be reached, the likeliest address first.
    fn addresses(&self, member: NodeId) -> Vec<String> {
        let mut addresses: Vec<_> = self.members.get(&member).cloned().into_iter().collect();
        let hint = self
            .hints
            .get(&member)
            .filter(|hint| !addresses.contains(hint));
        let hint = hint.cloned();
        addresses.extend(hint);
        addresses
    }

    fn readdress(&self, member: NodeId) {
        if let Some(link) = self.open.get(&member) {
            link.readdress(self.addresses(member));
        }
    }
}

impl Inner {
    /// The link to a member, opened where there is none; `None` where there is no address,
    /// or the member was removed.
    fn link(this: &Arc<Self>, to: NodeId) -> Option<Arc<Link>> {
        let mut links = this.links.lock();
        if let Some(link) = links.open.get(&to) {
            return Some(Arc::clone(link));
        }
        let addresses = links.addresses(to);
        if addresses.is_empty() || to == this.identity.member || links.removed.contains(&to) {
            return None;
        }
        let link = Arc::new(Link::new(to, addresses));
        links.open.insert(to, Arc::clone(&link));
        let _in = this.runtime.enter();
        let work = link::run(Arc::clone(this), Arc::clone(&link));
        this.tasks.spawn("raft link", work);
        Some(link)
    }

    /// The member that this transport works for; `None` when it is no more, or everything
    /// stops before it was there.
    async fn member(&self) -> Option<Arc<Consensus<Namespace>>> {
        let mut member = self.member.subscribe();
        let stop = self.stopping();
        tokio::select! {
            found = member.wait_for(Option::is_some) => found.ok()?.as_ref()?.upgrade(),
            () = stop.cancelled() => None,
        }
    }

    fn stopping(&self) -> CancellationToken {
        self.tasks.stopping()
    }

    /// Waits after the so-manieth failure in a row, with some chance.
    fn pause(&self, failures: u32) -> Duration {
        let longest = PAUSES.0.saturating_mul(1 << failures.min(8)).min(PAUSES.1);
        longest.mul_f64(self.chance.lock().random_range(0.5..1.0))
    }
}

/// Runs what waits for the disk beside the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::new(ErrorKind::Internal, error.to_string())))
}

#[cfg(test)]
mod tests;
