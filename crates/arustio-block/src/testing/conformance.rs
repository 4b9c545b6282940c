//! What every block store has to do, as one function.
//!
//! [`run`] panics with the name of the rule that is broken. A store says by [`Promises`]
//! what it can be held to; a store that keeps nothing passes with none of them.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::{BlockKey, Checksum, MountId};
use bytes::Bytes;

use super::{content_bytes, small_key};
use crate::chunk::{CHUNK, checksum};
use crate::store::{
    BlockStore, BlockWrite, Borrowed, Parts, Rejection, Selector, WriteHint, WriteOutcome,
};

/// What a store can be held to.
#[derive(Debug, Clone, Copy)]
pub struct Promises {
    /// A block that was written is there, as long as there is space.
    pub keeps: bool,
    /// Durable writes are taken.
    pub durable: bool,
}

/// Length of the blocks that the suite writes: the smallest size, two chunks.
const LEN: u64 = 2 * CHUNK;
const MOUNT: MountId = MountId::new(5);

/// Checks a store; `make` gives an empty one, with room for 4 MiB and ready for writes.
pub async fn run<F, Made>(promises: Promises, make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Arc<dyn BlockStore>>,
{
    refuses_what_makes_no_sense(&*make().await).await;
    misses_what_was_never_written(&*make().await).await;
    closes(&*make().await).await;
    durability_is_promised_or_refused(&*make().await, promises).await;
    if promises.keeps {
        returns_what_was_written(&*make().await).await;
        keeps_parts(&*make().await).await;
        keeps_the_first_bytes(&*make().await).await;
        forgets_what_is_selected(&*make().await).await;
        scans_in_order(&*make().await).await;
        takes_concurrent_writes(make().await).await;
        stays_within_its_capacity(&*make().await).await;
        never_evicts_what_is_pinned(&*make().await).await;
        keeps_what_is_borrowed(&*make().await).await;
    }
}

fn key(index: u64) -> BlockKey {
    small_key(1, index)
}

fn bytes(key: BlockKey, range: Range<u64>) -> Bytes {
    content_bytes(
        key.content,
        key.start() + range.start,
        range.end - range.start,
    )
}

fn write(key: BlockKey, range: Range<u64>) -> BlockWrite {
    let payload = bytes(key, range.clone());
    BlockWrite {
        key,
        offset: range.start,
        checksum: checksum(&payload),
        payload,
        block_len: LEN,
        mount: MOUNT,
        hint: WriteHint::Cache,
        sealed: None,
    }
}

async fn put(store: &dyn BlockStore, write: BlockWrite) -> WriteOutcome {
    store.write(write).await.expect("the write makes sense")
}

async fn store_block(store: &dyn BlockStore, key: BlockKey) {
    let outcome = put(store, write(key, 0..LEN)).await;
    assert_eq!(outcome, WriteOutcome::Stored, "a block that fits is stored");
}

async fn read(store: &dyn BlockStore, key: BlockKey, range: Range<u64>) -> Parts {
    let parts = store.read(key, range).await.expect("reads do not fail");
    for part in &parts.parts {
        assert!(part.verify(), "a part matches its checksum");
        assert_eq!(
            part.bytes,
            bytes(key, part.range.clone()),
            "bytes are right"
        );
    }
    parts
}

async fn refuses_what_makes_no_sense(store: &dyn BlockStore) {
    let too_long = BlockWrite {
        block_len: key(0).size.bytes() + 1,
        ..write(key(0), 0..LEN)
    };
    assert!(
        store.write(too_long).await.is_err(),
        "longer than the block size"
    );
    let outside = BlockWrite {
        offset: u64::MAX - 3,
        ..write(key(0), 0..LEN)
    };
    assert!(store.write(outside).await.is_err(), "outside of the block");
    let torn = BlockWrite {
        checksum: Checksum(checksum(&bytes(key(0), 0..LEN)).0 ^ 1),
        ..write(key(0), 0..LEN)
    };
    let refused = WriteOutcome::Rejected(Rejection::ChecksumMismatch);
    assert_eq!(
        put(store, torn).await,
        refused,
        "a payload that was torn on the way"
    );
    let crumbs = put(store, write(key(0), 1..CHUNK)).await;
    assert_eq!(
        crumbs,
        WriteOutcome::Rejected(Rejection::Unaligned),
        "no whole chunk"
    );
    assert!(
        read(store, key(0), 0..LEN).await.is_empty(),
        "nothing was kept"
    );
}

async fn misses_what_was_never_written(store: &dyn BlockStore) {
    assert!(read(store, key(0), 0..LEN).await.is_empty());
    assert!(store.try_read_memory(key(0), 0..LEN).is_none());
    let borrowed = store.borrow(key(0), 0..LEN).await;
    assert!(borrowed.expect("borrowing does not fail").is_none());
    assert_eq!(
        store.contains(key(0)).await.expect("asking does not fail"),
        None
    );
    assert!(
        !store
            .pin(key(0))
            .await
            .expect("pinning nothing does not fail")
    );
    assert!(
        !store
            .unpin(key(0))
            .await
            .expect("unpinning nothing does not fail")
    );
}

async fn returns_what_was_written(store: &dyn BlockStore) {
    store_block(store, key(0)).await;
    for range in [
        0..LEN,
        0..1,
        5..CHUNK + 7,
        CHUNK..LEN,
        LEN - 1..LEN,
        100..LEN + 50,
    ] {
        let asked = range.start..range.end.min(LEN);
        let parts = read(store, key(0), range.clone()).await;
        assert_eq!(parts.block_len, Some(LEN));
        assert!(parts.covers(&range), "all of {range:?} is there");
        let got = parts.contiguous().expect("without a gap");
        assert_eq!(got, bytes(key(0), asked), "{range:?}");
    }
    assert!(read(store, key(0), 7..7).await.is_empty());
    assert!(read(store, key(0), LEN..LEN + 9).await.is_empty());
    let presence = store.contains(key(0)).await.expect("asking does not fail");
    assert!(presence.expect("it is there").is_complete());
    let borrowed = store.borrow(key(0), 3..LEN - 3).await;
    check_borrowed(
        borrowed
            .expect("borrowing does not fail")
            .expect("it is there"),
    );
    let outside = store.borrow(key(0), 3..LEN + 3).await;
    drop(outside.expect("a borrow beyond the end does not fail"));
}

fn check_borrowed(borrowed: Borrowed) {
    use std::os::unix::fs::FileExt;
    let expected = bytes(key(0), 3..LEN - 3);
    match borrowed {
        Borrowed::Memory(parts) => assert_eq!(parts.contiguous(), Some(expected)),
        Borrowed::File(file) => {
            let mut got = vec![0; expected.len()];
            file.file
                .read_exact_at(&mut got, file.offset)
                .expect("the borrowed file is readable");
            assert_eq!(got, expected);
        }
    }
}

async fn keeps_parts(store: &dyn BlockStore) {
    // The second chunk, and crumbs of the first that are not kept.
    let outcome = put(store, write(key(0), 10..LEN)).await;
    assert_eq!(outcome, WriteOutcome::Stored);
    let parts = read(store, key(0), 0..LEN).await;
    assert_eq!(parts.missing(&(0..LEN)).first(), Some(&(0..CHUNK)));
    assert_eq!(parts.len(), CHUNK);
    assert!(store.try_read_memory(key(0), 0..LEN).is_none());
    let borrowed = store.borrow(key(0), 0..LEN).await;
    assert!(
        borrowed.expect("borrowing does not fail").is_none(),
        "not all is there"
    );
    let presence = store.contains(key(0)).await.expect("asking does not fail");
    assert_eq!(presence.map(|p| p.present), Some(CHUNK));
    assert_eq!(
        put(store, write(key(0), 0..CHUNK)).await,
        WriteOutcome::Stored
    );
    assert!(read(store, key(0), 0..LEN).await.covers(&(0..LEN)));
}

async fn keeps_the_first_bytes(store: &dyn BlockStore) {
    store_block(store, key(0)).await;
    let again = put(store, write(key(0), 0..LEN)).await;
    assert_eq!(again, WriteOutcome::AlreadyPresent);
    let other = bytes(key(1), 0..LEN);
    let liar = BlockWrite {
        checksum: checksum(&other),
        payload: other,
        ..write(key(0), 0..LEN)
    };
    let refused = WriteOutcome::Rejected(Rejection::Disagrees);
    assert_eq!(
        put(store, liar).await,
        refused,
        "other bytes under the same key"
    );
    let shorter = BlockWrite {
        block_len: CHUNK,
        ..write(key(0), 0..CHUNK)
    };
    assert_eq!(
        put(store, shorter).await,
        refused,
        "another length under the same key"
    );
    assert!(read(store, key(0), 0..LEN).await.covers(&(0..LEN)));
}

async fn forgets_what_is_selected(store: &dyn BlockStore) {
    let other_content = small_key(2, 0);
    let there = |key| async move { !read(store, key, 0..LEN).await.is_empty() };
    for key in [key(0), key(1), key(2), other_content] {
        store_block(store, key).await;
    }
    let elsewhere = BlockWrite {
        mount: MountId::new(6),
        ..write(small_key(3, 0), 0..LEN)
    };
    put(store, elsewhere).await;
    let remove = |selector| async move {
        let removed = store.remove(selector).await;
        removed.expect("removing does not fail").blocks
    };
    let young = Selector::Idle(Duration::from_secs(3600));
    assert_eq!(remove(young).await, 0, "nothing is idle yet");
    assert!(remove(Selector::Block(key(0))).await > 0);
    assert!(!there(key(0)).await && there(key(1)).await);
    assert_eq!(remove(Selector::Block(key(0))).await, 0);
    assert!(remove(Selector::Content(key(1).content)).await > 0);
    assert!(!there(key(1)).await && !there(key(2)).await && there(other_content).await);
    assert!(remove(Selector::Mount(MOUNT)).await > 0);
    assert!(!there(other_content).await && there(small_key(3, 0)).await);
}

async fn scans_in_order(store: &dyn BlockStore) {
    for index in [3, 1, 2] {
        store_block(store, key(index)).await;
    }
    let page = |after, limit| async move {
        let page = store.scan(after, limit).await;
        let summaries = page.expect("scanning does not fail");
        assert!(summaries.iter().all(|s| s.mount == MOUNT && !s.pinned));
        summaries.iter().map(|s| s.key).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2).await, [key(1), key(2)]);
    assert_eq!(page(Some(key(2)), 9).await, [key(3)]);
    assert!(page(Some(key(3)), 9).await.is_empty());
}

