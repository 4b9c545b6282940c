//! A local file in the making: under a hidden temporary name beside its target until it is
//! whole.
//!
//! Whatever ends the work early (an error, ctrl-C) drops it, and with it the temporary name:
//! that is taken away on the task that drops, so that nothing stays although the process
//! ends without waiting for the thread that writes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arustio_client::FsError;
use arustio_types::ErrorKind;
use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::local_error;

/// A file under its temporary name; dropped before it is published, it is removed.
#[derive(Debug)]
pub(crate) struct LocalFile {
    file: Arc<File>,
    temporary: PathBuf,
    target: PathBuf,
    published: bool,
}

impl LocalFile {
    /// Makes an empty one.
    pub(crate) fn create(target: &Path) -> Result<Self, FsError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mark: u64 = rand::random();
        // Long names would not fit with the mark, so only their head is kept.
        let head: String = name.chars().take(40).collect();
        let temporary = target.with_file_name(format!(".{head}.{mark:016x}.arustio-part"));
        let file = File::create_new(&temporary).map_err(|e| local_error("write", target, &e))?;
        Ok(Self {
            file: Arc::new(file),
            temporary,
            target: target.to_owned(),
            published: false,
        })
    }

    /// Appends.
    pub(crate) async fn write(&mut self, piece: Bytes) -> Result<(), FsError> {
        self.blocking(move |mut file| file.write_all(&piece)).await
    }

    /// Gives it its name; a file that has the name is replaced.
    pub(crate) async fn publish(mut self) -> Result<(), FsError> {
        let renamed = fs::rename(&self.temporary, &self.target);
        renamed.map_err(|error| self.failed(&error))?;
        self.published = true;
        Ok(())
    }

    /// Makes it durable and gives it its name, unless something has the name meanwhile.
    pub(crate) async fn publish_new(mut self) -> Result<(), FsError> {
        self.blocking(|file| file.sync_all()).await?;
        let renamed = rename_new(&self.temporary, &self.target);
        renamed.map_err(|error| self.failed(&error))?;
        self.published = true;
        let folder = self.target.parent();
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        self.blocking(move |_| File::open(folder)?.sync_all()).await
    }

    async fn blocking(
        &self,
        work: impl FnOnce(&File) -> io::Result<()> + Send + 'static,
    ) -> Result<(), FsError> {
        let file = Arc::clone(&self.file);
        match spawn_blocking(move || work(&file)).await {
            Ok(done) => done.map_err(|error| self.failed(&error)),
            Err(error) => {
                let message = format!("a worker ended early: {error}");
                Err(FsError::new(ErrorKind::Internal, message))
            }
        }
    }

    fn failed(&self, error: &io::Error) -> FsError {
        local_error("write", &self.target, error)
    }
}

/// Renames where nothing has the new name.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot refuse: what is there now is all that can be known.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        renamed => Ok(renamed?),
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: there is nobody left to tell.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    async fn half(target: &Path) -> LocalFile {
        let mut local = LocalFile::create(target).unwrap();
        local.write(Bytes::from_static(b"half")).await.unwrap();
        local
    }

    #[tokio::test]
    async fn an_unfinished_file_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("f");
        drop(half(&target).await);
        assert_eq!(names(folder.path()), 0);

        let mut local = half(&target).await;
        local.write(Bytes::from_static(b" and half")).await.unwrap();
        local.publish().await.unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"half and half");
        assert_eq!(names(folder.path()), 1);
    }

    #[tokio::test]
    async fn a_new_file_never_replaces_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("f");
        let (first, second) = (half(&target).await, half(&target).await);
        first.publish_new().await.unwrap();
        let error = second.publish_new().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), 1);
    }
}
