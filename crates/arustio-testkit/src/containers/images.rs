//! Images: those that the files name, made here where they cannot be pulled, and our own.
//!
//! `debian:bookworm-slim` is made with debootstrap (a minute, once, kept in the user's cache),
//! MinIO from that and the program that Go builds. They have the names that the files use, so
//! that the files are proved as they are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::Instant;

use super::Stage;
use crate::processes::{find_minio, user_cache};

/// The image that both compose files run.
pub(super) const IMAGE: &str = "arustio/arustio:local";

const BASE: &str = "debian:bookworm-slim";
const MINIO: &str = "minio/minio:RELEASE.2025-09-07T16-13-09Z";

/// No larger, unpacked.
const LARGEST: u64 = 150 << 20;

/// A build from the source compiles RocksDB.
const COMPILER: Duration = Duration::from_secs(3 * 3600);
const BUILD: Duration = Duration::from_secs(600);

/// What is needed to make images, at hand.
#[derive(Debug)]
pub(super) struct Images {
    folder: PathBuf,
    /// Whether a registry may be asked.
    pulls: bool,
}

impl Images {
    /// Brings what can only be had with a network; `pulls` where the daemon has one too.
    pub(super) async fn prepare(folder: &Path, pulls: bool) -> Result<Self> {
        let images = Self {
            folder: folder.to_owned(),
            pulls,
        };
        if !pulls {
            images.prepare_base().await?;
            images.prepare_minio().await?;
        }
        Ok(images)
    }

