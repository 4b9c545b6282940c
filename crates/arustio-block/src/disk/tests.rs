//! The disk tier: the suite, restarts, damage, faults, crashes, and a model under all of
//! them at once.

use std::collections::HashMap;
use std::time::Duration;

use arustio_types::{ManualClock, MountId, SystemClock};
use proptest::prelude::*;

use super::*;
use crate::chunk::CHUNK;
use crate::testing::conformance::{self, Promises};
use crate::testing::{FaultyDisk, MemDisk, Seed, config, content_bytes, small_key};

const LEN: u64 = 2 * CHUNK;
const PROMISES: Promises = Promises {
    keeps: true,
    durable: true,
};

async fn tier(backend: impl DiskBackend + 'static, capacity: u64) -> DiskTier {
    let tier = start(backend, capacity);
    tier.recovered().await;
    tier
}

fn start(backend: impl DiskBackend + 'static, capacity: u64) -> DiskTier {
    let config = config(0, capacity).disk.unwrap();
    DiskTier::with_backend(Arc::new(backend), config, Arc::new(SystemClock))
}

fn write(key: BlockKey, range: Range<u64>, hint: WriteHint) -> BlockWrite {
    let payload = content_bytes(
        key.content,
        key.start() + range.start,
        range.end - range.start,
    );
    BlockWrite {
        offset: range.start,
        block_len: LEN,
        hint,
        ..BlockWrite::whole(key, MountId::new(1), payload)
    }
}

async fn put(tier: &DiskTier, key: BlockKey) -> WriteOutcome {
    tier.write(write(key, 0..LEN, WriteHint::Cache))
        .await
        .unwrap()
}

async fn is_there(tier: &DiskTier, key: BlockKey) -> bool {
    let parts = tier.read(key, 0..LEN).await.unwrap();
    for part in &parts.parts {
        assert!(part.verify());
        let expected = content_bytes(
            key.content,
            key.start() + part.range.start,
            part.bytes.len() as u64,
        );
        assert_eq!(part.bytes, expected);
    }
    parts.covers(&(0..LEN))
}

fn metrics(tier: &DiskTier) -> TierMetrics {
    tier.metrics()[0]
}

#[tokio::test]
async fn conforms_in_memory() {
    conformance::run(PROMISES, || async {
        Arc::new(tier(MemDisk::new(), 4 << 20).await) as Arc<dyn BlockStore>
    })
    .await;
}

#[tokio::test]
async fn conforms_in_a_directory() {
    let root = tempfile::tempdir().unwrap();
    conformance::run(PROMISES, || async {
        let dir = tempfile::tempdir_in(root.path()).unwrap().keep();
        let config = config(0, 4 << 20).disk.unwrap();
        let tier = DiskTier::open(&dir, config, Arc::new(SystemClock))
            .await
            .unwrap();
        tier.recovered().await;
        Arc::new(tier) as Arc<dyn BlockStore>
    })
    .await;
}

#[tokio::test]
async fn blocks_survive_a_restart_with_their_mount_and_pins() {
    let disk = MemDisk::new();
    let before = tier(disk.clone(), 4 << 20).await;
    put(&before, small_key(1, 0)).await;
    let durable = write(small_key(1, 1), 0..LEN, WriteHint::Durable);
    before.write(durable).await.unwrap();
    let part = write(small_key(1, 2), CHUNK..LEN, WriteHint::Cache);
    before.write(part).await.unwrap();
    let used = before.usage();
    before.close().await;

    let after = tier(disk, 4 << 20).await;
    assert_eq!(after.usage(), used);
    assert_eq!(metrics(&after).recovered, 3);
    assert!(is_there(&after, small_key(1, 0)).await);
    let summaries = after.scan(None, 9).await.unwrap();
    let pinned: Vec<bool> = summaries.iter().map(|summary| summary.pinned).collect();
    assert_eq!(pinned, [false, true, false]);
    assert_eq!(summaries[2].presence.present, CHUNK);
    let removed = after
        .remove(Selector::Mount(MountId::new(1)))
        .await
        .unwrap();
    assert_eq!(removed.blocks, 3);
    assert_eq!(after.usage()[0].used, 0);
}

