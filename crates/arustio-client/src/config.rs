//! Settings of a client, as data.
//!
//! Every bound has a reason in its doc. Components (metadata, blocks, clocks) never
//! hide in here; the builder takes them.

use std::collections::BTreeMap;
use std::time::Duration;

use arustio_types::ByteSize;
use serde::{Deserialize, Serialize};

use crate::error::{FsError, Result};

/// After this S3 refuses a dated request, so that none can be later; the service takes no
/// longer wait than one for this.
const LONGEST_LATE: Duration = Duration::from_secs(15 * 60);

/// Settings of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// Metadata servers of one cluster, `host:port`; those that run find the others.
    pub addresses: Vec<String>,
    /// How long a connection may take before the server counts as not running.
    #[serde(with = "arustio_types::unit::duration")]
    pub connect_timeout: Duration,
    /// How long a request to the metadata service may take, repeats included.
    #[serde(with = "arustio_types::unit::duration")]
    pub request_timeout: Duration,
    /// Time without renewal after which the session, and with it every lease, is over.
    #[serde(with = "arustio_types::unit::duration")]
    pub session_ttl: Duration,
    /// Added to the deadline of an unanswered request before it is taken for dead (P5); at
    /// most 15 minutes.
    #[serde(with = "arustio_types::unit::duration")]
    pub late_request: Duration,
    /// How long an operation waits for what others owe on its keys (P2).
    #[serde(with = "arustio_types::unit::duration")]
    pub pending_wait: Duration,
    /// How the bytes of blocks travel.
    pub transport: Transport,
    /// Blocks of a node on this host.
    pub local: LocalConfig,
    /// Reading.
    pub read: ReadConfig,
    /// Writing.
    pub write: WriteConfig,
    /// Looking at the under file system.
    pub sync: SyncConfig,
    /// Reaching it.
    pub ufs: UfsConfig,
}

/// How the bytes of blocks travel between this client and block nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// In frames, and over gRPC where a node offers none.
    #[default]
    Framed,
    /// Over gRPC.
    Grpc,
}

impl Transport {
    /// The name that settings use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Framed => "framed",
            Self::Grpc => "grpc",
        }
    }
}

/// Blocks of a node on this host: read by their descriptors, which the node passes, instead
/// of through a socket. Only with [`Transport::Framed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalConfig {
    /// Ask for descriptors at all.
    pub enabled: bool,
    /// Descriptors of files that are kept; a process may have 1024 of all kinds unless its
    /// limit was raised. Blocks in memory are mapped and keep none.
    pub descriptors: usize,
    /// Bytes of the blocks that are kept by descriptor or mapped: their node keeps as much.
    pub bytes: ByteSize,
}

/// Which cached bytes are compared with their checksum by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Those that came through a socket. A node on this host passes what it has verified.
    #[default]
    Sockets,
    /// All, so that no descriptors are asked for.
    Always,
}

/// Settings of readers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadConfig {
    /// Grid of small cold reads: what one of them costs at most (R6).
    pub min_fetch: ByteSize,
    /// A cold sequential read of an object up to this is one request (R6).
    pub whole_object: ByteSize,
    /// Bytes of one request of a large cold read.
    pub part: ByteSize,
    /// Requests of one large cold read in flight.
    pub parallel: usize,
    /// How far ahead of its reader one handle reads at most.
    pub prefetch_max: ByteSize,
    /// Bytes that all readers of a client buffer together.
    pub buffer: ByteSize,
    /// Bytes on their way to block nodes in the background; more are dropped, counted.
    pub fill_buffer: ByteSize,
    /// How long closing waits for blocks that are on their way to block nodes.
    #[serde(with = "arustio_types::unit::duration")]
    pub fill_linger: Duration,
    /// How long a block node may take before the under file system is asked instead.
    #[serde(with = "arustio_types::unit::duration")]
    pub node_timeout: Duration,
    /// How long a reader waits for the next byte that another client brings to a block node,
    /// before it asks the under file system itself; `0` never waits, so that of several
    /// readers of the same cold bytes each asks for itself.
    #[serde(with = "arustio_types::unit::duration")]
    pub fill_wait: Duration,
    /// Ask block nodes at all.
    pub cache: bool,
    /// Block nodes that each block is given to, 1 to 8: more survive the loss of one, and
    /// take as much more of the cache. Readers should agree on it.
    pub replicas: usize,
    /// Ask elsewhere, too, when a block node is later than it usually is; at most 2 of 100
    /// requests are made twice.
    pub hedge: bool,
    /// What is compared with its checksum.
    pub verify: Verify,
}

/// Settings of writers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteConfig {
    /// Largest single PUT, and the size of a part beyond it.
    pub part: ByteSize,
    /// Parts of one writer in flight.
    pub parallel: usize,
    /// Bytes that one writer buffers (W5).
    pub buffer: ByteSize,
}

/// Settings of looking at the under file system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncConfig {
    /// How often one command may ask for the same proof before it gives up (L3).
    pub max_rounds: usize,
    /// Directories that a recursive sync looks at concurrently.
    pub parallel: usize,
}

/// How this client reaches the stores of mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UfsConfig {
    /// Endpoints of mounts, and where this client reaches them instead: a mount holds the
    /// address that most of its clients use, and some see the store under another one. Whole
    /// URLs are compared, without a slash at their end; what the mount holds stays as it is.
    pub endpoint_map: BTreeMap<String, String>,
}

