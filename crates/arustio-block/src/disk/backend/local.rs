//! A directory of a local file system.
//!
//! ```text
//! DIR/lock         held (flock) as long as this process uses DIR; holds its pid
//! DIR/capacity     what the tier was allowed last time, for the choice of a default
//! DIR/tmp/N        files being written; emptied at start
//! DIR/00 .. DIR/ff blocks
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arustio_types::ByteSize;
use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};

use super::{DiskBackend, DiskFile};
use crate::config::free_space;
use crate::error::BlockError;

const LOCK: &str = "lock";
const CAPACITY: &str = "capacity";
const TEMPORARY: &str = "tmp";

/// A cache directory that this process alone uses.
#[derive(Debug)]
pub struct LocalDisk {
    root: PathBuf,
    next: AtomicU64,
    lock: File,
}

impl LocalDisk {
    /// Creates the directory where it is missing, locks it, and clears what an earlier
    /// process was writing.
    pub fn open(root: &Path) -> Result<Self, BlockError> {
        let failed = |operation| {
            move |source| BlockError::Directory {
                dir: root.to_owned(),
                operation,
                source,
            }
        };
        let temporary = root.join(TEMPORARY);
        fs::create_dir_all(&temporary).map_err(failed("creating it"))?;
        let lock = lock(root)?;
        for entry in fs::read_dir(&temporary).map_err(failed("listing its tmp folder"))? {
            let path = entry.map_err(failed("listing its tmp folder"))?.path();
            fs::remove_file(path).map_err(failed("clearing its tmp folder"))?;
        }
        Ok(Self {
            root: root.to_owned(),
            next: AtomicU64::new(0),
            lock,
        })
    }

    /// Notes the capacity that is in use, for the choice of a default at the next start.
    /// Best effort: a lost note costs a smaller default.
    pub(crate) fn remember_capacity(&self, bytes: u64) {
        if let Err(error) = fs::write(self.root.join(CAPACITY), bytes.to_string()) {
            tracing::debug!(%error, "could not note the cache capacity");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write_temporary(&self, path: &Path, parts: &[Bytes], sync: bool) -> io::Result<()> {
        let mut file = File::create(path)?;
        write_all(&mut file, parts)?;
        if sync {
            file.sync_all()?;
        }
        Ok(())
    }
}

fn write_all(file: &mut File, parts: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn lock(root: &Path) -> Result<File, BlockError> {
    let failed = |source| BlockError::Directory {
        dir: root.to_owned(),
        operation: "locking it",
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(root.join(LOCK))
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(BlockError::Locked {
                dir: root.to_owned(),
                pid: read_number(&mut file).and_then(|pid| u32::try_from(pid).ok()),
            });
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    file.set_len(0).map_err(failed)?;
    write!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// A number in a short text file; nothing is believed beyond its first bytes.
fn read_number(file: &mut File) -> Option<u64> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The capacity that the directory was last used with.
pub(crate) fn remembered_capacity(root: &Path) -> Option<ByteSize> {
    let mut file = File::open(root.join(CAPACITY)).ok()?;
    read_number(&mut file).map(ByteSize)
}

impl DiskBackend for LocalDisk {
    fn put_atomic(&self, name: &str, parts: &[Bytes], sync: bool) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(TEMPORARY).join(number.to_string());
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        let result = self
            .write_temporary(&temporary, parts, sync)
            .and_then(|()| match fs::rename(&temporary, &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(folder)?;
                    if sync {
                        File::open(&self.root)?.sync_all()?;
                    }
                    fs::rename(&temporary, &path)
                }
                other => other,
            });
        if result.is_err() {
            // The tmp folder is emptied at the next start at the latest.
            let _ = fs::remove_file(&temporary);
            return result;
        }
        if sync {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = File::open(self.path(name))?;
        Ok(Box::new(LocalFile(Arc::new(file))))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn free_space(&self) -> io::Result<u64> {
        free_space(&self.root).map(ByteSize::get)
    }

    /// The lock file under its name is still the one that is held, and the folder for new
    /// files can be listed.
    fn check(&self) -> io::Result<()> {
        let (held, there) = (self.lock.metadata()?, fs::metadata(self.root.join(LOCK))?);
        if (held.dev(), held.ino()) != (there.dev(), there.ino()) {
            return Err(io::Error::other("another directory is in its place"));
        }
        fs::read_dir(self.root.join(TEMPORARY))?
            .next()
            .transpose()?;
        Ok(())
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        match File::open(self.path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other?.sync_all(),
        }
    }
}

#[derive(Debug)]
struct LocalFile(Arc<File>);

impl DiskFile for LocalFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; len];
        let mut at = 0;
        while at < len {
            match self.0.read_at(&mut buffer[at..], offset + at as u64) {
                Ok(0) => break,
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(at);
        Ok(buffer.into())
    }

    fn file(&self) -> Option<Arc<File>> {
        Some(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_has_one_process_and_the_second_is_told_which() {
        let dir = tempfile::tempdir().unwrap();
        let first = LocalDisk::open(dir.path()).unwrap();
        let refused = LocalDisk::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("in use by another process"), "{refused}");
        assert!(refused.contains(&std::process::id().to_string()));
        drop(first);
        LocalDisk::open(dir.path()).unwrap();
    }

    #[test]
    fn files_appear_whole_and_leftovers_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let disk = LocalDisk::open(dir.path()).unwrap();
        let parts = [
            Bytes::from_static(b"ab"),
            Bytes::new(),
            Bytes::from_static(b"c"),
        ];
        disk.put_atomic("07/x", &parts, true).unwrap();
        let file = disk.open("07/x").unwrap();
        disk.put_atomic("07/x", &[Bytes::from_static(b"other")], false)
            .unwrap();
        assert_eq!(&file.read_at(0, 10).unwrap()[..], b"abc");
        assert_eq!(disk.list("07").unwrap(), ["x"]);
        disk.remove("07/x").unwrap();
        disk.remove("07/x").unwrap();
        assert!(disk.list("08").unwrap().is_empty());
        drop(disk);
        fs::write(dir.path().join("tmp/9"), b"torn").unwrap();
        let disk = LocalDisk::open(dir.path()).unwrap();
        assert!(disk.list("tmp").unwrap().is_empty());
        disk.remember_capacity(77);
        assert_eq!(remembered_capacity(dir.path()), Some(ByteSize(77)));
    }
}