#[tokio::test]
async fn a_second_process_is_refused_and_may_follow() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let config = config(0, 4 << 20).disk.unwrap();
        DiskTier::open(dir.path(), config, Arc::new(SystemClock))
    };
    let first = open().await.unwrap();
    let refused = open().await.unwrap_err();
    assert!(matches!(refused, BlockError::Locked { .. }), "{refused}");
    first.close().await;
    drop(first);
    open().await.unwrap();
}

#[tokio::test]
async fn reads_are_served_before_the_directory_has_been_read() {
    let disk = MemDisk::new();
    let before = tier(disk.clone(), 4 << 20).await;
    put(&before, small_key(1, 0)).await;
    before.close().await;

    // The scan needs one reader at a time; all but one are left for reads. It is held
    // up by a folder that cannot be listed yet.
    let slow = SlowList::new(disk);
    let after = start(slow.clone(), 4 << 20);
    assert!(is_there(&after, small_key(1, 0)).await);
    assert!(after.contains(small_key(1, 0)).await.unwrap().is_some());
    assert_eq!(after.contains(small_key(1, 1)).await.unwrap(), None);
    let refused = put(&after, small_key(1, 1)).await;
    assert_eq!(refused, WriteOutcome::Rejected(Rejection::Recovering));
    assert!(!after.usage()[0].writable);
    slow.go_on();
    after.recovered().await;
    assert_eq!(after.usage()[0].blocks, 1);
    assert_eq!(put(&after, small_key(1, 1)).await, WriteOutcome::Stored);
}

/// A disk whose listings wait for a word.
#[derive(Debug, Clone)]
struct SlowList {
    inner: MemDisk,
    gate: Arc<(Mutex<bool>, parking_lot::Condvar)>,
}

impl SlowList {
    fn new(inner: MemDisk) -> Self {
        Self {
            inner,
            gate: Arc::default(),
        }
    }

    fn go_on(&self) {
        *self.gate.0.lock() = true;
        self.gate.1.notify_all();
    }
}

impl DiskBackend for SlowList {
    fn put_atomic(&self, name: &str, parts: &[bytes::Bytes], sync: bool) -> std::io::Result<()> {
        self.inner.put_atomic(name, parts, sync)
    }

    fn open(&self, name: &str) -> std::io::Result<Box<dyn DiskFile>> {
        self.inner.open(name)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.inner.remove(name)
    }

    fn list(&self, folder: &str) -> std::io::Result<Vec<String>> {
        let mut open = self.gate.0.lock();
        while !*open {
            self.gate.1.wait(&mut open);
        }
        self.inner.list(folder)
    }

    fn free_space(&self) -> std::io::Result<u64> {
        self.inner.free_space()
    }

    fn check(&self) -> std::io::Result<()> {
        self.inner.check()
    }

    fn sync_dir(&self, folder: &str) -> std::io::Result<()> {
        self.inner.sync_dir(folder)
    }
}

