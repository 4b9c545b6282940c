//! The main job, and what the verbs print.

use arustio_testkit::s3::{FaultAction, FaultRule, Operation, Profile};

use super::house::{BUCKET, House};

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn the_three_commands_of_the_readme_work_as_written() {
    let house = House::start().await;
    house.mount("/data", "s3a://test-bucket").await.ok();
    let listed = house.run(&["fs", "list"]).await.ok();
    assert_eq!(listed, "s3://test-bucket on /data (rw)\n");

    let content = pattern(20 << 20);
    house
        .s3
        .backdoor()
        .put(BUCKET, "bigfile.bin", content.clone());
    let target = house.path("some/where/bigfile.bin");
    let command = [
        "fs",
        "copy-to-local",
        "/data/bigfile.bin",
        target.to_str().unwrap(),
    ];
    house.run(&command).await.ok();
    assert!(std::fs::read(&target).unwrap() == content);
}

#[tokio::test]
async fn u1_a_written_file_is_an_object_under_its_own_name_in_both_kinds_of_store() {
    for profile in [Profile::Aws, Profile::Minio] {
        let house = House::with_profile(profile).await;
        house.mount("/data", "s3://test-bucket/below").await.ok();
        let content = pattern(20 << 20);
        let local = house.file("big", &content);
        house
            .run(&["fs", "copy-from-local", &local, "/data/d/big"])
            .await
            .ok();
        let stored = house.s3.backdoor().get(BUCKET, "below/d/big").unwrap();
        assert!(stored == content);
        house
            .run(&["fs", "mv", "/data/d/big", "/data/moved"])
            .await
            .ok();
        let objects = house.s3.backdoor().list(BUCKET, "");
        assert!(objects.contains(&"below/moved".to_owned()), "{objects:?}");
        assert!(!objects.contains(&"below/d/big".to_owned()), "{objects:?}");
        house
            .run(&["fs", "rm", "-r", "/data/moved", "/data/d"])
            .await
            .ok();
        assert_eq!(house.s3.backdoor().list(BUCKET, ""), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_second_read_comes_from_the_cache_and_asks_the_store_for_nothing() {
    let house = House::mounted().await;
    let content = pattern(10 << 20);
    house.s3.backdoor().put(BUCKET, "f", content.clone());
    let cold = house.run(&["fs", "cat", "-v", "/data/f"]).await;
    assert!(cold.err.contains("10 MiB UFS, 1 request"), "{}", cold.err);
    let before = house.s3.stats().snapshot().requests(Operation::GetObject);
    let warm = house.run(&["fs", "cat", "-v", "/data/f"]).await;
    assert!(
        warm.err
            .contains("10 MiB: 10 MiB cache, 0 B UFS, 0 requests"),
        "{}",
        warm.err
    );
    let after = house.s3.stats().snapshot().requests(Operation::GetObject);
    assert_eq!(before, after);
    let listed = house.run(&["fs", "ls", "-l", "/data"]).await.ok();
    assert!(listed.contains(" 100% f\n"), "{listed}");
    let freed = house.run(&["fs", "free", "/data/f"]).await.ok();
    assert_eq!(freed, "/data/f: 10 MiB of 1 file freed\n");
    let listed = house.run(&["--json", "fs", "ls", "/data"]).await.ok();
    assert!(listed.contains("\"cached_bytes\":0"), "{listed}");
}

#[tokio::test]
async fn a_tree_goes_in_and_comes_out_the_same() {
    let house = House::mounted().await;
    let mut expected = Vec::new();
    for i in 0..40 {
        let name = format!("tree/d{}/größe {i}.txt", i % 4);
        house.file(&name, &pattern(i * 997));
        expected.push((name, pattern(i * 997)));
    }
    std::fs::create_dir(house.path("tree/empty")).unwrap();
    let local = house.path("tree");
    let command = [
        "fs",
        "copyFromLocal",
        "-r",
        local.to_str().unwrap(),
        "/data/tree",
    ];
    house.run(&command).await.ok();
    let listed = house.run(&["fs", "ls", "-R", "/data/tree"]).await.ok();
    assert_eq!(listed.lines().count(), 45, "{listed}");
    let back = house.path("back");
    std::fs::create_dir(&back).unwrap();
    let command = [
        "fs",
        "copyToLocal",
        "-r",
        "/data/tree",
        back.to_str().unwrap(),
    ];
    house.run(&command).await.ok();
    for (name, content) in expected {
        assert!(
            std::fs::read(back.join(&name)).unwrap() == content,
            "{name}"
        );
    }
    assert!(back.join("tree/empty").is_dir());
    let counted = house
        .run(&["--json", "fs", "count", "/data/tree"])
        .await
        .ok();
    assert!(counted.contains("\"files\":40"), "{counted}");
}

#[tokio::test]
async fn copies_inside_the_namespace_cross_mounts() {
    let house = House::mounted().await;
    let local = house.path("ufs");
    std::fs::create_dir(&local).unwrap();
    let uri = format!("file://{}", local.display());
    house.run(&["fs", "mount", "/local", &uri]).await.ok();
    house.put("/data/d/f", b"hello").await;
    house
        .run(&["fs", "cp", "-r", "/data/d", "/local/e"])
        .await
        .ok();
    assert_eq!(std::fs::read(local.join("e/f")).unwrap(), b"hello");
    house
        .run(&["fs", "mv", "/data/d/f", "/local/g"])
        .await
        .fails("Unsupported", 9, &["/data/d/f", "cp"]);
}

#[tokio::test]
async fn head_tail_checksum_stat_test_touch_and_du_say_what_people_expect() {
    let house = House::mounted().await;
    house.put("/data/f", b"0123456789").await;
    assert_eq!(
        house.run(&["fs", "head", "-c", "3", "/data/f"]).await.ok(),
        "012"
    );
    assert_eq!(
        house.run(&["fs", "tail", "-c", "3", "/data/f"]).await.ok(),
        "789"
    );
    let sum = house.run(&["fs", "checksum", "/data/f"]).await.ok();
    let expected = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
    assert!(sum.starts_with(expected), "{sum}");
    assert_eq!(house.run(&["fs", "test", "-f", "/data/f"]).await.code, 0);
    assert_eq!(house.run(&["fs", "test", "-d", "/data/f"]).await.code, 1);
    assert_eq!(house.run(&["fs", "test", "-e", "/data/none"]).await.code, 1);
    house.run(&["fs", "touch", "/data/new"]).await.ok();
    assert_eq!(house.run(&["fs", "cat", "/data/new"]).await.ok(), "");
    let used = house.run(&["fs", "du", "-s", "/data"]).await.ok();
    assert_eq!(used, "10\t10 (100%)\t/data\n");
    let stat = house.run(&["--json", "fs", "stat", "/data/f"]).await.ok();
    for field in [
        "\"path\":\"/data/f\"",
        "\"size\":10",
        "\"persisted\":\"PERSISTED\"",
    ] {
        assert!(stat.contains(field), "{stat}");
    }
    let long = house.run(&["fs", "ls", "-lh", "/data"]).await.ok();
    assert!(
        long.contains("PERSISTED") && long.contains("10 B"),
        "{long}"
    );
}

#[tokio::test]
async fn settings_of_a_path_are_inherited_and_the_data_survives_their_change() {
    let house = House::mounted().await;
    let content = pattern(3 << 20);
    let local = house.file("three", &content);
    house
        .run(&["fs", "copy-from-local", &local, "/data/d/f"])
        .await
        .ok();
    house
        .run(&[
            "fs",
            "setConf",
            "/data",
            "block.size=1MiB",
            "writetype=THROUGH",
        ])
        .await
        .ok();
    let conf = house.run(&["fs", "get-conf", "/data/d"]).await.ok();
    assert!(
        conf.contains("block.size=1MiB (inherited from /data)"),
        "{conf}"
    );
    assert!(conf.contains("sync.interval=1m (default)"), "{conf}");
    let back = house.path("back");
    house
        .run(&["fs", "copy-to-local", "/data/d/f", back.to_str().unwrap()])
        .await
        .ok();
    assert!(std::fs::read(&back).unwrap() == content);
    house
        .run(&["fs", "set-conf", "/data", "--unset", "block.size"])
        .await
        .ok();
    let own = house.run(&["fs", "get-conf", "/data"]).await.ok();
    assert!(own.contains("write.type=THROUGH (set here)"), "{own}");
    let json = ["fs", "get-conf", "--json", "/data/d", "write.type"];
    let line = house.run(&json).await.ok();
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["origin"], "inherited");
    assert_eq!(value["from"], "/data");
    let size = house
        .run(&["fs", "get-conf", "/data", "block.size"])
        .await
        .ok();
    assert_eq!(size, "4MiB\n");
}

#[tokio::test]
async fn r3_a_change_in_the_bucket_is_seen_at_once_after_a_sync() {
    let house = House::mounted().await;
    house.s3.backdoor().put(BUCKET, "d/f", "one");
    assert_eq!(house.run(&["fs", "cat", "/data/d/f"]).await.ok(), "one");
    house.s3.backdoor().put(BUCKET, "d/f", "two!");
    house.s3.backdoor().put(BUCKET, "d/g", "new");
    house.run(&["fs", "sync", "/data/d"]).await.ok();
    assert_eq!(house.run(&["fs", "cat", "/data/d/f"]).await.ok(), "two!");
    assert_eq!(house.run(&["fs", "ls", "/data/d"]).await.ok(), "f\ng\n");
    house.s3.backdoor().delete(BUCKET, "d/f");
    house.run(&["fs", "sync", "/data/d"]).await.ok();
    assert_eq!(house.run(&["fs", "ls", "/data/d"]).await.ok(), "g\n");
}

#[tokio::test]
async fn n1_stale_ok_shows_what_is_known_and_asks_the_bucket_nothing() {
    let house = House::mounted().await;
    house.put("/data/d/f", b"12345").await;
    house.run(&["fs", "ls", "-R", "/data"]).await.ok();
    house.s3.backdoor().put(BUCKET, "d/new", "67");
    house.s3.backdoor().put(BUCKET, "e/new", "89");
    let asked = house.s3.faults().add(FaultRule::new(FaultAction::SlowDown));
    let run = async |verb, path| house.run(&["fs", verb, "--stale-ok", path]).await;
    assert_eq!(run("ls", "/data").await.ok(), "d/\n");
    assert_eq!(run("ls", "/data/d").await.ok(), "f\n");
    let status = run("stat", "/data/d/f").await.ok();
    assert!(status.contains("size: 5\n"), "{status}");
    let used = run("du", "/data").await.ok();
    assert_eq!(used, "5\t5 (100%)\t/data/d\n5\t5 (100%)\t/data\n");
    let counted = run("count", "/data").await.ok();
    assert!(counted.contains("1 files"), "{counted}");
    run("stat", "/data/d/new")
        .await
        .fails("NotFound", 3, &["/data/d/new"]);
    run("ls", "/data/e")
        .await
        .fails("NotFound", 3, &["/data/e"]);
    assert_eq!(house.s3.faults().hits(asked), 0);
    house.s3.faults().clear();
    house.run(&["fs", "sync", "-r", "/data"]).await.ok();
    assert_eq!(run("ls", "/data/d").await.ok(), "f\nnew\n");
    assert_eq!(run("ls", "/data/e").await.ok(), "new\n");
}

#[tokio::test]
async fn u3_hostile_keys_break_nobody_and_the_report_names_them() {
    let house = House::mounted().await;
    for key in ["good", "a//b", "x/../y", "./z", "both", "both/inside"] {
        house.s3.backdoor().put(BUCKET, key, "x");
    }
    let long = "n".repeat(256);
    house.s3.backdoor().put(BUCKET, &long, "x");
    let listed = house.run(&["fs", "ls", "-R", "/data"]).await.ok();
    assert!(listed.lines().any(|l| l == "good"), "{listed}");
    assert!(listed.lines().any(|l| l == "both/"), "{listed}");
    assert!(listed.lines().any(|l| l == "both/inside"), "{listed}");
    let report = house.run(&["fs", "sync", "--report", "/data"]).await.ok();
    for key in ["a//b", "x/../y", "./z", "both", &long] {
        let named = report.lines().any(|l| l.split('\t').next() == Some(key));
        assert!(named, "{key} is not named:\n{report}");
    }
    assert!(!report.contains("good"), "{report}");
}

#[tokio::test]
async fn c1_a_secret_is_shown_nowhere() {
    let house = House::start().await;
    let mounted = house.mount("/data", "s3://test-bucket").await;
    assert!(
        mounted.err.contains("visible in the process list"),
        "{mounted:?}"
    );
    for command in [
        &["fs", "list", "-v"][..],
        &["--json", "fs", "list", "-v"][..],
    ] {
        let shown = house.run(command).await;
        assert!(!shown.out.contains("minioadmin"), "{shown:?}");
        assert!(!shown.err.contains("minioadmin"), "{shown:?}");
    }
    let key = house.path("data/cluster.key");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn the_mounts_are_listed_with_what_they_can_do_and_the_age_of_what_is_known() {
    let house = House::mounted().await;
    let listed = house.run(&["fs", "list", "-v"]).await.ok();
    assert!(listed.contains("looked at: not since"), "{listed}");
    house.run(&["fs", "ls", "/data"]).await.ok();
    for command in [&["fs", "list", "-v"], &["fs", "mount", "-v"]] {
        let listed = house.run(command).await.ok();
        for words in ["can: ", "credential: set", "endpoint=", "looked at: "] {
            assert!(listed.contains(words), "{words} is missing: {listed}");
        }
        assert!(listed.contains("s ago\n"), "{listed}");
    }
}

#[tokio::test]
async fn an_updated_mount_keeps_what_was_not_given_anew() {
    let house = House::mounted().await;
    house.put("/data/f", b"content").await;
    house
        .run(&["fs", "update-mount", "--readonly", "/data"])
        .await
        .ok();
    assert_eq!(house.run(&["fs", "cat", "/data/f"]).await.ok(), "content");
    let listed = house.run(&["fs", "list"]).await.ok();
    assert_eq!(listed, "s3://test-bucket on /data (ro)\n");
    // A key that is replaced leaves the mount as it is.
    let key = ["fs", "update-mount", "-o", "path_style=true", "/data"];
    let updated = house.run(&key).await.ok();
    assert!(updated.contains("(ro)"), "{updated}");
    let writable = ["fs", "update-mount", "--readonly=false", "/data"];
    let updated = house.run(&writable).await.ok();
    assert_eq!(updated, "updated s3://test-bucket on /data (rw)\n");
    house.put("/data/g", b"content").await;
    let wrong = "secret_access_key=env:NOT_THE_SECRET";
    let mut command = house.command();
    command.env("NOT_THE_SECRET", "something else");
    command.args(["fs", "update-mount", "-o", wrong, "/data"]);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    // What was refused changed nothing.
    house.run(&["fs", "sync", "/data"]).await.ok();
}

#[tokio::test]
async fn without_keys_the_usual_chain_is_asked() {
    let house = House::start().await;
    house.s3.backdoor().put(BUCKET, "f", "content");
    let endpoint = format!("endpoint={}", house.s3.endpoint());
    let run = async |arguments: &[&str]| {
        let mut command = house.command();
        command.env("AWS_ACCESS_KEY_ID", "minioadmin");
        command.env("AWS_SECRET_ACCESS_KEY", "minioadmin");
        command.args(arguments).output().await.unwrap()
    };
    let mounted = run(&["fs", "mount", "-o", &endpoint, "/data", "s3://test-bucket"]).await;
    assert!(mounted.status.success(), "{mounted:?}");
    let read = run(&["fs", "cat", "/data/f"]).await;
    assert_eq!(read.stdout, b"content", "{read:?}");
}
