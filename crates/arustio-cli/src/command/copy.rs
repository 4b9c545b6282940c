//! `cp`, `copy-from-local`, `copy-to-local`: files move as streams, several at once.
//!
//! All three are one engine: something lists what is to be copied, something copies
//! one file, and [`Run`] keeps several of them in flight, counts, and shows progress.
//! The first failure ends the run; what was finished stays, what was not leaves
//! nothing behind.

mod download;
mod upload;

use std::ffi::OsStr;
use std::time::Instant;

use arustio_client::{
    CreateOptions, FileSystem, FsError, ListOptions, MkdirOptions, OpenOptions, ReadStats,
    StatOptions,
};
use arustio_types::{ErrorKind, FsPath};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::args::{CopyArgs, Global};
use crate::command::bytes::origin;
use crate::command::names::into_directory;
use crate::local::fs_path;
use crate::output::{Output, printable};
use crate::progress::Progress;

pub(crate) use download::to_local;
pub(crate) use upload::from_local;

/// What one file cost.
#[derive(Debug, Clone, Copy, Default)]
struct Copied {
    bytes: u64,
    read: ReadStats,
}

/// Totals of one run, and how it is shown.
struct Run<'a> {
    args: &'a CopyArgs,
    progress: Progress,
    files: u64,
    total: Copied,
    started: Instant,
}

impl<'a> Run<'a> {
    fn new(global: &Global, args: &'a CopyArgs, size: Option<u64>) -> Self {
        let quiet = global.quiet || global.json;
        Self {
            args,
            progress: Progress::new(quiet, "copying", size),
            files: 0,
            total: Copied::default(),
            started: Instant::now(),
        }
    }

    fn threads(&self) -> usize {
        usize::from(self.args.threads)
    }

    fn done(&mut self, name: &str, copied: Copied) {
        self.files += 1;
        self.total.bytes += copied.bytes;
        self.total.read.cache_bytes += copied.read.cache_bytes;
        self.total.read.ufs_bytes += copied.read.ufs_bytes;
        self.total.read.ufs_requests += copied.read.ufs_requests;
        if self.args.v {
            let from = origin(copied.bytes, &copied.read);
            self.progress.say(&format!("{}: {from}", printable(name)));
        }
    }

    fn finish(self, out: &mut Output) -> Result<u8, FsError> {
        self.progress.finish();
        if out.is_json() {
            out.object(&json!({
                "files": self.files,
                "bytes": self.total.bytes,
                "seconds": self.started.elapsed().as_secs_f64(),
                "cache_bytes": self.total.read.cache_bytes,
                "ufs_bytes": self.total.read.ufs_bytes,
                "ufs_requests": self.total.read.ufs_requests,
                "peak_memory_bytes": crate::process::cost().peak_rss,
            }))?;
        }
        Ok(0)
    }
}

/// Runs `copy` over `jobs`, `threads` of them at once.
async fn drive<J, F>(
    run: &mut Run<'_>,
    jobs: BoxStream<'_, Result<J, FsError>>,
    copy: impl Fn(J, Progress) -> F,
) -> Result<(), FsError>
where
    F: Future<Output = Result<(String, Copied), FsError>>,
{
    let threads = run.threads();
    let progress = run.progress.clone();
    let copies = jobs
        .map_ok(|job| copy(job, progress.clone()))
        .try_buffer_unordered(threads);
    let mut copies = std::pin::pin!(copies);
    while let Some((name, copied)) = copies.try_next().await? {
        run.done(&name, copied);
    }
    Ok(())
}

fn needs_recursive(path: &str) -> FsError {
    FsError::new(
        ErrorKind::IsADirectory,
        "it is a directory; use -r to copy it",
    )
    .at_text(path)
}

