//! Settings of the block cache, as data, and the sizes that are chosen when none are
//! given.
//!
//! [`BlockConfig::validate`] turns settings and a [`Machine`] into a
//! [`CheckedConfig`], the only thing the tiers can be built from. Nothing here reads
//! the environment or a configuration file; [`Machine::probe`] asks the kernel.

use std::path::PathBuf;
use std::time::Duration;

use arustio_types::ByteSize;
use serde::{Deserialize, Serialize};

use crate::error::BlockError;

mod machine;

pub use machine::{Machine, available_memory, free_space};

/// The most that the memory tier takes unless told otherwise.
pub const DEFAULT_MEMORY: ByteSize = ByteSize::gib(1);
/// The most that the disk tier takes unless told otherwise.
pub const DEFAULT_DISK: ByteSize = ByteSize::gib(10);
/// Free space that the cache leaves to everybody else.
pub const DEFAULT_MIN_FREE: ByteSize = ByteSize::gib(1);
/// How long writing to disk stays off after a failure.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Reads of the disk at a time; enough to keep an SSD busy.
pub const DEFAULT_READ_THREADS: usize = 8;
/// Writes to the disk at a time; few, so that they do not slow the reads.
pub const DEFAULT_WRITE_THREADS: usize = 2;
/// Bytes on their way from memory to disk at a time.
pub const DEFAULT_WRITE_BEHIND: ByteSize = ByteSize::mib(64);
/// Bytes a second that are looked through on disk: 10 GiB take 20 minutes of each day, and
/// even a slow disk hardly notices.
pub const DEFAULT_SCRUB_BANDWIDTH: ByteSize = ByteSize::mib(8);
/// The grid on which the node reads a UFS (R6).
pub const DEFAULT_MIN_FETCH: ByteSize = ByteSize::kib(256);
/// Reads of a UFS by this node at a time.
pub const DEFAULT_FETCHES: usize = 64;

/// How long a lease of a filling client lasts without a byte: longer than a store needs for
/// its first byte, shorter than readers wait.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(3);
/// Leases at a time: about 250 bytes each.
pub const DEFAULT_LEASES: usize = 16_384;
/// Readers that wait at a time for bytes that others bring.
pub const DEFAULT_WAITERS: usize = 4096;

/// Settings of a block node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockConfig {
    /// The memory tier.
    pub memory: MemoryConfig,
    /// The disk tier.
    pub disk: DiskConfig,
    /// Fetching on behalf of clients.
    pub fetch: FetchConfig,
    /// Leases of clients that bring what is missing.
    pub fill: FillConfig,
}

/// Settings of the memory tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Bytes of memory for blocks, their headers and the index; `0` keeps no block in
    /// memory. Unset: the smaller of 1 GiB and 10 % of the memory that the process may
    /// use.
    pub capacity: Option<ByteSize>,
    /// Who goes when space is short.
    pub eviction: EvictionKind,
    /// Whether a complete block lies in a sealed memory file, whose descriptor clients on
    /// this host can be passed. At most half of the descriptors that the process may have
    /// are used; more blocks, small ones and partial ones lie on the heap.
    pub memfd: bool,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            capacity: None,
            eviction: EvictionKind::default(),
            memfd: true,
        }
    }
}

/// Settings of the disk tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskConfig {
    /// Bytes of disk for blocks; `0` turns the disk tier off. Unset: the smaller of
    /// 10 GiB and 10 % of the free space (what an earlier run chose counts too, so that
    /// the cache does not shrink at each start by what it holds).
    pub capacity: Option<ByteSize>,
    /// Directories with a capacity each, in place of the one in the data folder. They have
    /// to exist; one that is missing or fails is left out and tried again after
    /// `retry_after`, and the others serve on.
    pub directories: Vec<DirectoryConfig>,
    /// Free space of the file system below which the cache writes nothing and gives
    /// blocks up to stay below what it found.
    pub min_free: ByteSize,
    /// Whether every block is synced before it counts as stored. Off: a block that a
    /// power failure tore is recognised by its checksums and dropped.
    pub sync: bool,
    /// How long writing stays off after the disk failed or was full.
    #[serde(with = "arustio_types::unit::duration")]
    pub retry_after: Duration,
    /// Disk reads at a time.
    pub read_threads: usize,
    /// Disk writes at a time.
    pub write_threads: usize,
    /// Bytes on their way from memory to disk; above it blocks stay in memory only.
    pub write_behind: ByteSize,
    /// Bytes a second that are read and checked in the background, so that a fault of the
    /// medium is found before a reader comes upon it; `0` checks blocks only when they are
    /// read. All blocks are looked at once a day, or as often as this allows.
    pub scrub_bandwidth: ByteSize,
    /// Who goes when space is short.
    pub eviction: EvictionKind,
}

