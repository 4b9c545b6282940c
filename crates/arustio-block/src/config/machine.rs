//! What the machine offers: memory and descriptors that this process may use, free space
//! of a disk.
//!
//! Memory is what the kernel has, cut by the limits of the control groups (version 1
//! and 2) that the process is in, since in a container the first number is a lie.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arustio_types::ByteSize;
use rustix::process::{Resource, getrlimit};

use crate::disk::remembered_capacity;
use crate::error::BlockError;

/// Sizes that the default capacities are chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Memory that this process may use.
    pub memory: ByteSize,
    /// Free space where the disk tier will lie.
    pub disk_free: ByteSize,
    /// Capacity of the disk tier in an earlier run.
    pub disk_before: Option<ByteSize>,
    /// Descriptors that this process may have.
    pub descriptors: u64,
}

impl Machine {
    /// Asks the kernel. `dir` is the cache directory; it need not exist yet. Blocking,
    /// but quick.
    pub fn probe(dir: &Path) -> Result<Machine, BlockError> {
        let failed = |what| move |source| BlockError::Probe { what, source };
        Ok(Machine {
            memory: available_memory().map_err(failed("the memory of this machine"))?,
            disk_free: free_space(dir).map_err(failed("the free space for the cache"))?,
            disk_before: remembered_capacity(dir),
            // No limit is no number.
            descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        })
    }
}

/// Memory that this process may use: the machine's, or the tightest limit of its
/// control groups.
pub fn available_memory() -> io::Result<ByteSize> {
    let total = mem_total(&fs::read_to_string("/proc/meminfo")?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = limit_files(&groups)
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .min();
    Ok(ByteSize(total.min(limit.unwrap_or(u64::MAX))))
}

/// Free space, for unprivileged users, of the file system that `dir` is or will be on.
pub fn free_space(dir: &Path) -> io::Result<ByteSize> {
    let there = dir
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(there)?;
    Ok(ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

fn mem_total(meminfo: &str) -> io::Result<u64> {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .map(|kib| kib.saturating_mul(1024))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no MemTotal in /proc/meminfo"))
}

/// The files that may hold a limit, for every group of the process and all its parents.
/// In a container the path may not be visible; then the root of the hierarchy is ours.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        for group in Path::new(path).ancestors() {
            let below = group.strip_prefix("/").unwrap_or(group);
            files.push(Path::new(root).join(below).join(file));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_looked_for_in_every_parent_of_both_versions() {
        let v2: Vec<_> = limit_files("0::/a/b\n");
        assert_eq!(
            v2,
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
            .map(PathBuf::from)
        );
        let v1 = limit_files("5:cpu,cpuacct:/x\n4:memory:/\n");
        assert_eq!(
            v1,
            [PathBuf::from("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
        );
    }

    #[test]
    fn this_machine_has_memory_and_a_disk() {
        let machine = Machine::probe(Path::new("/no/such/directory/yet")).unwrap();
        assert!(machine.memory.get() > 0);
        assert_eq!(machine.disk_before, None);
        assert_eq!(mem_total("MemTotal:  2 kB\n").unwrap(), 2048);
        assert!(mem_total("").is_err());
    }
}
