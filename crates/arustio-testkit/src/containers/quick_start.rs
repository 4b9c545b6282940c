//! The quick start, as its file and the README say, and what a person does next.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use object_store::ObjectStoreExt as _;
use object_store::path::Path as ObjectPath;

use super::compose::{self, BUCKET, Done, Project, STORE};
use super::{READY_AT_LAST, Stage, eventually, judged};

/// MinIO's own user and password; they stand in the quick start and nowhere else.
pub(super) const USER: &str = "minioadmin";

/// What a clean run logs all the same: MinIO about the password of the quick start, and about
/// having one disk.
pub(super) const EXPECTED: [&str; 2] = [
    "Detected default credentials",
    "INFO: WARNING: Host local has more than 0 drives of set",
];

/// The acts, in order.
pub(super) async fn play(stage: &Stage) -> Result<()> {
    let project = stage.quick_start();
    let played = acts(stage, &project).await;
    project.explained(played).await
}

async fn acts(stage: &Stage, project: &Project) -> Result<()> {
    word_for_word(stage, project).await?;
    both_ways(stage, project).await?;
    inside(stage, project).await?;
    outside(stage, project).await?;
    again(stage, project).await?;
    project.logs_are_clean(&EXPECTED).await?;
    stage
        .steps
        .ok("no WARN and no ERROR in a log, but MinIO's about its password and its one disk");
    stop_and_go(stage, project).await
}

/// The three commands, and beside them the time until the server is ready.
async fn word_for_word(stage: &Stage, project: &Project) -> Result<()> {
    let typed = project.shell("docker-compose up -d\nsleep 10\n./local/mount.sh");
    let client = Client::new(stage, "127.0.0.1:7411")?;
    let ready = eventually("the server is ready", READY_AT_LAST, async || {
        client.is_ready().await
    });
    let (typed, ready) = tokio::join!(typed, ready);
    typed?.ok()?.says("mounted s3://arustio on /data")?;
    let ready = judged(ready?)?;
    stage.steps.ok(&format!(
        "docker-compose up -d; sleep 10; ./local/mount.sh ({ready})"
    ));
    // As typed: with a terminal.
    let list = "docker-compose exec arustio arustio fs list";
    let list = ["script", "-qec", list, "/dev/null"];
    project.run(&list).await?.ok()?.says("on /data")?;
    stage
        .steps
        .ok("docker-compose exec arustio arustio fs list shows /data");
    let console = tokio::net::TcpStream::connect("127.0.0.1:9001").await;
    console.context("the console of MinIO")?;
    stage.steps.ok("the console of MinIO answers on 9001");
    Ok(())
}

/// The command in the container of the server.
fn arustio<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [
        &["docker-compose", "exec", "-T", "arustio", "arustio"],
        words,
    ]
    .concat()
}

async fn both_ways(stage: &Stage, project: &Project) -> Result<()> {
    let bucket = compose::bucket(USER, USER)?;
    let copy = [
        "fs",
        "copy-from-local",
        "/usr/local/bin/arustio",
        "/data/in",
    ];
    project.run(&arustio(&copy)).await?.ok()?;
    let found = bucket.head(&ObjectPath::from("in")).await;
    let found = found.context("the file that was copied in is not in the bucket")?;
    ensure!(found.size > 0, "an empty object is in the bucket");
    stage
        .steps
        .ok("a file copied in through Arustio is in the bucket");
    let key = ObjectPath::from("from-outside.txt");
    bucket.put(&key, "put into the bucket".into()).await?;
    project
        .run(&arustio(&["fs", "sync", "/data"]))
        .await?
        .ok()?;
    let shown = project.run(&arustio(&["fs", "ls", "/data"])).await?;
    shown.ok()?.says("from-outside.txt")?;
    let shown = project
        .run(&arustio(&["fs", "cat", "/data/from-outside.txt"]))
        .await?;
    shown.ok()?.says("put into the bucket")?;
    stage.steps.ok("an object put into the bucket shows up");
    Ok(())
}

/// Files inside the container belong to the user that the server runs as.
async fn inside(stage: &Stage, project: &Project) -> Result<()> {
    let bytes = noise(64 << 20);
    let bucket = compose::bucket(USER, USER)?;
    let key = ObjectPath::from("bigfile.bin");
    bucket.put(&key, bytes.clone().into()).await?;
    project
        .run(&arustio(&["fs", "sync", "/data"]))
        .await?
        .ok()?;
    let typed =
        "docker-compose exec arustio arustio fs copy-to-local /data/bigfile.bin /data/bigfile.bin";
    project
        .run(&["script", "-qec", typed, "/dev/null"])
        .await?
        .ok()?;
    let target = stage.folder.join("bigfile.bin");
    let container = project.container("arustio").await?;
    let from = format!("{container}:/data/bigfile.bin");
    let to = target.to_str().context("the folder's name")?;
    project.run(&["docker", "cp", &from, to]).await?.ok()?;
    ensure!(std::fs::read(&target)? == bytes, "the copy inside differs");
    stage
        .steps
        .ok("arustio fs copy-to-local /data/bigfile.bin /data/bigfile.bin works inside: 64 MiB");
    Ok(())
}

/// Bytes that do not repeat.
fn noise(length: usize) -> Vec<u8> {
    use rand::{RngCore as _, SeedableRng as _};
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(46).fill_bytes(&mut bytes);
    bytes
}

