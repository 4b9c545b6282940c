//! Commands as a person types them in the folder of the compose files, and what they say.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// No command of the proof takes longer, but for the compiler.
const LIMIT: Duration = Duration::from_secs(180);

/// The bucket of both compose files.
pub(super) const BUCKET: &str = "arustio";

/// What mounts it.
pub(super) const MOUNT: &str = "./local/mount.sh";

/// Where both publish the store.
pub(super) const STORE: &str = "http://127.0.0.1:9000";

/// One project: a folder, an environment, and with it a name.
#[derive(Debug, Clone)]
pub(super) struct Project {
    folder: PathBuf,
    env: Vec<(String, String)>,
}

/// A command that ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) words: String,
    pub(super) code: i32,
    /// What it wrote to stdout.
    pub(super) out: String,
    /// All that it wrote, stdout first.
    pub(super) said: String,
}

impl Project {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            env: Vec::new(),
        }
        .with("COMPOSE_PROJECT_NAME", name)
        .with("COMPOSE_NO_COLOR", "1")
    }

    /// With a variable.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command, ready to run.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.current_dir(&self.folder);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        // What the caller's shell has must not decide.
        for name in ["MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "ARUSTIO_SERVER"] {
            if !self.env.iter().any(|(given, _)| given == name) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs it to its end, whatever comes of it.
    pub(super) async fn run(&self, words: &[&str]) -> Result<Done> {
        self.run_within(words, LIMIT).await
    }

    /// The same, where it may take longer.
    pub(super) async fn run_within(&self, words: &[&str], limit: Duration) -> Result<Done> {
        let shown = words.join(" ");
        let output = timeout(limit, self.command(words).output()).await;
        let output = output.with_context(|| format!("`{shown}` took longer than {limit:?}"))?;
        let output = output.with_context(|| format!("cannot start `{shown}`"))?;
        Ok(Done::of(shown, &output))
    }

    /// Runs it, and does something else as soon as it has said this on stderr.
    pub(super) async fn run_and_meanwhile(
        &self,
        words: &[&str],
        said: &str,
        meanwhile: impl Future<Output = Result<()>>,
    ) -> Result<Done> {
        let shown = words.join(" ");
        let run = async {
            let mut command = self.command(words);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = child.spawn()?;
            let stderr = child.stderr.take().context("its stderr")?;
            let mut stderr = BufReader::new(stderr);
            let mut told = String::new();
            while !told.contains(said) {
                let read = stderr.read_line(&mut told).await?;
                ensure!(read > 0, "it ended without {said:?}: {told}");
            }
            meanwhile.await?;
            let rest = stderr.read_to_string(&mut told);
            let (rest, output) = tokio::join!(rest, child.wait_with_output());
            rest?;
            let mut output = output?;
            output.stderr = told.into_bytes();
            anyhow::Ok(Done::of(shown.clone(), &output))
        };
        let done = timeout(LIMIT, run).await;
        let done = done.with_context(|| format!("`{shown}` took longer than {LIMIT:?}"))?;
        done.with_context(|| format!("running `{shown}`"))
    }

    /// Starts everything that the files name.
    pub(super) async fn up(&self) -> Result<()> {
        self.run(&["docker-compose", "up", "-d"]).await?.ok()?;
        Ok(())
    }

    /// Ends everything; the data stays.
    pub(super) async fn down(&self) -> Result<()> {
        self.run(&["docker-compose", "down"]).await?.ok()?;
        Ok(())
    }

    /// Ends everything, and removes the data.
    pub(super) async fn remove(&self) -> Result<()> {
        let words = ["docker-compose", "down", "--volumes", "--remove-orphans"];
        self.run(&words).await?.ok()?;
        Ok(())
    }

    /// What `mount.sh` says, whatever that is.
    pub(super) async fn mount(&self) -> Result<Done> {
        self.run(&[MOUNT]).await
    }

    /// `down` and `up`, after which the mount is still there.
    pub(super) async fn down_and_up(&self) -> Result<()> {
        self.down().await?;
        self.up().await?;
        self.mount().await?.ok()?.says("is mounted")?;
        Ok(())
    }

    /// What was played, and where it failed what the containers have logged.
    pub(super) async fn explained(&self, played: Result<()>) -> Result<()> {
        let Err(error) = played else {
            return Ok(());
        };
        let logs = self.logs().await.unwrap_or_default();
        Err(error.context(format!("the logs of the containers:\n{logs}")))
    }

    /// Runs lines of a shell, until one fails.
    pub(super) async fn shell(&self, lines: &str) -> Result<Done> {
        self.run(&["sh", "-ec", lines]).await
    }

    /// What all containers have logged.
    pub(super) async fn logs(&self) -> Result<String> {
        let done = self.run(&["docker-compose", "logs", "--no-color"]).await?;
        Ok(done.ok()?.said)
    }

    /// The id of the container of a service.
    pub(super) async fn container(&self, service: &str) -> Result<String> {
        let done = self.run(&["docker-compose", "ps", "-q", service]).await?;
        let id = done.ok()?.out.trim().to_owned();
        ensure!(!id.is_empty(), "the service {service} has no container");
        Ok(id)
    }

    /// Fails for a line of a log that a person would have to look at.
    pub(super) async fn logs_are_clean(&self, expected: &[&str]) -> Result<()> {
        let logs = self.logs().await?;
        let alarming = |line: &&str| {
            ["WARN", "ERROR", "FATAL", "panicked", "error["]
                .iter()
                .any(|word| line.contains(word))
        };
        let surprise = logs
            .lines()
            .filter(alarming)
            .find(|line| !expected.iter().any(|known| line.contains(known)));
        match surprise {
            Some(line) => bail!("unexpected in the logs of a clean run: {line}"),
            None => Ok(()),
        }
    }
}

impl Done {
    fn of(words: String, output: &Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let out = text(&output.stdout);
        Self {
            words,
            code: output.status.code().unwrap_or(-1),
            said: out.clone() + &text(&output.stderr),
            out,
        }
    }

    /// It has to have succeeded.
    pub(super) fn ok(self) -> Result<Self> {
        match self.code {
            0 => Ok(self),
            code => bail!("`{}` ended with {code}: {}", self.words, self.said.trim()),
        }
    }

    /// It has to have failed.
    pub(super) fn failed(self) -> Result<Self> {
        match self.code {
            0 => bail!("`{}` succeeded: {}", self.words, self.said.trim()),
            _ => Ok(self),
        }
    }

    /// It has to have said this.
    pub(super) fn says(self, words: &str) -> Result<Self> {
        match self.said.contains(words) {
            true => Ok(self),
            false => bail!(
                "`{}` does not say {words:?}: {}",
                self.words,
                self.said.trim()
            ),
        }
    }

    /// It has to have said no more than one line.
    pub(super) fn in_one_line(self) -> Result<Self> {
        match self.said.trim().lines().count() {
            1 => Ok(self),
            _ => bail!(
                "`{}` says more than a line: {}",
                self.words,
                self.said.trim()
            ),
        }
    }
}

/// The bucket, seen from outside and without Arustio.
pub(super) fn bucket(user: &str, password: &str) -> Result<AmazonS3> {
    AmazonS3Builder::new()
        .with_endpoint(STORE)
        .with_allow_http(true)
        .with_bucket_name(BUCKET)
        .with_access_key_id(user)
        .with_secret_access_key(password)
        .with_region("us-east-1")
        .build()
        .context("cannot talk to MinIO")
}