/// Where `name` goes when `sources` files go to `target`.
fn several_need_directory(sources: usize, is_directory: bool, target: &str) -> Result<(), FsError> {
    if sources > 1 && !is_directory {
        let message = "several files can only be copied into an existing directory";
        return Err(FsError::new(ErrorKind::NotADirectory, message).at_text(target));
    }
    Ok(())
}

/// Whether a name of the namespace is a directory; `None` when there is none.
async fn is_directory(fs: &dyn FileSystem, path: &FsPath) -> Result<Option<bool>, FsError> {
    match fs.stat(path, StatOptions::default()).await {
        Ok(status) => Ok(Some(status.is_dir())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// How copies create: with parents, and replacing only with `-f`.
fn create_options(args: &CopyArgs) -> CreateOptions {
    CreateOptions {
        overwrite: args.force,
        parents: true,
        ..CreateOptions::default()
    }
}

async fn make_directory(fs: &dyn FileSystem, path: &FsPath) -> Result<(), FsError> {
    let options = MkdirOptions {
        parents: true,
        exist_ok: true,
    };
    fs.mkdir(path, options).await.map(drop)
}

/// `cp`: inside the namespace.
pub(crate) async fn inside(
    fs: &dyn FileSystem,
    out: &mut Output,
    global: &Global,
    args: CopyArgs,
) -> Result<u8, FsError> {
    let target = fs_path(&args.to)?;
    let into = is_directory(fs, &target).await? == Some(true);
    several_need_directory(args.from.len(), into, target.as_str())?;
    let mut run = Run::new(global, &args, None);
    for source in &args.from {
        copy_tree(fs, &mut run, source, &target).await?;
    }
    run.finish(out)
}

async fn copy_tree(
    fs: &dyn FileSystem,
    run: &mut Run<'_>,
    source: &OsStr,
    target: &FsPath,
) -> Result<(), FsError> {
    let source = fs_path(source)?;
    let status = fs.stat(&source, StatOptions::default()).await?;
    let target = into_directory(fs, target.clone(), &source).await?;
    if status.is_dir() && !run.args.recursive {
        return Err(needs_recursive(source.as_str()));
    }
    if target.starts_with(&source) {
        let message = "a path cannot be copied onto or into itself";
        return Err(FsError::on(ErrorKind::InvalidArgument, &source, message));
    }
    let options = create_options(run.args);
    if !status.is_dir() {
        let one = stream::iter([Ok((source, target))]).boxed();
        return drive(run, one, |job, progress| {
            copy_file(fs, job, options.clone(), progress)
        })
        .await;
    }
    make_directory(fs, &target).await?;
    let listing = fs.list(
        &source,
        ListOptions {
            recursive: true,
            ..ListOptions::default()
        },
    );
    let jobs = listing.try_filter_map(|entry| {
        let (source, target) = (source.clone(), target.clone());
        async move {
            let relative = entry.path.relative_to(&source).unwrap_or_default();
            let to = target.join_relative(relative)?;
            if entry.is_dir() {
                make_directory(fs, &to).await?;
                return Ok(None);
            }
            Ok(Some((entry.path, to)))
        }
    });
    drive(run, jobs.boxed(), |job, progress| {
        copy_file(fs, job, options.clone(), progress)
    })
    .await
}

async fn copy_file(
    fs: &dyn FileSystem,
    (from, to): (FsPath, FsPath),
    options: CreateOptions,
    progress: Progress,
) -> Result<(String, Copied), FsError> {
    let reader = fs.open(&from, OpenOptions::default()).await?;
    let mut writer = fs.create(&to, options).await?;
    let mut bytes = 0;
    let mut stream = reader.stream(0..u64::MAX);
    while let Some(piece) = stream.try_next().await? {
        bytes += piece.len() as u64;
        progress.add(piece.len() as u64);
        writer.write(piece).await?;
    }
    let committed = writer.commit().await?;
    let mut read = reader.stats();
    read.ufs_requests += committed.stats.ufs_requests;
    Ok((to.to_string(), Copied { bytes, read }))
}
