//! Sessions, counters, identity and position as they are stored.

use arustio_types::{ClusterId, Incarnation, LogIndex};

use super::{Reader, Record, RecordError, Writer};
use crate::state_machine::{Applied, LogPosition, ReplicatedTime};

/// A client's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The client's, by which opening it twice is opening it once.
    pub nonce: u128,
    /// Milliseconds without renewal after which it is expired.
    pub ttl: u64,
    /// Replicated milliseconds at which that is.
    pub expires_at: u64,
    /// It was ended by its client; the lease of what it holds still runs.
    pub closed: bool,
    /// Outcomes below this sequence number were acknowledged and are forgotten.
    pub first_unacked: u64,
}

impl Record for SessionRecord {
    const WHAT: &'static str = "a session";

    fn write(&self, to: &mut Writer) {
        to.bits(self.nonce);
        to.number(self.ttl);
        to.number(self.expires_at);
        to.flag(self.closed);
        to.number(self.first_unacked);
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            nonce: from.bits()?,
            ttl: from.number()?,
            expires_at: from.number()?,
            closed: from.flag()?,
            first_unacked: from.number()?,
        })
    }
}

/// The next number of each kind; none is ever given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Files and directories.
    pub inode: u64,
    /// Mounts.
    pub mount: u64,
    /// Sessions.
    pub session: u64,
    /// Intents.
    pub intent: u64,
    /// Effects.
    pub effect: u64,
    /// Nodes.
    pub node: u64,
    /// Changes of the set of nodes so far.
    pub epoch: u64,
}

impl Default for Counters {
    /// Inode 1 is the first root.
    fn default() -> Self {
        Self {
            inode: 2,
            mount: 1,
            session: 1,
            intent: 1,
            effect: 1,
            node: 1,
            epoch: 0,
        }
    }
}

impl Record for Counters {
    const WHAT: &'static str = "the counters";

    fn write(&self, to: &mut Writer) {
        for value in [
            self.inode,
            self.mount,
            self.session,
            self.intent,
            self.effect,
            self.node,
            self.epoch,
        ] {
            to.number(value);
        }
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            inode: from.number()?,
            mount: from.number()?,
            session: from.number()?,
            intent: from.number()?,
            effect: from.number()?,
            node: from.number()?,
            epoch: from.number()?,
        })
    }
}

/// Which cluster this state belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityRecord {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

impl Record for IdentityRecord {
    const WHAT: &'static str = "the identity of the cluster";

    fn write(&self, to: &mut Writer) {
        to.bits(self.cluster.get());
        to.number(self.incarnation.get());
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            cluster: ClusterId::new(from.bits()?),
            incarnation: Incarnation::new(from.number()?),
        })
    }
}

impl Record for Applied {
    const WHAT: &'static str = "the applied position";

    fn write(&self, to: &mut Writer) {
        to.number(self.position.index.get());
        to.number(self.position.term);
        to.number(self.time.millis());
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            position: LogPosition {
                index: LogIndex::new(from.number()?),
                term: from.number()?,
            },
            time: ReplicatedTime::from_millis(from.number()?),
        })
    }
}
