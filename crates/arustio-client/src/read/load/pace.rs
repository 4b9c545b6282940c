//! A bandwidth: whoever has taken bytes waits until they were allowed.

use std::num::NonZeroU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many bytes a second, all together.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: NonZeroU64,
    /// When everything that was taken was allowed.
    free: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(per_second: NonZeroU64) -> Self {
        Self {
            per_second,
            free: Mutex::new(None),
        }
    }

    /// Waits for the bytes that were taken before, and notes these.
    pub(super) async fn take(&self, bytes: u64) {
        tokio::time::sleep_until(self.turn(bytes, Instant::now())).await;
    }

    fn turn(&self, bytes: u64, now: Instant) -> Instant {
        let mut free = self.free.lock();
        let turn = free.map_or(now, |free| free.max(now));
        let lasts = Duration::from_secs_f64(bytes as f64 / self.per_second.get() as f64);
        *free = Some(turn + lasts);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_for_those_before_them_and_rest_is_not_saved_up() {
        let pace = Pace::new(NonZeroU64::new(1000).unwrap());
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(pace.turn(500, start), start);
        assert_eq!(pace.turn(1000, start), after(500));
        assert_eq!(pace.turn(1, after(9000)), after(9000));
        assert_eq!(pace.turn(1, after(9000)), after(9001));
    }
}
