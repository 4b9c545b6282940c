//! `copy-to-local`.
//!
//! A file is written under a hidden temporary name and renamed when it is whole, so that
//! a run that fails leaves no half file under a good name.

use std::path::{Path, PathBuf};

use arustio_client::{FileSystem, FsError, ListOptions, OpenOptions, StatOptions};
use arustio_types::{ErrorKind, FsPath};
use futures::{StreamExt, TryStreamExt, stream};

use super::{Copied, Run, drive, needs_recursive, several_need_directory};
use crate::args::{CopyArgs, Global};
use crate::local::{LocalFile, fs_path, local_error};
use crate::output::Output;
use crate::progress::Progress;

/// Copies files and trees of the namespace to the local disk.
pub(crate) async fn to_local(
    fs: &dyn FileSystem,
    out: &mut Output,
    global: &Global,
    args: CopyArgs,
) -> Result<u8, FsError> {
    let target = PathBuf::from(&args.to);
    let into = target.is_dir();
    several_need_directory(args.from.len(), into, &target.to_string_lossy())?;
    let mut sources = Vec::new();
    for source in &args.from {
        let source = fs_path(source)?;
        let status = fs.stat(&source, StatOptions::default()).await?;
        if status.is_dir() && !args.recursive {
            return Err(needs_recursive(source.as_str()).during("copy"));
        }
        sources.push(status);
    }
    let one_file = sources.iter().all(|status| !status.is_dir());
    let size = one_file.then(|| sources.iter().map(|status| status.size).sum());
    let mut run = Run::new(global, &args, size);
    for status in sources {
        let name = status.path.name().unwrap_or_default();
        let to = if into {
            target.join(name)
        } else {
            target.clone()
        };
        let force = args.force;
        if !status.is_dir() {
            let one = stream::iter([Ok((status.path, to))]).boxed();
            drive(&mut run, one, |job, p| download(fs, job, force, p)).await?;
            continue;
        }
        copy_tree(fs, &mut run, status.path, to, force).await?;
    }
    run.finish(out)
}

async fn copy_tree(
    fs: &dyn FileSystem,
    run: &mut Run<'_>,
    from: FsPath,
    to: PathBuf,
    force: bool,
) -> Result<(), FsError> {
    make_directory(&to)?;
    let listing = fs.list(
        &from,
        ListOptions {
            recursive: true,
            ..ListOptions::default()
        },
    );
    let jobs = listing.try_filter_map(|entry| {
        let relative = entry.path.relative_to(&from).unwrap_or_default();
        let local = to.join(relative);
        let job = if entry.is_dir() {
            make_directory(&local).map(|()| None)
        } else {
            Ok(Some((entry.path, local)))
        };
        async move { job }
    });
    drive(run, jobs.boxed(), |job, p| download(fs, job, force, p)).await
}

fn make_directory(path: &Path) -> Result<(), FsError> {
    std::fs::create_dir_all(path).map_err(|e| local_error("create", path, &e))
}

async fn download(
    fs: &dyn FileSystem,
    (from, to): (FsPath, PathBuf),
    force: bool,
    progress: Progress,
) -> Result<(String, Copied), FsError> {
    if to.is_dir() {
        let message = "a local directory of this name is in the way";
        return Err(FsError::new(ErrorKind::IsADirectory, message)
            .during("write")
            .at_text(&to.to_string_lossy()));
    }
    if !force && to.symlink_metadata().is_ok() {
        let message = "the local file exists; use -f to replace it";
        return Err(FsError::new(ErrorKind::AlreadyExists, message)
            .during("write")
            .at_text(&to.to_string_lossy()));
    }
    let reader = fs.open(&from, OpenOptions::default()).await?;
    if let Some(parent) = to.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_directory(parent)?;
    }
    let mut local = LocalFile::create(&to)?;
    let mut bytes = 0;
    let mut stream = reader.stream(0..u64::MAX);
    while let Some(piece) = stream.try_next().await? {
        bytes += piece.len() as u64;
        progress.add(piece.len() as u64);
        local.write(piece).await?;
    }
    local.publish().await?;
    let read = reader.stats();
    Ok((to.to_string_lossy().into_owned(), Copied { bytes, read }))
}
