//! A disk in memory that can crash.
//!
//! It remembers which files were synced. [`MemDisk::crash`] plays a power failure: a
//! file that was not synced may be as it was, gone, cut short or half zeros, and a
//! removal that was not synced may come undone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::Seed;
use crate::disk::{DiskBackend, DiskFile};

/// Files in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Bytes>,
    /// What a power failure leaves: synced versions of files that changed since.
    synced: BTreeMap<String, Option<Bytes>>,
    capacity: Option<u64>,
}

impl MemDisk {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that the disk can hold; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Names of all files, in order.
    pub fn names(&self) -> Vec<String> {
        self.state.lock().files.keys().cloned().collect()
    }

    /// The bytes of a file.
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        self.state.lock().files.get(name).cloned()
    }

    /// Puts any bytes under a name, behind the back of whoever uses the disk.
    pub fn plant(&self, name: &str, bytes: impl Into<Bytes>) {
        let mut state = self.state.lock();
        state.files.insert(name.to_owned(), bytes.into());
    }

    /// Removes a file behind the back of whoever uses the disk.
    pub fn snatch(&self, name: &str) {
        self.state.lock().files.remove(name);
    }

    /// Flips one bit of one file; false if there is no file.
    pub fn flip_bit(&self, seed: &mut Seed) -> bool {
        let mut state = self.state.lock();
        let files = state.files.len() as u64;
        if files == 0 {
            return false;
        }
        let at = seed.below(files) as usize;
        let Some(bytes) = state.files.values_mut().nth(at) else {
            return false;
        };
        if bytes.is_empty() {
            return false;
        }
        let bit = seed.below(bytes.len() as u64 * 8);
        let mut changed = BytesMut::from(&bytes[..]);
        changed[(bit / 8) as usize] ^= 1 << (bit % 8);
        *bytes = changed.freeze();
        true
    }

    /// Everything on the disk now, as a disk of its own: what a process finds that
    /// starts after this one was killed.
    pub fn killed(&self) -> MemDisk {
        let state = self.state.lock();
        let copy = MemDisk::new();
        copy.state.lock().files = state.files.clone();
        copy
    }

    /// What a power failure at this moment leaves, drawn from `seed`.
    pub fn crash(&self, seed: &mut Seed) -> MemDisk {
        let state = self.state.lock();
        let mut files = state.files.clone();
        for (name, synced) in &state.synced {
            let now = files.remove(name);
            let left = match seed.below(4) {
                0 => now,
                1 => synced.clone(),
                2 => now.map(|bytes| tear(&bytes, seed)),
                _ => now.map(|bytes| blank(&bytes, seed)),
            };
            // A synced file never gets lost, only its unsynced successor does.
            if let Some(bytes) = left.or_else(|| synced.clone()) {
                files.insert(name.clone(), bytes);
            }
        }
        let after = MemDisk::new();
        after.state.lock().files = files;
        after
    }
}

fn tear(bytes: &Bytes, seed: &mut Seed) -> Bytes {
    bytes.slice(..seed.below(bytes.len() as u64 + 1) as usize)
}

fn blank(bytes: &Bytes, seed: &mut Seed) -> Bytes {
    let mut blanked = BytesMut::from(&bytes[..]);
    let from = seed.below(bytes.len() as u64 + 1) as usize;
    blanked[from..].fill(0);
    blanked.freeze()
}

impl State {
    fn used(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Remembers what is durable of a name before it changes for the first time.
    fn remember(&mut self, name: &str) {
        if !self.synced.contains_key(name) {
            let before = self.files.get(name).cloned();
            self.synced.insert(name.to_owned(), before);
        }
    }
}

impl DiskBackend for MemDisk {
    fn put_atomic(&self, name: &str, parts: &[Bytes], sync: bool) -> io::Result<()> {
        let bytes = parts.concat();
        let mut state = self.state.lock();
        let full = state.used() + bytes.len() as u64;
        if state.capacity.is_some_and(|capacity| full > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if sync {
            state.synced.remove(name);
        } else {
            state.remember(name);
        }
        state.files.insert(name.to_owned(), bytes.into());
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let bytes = self.bytes(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(MemFile(bytes)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.files.contains_key(name) {
            state.remember(name);
            state.files.remove(name);
        }
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{folder}/");
        let state = self.state.lock();
        let names = state.files.keys();
        Ok(names
            .filter_map(|name| name.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect())
    }

    fn free_space(&self) -> io::Result<u64> {
        let state = self.state.lock();
        let capacity = state.capacity.unwrap_or(u64::MAX);
        Ok(capacity.saturating_sub(state.used()))
    }

    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        let prefix = format!("{folder}/");
        let mut state = self.state.lock();
        let State { files, synced, .. } = &mut *state;
        // Removals become durable; contents of files need a sync of their own.
        synced.retain(|name, _| files.contains_key(name) || !name.starts_with(&prefix));
        Ok(())
    }
}

#[derive(Debug)]
struct MemFile(Bytes);

impl DiskFile for MemFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let size = self.0.len();
        let start = usize::try_from(offset).unwrap_or(size).min(size);
        Ok(self.0.slice(start..size.min(start.saturating_add(len))))
    }

    fn file(&self) -> Option<Arc<File>> {
        None
    }
}
