//! The memory tier: the suite, and that the limit is exact.

use arustio_types::{MountId, SystemClock};

use super::*;
use crate::chunk::CHUNK;
use crate::testing::conformance::{self, Promises};
use crate::testing::{config, content_bytes, small_key};

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
    let tier = tier(100 << 10);
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
        tier.keep(&image, dirty, &|image| handed.lock().push(image.key.index));
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
