//! The durable engine: RocksDB, named in this file only.
//!
//! A family is a column family, a batch a write batch, and the write-ahead log is always
//! on: all families share it, so that after a crash they are one prefix together. The
//! *state* engine is tuned for point reads and ordered scans under a bounded cache; the
//! *log* engine for appending, reading back little and deleting ranges.
//!
//! # A folder
//!
//! ```text
//! LOCK      held while the engine is open
//! ENGINE    what this is and in which format; written last when a folder is founded
//! db/       RocksDB
//! db.new/   a restore in the making; complete once db/ has been moved away
//! db.old/   what a restore replaces
//! ```
//!
//! Recovery reads the write-ahead log up to the first record that is not whole: what a
//! lost power leaves behind the last sync is noise. Whether something *synced* was lost is
//! found by whoever compares the two engines (the applied position against the log).

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arustio_types::ByteSize;
use parking_lot::{Mutex, RwLock};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, LIVE_SST_FILES_SIZE};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBCompressionType, DBRecoveryMode, FlushOptions, LogLevel, Options,
    ReadOptions, WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};

use super::{
    Batch, Direction, Durability, EngineError, EngineKind, Family, KvEngine, Op, Scan, Visit,
};

/// The format of the folder, the families and their tuning.
const FORMAT: u32 = 1;
/// First word of the file that names the engine.
const MARK: &str = "arustio-engine";

/// Settings of a RocksDB engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RocksConfig {
    /// Memory for blocks, indexes and filters that were read from disk.
    pub block_cache: ByteSize,
    /// Memory for what is not yet in tables, all families together.
    pub write_buffer: ByteSize,
    /// Most bytes of write-ahead logs; a restart replays at most these.
    pub max_wal: ByteSize,
    /// Most table files that are kept open.
    pub max_open_files: u32,
}

impl RocksConfig {
    /// What suits an engine of this kind where nobody says otherwise.
    pub const fn default_for(kind: EngineKind) -> Self {
        match kind {
            EngineKind::State => Self {
                block_cache: ByteSize::mib(256),
                write_buffer: ByteSize::mib(64),
                max_wal: ByteSize::mib(256),
                max_open_files: 512,
            },
            EngineKind::Log => Self {
                block_cache: ByteSize::mib(8),
                write_buffer: ByteSize::mib(32),
                max_wal: ByteSize::mib(128),
                max_open_files: 64,
            },
        }
    }
}

/// What suits a copy that is read once from its beginning to its end.
const COPY: RocksConfig = RocksConfig {
    block_cache: ByteSize::mib(16),
    write_buffer: ByteSize::mib(8),
    max_wal: ByteSize::mib(8),
    max_open_files: 64,
};

impl Default for RocksConfig {
    fn default() -> Self {
        Self::default_for(EngineKind::State)
    }
}

/// An engine in a folder.
pub struct RocksEngine {
    kind: EngineKind,
    path: PathBuf,
    config: RocksConfig,
    /// `None` after a restore that failed half-way.
    db: RwLock<Option<Arc<DB>>>,
    written: AtomicU64,
    durable: AtomicU64,
    /// One flush, checkpoint or restore at a time.
    exclusive: Mutex<()>,
    /// Holds the folder against other processes until it is dropped; `None` for a copy, of
    /// which nobody else knows.
    lock: Option<File>,
}

