//! The program itself: its first line, its signals, its exit codes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running program that does not outlive its test.
struct Daemon {
    child: Child,
    out: BufReader<ChildStdout>,
    ready: String,
}

impl Daemon {
    fn start(data: &Path) -> Self {
        let mut child = command(data).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        out.read_line(&mut ready).unwrap();
        Self { child, out, ready }
    }

    /// The word behind another one in the first line.
    fn word_after(&self, name: &str) -> &str {
        let mut words = self.ready.split_whitespace();
        words.find(|word| *word == name).unwrap();
        words.next().unwrap()
    }

    /// Sends a signal, waits, and returns the exit code and stderr.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        let code = self.child.wait().unwrap().code();
        let mut text = String::new();
        let mut err = self.child.stderr.take().unwrap();
        err.read_to_string(&mut text).unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(
            rest.is_empty(),
            "only the first line goes to stdout: {rest}"
        );
        (code, text)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arustio-server"));
    command
        .env_clear()
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .env("ARUSTIO_BLOCK__DISK__CAPACITY", "64MiB")
        .env("ARUSTIO_BLOCK__MEMORY__CAPACITY", "8MiB")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn output(data: &Path, more: &[&str]) -> Output {
    command(data).args(more).output().unwrap()
}

#[test]
fn it_says_where_it_is_and_ends_with_0_on_sigterm_and_sigint() {
    let folder = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let daemon = Daemon::start(folder.path());
        assert!(
            daemon.ready.starts_with("ready: grpc 127.0.0.1:"),
            "{}",
            daemon.ready
        );
        assert_eq!(daemon.word_after("cache"), "8MiB+64MiB");
        for name in ["grpc", "frames", "http"] {
            std::net::TcpStream::connect(daemon.word_after(name)).unwrap();
        }
        assert!(folder.path().join("block.sock").exists());
        let (code, text) = daemon.end(signal);
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("WARN") && !text.contains("ERROR"), "{text}");
    }
}

#[test]
fn a_second_one_on_the_same_folder_says_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let second = output(folder.path(), &[]);
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(6), "{text}");
    assert!(text.contains("error[Conflict]: "), "{text}");
    assert!(text.contains(&daemon.child.id().to_string()), "{text}");
    daemon.end(Signal::TERM);
}

#[test]
fn it_starts_again_after_being_killed() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    daemon.end(Signal::KILL);
    let daemon = Daemon::start(folder.path());
    assert!(daemon.ready.starts_with("ready: "), "{}", daemon.ready);
    assert_eq!(daemon.end(Signal::TERM).0, Some(0));
}

#[test]
fn settings_are_printed_with_their_sources_and_mistakes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let printed = output(folder.path(), &["--print-config"]);
    assert!(printed.status.success());
    let text = String::from_utf8(printed.stdout).unwrap();
    let variable = "capacity = \"64MiB\"  # environment ARUSTIO_BLOCK__DISK__CAPACITY";
    assert!(text.contains(variable), "{text}");
    assert!(!folder.path().join("node.json").exists());

    let mut wrong = command(folder.path());
    let wrong = wrong.env("ARUSTIO_SERVER__LITSEN", "x").output().unwrap();
    let text = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{text}");
    assert!(text.contains("did you mean `listen`?"), "{text}");

    let open = output(folder.path(), &["--http-listen", "0.0.0.0:0"]);
    let text = String::from_utf8(open.stderr).unwrap();
    assert_eq!(open.status.code(), Some(2), "{text}");
    assert!(text.contains("--insecure"), "{text}");
}

#[test]
fn it_says_which_version_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let version = output(folder.path(), &["--version"]);
    let text = String::from_utf8(version.stdout).unwrap();
    assert_eq!(
        text.trim(),
        concat!("arustio-server ", env!("CARGO_PKG_VERSION"))
    );
}

fn text_of(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn n9_a_stopped_server_is_backed_up_and_restored_into_an_empty_folder_only() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Daemon::start(old.path()).end(Signal::TERM);
    let file = new.path().join("metadata.backup");
    let file = file.to_str().unwrap();
    let (code, text) = text_of(&output(old.path(), &["metadata", "backup", file]));
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = text_of(&output(old.path(), &["metadata", "verify"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("sound: 1 inodes"), "{text}");
    let dumped = output(old.path(), &["metadata", "dump", "--family", "nodes,meta"]);
    let (code, text) = text_of(&dumped);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(r#""family":"nodes""#), "{text}");

    let (code, text) = text_of(&output(old.path(), &["metadata", "restore", file]));
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("empty data folder"), "{text}");

    let data = new.path().join("data");
    let (code, text) = text_of(&output(&data, &["metadata", "restore", file]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("start it with: arustio-server"), "{text}");
    let (code, text) = text_of(&output(&data, &["metadata", "verify"]));
    assert_eq!(code, Some(0), "{text}");
    let daemon = Daemon::start(&data);
    assert!(daemon.ready.starts_with("ready: "), "{}", daemon.ready);
    let busy = output(&data, &["metadata", "verify"]);
    assert_eq!(text_of(&busy).0, Some(6));
    assert_eq!(daemon.end(Signal::TERM).0, Some(0));

    let cut = std::fs::read(file).unwrap();
    std::fs::write(file, &cut[..cut.len() - 1]).unwrap();
    let third = new.path().join("third");
    let (code, text) = text_of(&output(&third, &["metadata", "restore", file]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("cut short"), "{text}");
    assert!(!third.exists());
}

#[test]
fn a_cluster_key_is_made_once_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("shared.key");
    let make = || output(folder.path(), &["--make-key", key.to_str().unwrap()]);
    assert!(make().status.success());
    let made = std::fs::read(&key).unwrap();
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        !folder.path().join("node.json").exists(),
        "it does not start"
    );
    let again = make();
    let text = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(4), "{text}");
    assert!(text.contains("error[AlreadyExists]"), "{text}");
    assert!(text.contains("exists already"), "{text}");
    assert_eq!(std::fs::read(&key).unwrap(), made);
}

#[test]
fn a_server_that_waits_for_others_says_so_and_ends_with_0_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("shared.key");
    assert!(
        output(folder.path(), &["--make-key", key.to_str().unwrap()])
            .status
            .success()
    );
    let mut waiting = command(folder.path());
    waiting.args(["--member", "1", "--members", "1=127.0.0.1:1,2=127.0.0.1:2"]);
    let mut child = waiting.arg("--key-file").arg(&key).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("member 2 at 127.0.0.1:2 does not answer") {
        assert_ne!(err.read_line(&mut text).unwrap(), 0, "{text}");
    }
    assert!(text.contains("even number"), "{text}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