#[tokio::test]
async fn damaged_foreign_and_newer_files_are_dropped_and_counted() {
    let disk = MemDisk::new();
    let before = tier(disk.clone(), 4 << 20).await;
    for index in 0..5 {
        put(&before, small_key(1, index)).await;
    }
    before.close().await;
    let name = |index| file_name(small_key(1, index));
    let change = |index: u64, change: fn(&mut Vec<u8>)| {
        let mut bytes = disk.bytes(&name(index)).unwrap().to_vec();
        change(&mut bytes);
        disk.plant(&name(index), bytes);
    };
    change(0, |bytes| bytes[8] = 9);
    change(1, |bytes| bytes[0] = b'X');
    change(2, |bytes| bytes.truncate(5000));
    change(3, |bytes| bytes[60_000] ^= 1);
    disk.plant(&name(9), disk.bytes(&name(4)).unwrap());
    disk.plant("00/holiday.jpg", "not ours");
    disk.plant(&format::pin_name(small_key(7, 7)), "");

    let after = tier(disk.clone(), 4 << 20).await;
    for index in [0, 1, 2, 9] {
        assert!(!is_there(&after, small_key(1, index)).await);
        assert!(disk.bytes(&name(index)).is_none(), "the file is gone");
    }
    assert_eq!(metrics(&after).foreign, 3);
    assert_eq!(metrics(&after).corruptions, 2);
    // What is wrong with the body shows when it is read.
    assert!(after.contains(small_key(1, 3)).await.unwrap().is_some());
    assert!(!is_there(&after, small_key(1, 3)).await);
    assert_eq!(after.contains(small_key(1, 3)).await.unwrap(), None);
    assert_eq!(metrics(&after).corruptions, 3);
    assert!(is_there(&after, small_key(1, 4)).await);
    assert!(disk.bytes("00/holiday.jpg").is_some(), "left alone");
    assert_eq!(disk.names().len(), 2);
}

#[tokio::test]
async fn a_borrowed_block_was_verified_and_stays_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = || config(0, 200 << 10).disk.unwrap();
    let open = || DiskTier::open(dir.path(), config(), Arc::new(SystemClock));
    let before = open().await.unwrap();
    before.recovered().await;
    put(&before, small_key(1, 0)).await;
    put(&before, small_key(1, 1)).await;
    before.close().await;
    drop(before);
    let path = dir.path().join(file_name(small_key(1, 1)));
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let tier = open().await.unwrap();
    tier.recovered().await;
    let damaged = tier.borrow(small_key(1, 1), 0..10).await.unwrap();
    assert!(damaged.is_none(), "any part of a damaged block");
    let held = tier.borrow(small_key(1, 0), 0..LEN).await.unwrap().unwrap();
    assert!(matches!(held, Borrowed::File(_)));
    for index in 2..8 {
        put(&tier, small_key(1, index)).await;
    }
    assert!(
        is_there(&tier, small_key(1, 0)).await,
        "not evicted while held"
    );
    tier.remove(Selector::Block(small_key(1, 0))).await.unwrap();
    assert!(tier.usage()[0].used > 2 * LEN, "its space is still in use");
    drop(held);
    assert!(tier.usage()[0].used < 2 * LEN);
}

#[tokio::test]
async fn a_full_or_failing_disk_is_left_alone_for_a_while() {
    let disk = MemDisk::new();
    let faulty = FaultyDisk::new(Arc::new(disk), Seed::new(1));
    let clock = Arc::new(ManualClock::default());
    let mut config = config(0, 4 << 20).disk.unwrap();
    config.settings.retry_after = Duration::from_secs(30);
    let tier = DiskTier::with_backend(Arc::new(faulty.clone()), config, Arc::clone(&clock) as _);
    tier.recovered().await;
    put(&tier, small_key(1, 0)).await;
    faulty.full(true);
    let off = WriteOutcome::Rejected(Rejection::WritesOff);
    assert_eq!(put(&tier, small_key(1, 1)).await, off);
    assert!(!tier.usage()[0].writable);
    faulty.full(false);
    assert_eq!(
        put(&tier, small_key(1, 1)).await,
        off,
        "not tried again yet"
    );
    assert!(is_there(&tier, small_key(1, 0)).await, "reads go on");
    clock.advance(Duration::from_secs(31));
    assert_eq!(put(&tier, small_key(1, 1)).await, WriteOutcome::Stored);
    assert!(tier.usage()[0].writable);
    faulty.write_errors(100);
    assert_eq!(put(&tier, small_key(1, 2)).await, off);
    assert_eq!(metrics(&tier).io_errors, 2);
    assert_eq!(
        tier.usage()[0].used,
        2 * (LEN + format::PAGE),
        "nothing leaked"
    );
}

