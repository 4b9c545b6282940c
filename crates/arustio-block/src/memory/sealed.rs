//! A memory file that nobody can change any more, and the bytes in it.
//!
//! Either this process wrote it, or somebody on this host did who hands it in. What is
//! handed in is sealed *here*, and only then looked at: whoever still has a descriptor of it
//! can write no more, and the system refuses the seal as long as anybody could write
//! through a mapping, or has writes under way. So what is compared with a checksum
//! afterwards is what stays.
//!
//! Nothing is believed about what is handed in: not that it is a memory file (those of huge
//! pages may fault, and are none for us), not its length, not that it has the pages that its
//! length says, since a hole would be filled at our expense.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals, fstatfs};
use rustix::io::Errno;

use super::map::Mapping;

/// What a file system in memory is called.
const TMPFS: i64 = 0x0102_1994;
/// What makes the bytes of a file final.
const FINAL: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW);
/// In which the system counts what a file has.
const SECTOR: u64 = 512;

/// A sealed memory file with some bytes of a block and nothing else, mapped. Clones share it.
#[derive(Debug, Clone)]
pub struct Sealed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Arc<File>,
    mapping: Mapping,
    /// The file takes up the pages of its length, and no others.
    exact: bool,
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotSealed {
    /// It is something else, or cannot be sealed.
    #[error("it is no memory file that can be sealed")]
    NoMemory,
    /// It has not as many bytes as was said.
    #[error("it has {found} bytes, not {expected}")]
    Length {
        /// Bytes that it has.
        found: u64,
        /// Bytes that it was to have.
        expected: u64,
    },
    /// Not all of its pages are there.
    #[error("it has holes")]
    Holes,
    /// Somebody has it mapped for writing, or writes to it right now.
    #[error("it can still be written")]
    Writable,
    /// The system refuses something.
    #[error("it cannot be used: {0}")]
    System(#[from] io::Error),
}

impl Sealed {
    /// Seals a file that somebody hands in, which has to have exactly `length` bytes. May
    /// wait for writes of others for some tenths of a second: not for async workers.
    ///
    /// # Errors
    /// A file that is not what it has to be; it may be sealed all the same.
    pub fn of(file: &File, length: u64) -> Result<Self, NotSealed> {
        let kind = fstatfs(file).map_err(io::Error::from)?.f_type;
        // Its type differs from one architecture to another.
        let in_memory = kind as i64 == TMPFS;
        if !in_memory {
            return Err(NotSealed::NoMemory);
        }
        seal(file)?;
        let there = file.metadata()?;
        let (found, expected) = (there.len(), length);
        if found != expected {
            return Err(NotSealed::Length { found, expected });
        }
        let (taken, needed) = (there.blocks().saturating_mul(SECTOR), pages(length));
        if taken < needed {
            return Err(NotSealed::Holes);
        }
        Ok(Self::mapped(file, length, taken == needed)?)
    }

    /// Seals and maps what this process has written.
    pub(super) fn own(file: &File, length: u64) -> io::Result<Self> {
        fcntl_add_seals(file, FINAL | SealFlags::SEAL)?;
        Self::mapped(file, length, true)
    }

    fn mapped(file: &File, length: u64, exact: bool) -> io::Result<Self> {
        // Another opening of the same file: what is passed on can only read.
        let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let mapping = Mapping::of_sealed(&file, length)?;
        Ok(Self(Arc::new(Inner {
            file: Arc::new(file),
            mapping,
            exact,
        })))
    }

    /// The bytes, which live as long as anybody has them.
    pub fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// The file, for reading; the bytes begin at its first one.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.0.file)
    }

    /// Whether it takes up what its length says, so that it can be counted by it.
    pub(crate) fn is_exact(&self) -> bool {
        self.0.exact
    }

    /// Whether these are the bytes in it, and not others like them.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        std::ptr::eq(self.as_ref(), bytes)
    }
}

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        self.0.mapping.bytes()
    }
}

/// Makes the bytes of a file final, if they are not yet.
fn seal(file: &File) -> Result<(), NotSealed> {
    match fcntl_add_seals(file, FINAL | SealFlags::SEAL) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(NotSealed::Writable),
        // One that takes no seals, or that has them all already.
        Err(Errno::PERM | Errno::INVAL) => match fcntl_get_seals(file) {
            Ok(seals) if seals.contains(FINAL) => Ok(()),
            _ => Err(NotSealed::NoMemory),
        },
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// Bytes of the pages that so many bytes take up.
pub(super) fn pages(length: u64) -> u64 {
    length.next_multiple_of(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests;
