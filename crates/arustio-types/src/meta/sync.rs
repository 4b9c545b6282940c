//! Whose turn it is to ask the UFS (L4). Soft state of a metadata server: nothing
//! here is replicated, losing it costs a request and never an answer.

use std::time::Duration;

use crate::id::{InodeId, LogIndex};
use crate::time::Timestamp;

/// What is about to be looked at. Ordered by directory, the whole listing before its names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncTarget {
    /// The directory.
    pub dir: InodeId,
    /// One name in it; `None`: the whole listing.
    pub name: Option<String>,
}

/// Asks for the turn.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncRequest {
    /// Of what.
    pub target: SyncTarget,
    /// Knowledge of this age will do; zero forces a look.
    pub max_age: Option<Duration>,
}

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq)]
pub enum SyncTurn {
    /// Nobody's: it was looked at then.
    Fresh {
        /// Wall clock.
        checked_at: Timestamp,
    },
    /// The caller's; it reports with the ticket, or the turn passes on.
    Yours {
        /// Names this turn.
        ticket: u64,
        /// Applied position before the UFS is asked; the merge's `seen`.
        seen: LogIndex,
    },
    /// Somebody else's; ask again after this.
    Busy {
        /// How long.
        retry_in: Duration,
    },
}
