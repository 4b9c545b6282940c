//! What people get wrong, and what they are told.

use super::house::{BUCKET, House, server_command};

#[tokio::test]
async fn mounts_that_cannot_be_are_refused_with_the_reason() {
    let house = House::mounted().await;
    let again = house.mount("/data", "s3a://test-bucket").await;
    assert!(again.ok().contains("already mounted"));
    house
        .mount("/data", "s3://other")
        .await
        .fails("AlreadyExists", 4, &["/data"]);
    house.put("/data/f", b"x").await;
    house
        .mount("/data/f/below", "s3://test-bucket")
        .await
        .fails("NotADirectory", 9, &["/data/f"]);
    house
        .mount("/other", "s3://no-such-bucket")
        .await
        .fails("NotFound", 3, &["no-such-bucket"]);
    house
        .mount("/other", "s3://test-bucket/inside")
        .await
        .fails("Conflict", 6, &["/data"]);
}

#[tokio::test]
async fn a_wrong_key_a_dead_endpoint_an_unknown_option_and_scheme_say_what_to_do() {
    let house = House::start().await;
    let endpoint = format!("endpoint={}", house.s3.endpoint());
    let keys = ["-o", "access_key_id=a", "-o", "secret_access_key=b"];
    let mount = |options: &[&str], uri: &'static str| {
        let mut line = vec!["fs", "mount"];
        line.extend(keys);
        line.extend(options);
        line.extend(["/data", uri]);
        line.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |line: Vec<String>| {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        house.run(&line).await
    };
    let wrong = run(mount(&["-o", &endpoint], "s3://test-bucket")).await;
    assert!(
        wrong.err.contains("error[PermissionDenied]")
            || wrong.err.contains("error[Unauthenticated]"),
        "{wrong:?}"
    );
    assert_eq!(wrong.code, 5);
    let dead = "endpoint=http://127.0.0.1:1";
    run(mount(&["-o", dead], "s3://test-bucket")).await.fails(
        "Unavailable",
        7,
        &["/data", "http://127.0.0.1:1", "refused", "curl"],
    );
    run(mount(&["-o", "acess_key=x"], "s3://test-bucket"))
        .await
        .fails("InvalidArgument", 2, &["acess_key", "access_key_id"]);
    run(mount(&[], "s4://test-bucket")).await.fails(
        "InvalidArgument",
        2,
        &["s4", "did you mean \"s3\"?"],
    );
    run(mount(&[], "gs://test-bucket"))
        .await
        .fails("Unsupported", 9, &["gs://", "s3://"]);
    run(mount(&[], "s3n://test-bucket"))
        .await
        .fails("Unsupported", 9, &["s3n", "use s3://"]);
    assert_eq!(house.run(&["fs", "list"]).await.ok(), "");
}

#[tokio::test]
async fn n6_names_that_are_none_are_refused_by_component() {
    let house = House::mounted().await;
    house
        .run(&["fs", "ls", "/data/../x"])
        .await
        .fails("InvalidPath", 2, &["'..'"]);
    house
        .run(&["fs", "ls", "/data//x"])
        .await
        .fails("InvalidPath", 2, &["empty"]);
    house
        .run(&["fs", "ls", "data"])
        .await
        .fails("InvalidPath", 2, &["start with '/'"]);
    let long = format!("/data/{}", "n".repeat(256));
    house
        .run(&["fs", "mkdir", &long])
        .await
        .fails("InvalidPath", 2, &["255"]);
    use std::os::unix::ffi::OsStrExt;
    let mut command = house.command();
    command
        .args(["fs", "ls"])
        .arg(std::ffi::OsStr::from_bytes(b"/data/\xff"));
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("UTF-8"));
}

#[tokio::test]
async fn copies_that_cannot_be_are_refused_before_anything_is_written() {
    let house = House::mounted().await;
    house
        .run(&["fs", "copy-from-local", "/nonexistent/f", "/data/f"])
        .await
        .fails("NotFound", 3, &["/nonexistent/f"]);
    let folder = house.file("d/f", b"x").replace("/d/f", "/d");
    house
        .run(&["fs", "copy-from-local", &folder, "/data/d"])
        .await
        .fails("IsADirectory", 9, &["-r"]);
    house.put("/data/f", b"old").await;
    let local = house.file("new", b"new");
    house
        .run(&["fs", "copy-from-local", &local, "/data/f"])
        .await
        .fails("AlreadyExists", 4, &["/data/f", "-f"]);
    house.run(&["fs", "mkdir", "/data/dir"]).await.ok();
    house
        .run(&["fs", "copy-from-local", &local, "/data/dir"])
        .await
        .ok();
    assert_eq!(house.run(&["fs", "cat", "/data/dir/new"]).await.ok(), "new");
    house
        .run(&["fs", "cat", "/data/dir"])
        .await
        .fails("IsADirectory", 9, &["/data/dir"]);
    house
        .run(&["fs", "copy-to-local", "/data/f", &local])
        .await
        .fails("AlreadyExists", 4, &["-f"]);
    house
        .run(&["fs", "cat", "/data/none"])
        .await
        .fails("NotFound", 3, &["/data/none"]);
    assert_eq!(house.s3.backdoor().uploads(BUCKET).len(), 0);
}

