//! `copy-to-local`.
//!
//! A file is written under a hidden temporary name beside its target and renamed when
//! it is whole, so that a run that fails leaves no half file under a good name.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arustio_client::{FileSystem, FsError, ListOptions, OpenOptions, StatOptions};
use arustio_types::{ErrorKind, FsPath};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::spawn_blocking;

use super::{Copied, Run, drive, needs_recursive, several_need_directory};
use crate::args::{CopyArgs, Global};
use crate::local::{fs_path, local_error};
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
        local = local.write(piece).await?;
    }
    local.publish().await?;
    let read = reader.stats();
    Ok((to.to_string_lossy().into_owned(), Copied { bytes, read }))
}

/// A file under its temporary name; dropped before it is published, it is removed.
struct LocalFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    published: bool,
}

impl LocalFile {
    fn create(target: &Path) -> Result<Self, FsError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mark: u64 = rand::random();
        // Long names would not fit with the mark, so only their head is kept.
        let head: String = name.chars().take(40).collect();
        let temporary = target.with_file_name(format!(".{head}.{mark:016x}.arustio-part"));
        let file = File::create_new(&temporary).map_err(|e| local_error("write", target, &e))?;
        Ok(Self {
            file,
            temporary,
            target: target.to_owned(),
            published: false,
        })
    }

    async fn write(self, piece: Bytes) -> Result<Self, FsError> {
        self.blocking(move |local| local.file.write_all(&piece))
            .await
    }

    async fn publish(self) -> Result<(), FsError> {
        let published = self
            .blocking(|local| {
                std::fs::rename(&local.temporary, &local.target)?;
                local.published = true;
                Ok(())
            })
            .await;
        published.map(drop)
    }

    async fn blocking(
        mut self,
        work: impl FnOnce(&mut Self) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, FsError> {
        let done = spawn_blocking(move || {
            work(&mut self).map_err(|e| local_error("write", &self.target, &e))?;
            Ok(self)
        });
        done.await.unwrap_or_else(|error| {
            let message = format!("a worker ended early: {error}");
            Err(FsError::new(ErrorKind::Internal, message))
        })
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: there is nobody left to tell.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unfinished_copy_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("f");
        let local = LocalFile::create(&target).unwrap();
        let local = local.write(Bytes::from_static(b"half")).await.unwrap();
        drop(local);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        let local = LocalFile::create(&target).unwrap();
        let local = local.write(Bytes::from_static(b"whole")).await.unwrap();
        local.publish().await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
