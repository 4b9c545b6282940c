//! An S3 server that we control, a daemon, and the command, for one test.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use arustio_testkit::s3::{Profile, S3Server};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub(crate) const BUCKET: &str = "test-bucket";
const LIMIT: Duration = Duration::from_secs(60);

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It succeeded; gives what it printed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// It failed with this kind and exit code; its message has all these words.
    #[track_caller]
    pub(crate) fn fails(self, kind: &str, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        let errors: Vec<&str> = self
            .err
            .lines()
            .filter(|l| l.starts_with("error["))
            .collect();
        assert_eq!(errors.len(), 1, "one error line: {self:?}");
        assert!(
            errors[0].starts_with(&format!("error[{kind}]: ")),
            "{self:?}"
        );
        for word in words {
            assert!(errors[0].contains(word), "{word:?} is missing: {self:?}");
        }
        for noise in [
            "transport error",
            "Status {",
            "Error {",
            "Some(",
            "minioadmin",
        ] {
            assert!(
                !self.err.contains(noise),
                "{noise:?} is no message: {self:?}"
            );
        }
    }
}

pub(crate) struct House {
    pub(crate) s3: S3Server,
    pub(crate) folder: tempfile::TempDir,
    server: Child,
    pub(crate) address: String,
    /// Where the daemon serves HTTP.
    pub(crate) http: String,
    /// Of the daemon, as variables of its environment.
    settings: &'static [(&'static str, &'static str)],
}

impl House {
    /// Everything runs, nothing is mounted.
    pub(crate) async fn start() -> Self {
        Self::with_profile(Profile::Aws).await
    }

    pub(crate) async fn with_profile(profile: Profile) -> Self {
        Self::with(profile, &[]).await
    }

    /// The bucket is mounted at /data, and the daemon has these settings.
    pub(crate) async fn mounted_with(settings: &'static [(&'static str, &'static str)]) -> Self {
        let house = Self::with(Profile::Aws, settings).await;
        house.mount("/data", "s3a://test-bucket").await.ok();
        house
    }

    async fn with(profile: Profile, settings: &'static [(&'static str, &'static str)]) -> Self {
        let s3 = S3Server::builder()
            .profile(profile)
            .credentials("minioadmin", "minioadmin")
            .bucket(BUCKET)
            .start()
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (server, [address, http]) = start_server(&folder.path().join("data"), settings).await;
        let house = Self {
            s3,
            folder,
            server,
            address,
            http,
            settings,
        };
        // What a killed client leaves is taken over soon.
        house.leases_of("2s");
        house
    }

    /// How long the session of every command lives from now on. No request of a command
    /// outlives it, so that one that sends much needs more than the least.
    pub(crate) fn leases_of(&self, session_ttl: &str) {
        let config = self.folder.path().join("config/arustio");
        std::fs::create_dir_all(&config).unwrap();
        let line = format!("session_ttl = \"{session_ttl}\"\n");
        std::fs::write(config.join("config.toml"), line).unwrap();
    }

    /// Everything runs and the bucket is mounted at /data.
    pub(crate) async fn mounted() -> Self {
        let house = Self::start().await;
        house.mount("/data", "s3a://test-bucket").await.ok();
        house
    }

    pub(crate) async fn mount(&self, path: &str, uri: &str) -> Done {
        let endpoint = format!("endpoint={}", self.s3.endpoint());
        self.run(&[
            "fs",
            "mount",
            "-o",
            "access_key_id=minioadmin",
            "-o",
            "secret_access_key=minioadmin",
            "-o",
            &endpoint,
            path,
            uri,
        ])
        .await
    }

    /// The command, ready to run.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arustio-under-test"));
        command.envs(self.environment());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// What makes the command find this server and these settings.
    pub(crate) fn environment(&self) -> [(&'static str, std::ffi::OsString); 2] {
        let config = self.folder.path().join("config");
        [
            ("ARUSTIO_SERVER", self.address.clone().into()),
            ("XDG_CONFIG_HOME", config.into()),
        ]
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Done {
        let run = self.command().args(arguments).output();
        Done::of(timeout(LIMIT, run).await.expect("it never ended").unwrap())
    }

    /// Starts a command that a test will end.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        command.args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A local file with this content; its path as text.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Puts a local file of this content at a path of the namespace.
    pub(crate) async fn put(&self, path: &str, content: &[u8]) {
        let local = self.file("put", content);
        self.run(&["fs", "copy-from-local", "-f", &local, path])
            .await
            .ok();
    }

    /// Ends the daemon as an operator does and starts it again on its folder.
    pub(crate) async fn restart(&mut self) {
        signal(&self.server, rustix::process::Signal::TERM);
        let status = timeout(LIMIT, self.server.wait()).await.unwrap().unwrap();
        assert!(status.success(), "the daemon ended with {status}");
        self.start_again().await;
    }

    /// Ends the daemon without a warning and starts it again on its folder.
    pub(crate) async fn crash(&mut self) {
        self.server.kill().await.unwrap();
        self.start_again().await;
    }

    async fn start_again(&mut self) {
        let (server, [address, http]) = start_server(&self.path("data"), self.settings).await;
        self.server = server;
        self.address = address;
        self.http = http;
    }
}

/// Sends a signal to a process that a test started.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = i32::try_from(child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

pub(crate) fn server_command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arustio-server-under-test"));
    command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(data);
    command
        .env("ARUSTIO_LOG", "warn")
        .env_remove("ARUSTIO_CONFIG");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The daemon, and where it serves gRPC and HTTP.
async fn start_server(data: &Path, settings: &[(&str, &str)]) -> (Child, [String; 2]) {
    let mut command = server_command(data);
    command.envs(settings.iter().copied());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
    let line = line.expect("the daemon ended without a word");
    let word_after = |name| {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).unwrap().to_owned()
    };
    let addresses = ["grpc", "http"].map(word_after);
    (child, addresses)
}

/// Looks again and again until something is so; says what was seen last when it never is.
pub(crate) async fn eventually<F: Future<Output = Result<(), String>>>(look: impl Fn() -> F) {
    let mut last = String::new();
    let watched = async {
        while let Err(seen) = look().await {
            last = seen;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if timeout(LIMIT, watched).await.is_err() {
        panic!("never came true; last seen: {last}");
    }
}