/// A client outside the containers.
pub(super) struct Client {
    bin_dir: PathBuf,
    home: PathBuf,
    server: String,
    folder: PathBuf,
}

impl Client {
    /// With the endpoint of the containers mapped to where it is published.
    pub(super) fn new(stage: &Stage, server: &str) -> Result<Self> {
        let home = stage.folder.join("home");
        std::fs::create_dir_all(home.join("arustio"))?;
        let map = format!("[ufs.endpoint_map]\n\"http://minio:9000\" = \"{STORE}\"\n");
        std::fs::write(home.join("arustio").join("config.toml"), map)?;
        Ok(Self {
            bin_dir: stage.bin_dir.clone(),
            home,
            server: server.to_owned(),
            folder: stage.folder.clone(),
        })
    }

    /// The command of this machine.
    pub(super) async fn arustio(&self, words: &[&str]) -> Result<Done> {
        let program = self.bin_dir.join("arustio");
        let home = self.home.to_str().context("the folder's name")?;
        let project = Project::new(&self.folder, "outside");
        let project = project
            .with("ARUSTIO_SERVER", &self.server)
            .with("XDG_CONFIG_HOME", home);
        let program = program.to_str().context("the program's name")?;
        project.run(&[&[program], words].concat()).await
    }

    /// Whether the server of the quick start takes requests, asked from outside.
    async fn is_ready(&self) -> Result<bool> {
        let program = self.bin_dir.join("arustio-server");
        let program = program.to_str().context("the program's name")?;
        let project = Project::new(&self.folder, "outside");
        let project = project.with("ARUSTIO_HTTP__LISTEN", "127.0.0.1:7413");
        let asked = project.run(&[program, "health", "--ready"]).await?;
        Ok(asked.code == 0)
    }

    /// Writes a file and reads it back; it has to be in the bucket meanwhile.
    pub(super) async fn round_trip(&self, name: &str, user: &str, password: &str) -> Result<()> {
        let bytes = noise(10 << 20);
        let from = self.folder.join(format!("{name}.from"));
        let to = self.folder.join(format!("{name}.to"));
        std::fs::write(&from, &bytes)?;
        let _ = std::fs::remove_file(&to);
        let (from, to) = (from.to_str(), to.to_str());
        let (from, to) = from.zip(to).context("the folder's name")?;
        let path = format!("/data/{name}");
        self.arustio(&["fs", "copy-from-local", from, &path])
            .await?
            .ok()?;
        let key = ObjectPath::from(name);
        let object = compose::bucket(user, password)?.get(&key).await?;
        ensure!(
            object.bytes().await? == bytes,
            "the bucket {BUCKET} holds other bytes"
        );
        self.arustio(&["fs", "copy-to-local", &path, to])
            .await?
            .ok()?;
        ensure!(std::fs::read(to)? == bytes, "other bytes came back");
        Ok(())
    }
}

async fn outside(stage: &Stage, project: &Project) -> Result<()> {
    let client = Client::new(stage, "127.0.0.1:7411")?;
    client.round_trip("outside", USER, USER).await?;
    // What it wrote is in the cache of the server, under the address that it advertises.
    let cached = client.arustio(&["fs", "location", "/data/outside"]).await?;
    cached.ok()?.says("127.0.0.1:7411")?;
    let shown = project.run(&arustio(&["fs", "ls", "/data"])).await?;
    shown.ok()?.says("outside")?;
    stage
        .steps
        .ok("a client outside the containers writes and reads, by [ufs.endpoint_map]");
    Ok(())
}

/// Everything a second time.
async fn again(stage: &Stage, project: &Project) -> Result<()> {
    let before = project.container("arustio").await?;
    project.up().await?;
    ensure!(
        project.container("arustio").await? == before,
        "a second up made another container"
    );
    let twice = project.mount().await?.ok()?;
    twice.says("is mounted")?.in_one_line()?;
    stage
        .steps
        .ok("a second up changes nothing; mount.sh run twice says that it is mounted");
    Ok(())
}

/// SIGTERM, `down` and `up`: the data stays.
async fn stop_and_go(stage: &Stage, project: &Project) -> Result<()> {
    let container = project.container("arustio").await?;
    let stop = ["docker-compose", "stop", "arustio"];
    let began = tokio::time::Instant::now();
    project.run(&stop).await?.ok()?;
    let took = began.elapsed().as_secs_f64();
    let code = ["docker", "inspect", "-f", "{{.State.ExitCode}}", &container];
    let code = project.run(&code).await?.ok()?;
    ensure!(
        code.out.trim() == "0",
        "SIGTERM ended it with {}",
        code.out.trim()
    );
    let logs = project.logs().await?;
    ensure!(logs.contains("stopped"), "it did not stop in order");
    stage.steps.ok(&format!(
        "SIGTERM ends it in order, exit code 0, in {took:.1} s"
    ));

    project.down_and_up().await?;
    let client = Client::new(stage, "127.0.0.1:7411")?;
    let target = stage.folder.join("survived");
    let to = target.to_str().context("the folder's name")?;
    client
        .arustio(&["fs", "copy-to-local", "/data/outside", to])
        .await?
        .ok()?;
    ensure!(
        std::fs::read(&target)? == noise(10 << 20),
        "other bytes survived"
    );
    project.logs_are_clean(&EXPECTED).await?;
    stage
        .steps
        .ok("down and up: mount, bucket and bytes are still there, and no log complains");
    Ok(())
}
