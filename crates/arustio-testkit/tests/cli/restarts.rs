//! The daemon ends and starts again: everything is still there.

use super::house::{BUCKET, House};

#[tokio::test]
async fn n3_everything_acknowledged_is_there_after_a_restart_and_after_a_crash() {
    let mut house = House::mounted().await;
    house.put("/data/f", b"content").await;
    house.run(&["fs", "mkdir", "/plain"]).await.ok();
    house
        .run(&["fs", "set-conf", "/data", "sync.interval=never"])
        .await
        .ok();
    for how in ["restart", "crash"] {
        match how {
            "restart" => house.restart().await,
            _ => house.crash().await,
        }
        assert_eq!(house.run(&["fs", "cat", "/data/f"]).await.ok(), "content");
        assert_eq!(house.run(&["fs", "ls", "/"]).await.ok(), "data/\nplain/\n");
        let conf = house
            .run(&["fs", "get-conf", "/data", "sync.interval"])
            .await
            .ok();
        assert_eq!(conf, "never\n");
        let name = format!("/data/after-{how}");
        house.put(&name, b"more").await;
    }
    assert_eq!(
        house.s3.backdoor().list(BUCKET, ""),
        ["after-crash", "after-restart", "f"]
    );
}

#[tokio::test]
async fn cached_blocks_survive_a_restart() {
    let mut house = House::mounted().await;
    house.s3.backdoor().put(BUCKET, "f", vec![5; 8 << 20]);
    house.run(&["fs", "cat", "/data/f"]).await.ok();
    house.restart().await;
    let warm = house.run(&["fs", "cat", "-v", "/data/f"]).await;
    assert!(warm.err.contains("8 MiB cache, 0 B UFS"), "{}", warm.err);
}

#[tokio::test]
async fn n8_an_unmounted_bucket_is_untouched_and_mounted_again_it_is_all_there() {
    let house = House::mounted().await;
    house.put("/data/f", b"content").await;
    house.run(&["fs", "unmount", "/data"]).await.ok();
    assert_eq!(house.s3.backdoor().list(BUCKET, ""), ["f"]);
    house.mount("/again", "s3://test-bucket").await.ok();
    assert_eq!(house.run(&["fs", "cat", "/again/f"]).await.ok(), "content");
}