impl std::fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksEngine")
            .field("kind", &self.kind)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl RocksEngine {
    /// Opens the engine in a folder, which is made if it does not exist.
    pub fn open(kind: EngineKind, path: &Path, config: RocksConfig) -> Result<Self, EngineError> {
        let folder = Folder { kind, path };
        folder.make()?;
        let lock = folder.lock()?;
        let known = folder.check_mark()?;
        folder.finish_restore()?;
        let db = open_db(kind, path, &config, !known)?;
        if !known {
            folder.write_mark()?;
        }
        Ok(Self {
            kind,
            path: path.to_owned(),
            config,
            db: RwLock::new(Some(Arc::new(db))),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            exclusive: Mutex::new(()),
            lock: Some(lock),
        })
    }

    /// Rewrites every family as one level without what was replaced or deleted. Blocks for
    /// as long as that takes; for tools and measurements, never for a server at work.
    pub fn compact(&self) -> Result<(), EngineError> {
        self.settle()?;
        let db = self.db()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for family in self.kind.families() {
            let handle = self.family(&db, *family)?;
            db.compact_range_cf_opt(handle, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    fn db(&self) -> Result<Arc<DB>, EngineError> {
        let db = self.db.read();
        db.clone().ok_or_else(|| EngineError::Closed {
            kind: self.kind,
            path: self.path.clone(),
        })
    }

    fn family<'d>(&self, db: &'d DB, family: Family) -> Result<&'d ColumnFamily, EngineError> {
        let handle = db.cf_handle(family.name());
        handle.ok_or(EngineError::NoSuchFamily {
            kind: self.kind,
            family,
        })
    }

    fn failed(&self, action: &'static str, error: &rocksdb::Error) -> EngineError {
        translate(self.kind, &self.path, action, error)
    }

    /// Moves a staged copy into the place of the database, which nobody holds any more.
    fn swap(&self) -> Result<DB, EngineError> {
        let folder = self.folder();
        let (db, new, old) = (
            folder.part("db"),
            folder.part("db.new"),
            folder.part("db.old"),
        );
        rename(&db, &old)?;
        rename(&new, &db)?;
        sync_folder(&self.path)?;
        match self.reopen() {
            Ok(opened) => {
                remove(&old)?;
                Ok(opened)
            }
            Err(error) => {
                remove(&db)?;
                rename(&old, &db)?;
                sync_folder(&self.path)?;
                Err(error)
            }
        }
    }

    fn reopen(&self) -> Result<DB, EngineError> {
        open_db(self.kind, &self.path, &self.config, false)
    }

    fn folder(&self) -> Folder<'_> {
        Folder {
            kind: self.kind,
            path: &self.path,
        }
    }
}

impl KvEngine for RocksEngine {
    fn kind(&self) -> EngineKind {
        self.kind
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let db = self.db()?;
        let handle = self.family(&db, family)?;
        let value = db
            .get_pinned_cf(handle, key)
            .map_err(|error| self.failed("read", &error))?;
        Ok(value.map(|bytes| bytes.to_vec()))
    }

    fn get_many(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let db = self.db()?;
        let handle = self.family(&db, family)?;
        let values = db.batched_multi_get_cf(handle, keys, true);
        let values = values.into_iter().map(|value| {
            let value = value.map_err(|error| self.failed("read", &error))?;
            Ok(value.map(|bytes| bytes.to_vec()))
        });
        values.collect()
    }

