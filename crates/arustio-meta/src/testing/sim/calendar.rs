//! What happens when, in virtual time: the one source of order.

use std::collections::BTreeMap;
use std::time::Duration;

/// Events by time; what is due at one moment comes in the order it was entered.
#[derive(Debug)]
pub(super) struct Calendar<E> {
    events: BTreeMap<(Duration, u64), E>,
    entered: u64,
    now: Duration,
}

impl<E> Calendar<E> {
    pub(super) fn new() -> Self {
        Self {
            events: BTreeMap::new(),
            entered: 0,
            now: Duration::ZERO,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn after(&mut self, delay: Duration, event: E) {
        self.entered += 1;
        self.events.insert((self.now + delay, self.entered), event);
    }

    /// The next event; time is its from now on.
    pub(super) fn next(&mut self) -> Option<E> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }
}
