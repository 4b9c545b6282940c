//! L3, U2 and U4: what the store holds is what the namespace says, found or moved.

use arustio_client::types::meta::Command;
use arustio_client::{ErrorKind, FileSystem, RenameOptions};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation, Profile};

use crate::house::{BUCKET, House, SHORT, Short, fails, p};

const PROFILES: [Profile; 2] = [Profile::Aws, Profile::Minio];
const NOTHING: [&str; 0] = [];

#[tokio::test]
async fn l3_a_directory_that_nobody_looked_at_is_removed_whole() {
    let (house, fs) = House::mounted().await;
    for key in ["d/f", "d/sub/g", "d/sub/deep/h", "e/f"] {
        house.put(key, "bytes");
    }
    assert_eq!(fs.rm_r("/data/d").await.unwrap(), 6);
    assert_eq!(house.keys(), ["e/f"]);
    assert!(!fs.exists("/data/d").await);
}

#[tokio::test]
async fn l3_a_directory_that_nobody_looked_at_is_not_taken_for_an_empty_one() {
    let (house, fs) = House::mounted().await;
    house.put("d/f", "bytes");
    fails(fs.rm("/data/d").await, ErrorKind::NotEmpty);
    assert_eq!(house.keys(), ["d/f"]);
}

#[tokio::test]
async fn l3_a_directory_that_nobody_looked_at_is_moved_whole() {
    for profile in PROFILES {
        let (house, fs) = House::mounted_with(profile).await;
        for key in ["d/f", "d/sub/g", "d/sub/"] {
            house.put(key, if key.ends_with('/') { "" } else { "bytes" });
        }
        fs.mv("/data/d", "/data/e").await.unwrap();
        assert_eq!(house.keys(), ["e/f", "e/sub/", "e/sub/g"]);
        assert_eq!(fs.read("/data/e/sub/g").await.unwrap(), "bytes");
        assert!(!fs.exists("/data/d").await);
        house.put("x/f", "bytes");
        fails(fs.mv("/data/e", "/data/x").await, ErrorKind::AlreadyExists);
    }
}

#[tokio::test]
async fn u2_a_fresh_namespace_over_the_same_bucket_shows_the_same_names_and_bytes() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/f", "one").await.unwrap();
    fs.write("/data/d/größe ü.txt", "two").await.unwrap();
    fs.write("/data/d/deep/g", "three").await.unwrap();
    fs.mkdirs("/data/empty/inside").await;
    fs.overwrite("/data/f", "replaced").await.unwrap();
    fs.mv("/data/d/deep", "/data/moved").await.unwrap();
    fs.mv("/data/empty", "/data/hollow").await.unwrap();
    fs.rm_r("/data/moved/g").await.unwrap();
    fs.nothing_owed().await;
    let fresh = house.fresh_namespace().await;
    let there = fs.tree("/data").await;
    assert_eq!(there["hollow/inside"], None);
    assert_eq!(there["f"].as_deref(), Some("replaced"));
    assert_eq!(fresh.fs.tree("/data").await, there);
}

#[tokio::test]
async fn u2_a_directory_without_a_marker_goes_with_its_last_object() {
    let (house, fs) = House::mounted().await;
    house.put("d/sub/f", "bytes");
    house.put("d/g", "bytes");
    fs.mkdirs("/data/marked").await;
    fs.write("/data/marked/f", "bytes").await.unwrap();
    assert_eq!(fs.names("/data/d/sub").await, ["f"]);
    for key in ["d/sub/f", "marked/f"] {
        assert!(house.bucket().delete(BUCKET, key));
    }
    fs.sync_all("/data").await;
    assert_eq!(fs.names("/data/d").await, ["g"]);
    assert_eq!(fs.names("/data/marked").await, NOTHING);
    assert!(house.bucket().delete(BUCKET, "d/g"));
    fs.sync_all("/data").await;
    assert_eq!(fs.names("/data").await, ["marked"]);
}

/// Moves `/data/a` to `/data/b` while `meddle` happens after the command that it names.
async fn meddled(
    house: &House,
    options: RenameOptions,
    meddle: impl Fn(&Command) + Send + Sync + 'static,
) -> arustio_client::Result<()> {
    let fs = house.client_with_hook(meddle).await;
    fs.rename(&p("/data/a"), &p("/data/b"), options).await
}

