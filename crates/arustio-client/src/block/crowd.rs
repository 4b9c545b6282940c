//! Whether others wait for what this reader brings, as the node that they wait at tells it.
//!
//! A reader that is alone is never held up by filling the cache: what there is no room for is
//! dropped (R4). When others wait for its bytes, each of them that is dropped is read from
//! the store once more (R5), so that it waits for room instead, for a while.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long to wait for room as long as it is not known whether others will come.
const UNKNOWN: Duration = Duration::from_millis(100);
/// Those who begin together have all come so long after a node's first answer.
const GATHERING: Duration = Duration::from_millis(300);

/// Those who wait for bytes of one content, as far as its reader knows.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    first: Option<Instant>,
    awaited: Option<Instant>,
}

impl Crowd {
    /// A node took bytes, and said whether others wait for more.
    pub(crate) fn heard(&self, awaited: bool) {
        let mut known = self.0.lock();
        let now = Instant::now();
        known.first.get_or_insert(now);
        if awaited {
            known.awaited = Some(now);
        }
    }

    /// How long a reader may wait for room now, whose lease lasts so long without a byte.
    /// Others are believed to wait for as long after a node said so.
    pub(crate) fn patience(&self, lasts: Duration) -> Duration {
        let known = self.0.lock();
        let lately = known.awaited.is_some_and(|at| at.elapsed() < lasts);
        let gathered = known.first.is_some_and(|at| at.elapsed() >= GATHERING);
        match (lately, gathered) {
            (true, _) => lasts / 2,
            (false, false) => UNKNOWN,
            (false, true) => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn r4_who_is_alone_waits_for_nothing_and_who_is_not_for_a_while() {
        const LASTS: Duration = Duration::from_secs(3);
        let crowd = Crowd::default();
        assert_eq!(crowd.patience(LASTS), UNKNOWN);
        crowd.heard(false);
        assert_eq!(crowd.patience(LASTS), UNKNOWN);
        tokio::time::advance(GATHERING).await;
        assert_eq!(crowd.patience(LASTS), Duration::ZERO);
        crowd.heard(true);
        crowd.heard(false);
        assert_eq!(crowd.patience(LASTS), LASTS / 2);
        tokio::time::advance(LASTS).await;
        assert_eq!(crowd.patience(LASTS), Duration::ZERO);
    }
}
