//! How fast a copy of the state leaves this server, and in which pieces.
//!
//! It is no hurry: clients, and the other members, need the disk and the network as well.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes of one piece.
pub(crate) const PIECE: usize = 1 << 20;

/// Holds a rate.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: u64,
    began: Instant,
    sent: u64,
}

impl Pace {
    /// Bytes per second.
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            began: Instant::now(),
            sent: 0,
        }
    }

    /// Waits until so many more bytes may go.
    pub(crate) async fn wait(&mut self, bytes: usize) {
        let due = Duration::from_secs_f64(self.sent as f64 / self.rate as f64);
        let ahead = due.saturating_sub(self.began.elapsed());
        if !ahead.is_zero() {
            tokio::time::sleep(ahead).await;
        } else if self.began.elapsed() > due + Duration::from_secs(1) {
            // What was not used is not saved up.
            (self.began, self.sent) = (Instant::now(), 0);
        }
        self.sent = self.sent.saturating_add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_held() {
        let mut pace = Pace::new(1000);
        let began = Instant::now();
        for _ in 0..11 {
            pace.wait(500).await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }
}
