//! R1 and R2: what a handle returns while others change the file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arustio_client::types::BlockSize;
use arustio_client::types::meta::setting::PathConf;
use arustio_client::{ArustioFileSystem, ByteSize, ErrorKind, FileSystem, OpenOptions};
use futures::StreamExt as _;

use crate::house::{House, Short, fails, p, within};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn r1_a_handle_never_mixes_versions_when_its_object_is_replaced_between_two_requests() {
    let (house, fs) = House::mounted().await;
    house.put("f", vec![b'a'; 3 * MIB]);
    let reader = fs
        .open(&p("/data/f"), OpenOptions::default())
        .await
        .unwrap();
    assert_eq!(reader.read_at(0, 100).await.unwrap(), vec![b'a'; 100]);
    // The same length: nothing but the version tells them apart.
    house.put("f", vec![b'b'; 3 * MIB]);
    fails(reader.read_at(2 * MIB as u64, 100).await, ErrorKind::Stale);
    match reader.read_at(0, 100).await {
        Ok(bytes) => assert_eq!(bytes, vec![b'a'; 100]),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Stale),
    }
    // One that is opened and looks gets the new one whole.
    fs.sync_all("/data").await;
    assert!(fs.read("/data/f").await.unwrap().bytes().all(|b| b == b'b'));
}

#[tokio::test]
async fn r1_a_stream_ends_stale_where_its_object_was_replaced() {
    let (house, _) = House::mounted().await;
    let fs = house
        .client_with(|config| {
            config.read.whole_object = ByteSize::mib(1);
            config.read.part = ByteSize::mib(1);
            config.read.prefetch_max = ByteSize::mib(1);
            config.read.parallel = 1;
            config.read.cache = false;
        })
        .await;
    house.put("f", vec![b'a'; 8 * MIB]);
    let reader = fs
        .open(&p("/data/f"), OpenOptions::default())
        .await
        .unwrap();
    let mut bytes = reader.stream(0..u64::MAX);
    let mut read = bytes.next().await.unwrap().unwrap().len();
    house.put("f", vec![b'b'; 8 * MIB]);
    let ended = loop {
        match bytes.next().await {
            Some(Ok(piece)) => {
                assert!(piece.iter().all(|b| *b == b'a'));
                read += piece.len();
            }
            other => break other,
        }
    };
    match ended {
        Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::Stale),
        _ => assert_eq!(read, 8 * MIB, "cut short without an error"),
    }
    assert!(read < 8 * MIB, "one MiB at a time was asked for");
}

#[tokio::test]
async fn r1_a_handle_whose_first_read_is_refused_is_opened_again_once() {
    let (house, fs) = House::mounted().await;
    house.put("f", "first");
    let reader = fs
        .open(&p("/data/f"), OpenOptions::default())
        .await
        .unwrap();
    house.put("f", "second!");
    assert_eq!(reader.read_at(0, 100).await.unwrap(), "second!");
    assert_eq!(reader.status().size, 7);
    house.put("f", "thirdly");
    match reader.read_at(0, 100).await {
        Ok(bytes) => assert_eq!(bytes, "second!"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Stale),
    }
}

/// Reads until it is told to stop; every read is as new as what was acknowledged before
/// its open.
async fn read_on(
    fs: ArustioFileSystem,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> u64 {
    let mut reads = 0;
    while !stop.load(Ordering::SeqCst) {
        let floor = acknowledged.load(Ordering::SeqCst);
        match fs.read("/data/f").await {
            Ok(text) => {
                let seen: u64 = text.trim_start_matches('x').parse().unwrap();
                assert!(seen >= floor, "saw {seen} after {floor} was closed");
                reads += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Stale, "{error}"),
        }
    }
    reads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_an_open_after_a_close_sees_that_content_or_a_newer_one() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/f", "0").await.unwrap();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..2 {
        let reader = house.client().await;
        let reading = read_on(reader, Arc::clone(&acknowledged), Arc::clone(&stop));
        readers.push(tokio::spawn(reading));
    }
    for version in 1..=25u64 {
        // Lengths differ, so that a mixture would not parse.
        let text = format!("{}{version}", "x".repeat(version as usize % 7));
        fs.overwrite("/data/f", &text).await.unwrap();
        acknowledged.store(version, Ordering::SeqCst);
        let other = house.client().await;
        assert_eq!(other.read("/data/f").await.unwrap(), text);
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(within(reader).await.unwrap() > 0, "a reader never read");
    }
}

#[tokio::test]
async fn r1_a_block_size_that_is_changed_later_changes_no_byte() {
    let (house, fs) = House::mounted().await;
    let size = |kib: u64| PathConf {
        block_size: BlockSize::from_bytes(kib << 10),
        ..PathConf::default()
    };
    let pattern: String = (0..3 * MIB)
        .map(|i| char::from(b'a' + (i * 7 % 23) as u8))
        .collect();
    fs.set_conf(&p("/data"), size(1024), Vec::new())
        .await
        .unwrap();
    fs.write("/data/f", &pattern).await.unwrap();
    let before = fs
        .open(&p("/data/f"), OpenOptions::default())
        .await
        .unwrap();
    for kib in [64, 4096, 1024] {
        fs.set_conf(&p("/data"), size(kib), Vec::new())
            .await
            .unwrap();
        for client in [&fs, &house.client().await] {
            assert!(client.read("/data/f").await.unwrap() == pattern);
            let reader = client
                .open(&p("/data/f"), OpenOptions::default())
                .await
                .unwrap();
            let middle = reader.read_at(MIB as u64 - 5, 10).await.unwrap();
            assert_eq!(middle, pattern.as_bytes()[MIB - 5..MIB + 5]);
        }
        assert_eq!(
            before.read_at(2 * MIB as u64, 9).await.unwrap(),
            pattern.as_bytes()[2 * MIB..][..9]
        );
        let again = fs.write(&format!("/data/g{kib}"), &pattern).await.unwrap();
        assert_eq!(again.status.block_size.bytes(), kib << 10);
        assert!(fs.read(&format!("/data/g{kib}")).await.unwrap() == pattern);
    }
}