/// A directory for blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// Where it is: an absolute path, and a folder below a mount point rather than the mount
    /// point itself, which is there without its disk too.
    pub path: PathBuf,
    /// Bytes of disk for blocks in it.
    pub capacity: ByteSize,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            capacity: None,
            directories: Vec::new(),
            min_free: DEFAULT_MIN_FREE,
            sync: false,
            retry_after: DEFAULT_RETRY_AFTER,
            read_threads: DEFAULT_READ_THREADS,
            write_threads: DEFAULT_WRITE_THREADS,
            write_behind: DEFAULT_WRITE_BEHIND,
            scrub_bandwidth: DEFAULT_SCRUB_BANDWIDTH,
            eviction: EvictionKind::default(),
        }
    }
}

/// Settings of fetching by the node itself (`fill = node`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchConfig {
    /// Ranges are fetched on a grid of this size: a power of two from 32 KiB on.
    pub min_fetch: ByteSize,
    /// Fetches at a time; more wait.
    pub concurrency: usize,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            min_fetch: DEFAULT_MIN_FETCH,
            concurrency: DEFAULT_FETCHES,
        }
    }
}

/// Settings of leases: of several clients that miss the same bytes one brings them, and the
/// others wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FillConfig {
    /// After so long without a byte the next reader who wants a part of it takes a lease
    /// over.
    #[serde(with = "arustio_types::unit::duration")]
    pub lease: Duration,
    /// Leases at a time; whoever comes then reads its store without one.
    pub leases: usize,
    /// Readers that wait at a time; whoever comes then reads its store.
    pub waiters: usize,
}

impl Default for FillConfig {
    fn default() -> Self {
        Self {
            lease: DEFAULT_LEASE,
            leases: DEFAULT_LEASES,
            waiters: DEFAULT_WAITERS,
        }
    }
}

/// Longest lease: a holder that died is noticed after it.
const LONGEST_LEASE: Duration = Duration::from_secs(60);

/// An eviction policy by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvictionKind {
    /// What was never used again goes first; a scan sweeps nothing out (S3-FIFO).
    #[default]
    S3Fifo,
    /// Least recently used.
    Lru,
    /// First in, first out.
    Fifo,
}

/// Settings that were checked, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedConfig {
    /// The memory tier.
    pub memory: CheckedMemory,
    /// The disk tier; `None` when it is off.
    pub disk: Option<CheckedDisk>,
    /// Fetching.
    pub fetch: CheckedFetch,
    /// Leases.
    pub fill: FillConfig,
}

/// Checked settings of the memory tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedMemory {
    pub(crate) capacity: u64,
    pub(crate) eviction: EvictionKind,
    /// Memory files that there may be.
    pub(crate) files: u64,
}

/// Checked settings of the disk tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedDisk {
    pub(crate) capacity: u64,
    pub(crate) settings: DiskConfig,
}

/// Checked settings of fetching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFetch {
    pub(crate) min_fetch: u64,
    pub(crate) concurrency: usize,
}

impl CheckedMemory {
    /// Bytes that the tier may use.
    pub fn capacity(&self) -> ByteSize {
        ByteSize(self.capacity)
    }
}

impl CheckedDisk {
    /// Bytes that the tier may use.
    pub fn capacity(&self) -> ByteSize {
        ByteSize(self.capacity)
    }
}

impl BlockConfig {
    /// Checks all settings and chooses the sizes that were not given.
    pub fn validate(self, machine: &Machine) -> Result<CheckedConfig, BlockError> {
        let memory = self
            .memory
            .capacity
            .unwrap_or_else(|| default_memory_capacity(machine.memory));
        let disk = disk_capacity(&self.disk, machine)?;
        let min_fetch = self.fetch.min_fetch.get();
        if !min_fetch.is_power_of_two() || min_fetch < crate::chunk::CHUNK {
            return Err(refuse(
                "fetch.min_fetch",
                self.fetch.min_fetch,
                "it has to be a power of two of at least 32KiB",
            ));
        }
        positive("fetch.concurrency", self.fetch.concurrency)?;
        if self.fill.lease.is_zero() || self.fill.lease > LONGEST_LEASE {
            return Err(BlockError::Setting {
                name: "fill.lease",
                value: format!("{:?}", self.fill.lease),
                reason: "it has to be more than nothing and at most 60s",
            });
        }
        positive("disk.read_threads", self.disk.read_threads)?;
        positive("disk.write_threads", self.disk.write_threads)?;
        let disk = (disk.get() > 0).then(|| CheckedDisk {
            capacity: disk.get(),
            settings: self.disk,
        });
        Ok(CheckedConfig {
            memory: CheckedMemory {
                capacity: memory.get(),
                eviction: self.memory.eviction,
                files: match self.memory.memfd {
                    true => (machine.descriptors / 2).min(MOST_FILES),
                    false => 0,
                },
            },
            disk,
            fetch: CheckedFetch {
                min_fetch,
                concurrency: self.fetch.concurrency,
            },
            fill: self.fill,
        })
    }
}

