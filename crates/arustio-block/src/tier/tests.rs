//! The two tiers together: what moves when, and a model with bit flips and restarts.

mod clocks;

use std::time::Duration;

use arustio_types::SystemClock;
use proptest::prelude::*;

use super::*;
use crate::DiskTier;
use crate::chunk::CHUNK;
use crate::config::CheckedConfig;
use crate::testing::conformance::{self, Promises};
use crate::testing::{FaultyDisk, MemDisk, Seed, config, content_bytes, heap_config, small_key};

const LEN: u64 = 2 * CHUNK;

async fn store(disk: impl crate::DiskBackend + 'static, memory: u64) -> TieredStore {
    store_of(disk, config(memory, 4 << 20)).await
}

async fn store_of(disk: impl crate::DiskBackend + 'static, config: CheckedConfig) -> TieredStore {
    let clock = Arc::new(SystemClock);
    let memory = MemoryTier::new(&config.memory, Arc::clone(&clock) as _);
    let disk = DiskTier::with_backend(Arc::new(disk), config.disk.unwrap(), clock);
    disk.recovered().await;
    TieredStore::new(memory, disk)
}

fn write(key: BlockKey, range: Range<u64>) -> BlockWrite {
    let payload = content_bytes(
        key.content,
        key.start() + range.start,
        range.end - range.start,
    );
    BlockWrite {
        offset: range.start,
        block_len: LEN,
        ..BlockWrite::whole(key, MountId::new(1), payload)
    }
}

async fn put(store: &TieredStore, key: BlockKey, range: Range<u64>) -> WriteOutcome {
    store.write(write(key, range)).await.unwrap()
}

async fn there(store: &TieredStore, key: BlockKey, range: Range<u64>) -> u64 {
    let parts = store.read(key, range).await.unwrap();
    for part in &parts.parts {
        let start = key.start() + part.range.start;
        let expected = content_bytes(key.content, start, part.bytes.len() as u64);
        assert_eq!(part.bytes, expected);
        assert!(part.verify());
    }
    parts.len()
}

#[tokio::test]
async fn conforms() {
    let promises = Promises {
        keeps: true,
        durable: true,
    };
    conformance::run(promises, || async {
        Arc::new(store(MemDisk::new(), 1 << 20).await) as Arc<dyn BlockStore>
    })
    .await;
    conformance::run(promises, || async {
        let config = heap_config(1 << 20, 4 << 20);
        Arc::new(store_of(MemDisk::new(), config).await) as Arc<dyn BlockStore>
    })
    .await;
    conformance::run(promises, || async {
        Arc::new(store(MemDisk::new(), 16 << 10).await) as Arc<dyn BlockStore>
    })
    .await;
}

#[tokio::test]
async fn without_memory_blocks_that_come_in_parts_are_kept_all_the_same() {
    let disk = MemDisk::new();
    let store = store(disk.clone(), 0).await;
    for chunk in [0, 1] {
        let range = chunk * CHUNK..(chunk + 1) * CHUNK;
        let stored = put(&store, small_key(1, 0), range).await;
        assert_eq!(stored, WriteOutcome::Stored);
    }
    assert_eq!(there(&store, small_key(1, 0), 0..LEN).await, LEN);
    assert_eq!(disk.names().len(), 1);
}

#[tokio::test]
async fn complete_blocks_reach_the_disk_and_come_back_to_memory() {
    let disk = MemDisk::new();
    let before = store(disk.clone(), 1 << 20).await;
    put(&before, small_key(1, 0), 0..CHUNK).await;
    before.settled().await;
    assert!(disk.names().is_empty(), "a partial block stays in memory");
    put(&before, small_key(1, 0), CHUNK..LEN).await;
    before.settled().await;
    assert_eq!(disk.names().len(), 1);

    let after = store(disk.killed(), 1 << 20).await;
    assert!(after.try_read_memory(small_key(1, 0), 0..LEN).is_none());
    assert_eq!(there(&after, small_key(1, 0), 0..LEN).await, LEN);
    assert!(after.try_read_memory(small_key(1, 0), 0..LEN).is_some());
    let [memory, disk] = after.metrics()[..] else {
        unreachable!("two tiers");
    };
    assert_eq!((memory.hits, memory.misses, disk.hits), (1, 1, 1));
}

