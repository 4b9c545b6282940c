//! `docs/getting-started.md`, executed: every command of it, in its order.
//!
//! A machine is a shell that stays open, with a home folder and a loopback address of its own.
//! `scp` copies between the folders. What the page says of addresses is replaced by those of
//! this test; nothing else is.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use arustio_testkit::s3::S3Server;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A block may wait for three servers to found a cluster, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
const MACHINES: [&str; 3] = ["node1", "node2", "node3"];
const END: &str = "--- the block has ended";

/// Commands, and whom they are for.
#[derive(Debug)]
struct Block {
    place: String,
    commands: String,
}

/// The blocks of the page, each with the bold line above it.
fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut place = String::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match open.take() {
            Some(commands) if line == "```" => found.push(Block {
                place: std::mem::take(&mut place),
                commands,
            }),
            Some(commands) => open = Some(commands + line + "\n"),
            None if line.starts_with("```") => {
                assert_eq!(line, "```sh", "a block that no test executes");
                open = Some(String::new());
            }
            None => {
                let on = line
                    .strip_prefix("**On ")
                    .and_then(|l| l.strip_suffix(":**"));
                place = on.map_or(std::mem::take(&mut place), str::to_owned);
            }
        }
    }
    found
}

/// A shell on a machine.
struct Machine {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Machine {
    fn open(name: &'static str, home: &Path, bin: &Path, variables: &[(&str, String)]) -> Self {
        std::fs::create_dir_all(home).unwrap();
        let mut command = Command::new("sh");
        command.arg("-e").current_dir(home).env_clear();
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", bin.display()));
        command.env("HOME", home).env("ARUSTIO_LOG", "warn");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        // What it starts in the background ends with the test: its whole group is ended.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut machine = Self {
            name,
            child,
            input,
            output,
        };
        machine.name = name;
        machine
    }

    /// Types the commands, and returns what they print.
    async fn run(&mut self, commands: &str) -> String {
        let typed = format!("{{ {commands}\n}} 2>&1\necho '{END}'\n");
        self.input.write_all(typed.as_bytes()).await.unwrap();
        let mut said = String::new();
        loop {
            let line = timeout(LIMIT, self.output.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("{}: {commands}\n{said}", self.name));
            match line.unwrap() {
                Some(line) if line == END => return said,
                Some(line) => said = said + &line + "\n",
                None => panic!("on {}, a command failed of\n{commands}\n{said}", self.name),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// The programs under the names that the page has, and a copier between machines.
fn programs(folder: &Path) -> PathBuf {
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    symlink(
        env!("CARGO_BIN_EXE_arustio-under-test"),
        bin.join("arustio"),
    )
    .unwrap();
    let server = env!("CARGO_BIN_EXE_arustio-server-under-test");
    symlink(server, bin.join("arustio-server")).unwrap();
    // `scp FILE ADDRESS:PATH`, where the last number of the address is 10 and the machine's.
    let homes = folder.display();
    let scp =
        format!("#!/bin/sh\nto=${{2%%:*}}\ncp \"$1\" \"{homes}/node${{to##*.1}}/${{2#*:}}\"\n");
    std::fs::write(bin.join("scp"), scp).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("scp"), executable).unwrap();
    bin
}

#[tokio::test]
async fn every_command_of_getting_started_works() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/getting-started.md");
    let page = std::fs::read_to_string(page).unwrap();
    let s3 = S3Server::builder()
        .credentials("reader", "secret-of-the-reader")
        .bucket("training")
        .start()
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bin = programs(folder.path());
    // Addresses of loopback that no other process of this machine has.
    let own = std::process::id();
    let net = format!("127.{}.{}", 1 + (own >> 8) % 250, own % 250);
    let bucket = folder.path().join("bucket").display().to_string();
    let page = page
        .replace("http://192.168.10.20:9000", &s3.endpoint())
        .replace("192.168.10", &net)
        .replace("/tmp/bucket", &bucket);

    // The one machine uses the usual ports of loopback; here they may be in use.
    let alone = [
        ("ARUSTIO_SERVER__LISTEN", format!("{net}.10:7411")),
        ("ARUSTIO_HTTP__LISTEN", format!("{net}.10:7413")),
        ("ARUSTIO_SERVER", format!("{net}.10:7411")),
    ];
    let home = |name: &str| folder.path().join(name);
    let mut one = Machine::open("one machine", &home("one"), &bin, &alone);
    let mut three = MACHINES.map(|name| Machine::open(name, &home(name), &bin, &[]));

    let blocks = blocks(&page);
    assert!(blocks.len() > 15, "the page has lost its commands");
    let mut said = Vec::new();
    for Block { place, commands } in blocks {
        match place.as_str() {
            "one machine" => said.push(one.run(&commands).await),
            "each machine" => {
                for machine in &mut three {
                    said.push(machine.run(&commands).await);
                }
            }
            place => {
                let at = MACHINES.iter().position(|name| *name == place);
                let at = at.unwrap_or_else(|| panic!("which machine is {place:?}? {commands}"));
                said.push(three[at].run(&commands).await);
            }
        }
    }
    let said = said.concat();
    for words in ["from outside", "mounted s3://training", "written with two"] {
        assert!(said.contains(words), "{words:?} is missing in\n{said}");
    }
}
