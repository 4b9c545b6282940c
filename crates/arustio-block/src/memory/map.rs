//! The one place of this crate that maps memory, and so the one that is not checked by the
//! compiler alone.
//!
//! Only memory files are mapped whose seals say that they are neither written nor cut ever
//! again: then the bytes are as immutable as a slice has to be, and no access can fault.
#![expect(unsafe_code, reason = "memory is mapped here and nowhere else")]

use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};
use std::slice;

use rustix::fs::{SealFlags, fcntl_get_seals};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A sealed memory file, from its first byte on, for reading.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: nobody writes to the memory, so any thread may read it, and give it up.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes of a sealed memory file.
    ///
    /// # Errors
    /// `InvalidInput` for any other file, and for one that is shorter; else why there is no
    /// room to map it.
    pub(super) fn of_sealed(file: &File, length: u64) -> io::Result<Self> {
        let needed = SealFlags::WRITE | SealFlags::SHRINK;
        let sealed = fcntl_get_seals(file)?.contains(needed);
        let reaches = file.metadata()?.len() >= length;
        let length = usize::try_from(length).unwrap_or(0);
        if !sealed || !reaches || length == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Its pages are there. Populated, since a write from pages that are not mapped yet makes
        // the file system zero the page cache first and copy a second time.
        let (protect, flags) = (ProtFlags::READ, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: a new mapping at a place that the kernel chooses touches no other memory.
        let start = unsafe { mmap(ptr::null_mut(), length, protect, flags, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has this length until `self` is dropped, the file behind it is
        // at least as long and cannot be cut, and nobody can write to it any more.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and every borrow of its bytes has ended.
        // It cannot fail for a mapping that exists.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// A writable mapping, as somebody may have one who means no good.
#[cfg(test)]
pub(super) struct Writable {
    _mapping: Mapping,
}

#[cfg(test)]
impl Writable {
    pub(super) fn of(file: &File, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).unwrap();
        let (protect, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: as above; nothing is ever written through it.
        let start = unsafe { mmap(ptr::null_mut(), length, protect, flags, file, 0) }?;
        let start = NonNull::new(start.cast()).unwrap();
        let _mapping = Mapping { start, length };
        Ok(Self { _mapping })
    }
}