#[tokio::test]
async fn partial_blocks_are_written_when_memory_needs_their_space_and_merged() {
    let disk = MemDisk::new();
    let store = store(disk.clone(), 110 << 10).await;
    put(&store, small_key(1, 0), 0..CHUNK).await;
    for index in 1..4 {
        put(&store, small_key(1, index), 0..LEN).await;
        store.settled().await;
    }
    put(&store, small_key(1, 0), CHUNK..LEN).await;
    assert_eq!(
        there(&store, small_key(1, 0), 0..LEN).await,
        LEN,
        "half here, half there"
    );
    for index in 4..8 {
        put(&store, small_key(1, index), 0..LEN).await;
        store.settled().await;
    }
    let presence = store.contains(small_key(1, 0)).await.unwrap().unwrap();
    assert!(presence.is_complete());
    assert_eq!(disk.names().len(), 8);
}

#[tokio::test]
async fn closing_writes_out_what_is_only_in_memory() {
    let disk = MemDisk::new();
    let before = store(disk.clone(), 1 << 20).await;
    put(&before, small_key(1, 0), 0..CHUNK).await;
    put(&before, small_key(1, 1), 0..LEN).await;
    before.close().await;
    let after = store(disk.killed(), 1 << 20).await;
    assert_eq!(there(&after, small_key(1, 0), 0..LEN).await, CHUNK);
    assert_eq!(there(&after, small_key(1, 1), 0..LEN).await, LEN);
}

#[tokio::test]
async fn a_slow_disk_slows_no_write_and_a_removed_block_stays_removed() {
    let disk = MemDisk::new();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()), Seed::new(3));
    let store = store(faulty.clone(), 1 << 20).await;
    let stall = faulty.stall();
    for index in 0..4 {
        let outcome = put(&store, small_key(1, index), 0..LEN).await;
        assert_eq!(outcome, WriteOutcome::Stored);
        assert!(store.try_read_memory(small_key(1, index), 0..LEN).is_some());
    }
    while faulty.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let removing = store.remove(Selector::Mount(MountId::new(1)));
    let removing = tokio::time::timeout(Duration::from_millis(1), removing);
    assert!(removing.await.is_err(), "the disk part waits for the disk");
    drop(stall);
    store.settled().await;
    assert!(disk.names().is_empty(), "{:?}", disk.names());
    assert_eq!(there(&store, small_key(1, 0), 0..LEN).await, 0);
}

#[tokio::test]
async fn what_was_being_written_when_it_was_removed_is_gone_after_that() {
    for seed in 0..50 {
        let disk = MemDisk::new();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()), Seed::new(seed));
        let store = store(faulty.clone(), 1 << 20).await;
        let stall = faulty.stall();
        for index in 0..4 {
            put(&store, small_key(1, index), 0..LEN).await;
        }
        while faulty.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let removing = store.remove(Selector::Mount(MountId::new(1)));
        let going_on = async {
            tokio::task::yield_now().await;
            drop(stall);
        };
        let (removed, ()) = tokio::join!(removing, going_on);
        removed.unwrap();
        for index in 0..4 {
            assert_eq!(
                there(&store, small_key(1, index), 0..LEN).await,
                0,
                "seed {seed}"
            );
        }
    }
}

/// A store whose disk stands still until told otherwise, with room for so many blocks on
/// the way to it.
async fn slow_store(disk: &MemDisk, memory: u64, blocks: u64) -> (TieredStore, FaultyDisk) {
    let faulty = FaultyDisk::new(Arc::new(disk.clone()), Seed::new(3));
    let mut config = config(memory, 4 << 20);
    if let Some(disk) = &mut config.disk {
        disk.settings.write_behind = arustio_types::ByteSize(blocks * LEN);
    }
    (store_of(faulty.clone(), config).await, faulty)
}

#[tokio::test]
async fn more_than_fits_on_the_way_to_disk_stays_in_memory() {
    let disk = MemDisk::new();
    let (store, faulty) = slow_store(&disk, 4 << 20, 6).await;
    let stall = faulty.stall();
    for index in 0..10 {
        put(&store, small_key(1, index), 0..LEN).await;
    }
    assert_eq!(store.metrics()[1].not_admitted, 0);
    drop(stall);
    store.settled().await;
    assert_eq!(disk.names().len(), 10);
}

#[tokio::test]
async fn what_waits_is_admitted_however_its_size_differs_from_what_is_on_the_way() {
    let disk = MemDisk::new();
    let (store, faulty) = slow_store(&disk, 4 << 20, 2).await;
    let stall = faulty.stall();
    let small = small_key(2, 0);
    let payload = content_bytes(small.content, small.start(), CHUNK);
    let small = BlockWrite::whole(small, MountId::new(1), payload);
    store.write(small).await.unwrap();
    put(&store, small_key(1, 0), 0..LEN).await;
    let going_on = async {
        while faulty.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop(stall);
    };
    tokio::join!(store.settled(), going_on);
    assert_eq!(store.metrics()[1].not_admitted, 0);
    assert_eq!(disk.names().len(), 2);
}

