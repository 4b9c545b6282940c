//! When a block was last used, in four bytes.
//!
//! Seconds by the wall clock since the store was opened. A clock that jumps makes
//! blocks look idle or fresh, which costs cache hits and nothing else.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::{Timestamp, WallClock};

#[derive(Debug)]
pub(crate) struct Ages {
    clock: Arc<dyn WallClock>,
    opened: Timestamp,
}

impl Ages {
    pub(crate) fn new(clock: Arc<dyn WallClock>) -> Self {
        let opened = clock.now();
        Self { clock, opened }
    }

    pub(crate) fn now(&self) -> u32 {
        let age = self.clock.now().since(self.opened).as_secs();
        u32::try_from(age).unwrap_or(u32::MAX)
    }

    pub(crate) fn wall_clock(&self) -> Arc<dyn WallClock> {
        Arc::clone(&self.clock)
    }

    pub(crate) fn clock(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn idle(used: u32, now: u32, longer_than: Duration) -> bool {
        u64::from(now.saturating_sub(used)) > longer_than.as_secs()
    }
}
