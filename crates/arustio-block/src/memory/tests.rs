//! The memory tier: the suite, and that the limit is exact.

use arustio_types::{MountId, SystemClock};

use super::*;
use crate::chunk::CHUNK;
use crate::testing::conformance::{self, Promises};
use crate::testing::{config, content_bytes, heap_config, small_key};

/// Without memory files.
fn heap_tier(capacity: u64) -> MemoryTier {
    MemoryTier::new(&heap_config(capacity, 0).memory, Arc::new(SystemClock))
}

fn tier(capacity: u64) -> MemoryTier {
    MemoryTier::new(&config(capacity, 0).memory, Arc::new(SystemClock))
}

fn whole(index: u64) -> BlockWrite {
    let key = small_key(1, index);
    let payload = content_bytes(key.content, key.start(), 2 * CHUNK);
    BlockWrite::whole(key, MountId::new(1), payload)
}

#[tokio::test]
async fn conforms() {
    let promises = Promises {
        keeps: true,
        durable: false,
    };
    conformance::run(promises, || async {
        Arc::new(tier(4 << 20)) as Arc<dyn BlockStore>
    })
    .await;
    conformance::run(promises, || async {
        Arc::new(heap_tier(4 << 20)) as Arc<dyn BlockStore>
    })
    .await;
    let nothing = Promises {
        keeps: false,
        durable: false,
    };
    conformance::run(nothing, || async {
        Arc::new(tier(0)) as Arc<dyn BlockStore>
    })
    .await;
    conformance::run(nothing, || async {
        Arc::new(crate::NoopStore) as Arc<dyn BlockStore>
    })
    .await;
}

#[tokio::test]
async fn bytes_count_until_the_last_reader_lets_go() {
    for tier in [tier(100 << 10), heap_tier(100 << 10)] {
        bytes_count_while_they_are_read(tier).await;
    }
}

async fn bytes_count_while_they_are_read(tier: MemoryTier) {
    tier.write(whole(0)).await.unwrap();
    let held = tier.try_read_memory(small_key(1, 0), 0..1).unwrap();
    let refused = tier.write(whole(1)).await.unwrap();
    assert_eq!(refused, WriteOutcome::Rejected(Rejection::NoSpace));
    assert!(tier.usage()[0].used >= 2 * CHUNK);
    assert_eq!(tier.usage()[0].blocks, 0);
    drop(held);
    assert_eq!(tier.usage()[0].used, 0);
    assert_eq!(tier.write(whole(1)).await.unwrap(), WriteOutcome::Stored);
}

#[tokio::test]
async fn what_can_never_fit_evicts_nobody() {
    let tier = tier(100 << 10);
    tier.write(whole(0)).await.unwrap();
    let key = BlockKey {
        size: arustio_types::BlockSize::DEFAULT,
        ..small_key(2, 0)
    };
    let large = BlockWrite::whole(key, MountId::new(1), vec![0; 200 << 10].into());
    let refused = tier.write(large).await.unwrap();
    assert_eq!(refused, WriteOutcome::Rejected(Rejection::TooLarge));
    assert_eq!(tier.usage()[0].blocks, 1);
}

#[tokio::test]
async fn what_others_hold_is_taken_from_the_blocks() {
    let tier = tier(100 << 10);
    tier.write(whole(0)).await.unwrap();
    tier.count_aside(30 << 10, &|_| {});
    assert_eq!(tier.usage()[0].used, 30 << 10);
    let refused = tier.write(whole(0)).await.unwrap();
    assert_eq!(refused, WriteOutcome::Rejected(Rejection::TooLarge));
}

#[tokio::test]
async fn evicted_blocks_that_are_nowhere_else_are_handed_over() {
    let tier = tier(150 << 10);
    let handed = Mutex::new(Vec::new());
    let keep = |index, dirty| {
        let image = Image::of_write(&whole(index)).unwrap().unwrap();
        tier.keep(&image, dirty, &|block| {
            handed.lock().push(block.image.key.index)
        });
    };
    keep(0, false);
    keep(1, true);
    keep(2, true);
    assert!(handed.lock().is_empty(), "the first was clean");
    keep(3, true);
    assert_eq!(*handed.lock(), [1]);
    tier.mark_clean(small_key(1, 2), 2);
    assert_eq!(tier.dirty_keys(), [small_key(1, 3)]);
}

/// The file of a block, if it has one.
/// Some bytes of a block.
fn part_of(all: &BlockWrite, range: Range<u64>) -> BlockWrite {
    let payload = all.payload.slice(range.start as usize..range.end as usize);
    BlockWrite {
        offset: range.start,
        checksum: chunk::checksum(&payload),
        payload,
        ..all.clone()
    }
}

