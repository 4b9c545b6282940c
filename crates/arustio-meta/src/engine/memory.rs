//! The engine in memory: ordered maps, with crashes on demand.
//!
//! It is the fake of every test above the seam, and the only engine of builds without
//! RocksDB. [`MemEngine::crashing`] remembers which batches no sync has covered, so that a
//! test can forget any suffix of them, as a machine that lost power would.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::{
    Batch, Direction, Durability, EngineError, EngineKind, Family, KvEngine, Op, Scan, Visit,
};

/// Checkpoints that lie in memory and not in files, by the path that they were given: what a
/// simulated disk holds.
#[derive(Debug, Default)]
pub struct Shelf(Mutex<BTreeMap<PathBuf, Vec<u8>>>);

impl Shelf {
    /// Copies a checkpoint, as a transport does; says whether there is one.
    pub fn copy(&self, from: &Path, to: &Path) -> bool {
        let mut shelf = self.0.lock();
        let copy = shelf.get(from).cloned();
        let copied = copy.map(|bytes| shelf.insert(to.to_owned(), bytes));
        copied.is_some()
    }

    /// Forgets every checkpoint below a folder.
    pub fn clear(&self, folder: &Path) {
        self.0.lock().retain(|path, _| !path.starts_with(folder));
    }
}

type Maps = BTreeMap<Family, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Name of the one file of a checkpoint.
const CHECKPOINT: &str = "memory.checkpoint";
/// First bytes of that file: what it is, and its format.
const MAGIC: &[u8; 8] = b"ARUMEM\x00\x01";

/// An ordered map for each family.
#[derive(Debug)]
pub struct MemEngine {
    kind: EngineKind,
    /// Read recursively, because a visitor of a scan may read other keys.
    inner: RwLock<Inner>,
    /// Where checkpoints go instead of into files.
    shelf: Option<Arc<Shelf>>,
}

#[derive(Debug, Clone)]
struct Inner {
    maps: Maps,
    /// What a crash would leave, and the batches after it; absent where nobody crashes.
    crash: Option<Crash>,
    written: u64,
    durable: u64,
}

#[derive(Debug, Clone)]
struct Crash {
    durable: Maps,
    unsynced: Vec<Batch>,
}

impl MemEngine {
    /// An empty engine that never crashes.
    pub fn new(kind: EngineKind) -> Self {
        Self::with(kind, None)
    }

    /// An empty engine that can lose what was not synced.
    pub fn crashing(kind: EngineKind) -> Self {
        let crash = Crash {
            durable: empty(kind),
            unsynced: Vec::new(),
        };
        Self::with(kind, Some(crash))
    }

    fn with(kind: EngineKind, crash: Option<Crash>) -> Self {
        let inner = Inner {
            maps: empty(kind),
            crash,
            written: 0,
            durable: 0,
        };
        Self {
            kind,
            inner: RwLock::new(inner),
            shelf: None,
        }
    }

    /// The same engine, with its checkpoints on a shelf.
    pub fn on_shelf(self, shelf: Arc<Shelf>) -> Self {
        Self {
            shelf: Some(shelf),
            ..self
        }
    }

    /// Number of batches that no sync has covered.
    pub fn unsynced(&self) -> usize {
        let inner = self.inner.read_recursive();
        inner.crash.as_ref().map_or(0, |crash| crash.unsynced.len())
    }

    /// A new engine with what a machine would find after losing power now, if the first
    /// `kept` unsynced batches had reached the disk by themselves. Without crash
    /// simulation everything survives.
    pub fn after_crash(&self, kept: usize) -> MemEngine {
        let inner = self.inner.read_recursive();
        let Some(crash) = &inner.crash else {
            let mut survived = Self::new(self.kind);
            survived.shelf.clone_from(&self.shelf);
            survived.inner.write().maps = inner.maps.clone();
            return survived;
        };
        let mut maps = crash.durable.clone();
        for batch in crash.unsynced.iter().take(kept) {
            apply(&mut maps, batch);
        }
        let crash = Crash {
            durable: maps.clone(),
            unsynced: Vec::new(),
        };
        let mut survived = Self::with(self.kind, Some(crash));
        survived.shelf.clone_from(&self.shelf);
        survived.inner.write().maps = maps;
        survived
    }

    /// A number that is equal for equal contents, for traces of deterministic tests.
    pub fn fingerprint(&self) -> u32 {
        crc32c::crc32c(&encode(&self.inner.read().maps))
    }

