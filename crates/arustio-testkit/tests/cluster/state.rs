//! Backups of servers that run, as an operator makes and restores them.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_client::{ArustioFileSystem, Builder, FileSystem, StatOptions};
use futures::StreamExt as _;
use futures::stream;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::house::{House, LIMIT, make, p};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// It failed with this exit code; gives what it said.
#[track_caller]
fn failed(done: &Output, code: i32, kind: &str) -> String {
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{said}");
    assert!(said.contains(&format!("error[{kind}]: ")), "{said}");
    said
}

#[track_caller]
fn succeeded(done: &Output) -> String {
    assert!(done.status.success(), "{}", text(&done.stderr));
    text(&done.stdout)
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).into_iter().flatten();
    let names = names.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// A folder for backups, and the words that make one in it.
fn target() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metadata.backup");
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

/// A daemon of its own on a data folder, ended when it is dropped; and where it is.
async fn daemon(data: &Path) -> (tokio::process::Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arustio-server-under-test"));
    command.args(["--role", "metadata", "--listen", "127.0.0.1:0"]);
    command
        .arg("--data-dir")
        .arg(data)
        .env_remove("ARUSTIO_CONFIG");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
    let ready = ready.unwrap();
    let mut words = ready.split_whitespace();
    words.find(|word| *word == "grpc").unwrap();
    (child, words.next().unwrap().to_owned())
}

async fn offline(data: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arustio-server-under-test"));
    command.arg("--data-dir").arg(data).args(words);
    command.env_remove("ARUSTIO_CONFIG").output().await.unwrap()
}

