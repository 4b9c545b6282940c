//! W1 to W3 and W6: what others see of a file that is being written, and what cannot be.

use std::time::Duration;

use arustio_client::types::meta::setting::{PathConf, SyncInterval};
use arustio_client::{CreateOptions, ErrorKind, FileSystem, OpenOptions};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation};
use bytes::Bytes;

use crate::house::{BUCKET, House, Short, fails, p};

const MIB: usize = 1 << 20;

fn overwrite() -> CreateOptions {
    CreateOptions {
        overwrite: true,
        ..CreateOptions::default()
    }
}

#[tokio::test]
async fn w1_a_file_is_invisible_until_it_is_committed_and_whole_after() {
    let (house, fs) = House::mounted().await;
    // Everybody looks into the bucket every time.
    let set = PathConf {
        sync_interval: Some(SyncInterval::Every(Duration::ZERO)),
        ..PathConf::default()
    };
    fs.set_conf(&p("/data"), set, Vec::new()).await.unwrap();
    let other = house.client().await;
    for size in [100, 20 * MIB] {
        let mut writer = fs
            .create(&p("/data/f"), CreateOptions::default())
            .await
            .unwrap();
        for _ in 0..4 {
            writer
                .write(Bytes::from(vec![b'x'; size / 4]))
                .await
                .unwrap();
            for client in [&fs, &other] {
                assert!(!client.exists("/data/f").await);
                assert_eq!(client.names("/data").await, Vec::<String>::new());
            }
            assert_eq!(house.keys(), Vec::<String>::new());
        }
        let written = writer.commit().await.unwrap();
        assert_eq!(written.status.size, size as u64);
        for client in [&fs, &other] {
            let read = client.read("/data/f").await.unwrap();
            assert!(read.len() == size && read.bytes().all(|b| b == b'x'));
        }
        fs.rm("/data/f").await.unwrap();
    }
}

#[tokio::test]
async fn w1_a_replaced_file_is_the_old_one_until_the_commit_and_its_handles_never_mix() {
    let (house, fs) = House::mounted().await;
    let old = "o".repeat(2 * MIB);
    fs.write("/data/f", &old).await.unwrap();
    let other = house.client().await;
    let handle = other
        .open(&p("/data/f"), OpenOptions::default())
        .await
        .unwrap();
    assert_eq!(handle.read_at(0, 5).await.unwrap(), "ooooo");
    let mut writer = fs.create(&p("/data/f"), overwrite()).await.unwrap();
    writer
        .write(Bytes::from(vec![b'n'; 2 * MIB]))
        .await
        .unwrap();
    assert!(other.read("/data/f").await.unwrap() == old);
    writer.commit().await.unwrap();
    assert!(
        other
            .read("/data/f")
            .await
            .unwrap()
            .bytes()
            .all(|b| b == b'n')
    );
    for at in [0, MIB, 2 * MIB - 5] {
        match handle.read_at(at as u64, 5).await {
            Ok(bytes) => assert_eq!(bytes, "ooooo"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Stale),
        }
    }
}

#[tokio::test]
async fn w2_a_second_writer_waits_for_the_first_and_then_has_to_look() {
    let (house, fs) = House::mounted().await;
    let hasty = house
        .client_with(|config| config.pending_wait = Duration::from_millis(100))
        .await;
    let mut first = fs
        .create(&p("/data/f"), CreateOptions::default())
        .await
        .unwrap();
    first.write("first".into()).await.unwrap();
    let error = fails(hasty.write("/data/f", "second").await, ErrorKind::Conflict);
    assert!(error.to_string().contains("/data/f"), "{error}");
    fails(
        hasty.overwrite("/data/f", "second").await,
        ErrorKind::Conflict,
    );
    let patient = house.client().await;
    let second = tokio::spawn(async move { patient.write("/data/f", "second").await });
    first.commit().await.unwrap();
    fails(second.await.unwrap(), ErrorKind::AlreadyExists);
    assert_eq!(house.object("f").unwrap(), "first");
    assert_eq!(
        hasty
            .overwrite("/data/f", "third")
            .await
            .unwrap()
            .status
            .size,
        5
    );
    assert_eq!(fs.read("/data/f").await.unwrap(), "third");
}

