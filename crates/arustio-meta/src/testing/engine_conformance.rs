//! What every engine must do, as one suite.
//!
//! An implementation hands in a [`Bench`] that opens a fresh engine in a folder and, where
//! it can, opens the same folder again. [`run`] panics with the name of the case that
//! failed, so a test is one line.

use std::ops::ControlFlow;
use std::path::Path;

use crate::engine::{
    Batch, Durability, EngineError, EngineKind, Family, KvEngine, KvEngineExt as _, Scan,
};

/// How to make engines of one implementation.
///
/// # Contract
/// Called by [`run`] on one thread; every folder is used for one engine at a time. May panic
/// where an engine cannot be made, which fails the test.
pub trait Bench {
    /// The implementation.
    type Engine: KvEngine;

    /// An empty engine.
    fn fresh(&self, kind: EngineKind, folder: &Path) -> Self::Engine;

    /// The same engine after a clean or unclean end of its process; `None` where nothing
    /// outlives the process.
    fn reopen(&self, engine: Self::Engine, folder: &Path) -> Option<Self::Engine>;
}

type Case<B> = fn(&B, &Path);

/// Runs every case in folders of their own below `scratch`.
pub fn run<B: Bench>(bench: &B, scratch: &Path) {
    let cases: [(&str, Case<B>); 10] = [
        ("values", values),
        ("families", families),
        ("scans", scans),
        ("ranges", ranges),
        ("order_in_a_batch", order_in_a_batch),
        ("durable_index", durable_index),
        ("reopening", reopening),
        ("checkpoints", checkpoints),
        ("copies", copies),
        ("refusals", refusals),
    ];
    for (name, case) in cases {
        tracing::info!(case = name, "engine conformance");
        let folder = scratch.join(name);
        std::fs::create_dir(&folder).expect("the scratch folder is writable");
        case(bench, &folder);
    }
}

fn put(engine: &impl KvEngine, family: Family, pairs: &[(&str, &str)]) {
    let mut batch = Batch::new();
    for (key, value) in pairs {
        batch.put(family, *key, *value);
    }
    let written = engine.write(batch, Durability::Buffered);
    written.expect("a plain batch is written");
}

