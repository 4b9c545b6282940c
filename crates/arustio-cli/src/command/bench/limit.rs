//! Which limit a measurement stands beside, and how that is shown.

use std::collections::HashMap;
use std::time::Duration;

use arustio_client::FsError;
use arustio_types::{ByteSize, ErrorKind};
use serde_json::{Value, json};

use crate::limit;

const LONG: Duration = Duration::from_secs(1);
/// Connections of a ping-pong at most: more than cores say nothing more.
const MOST_PAIRS: usize = 64;

/// What to hold a measurement against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Beside {
    /// Copies of so many bytes each, by one thread: reads by descriptor.
    Memory {
        /// Bytes of each.
        request: usize,
    },
    /// Bytes over so many connections: everything else that moves bytes.
    Loopback {
        /// How many.
        streams: usize,
    },
    /// Small messages over so many connections: operations.
    PingPong {
        /// How many.
        streams: usize,
    },
    /// The same, with so many bytes of ours for each: small reads over sockets.
    Requests {
        /// How many.
        streams: usize,
        /// Bytes of a request.
        request: u64,
    },
}

/// A limit that was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    name: &'static str,
    rate: f64,
    bytes: bool,
}

impl Limit {
    /// The share of it that was reached, in percent.
    fn percent(&self, rate: f64) -> f64 {
        rate / self.rate.max(1e-9) * 100.0
    }

    pub(super) fn json(&self, rate: f64) -> Value {
        let ratio = self.percent(rate) / 100.0;
        json!({"name": self.name, "rate": self.rate, "ratio": ratio})
    }

    pub(super) fn text(&self, rate: f64) -> String {
        let shown = match self.bytes {
            true => format!("{}/s", ByteSize(self.rate as u64).human()),
            false => format!("{:.0}/s", self.rate),
        };
        let percent = self.percent(rate);
        // A share that rounds to nothing is still some.
        let digits = usize::from(percent < 10.0);
        format!("limit: {} {shown} ({percent:.digits$} %)", self.name)
    }
}

/// Limits of one run, each measured once.
pub(super) struct Limits {
    wanted: bool,
    known: HashMap<Beside, Limit>,
}

impl Limits {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            known: HashMap::new(),
        }
    }

    /// The limit for a measurement; `None` where nobody wants one.
    pub(super) async fn beside(&mut self, beside: Beside) -> Result<Option<Limit>, FsError> {
        if !self.wanted {
            return Ok(None);
        }
        if let Some(limit) = self.known.get(&beside) {
            return Ok(Some(*limit));
        }
        let limit = measure(beside).await.map_err(|error| {
            let message =
                format!("the limit cannot be measured: {error}; leave it out with --no-limit");
            FsError::new(ErrorKind::Unavailable, message)
        })?;
        self.known.insert(beside, limit);
        Ok(Some(limit))
    }
}

async fn measure(beside: Beside) -> std::io::Result<Limit> {
    let limit = |name, bytes, rate| Limit { name, rate, bytes };
    match beside {
        Beside::Memory { request } => {
            let copied = tokio::task::spawn_blocking(move || limit::copy(request, LONG));
            let rate = copied.await.map_err(std::io::Error::other)?;
            Ok(limit("memory copy by one thread", true, rate))
        }
        Beside::Loopback { streams } => {
            let rate = limit::loopback(streams.min(MOST_PAIRS), LONG).await?;
            Ok(limit("loopback TCP on this machine", true, rate))
        }
        Beside::PingPong { streams } => {
            let rate = limit::ping_pong(streams.min(MOST_PAIRS), LONG).await?;
            Ok(limit("64-byte TCP ping-pong on this machine", false, rate))
        }
        Beside::Requests { streams, request } => {
            let rate = limit::ping_pong(streams.min(MOST_PAIRS), LONG).await?;
            let name = "64-byte TCP ping-pong on this machine, one for each request,";
            Ok(limit(name, true, rate * request as f64))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shown_with_the_share_that_was_reached() {
        let bytes = Limit {
            name: "loopback TCP on this machine",
            rate: 4e9,
            bytes: true,
        };
        assert_eq!(
            bytes.text(2e9),
            "limit: loopback TCP on this machine 3.7 GiB/s (50 %)"
        );
        let turns = Limit {
            name: "ping-pong",
            rate: 1000.0,
            bytes: false,
        };
        assert_eq!(turns.text(15.0), "limit: ping-pong 1000/s (1.5 %)");
        assert_eq!(turns.json(500.0)["ratio"], 0.5);
    }
}
