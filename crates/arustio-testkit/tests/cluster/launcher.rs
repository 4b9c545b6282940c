//! The launcher and the command of operators, on one metadata server and on several.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::house::{House, LIMIT};

/// The launcher, as `cargo xtask cluster` starts it.
fn launcher(words: &[&str], dir: &Path) -> Command {
    let server = Path::new(env!("CARGO_BIN_EXE_arustio-server-under-test"));
    let bin = dir.parent().unwrap().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let link = bin.join("arustio-server");
    if !link.exists() {
        std::os::unix::fs::symlink(server, link).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_arustio-cluster"));
    command.arg("--bin-dir").arg(bin).args(words);
    command.arg("--dir").arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(words: &[&str], dir: &Path) -> (bool, String, String) {
    let done = tokio::time::timeout(3 * LIMIT, launcher(words, dir).output());
    let done = done.await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.success(), text(done.stdout), text(done.stderr))
}

fn running(line: &str) -> Vec<(String, bool)> {
    let status: Value = serde_json::from_str(line).unwrap();
    let node = |node: &Value| {
        let name = node["name"].as_str().unwrap().to_owned();
        (name, node["running"].as_bool().unwrap())
    };
    status["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(node)
        .collect()
}

#[tokio::test]
async fn a_cluster_starts_is_hurt_and_ends_with_nothing_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cluster");
    let (ok, out, err) = run(&["up", "--meta", "1", "--block", "2", "--detach"], &dir).await;
    assert!(ok, "{err}");
    assert_eq!(out.lines().count(), 1, "{out}");
    let all = ["meta-1", "block-1", "block-2"];
    assert_eq!(running(&out), all.map(|name| (name.to_owned(), true)));

    let (ok, _, err) = run(&["up", "--meta", "1"], &dir).await;
    assert!(!ok && err.contains("cluster down"), "{err}");
    assert!(run(&["kill", "block-1"], &dir).await.0);
    let (ok, _, err) = run(&["kill", "block-1"], &dir).await;
    assert!(!ok && err.contains("does not run"), "{err}");
    let (_, out, _) = run(&["status"], &dir).await;
    assert!(
        running(&out).contains(&("block-1".to_owned(), false)),
        "{out}"
    );
    let (ok, _, err) = run(&["start", "block-1"], &dir).await;
    assert!(ok, "{err}");
    // What is stopped for a while is ended all the same.
    assert!(run(&["kill", "--signal", "stop", "meta-1"], &dir).await.0);
    let (ok, _, err) = run(&["down", "--purge"], &dir).await;
    assert!(ok, "{err}");
    assert!(!dir.exists());
}

#[tokio::test]
async fn in_the_foreground_it_ends_with_its_daemons_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cluster");
    let mut up = launcher(&["up", "--meta", "1", "--block", "0"], &dir);
    let mut up: Child = up.spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(3 * LIMIT, lines.next_line());
    let line = line.await.unwrap().unwrap().unwrap();
    assert_eq!(running(&line), [("meta-1".to_owned(), true)]);
    let pid = rustix::process::Pid::from_raw(i32::try_from(up.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = tokio::time::timeout(LIMIT, up.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(ended.success());
    let (_, out, _) = run(&["status"], &dir).await;
    assert_eq!(running(&out), [("meta-1".to_owned(), false)]);
}

#[tokio::test]
async fn a_daemon_that_does_not_start_is_shown_with_the_end_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cluster");
    let mut command = launcher(&["up", "--meta", "1", "--block", "0"], &dir);
    command.env("ARUSTIO_METADATA__RAFT__TICK", "nonsense");
    let done = tokio::time::timeout(LIMIT, command.output()).await.unwrap();
    let done = done.unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success());
    assert!(err.contains("meta-1") && err.contains("nonsense"), "{err}");
}

#[tokio::test]
async fn an_operator_sees_the_group_and_is_told_what_cannot_be() {
    let house = House::start(1, 0).await;
    let done = house.command(&["admin", "raft", "list"]).await;
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{text}");
    assert!(text.starts_with("ID  ADDRESS"), "{text}");
    assert!(
        text.contains("leader") && text.contains("Answered by member 1"),
        "{text}"
    );
    let done = house.command(&["--json", "admin", "raft", "list"]).await;
    let line: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(line["role"], "leader");
    assert_eq!(line["state"], "answers");

    let done = house.command(&["admin", "raft", "remove", "1"]).await;
    let text = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(6), "{text}");
    assert!(
        text.starts_with("error[Conflict]: cannot remove the member: "),
        "{text}"
    );
    let done = house.command(&["admin", "raft", "promote", "9"]).await;
    assert_eq!(done.status.code(), Some(3));
    let done = house.command(&["admin", "raft", "add", "0", "h:1"]).await;
    assert_eq!(done.status.code(), Some(2));
    let done = house.command(&["admin", "raft", "snapshot"]).await;
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn an_operator_is_told_within_three_seconds_that_nothing_runs() {
    let mut house = House::start(1, 0).await;
    house.cluster.down().await.unwrap();
    let began = std::time::Instant::now();
    let done = house.command(&["admin", "raft", "list"]).await;
    assert!(
        began.elapsed() < Duration::from_millis(3500),
        "{:?}",
        began.elapsed()
    );
    let text = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(7), "{text}");
    assert!(text.contains("cannot reach 127.0.0.1:"), "{text}");
}