async fn borrow(tier: &MemoryTier, index: u64) -> Option<BorrowedFile> {
    let borrowed = tier.borrow(small_key(1, index), 0..2 * CHUNK).await;
    match borrowed.unwrap()? {
        Borrowed::File(file) => Some(file),
        Borrowed::Memory(_) => None,
    }
}

fn bytes_in(file: &std::fs::File) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; 2 * CHUNK as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[tokio::test]
async fn a_lent_block_cannot_be_changed_by_anybody() {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    let tier = tier(1 << 20);
    tier.write(whole(0)).await.unwrap();
    let lent = borrow(&tier, 0).await.unwrap();
    let mut file = lent.file.try_clone().unwrap();
    assert!(file.write(b"x").is_err());
    assert!(file.set_len(1).is_err());
    // Who opens it again for writing is stopped by the seals.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut again = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    assert!(again.write(b"x").is_err());
    assert!(again.set_len(0).is_err());
    assert!(again.set_len(1 << 20).is_err());
    let more = rustix::fs::SealFlags::FUTURE_WRITE;
    assert!(rustix::fs::fcntl_add_seals(&again, more).is_err());
    assert_eq!(bytes_in(&lent.file), whole(0).payload);
}

#[tokio::test]
async fn the_limit_holds_while_blocks_are_lent_and_after_they_are_forgotten() {
    let tier = tier(400 << 10);
    let mut lent = Vec::new();
    for index in 0..4 {
        tier.write(whole(index)).await.unwrap();
        lent.push(borrow(&tier, index).await.unwrap());
    }
    assert!(tier.usage()[0].pinned > 8 * CHUNK);
    for index in 4..40 {
        tier.write(whole(index)).await.unwrap();
        let usage = tier.usage()[0];
        assert!(usage.used <= usage.capacity);
    }
    assert!(tier.presence(small_key(1, 3)).is_some(), "lent and evicted");
    tier.remove(Selector::Mount(MountId::new(1))).await.unwrap();
    assert!(
        tier.usage()[0].used >= 8 * CHUNK,
        "they still take up space"
    );
    for (index, lent) in lent.iter().enumerate() {
        assert_eq!(bytes_in(&lent.file), whole(index as u64).payload);
    }
    // Another block under the same key is not the one that was lent.
    tier.write(whole(0)).await.unwrap();
    drop(lent);
    let usage = tier.usage()[0];
    assert_eq!((usage.pinned, usage.blocks), (0, 1));
    tier.remove(Selector::Block(small_key(1, 0))).await.unwrap();
    assert_eq!(tier.usage()[0].used, 0);
}

#[tokio::test]
async fn a_block_that_grew_is_lent_once_it_is_complete() {
    let tier = tier(1 << 20);
    let all = whole(0);
    for half in [CHUNK..2 * CHUNK, 0..CHUNK] {
        assert!(borrow(&tier, 0).await.is_none());
        assert_eq!(
            tier.write(part_of(&all, half)).await.unwrap(),
            WriteOutcome::Stored
        );
    }
    let lent = borrow(&tier, 0).await.unwrap();
    assert_eq!(bytes_in(&lent.file), all.payload);
    assert_eq!(lent.checksum, Some(all.checksum));
    drop(lent);
    let usage = tier.usage()[0];
    assert_eq!(usage.pinned, 0);
    assert!(usage.used < 3 * CHUNK, "counted twice: {usage:?}");
    let part = tier.try_read_memory(small_key(1, 0), 5..CHUNK + 5).unwrap();
    assert!(part.parts[0].verify());
}

#[tokio::test]
async fn a_block_is_not_evicted_to_make_room_for_its_own_file() {
    let tier = tier(100 << 10);
    let all = whole(0);
    for half in [0..CHUNK, CHUNK..2 * CHUNK] {
        tier.write(part_of(&all, half)).await.unwrap();
    }
    let parts = tier.read(small_key(1, 0), 0..2 * CHUNK).await.unwrap();
    assert_eq!(parts.contiguous().unwrap(), all.payload);
    assert!(borrow(&tier, 0).await.is_none());
    assert_eq!(tier.usage()[0].pinned, 0);
}

#[tokio::test]
async fn beyond_its_descriptors_blocks_lie_on_the_heap() {
    let mut few = config(1 << 20, 0).memory;
    few.files = 2;
    let tier = MemoryTier::new(&few, Arc::new(SystemClock));
    for index in 0..4 {
        let stored = tier.write(whole(index)).await.unwrap();
        assert_eq!(stored, WriteOutcome::Stored);
        let lent = borrow(&tier, index).await;
        assert_eq!(lent.is_some(), index < 2);
    }
    tier.remove(Selector::Block(small_key(1, 0))).await.unwrap();
    tier.write(whole(5)).await.unwrap();
    assert!(borrow(&tier, 5).await.is_some());
}