#[tokio::test]
async fn of_a_disk_that_cannot_keep_up_the_second_half_is_for_what_was_read() {
    let disk = MemDisk::new();
    // Room in memory for ten blocks, and for eight on the way to disk.
    let (store, faulty) = slow_store(&disk, 10 * (LEN + 3000), 8).await;
    let stall = faulty.stall();
    for index in 0..10 {
        put(&store, small_key(1, index), 0..LEN).await;
    }
    for index in [5, 8] {
        assert_eq!(there(&store, small_key(1, index), 0..LEN).await, LEN);
    }
    // Others take their place: 4 to 7 and 9 were never read, and go for good.
    for index in 20..40 {
        put(&store, small_key(1, index), 0..LEN).await;
        for read in [5, 8] {
            store.try_read_memory(small_key(1, read), 0..LEN);
        }
    }
    // Blocks 4 and 6 come back soon, and are known from then on.
    for index in [4, 6] {
        put(&store, small_key(1, index), 0..LEN).await;
    }
    let mut left = Vec::new();
    for index in 20..40 {
        let there = store.contains(small_key(1, index)).await.unwrap();
        left.extend(there.map(|_| index));
    }
    assert!(left.len() < 10, "{left:?}");
    drop(stall);
    store.settled().await;
    let on_disk = |index| {
        disk.names()
            .contains(&crate::disk::file_name(small_key(1, index)))
    };
    assert!((0..4).all(on_disk), "there was room");
    assert!(on_disk(4) && on_disk(6), "{:?}", disk.names());
    let late = (20..40).filter(|index| on_disk(*index));
    assert!(late.eq(left), "what memory still has gets there");
}

#[tokio::test]
async fn the_index_of_the_disk_counts_as_memory() {
    let store = store(MemDisk::new(), 1 << 20).await;
    for index in 0..20 {
        put(&store, small_key(1, index), 0..LEN).await;
        store.settled().await;
    }
    store
        .remove(Selector::Mount(MountId::new(1)))
        .await
        .unwrap();
    let [memory, _] = store.usage()[..] else {
        unreachable!("two tiers");
    };
    assert!(memory.used > 0 && memory.used <= store.disk().index_memory());
}

#[derive(Debug, Clone)]
enum Op {
    Write(u64, u64, u64),
    Read(u64, u64, u64),
    Remove(u64),
    Settle,
    Flip,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0u64..12;
    prop_oneof![
        8 => (index.clone(), 0..=LEN, 0..=LEN).prop_map(|(i, a, b)| Op::Write(i, a, b)),
        8 => (index.clone(), 0..=LEN, 0..=LEN).prop_map(|(i, a, b)| Op::Read(i, a, b)),
        1 => index.prop_map(Op::Remove),
        2 => Just(Op::Settle),
        2 => Just(Op::Flip),
        1 => Just(Op::Restart),
    ]
}

async fn survive(seed: u64, ops: Vec<Op>) {
    let mut seed = Seed::new(seed);
    let mut disk = MemDisk::new();
    let mut tiers = store(disk.clone(), 300 << 10).await;
    for op in ops {
        match op {
            Op::Write(index, a, b) => {
                put(&tiers, small_key(1, index), a.min(b)..a.max(b)).await;
            }
            Op::Read(index, a, b) => {
                there(&tiers, small_key(1, index), a.min(b)..a.max(b)).await;
            }
            Op::Remove(index) => {
                tiers.settled().await;
                let key = small_key(1, index);
                tiers.remove(Selector::Block(key)).await.unwrap();
                assert_eq!(there(&tiers, key, 0..LEN).await, 0);
            }
            Op::Settle => tiers.settled().await,
            Op::Flip => {
                disk.flip_bit(&mut seed);
            }
            Op::Restart => {
                tiers.close().await;
                disk = disk.crash(&mut seed);
                tiers = store(disk.clone(), 300 << 10).await;
            }
        }
        for usage in tiers.usage() {
            assert!(usage.used <= usage.capacity, "{usage:?}");
        }
    }
    tiers.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_read_returns_right_bytes_or_fewer(seed in any::<u64>(), ops in proptest::collection::vec(op(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(survive(seed, ops));
    }
}