async fn takes_concurrent_writes(store: Arc<dyn BlockStore>) {
    let ranges = [0..LEN, 0..CHUNK, CHUNK..LEN, 0..LEN];
    let writers = ranges.map(|range| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { put(&*store, write(key(0), range)).await })
    });
    for writer in writers {
        let outcome = writer.await.expect("the writer does not panic");
        assert!(!matches!(outcome, WriteOutcome::Rejected(_)), "{outcome:?}");
    }
    assert!(read(&*store, key(0), 0..LEN).await.covers(&(0..LEN)));
}

async fn stays_within_its_capacity(store: &dyn BlockStore) {
    let mut last = 0;
    for index in 0..400 {
        put(store, write(key(index), 0..LEN)).await;
        for usage in store.usage() {
            assert!(usage.used <= usage.capacity, "{usage:?}");
        }
        last = index;
    }
    assert!(read(store, key(last), 0..LEN).await.covers(&(0..LEN)));
}

async fn never_evicts_what_is_pinned(store: &dyn BlockStore) {
    store_block(store, key(0)).await;
    for _ in 0..2 {
        assert!(store.pin(key(0)).await.expect("pinning does not fail"));
    }
    for index in 1..400 {
        put(store, write(key(index), 0..LEN)).await;
    }
    assert!(read(store, key(0), 0..LEN).await.covers(&(0..LEN)));
    assert!(store.unpin(key(0)).await.expect("unpinning does not fail"));
    let left: u64 = store.usage().iter().map(|usage| usage.pinned).sum();
    assert_eq!(left, 0, "no pin is left");
}

