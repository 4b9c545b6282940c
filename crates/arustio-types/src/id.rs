//! Ids and positions, each a type of its own so that none is passed for another.
//!
//! Numbers that the state machine hands out ([`InodeId`], [`MountId`], ...) come
//! from replicated counters and are never reused, not even after a restore (N9).

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(u64);

        impl $name {
            /// Wraps a raw number.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number_id!(
    /// A file or directory: never changes with its name, never reused.
    InodeId
);
number_id!(
    /// One mounting of a UFS; mounting again at the same path is a new id (N8).
    MountId
);
number_id!(
    /// A server of the cluster.
    NodeId
);
number_id!(
    /// A client's session, opened by a command (N2); 0 is "no session".
    SessionId
);
number_id!(
    /// A writer's durable announcement (W3).
    IntentId
);
number_id!(
    /// Work owed to a UFS (P1).
    EffectId
);
number_id!(
    /// A position in the replicated log; the order of everything (L2).
    LogIndex
);
number_id!(
    /// Minted when a cluster is formed and again when one is restored (N9).
    Incarnation
);

impl InodeId {
    /// The inode of `/`.
    pub const ROOT: InodeId = InodeId(1);
}

/// 128 random bits that name a cluster for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterId(u128);

impl ClusterId {
    /// Wraps raw bits.
    pub const fn new(raw: u128) -> Self {
        Self(raw)
    }

    /// The raw bits.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// Names one mutation of one client, so that it is applied exactly once (N2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RequestId {
    /// The session it belongs to.
    pub session: SessionId,
    /// Rises by one with each mutation of the session, from 1.
    pub sequence: u64,
    /// Every sequence number below this one has been answered and may be forgotten.
    pub first_unacked: u64,
}
