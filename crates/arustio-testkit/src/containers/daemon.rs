//! The Docker daemon: the one that runs, or one of our own in a world of its own.
//!
//! Ours has its own network, process table and mount table (`unshare`). Ports that are taken on
//! this machine do not matter to it, nor do its rules for packets matter to this machine; and
//! its first process is ours, so that the kernel ends the daemon and every container with it.
//! It has no way out to other networks: images are made before.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::eventually;
use crate::processes::signalled;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How Debian calls what is needed.
const PACKAGES: &str = "apt-get install docker.io docker-compose debootstrap";

/// Why no daemon can be used at all; `None` when the tools are there.
pub(super) fn missing_tools() -> Option<String> {
    let missing = ["docker", "docker-compose", "strip", "script"];
    let missing = missing.iter().find(|name| !is_program(name))?;
    Some(format!(
        "{missing} is not installed (Debian: {PACKAGES} binutils bsdutils)"
    ))
}

/// Why no daemon can be started here.
pub(super) fn cannot_start() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("no Docker daemon answers, and only root can start one".to_owned());
    }
    let tools = [
        "dockerd",
        "unshare",
        "iptables",
        "ip",
        "mount",
        "debootstrap",
    ];
    if let Some(missing) = tools.iter().find(|name| !is_program(name)) {
        return Some(format!(
            "no Docker daemon answers, and {missing} is not installed to start one (Debian: {PACKAGES})"
        ));
    }
    let tried = std::process::Command::new("unshare")
        .args([
            "--net",
            "--pid",
            "--mount",
            "--fork",
            "--mount-proc",
            "true",
        ])
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Some(format!(
                "no Docker daemon answers, and none can be started here: {said}"
            ))
        }
        Err(error) => Some(format!("cannot start unshare: {error}")),
    }
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH");
    let usual = ["/usr/sbin".into(), "/sbin".into()];
    let folders = path.iter().flat_map(std::env::split_paths);
    folders
        .chain(usual)
        .any(|folder: PathBuf| folder.join(name).is_file())
}

/// Whether a daemon answers, there or where the environment says.
pub(super) async fn answers(host: Option<&str>) -> bool {
    let mut command = Command::new("docker");
    command.args(["version", "--format", "{{.Server.Version}}"]);
    if let Some(host) = host {
        command.env("DOCKER_HOST", host);
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(10), output).await;
    matches!(output, Ok(Ok(output)) if output.status.success())
}

/// Runs this program again, as the first process of a world of its own; returns its exit code.
/// When this process is told to end, or just ends, that one sees the end of its input.
pub(super) async fn in_a_world_of_its_own(folder: &Path) -> Result<u8> {
    let own = std::env::current_exe().context("cannot find the own program")?;
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--pid",
        "--mount",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command.arg(own).args(std::env::args_os().skip(1));
    command.arg("--inside").arg(folder);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().context("cannot start unshare")?;
    let input = child.stdin.take();
    let status = tokio::select! {
        status = child.wait() => status?,
        _ = signalled() => {
            drop(input);
            child.wait().await?
        }
    };
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

/// Returns when somebody wants the proof to end.
pub(super) async fn told_to_end(has_parent: bool) -> Result<()> {
    let parent_ends = async {
        match has_parent {
            true => end_of_input().await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        told = signalled() => told?,
        ended = parent_ends => ended?,
    }
    bail!("interrupted; what it had started is removed")
}

/// Nobody writes there; it ends with the process that started this one.
async fn end_of_input() -> Result<()> {
    let (ends, ended) = tokio::sync::oneshot::channel::<()>();
    // Reading blocks: a thread of its own, which ends with this process.
    let thread = std::thread::Builder::new().name("parent".to_owned());
    thread.spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(ends);
    })?;
    // Dropped without a word.
    let _ = ended.await;
    Ok(())
}

/// Our own daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    folder: PathBuf,
}

impl Daemon {
    /// Starts it in the world that this process has for itself.
    pub(super) async fn start(folder: &Path) -> Result<Self> {
        // Sockets and locks of containerd have fixed names below /run.
        tool(&["mount", "-t", "tmpfs", "tmpfs", "/run"]).await?;
        // A key and folders that both make unasked.
        for shared in ["/etc", "/opt"] {
            cover(shared).await?;
        }
        tool(&["ip", "link", "set", "lo", "up"]).await?;
        // The settings of this machine's own daemon are not ours.
        let settings = folder.join("daemon.json");
        std::fs::write(&settings, "{}\n")?;
        let log = std::fs::File::create(folder.join("dockerd.log"))?;
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(folder.join("docker"));
        command.args([
            "--exec-root",
            "/run/docker",
            "--pidfile",
            "/run/dockerd.pid",
        ]);
        command.arg("--host").arg(host(folder));
        command.arg("--config-file").arg(settings);
        command.arg("--cgroup-parent").arg(control_group(folder));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.kill_on_drop(true).spawn();
        let mut daemon = Self {
            child: child.context("cannot start dockerd")?,
            folder: folder.to_owned(),
        };
        daemon.wait().await?;
        Ok(daemon)
    }

    async fn wait(&mut self) -> Result<()> {
        let host = self.host();
        let child = &mut self.child;
        let ready = eventually("dockerd answers", START_LIMIT, async || {
            if let Some(status) = child.try_wait()? {
                bail!("dockerd ended with {status}");
            }
            Ok(answers(Some(&host)).await)
        });
        let ready = ready.await.map(drop);
        ready.with_context(|| format!("the last words of dockerd: {}", self.last_words()))
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("dockerd.log"));
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }

    /// What `DOCKER_HOST` has to be.
    pub(super) fn host(&self) -> String {
        host(&self.folder)
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn stop(mut self) -> Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(rustix::process::Pid::from_raw);
        let pid = pid.context("dockerd had ended before")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = timeout(STOP_LIMIT, self.child.wait()).await;
        let status = status.context("dockerd ignored SIGTERM")??;
        ensure!(status.success(), "dockerd ended with {status}");
        remove_control_group(&self.folder);
        Ok(())
    }
}

/// Of all our containers: named as the folder, which no other run has.
fn control_group(folder: &Path) -> PathBuf {
    Path::new("/").join(folder.file_name().unwrap_or_default())
}

/// The one thing that has no world of its own. Only an empty group can be removed.
fn remove_control_group(folder: &Path) {
    let group = control_group(folder);
    let Ok(name) = group.strip_prefix("/") else {
        return;
    };
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
    let hierarchies = hierarchies.map(|hierarchy| hierarchy.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let _ = std::fs::remove_dir(hierarchy.join(name));
    }
}

/// What is written below the folder from now on is seen in this world only.
async fn cover(folder: &str) -> Result<()> {
    let layer = format!("/run/layer{folder}");
    let (upper, work) = (format!("{layer}/upper"), format!("{layer}/work"));
    std::fs::create_dir_all(&upper)?;
    std::fs::create_dir_all(&work)?;
    let layers = format!("lowerdir={folder},upperdir={upper},workdir={work}");
    tool(&["mount", "-t", "overlay", "overlay", "-o", &layers, folder]).await
}

fn host(folder: &Path) -> String {
    format!("unix://{}", folder.join("docker.sock").display())
}

async fn tool(words: &[&str]) -> Result<()> {
    let output = Command::new(words[0]).args(&words[1..]).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {}",
        words.join(" "),
        said.trim()
    );
    Ok(())
}