    fn scan(
        &self,
        family: Family,
        scan: Scan<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let db = self.db()?;
        let handle = self.family(&db, family)?;
        if scan.is_empty() {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(scan.start);
        if let Some(end) = scan.end {
            options.set_iterate_upper_bound(end);
        }
        let mut pairs = db.raw_iterator_cf_opt(handle, options);
        match scan.direction {
            Direction::Forward => pairs.seek(scan.start),
            Direction::Backward => pairs.seek_to_last(),
        }
        for _ in 0..scan.limit {
            let Some((key, value)) = pairs.item() else {
                break;
            };
            if visit(key, value).is_break() {
                return Ok(());
            }
            match scan.direction {
                Direction::Forward => pairs.next(),
                Direction::Backward => pairs.prev(),
            }
        }
        pairs.status().map_err(|error| self.failed("scan", &error))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<u64, EngineError> {
        let db = self.db()?;
        let mut native = WriteBatch::default();
        for op in batch.ops() {
            let handle = self.family(&db, op.family())?;
            match op {
                Op::Put { key, value, .. } => native.put_cf(handle, key, value),
                Op::Delete { key, .. } => native.delete_cf(handle, key),
                Op::DeleteRange { start, end, .. } if start < end => {
                    native.delete_range_cf(handle, start, end);
                }
                Op::DeleteRange { .. } => {}
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        db.write_opt(native, &options)
            .map_err(|error| self.failed("write", &error))?;
        let index = self.written.fetch_add(1, Ordering::AcqRel) + 1;
        if durability == Durability::Synced {
            self.durable.fetch_max(index, Ordering::AcqRel);
        }
        Ok(index)
    }

    fn make_durable(&self) -> Result<(), EngineError> {
        let written = self.written.load(Ordering::Acquire);
        self.db()?
            .flush_wal(true)
            .map_err(|error| self.failed("sync", &error))?;
        self.durable.fetch_max(written, Ordering::AcqRel);
        Ok(())
    }

    fn durable_index(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    fn settle(&self) -> Result<(), EngineError> {
        // A restore waits for it, since it needs the database for itself.
        let _one = self.exclusive.lock();
        let db = self.db()?;
        let families = self.kind.families().iter();
        let handles = families.map(|family| self.family(&db, *family));
        let handles = handles.collect::<Result<Vec<_>, _>>()?;
        db.flush_cfs_opt(&handles, &FlushOptions::default())
            .map_err(|error| self.failed("flush", &error))
    }

    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        let _one = self.exclusive.lock();
        let db = self.db()?;
        let failed = |error| self.failed("make a checkpoint", &error);
        let checkpoint = Checkpoint::new(db.as_ref()).map_err(failed)?;
        checkpoint.create_checkpoint(into).map_err(failed)
    }

    fn restore(&self, from: &Path) -> Result<(), EngineError> {
        let _one = self.exclusive.lock();
        if self.lock.is_none() {
            return Err(EngineError::Backend {
                kind: self.kind,
                path: self.path.clone(),
                action: "restore",
                detail: "it is a copy, which is only read".to_owned(),
            });
        }
        self.folder().stage(from)?;
        let mut slot = self.db.write();
        let in_use = || EngineError::Backend {
            kind: self.kind,
            path: self.path.clone(),
            action: "restore",
            detail: "it is being read or written".to_owned(),
        };
        if let Some(db) = slot.take() {
            match Arc::try_unwrap(db) {
                Ok(db) => drop(db),
                Err(db) => {
                    *slot = Some(db);
                    return Err(in_use());
                }
            }
        }
        let result = self.swap();
        let (opened, error) = match result {
            Ok(db) => (Some(db), None),
            Err(error) => {
                let recovered = self.folder().finish_restore();
                (recovered.and_then(|()| self.reopen()).ok(), Some(error))
            }
        };
        *slot = opened.map(Arc::new);
        let written = self.written.load(Ordering::Acquire);
        self.durable.fetch_max(written, Ordering::AcqRel);
        error.map_or(Ok(()), Err)
    }

    fn open_copy(&self, from: &Path) -> Result<Box<dyn KvEngine>, EngineError> {
        let db = open_copy(self.kind, from)?;
        Ok(Box::new(Self {
            kind: self.kind,
            path: from.to_owned(),
            config: COPY,
            db: RwLock::new(Some(Arc::new(db))),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            exclusive: Mutex::new(()),
            lock: None,
        }))
    }

    fn approximate_size(&self, family: Family) -> Result<u64, EngineError> {
        let db = self.db()?;
        let handle = self.family(&db, family)?;
        let mut bytes = 0;
        for property in [CUR_SIZE_ALL_MEM_TABLES, LIVE_SST_FILES_SIZE] {
            let size = db
                .property_int_value_cf(handle, property)
                .map_err(|error| self.failed("measure", &error))?;
            bytes += size.unwrap_or(0);
        }
        Ok(bytes)
    }
}

/// Opens `db/` with every family of the kind. One that should be there and is not is never
/// replaced by an empty one.
fn open_db(
    kind: EngineKind,
    path: &Path,
    config: &RocksConfig,
    create: bool,
) -> Result<DB, EngineError> {
    let db_path = path.join("db");
    let mut options = db_options(kind, config);
    options.create_if_missing(create);
    let failed = |error: &rocksdb::Error| translate(kind, path, "open", error);
    if db_path.join("CURRENT").exists() {
        let known = DB::list_cf(&options, &db_path).map_err(|error| failed(&error))?;
        let foreign = known.iter().find(|name| {
            let family = Family::from_name(name);
            *name != "default" && family.is_none_or(|family| !kind.families().contains(&family))
        });
        if let Some(foreign) = foreign {
            return Err(EngineError::NotAnEngine {
                expected: kind,
                path: path.to_owned(),
                found: format!("it has the family {foreign}, which this release does not know"),
            });
        }
    }
    DB::open_cf_descriptors(&options, &db_path, descriptors(kind, config))
        .map_err(|error| failed(&error))
}

fn descriptors(kind: EngineKind, config: &RocksConfig) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(bytes(config.block_cache));
    let families = kind.families().iter().map(|family| {
        let options = family_options(*family, config, &cache);
        ColumnFamilyDescriptor::new(family.name(), options)
    });
    families.collect()
}

/// Opens a checkpoint where it lies, to be read only.
fn open_copy(kind: EngineKind, from: &Path) -> Result<DB, EngineError> {
    let options = db_options(kind, &COPY);
    let families = descriptors(kind, &COPY);
    DB::open_cf_descriptors_read_only(&options, from, families, false)
        .map_err(|error| translate(kind, from, "open", &error))
}

fn db_options(kind: EngineKind, config: &RocksConfig) -> Options {
    let mut options = Options::default();
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(match kind {
        // Whatever is whole was promised to others: only a last write that a crash cut off
        // may be missing, and damage before the end is no end.
        EngineKind::Log => DBRecoveryMode::TolerateCorruptedTailRecords,
        // What is missing is applied once more from the log.
        EngineKind::State => DBRecoveryMode::PointInTime,
    });
    options.set_max_total_wal_size(config.max_wal.get());
    options.set_db_write_buffer_size(bytes(config.write_buffer));
    options.set_max_open_files(i32::try_from(config.max_open_files).unwrap_or(i32::MAX));
    options.set_max_background_jobs(2);
    // What is written in one go is also written back in steps, so that a sync finds
    // little left to do.
    options.set_bytes_per_sync(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    // One thread writes; the machinery for several only costs.
    options.set_enable_pipelined_write(false);
    options.set_allow_concurrent_memtable_write(false);
    if kind == EngineKind::State {
        options.set_skip_stats_update_on_db_open(true);
    }
    options
}

fn family_options(family: Family, config: &RocksConfig, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(6);
    // Indexes and filters count against the cache: memory is bounded by the settings and
    // not by the number of files.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if family != Family::Log {
        table.set_bloom_filter(10.0, false);
        table.set_optimize_filters_for_memory(true);
        table.set_block_size(8 << 10);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(bytes(config.write_buffer));
    options.set_level_compaction_dynamic_level_bytes(true);
    // The last level holds nine tenths of the data; above it, and in the log, which is
    // deleted before it gets there, compression would cost more than it saves.
    options.set_compression_type(DBCompressionType::None);
    if family != Family::Log {
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
    }
    options
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.get()).unwrap_or(usize::MAX)
}

fn translate(
    kind: EngineKind,
    path: &Path,
    action: &'static str,
    error: &rocksdb::Error,
) -> EngineError {
    use rocksdb::ErrorKind as Native;
    let detail = error.to_string();
    let path = path.to_owned();
    match error.kind() {
        Native::Corruption => EngineError::Corrupt { kind, path, detail },
        Native::IOError if detail.contains("No space left") => EngineError::NoSpace { kind, path },
        Native::IOError if detail.contains("lock") => EngineError::Locked { kind, path },
        Native::InvalidArgument | Native::NotFound if action == "open" => {
            EngineError::Corrupt { kind, path, detail }
        }
        Native::NotFound
        | Native::NotSupported
        | Native::InvalidArgument
        | Native::IOError
        | Native::MergeInProgress
        | Native::Incomplete
        | Native::ShutdownInProgress
        | Native::TimedOut
        | Native::Aborted
        | Native::Busy
        | Native::Expired
        | Native::TryAgain
        | Native::CompactionTooLarge
        | Native::ColumnFamilyDropped
        | Native::Unknown => EngineError::Backend {
            kind,
            path,
            action,
            detail,
        },
    }
}

/// The folder around the database.
#[derive(Debug, Clone, Copy)]
struct Folder<'a> {
    kind: EngineKind,
    path: &'a Path,
}

impl Folder<'_> {
    fn part(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn make(&self) -> Result<(), EngineError> {
        if self.path.is_dir() {
            return Ok(());
        }
        let made = fs::create_dir_all(self.path);
        made.map_err(io_error("create the folder", self.path))?;
        self.path.parent().map_or(Ok(()), sync_folder)
    }

    fn lock(&self) -> Result<File, EngineError> {
        let path = self.part("LOCK");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error("open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(EngineError::Locked {
                kind: self.kind,
                path: self.path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(io_error("take the lock", &path)(source)),
        }
    }

    /// Whether the folder is already an engine of this kind and of a format that we read.
    fn check_mark(&self) -> Result<bool, EngineError> {
        let path = self.part("ENGINE");
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io_error("read the mark", &path)(error)),
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let not_ours = |found: String| EngineError::NotAnEngine {
            expected: self.kind,
            path: self.path.to_owned(),
            found,
        };
        let [MARK, kind, "format", format] = words.as_slice() else {
            return Err(not_ours("its file ENGINE cannot be read".to_owned()));
        };
        if *kind != self.kind.name() {
            return Err(not_ours(format!("it is a {kind} engine")));
        }
        let format: u32 = format
            .parse()
            .map_err(|_| not_ours("its format is no number".to_owned()))?;
        if format > FORMAT {
            return Err(EngineError::NewerFormat {
                kind: self.kind,
                path: self.path.to_owned(),
                found: format,
                supported: FORMAT,
            });
        }
        Ok(true)
    }

    fn write_mark(&self) -> Result<(), EngineError> {
        let (draft, path) = (self.part("ENGINE.new"), self.part("ENGINE"));
        let text = format!("{MARK} {} format {FORMAT}\n", self.kind.name());
        fs::write(&draft, text)
            .and_then(|()| File::open(&draft)?.sync_all())
            .map_err(io_error("write the mark", &draft))?;
        rename(&draft, &path)?;
        sync_folder(self.path)
    }

    /// Ends what a crash in the middle of a restore left.
    fn finish_restore(&self) -> Result<(), EngineError> {
        let (db, new, old) = (self.part("db"), self.part("db.new"), self.part("db.old"));
        if !db.exists() && old.exists() {
            // The copy was complete before the old content was moved away.
            rename(if new.exists() { &new } else { &old }, &db)?;
            sync_folder(self.path)?;
        }
        remove(&new)?;
        remove(&old)
    }

    /// Copies a checkpoint to where the next step moves it from.
    fn stage(&self, from: &Path) -> Result<(), EngineError> {
        let new = self.part("db.new");
        let failed = |action| io_error(action, from);
        if !from.join("CURRENT").exists() {
            return Err(EngineError::NotAnEngine {
                expected: self.kind,
                path: from.to_owned(),
                found: "it is no checkpoint".to_owned(),
            });
        }
        remove(&new)?;
        fs::create_dir(&new).map_err(io_error("create the folder", &new))?;
        for entry in fs::read_dir(from).map_err(failed("list a checkpoint"))? {
            let entry = entry.map_err(failed("list a checkpoint"))?;
            let (source, target) = (entry.path(), new.join(entry.file_name()));
            // Tables never change, so a second name for them will do.
            let table = source.extension().is_some_and(|ext| ext == "sst");
            if table && fs::hard_link(&source, &target).is_ok() {
                continue;
            }
            fs::copy(&source, &target)
                .and_then(|_| File::open(&target)?.sync_all())
                .map_err(io_error("copy a checkpoint", &target))?;
        }
        sync_folder(&new)?;
        sync_folder(self.path)
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), EngineError> {
    fs::rename(from, to).map_err(io_error("rename", from))
}

fn remove(path: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<(), EngineError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("sync the folder", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EngineError + use<> {
    let path = path.to_owned();
    move |source| EngineError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests;