    fn check(&self, family: Family) -> Result<(), EngineError> {
        if self.kind.families().contains(&family) {
            return Ok(());
        }
        Err(EngineError::NoSuchFamily {
            kind: self.kind,
            family,
        })
    }

    fn read_copy(&self, from: &Path) -> Result<Maps, EngineError> {
        let path = from.join(CHECKPOINT);
        let bytes = match &self.shelf {
            Some(shelf) => {
                let bytes = shelf.0.lock().get(from).cloned();
                bytes.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            }
            None => fs::read(&path),
        };
        let bytes = bytes.map_err(|source| EngineError::Io {
            action: "read a checkpoint",
            path: path.clone(),
            source,
        })?;
        decode(self.kind, &bytes).map_err(|detail| self.damaged(&path, detail))
    }

    fn damaged(&self, path: &Path, detail: &str) -> EngineError {
        EngineError::Corrupt {
            kind: self.kind,
            path: path.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

impl Inner {
    fn sync(&mut self) {
        self.durable = self.written;
        if let Some(crash) = &mut self.crash {
            for batch in crash.unsynced.drain(..) {
                apply(&mut crash.durable, &batch);
            }
        }
    }
}

impl KvEngine for MemEngine {
    fn kind(&self) -> EngineKind {
        self.kind
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.check(family)?;
        let inner = self.inner.read_recursive();
        Ok(inner
            .maps
            .get(&family)
            .and_then(|map| map.get(key))
            .cloned())
    }

    fn get_many(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        self.check(family)?;
        let inner = self.inner.read_recursive();
        let map = inner.maps.get(&family);
        let value = |key| map.and_then(|map| map.get(key)).cloned();
        Ok(keys.iter().map(value).collect())
    }

    fn scan(
        &self,
        family: Family,
        scan: Scan<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        self.check(family)?;
        let inner = self.inner.read_recursive();
        let Some(map) = inner.maps.get(&family).filter(|_| !scan.is_empty()) else {
            return Ok(());
        };
        let upper = scan.end.map_or(Bound::Unbounded, Bound::Excluded);
        let mut pairs = map.range::<[u8], _>((Bound::Included(scan.start), upper));
        for _ in 0..scan.limit {
            let next = match scan.direction {
                Direction::Forward => pairs.next(),
                Direction::Backward => pairs.next_back(),
            };
            let Some((key, value)) = next else { break };
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<u64, EngineError> {
        for op in batch.ops() {
            self.check(op.family())?;
        }
        let mut inner = self.inner.write();
        apply(&mut inner.maps, &batch);
        inner.written += 1;
        if let Some(crash) = &mut inner.crash {
            crash.unsynced.push(batch);
        }
        if durability == Durability::Synced {
            inner.sync();
        }
        Ok(inner.written)
    }

    fn make_durable(&self) -> Result<(), EngineError> {
        self.inner.write().sync();
        Ok(())
    }

    fn durable_index(&self) -> u64 {
        self.inner.read().durable
    }

    fn settle(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        let bytes = encode(&self.inner.read().maps);
        if let Some(shelf) = &self.shelf {
            shelf.0.lock().insert(into.to_owned(), bytes);
            return Ok(());
        }
        let failed = |action| {
            let path = into.to_owned();
            move |source| EngineError::Io {
                action,
                path,
                source,
            }
        };
        fs::create_dir(into).map_err(failed("create the folder of a checkpoint"))?;
        let mut file =
            fs::File::create_new(into.join(CHECKPOINT)).map_err(failed("create a checkpoint"))?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed("write a checkpoint"))
    }

    fn restore(&self, from: &Path) -> Result<(), EngineError> {
        let maps = self.read_copy(from)?;
        let mut inner = self.inner.write();
        inner.maps = maps.clone();
        inner.durable = inner.written;
        if let Some(crash) = &mut inner.crash {
            crash.durable = maps;
            crash.unsynced.clear();
        }
        Ok(())
    }

    fn open_copy(&self, from: &Path) -> Result<Box<dyn KvEngine>, EngineError> {
        let copy = Self::new(self.kind);
        copy.inner.write().maps = self.read_copy(from)?;
        Ok(Box::new(copy))
    }

    fn approximate_size(&self, family: Family) -> Result<u64, EngineError> {
        self.check(family)?;
        let inner = self.inner.read_recursive();
        let bytes = inner.maps.get(&family).map_or(0, |map| {
            map.iter().map(|(key, value)| key.len() + value.len()).sum()
        });
        Ok(bytes as u64)
    }
}

fn empty(kind: EngineKind) -> Maps {
    let families = kind.families().iter();
    families.map(|family| (*family, BTreeMap::new())).collect()
}

fn apply(maps: &mut Maps, batch: &Batch) {
    for op in batch.ops() {
        let map = maps.entry(op.family()).or_default();
        match op {
            Op::Put { key, value, .. } => {
                map.insert(key.clone(), value.clone());
            }
            Op::Delete { key, .. } => {
                map.remove(key);
            }
            Op::DeleteRange { start, end, .. } => {
                if start < end {
                    let bounds = (Bound::Included(start), Bound::Excluded(end));
                    let doomed: Vec<_> = map
                        .range::<Vec<u8>, _>(bounds)
                        .map(|(key, _)| key.clone())
                        .collect();
                    for key in doomed {
                        map.remove(&key);
                    }
                }
            }
        }
    }
}

/// Magic, then family name, key and value of each pair, each with its length, then the
/// checksum of everything before.
fn encode(maps: &Maps) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (family, map) in maps {
        for (key, value) in map {
            for part in [family.name().as_bytes(), key, value] {
                out.extend_from_slice(&(part.len() as u64).to_be_bytes());
                out.extend_from_slice(part);
            }
        }
    }
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_be_bytes());
    out
}

fn decode(kind: EngineKind, bytes: &[u8]) -> Result<Maps, &'static str> {
    let (body, checksum) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
        return Err("its checksum is wrong");
    }
    let mut rest = body.strip_prefix(MAGIC).ok_or("it is no such checkpoint")?;
    let mut maps = empty(kind);
    while !rest.is_empty() {
        let name = part(&mut rest)?;
        let key = part(&mut rest)?;
        let value = part(&mut rest)?;
        let family = std::str::from_utf8(name).ok().and_then(Family::from_name);
        let map = family.and_then(|family| maps.get_mut(&family));
        let map = map.ok_or("it names a family that this engine lacks")?;
        map.insert(key.to_vec(), value.to_vec());
    }
    Ok(maps)
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let (length, tail) = rest.split_first_chunk::<8>().ok_or("it is cut short")?;
    let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| "it is cut short")?;
    let (part, tail) = tail.split_at_checked(length).ok_or("it is cut short")?;
    *rest = tail;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::KvEngineExt as _;
    use crate::testing::engine_conformance::{Bench, run};

    struct Memory;

    impl Bench for Memory {
        type Engine = MemEngine;

        fn fresh(&self, kind: EngineKind, _folder: &Path) -> MemEngine {
            MemEngine::crashing(kind)
        }

        fn reopen(&self, engine: MemEngine, _folder: &Path) -> Option<MemEngine> {
            let kept = engine.unsynced();
            Some(engine.after_crash(kept))
        }
    }

    #[test]
    fn it_conforms() {
        let scratch = tempfile::tempdir().unwrap();
        run(&Memory, scratch.path());
    }

    #[test]
    fn a_crash_keeps_a_prefix_that_holds_everything_synced() {
        let engine = MemEngine::crashing(EngineKind::State);
        for number in 0..6u8 {
            let mut batch = Batch::new();
            batch.put(Family::Inodes, [number], "");
            let synced = number == 2;
            let durability = match synced {
                true => Durability::Synced,
                false => Durability::Buffered,
            };
            engine.write(batch, durability).unwrap();
        }
        assert_eq!(engine.unsynced(), 3);
        for kept in 0..=3 {
            let crashed = engine.after_crash(kept);
            let pairs = crashed.scan_to_vec(Family::Inodes, Scan::all()).unwrap();
            assert_eq!(pairs.len(), 3 + kept);
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let engine = MemEngine::new(EngineKind::State);
        let copy = scratch.path().join("copy");
        engine.checkpoint(&copy).unwrap();
        let mut bytes = fs::read(copy.join(CHECKPOINT)).unwrap();
        bytes[3] ^= 1;
        fs::write(copy.join(CHECKPOINT), bytes).unwrap();
        let error = engine.restore(&copy).unwrap_err();
        assert!(matches!(error, EngineError::Corrupt { .. }));
    }
}
