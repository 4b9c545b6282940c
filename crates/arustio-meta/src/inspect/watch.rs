//! An engine that counts what is read from it, and stops when nobody waits for the answer.
//!
//! A check or a dump of a large state takes minutes on a thread of its own. Whoever asked
//! for it sees that it goes on, and when he has gone it ends at the next record.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::engine::{Batch, Durability, EngineError, EngineKind, Family, KvEngine, Scan, Visit};

/// How far a look into a state is, and whether anybody waits for it.
#[derive(Debug, Default)]
pub struct Watch {
    seen: AtomicU64,
    stopped: AtomicBool,
}

impl Watch {
    /// Records looked at so far; some are looked at more than once.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Nobody waits any more: the next look fails.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The engine, watched.
    pub fn over<'e>(&'e self, engine: &'e dyn KvEngine) -> Watched<'e> {
        Watched {
            engine,
            watch: self,
        }
    }

    fn look(&self, kind: EngineKind) -> Result<(), EngineError> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(EngineError::Abandoned { kind }),
            false => Ok(()),
        }
    }
}

/// See [`Watch::over`].
#[derive(Debug)]
pub struct Watched<'e> {
    engine: &'e dyn KvEngine,
    watch: &'e Watch,
}

#[deny(clippy::missing_trait_methods)]
impl KvEngine for Watched<'_> {
    fn kind(&self) -> EngineKind {
        self.engine.kind()
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.watch.look(self.kind())?;
        self.engine.get(family, key)
    }

    fn get_many(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        self.watch.look(self.kind())?;
        self.engine.get_many(family, keys)
    }

    fn scan(
        &self,
        family: Family,
        scan: Scan<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let mut stopped = Ok(());
        self.engine.scan(family, scan, &mut |key, value| {
            self.watch.seen.fetch_add(1, Ordering::Relaxed);
            stopped = self.watch.look(self.engine.kind());
            match stopped {
                Ok(()) => visit(key, value),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        stopped
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<u64, EngineError> {
        self.engine.write(batch, durability)
    }

    fn make_durable(&self) -> Result<(), EngineError> {
        self.engine.make_durable()
    }

    fn durable_index(&self) -> u64 {
        self.engine.durable_index()
    }

    fn settle(&self) -> Result<(), EngineError> {
        self.engine.settle()
    }

    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        self.engine.checkpoint(into)
    }

    fn restore(&self, from: &Path) -> Result<(), EngineError> {
        self.engine.restore(from)
    }

    fn open_copy(&self, from: &Path) -> Result<Box<dyn KvEngine>, EngineError> {
        self.engine.open_copy(from)
    }

    fn approximate_size(&self, family: Family) -> Result<u64, EngineError> {
        self.engine.approximate_size(family)
    }
}
