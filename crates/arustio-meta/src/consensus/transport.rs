//! How members reach one another: an envelope and a trait that cannot fail.
//!
//! A message of the Raft library is opaque bytes here and on the wire. The envelope says
//! whom it is for and from which life of which cluster it comes, so that a member of a
//! restored or a foreign cluster is refused before its bytes are looked at.

use std::fmt;

use arustio_types::NodeId;

use crate::consensus::MemberIdentity;
use crate::consensus::membership::Membership;
use crate::consensus::snapshot::Shipment;

/// A message to another member.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who sends it.
    pub from: MemberIdentity,
    /// For whom it is.
    pub to: NodeId,
    /// The message.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("from", &self.from.member)
            .field("to", &self.to)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// Carries envelopes to other members.
///
/// # Contract
/// Called by the consensus thread. Never blocks: what does not fit into its queue is
/// dropped. May lose, duplicate, delay and reorder. Cannot fail: whatever goes wrong is
/// the transport's to handle, and the group's protocol to survive.
pub trait RaftTransport: Send + Sync + fmt::Debug {
    /// Takes an envelope on its way, perhaps.
    fn send(&self, envelope: Envelope);

    /// Brings a folder and then its message to another member, and reports by
    /// [`Consensus::snapshot_sent`](super::Consensus::snapshot_sent) what became of it,
    /// exactly once.
    fn send_snapshot(&self, shipment: Shipment);

    /// Who belongs to the group from now on, and where they are reached. Called before the
    /// first message.
    fn members(&self, members: &Membership);
}

/// The transport of a group of one: there is nobody to reach.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullTransport;

impl RaftTransport for NullTransport {
    fn send(&self, envelope: Envelope) {
        tracing::debug!(?envelope, "dropped: this group has no other member");
    }

    fn send_snapshot(&self, shipment: Shipment) {
        tracing::debug!(?shipment, "dropped: this group has no other member");
    }

    fn members(&self, _: &Membership) {}
}