fn get(engine: &impl KvEngine, family: Family, key: &str) -> Option<String> {
    let value = engine.get(family, key.as_bytes());
    let value = value.expect("a known family is read");
    value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn keys(engine: &impl KvEngine, family: Family, scan: Scan<'_>) -> String {
    let pairs = engine.scan_to_vec(family, scan);
    let pairs = pairs.expect("a known family is scanned");
    let keys = pairs.iter().map(|(key, _)| String::from_utf8_lossy(key));
    keys.collect::<Vec<_>>().join(" ")
}

fn values<B: Bench>(bench: &B, folder: &Path) {
    let engine = bench.fresh(EngineKind::State, &folder.join("e"));
    assert_eq!(engine.kind(), EngineKind::State);
    assert_eq!(get(&engine, Family::Inodes, "a"), None);
    put(&engine, Family::Inodes, &[("a", "1"), ("b", "")]);
    assert_eq!(get(&engine, Family::Inodes, "a").as_deref(), Some("1"));
    assert_eq!(get(&engine, Family::Inodes, "b").as_deref(), Some(""));
    put(&engine, Family::Inodes, &[("a", "2")]);
    assert_eq!(get(&engine, Family::Inodes, "a").as_deref(), Some("2"));
    let several = ["", "a", "aa", "b", "c"].map(|key| key.as_bytes().to_vec());
    let several = engine.get_many(Family::Inodes, &several);
    let several = several.expect("a known family is read");
    let some = |value: &str| Some(value.as_bytes().to_vec());
    assert_eq!(several, [None, some("2"), None, some(""), None]);
    let none = engine.get_many(Family::Inodes, &[]);
    assert!(none.expect("a known family is read").is_empty());
    let mut batch = Batch::new();
    batch.delete(Family::Inodes, "a");
    batch.delete(Family::Inodes, "never there");
    let written = engine.write(batch, Durability::Synced);
    written.expect("deleting what is absent is fine");
    assert_eq!(get(&engine, Family::Inodes, "a"), None);
}

fn families<B: Bench>(bench: &B, folder: &Path) {
    for kind in [EngineKind::State, EngineKind::Log] {
        let engine = bench.fresh(kind, &folder.join(kind.name()));
        for family in kind.families() {
            put(&engine, *family, &[("key", family.name())]);
        }
        for family in kind.families() {
            let value = get(&engine, *family, "key");
            assert_eq!(value.as_deref(), Some(family.name()));
            let size = engine.approximate_size(*family);
            size.expect("the size of a known family is known");
        }
    }
}

fn scans<B: Bench>(bench: &B, folder: &Path) {
    let engine = bench.fresh(EngineKind::State, &folder.join("e"));
    let family = Family::Dentries;
    let pairs = [("b", ""), ("a", ""), ("c", ""), ("ba", ""), ("\u{ff}", "")];
    put(&engine, family, &pairs);
    put(&engine, Family::Inodes, &[("aa", "")]);
    let check = |scan, expected| assert_eq!(keys(&engine, family, scan), expected);
    check(Scan::all(), "a b ba c \u{ff}");
    check(Scan::all().backward(), "\u{ff} c ba b a");
    check(Scan::all().limit(2), "a b");
    check(Scan::all().backward().limit(2), "\u{ff} c");
    check(Scan::all().limit(0), "");
    check(Scan::range(b"b", Some(b"c")), "b ba");
    check(Scan::range(b"b", Some(b"c")).backward(), "ba b");
    check(Scan::range(b"bb", None), "c \u{ff}");
    check(Scan::range(b"c", Some(b"b")), "");
    check(Scan::range(b"c", Some(b"b")).backward(), "");
    let mut seen = 0;
    let visited = engine.scan(family, Scan::all(), &mut |_, _| {
        seen += 1;
        ControlFlow::Break(())
    });
    visited.expect("a scan may be broken off");
    assert_eq!(seen, 1);
}

fn ranges<B: Bench>(bench: &B, folder: &Path) {
    let engine = bench.fresh(EngineKind::Log, &folder.join("e"));
    put(
        &engine,
        Family::Log,
        &[("a", ""), ("b", ""), ("c", ""), ("d", "")],
    );
    let mut batch = Batch::new();
    batch.delete_range(Family::Log, "b", "d");
    batch.delete_range(Family::Log, "x", "x");
    batch.put(Family::Log, "bb", "");
    let written = engine.write(batch, Durability::Buffered);
    written.expect("a range is deleted");
    assert_eq!(keys(&engine, Family::Log, Scan::all()), "a bb d");
    assert_eq!(get(&engine, Family::Log, "b"), None);
}

fn order_in_a_batch<B: Bench>(bench: &B, folder: &Path) {
    let engine = bench.fresh(EngineKind::State, &folder.join("e"));
    let mut batch = Batch::new();
    batch.put(Family::Meta, "a", "1");
    batch.delete(Family::Meta, "a");
    batch.put(Family::Meta, "a", "2");
    batch.put(Family::Meta, "b", "1");
    batch.delete(Family::Meta, "b");
    let written = engine.write(batch, Durability::Buffered);
    written.expect("a batch may change a key twice");
    assert_eq!(get(&engine, Family::Meta, "a").as_deref(), Some("2"));
    assert_eq!(get(&engine, Family::Meta, "b"), None);
}

fn durable_index<B: Bench>(bench: &B, folder: &Path) {
    let engine = bench.fresh(EngineKind::State, &folder.join("e"));
    assert_eq!(engine.durable_index(), 0);
    let write = |durability| {
        let mut batch = Batch::new();
        batch.put(Family::Meta, "a", "1");
        engine.write(batch, durability).expect("it is written")
    };
    assert_eq!(write(Durability::Buffered), 1);
    assert_eq!(write(Durability::Synced), 2);
    assert_eq!(engine.durable_index(), 2);
    assert_eq!(write(Durability::Buffered), 3);
    engine.make_durable().expect("it can be synced");
    assert_eq!(engine.durable_index(), 3);
}

fn reopening<B: Bench>(bench: &B, folder: &Path) {
    let path = folder.join("e");
    let engine = bench.fresh(EngineKind::State, &path);
    put(&engine, Family::Inodes, &[("a", "1")]);
    put(&engine, Family::Sessions, &[("b", "2")]);
    let Some(engine) = bench.reopen(engine, &path) else {
        return;
    };
    assert_eq!(get(&engine, Family::Inodes, "a").as_deref(), Some("1"));
    assert_eq!(get(&engine, Family::Sessions, "b").as_deref(), Some("2"));
    assert_eq!(engine.durable_index(), 0);
}

fn checkpoints<B: Bench>(bench: &B, folder: &Path) {
    let path = folder.join("e");
    let engine = bench.fresh(EngineKind::State, &path);
    put(&engine, Family::Inodes, &[("a", "1")]);
    put(&engine, Family::Meta, &[("applied", "1")]);
    let copy = folder.join("copy");
    engine.checkpoint(&copy).expect("a checkpoint is made");
    assert!(engine.checkpoint(&copy).is_err(), "the folder exists");
    put(&engine, Family::Inodes, &[("a", "2"), ("b", "2")]);

    let other_path = folder.join("other");
    let other = bench.fresh(EngineKind::State, &other_path);
    put(&other, Family::Inodes, &[("z", "old")]);
    other.restore(&copy).expect("a checkpoint is restored");
    assert_eq!(keys(&other, Family::Inodes, Scan::all()), "a");
    assert_eq!(get(&other, Family::Inodes, "a").as_deref(), Some("1"));
    assert_eq!(get(&other, Family::Meta, "applied").as_deref(), Some("1"));
    put(&other, Family::Inodes, &[("c", "3")]);
    assert_eq!(keys(&other, Family::Inodes, Scan::all()), "a c");
    if let Some(other) = bench.reopen(other, &other_path) {
        assert_eq!(keys(&other, Family::Inodes, Scan::all()), "a c");
    }

    engine.restore(&copy).expect("the copy is still there");
    assert_eq!(keys(&engine, Family::Inodes, Scan::all()), "a");
    assert!(engine.restore(&folder.join("nowhere")).is_err());
    assert_eq!(keys(&engine, Family::Inodes, Scan::all()), "a");
}

fn copies<B: Bench>(bench: &B, folder: &Path) {
    let engine = bench.fresh(EngineKind::State, &folder.join("e"));
    put(&engine, Family::Inodes, &[("a", "1"), ("b", "1")]);
    engine.settle().expect("it settles");
    put(&engine, Family::Meta, &[("applied", "1")]);
    let path = folder.join("copy");
    engine.checkpoint(&path).expect("a checkpoint is made");
    put(&engine, Family::Inodes, &[("a", "2"), ("c", "2")]);
    let copy = engine.open_copy(&path).expect("a copy is opened");
    assert_eq!(copy.kind(), EngineKind::State);
    let pairs = copy.scan_to_vec(Family::Inodes, Scan::all());
    let pairs = pairs.expect("a copy is scanned");
    let pair = |key: &str| (key.as_bytes().to_vec(), b"1".to_vec());
    assert_eq!(pairs, [pair("a"), pair("b")]);
    let applied = copy.get(Family::Meta, b"applied");
    assert_eq!(applied.expect("a copy is read"), Some(b"1".to_vec()));
    assert_eq!(get(&engine, Family::Inodes, "a").as_deref(), Some("2"));
    drop(copy);
    assert!(engine.open_copy(&folder.join("nowhere")).is_err());
    // It is still one from which an engine can be restored.
    engine.restore(&path).expect("the copy is as it was");
    assert_eq!(keys(&engine, Family::Inodes, Scan::all()), "a b");
}

fn refusals<B: Bench>(bench: &B, folder: &Path) {
    let engine = bench.fresh(EngineKind::Log, &folder.join("e"));
    let refused = |error| matches!(error, EngineError::NoSuchFamily { .. });
    assert!(engine.get(Family::Inodes, b"a").is_err_and(refused));
    assert!(engine.approximate_size(Family::Inodes).is_err_and(refused));
    assert!(
        engine
            .scan_to_vec(Family::Inodes, Scan::all())
            .is_err_and(refused)
    );
    let mut batch = Batch::new();
    batch.put(Family::Log, "a", "1");
    batch.put(Family::Inodes, "a", "1");
    let written = engine.write(batch, Durability::Buffered);
    assert!(written.is_err_and(refused));
    assert_eq!(get(&engine, Family::Log, "a"), None);
}
