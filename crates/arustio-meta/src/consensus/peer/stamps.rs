//! The time that a leader stamps its proposals with.

use std::time::Duration;

use raft::eraftpb::{Entry, EntryType};

use crate::consensus::codec::{self, Payload};
use crate::consensus::log::RaftLog;
use crate::error::FatalError;
use crate::state_machine::{Applied, ReplicatedTime};

/// Replicated time: the newest stamp that this member has seen, advanced by the leader's
/// monotonic clock for as long as it leads.
#[derive(Debug)]
pub(super) struct Stamps {
    /// The newest stamp in the log or in the state.
    newest: ReplicatedTime,
    /// The time of the last entry that was given out to be applied.
    applied: ReplicatedTime,
    /// Since when this member leads: the term, the clock then, the newest stamp then.
    leading: Option<(u64, Duration, ReplicatedTime)>,
}

impl Stamps {
    pub(super) fn open(log: &RaftLog, applied: Applied) -> Result<Self, FatalError> {
        let mut stamps = Self {
            newest: applied.time,
            applied: applied.time,
            leading: None,
        };
        log.visit_after(applied.position.index.get(), &mut |entry| {
            stamps.observe(entry)
        })?;
        Ok(stamps)
    }

    pub(super) fn observe(&mut self, entry: &Entry) -> Result<(), FatalError> {
        if entry.entry_type != EntryType::EntryNormal as i32 {
            return Ok(());
        }
        if let Payload::Command(time, _) = codec::decode_payload(&entry.data)? {
            self.newest = self.newest.max(time);
        }
        Ok(())
    }

    pub(super) fn next(&mut self, term: u64, now: Duration) -> ReplicatedTime {
        let (start, base) = match self.leading {
            Some((since, start, base)) if since == term => (start, base),
            _ => {
                self.leading = Some((term, now, self.newest));
                (now, self.newest)
            }
        };
        let advance = u64::try_from(now.saturating_sub(start).as_millis()).unwrap_or(u64::MAX);
        let time = ReplicatedTime::from_millis(base.millis().saturating_add(advance));
        self.newest = self.newest.max(time);
        self.newest
    }

    /// The state was replaced by one of a later time.
    pub(super) fn installed(&mut self, time: ReplicatedTime) {
        self.newest = self.newest.max(time);
        self.applied = self.applied.max(time);
    }

    pub(super) fn apply(&mut self, stamp: Option<ReplicatedTime>) -> ReplicatedTime {
        self.applied = self.applied.max(stamp.unwrap_or_default());
        self.applied
    }
}
