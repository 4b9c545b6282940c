//! The memory store against the suite, and what only it promises.

use std::sync::Arc;

use arustio_types::{ManualClock, Timestamp, UfsKey, WriteId};
use futures::TryStreamExt;

use super::*;
use crate::testing::conformance::{self, Bench};

fn store() -> Arc<MemoryStore> {
    let clock = ManualClock::new(Timestamp::from_millis(1_000));
    MemoryStore::new(7, Arc::new(clock))
}

#[tokio::test]
async fn the_memory_store_conforms() {
    let bench = Bench::new(Arc::new(MemoryUfs::new("t", store())), "");
    conformance::all(&bench).await;
    conformance::hostile_keys_break_nobody(&bench).await;
}

#[tokio::test]
async fn a_long_listing_comes_in_pages_that_say_where_they_end() {
    let ufs = MemoryUfs::new("t", store());
    for number in 0..2_500 {
        let key = UfsKey::new(&format!("{number:05}"));
        let options = WriteOptions::new(WriteMode::Replace, WriteId::new(1), Duration::ZERO);
        ufs.write(&key, "x".into(), options).await.unwrap();
    }
    let pages: Vec<_> = ufs
        .list(ListOptions::default())
        .try_collect()
        .await
        .unwrap();
    let ends: Vec<_> = pages.iter().map(|page| page.next.clone()).collect();
    assert_eq!(
        ends,
        [Some(UfsKey::new("00999")), Some(UfsKey::new("01999")), None]
    );
    assert_eq!(pages.iter().map(ListPage::names).sum::<usize>(), 2_500);
}

#[tokio::test]
async fn a_dropped_upload_leaves_nothing() {
    let store = store();
    let ufs = MemoryUfs::new("t", Arc::clone(&store));
    let options = UploadOptions {
        write_id: WriteId::new(1),
        deadline: Duration::ZERO,
    };
    let upload = ufs.begin_upload(&UfsKey::new("k"), options).await.unwrap();
    drop(upload);
    let left: Vec<_> = ufs
        .list_uploads(&UfsKey::default())
        .try_collect()
        .await
        .unwrap();
    assert!(left.is_empty());
    assert!(store.is_empty());
}