    /// What an earlier process prepared.
    pub(super) fn prepared(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            pulls: false,
        }
    }

    fn base(&self) -> PathBuf {
        self.folder.join("base.tar")
    }

    /// The base image as an archive: from the cache, or by debootstrap.
    async fn prepare_base(&self) -> Result<()> {
        let kept = user_cache()?.join("arustio").join("images");
        std::fs::create_dir_all(&kept)?;
        let kept = kept.join("debian-bookworm-slim.tar");
        if !kept.is_file() {
            eprintln!("making {BASE} with debootstrap, once; about a minute");
            let root = self.folder.join("debootstrap");
            let mut command = Command::new("debootstrap");
            command.args(["--variant=minbase", "--include=ca-certificates", "bookworm"]);
            succeeds(command.arg(&root)).await?;
            let unfinished = kept.with_extension("unfinished");
            let mut command = Command::new("tar");
            command.args(["--exclude=./var/cache/apt", "--exclude=./var/lib/apt/lists"]);
            command.args(["--exclude=./usr/share/doc", "--exclude=./usr/share/locale"]);
            succeeds(
                command
                    .arg("-cf")
                    .arg(&unfinished)
                    .arg("-C")
                    .arg(&root)
                    .arg("."),
            )
            .await?;
            std::fs::rename(&unfinished, &kept)?;
            std::fs::remove_dir_all(&root)?;
        }
        std::fs::copy(&kept, self.base()).context("cannot copy the base image")?;
        Ok(())
    }

    async fn prepare_minio(&self) -> Result<()> {
        let context = self.folder.join("minio");
        std::fs::create_dir_all(&context)?;
        std::fs::copy(find_minio().await?, context.join("minio"))?;
        let file = format!("FROM {BASE}\nCOPY minio /usr/bin/\nENTRYPOINT [\"minio\"]\n");
        std::fs::write(context.join("Dockerfile"), file)?;
        Ok(())
    }

    /// Makes our image, and those that it and the compose files need.
    pub(super) async fn build(&self, stage: &Stage) -> Result<()> {
        if !self.has(stage, BASE).await? {
            if self.base().is_file() {
                // Nothing can be pulled here.
            } else {
                self.prepare_base().await?;
            }
            let archive = path(&self.base())?.to_owned();
            docker(stage, &["import", &archive, BASE]).await?;
            stage
                .steps
                .ok(&format!("{BASE} could not be pulled and is made here"));
        }
        if !self.has(stage, MINIO).await? {
            let context = self.folder.join("minio");
            if !context.is_dir() {
                self.prepare_minio().await?;
            }
            docker(stage, &["build", "-t", MINIO, path(&context)?]).await?;
            stage
                .steps
                .ok(&format!("{MINIO} could not be pulled and is made here"));
        }
        let context = self.context(stage).await?;
        docker(stage, &["build", "-t", IMAGE, path(&context)?]).await?;
        stage.steps.ok(&format!(
            "{IMAGE} is built from the programs of this machine"
        ));
        Ok(())
    }

    /// Whether an image is there, or can be pulled.
    async fn has(&self, stage: &Stage, name: &str) -> Result<bool> {
        let project = stage.project("images");
        let there = project.run(&["docker", "image", "inspect", name]).await?;
        if there.code == 0 || !self.pulls {
            return Ok(there.code == 0);
        }
        let pulled = project
            .run_within(&["docker", "pull", "-q", name], BUILD)
            .await;
        Ok(pulled.is_ok_and(|pulled| pulled.code == 0))
    }

    /// The folder that the Dockerfile is given: the programs, stripped.
    async fn context(&self, stage: &Stage) -> Result<PathBuf> {
        let context = self.folder.join("context");
        std::fs::create_dir_all(context.join("bin"))?;
        for name in ["arustio", "arustio-server"] {
            let from = stage.bin_dir.join(name);
            let mut command = Command::new("strip");
            command
                .arg("-o")
                .arg(context.join("bin").join(name))
                .arg(from);
            succeeds(&mut command).await?;
        }
        for name in ["Dockerfile", "image-root.sh"] {
            std::fs::copy(stage.deploy.join(name), context.join(name))?;
        }
        Ok(context)
    }

    /// What a person looks at before trusting an image.
    pub(super) async fn look_at(&self, stage: &Stage) -> Result<()> {
        let size = inspected(stage, "{{.Size}}").await?;
        let size: u64 = size.parse().context("the size of the image")?;
        ensure!(
            size <= LARGEST,
            "the image has {size} bytes, more than {LARGEST}"
        );
        stage
            .steps
            .ok(&format!("the image has {:.1} MiB, at most 150", mib(size)));
        let user = inspected(stage, "{{.Config.User}}").await?;
        ensure!(user == "10001:10001", "the image runs as {user:?}");
        let health = inspected(stage, "{{json .Config.Healthcheck.Test}}").await?;
        ensure!(health.contains("\"health\""), "no health check: {health}");
        self.look_for_secrets(stage).await?;
        self.look_at_files(stage).await
    }

    async fn look_for_secrets(&self, stage: &Stage) -> Result<()> {
        let history = ["history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE];
        let history = docker(stage, &history).await?;
        let config = inspected(stage, "{{json .Config}}").await?;
        for word in ["minioadmin", "password", "secret", "access_key"] {
            let found = [&history, &config]
                .iter()
                .any(|text| text.to_lowercase().contains(word));
            ensure!(
                !found,
                "{word:?} stands in the history or the settings of the image"
            );
        }
        Ok(())
    }

    /// The programs, what they load, certificates, and four small files: nothing else.
    async fn look_at_files(&self, stage: &Stage) -> Result<()> {
        let id = docker(stage, &["create", IMAGE]).await?;
        let archive = self.folder.join("image.tar");
        let exported = docker(stage, &["export", "-o", path(&archive)?, id.trim()]).await;
        docker(stage, &["rm", id.trim()]).await?;
        exported?;
        let listed = Command::new("tar")
            .arg("-tf")
            .arg(&archive)
            .output()
            .await?;
        std::fs::remove_file(&archive)?;
        let listed = String::from_utf8(listed.stdout)?;
        let files = listed.lines().filter(|name| !name.ends_with('/'));
        // These are mounted over by Docker.
        let dockers = [
            ".dockerenv",
            "dev/",
            "etc/host",
            "etc/mtab",
            "etc/resolv.conf",
        ];
        let files: Vec<&str> = files
            .filter(|name| !dockers.iter().any(|own| name.starts_with(own)))
            .collect();
        let known = ["usr/local/bin/arustio", "etc/ssl/certs/ca-certificates.crt"];
        let known = |name: &&&str| {
            known.iter().any(|own| name.starts_with(own))
                || ["etc/passwd", "etc/group", "etc/nsswitch.conf"].contains(name)
                || name.contains(".so")
        };
        let strangers: Vec<&&str> = files.iter().filter(|name| !known(name)).collect();
        ensure!(
            strangers.is_empty(),
            "not needed in the image: {strangers:?}"
        );
        stage.steps.ok(&format!(
            "{} files in it, no shell among them; not root; no secret in a layer",
            files.len()
        ));
        Ok(())
    }

    /// Compiles the source in a container.
    pub(super) async fn compile(&self, stage: &Stage) -> Result<()> {
        let began = Instant::now();
        let root = stage
            .deploy
            .parent()
            .context("the root of the repository")?;
        let file = stage.deploy.join("Dockerfile.source");
        let words = [
            "docker",
            "build",
            "-f",
            path(&file)?,
            "-t",
            "arustio/arustio:source",
            path(root)?,
        ];
        let project = stage.project("images");
        project.run_within(&words, COMPILER).await?.ok()?;
        let took = began.elapsed().as_secs();
        stage
            .steps
            .ok(&format!("Dockerfile.source compiles it in {took} s"));
        Ok(())
    }
}

fn mib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a folder's name is not UTF-8")
}

async fn inspected(stage: &Stage, format: &str) -> Result<String> {
    let said = docker(stage, &["image", "inspect", "-f", format, IMAGE]).await?;
    Ok(said.trim().to_owned())
}

/// What a command of Docker says.
pub(super) async fn docker(stage: &Stage, words: &[&str]) -> Result<String> {
    let words = [&["docker"], words].concat();
    let done = stage.project("images").run_within(&words, BUILD).await?;
    Ok(done.ok()?.out)
}

async fn succeeds(command: &mut Command) -> Result<()> {
    let output = command.kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    bail!("{command:?} ended with {}: {}", output.status, said.trim())
}