#[tokio::test]
async fn free_space_that_others_need_is_left_to_them() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(1 << 20));
    let mut config = config(0, 4 << 20).disk.unwrap();
    config.settings.min_free = arustio_types::ByteSize::kib(256);
    let tier = DiskTier::with_backend(Arc::new(disk.clone()), config, Arc::new(SystemClock));
    tier.recovered().await;
    for index in 0..40 {
        put(&tier, small_key(1, index)).await;
        assert!(disk.free_space().unwrap() >= 256 << 10);
    }
    assert!(
        is_there(&tier, small_key(1, 39)).await,
        "the cache goes on within the rest"
    );
    disk.plant("elsewhere", vec![0; 900 << 10]);
    let refused = put(&tier, small_key(1, 50)).await;
    assert_eq!(refused, WriteOutcome::Rejected(Rejection::WritesOff));
}

#[tokio::test]
async fn durable_blocks_survive_a_power_failure() {
    for seed in 0..60 {
        let disk = MemDisk::new();
        let before = tier(disk.clone(), 4 << 20).await;
        for index in 0..6 {
            put(&before, small_key(1, index)).await;
        }
        for index in [1, 4, 8] {
            let durable = write(small_key(1, index), 0..LEN, WriteHint::Durable);
            let outcome = before.write(durable).await.unwrap();
            assert!(!matches!(outcome, WriteOutcome::Rejected(_)));
        }
        let after = tier(disk.crash(&mut Seed::new(seed)), 4 << 20).await;
        for index in 0..9 {
            let there = is_there(&after, small_key(1, index)).await;
            assert!(
                there || ![1, 4, 8].contains(&index),
                "seed {seed}, block {index}"
            );
        }
        assert!(after.usage()[0].pinned >= 3 * LEN, "seed {seed}");
    }
}

#[tokio::test]
async fn a_smaller_capacity_is_kept_at_the_next_start() {
    let disk = MemDisk::new();
    let before = tier(disk.clone(), 4 << 20).await;
    for index in 0..20 {
        put(&before, small_key(1, index)).await;
    }
    before.close().await;
    let after = tier(disk, 500 << 10).await;
    assert!(after.usage()[0].used <= 500 << 10);
    assert!(after.usage()[0].blocks > 5);
    assert!(metrics(&after).evictions > 5);
}

/// A tier that looks through so many bytes a second.
async fn scrubbed(backend: impl DiskBackend + 'static, bandwidth: u64) -> DiskTier {
    let mut config = config(0, 4 << 20).disk.unwrap();
    config.settings.scrub_bandwidth = arustio_types::ByteSize(bandwidth);
    let tier = DiskTier::with_backend(Arc::new(backend), config, Arc::new(SystemClock));
    tier.recovered().await;
    tier
}

#[tokio::test(start_paused = true)]
async fn damage_is_found_without_a_reader_and_at_the_configured_rate() {
    let disk = MemDisk::new();
    let before = tier(disk.clone(), 4 << 20).await;
    for index in 0..8 {
        put(&before, small_key(1, index)).await;
    }
    let partial = write(small_key(1, 8), CHUNK..LEN, WriteHint::Cache);
    before.write(partial).await.unwrap();
    before.close().await;
    // A piece a second.
    let tier = scrubbed(disk.clone(), 8 * CHUNK).await;
    // In the body of one and in the header of another.
    for (index, at) in [(2, 60_000), (5, 20)] {
        let name = file_name(small_key(1, index));
        let mut bytes = disk.bytes(&name).unwrap().to_vec();
        bytes[at] ^= 1;
        disk.plant(&name, bytes);
    }
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let early = metrics(&tier);
    assert!(early.scrubbed_blocks <= 4, "{early:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let late = metrics(&tier);
    assert_eq!(late.corruptions, 2);
    assert_eq!(late.scrubbed_blocks, 7);
    assert_eq!(late.scrubbed_bytes, 6 * LEN + CHUNK);
    assert_eq!((late.hits, late.misses), (0, 0), "it is no reader");
    assert_eq!(disk.names().len(), 7);
    // The next round begins a day after this one did.
    tokio::time::sleep(Duration::from_secs(24 * 60 * 60)).await;
    assert_eq!(metrics(&tier).scrubbed_blocks, 14);
    tier.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_does_not_wait_for_the_scrub() {
    let disk = MemDisk::new();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()), Seed::new(3));
    let before = tier(disk.clone(), 4 << 20).await;
    for index in 0..3 {
        put(&before, small_key(1, index)).await;
    }
    before.close().await;
    // At this rate a piece takes an hour.
    let tier = scrubbed(faulty, 8 * CHUNK / 3600).await;
    assert!(is_there(&tier, small_key(1, 1)).await);
    assert!(metrics(&tier).scrubbed_blocks <= 1);
    tier.close().await;
}

