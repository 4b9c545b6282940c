//! Clients that work while the cluster is hurt, and notice everything.
//!
//! Writers make files, read them back, rename and remove some; readers read the tree; the command is
//! typed again and again. Each of them ends with the first operation that fails: there must be none,
//! since whatever has to be repeated is repeated inside the client. What the writers have left is
//! added to the model and compared later, in the bucket, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use arustio_client::{ArustioFileSystem, CreateOptions, DeleteOptions, FileSystem as _};
use arustio_client::{FsPath, RenameOptions};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::compare::read_one;
use super::stage::{MOUNT, Stage, close};
use super::table::Tally;
use super::tree::{Sum, Tree};
use crate::processes::Cli;

const WRITERS: u64 = 2;
const READERS: u64 = 2;
/// Files above this are left to other steps.
const LARGEST: u64 = 1 << 20;
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What all of them share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    operations: AtomicU64,
    /// Of one operation, in milliseconds.
    slowest: AtomicU64,
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    /// An operation that began then has ended.
    fn done(&self, began: Instant) {
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(millis, Ordering::Relaxed);
        self.operations.fetch_add(1, Ordering::Release);
    }
}

/// What one of them did.
#[derive(Debug, Default)]
struct Done {
    tally: Tally,
    /// What it has left, by paths below the mount.
    left: Tree,
}

/// Clients at work; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<Done>>,
}

impl Load {
    /// Starts them; `name` is the folder of what they write.
    pub(crate) async fn start(stage: &Stage, name: &str) -> Result<Self> {
        let mut load = Self {
            shared: Arc::default(),
            tasks: JoinSet::new(),
        };
        for number in 0..WRITERS {
            let writer = Writer {
                fs: stage.client().await?,
                folder: format!("load/{name}-{number}"),
                chance: SmallRng::seed_from_u64(number),
                done: Done::default(),
            };
            load.tasks.spawn(writer.run(Arc::clone(&load.shared)));
        }
        let files = stage.model.below(super::files::TREE);
        let files = files.iter().filter(|(_, sum)| sum.size <= LARGEST);
        let files: Vec<(String, Sum)> = files.map(|(path, sum)| (path.to_owned(), sum)).collect();
        let files = Arc::new(files);
        for number in 0..READERS {
            let (fs, files) = (stage.client().await?, Arc::clone(&files));
            let shared = Arc::clone(&load.shared);
            load.tasks.spawn(read(fs, files, number, shared));
        }
        let cli = stage.cli_of(&stage.cluster.plan().metadata().join(","));
        load.tasks.spawn(command(cli, Arc::clone(&load.shared)));
        Ok(load)
    }

    /// Waits until so many more operations have ended well.
    pub(crate) async fn goes_on(&mut self, more: u64) -> Result<()> {
        let until = self.shared.operations.load(Ordering::Acquire) + more;
        let deadline = Instant::now() + PROGRESS_LIMIT;
        while self.shared.operations.load(Ordering::Acquire) < until {
            if let Some(ended) = self.tasks.try_join_next() {
                ended?.context("under load")?;
                bail!("a client ended too early");
            }
            if Instant::now() >= deadline {
                bail!("no progress in {} s", PROGRESS_LIMIT.as_secs());
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Lets them end; what they have left goes into the model.
    pub(crate) async fn stop(mut self, stage: &mut Stage) -> Result<Tally> {
        self.shared.stop.store(true, Ordering::Release);
        let mut tally = Tally::default();
        while let Some(ended) = self.tasks.join_next().await {
            let done = ended?.context("under load")?;
            tally += done.tally;
            stage.model.extend(done.left);
        }
        let slowest = self.shared.slowest.load(Ordering::Relaxed);
        eprintln!("    no operation failed, the slowest took {slowest} ms");
        Ok(tally)
    }
}

/// Makes files and changes them.
struct Writer {
    fs: ArustioFileSystem,
    folder: String,
    chance: SmallRng,
    done: Done,
}

impl Writer {
    async fn run(mut self, shared: Arc<Shared>) -> Result<Done> {
        for number in 0.. {
            if !shared.goes_on() {
                break;
            }
            let began = Instant::now();
            let name = format!("{}/{number}", self.folder);
            let changed = self.change(&name, number).await;
            changed.with_context(|| format!("{name} after {:.1?}", began.elapsed()))?;
            shared.done(began);
        }
        close(self.fs, &mut self.done.tally).await?;
        Ok(self.done)
    }

    async fn change(&mut self, name: &str, number: u64) -> Result<()> {
        let sum = self.make(name).await?;
        self.done.left.put(name, sum);
        match number % 4 {
            1 => self.rename(name).await?,
            3 => self.remove(name).await?,
            _ => {}
        }
        Ok(())
    }

    /// Writes a file and reads it back.
    async fn make(&mut self, name: &str) -> Result<Sum> {
        let mut content = vec![0; self.chance.random_range(0..64 << 10)];
        self.chance.fill_bytes(&mut content);
        let sum = Sum::of(&content);
        let options = CreateOptions {
            parents: true,
            ..CreateOptions::default()
        };
        let mut writer = self
            .fs
            .create(&full(name)?, options)
            .await
            .context("create")?;
        writer.write(content.into()).await.context("write")?;
        writer.commit().await.context("commit")?;
        let read = read_one(self.fs.clone(), name.to_owned(), sum).await;
        self.done.tally += Tally {
            operations: 2,
            bytes: 2 * read.context("read back")?.0,
            repeats: 0,
        };
        Ok(sum)
    }

    async fn rename(&mut self, name: &str) -> Result<()> {
        let to = format!("{name}-renamed");
        let options = RenameOptions::default();
        let renamed = self.fs.rename(&full(name)?, &full(&to)?, options).await;
        renamed.context("rename")?;
        let sum = self.done.left.remove(name).context("what was written")?;
        self.done.left.put(to, sum);
        self.done.tally.operations += 1;
        Ok(())
    }

    async fn remove(&mut self, name: &str) -> Result<()> {
        let removed = self.fs.delete(&full(name)?, DeleteOptions::default()).await;
        removed.context("remove")?;
        self.done.left.remove(name);
        self.done.tally.operations += 1;
        Ok(())
    }
}

fn full(name: &str) -> Result<FsPath> {
    Ok(FsPath::new(&format!("{MOUNT}/{name}"))?)
}

/// Reads files of the tree in random order.
async fn read(
    fs: ArustioFileSystem,
    files: Arc<Vec<(String, Sum)>>,
    seed: u64,
    shared: Arc<Shared>,
) -> Result<Done> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut done = Done::default();
    while shared.goes_on() {
        let began = Instant::now();
        let (path, sum) = &files[chance.random_range(0..files.len())];
        let read = read_one(fs.clone(), path.clone(), *sum).await;
        done.tally.operations += 1;
        done.tally.bytes += read
            .with_context(|| format!("reading {path}, after {:.1?}", began.elapsed()))?
            .0;
        shared.done(began);
    }
    close(fs, &mut done.tally).await?;
    Ok(done)
}

/// Types a command again and again.
async fn command(cli: Cli, shared: Arc<Shared>) -> Result<Done> {
    let mut done = Done::default();
    while shared.goes_on() {
        let began = Instant::now();
        let words = ["fs", "ls", MOUNT];
        let said = cli.output(&words).await;
        said.with_context(|| format!("after {:.1?}", began.elapsed()))?;
        done.tally.operations += 1;
        shared.done(began);
    }
    Ok(done)
}