/// All directories together, or the one in the data folder.
fn disk_capacity(disk: &DiskConfig, machine: &Machine) -> Result<ByteSize, BlockError> {
    if disk.directories.is_empty() {
        let chosen = || default_disk_capacity(machine.disk_free, machine.disk_before);
        return Ok(disk.capacity.unwrap_or_else(chosen));
    }
    if let Some(capacity) = disk.capacity {
        return Err(refuse(
            "disk.capacity",
            capacity,
            "with disk.directories each of them has its own capacity",
        ));
    }
    let mut sum = 0_u64;
    for (at, directory) in disk.directories.iter().enumerate() {
        let path = directory.path.display();
        let before = disk.directories.iter().take(at);
        let reason = if !directory.path.is_absolute() {
            "it has to be an absolute path"
        } else if before.clone().any(|other| other.path == directory.path) {
            "it is there twice"
        } else if directory.capacity.get() == 0 {
            "its capacity has to be more than 0"
        } else {
            sum = sum.saturating_add(directory.capacity.get());
            continue;
        };
        return Err(refuse("disk.directories", path, reason));
    }
    Ok(ByteSize(sum))
}

/// Most memory files: each is mapped, and Linux lets a process map 65530 times unless told
/// otherwise.
const MOST_FILES: u64 = 32_000;

/// Most threads or fetches at a time that make sense; beyond it a number is a typo.
const MOST: usize = 1024;

fn positive(name: &'static str, number: usize) -> Result<(), BlockError> {
    if (1..=MOST).contains(&number) {
        return Ok(());
    }
    Err(refuse(name, number, "it has to be 1 to 1024"))
}

fn refuse(name: &'static str, value: impl ToString, reason: &'static str) -> BlockError {
    BlockError::Setting {
        name,
        value: value.to_string(),
        reason,
    }
}

/// The memory tier's size when none is given: the smaller of 1 GiB and 10 % of the
/// memory that the process may use.
pub fn default_memory_capacity(available: ByteSize) -> ByteSize {
    ByteSize(available.get() / 10).min(DEFAULT_MEMORY)
}

/// The disk tier's size when none is given: the smaller of 10 GiB and 10 % of the free
/// space; but not less than what an earlier run chose, since the cache itself uses up
/// free space.
pub fn default_disk_capacity(free: ByteSize, before: Option<ByteSize>) -> ByteSize {
    ByteSize(free.get() / 10)
        .max(before.unwrap_or_default())
        .min(DEFAULT_DISK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            memory: ByteSize::gib(4),
            disk_free: ByteSize::gib(1000),
            disk_before: None,
            descriptors: 1024,
        }
    }

    #[test]
    fn sizes_follow_the_machine_up_to_a_limit() {
        let checked = BlockConfig::default().validate(&machine()).unwrap();
        assert_eq!(checked.memory.capacity, (4 << 30) / 10);
        assert_eq!(checked.disk.unwrap().capacity(), DEFAULT_DISK);
        assert_eq!(default_memory_capacity(ByteSize::gib(64)), DEFAULT_MEMORY);
        let small = default_disk_capacity(ByteSize::gib(10), None);
        assert_eq!(small, ByteSize::gib(1));
        let full = default_disk_capacity(ByteSize::mib(1), Some(small));
        assert_eq!(full, small);
    }

    #[test]
    fn zero_turns_a_tier_off_and_nonsense_is_refused() {
        let off: BlockConfig = serde_json::from_str(r#"{"disk": {"capacity": "0B"}}"#).unwrap();
        assert_eq!(off.validate(&machine()).unwrap().disk, None);
        let odd: BlockConfig = serde_json::from_str(r#"{"fetch": {"min_fetch": 3}}"#).unwrap();
        let error = odd.validate(&machine()).unwrap_err().to_string();
        assert!(error.contains("fetch.min_fetch = 3B"), "{error}");
        assert!(serde_json::from_str::<BlockConfig>(r#"{"memroy": {}}"#).is_err());
    }

    #[test]
    fn directories_have_their_own_capacities() {
        let with = |text: &str| -> BlockConfig { serde_json::from_str(text).unwrap() };
        let two = r#"{"disk": {"directories": [
            {"path": "/a/cache", "capacity": "1GiB"}, {"path": "/b/cache", "capacity": "2GiB"}]}}"#;
        let checked = with(two).validate(&machine()).unwrap();
        assert_eq!(checked.disk.unwrap().capacity(), ByteSize::gib(3));
        for (text, why) in [
            (r#"[{"path": "a", "capacity": "1GiB"}]"#, "absolute"),
            (r#"[{"path": "/a", "capacity": "0B"}]"#, "more than 0"),
            (
                r#"[{"path": "/a", "capacity": "1B"}, {"path": "/a", "capacity": "1B"}]"#,
                "twice",
            ),
            (
                r#"[{"path": "/a", "capacity": "1B"}], "capacity": "1B""#,
                "own capacity",
            ),
        ] {
            let text = format!(r#"{{"disk": {{"directories": {text}}}}}"#);
            let error = with(&text).validate(&machine()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn settings_round_trip() {
        let text = serde_json::to_string(&BlockConfig::default()).unwrap();
        let back: BlockConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(back, BlockConfig::default());
    }
}
