//! N8: what unmounting ends and what it leaves.

use std::time::Duration;

use arustio_client::{CreateOptions, ErrorKind, FileSystem, OpenOptions};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation};

use crate::house::{BUCKET, House, Short, eventually, fails, p};

#[tokio::test]
async fn n8_handles_that_are_open_become_stale() {
    let (house, fs) = House::mounted().await;
    house.put("f", vec![7; 1 << 20]);
    let second = Duration::from_secs(1);
    let other = house
        .client_with(|config| config.session_ttl = second)
        .await;
    let own = fs
        .open(&p("/data/f"), OpenOptions::default())
        .await
        .unwrap();
    let far = other
        .open(&p("/data/f"), OpenOptions::default())
        .await
        .unwrap();
    assert_eq!(own.read_at(0, 10).await.unwrap(), vec![7; 10]);
    assert_eq!(far.read_at(0, 10).await.unwrap(), vec![7; 10]);
    fs.unmount(&p("/data"), false).await.unwrap();
    fails(own.read_at(1 << 19, 10).await, ErrorKind::Stale);
    fails(own.read_at(0, 10).await, ErrorKind::Stale);
    // Others ask once in the time of a session.
    eventually(async || match far.read_at(0, 10).await {
        Ok(bytes) => Err(format!("{bytes:?}")),
        Err(error) if error.kind() == ErrorKind::Stale => Ok(()),
        Err(error) => panic!("{error}"),
    })
    .await;
    assert_eq!(house.keys(), ["f"]);
}

#[tokio::test]
async fn n8_an_open_write_keeps_the_mount_unless_it_is_abandoned_by_force() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/old", "old").await.unwrap();
    let mut writer = fs
        .create(&p("/data/f"), CreateOptions::default())
        .await
        .unwrap();
    writer.write("half".into()).await.unwrap();
    let error = fails(fs.unmount(&p("/data"), false).await, ErrorKind::Conflict);
    assert!(error.to_string().contains("/data"), "{error}");
    assert_eq!(fs.read("/data/old").await.unwrap(), "old");

    let left = fs.unmount(&p("/data"), true).await.unwrap();
    assert_eq!(left.abandoned, ["write of /data/f"]);
    assert!(writer.commit().await.is_err(), "its mount is gone");
    assert!(!fs.exists("/data/old").await);
    assert_eq!(house.object("old").unwrap(), "old");
    assert_eq!(fs.owed().await, []);
}

#[tokio::test]
async fn n8_work_owed_to_the_store_keeps_the_mount_unless_it_is_abandoned_by_force() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/f", "bytes").await.unwrap();
    let hang = FaultRule::new(FaultAction::Hang).on(Operation::DeleteObject);
    let rule = house.fault(hang.key_prefix("f"));
    let victim = house.victim().await;
    let remover = victim.fs.clone();
    victim.start(async move { remover.rm("/data/f").await });
    house.struck(rule).await;
    victim.kill().await;
    fails(fs.unmount(&p("/data"), false).await, ErrorKind::Conflict);
    let left = fs.unmount(&p("/data"), true).await.unwrap();
    assert_eq!(left.abandoned.len(), 1, "{left:?}");
    assert!(left.abandoned[0].contains("/data/f"), "{left:?}");
    assert_eq!(house.object("f").unwrap(), "bytes");
}

#[tokio::test]
async fn n8_a_new_mount_trusts_nothing_that_was_cached_before() {
    let (house, fs) = House::mounted().await;
    house.put("f", "first");
    let first = fs.mounts().await.unwrap()[0].id;
    let content = |status: arustio_types::meta::FileStatus| status.content_id().unwrap();
    assert_eq!(fs.read("/data/f").await.unwrap(), "first");
    let before = content(fs.stat(&p("/data/f"), Default::default()).await.unwrap());
    fs.unmount(&p("/data"), false).await.unwrap();

    house.mount(&fs, "/data", "s3://test-bucket").await.unwrap();
    assert_ne!(fs.mounts().await.unwrap()[0].id, first);
    house.s3.stats().reset();
    assert_eq!(fs.read("/data/f").await.unwrap(), "first");
    let reads = house.s3.stats().snapshot().requests(Operation::GetObject);
    assert_eq!(reads, 1, "the bytes came from the store");
    let after = content(fs.stat(&p("/data/f"), Default::default()).await.unwrap());
    assert_ne!(after, before);
    assert!(house.bucket().delete(BUCKET, "f"));
}