#[derive(Debug, Clone)]
enum Op {
    Write(u64, u64, u64),
    Read(u64, u64, u64),
    Remove(u64),
    Flip,
    Kill,
    Crash,
    Faults(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0u64..12;
    prop_oneof![
        8 => (index.clone(), 0..=LEN, 0..=LEN).prop_map(|(i, a, b)| Op::Write(i, a, b)),
        8 => (index.clone(), 0..=LEN, 0..=LEN).prop_map(|(i, a, b)| Op::Read(i, a, b)),
        1 => index.prop_map(Op::Remove),
        2 => Just(Op::Flip),
        1 => Just(Op::Kill),
        1 => Just(Op::Crash),
        1 => any::<bool>().prop_map(Op::Faults),
    ]
}

/// Runs operations on a small disk that breaks in every way we know; a read returns
/// right bytes or fewer.
async fn survive(seed: u64, ops: Vec<Op>) {
    let mut seed = Seed::new(seed);
    let mut disk = MemDisk::new();
    let mut faulty = FaultyDisk::new(Arc::new(disk.clone()), seed.clone());
    let mut store = tier(faulty.clone(), 400 << 10).await;
    let mut written: HashMap<u64, u64> = HashMap::new();
    for op in ops {
        match op {
            Op::Write(index, a, b) => {
                let range = a.min(b)..a.max(b);
                let write = write(small_key(1, index), range, WriteHint::Cache);
                if store.write(write).await.unwrap() == WriteOutcome::Stored {
                    *written.entry(index).or_default() += 1;
                }
            }
            Op::Read(index, a, b) => {
                let key = small_key(1, index);
                let range = a.min(b)..a.max(b);
                let parts = store.read(key, range).await.unwrap();
                for part in parts.parts {
                    assert!(written.contains_key(&index), "bytes from nowhere");
                    let start = key.start() + part.range.start;
                    let expected = content_bytes(key.content, start, part.bytes.len() as u64);
                    assert_eq!(part.bytes, expected);
                    assert!(part.verify());
                }
            }
            Op::Remove(index) => {
                let selector = Selector::Block(small_key(1, index));
                store.remove(selector).await.unwrap();
            }
            Op::Flip => {
                disk.flip_bit(&mut seed);
            }
            Op::Kill | Op::Crash => {
                disk = if matches!(op, Op::Kill) {
                    disk.killed()
                } else {
                    disk.crash(&mut seed)
                };
                faulty = FaultyDisk::new(Arc::new(disk.clone()), seed.clone());
                store.close().await;
                store = tier(faulty.clone(), 400 << 10).await;
            }
            Op::Faults(on) => {
                let percent = if on { 10 } else { 0 };
                faulty.short_reads(percent);
                faulty.bit_flips(percent);
                faulty.read_errors(percent);
                faulty.write_errors(percent);
            }
        }
        let usage = store.usage()[0];
        assert!(usage.used <= usage.capacity, "{usage:?}");
    }
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_fault_returns_a_wrong_byte(seed in any::<u64>(), ops in proptest::collection::vec(op(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(survive(seed, ops));
    }
}
