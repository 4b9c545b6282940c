//! What only RocksDB can get wrong: folders, locks, damage, formats.

use super::*;
use crate::testing::engine_conformance::{Bench, run};

struct Rocks;

fn open(kind: EngineKind, path: &Path) -> Result<RocksEngine, EngineError> {
    RocksEngine::open(kind, path, RocksConfig::default_for(kind))
}

impl Bench for Rocks {
    type Engine = RocksEngine;

    fn fresh(&self, kind: EngineKind, folder: &Path) -> RocksEngine {
        open(kind, folder).unwrap()
    }

    fn reopen(&self, engine: RocksEngine, folder: &Path) -> Option<RocksEngine> {
        let kind = engine.kind();
        drop(engine);
        Some(open(kind, folder).unwrap())
    }
}

fn filled(path: &Path) {
    let engine = open(EngineKind::State, path).unwrap();
    let mut batch = Batch::new();
    batch.put(Family::Inodes, "a", "1");
    engine.write(batch, Durability::Synced).unwrap();
}

#[test]
fn it_conforms() {
    let scratch = tempfile::tempdir().unwrap();
    run(&Rocks, scratch.path());
}

#[test]
fn a_folder_in_use_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let engine = open(EngineKind::Log, scratch.path()).unwrap();
    let error = open(EngineKind::Log, scratch.path()).unwrap_err();
    assert!(matches!(error, EngineError::Locked { .. }), "{error}");
    drop(engine);
    open(EngineKind::Log, scratch.path()).unwrap();
}

#[test]
fn a_folder_of_another_kind_or_a_later_release_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    filled(scratch.path());
    let error = open(EngineKind::Log, scratch.path()).unwrap_err();
    assert!(matches!(error, EngineError::NotAnEngine { .. }), "{error}");
    let mark = scratch.path().join("ENGINE");
    fs::write(&mark, "arustio-engine state format 7\n").unwrap();
    let error = open(EngineKind::State, scratch.path()).unwrap_err();
    assert!(
        matches!(error, EngineError::NewerFormat { found: 7, .. }),
        "{error}"
    );
    fs::write(&mark, [0xff, 0]).unwrap();
    let error = open(EngineKind::State, scratch.path()).unwrap_err();
    assert!(matches!(error, EngineError::NotAnEngine { .. }), "{error}");
}

#[test]
fn damage_is_reported_as_damage() {
    let scratch = tempfile::tempdir().unwrap();
    filled(scratch.path());
    let db = scratch.path().join("db");
    for entry in fs::read_dir(&db).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("MANIFEST") {
            fs::write(&path, b"not a manifest").unwrap();
        }
    }
    let error = open(EngineKind::State, scratch.path()).unwrap_err();
    assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
}

/// A copy of an engine that was killed after some synced writes, `harm` done to what they
/// were written to first.
fn killed(kind: EngineKind, family: Family, harm: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let (living, killed) = (scratch.path().join("living"), scratch.path().join("db"));
    let engine = open(kind, &living).unwrap();
    for name in ["a", "b", "c"] {
        let mut batch = Batch::new();
        batch.put(family, name, vec![7; 100]);
        engine.write(batch, Durability::Synced).unwrap();
    }
    fs::copy(living.join("ENGINE"), scratch.path().join("ENGINE")).unwrap();
    fs::create_dir(&killed).unwrap();
    for entry in fs::read_dir(living.join("db")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), killed.join(entry.file_name())).unwrap();
    }
    let is_wal = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let paths = fs::read_dir(&killed).unwrap();
    let wal = paths.map(|entry| entry.unwrap().path()).find(is_wal);
    let wal = wal.unwrap();
    let mut bytes = fs::read(&wal).unwrap();
    harm(&mut bytes);
    fs::write(&wal, bytes).unwrap();
    scratch
}

fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] ^= 0x5a;
}