#[tokio::test]
async fn n7_mounts_nest_the_longest_prefix_wins_and_none_is_crossed_or_covered() {
    let house = House::start().await;
    let fs = house.client().await;
    house
        .mount(&fs, "/", "s3://test-bucket/root")
        .await
        .unwrap();
    house
        .mount(&fs, "/a/inner", "s3://test-bucket/inner")
        .await
        .unwrap();
    fs.write("/a/f", "outer").await.unwrap();
    fs.write("/a/inner/f", "inner").await.unwrap();
    assert_eq!(house.object("root/a/f").unwrap(), "outer");
    assert_eq!(house.object("inner/f").unwrap(), "inner");
    // What the outer store has under the mount point is covered by it.
    house.put("root/a/inner/hidden", "hidden");
    fs.sync_all("/").await;
    assert_eq!(fs.names("/a").await, ["f", "inner"]);
    assert_eq!(fs.names("/a/inner").await, ["f"]);
    let before = house.keys();
    for refused in [
        fs.rm_r("/a").await.map(drop),
        fs.rm_r("/a/inner").await.map(drop),
        fs.mv("/a", "/b").await,
        fs.mv("/a/inner", "/b").await,
        fs.mv("/a/f", "/a/inner/g").await,
    ] {
        fails(refused, ErrorKind::Unsupported);
    }
    let over = house.mount(&fs, "/a/inner", "s3://test-bucket/other").await;
    assert!(over.is_err(), "{over:?}");
    let outer = fs.unmount(&p("/"), false).await;
    fails(outer, ErrorKind::Conflict);
    assert_eq!(house.keys(), before);
    assert_eq!(fs.read("/a/inner/f").await.unwrap(), "inner");
}

#[tokio::test]
async fn n7_two_mounts_of_the_same_objects_may_not_both_be_writable() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/d/f", "bytes").await.unwrap();
    let second = house.mount(&fs, "/second", "s3://test-bucket/d").await;
    fails(second, ErrorKind::Conflict);
    let mut request = house.request("/second", "s3://test-bucket/d");
    request.readonly = true;
    fs.mount(request).await.unwrap();
    assert_eq!(fs.read("/second/f").await.unwrap(), "bytes");
    fails(fs.rm("/second/f").await, ErrorKind::ReadOnly);
    // Outside mounts there are only directories.
    fails(fs.write("/f", "bytes").await, ErrorKind::Unsupported);
    fs.mkdirs("/plain/inside").await;
    assert_eq!(fs.names("/").await, ["data", "plain", "second"]);
}

#[tokio::test]
async fn a_client_that_sees_the_store_elsewhere_maps_its_endpoint() {
    let house = House::start().await;
    // As in a network of containers: a name that means nothing here.
    let inside = "http://store.invalid:9000";
    let fs = house
        .client_with(|config| {
            let map = &mut config.ufs.endpoint_map;
            map.insert(inside.to_owned(), house.s3.endpoint().to_owned());
        })
        .await;
    let request = house.request("/data", "s3://test-bucket");
    let request = request.option("endpoint", inside);
    fs.mount(request).await.unwrap();
    fs.write("/data/f", "bytes").await.unwrap();
    assert_eq!(house.object("f").unwrap(), "bytes");
    house.put("g", "outside");
    assert_eq!(fs.read("/data/g").await.unwrap(), "outside");
    let recorded = &fs.mounts().await.unwrap()[0].spec.options;
    assert_eq!(recorded["endpoint"], inside, "the mount is for everybody");
}