#[tokio::test]
async fn a_full_local_disk_has_its_own_message() {
    let house = House::mounted().await;
    house.s3.backdoor().put(BUCKET, "f", vec![1; 1 << 20]);
    // Every write to this device fails as a full disk does.
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut command = house.command();
    command
        .args(["fs", "cat", "/data/f"])
        .stdout(full.unwrap())
        .stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(
        said.contains("error[NoSpace]") && said.contains("full"),
        "{said}"
    );
}

#[tokio::test]
async fn a_copy_to_a_local_disk_that_cannot_take_it_leaves_no_half_file() {
    let house = House::mounted().await;
    house.s3.backdoor().put(BUCKET, "f", vec![1; 1 << 20]);
    let target = house.path("out");
    std::fs::create_dir(&target).unwrap();
    // A limit on the size of files stands for a disk that is full.
    let limited = "trap '' XFSZ; ulimit -f 100; exec \"$@\"";
    let arustio = house.command().as_std().get_program().to_owned();
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", limited, "sh"]).arg(arustio);
    command
        .args(["fs", "copy-to-local", "/data/f"])
        .arg(&target);
    command.envs(house.environment());
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("out/f"), "{said}");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "{said}");
}

#[tokio::test]
async fn without_a_server_the_command_says_how_to_start_one() {
    let house = House::start().await;
    let started = std::time::Instant::now();
    let mut command = house.command();
    command
        .env("ARUSTIO_SERVER", "127.0.0.1:1")
        .args(["fs", "ls", "/"]);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(7));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot reach 127.0.0.1:1"), "{said}");
    assert!(
        said.contains("is it running?") || said.contains("running?"),
        "{said}"
    );
    // The promise is three seconds; what is checked is that nobody waits for a minute.
    assert!(started.elapsed().as_secs() < 30);
}

#[tokio::test]
async fn a_port_that_does_not_speak_grpc_is_said_not_to() {
    let house = House::start().await;
    let config = house.file("patience.toml", b"request_timeout = \"2s\"\n");
    house
        .run(&[
            "--config",
            &config,
            "--server",
            &house.http,
            "fs",
            "ls",
            "/",
        ])
        .await
        .fails("Unavailable", 7, &[&house.http, "not the gRPC port"]);
}

#[tokio::test]
async fn a_host_that_is_not_there_is_said_to_be_out_of_reach() {
    let house = House::start().await;
    let address = "no-such-host.invalid:7411";
    let reach = format!("cannot reach {address}");
    house
        .run(&["--server", address, "fs", "ls", "/"])
        .await
        .fails("Unavailable", 7, &[&reach]);
}

#[tokio::test]
async fn n7_mount_points_are_neither_removed_nor_moved_and_a_name_above_them_is_not_removed() {
    let house = House::start().await;
    house.run(&["fs", "mkdir", "/top"]).await.ok();
    house.mount("/top/data", "s3://test-bucket").await.ok();
    house.run(&["fs", "rm", "-r", "/top/data"]).await.fails(
        "Unsupported",
        9,
        &["/top/data", "unmount"],
    );
    house
        .run(&["fs", "mv", "/top/data", "/x"])
        .await
        .fails("Unsupported", 9, &["/top/data"]);
    house
        .run(&["fs", "rm", "-r", "/top"])
        .await
        .fails("Unsupported", 9, &["/top/data"]);
    house.run(&["fs", "unmount", "/top/data"]).await.ok();
    house.run(&["fs", "rm", "-r", "/top"]).await.ok();
    house
        .run(&["fs", "unmount", "/top"])
        .await
        .fails("NotFound", 3, &["/top"]);
}

