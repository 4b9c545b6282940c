//! The private folder of a run: it goes, and of a run that failed its logs stay.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use arustio_types::ByteSize;

/// Of these files the logs consist: what programs said, and the settings that they had.
const KEPT: [&str; 3] = ["log", "out", "toml"];
/// Only the folder of a cluster has this.
const CLUSTER: &str = "cluster.json";

/// A folder of our own.
#[derive(Debug)]
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes it where temporary files go, if there is room enough.
    pub(crate) fn new(needed: u64) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("arustio-e2e-")
            .tempdir()
            .with_context(|| format!("cannot make a folder in {}", temporary().display()))?;
        let free = free_bytes(folder.path())?;
        ensure!(
            free >= needed,
            "{} has {} left, and a run needs {}; make room, or name another folder with \
             TMPDIR=...",
            temporary().display(),
            ByteSize(free).human(),
            ByteSize(needed).human(),
        );
        Ok(Self(folder))
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Removes it.
    pub(crate) fn remove(self) -> Result<()> {
        self.0
            .close()
            .context("cannot remove the folder of the run")
    }

    /// Removes all but logs; says where those are. Nobody writes there any more.
    pub(crate) fn keep_logs(self) -> PathBuf {
        let folder = self.0.keep();
        // What cannot be removed is left: the run has failed, and has said why.
        let _ = strip(&folder);
        folder
    }
}

fn temporary() -> PathBuf {
    std::env::temp_dir()
}

fn free_bytes(path: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(path).context("cannot ask how full the disk is")?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Removes what is no log: those lie in this folder, and in those of clusters, and no deeper.
fn strip(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.join(CLUSTER).exists() {
            strip(&path)?;
        } else if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if !is_log(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn is_log(path: &Path) -> bool {
    let suffix = path.extension().and_then(|suffix| suffix.to_str());
    suffix.is_some_and(|suffix| KEPT.contains(&suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_failed_run_only_logs_stay() {
        let scratch = Scratch::new(0).unwrap();
        fs::create_dir_all(scratch.path("cluster/meta-1/state")).unwrap();
        fs::write(scratch.path("cluster/cluster.json"), "{}").unwrap();
        fs::write(scratch.path("cluster/meta-1.log"), "said").unwrap();
        fs::create_dir(scratch.path("tree")).unwrap();
        fs::write(scratch.path("tree/Cargo.toml"), "data").unwrap();
        fs::write(scratch.path("cluster/meta-1/state/x.sst"), "data").unwrap();
        let kept = scratch.keep_logs();
        assert!(kept.join("cluster/meta-1.log").exists());
        for gone in ["cluster/meta-1", "cluster/cluster.json", "tree"] {
            assert!(!kept.join(gone).exists(), "{gone}");
        }
        fs::remove_dir_all(kept).unwrap();
    }

    #[test]
    fn a_disk_that_is_too_full_is_refused_before_anything_starts() {
        let said = Scratch::new(u64::MAX).unwrap_err().to_string();
        assert!(said.contains("TMPDIR"), "{said}");
    }
}