impl UfsConfig {
    /// Where this client reaches an endpoint, if not under its own address.
    pub(crate) fn reached_at(&self, endpoint: &str) -> Option<&str> {
        let endpoint = endpoint.trim_end_matches('/');
        let mut pairs = self.endpoint_map.iter();
        let found = pairs.find(|(from, _)| from.trim_end_matches('/') == endpoint);
        found.map(|(_, to)| to.trim_end_matches('/'))
    }

    fn check(&self) -> Result<()> {
        let mut urls = self.endpoint_map.iter().flat_map(|(from, to)| [from, to]);
        let Some(odd) = urls.find(|url| !is_http_url(url)) else {
            return Ok(());
        };
        let message = format!(
            "ufs.endpoint_map: {odd:?} is not an endpoint: expected http://HOST:PORT or https://HOST"
        );
        Err(FsError::new(
            arustio_types::ErrorKind::InvalidArgument,
            message,
        ))
    }
}

/// Something that a store can be asked at.
fn is_http_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(' '))
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            addresses: vec!["127.0.0.1:7411".to_owned()],
            connect_timeout: Duration::from_millis(2500),
            request_timeout: Duration::from_secs(30),
            session_ttl: Duration::from_secs(60),
            late_request: Duration::ZERO,
            pending_wait: Duration::from_secs(90),
            transport: Transport::default(),
            local: LocalConfig::default(),
            read: ReadConfig::default(),
            write: WriteConfig::default(),
            sync: SyncConfig::default(),
            ufs: UfsConfig::default(),
        }
    }
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            descriptors: 256,
            bytes: ByteSize::gib(1),
        }
    }
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            min_fetch: ByteSize::kib(256),
            whole_object: ByteSize::mib(16),
            part: ByteSize::mib(8),
            parallel: 8,
            prefetch_max: ByteSize::mib(64),
            buffer: ByteSize::mib(128),
            fill_buffer: ByteSize::mib(32),
            fill_linger: Duration::from_secs(5),
            node_timeout: Duration::from_secs(2),
            fill_wait: Duration::from_secs(5),
            cache: true,
            replicas: 1,
            hedge: true,
            verify: Verify::default(),
        }
    }
}

impl Default for WriteConfig {
    fn default() -> Self {
        Self {
            part: ByteSize::mib(8),
            parallel: 8,
            buffer: ByteSize::mib(64),
        }
    }
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            max_rounds: 8,
            parallel: 8,
        }
    }
}

/// Most descriptors that are kept; a process has to be allowed to have them.
const MOST_DESCRIPTORS: usize = 4096;

/// Most nodes that a block is given to: each costs as much as the first.
const MOST_REPLICAS: usize = 8;

/// A config that was checked; what the builder takes.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedConfig(ClientConfig);

impl CheckedConfig {
    /// The values.
    pub fn get(&self) -> &ClientConfig {
        &self.0
    }
}

impl ClientConfig {
    /// Checks every value against the others.
    pub fn validate(self) -> Result<CheckedConfig> {
        let refuse = |message: &str| {
            Err(FsError::new(
                arustio_types::ErrorKind::InvalidArgument,
                message,
            ))
        };
        if self.session_ttl < Duration::from_secs(1) {
            return refuse("session_ttl must be at least 1s");
        }
        if self.late_request > LONGEST_LATE {
            return refuse("late_request must be at most 15m: S3 refuses what is dated earlier");
        }
        if !self.read.min_fetch.get().is_power_of_two() {
            return refuse("read.min_fetch must be a power of two");
        }
        if self.read.part.get() < 1 << 16 || self.write.part.get() < 5 << 20 {
            return refuse("read.part must be at least 64KiB and write.part at least 5MiB");
        }
        if self.read.parallel == 0 || self.write.parallel == 0 || self.sync.parallel == 0 {
            return refuse("read.parallel, write.parallel and sync.parallel must be at least 1");
        }
        if !(1..=MOST_REPLICAS).contains(&self.read.replicas) {
            return refuse("read.replicas must be from 1 to 8");
        }
        if self.local.descriptors > MOST_DESCRIPTORS {
            return refuse("local.descriptors must be at most 4096");
        }
        if self.write.buffer < self.write.part {
            return refuse("write.buffer must hold at least one write.part");
        }
        if self.read.buffer < self.read.whole_object || self.read.buffer < self.read.part {
            return refuse("read.buffer must hold read.whole_object and read.part");
        }
        self.ufs.check()?;
        Ok(CheckedConfig(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(from: &str, to: &str) -> ClientConfig {
        let mut config = ClientConfig::default();
        let map = &mut config.ufs.endpoint_map;
        map.insert(from.to_owned(), to.to_owned());
        config
    }

    #[test]
    fn an_endpoint_is_mapped_whole_and_a_slash_at_its_end_counts_for_nothing() {
        let config = mapped("http://minio:9000/", "http://localhost:9000/");
        let reached = |endpoint| config.ufs.reached_at(endpoint);
        assert_eq!(reached("http://minio:9000"), Some("http://localhost:9000"));
        assert_eq!(reached("http://minio:9000/"), Some("http://localhost:9000"));
        assert_eq!(reached("http://minio:90001"), None);
        assert_eq!(reached("http://minio"), None);
        assert_eq!(reached("https://minio:9000"), None);
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_its_name() {
        let good = mapped("http://minio:9000", "https://s3.example");
        assert!(good.validate().is_ok());
        for (from, to) in [
            ("minio:9000", "http://localhost:9000"),
            ("http://minio:9000", "localhost:9000"),
            ("http://minio:9000", "http://"),
            ("http://minio:9000", "http://a b"),
        ] {
            let error = mapped(from, to).validate().unwrap_err().to_string();
            assert!(error.contains("ufs.endpoint_map"), "{error}");
        }
    }
}
