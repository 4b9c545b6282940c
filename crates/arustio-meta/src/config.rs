//! Settings of the consensus and of the storage, as data.
//!
//! A [`MetaConfig`] is parsed by whoever knows files and flags; [`MetaConfig::validate`]
//! turns it into a [`CheckedConfig`], which is what the builders take. Components (engine,
//! clock, transport, seed) are given beside it, never inside.

use std::time::Duration;

use arustio_types::unit::duration;
use arustio_types::{ByteSize, Classify, ErrorKind};
use serde::{Deserialize, Serialize};

/// Settings of a metadata node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetaConfig {
    /// One beat of the group's clock.
    #[serde(with = "duration")]
    pub tick: Duration,
    /// Beats between two heartbeats of the leader.
    pub heartbeat_ticks: u32,
    /// Beats without a leader before an election, at least; at most twice as many.
    pub election_ticks: u32,
    /// Requests that may wait for the consensus thread, and requests that may wait inside
    /// it for a majority; more are refused as busy.
    pub queue: usize,
    /// Most bytes of one command in the log.
    pub max_command: ByteSize,
    /// Most bytes of commands in one synced write.
    pub max_batch: ByteSize,
    /// Most bytes of one message to another member.
    pub max_message: ByteSize,
    /// Messages under way to one member.
    pub max_inflight: usize,
    /// Most bytes that are proposed and not yet committed.
    pub max_uncommitted: ByteSize,
    /// Most bytes of the newest log entries that are kept in memory.
    pub log_cache: ByteSize,
    /// Bytes of applied entries after which the log is compacted. Four times as many are
    /// kept where a member that answers still needs them.
    pub compact_after: ByteSize,
    /// Applied entries that compaction leaves, for members that lag a little.
    pub compact_keep: u64,
    /// Entries that a learner may lag behind when it becomes a voter.
    pub promote_lag: u64,
    /// Entries between two comparisons of the state that the members hold.
    pub check_every: u64,
    /// Bytes of a snapshot that are sent to another member in a second: beside what clients
    /// need, and far from what a disk or a network can do.
    pub snapshot_rate: ByteSize,
}

impl Default for MetaConfig {
    fn default() -> Self {
        Self {
            // Election after 0.6 to 1.2 s: a new leader within 1.5 s, and two missed
            // heartbeats of a busy machine do not depose anybody.
            tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks: 12,
            queue: 4096,
            max_command: ByteSize::mib(1),
            max_batch: ByteSize::mib(4),
            max_message: ByteSize::mib(1),
            max_inflight: 64,
            max_uncommitted: ByteSize::mib(64),
            log_cache: ByteSize::mib(8),
            compact_after: ByteSize::mib(64),
            compact_keep: 10_000,
            promote_lag: 1_000,
            check_every: 10_000,
            snapshot_rate: ByteSize::mib(128),
        }
    }
}

impl MetaConfig {
    /// Refuses settings that cannot work together.
    pub fn validate(self) -> Result<CheckedConfig, ConfigError> {
        let refuse = |setting, reason| Err(ConfigError { setting, reason });
        if self.tick < Duration::from_millis(1) || self.tick > Duration::from_secs(10) {
            return refuse("tick", "it must lie between 1ms and 10s");
        }
        if self.heartbeat_ticks == 0 {
            return refuse("heartbeat_ticks", "it must be at least 1");
        }
        if self.election_ticks <= self.heartbeat_ticks || self.election_ticks > 10_000 {
            let reason = "it must be greater than heartbeat_ticks and at most 10000";
            return refuse("election_ticks", reason);
        }
        if self.queue == 0 {
            return refuse("queue", "it must be at least 1");
        }
        if self.max_inflight == 0 {
            return refuse("max_inflight", "it must be at least 1");
        }
        if self.max_command == ByteSize(0) || self.max_command > ByteSize::mib(64) {
            return refuse("max_command", "it must lie between 1 B and 64 MiB");
        }
        if self.max_batch < self.max_command {
            return refuse("max_batch", "it must be at least max_command");
        }
        if self.max_uncommitted < self.max_batch || self.max_uncommitted < self.max_message {
            let reason = "it must be at least max_batch and max_message";
            return refuse("max_uncommitted", reason);
        }
        if self.compact_after == ByteSize(0) {
            return refuse("compact_after", "it must be at least 1 B");
        }
        if self.check_every == 0 {
            return refuse("check_every", "it must be at least 1");
        }
        if self.snapshot_rate < ByteSize::kib(64) {
            return refuse("snapshot_rate", "it must be at least 64 KiB");
        }
        Ok(CheckedConfig(self))
    }
}

/// Settings that can work.
#[derive(Debug, Clone)]
pub struct CheckedConfig(MetaConfig);

impl std::ops::Deref for CheckedConfig {
    type Target = MetaConfig;
    fn deref(&self) -> &MetaConfig {
        &self.0
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the setting {setting} makes no sense: {reason}")]
pub struct ConfigError {
    setting: &'static str,
    reason: &'static str,
}

impl Classify for ConfigError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_nonsense_is_refused() {
        assert!(MetaConfig::default().validate().is_ok());
        let config = MetaConfig {
            election_ticks: 2,
            ..MetaConfig::default()
        };
        let error = config.validate().unwrap_err();
        assert!(error.to_string().contains("election_ticks"));
    }
}
