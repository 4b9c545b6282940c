//! A disk that misbehaves, around any other.
//!
//! Chances are in percent and drawn from a seed. Slowness is a gate and not a delay: a
//! test stalls the disk, looks at what happens, and lets it go on.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::{Condvar, Mutex};

use super::Seed;
use crate::disk::{DiskBackend, DiskFile};

/// A wrapper that injects faults; clones share their settings.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    inner: Arc<dyn DiskBackend>,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    plan: Mutex<Plan>,
    moving: Condvar,
}

#[derive(Debug)]
struct Plan {
    seed: Seed,
    short_reads: u8,
    bit_flips: u8,
    read_errors: u8,
    write_errors: u8,
    full: bool,
    stalls: u32,
    waiting: u32,
}

impl FaultyDisk {
    /// Wraps a disk; without faults until they are set.
    pub fn new(inner: Arc<dyn DiskBackend>, seed: Seed) -> Self {
        let plan = Plan {
            seed,
            short_reads: 0,
            bit_flips: 0,
            read_errors: 0,
            write_errors: 0,
            full: false,
            stalls: 0,
            waiting: 0,
        };
        Self {
            inner,
            faults: Arc::new(Faults {
                plan: Mutex::new(plan),
                moving: Condvar::new(),
            }),
        }
    }

    /// So many percent of the reads return fewer bytes than there are.
    pub fn short_reads(&self, percent: u8) {
        self.faults.plan.lock().short_reads = percent;
    }

    /// So many percent of the reads return one bit wrong.
    pub fn bit_flips(&self, percent: u8) {
        self.faults.plan.lock().bit_flips = percent;
    }

    /// So many percent of the reads fail.
    pub fn read_errors(&self, percent: u8) {
        self.faults.plan.lock().read_errors = percent;
    }

    /// So many percent of the writes and removals fail.
    pub fn write_errors(&self, percent: u8) {
        self.faults.plan.lock().write_errors = percent;
    }

    /// Every write finds the disk full.
    pub fn full(&self, full: bool) {
        self.faults.plan.lock().full = full;
    }

    /// Stops every operation until the value is dropped.
    #[must_use = "the disk goes on when this is dropped"]
    pub fn stall(&self) -> Stall {
        self.faults.plan.lock().stalls += 1;
        Stall(Arc::clone(&self.faults))
    }

    /// Operations that a stall holds up now.
    pub fn waiting(&self) -> u32 {
        self.faults.plan.lock().waiting
    }
}

/// Holds a disk up.
#[derive(Debug)]
pub struct Stall(Arc<Faults>);

impl Drop for Stall {
    fn drop(&mut self) {
        self.0.plan.lock().stalls -= 1;
        self.0.moving.notify_all();
    }
}

impl Faults {
    fn pass(&self) {
        let mut plan = self.plan.lock();
        plan.waiting += 1;
        while plan.stalls > 0 {
            self.moving.wait(&mut plan);
        }
        plan.waiting -= 1;
    }

    fn before_change(&self, grows: bool) -> io::Result<()> {
        self.pass();
        let mut plan = self.plan.lock();
        if grows && plan.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let percent = plan.write_errors;
        if plan.seed.chance(percent) {
            return Err(io::Error::other("injected write error"));
        }
        Ok(())
    }

    fn before_read(&self) -> io::Result<()> {
        self.pass();
        let mut plan = self.plan.lock();
        let percent = plan.read_errors;
        if plan.seed.chance(percent) {
            return Err(io::Error::other("injected read error"));
        }
        Ok(())
    }

    fn spoil(&self, bytes: Bytes) -> Bytes {
        let mut plan = self.plan.lock();
        let (short, flip) = (plan.short_reads, plan.bit_flips);
        if bytes.is_empty() {
            return bytes;
        }
        if plan.seed.chance(short) {
            let len = plan.seed.below(bytes.len() as u64);
            return bytes.slice(..len as usize);
        }
        if !plan.seed.chance(flip) {
            return bytes;
        }
        let bit = plan.seed.below(bytes.len() as u64 * 8);
        let mut spoiled = BytesMut::from(&bytes[..]);
        spoiled[(bit / 8) as usize] ^= 1 << (bit % 8);
        spoiled.freeze()
    }
}

impl DiskBackend for FaultyDisk {
    fn put_atomic(&self, name: &str, parts: &[Bytes], sync: bool) -> io::Result<()> {
        self.faults.before_change(true)?;
        self.inner.put_atomic(name, parts, sync)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.faults.before_read()?;
        Ok(Box::new(FaultyFile {
            inner: self.inner.open(name)?,
            faults: Arc::clone(&self.faults),
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.before_change(false)?;
        self.inner.remove(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.faults.before_read()?;
        self.inner.list(folder)
    }

    fn free_space(&self) -> io::Result<u64> {
        self.inner.free_space()
    }

    fn check(&self) -> io::Result<()> {
        self.inner.check()
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        self.faults.before_change(false)?;
        self.inner.sync_dir(folder)
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn DiskFile>,
    faults: Arc<Faults>,
}

impl DiskFile for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.faults.before_read()?;
        Ok(self.faults.spoil(self.inner.read_at(offset, len)?))
    }

    /// Faults cannot be injected into a descriptor, so none is given out.
    fn file(&self) -> Option<Arc<File>> {
        None
    }
}
