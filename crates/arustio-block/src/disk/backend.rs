//! The disk as the tier sees it: whole files that appear at once.
//!
//! The seam exists so that crashes and faults of a disk can be played: the same tier
//! runs over [`LocalDisk`] and over the doubles of the feature `testing`.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

mod local;

pub use local::LocalDisk;
pub(crate) use local::remembered_capacity;

/// Files by name, `folder/name`.
///
/// # Contract
/// - Synchronous and blocking: called from the tier's own pool, never from an async
///   worker; from several threads at once.
/// - Two calls that change one name do not overlap; the tier sees to that.
/// - Errors are of this moment; any call may be repeated.
pub trait DiskBackend: Send + Sync + fmt::Debug {
    /// Makes the file `name` consist of `parts`: whole, or as before. With `sync` it
    /// survives a power failure once this returns; without, a failure may leave
    /// anything under the name.
    fn put_atomic(&self, name: &str, parts: &[Bytes], sync: bool) -> io::Result<()>;

    /// Opens a file. What was opened stays readable when the name is replaced or removed.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Removes a file; one that is not there is success.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Names (without the folder) of everything in a folder; none if it is not there.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Bytes that could still be written.
    fn free_space(&self) -> io::Result<u64>;

    /// Whether the disk as a whole is there and answers; asked after an error, to tell a
    /// bad file from a bad disk.
    fn check(&self) -> io::Result<()>;

    /// Makes creations and removals in a folder survive a power failure.
    fn sync_dir(&self, folder: &str) -> io::Result<()>;
}

/// An open file.
///
/// # Contract
/// As for [`DiskBackend`]; reads may be made from several threads at once.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// `len` bytes from `offset`, fewer at the end of the file. The caller bounds `len`.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;

    /// The descriptor, where there is one that could be passed on.
    fn file(&self) -> Option<Arc<File>>;
}