async fn keeps_what_is_borrowed(store: &dyn BlockStore) {
    store_block(store, key(0)).await;
    let borrow = |range| async {
        let borrowed = store.borrow(key(0), range).await;
        borrowed.expect("borrowing does not fail")
    };
    let first = borrow(3..LEN - 3).await.expect("it is there");
    let second = borrow(0..LEN).await.expect("it is there");
    if let Borrowed::File(file) = &second {
        let sum = checksum(&bytes(key(0), 0..LEN));
        assert_eq!(file.checksum, Some(sum), "of what arrived");
        let truncated = file.file.set_len(0);
        assert!(truncated.is_err(), "what is borrowed can only be read");
    }
    drop(second);
    for index in 1..400 {
        put(store, write(key(index), 0..LEN)).await;
        for usage in store.usage() {
            assert!(usage.used <= usage.capacity, "{usage:?}");
        }
    }
    if let Borrowed::File(_) = &first {
        assert!(read(store, key(0), 0..LEN).await.covers(&(0..LEN)));
        let again = borrow(3..LEN - 3).await;
        check_borrowed(again.expect("what is borrowed is not evicted"));
    }
    let removed = store.remove(Selector::Block(key(0))).await;
    removed.expect("removing does not fail");
    check_borrowed(first);
    let left: u64 = store.usage().iter().map(|usage| usage.pinned).sum();
    assert_eq!(left, 0, "what was returned is not kept");
}

async fn durability_is_promised_or_refused(store: &dyn BlockStore, promises: Promises) {
    let durable = |range| BlockWrite {
        hint: WriteHint::Durable,
        ..write(key(0), range)
    };
    let crumbs = put(store, durable(1..LEN)).await;
    assert!(
        matches!(crumbs, WriteOutcome::Rejected(_)),
        "a promise for all of it or none"
    );
    let outcome = put(store, durable(0..LEN)).await;
    if !promises.durable {
        let refused = matches!(outcome, WriteOutcome::Rejected(_));
        assert!(refused, "nothing is promised that cannot be kept");
        return;
    }
    assert_eq!(outcome, WriteOutcome::Stored);
    let pinned: u64 = store.usage().iter().map(|usage| usage.pinned).sum();
    assert!(pinned >= LEN, "a durable block is pinned");
    assert_eq!(
        put(store, durable(0..LEN)).await,
        WriteOutcome::AlreadyPresent
    );
    assert!(store.unpin(key(0)).await.expect("unpinning does not fail"));
}

async fn closes(store: &dyn BlockStore) {
    put(store, write(key(0), 0..LEN)).await;
    store.close().await;
    store.close().await;
    let outcome = put(store, write(key(1), 0..LEN)).await;
    assert!(
        matches!(outcome, WriteOutcome::Rejected(_)),
        "closed means closed"
    );
    assert!(
        read(store, key(0), 0..LEN).await.is_empty(),
        "closed means a miss"
    );
}