#[tokio::test]
async fn u5_a_read_only_mount_refuses_every_change() {
    let house = House::start().await;
    house.s3.backdoor().put(BUCKET, "f", "x");
    let endpoint = format!("endpoint={}", house.s3.endpoint());
    house
        .run(&[
            "fs",
            "mount",
            "--readonly",
            "-o",
            "access_key_id=minioadmin",
            "-o",
            "secret_access_key=minioadmin",
            "-o",
            &endpoint,
            "/data",
            "s3://test-bucket",
        ])
        .await
        .ok();
    assert_eq!(house.run(&["fs", "cat", "/data/f"]).await.ok(), "x");
    house
        .run(&["fs", "rm", "/data/f"])
        .await
        .fails("ReadOnly", 9, &["/data/f"]);
    house
        .run(&["fs", "mkdir", "/data/d"])
        .await
        .fails("ReadOnly", 9, &["/data/d"]);
    let local = house.file("l", b"y");
    house
        .run(&["fs", "copy-from-local", "-f", &local, "/data/f"])
        .await
        .fails("ReadOnly", 9, &["/data/f"]);
    assert_eq!(house.s3.backdoor().get(BUCKET, "f").unwrap(), "x");
}

#[tokio::test]
async fn w2_exclusive_create_of_a_name_that_only_the_bucket_has_is_refused() {
    let house = House::mounted().await;
    house.run(&["fs", "ls", "/data"]).await.ok();
    house.s3.backdoor().put(BUCKET, "f", "theirs");
    let local = house.file("ours", b"ours");
    house
        .run(&["fs", "copy-from-local", &local, "/data/f"])
        .await
        .fails("AlreadyExists", 4, &["/data/f"]);
    assert_eq!(house.s3.backdoor().get(BUCKET, "f").unwrap(), "theirs");
}

#[tokio::test]
async fn names_can_be_used_again_right_after_a_move_or_a_removal() {
    let house = House::mounted().await;
    house.put("/data/a", b"first").await;
    house.run(&["fs", "mv", "/data/a", "/data/b"]).await.ok();
    house.put("/data/a", b"second").await;
    assert_eq!(
        house.run(&["fs", "cat", "/data/a", "/data/b"]).await.ok(),
        "secondfirst"
    );
    house.put("/data/d/x", b"1").await;
    house.run(&["fs", "rm", "-r", "/data/d"]).await.ok();
    house.put("/data/d/x", b"2").await;
    assert_eq!(house.run(&["fs", "cat", "/data/d/x"]).await.ok(), "2");
    assert_eq!(house.run(&["fs", "pending"]).await.ok(), "");
}

#[tokio::test]
async fn u4_a_move_onto_a_name_that_somebody_just_put_into_the_bucket_destroys_nothing() {
    let house = House::mounted().await;
    house.put("/data/a", b"ours").await;
    house.run(&["fs", "ls", "/data"]).await.ok();
    house.s3.backdoor().put(BUCKET, "b", "theirs");
    let moved = house.run(&["fs", "mv", "/data/a", "/data/b"]).await;
    assert!(moved.code == 4 || moved.code == 6, "{moved:?}");
    assert_eq!(house.s3.backdoor().get(BUCKET, "a").unwrap(), "ours");
    assert_eq!(house.s3.backdoor().get(BUCKET, "b").unwrap(), "theirs");
    house.run(&["fs", "sync", "/data"]).await.ok();
    assert_eq!(
        house.run(&["fs", "cat", "/data/a", "/data/b"]).await.ok(),
        "ourstheirs"
    );
}

#[tokio::test]
async fn a_second_daemon_on_the_same_folder_is_refused() {
    let house = House::start().await;
    let output = server_command(&house.path("data")).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("in use") || said.contains("already"),
        "{said}"
    );
}

#[tokio::test]
async fn unknown_settings_of_the_daemon_are_refused_with_a_suggestion() {
    let house = House::start().await;
    let config = house.file("server.toml", b"[metadata]\ndata_dirr = \"x\"\n");
    let mut command = server_command(&house.path("other"));
    let output = command.args(["--config", &config]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("data_dirr"), "{said}");
}

#[tokio::test]
async fn usage_errors_end_with_two_and_help_with_zero() {
    let house = House::start().await;
    assert_eq!(house.run(&["fs", "lss"]).await.code, 2);
    assert_eq!(house.run(&["fs", "cat"]).await.code, 2);
    assert_eq!(house.run(&["--help"]).await.code, 0);
    assert_eq!(house.run(&["fs", "ls", "--help"]).await.code, 0);
    assert!(house.run(&["version"]).await.ok().starts_with("arustio "));
    house
        .run(&["fs", "set-conf", "/", "blok.size=1MiB"])
        .await
        .fails("InvalidArgument", 2, &["block.size"]);
    house
        .run(&["fs", "set-conf", "/", "write.type=ASYNC_THROUGH"])
        .await
        .fails("Unsupported", 9, &["write.type=CACHE_THROUGH"]);
}
