//! The containers, shown on a real Docker daemon: what stands in `deploy/`, as a person uses it.
//!
//! [`run`] makes the image from programs of this machine, starts the compose files, and looks
//! at what a person would see: the three commands of the quick start word for word, bytes that
//! go in by one side and come out at the other, a client outside the containers, a second `up`,
//! wrong passwords, taken ports. Every step is an assertion; the first one that fails ends the
//! run and says why, with the logs.
//!
//! A daemon that runs is used, with project names of our own. Where none runs one is started,
//! in a network, a process table and a mount table of its own (module `daemon`): no port and no rule
//! of a firewall of this machine is touched, and with that process everything ends, however it
//! ends. Images that cannot be pulled are made under their names (module `images`).

mod bad_input;
mod compose;
mod daemon;
mod images;
mod quick_start;
mod several;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use compose::Project;
use daemon::Daemon;
use images::Images;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where `arustio` and `arustio-server` lie.
    pub bin_dir: PathBuf,
    /// The folder with the compose files.
    pub deploy: PathBuf,
    /// Only make the image, with the daemon that runs.
    pub image_only: bool,
    /// Compile the source in a container too.
    pub source: bool,
    /// The folder of a run whose daemon is started by this process.
    pub inside: Option<PathBuf>,
}

/// How a run ended that could say it.
#[derive(Debug)]
pub enum Ended {
    /// Everything held.
    Proved,
    /// It was said elsewhere what did not hold; the exit code of that process.
    Failed(u8),
    /// Docker cannot run here, and why not, in one line.
    CannotRun(String),
}

/// Runs the proof.
///
/// Dropped, or ended by a signal, it removes what it had started: containers, volumes and
/// networks of its projects, and the daemon if it was its own.
pub async fn run(options: Options) -> Result<Ended> {
    if let Some(folder) = options.inside.clone() {
        return inside(&options, &folder).await;
    }
    if let Some(why) = daemon::missing_tools() {
        return Ok(Ended::CannotRun(why));
    }
    if daemon::answers(None).await {
        let folder = private_folder()?;
        let images = Images::prepare(folder.path(), true).await?;
        return proved_or_interrupted(&options, &images, folder.path(), None).await;
    }
    if options.image_only || options.source {
        bail!("no Docker daemon answers: start one for --image and --source, and repeat");
    }
    if let Some(why) = daemon::cannot_start() {
        return Ok(Ended::CannotRun(why));
    }
    let folder = private_folder()?;
    Images::prepare(folder.path(), false).await?;
    let code = daemon::in_a_world_of_its_own(folder.path()).await?;
    // That process has removed it, unless it was killed.
    drop(folder);
    Ok(match code {
        0 => Ended::Proved,
        code => Ended::Failed(code),
    })
}

fn private_folder() -> Result<tempfile::TempDir> {
    let mut name = tempfile::Builder::new();
    let folder = name.prefix("arustio-containers-").tempdir();
    folder.context("cannot make a private folder")
}

/// In the world of our own: the daemon first, and at last.
async fn inside(options: &Options, folder: &Path) -> Result<Ended> {
    let daemon = Daemon::start(folder).await?;
    let images = Images::prepared(folder);
    let ended = proved_or_interrupted(options, &images, folder, Some(&daemon)).await;
    daemon.stop().await?;
    // Here, since whoever made the folder may be gone.
    std::fs::remove_dir_all(folder).context("cannot remove the folder of the daemon")?;
    ended
}

async fn proved_or_interrupted(
    options: &Options,
    images: &Images,
    folder: &Path,
    daemon: Option<&Daemon>,
) -> Result<Ended> {
    let stage = Stage::new(options, folder, daemon);
    let played = tokio::select! {
        played = play(&stage, options, images) => played,
        ended = daemon::told_to_end(daemon.is_some()) => ended,
    };
    let cleaned = match options.image_only {
        true => Ok(()),
        false => stage.clean_up().await,
    };
    played?;
    cleaned?;
    Ok(Ended::Proved)
}

/// Where the acts are played.
struct Stage {
    /// `deploy/` of the repository.
    deploy: PathBuf,
    /// The programs outside the containers.
    bin_dir: PathBuf,
    /// For everything that is made on the way.
    folder: PathBuf,
    /// The socket of our own daemon.
    host: Option<String>,
    steps: Steps,
}

impl Stage {
    fn new(options: &Options, folder: &Path, daemon: Option<&Daemon>) -> Self {
        Self {
            deploy: options.deploy.clone(),
            bin_dir: options.bin_dir.clone(),
            folder: folder.to_owned(),
            host: daemon.map(Daemon::host),
            steps: Steps::new(),
        }
    }

    /// The quick start, under a name that no other project has.
    fn quick_start(&self) -> Project {
        self.project("quick")
    }

    /// The cluster of six.
    fn several(&self) -> Project {
        let project = self.project("several");
        project
            .with("COMPOSE_FILE", "cluster.yml")
            .with("ARUSTIO_SERVICE", "meta1")
    }

    fn project(&self, name: &str) -> Project {
        let name = format!("arustio-proof-{name}-{}", std::process::id());
        let project = Project::new(&self.deploy, &name);
        match &self.host {
            Some(host) => project.with("DOCKER_HOST", host),
            None => project,
        }
    }

    /// Removes both projects, whatever there is of them.
    async fn clean_up(&self) -> Result<()> {
        let several = several::with_credentials(self.several());
        for project in [self.quick_start(), several] {
            project.remove().await?;
        }
        Ok(())
    }
}

async fn play(stage: &Stage, options: &Options, images: &Images) -> Result<()> {
    images.build(stage).await?;
    if options.image_only {
        return Ok(());
    }
    images.look_at(stage).await?;
    quick_start::play(stage).await?;
    bad_input::play(stage).await?;
    several::play(stage).await?;
    if options.source {
        images.compile(stage).await?;
    }
    stage.steps.end();
    Ok(())
}

/// Says what held, as it goes.
struct Steps {
    began: Instant,
}

impl Steps {
    fn new() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    fn ok(&self, what: &str) {
        println!("ok {:6.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    fn end(&self) {
        println!("everything held");
    }
}

/// From `up` to servers that take requests, on a machine that has nothing else to do.
const READY: Duration = Duration::from_secs(10);
/// On any machine.
const READY_AT_LAST: Duration = Duration::from_secs(60);

/// How long it took, in words. Only a machine that is not busy with something else can say that
/// it took too long.
fn judged(ready: Duration) -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text
        .split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let busy = u32::try_from(cores).is_ok_and(|cores| load > 2.0 * f64::from(cores));
    let took = format!("ready after {:.1} s, at most 10", ready.as_secs_f64());
    match ready <= READY {
        true => Ok(took),
        false if busy => Ok(format!(
            "{took}, NOT JUDGED: the load of this machine is {load}"
        )),
        false => bail!("{took}"),
    }
}

/// Asks until the answer is yes.
async fn eventually(
    what: &str,
    limit: Duration,
    mut holds: impl AsyncFnMut() -> Result<bool>,
) -> Result<Duration> {
    let began = Instant::now();
    while !holds().await? {
        if began.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(began.elapsed())
}
