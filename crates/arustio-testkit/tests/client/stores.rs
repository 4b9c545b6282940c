//! L3, U2 and U4: what the store holds is what the namespace says, found or moved.

use std::time::Duration;

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