#[tokio::test]
async fn w2_an_object_that_somebody_put_there_meanwhile_is_never_overwritten() {
    let (house, fs) = House::mounted().await;
    for size in [10, 20 * MIB] {
        fs.write("/data/f", "seen at open").await.unwrap();
        let mut replacing = fs.create(&p("/data/f"), overwrite()).await.unwrap();
        let mut making = fs
            .create(&p("/data/g"), CreateOptions::default())
            .await
            .unwrap();
        for writer in [&mut replacing, &mut making] {
            writer.write(Bytes::from(vec![b'x'; size])).await.unwrap();
        }
        house.put("f", "theirs");
        house.put("g", "theirs");
        fails(replacing.commit().await, ErrorKind::Conflict);
        fails(making.commit().await, ErrorKind::AlreadyExists);
        assert_eq!(house.object("f").unwrap(), "theirs");
        assert_eq!(house.object("g").unwrap(), "theirs");
        assert_eq!(house.bucket().uploads(BUCKET), []);
        fs.sync_all("/data").await;
        assert_eq!(fs.read("/data/f").await.unwrap(), "theirs");
        assert_eq!(fs.read("/data/g").await.unwrap(), "theirs");
        fs.rm("/data/f").await.unwrap();
        fs.rm("/data/g").await.unwrap();
        assert_eq!(fs.owed().await, []);
    }
}

#[tokio::test]
async fn w3_a_writer_that_is_dropped_or_aborted_leaves_nothing() {
    let (house, fs) = House::mounted().await;
    for dropped in [true, false] {
        for size in [10, 20 * MIB] {
            let mut writer = fs
                .create(&p("/data/f"), CreateOptions::default())
                .await
                .unwrap();
            writer.write(Bytes::from(vec![b'x'; size])).await.unwrap();
            match dropped {
                true => drop(writer),
                false => writer.abort().await.unwrap(),
            }
            fs.nothing_owed().await;
            assert!(!fs.exists("/data/f").await);
            assert_eq!(house.keys(), Vec::<String>::new());
            assert_eq!(house.bucket().uploads(BUCKET), []);
        }
    }
}

#[tokio::test]
async fn w3_closing_the_client_waits_until_a_dropped_writer_is_gone() {
    let (house, fs) = House::mounted().await;
    let writing = house.client().await;
    let mut writer = writing
        .create(&p("/data/f"), CreateOptions::default())
        .await
        .unwrap();
    writer
        .write(Bytes::from(vec![b'x'; 20 * MIB]))
        .await
        .unwrap();
    drop(writer);
    writing.close().await.unwrap();
    assert_eq!(fs.owed().await, []);
    assert_eq!(house.bucket().uploads(BUCKET), []);
    fails(
        writing.write("/data/g", "late").await,
        ErrorKind::InvalidArgument,
    );
}

#[tokio::test]
async fn w3_a_commit_dropped_while_parts_are_sent_leaves_nothing() {
    let (house, fs) = House::mounted().await;
    let rule = house.fault(FaultRule::new(FaultAction::Hang).on(Operation::UploadPart));
    let writing = house.client().await;
    let mut writer = writing
        .create(&p("/data/f"), CreateOptions::default())
        .await
        .unwrap();
    writer
        .write(Bytes::from(vec![b'x'; 20 * MIB]))
        .await
        .unwrap();
    let commit = tokio::spawn(writer.commit());
    house.struck(rule).await;
    commit.abort();
    assert!(commit.await.unwrap_err().is_cancelled());
    writing.close().await.unwrap();
    assert_eq!(fs.owed().await, []);
    assert_eq!(house.bucket().uploads(BUCKET), []);
    fails(fs.read("/data/f").await, ErrorKind::NotFound);
}

#[tokio::test]
async fn w3_a_commit_that_nobody_waits_for_goes_on_to_its_end() {
    let (house, fs) = House::mounted().await;
    let slow = FaultRule::new(FaultAction::Delay(Duration::from_millis(50)));
    let rule = house.fault(slow.on(Operation::PutObject).key_prefix("f"));
    let mut writer = fs
        .create(&p("/data/f"), CreateOptions::default())
        .await
        .unwrap();
    writer.write("whole".into()).await.unwrap();
    let commit = tokio::spawn(writer.commit());
    house.struck(rule).await;
    commit.abort();
    fs.nothing_owed().await;
    assert_eq!(fs.read("/data/f").await.unwrap(), "whole");
}

#[tokio::test]
async fn w6_changes_in_place_are_refused_and_say_what_to_do_instead() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/f", "content").await.unwrap();
    let append = CreateOptions {
        append: true,
        ..CreateOptions::default()
    };
    let refused = fs.create(&p("/data/f"), append).await;
    let text = fails(refused, ErrorKind::Unsupported).to_string();
    assert!(text.starts_with("cannot append to /data/f: "), "{text}");
    assert!(text.contains("write it again"), "{text}");
    let refused = fs.truncate(&p("/data/f"), 3).await;
    let text = fails(refused, ErrorKind::Unsupported).to_string();
    assert!(text.starts_with("cannot truncate /data/f: "), "{text}");
    assert!(text.contains("overwrite"), "{text}");
    fails(fs.truncate(&p("/data/none"), 0).await, ErrorKind::NotFound);
    fails(fs.truncate(&p("/data"), 0).await, ErrorKind::IsADirectory);
    assert_eq!(fs.read("/data/f").await.unwrap(), "content");
    fs.nothing_owed().await;
    assert_eq!(house.keys(), ["f"]);
}
