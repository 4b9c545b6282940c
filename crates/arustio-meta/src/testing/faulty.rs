//! An engine that fails at a chosen write, before or after the write took effect.
//!
//! One [`Faults`] is shared by every engine of a server, so that "the n-th write" counts
//! across them and a crash test can stop at each boundary in turn.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::{Batch, Durability, EngineError, EngineKind, Family, KvEngine, Scan, Visit};

/// What happens to the write that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It never reached the engine.
    Before,
    /// It took effect, but the caller learns of a failure.
    After,
}

/// When to fail. Syncs and restores count as writes.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    writes: u64,
    fail: Option<(u64, Fault)>,
}

impl Faults {
    /// Fails the write with this number (the first is 1) and every later one.
    pub fn fail_at(&self, write: u64, fault: Fault) {
        self.plan.lock().fail = Some((write, fault));
    }

    /// Whether a write has failed.
    pub fn struck(&self) -> bool {
        let plan = self.plan.lock();
        plan.fail.is_some_and(|(at, _)| plan.writes >= at)
    }

    /// Writes so far, failed ones included.
    pub fn writes(&self) -> u64 {
        self.plan.lock().writes
    }

    fn next(&self) -> Option<Fault> {
        let mut plan = self.plan.lock();
        plan.writes += 1;
        let (at, fault) = plan.fail?;
        match plan.writes {
            write if write == at => Some(fault),
            write if write > at => Some(Fault::Before),
            _ => None,
        }
    }
}

/// An engine whose writes fail by plan.
#[derive(Debug)]
pub struct FaultyEngine<E> {
    inner: Arc<E>,
    faults: Arc<Faults>,
}

impl<E: KvEngine> FaultyEngine<E> {
    /// Wraps an engine; several may share their faults.
    pub fn new(inner: Arc<E>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }

    fn faulty<T>(&self, call: impl FnOnce(&E) -> Result<T, EngineError>) -> Result<T, EngineError> {
        match self.faults.next() {
            None => call(&self.inner),
            Some(Fault::Before) => Err(injected()),
            Some(Fault::After) => call(&self.inner).and_then(|_| Err(injected())),
        }
    }
}

fn injected() -> EngineError {
    EngineError::Io {
        action: "write",
        path: PathBuf::from("faulty engine"),
        source: io::Error::other("injected fault"),
    }
}

#[deny(clippy::missing_trait_methods)]
impl<E: KvEngine> KvEngine for FaultyEngine<E> {
    fn kind(&self) -> EngineKind {
        self.inner.kind()
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.get(family, key)
    }

    fn get_many(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        self.inner.get_many(family, keys)
    }

    fn scan(
        &self,
        family: Family,
        scan: Scan<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        self.inner.scan(family, scan, visit)
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<u64, EngineError> {
        self.faulty(|engine| engine.write(batch, durability))
    }

    fn make_durable(&self) -> Result<(), EngineError> {
        self.faulty(E::make_durable)
    }

    fn durable_index(&self) -> u64 {
        self.inner.durable_index()
    }

    fn settle(&self) -> Result<(), EngineError> {
        self.inner.settle()
    }

    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        self.inner.checkpoint(into)
    }

    fn restore(&self, from: &Path) -> Result<(), EngineError> {
        self.faulty(|engine| engine.restore(from))
    }

    fn open_copy(&self, from: &Path) -> Result<Box<dyn KvEngine>, EngineError> {
        self.inner.open_copy(from)
    }

    fn approximate_size(&self, family: Family) -> Result<u64, EngineError> {
        self.inner.approximate_size(family)
    }
}
