//! Whether the disk is written to at the moment.
//!
//! A disk that failed, or that others filled, is left alone for a while: reads go on,
//! writes are refused at once instead of failing one by one. After the pause the next
//! write is the trial. Pure bookkeeping; time comes in as a parameter.

use std::fmt;
use std::time::Duration;

use arustio_types::{ByteSize, Timestamp};
use parking_lot::Mutex;

/// Why writing is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The file system has less free space than it should keep.
    LowSpace,
    /// The file system said that it is full.
    Full,
    /// Reading or writing failed.
    Failed,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LowSpace => "its file system has too little free space",
            Self::Full => "its file system is full",
            Self::Failed => "it failed",
        })
    }
}

#[derive(Debug)]
pub(crate) struct Gate {
    pause: Duration,
    /// Of the directory, for the log.
    name: String,
    off: Mutex<Option<Off>>,
}

#[derive(Debug, Clone, Copy)]
struct Off {
    since: Timestamp,
}

impl Gate {
    pub(crate) fn new(pause: Duration, name: String) -> Self {
        Self {
            pause,
            name,
            off: Mutex::new(None),
        }
    }

    /// Whether a write may be tried. A clock that jumped back ends the pause.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        let off = *self.off.lock();
        off.is_none_or(|off| now < off.since || now.since(off.since) >= self.pause)
    }

    pub(crate) fn trouble(&self, now: Timestamp, why: Trouble, detail: &dyn fmt::Display) {
        let before = self.off.lock().replace(Off { since: now });
        if before.is_none() {
            tracing::warn!(
                directory = %self.name, reason = %why, %detail, pause_s = self.pause.as_secs(),
                "nothing is written to the cache disk for a while; reads go on",
            );
        }
    }

    /// Stops writing without a word.
    pub(crate) fn shut(&self, now: Timestamp) {
        *self.off.lock() = Some(Off { since: now });
    }

    pub(crate) fn worked(&self) {
        if self.off.lock().take().is_some() {
            tracing::info!(directory = %self.name, "the cache disk takes writes again");
        }
    }
}

/// Bytes to stay below the capacity by once evicting has begun, so that it is done in
/// batches: 2 % of the capacity, at most 64 MiB.
pub(crate) fn slack(capacity: u64) -> u64 {
    (capacity / 50).min(STEP)
}

/// The most that is given up for the sake of free space before a single write.
pub(crate) const STEP: u64 = ByteSize::mib(64).get();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_pauses_after_trouble_and_is_tried_again() {
        let gate = Gate::new(Duration::from_secs(10), "test".to_owned());
        let at = |s: i64| Timestamp::from_millis(s * 1000);
        assert!(gate.is_open(at(0)));
        gate.trouble(at(5), Trouble::Full, &"test");
        assert!(!gate.is_open(at(14)));
        assert!(gate.is_open(at(15)));
        assert!(
            gate.is_open(at(1)),
            "a clock that jumped back does not prolong the pause"
        );
        gate.worked();
        assert!(gate.is_open(at(6)));
    }
}
