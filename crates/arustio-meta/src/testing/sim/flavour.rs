//! What kind of a world a seed makes: seeds that are all alike find the same things.

use std::time::Duration;

use arustio_types::ByteSize;
use rand::Rng as _;
use rand::rngs::StdRng;

use super::network::Weather;
use super::tally::Fault;
use crate::config::{CheckedConfig, MetaConfig};

/// What a world is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flavour {
    /// More is asked of the store and of the clients that use it, less of the group.
    protocol: bool,
    rough: bool,
}

impl Flavour {
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        Self {
            protocol: rng.random_range(0..5) < 2,
            rough: rng.random_range(0..4) == 0,
        }
    }

    pub(super) fn weather(self, rng: &mut StdRng) -> Weather {
        let most = match (self.protocol, self.rough) {
            (true, _) => 15,
            (false, false) => 60,
            (false, true) => 150,
        };
        Weather {
            lost: rng.random_range(0..most),
            doubled: rng.random_range(0..most),
            late: rng.random_range(0..most * 2),
            latest: Duration::from_millis(rng.random_range(20..900)),
        }
    }

    /// Settings that make everything happen early.
    pub(super) fn config(self, rng: &mut StdRng) -> CheckedConfig {
        let config = MetaConfig {
            tick: Duration::from_millis(60),
            heartbeat_ticks: rng.random_range(1..3),
            election_ticks: rng.random_range(5..9),
            queue: 256,
            max_command: ByteSize(64 << 10),
            max_batch: ByteSize(64 << 10),
            max_message: ByteSize(rng.random_range(300..8_000)),
            max_inflight: rng.random_range(1..9),
            max_uncommitted: ByteSize(256 << 10),
            log_cache: ByteSize(rng.random_range(0..20_000)),
            compact_after: ByteSize(rng.random_range(1_500..12_000)),
            compact_keep: rng.random_range(1..20),
            promote_lag: rng.random_range(2..40),
            check_every: rng.random_range(10..60),
            ..MetaConfig::default()
        };
        config.validate().expect("these settings work together")
    }

    pub(super) fn users(self) -> usize {
        match self.protocol {
            true => 5,
            false => 4,
        }
    }

    /// Files of a hundred calls.
    pub(super) fn files(self) -> u32 {
        match self.protocol {
            true => 80,
            false => 25,
        }
    }

    /// Requests to the store of a hundred that go wrong.
    pub(super) fn store_trouble(self) -> u32 {
        match self.protocol {
            true => 25,
            false => 6,
        }
    }

    pub(super) fn between_faults(self) -> Duration {
        match (self.protocol, self.rough) {
            (_, true) => Duration::from_millis(220),
            (true, false) => Duration::from_millis(450),
            (false, false) => Duration::from_millis(380),
        }
    }

    pub(super) fn fault(self, rng: &mut StdRng) -> Fault {
        const GROUP: [(Fault, u32); 12] = [
            (Fault::OneWay, 9),
            (Fault::Partition, 9),
            (Fault::Crash, 16),
            (Fault::CrashInRound, 14),
            (Fault::SlowDisk, 9),
            (Fault::Clock, 4),
            (Fault::Transfer, 6),
            (Fault::Members, 16),
            (Fault::Snapshot, 6),
            (Fault::ClientDied, 4),
            (Fault::ClientFroze, 4),
            (Fault::Outsider, 3),
        ];
        const PROTOCOL: [(Fault, u32); 8] = [
            (Fault::Crash, 6),
            (Fault::CrashInRound, 4),
            (Fault::SlowDisk, 4),
            (Fault::Partition, 3),
            (Fault::Clock, 5),
            (Fault::ClientDied, 28),
            (Fault::ClientFroze, 30),
            (Fault::Outsider, 20),
        ];
        let weights: &[(Fault, u32)] = match self.protocol {
            true => &PROTOCOL,
            false => &GROUP,
        };
        let all: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut dice = rng.random_range(0..all);
        for (fault, weight) in weights {
            if dice < *weight {
                return *fault;
            }
            dice -= weight;
        }
        Fault::Crash
    }
}