/// Makes directories until it is told to stop; returns how many.
async fn write(fs: ArustioFileSystem, stop: Arc<AtomicBool>) -> usize {
    make(&fs, "/load").await.unwrap();
    let mut made = 0;
    while !stop.load(Ordering::Acquire) {
        make(&fs, &format!("/load/{made}")).await.unwrap();
        made += 1;
    }
    fs.close().await.unwrap();
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn n9_a_backup_under_load_is_restored_with_everything_acknowledged_before_it() {
    let house = House::start(3, 0).await;
    let fs = house.client().await;
    make(&fs, "/before").await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(house.client().await, Arc::clone(&stop)));
    for number in 0..50 {
        make(&fs, &format!("/before/{number}")).await.unwrap();
    }
    let (folder, file) = target();
    let words = ["--json", "admin", "metadata", "backup", &file];
    let made = succeeded(&house.command(&words).await);
    stop.store(true, Ordering::Release);
    assert!(writing.await.unwrap() > 0);
    let made: Value = serde_json::from_str(&made).unwrap();
    let bytes = std::fs::metadata(&file).unwrap().len();
    assert_eq!(made["bytes"], bytes);
    assert!(made["records"].as_u64().unwrap() > 50, "{made}");
    assert_eq!(names(folder.path()), ["metadata.backup"]);
    let again = house.command(&["admin", "metadata", "backup", &file]).await;
    failed(&again, 4, "AlreadyExists");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), bytes);

    let data = folder.path().join("data");
    succeeded(&offline(&data, &["metadata", "restore", &file]).await);
    succeeded(&offline(&data, &["metadata", "verify"]).await);
    let (_daemon, address) = daemon(&data).await;
    let restored = Builder::new().addresses([address]).connect().await.unwrap();
    for number in 0..50 {
        let path = p(&format!("/before/{number}"));
        restored.stat(&path, StatOptions::default()).await.unwrap();
    }
    restored.close().await.unwrap();
    fs.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_written_or_reached_is_said_and_leaves_nothing() {
    let mut house = House::start(1, 0).await;
    let (folder, file) = target();
    let nowhere = folder.path().join("no/such/folder/file");
    let words = ["admin", "metadata", "backup", nowhere.to_str().unwrap()];
    failed(&house.command(&words).await, 3, "NotFound");
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "x").unwrap();
    let below = plain.join("file");
    let words = ["admin", "metadata", "backup", below.to_str().unwrap()];
    failed(&house.command(&words).await, 9, "NotADirectory");
    std::fs::remove_file(&plain).unwrap();

    // A disk that takes nothing more.
    let mut full = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    let arustio = env!("CARGO_BIN_EXE_arustio-under-test");
    full.args([
        "-c", script, "sh", arustio, "admin", "metadata", "backup", &file,
    ]);
    full.env("ARUSTIO_SERVER", house.cluster.plan().metadata().join(","));
    let full = full.output().await.unwrap();
    assert!(!full.status.success());
    let said = text(&full.stderr);
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(names(folder.path()), [""; 0]);

    let restore = house
        .command(&["admin", "metadata", "restore", &file])
        .await;
    let said = failed(&restore, 9, "Unsupported");
    let told = format!("arustio-server --data-dir DIR metadata restore {file}");
    assert!(said.contains(&told), "{said}");

    house.cluster.down().await.unwrap();
    for verb in [&["backup", file.as_str()][..], &["verify"], &["dump"]] {
        let words = [&["admin", "metadata"], verb].concat();
        let said = failed(&house.command(&words).await, 7, "Unavailable");
        assert!(said.contains("cannot reach"), "{said}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
}

/// A server whose state takes more than one piece, which leave it slowly.
async fn slow() -> House {
    let mut house = House::start(1, 0).await;
    let fs = house.client().await;
    // Long names fill a state with few commands.
    let names = (0..5000).map(|number| format!("/{number}-{}", "x".repeat(240)));
    stream::iter(names)
        .for_each_concurrent(64, |name| {
            let fs = &fs;
            async move { make(fs, &name).await.unwrap() }
        })
        .await;
    fs.close().await.unwrap();
    house.cluster.signal("meta-1", Signal::TERM).await.unwrap();
    let config = &house.cluster.plan().find("meta-1").unwrap().config;
    let mut settings = std::fs::read_to_string(config).unwrap();
    settings.push_str("\n[metadata.raft]\nsnapshot_rate = \"64KiB\"\n");
    std::fs::write(config, settings).unwrap();
    house.cluster.start("meta-1").await.unwrap();
    house
}

async fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !look() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_and_one_whose_server_dies_leave_nothing_behind() {
    let mut house = slow().await;
    let (folder, file) = target();
    let server = house.cluster.plan().metadata().join(",");
    let data = house.cluster.plan().find("meta-1").unwrap().data.clone();
    let snapshots = data.join("meta/snapshots");
    let begin = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arustio-under-test"));
        command.args(["admin", "metadata", "backup", &file]);
        command.env("ARUSTIO_SERVER", &server).kill_on_drop(true);
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let half = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().flatten();
        let mut sizes = entries.filter_map(|entry| entry.metadata().ok());
        sizes.any(|found| found.len() >= 1 << 20)
    };
    let interrupted = begin();
    eventually("the first piece is written", half).await;
    assert_eq!(names(&snapshots).len(), 1);
    let pid = i32::try_from(interrupted.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
    let done = timeout(LIMIT, interrupted.wait_with_output())
        .await
        .unwrap();
    assert_eq!(done.unwrap().status.code(), Some(130));
    assert_eq!(names(folder.path()), [""; 0]);
    eventually("the server's copy is removed", || {
        names(&snapshots).is_empty()
    })
    .await;

    let orphaned = begin();
    eventually("the first piece is written", half).await;
    house.cluster.signal("meta-1", Signal::KILL).await.unwrap();
    let done = timeout(LIMIT, orphaned.wait_with_output()).await.unwrap();
    failed(&done.unwrap(), 7, "Unavailable");
    assert_eq!(names(folder.path()), [""; 0]);
    // What a server leaves that is killed, its next start removes.
    house.cluster.start("meta-1").await.unwrap();
    assert_eq!(names(&snapshots), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_checks_and_dumps_servers_that_run() {
    let mut house = House::start(3, 0).await;
    let fs = house.client().await;
    make(&fs, "/a").await.unwrap();
    make(&fs, "/a/b").await.unwrap();
    let said = succeeded(&house.command(&["admin", "metadata", "verify"]).await);
    assert!(said.contains("member 1 at 127.0.0.1:"), "{said}");
    assert_eq!(said.matches(": sound at entry").count(), 3, "{said}");
    assert!(
        said.contains("members 1, 2, 3 hold the same at entry"),
        "{said}"
    );
    let words = ["--json", "admin", "metadata", "verify", "--member", "2"];
    let said = succeeded(&house.command(&words).await);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["member"], 2);
    assert_eq!(report["sound"], true);
    assert_eq!(report["sum"].as_str().unwrap().len(), 32);

    let said = succeeded(&house.command(&["admin", "metadata", "dump"]).await);
    let lines = said.lines().map(serde_json::from_str::<Value>);
    let families: Vec<_> = lines.map(|line| line.unwrap()["family"].clone()).collect();
    assert!(families.contains(&Value::from("sessions")), "{said}");
    let said = succeeded(&house.command(&["admin", "metadata", "dump", "/a/b"]).await);
    assert_eq!(said.lines().count(), 2, "{said}");
    let done = house
        .command(&["admin", "metadata", "dump", "/never"])
        .await;
    failed(&done, 3, "NotFound");
    let done = house
        .command(&["admin", "metadata", "dump", "--member", "9"])
        .await;
    failed(&done, 3, "NotFound");

    let leader = house.leader().await;
    let victim = ["meta-1", "meta-2", "meta-3"];
    let victim = victim.into_iter().find(|name| *name != leader).unwrap();
    house.cluster.signal(victim, Signal::KILL).await.unwrap();
    let done = house.command(&["admin", "metadata", "verify"]).await;
    failed(&done, 7, "Unavailable");
    let said = text(&done.stdout);
    assert_eq!(said.matches(": sound at entry").count(), 2, "{said}");
    assert!(said.contains("not checked: "), "{said}");
    fs.close().await.unwrap();
}