#[test]
fn n3_a_damaged_write_of_the_log_is_refused_and_only_a_cut_off_one_is_left_out() {
    let (log, family) = (EngineKind::Log, Family::Log);
    for at_end in [false, true] {
        let harm = |bytes: &mut Vec<u8>| {
            let at = if at_end { bytes.len() - 20 } else { 30 };
            flip(bytes, at);
        };
        let scratch = killed(log, family, harm);
        let error = open(log, scratch.path()).unwrap_err();
        assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("raft remove"), "{error}");
    }
    let scratch = killed(log, family, |bytes| bytes.truncate(bytes.len() - 20));
    let engine = open(log, scratch.path()).unwrap();
    assert!(engine.get(family, b"b").unwrap().is_some());
    assert_eq!(engine.get(family, b"c").unwrap(), None);
}

#[test]
fn a_state_ends_where_its_damage_begins() {
    let (state, family) = (EngineKind::State, Family::Inodes);
    let scratch = killed(state, family, |bytes| {
        let at = bytes.len() / 2;
        flip(bytes, at);
    });
    let engine = open(state, scratch.path()).unwrap();
    assert!(engine.get(family, b"a").unwrap().is_some());
    assert_eq!(engine.get(family, b"c").unwrap(), None);
}

#[test]
fn a_restore_that_a_crash_interrupts_leaves_either_content() {
    for (moved_away, staged, expected) in
        [(true, true, "2"), (true, false, "1"), (false, true, "1")]
    {
        let scratch = tempfile::tempdir().unwrap();
        let (path, other) = (scratch.path().join("e"), scratch.path().join("other"));
        filled(&path);
        {
            let engine = open(EngineKind::State, &other).unwrap();
            let mut batch = Batch::new();
            batch.put(Family::Inodes, "a", "2");
            engine.write(batch, Durability::Synced).unwrap();
            engine.checkpoint(&scratch.path().join("copy")).unwrap();
        }
        let folder = Folder {
            kind: EngineKind::State,
            path: &path,
        };
        if staged {
            folder.stage(&scratch.path().join("copy")).unwrap();
        }
        if moved_away {
            fs::rename(path.join("db"), path.join("db.old")).unwrap();
        }
        let engine = open(EngineKind::State, &path).unwrap();
        let value = engine.get(Family::Inodes, b"a").unwrap().unwrap();
        assert_eq!(value, expected.as_bytes());
        assert!(!path.join("db.old").exists() && !path.join("db.new").exists());
    }
}

#[test]
fn a_database_that_is_gone_is_not_replaced_by_an_empty_one() {
    let scratch = tempfile::tempdir().unwrap();
    filled(scratch.path());
    fs::remove_dir_all(scratch.path().join("db")).unwrap();
    let error = open(EngineKind::State, scratch.path()).unwrap_err();
    assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
}

#[test]
fn compaction_leaves_what_is_there_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let engine = open(EngineKind::State, scratch.path()).unwrap();
    let numbers = 0..20_000u32;
    for number in numbers.clone() {
        let mut batch = Batch::new();
        batch.put(Family::Inodes, number.to_be_bytes(), [7; 64]);
        engine.write(batch, Durability::Buffered).unwrap();
    }
    engine.settle().unwrap();
    let full = engine.approximate_size(Family::Inodes).unwrap();
    let mut batch = Batch::new();
    for number in numbers.skip(10) {
        batch.delete(Family::Inodes, number.to_be_bytes());
    }
    engine.write(batch, Durability::Buffered).unwrap();
    engine.compact().unwrap();
    let left = engine.approximate_size(Family::Inodes).unwrap();
    assert!(left < full / 10, "{left} of {full}");
    assert_eq!(
        engine.get(Family::Inodes, &9u32.to_be_bytes()).unwrap(),
        Some(vec![7; 64])
    );
    assert_eq!(
        engine.get(Family::Inodes, &10u32.to_be_bytes()).unwrap(),
        None
    );
}
