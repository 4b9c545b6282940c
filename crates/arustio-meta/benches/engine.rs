//! What keys cost to make and to read, and a batch on each engine.
#![expect(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use arustio_meta::engine::{Batch, Durability, EngineKind, Family, KvEngine, MemEngine, key};
#[cfg(feature = "rocksdb")]
use arustio_meta::engine::{RocksConfig, RocksEngine};
use arustio_types::{InodeId, MountId, UfsKey};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Names in one batch: about what so many creations write.
const NAMES: u64 = 64;

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("key");
    let (parent, mount) = (InodeId::new(0x1234_5678), MountId::new(3));
    let name = "file-0001.parquet";
    let object = UfsKey::new("warehouse/table/part=7/file-0001.parquet");
    group.bench_function("dentry", |b| {
        b.iter(|| key::dentry(black_box(parent), black_box(name)));
    });
    group.bench_function("inode", |b| b.iter(|| key::inode(black_box(parent))));
    group.bench_function("owed_on", |b| {
        b.iter(|| key::owed_on(black_box(mount), black_box(&object), 7));
    });
    let found = key::dentry(parent, name);
    group.bench_function("name_of_dentry", |b| {
        b.iter(|| key::name_of_dentry(black_box(&found)).map(str::len));
    });
    group.finish();
}

fn batch(from: u64) -> Batch {
    let mut batch = Batch::new();
    for number in from..from + NAMES {
        let name = format!("file-{number:012}.parquet");
        batch.put(Family::Dentries, key::dentry(InodeId::ROOT, &name), [1; 12]);
        batch.put(Family::Inodes, key::inode(InodeId::new(number)), [2; 60]);
    }
    batch
}

fn write(c: &mut Criterion, name: &str, engine: &dyn KvEngine, durability: Durability) {
    let mut group = c.benchmark_group("engine/batch");
    group.throughput(Throughput::Elements(NAMES));
    let mut next = 0;
    group.bench_function(name, |b| {
        let setup = || {
            next += NAMES;
            batch(next)
        };
        let write = |batch| engine.write(batch, durability).expect("the engine writes");
        b.iter_batched(setup, write, BatchSize::SmallInput);
    });
    group.finish();
}

fn engines(c: &mut Criterion) {
    let memory = MemEngine::new(EngineKind::State);
    write(c, "memory", &memory, Durability::Buffered);
    #[cfg(feature = "rocksdb")]
    for (name, durability) in [
        ("rocksdb buffered", Durability::Buffered),
        ("rocksdb synced", Durability::Synced),
    ] {
        let folder = tempfile::tempdir().expect("a folder for a benchmark");
        let config = RocksConfig::default_for(EngineKind::State);
        let path = folder.path().join("state");
        let engine = RocksEngine::open(EngineKind::State, &path, config);
        write(c, name, &engine.expect("a new engine opens"), durability);
    }
}

criterion_group!(benches, keys, engines);
criterion_main!(benches);