#[tokio::test]
async fn u4_an_object_that_came_to_the_destination_undoes_the_move_and_nothing_is_destroyed() {
    for profile in PROFILES {
        for replace in [false, true] {
            let (house, fs) = House::mounted_with(profile).await;
            fs.write("/data/a", "moving").await.unwrap();
            if replace {
                fs.write("/data/b", "replaced").await.unwrap();
            }
            let bucket = house.bucket();
            let options = RenameOptions {
                replace,
                ..RenameOptions::default()
            };
            let moved = meddled(&house, options, move |command| {
                if let Command::Rename { .. } = command {
                    bucket.put(BUCKET, "b", "foreign");
                }
            });
            let error = fails(moved.await, ErrorKind::Conflict);
            assert!(error.to_string().contains("/data/a"), "{error}");
            assert_eq!(house.object("a").unwrap(), "moving");
            assert_eq!(house.object("b").unwrap(), "foreign");
            assert_eq!(fs.read("/data/a").await.unwrap(), "moving");
            fs.sync_all("/data").await;
            assert_eq!(fs.read("/data/a").await.unwrap(), "moving");
            assert_eq!(fs.read("/data/b").await.unwrap(), "foreign");
            assert_eq!(fs.owed().await, []);
        }
    }
}

#[tokio::test]
async fn u4_an_object_that_comes_while_the_copy_is_on_its_way_is_not_destroyed() {
    for profile in PROFILES {
        let (house, fs) = House::mounted_with(profile).await;
        fs.write("/data/a", "moving").await.unwrap();
        let copies = FaultRule::new(FaultAction::Hang)
            .on(Operation::CopyObject)
            .on(Operation::CompleteMultipartUpload)
            .key_prefix("b");
        let rule = house.fault(copies.times(1));
        let brief = house.client_with(|config| config.session_ttl = SHORT).await;
        let moving = tokio::spawn(async move { brief.mv("/data/a", "/data/b").await });
        house.struck(rule).await;
        house.put("b", "foreign");
        fails(moving.await.unwrap(), ErrorKind::Conflict);
        assert_eq!(house.object("b").unwrap(), "foreign");
        assert_eq!(fs.read("/data/a").await.unwrap(), "moving");
        assert_eq!(house.bucket().uploads(BUCKET), []);
    }
}

#[tokio::test]
async fn u4_a_source_that_was_replaced_or_removed_before_the_copy_is_no_longer_moved() {
    for profile in PROFILES {
        for replaced in [true, false] {
            let (house, fs) = House::mounted_with(profile).await;
            fs.write("/data/a", "moving").await.unwrap();
            let bucket = house.bucket();
            let moved = meddled(&house, RenameOptions::default(), move |command| {
                if !matches!(command, Command::Rename { .. }) {
                } else if replaced {
                    bucket.put(BUCKET, "a", "foreign");
                } else {
                    bucket.delete(BUCKET, "a");
                }
            });
            let error = fails(moved.await, ErrorKind::Conflict);
            assert!(error.to_string().contains("/data/a"), "{error}");
            assert!(!fs.exists("/data/b").await);
            fs.sync_all("/data").await;
            let left = if replaced { &["a"][..] } else { &[] };
            assert_eq!(house.keys(), left);
            assert_eq!(fs.names("/data").await, left);
            assert_eq!(fs.owed().await, []);
        }
    }
}

#[tokio::test]
async fn u4_a_source_that_was_replaced_after_the_copy_survives() {
    for profile in PROFILES {
        let (house, fs) = House::mounted_with(profile).await;
        fs.write("/data/a", "moving").await.unwrap();
        let bucket = house.bucket();
        let moved = meddled(&house, RenameOptions::default(), move |command| {
            if let Command::CopySettled { .. } = command {
                bucket.put(BUCKET, "a", "foreign");
            }
        });
        moved.await.unwrap();
        assert_eq!(house.object("a").unwrap(), "foreign");
        assert_eq!(house.object("b").unwrap(), "moving");
        fs.sync_all("/data").await;
        assert_eq!(fs.read("/data/a").await.unwrap(), "foreign");
        assert_eq!(fs.read("/data/b").await.unwrap(), "moving");
    }
}

#[tokio::test]
async fn u4_a_large_object_moves_with_its_bytes_in_both_kinds_of_store() {
    for profile in PROFILES {
        let (house, fs) = House::mounted_with(profile).await;
        let bytes = "0123456789abcdef".repeat(1 << 20);
        fs.write("/data/a", &bytes).await.unwrap();
        let before = fs.stat(&p("/data/a"), Default::default()).await.unwrap();
        fs.mv("/data/a", "/data/d").await.unwrap();
        let after = fs.stat(&p("/data/d"), Default::default()).await.unwrap();
        assert_eq!(after.content_id(), before.content_id());
        assert!(fs.read("/data/d").await.unwrap() == bytes);
        assert!(house.object("d").unwrap() == bytes);
        assert_eq!(house.keys(), ["d"]);
    }
}
