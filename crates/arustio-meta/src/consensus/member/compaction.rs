//! When the log loses its oldest entries, and how many.

use std::cmp;

use arustio_types::LogIndex;

use super::Member;
use crate::error::FatalError;
use crate::state_machine::StateMachine;

/// How often the usual size a log may have for the sake of members that lag.
const PATIENCE: u64 = 4;

impl<S: StateMachine> Member<S> {
    /// Drops entries that the state has made durable, once the log has grown enough.
    /// Members that answer and lag are waited for up to a bound; beyond it they are sent a
    /// snapshot.
    pub(super) fn compact(&mut self) -> Result<(), FatalError> {
        let (first, _, bytes) = self.peer.log_range();
        let limit = self.config.compact_after.get();
        if bytes < limit {
            return Ok(());
        }
        let keep = self.config.compact_keep;
        let mut upto = LogIndex::new(self.applied.get().saturating_sub(keep));
        if bytes < limit.saturating_mul(PATIENCE) {
            upto = cmp::min(upto, self.needed());
        }
        // Little by little would cost a sync each time.
        if upto.get() < first.get() + cmp::max(keep, 1) {
            return Ok(());
        }
        self.machine.read().make_durable()?;
        tracing::debug!(applied = %self.applied, %upto, "compacting the log");
        self.peer.compact(upto)
    }

    /// The last entry that no other member needs any more.
    fn needed(&self) -> LogIndex {
        let others = self.peer.progress().into_iter();
        let lagging = others.filter(|other| other.active && !other.snapshot);
        let matched = lagging.map(|other| other.matched);
        let needed = matched.chain(self.snapshots.in_use()).min();
        needed.unwrap_or(self.applied)
    }
}
