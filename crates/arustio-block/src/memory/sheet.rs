//! A complete block in a memory file of its own.
//!
//! Written once, sealed, and mapped for reading (`sealed`): from then on nobody, this process
//! included, can change or cut it, so its descriptor can be passed on and its bytes can be
//! lent without a copy. A block that was handed in as such a file keeps that one. It is never
//! used for another block. What it takes up (whole pages)
//! counts until the last of its bytes and the last of its borrowers is gone.
//!
//! There is a bounded number of them: each costs a descriptor and a mapping. Beyond it, and
//! where the system has no memory files, blocks stay on the heap, and cannot be passed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

use super::budget::Reserved;
use super::sealed::{Sealed, pages};
use crate::chunk::CHUNK;
use crate::image::{Image, Run};

/// What a sheet costs beside its pages: the system's file and mapping, about.
const SHEET_COST: u64 = 2048;
/// Below this a descriptor costs more than the copy that it spares.
const SMALLEST: u64 = CHUNK;
/// The name that the system shows for them.
const NAME: &str = "arustio-block";

/// A sealed memory file with a whole block.
#[derive(Debug)]
pub(super) struct Sheet {
    sealed: Sealed,
    cost: u64,
    _reserved: Reserved,
    _place: Place,
}

impl Sheet {
    /// The file, for reading; the block begins at its first byte.
    pub(super) fn file(&self) -> Arc<File> {
        self.sealed.file()
    }

    /// Bytes that it takes up.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// The block as one run, whose checksums are those of `image`.
    pub(super) fn run(self: &Arc<Self>, image: &Image) -> Run {
        Run {
            first: 0,
            bytes: Bytes::from_owner(Shared(Arc::clone(self))),
            sums: image
                .runs
                .iter()
                .flat_map(|run| &run.sums)
                .copied()
                .collect(),
            file: Some(self.sealed.clone()),
        }
    }
}

struct Shared(Arc<Sheet>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.sealed.as_ref()
    }
}

/// Makes sheets, so many at a time.
#[derive(Debug)]
pub(super) struct Sheets {
    most: u64,
    used: Arc<AtomicU64>,
    /// The system has none.
    off: AtomicBool,
}

/// One of the sheets that there may be.
#[derive(Debug)]
struct Place(Arc<AtomicU64>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sheets {
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            used: Arc::default(),
            off: AtomicBool::new(false),
        }
    }

    /// What a sheet of this block takes up; `None` if it will not get one now.
    pub(super) fn cost(&self, image: &Image) -> Option<u64> {
        let full = self.used.load(Ordering::Relaxed) >= self.most;
        if full || self.off.load(Ordering::Relaxed) || image.block_len < SMALLEST {
            return None;
        }
        let sums = 4 * u64::from(image.present_chunks());
        Some(pages(image.block_len) + sums + SHEET_COST)
    }

    /// Copies a complete block into a sheet whose cost is reserved, or takes the file that it
    /// came in; `None` if the system does not give one.
    pub(super) fn make(&self, image: &Image, reserved: Reserved) -> Option<Arc<Sheet>> {
        let place = self.place()?;
        match came_in(image).map_or_else(|| write(image), Ok) {
            Ok(sealed) => Some(Arc::new(Sheet {
                sealed,
                cost: reserved.bytes(),
                _reserved: reserved,
                _place: place,
            })),
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn place(&self) -> Option<Place> {
        let fits = |used: u64| (used < self.most).then_some(used + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        Some(Place(Arc::clone(&self.used)))
    }

    /// Too little of something may pass; what is not there, or is forbidden, stays so.
    fn failed(&self, error: &io::Error) {
        let never = [Errno::NOSYS, Errno::PERM, Errno::ACCESS, Errno::NOENT];
        let code = Errno::from_io_error(error);
        if !code.is_some_and(|code| never.contains(&code)) {
            tracing::debug!("no memory file for a block, which stays on the heap: {error}");
        } else if !self.off.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "no memory files on this system: blocks stay on the heap, and clients on \
                 this host read them through sockets ({error})"
            );
        }
    }
}

/// The file that a whole block was handed in, if it can be counted like one of ours.
fn came_in(image: &Image) -> Option<Sealed> {
    let [run] = &image.runs[..] else {
        return None;
    };
    let sealed = run.file.as_ref().filter(|sealed| sealed.is_exact())?;
    sealed.holds(&run.bytes).then(|| sealed.clone())
}

fn write(image: &Image) -> io::Result<Sealed> {
    let file = create()?;
    for run in &image.runs {
        file.write_all_at(&run.bytes, u64::from(run.first) * CHUNK)?;
    }
    Sealed::own(&file, image.block_len)
}

fn create() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        // Systems before Linux 6.3 do not know that it is not to be executed.
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        other => other,
    };
    Ok(File::from(fd?))
}
