//! The directory store against the suite, and what only it can get wrong.

use std::os::unix::fs::symlink;

use arustio_types::{Classify, ErrorKind, ManualClock, SystemClock, Timestamp, WriteId};
use futures::TryStreamExt;

use super::*;
use crate::testing::conformance::{self, Bench};
use crate::ufs::{UfsExt, WriteMode};
use crate::upload::CompleteOptions;

const DEADLINE: Duration = Duration::from_secs(20);

fn folder() -> (tempfile::TempDir, LocalUfs) {
    let folder = tempfile::tempdir().unwrap();
    let ufs = LocalUfs::open(folder.path().to_owned(), Arc::new(SystemClock)).unwrap();
    (folder, ufs)
}

fn options(mode: WriteMode) -> WriteOptions {
    WriteOptions::new(mode, WriteId::new(5), DEADLINE)
}

async fn put(ufs: &LocalUfs, key: &str) -> ObjectVersion {
    let written = ufs
        .write(
            &UfsKey::new(key),
            "bytes".into(),
            options(WriteMode::Replace),
        )
        .await;
    written.unwrap().version
}

#[tokio::test]
async fn a_directory_conforms() {
    let (_folder, ufs) = folder();
    conformance::all(&Bench::new(Arc::new(ufs.clone()), "")).await;
    let left: Vec<_> = ufs
        .list_uploads(&UfsKey::default())
        .try_collect()
        .await
        .unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_file_of_somebody_else_is_an_object_and_links_are_not() {
    let (folder, ufs) = folder();
    std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
    std::fs::write(folder.path().join("a/b/c.txt"), "theirs").unwrap();
    std::fs::write(folder.path().join("a.txt"), "theirs").unwrap();
    symlink("/etc", folder.path().join("out")).unwrap();
    symlink("a.txt", folder.path().join("in")).unwrap();
    let pages: Vec<_> = ufs.list(ListOptions::all("")).try_collect().await.unwrap();
    let keys: Vec<_> = pages[0]
        .entries
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!(keys, ["a.txt", "a/", "a/b/", "a/b/c.txt"]);
    let mut skipped: Vec<_> = pages[0].skipped.iter().map(|s| s.name.as_str()).collect();
    skipped.sort_unstable();
    assert_eq!(skipped, ["in", "out"]);
    for key in ["out/passwd", "in", "../x", "a//b", ".arustio-tmp/lock"] {
        assert!(
            ufs.head(&UfsKey::new(key)).await.unwrap().is_none(),
            "{key}"
        );
    }
    let key = UfsKey::new("out/x");
    let write = ufs.write(&key, "x".into(), options(WriteMode::CreateOnly));
    assert_eq!(write.await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn u8_a_fresh_identity_is_young() {
    let (folder, ufs) = folder();
    put(&ufs, "k").await;
    let key = UfsKey::new("k");
    assert!(ufs.head(&key).await.unwrap().unwrap().young);
    let later = ManualClock::new(Timestamp::from_millis(i64::MAX / 2));
    let ufs = LocalUfs::open(folder.path().to_owned(), Arc::new(later)).unwrap();
    assert!(!ufs.head(&key).await.unwrap().unwrap().young);
}

#[tokio::test]
async fn r1_a_file_that_is_changed_in_place_while_it_is_read_is_stale() {
    let (folder, ufs) = folder();
    let path = folder.path().join("k");
    std::fs::write(&path, vec![b'a'; 3 << 20]).unwrap();
    let read = ufs
        .read(&UfsKey::new("k"), ReadOptions::default())
        .await
        .unwrap();
    let mut body = read.body;
    let first = body.next().await.unwrap().unwrap();
    assert!(first.iter().all(|byte| *byte == b'a'));
    std::fs::write(&path, vec![b'b'; 4 << 20]).unwrap();
    let error = body.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn w3_what_a_dead_writer_left_is_found_by_its_key_and_removed() {
    let (folder, ufs) = folder();
    let begin = UploadOptions {
        write_id: WriteId::new(0xdead),
        deadline: DEADLINE,
    };
    let upload = ufs.begin_upload(&UfsKey::new("d/k"), begin).await.unwrap();
    upload.put_part(1, "half".into(), DEADLINE).await.unwrap();
    std::mem::forget(upload);
    let again = LocalUfs::open(folder.path().to_owned(), Arc::new(SystemClock)).unwrap();
    let key = UfsKey::new("d/k");
    let found: Vec<_> = again.list_uploads(&key).try_collect().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].write_id, Some(WriteId::new(0xdead)));
    let options = AbortOptions { deadline: DEADLINE };
    again
        .abort_upload(&key, &found[0].id, options)
        .await
        .unwrap();
    let left: Vec<_> = again.list_uploads(&key).try_collect().await.unwrap();
    assert!(left.is_empty());
    assert!(again.head(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn parts_of_any_sizes_and_order_become_one_object() {
    let (_folder, ufs) = folder();
    for lengths in [
        vec![4, 4, 4, 2],
        vec![3, 5, 1],
        vec![1, 9],
        vec![0, 3, 0, 2],
    ] {
        let key = UfsKey::new(&format!("{lengths:?}"));
        let begin = UploadOptions {
            write_id: WriteId::new(1),
            deadline: DEADLINE,
        };
        let upload = ufs.begin_upload(&key, begin).await.unwrap();
        for (index, length) in lengths.iter().enumerate().rev() {
            let bytes = Bytes::from(vec![b'a' + index as u8; *length]);
            upload
                .put_part(index as u32 + 1, bytes.into(), DEADLINE)
                .await
                .unwrap();
        }
        let options = CompleteOptions::new(WriteMode::CreateOnly, DEADLINE);
        upload.complete(options).await.unwrap();
        let whole = lengths.iter().enumerate();
        let whole: Vec<u8> = whole.flat_map(|(i, n)| vec![b'a' + i as u8; *n]).collect();
        let read = ufs
            .read_bytes(&key, ReadOptions::default(), 100)
            .await
            .unwrap();
        assert_eq!(read, whole, "{lengths:?}");
    }
}

#[tokio::test]
async fn p5_nothing_becomes_visible_after_the_deadline() {
    let (_folder, ufs) = folder();
    let late = WriteOptions::new(WriteMode::CreateOnly, WriteId::new(1), Duration::ZERO);
    let error = ufs
        .write(&UfsKey::new("k"), "x".into(), late)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(!error.unanswered(), "it was given up, not lost");
    assert!(ufs.head(&UfsKey::new("k")).await.unwrap().is_none());
}

#[tokio::test]
async fn u3_names_that_are_not_utf8_are_told() {
    use std::os::unix::ffi::OsStrExt;
    let (folder, ufs) = folder();
    let name = std::ffi::OsStr::from_bytes(b"bad\xff");
    std::fs::write(folder.path().join(name), "x").unwrap();
    let page = ufs.list_level(&UfsKey::default()).await.unwrap();
    assert!(page.entries.is_empty());
    assert_eq!(page.skipped[0].reason, "the name is not UTF-8");
}

#[tokio::test]
async fn a_missing_directory_is_said_at_once() {
    let missing = LocalUfs::open(PathBuf::from("/nowhere/at/all"), Arc::new(SystemClock));
    let error = missing.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("the directory /nowhere/at/all"),
        "{error}"
    );
}

#[tokio::test]
async fn a_long_recursive_listing_comes_in_pages_and_in_order() {
    let (_folder, ufs) = folder();
    for number in 0..30 {
        put(&ufs, &format!("d{}/s{}/f{number}", number % 3, number % 2)).await;
    }
    let mut keys: Vec<UfsKey> = Vec::new();
    let mut after = None;
    loop {
        let options = ListOptions {
            limit: Some(7),
            start_after: after.clone(),
            ..ListOptions::default()
        };
        let pages: Vec<_> = ufs.list(options).try_collect().await.unwrap();
        let page = pages.last().unwrap();
        keys.extend(page.entries.iter().map(|entry| entry.key.clone()));
        after.clone_from(&page.next);
        if after.is_none() {
            break;
        }
    }
    let whole: Vec<_> = ufs
        .list_entries(ListOptions::default())
        .try_collect()
        .await
        .unwrap();
    let whole: Vec<_> = whole.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, whole);
    assert!(whole.is_sorted());
    assert_eq!(
        whole.len(),
        30 + 3 + 6,
        "files, directories, directories in them"
    );
}
