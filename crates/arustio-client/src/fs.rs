//! The file system as its users see it.
//!
//! [`FileSystem`] is what the command line, programs and the reference model of the
//! tests share. It deliberately has no handles table, no working directory and no
//! locks: a path is checked once, as an [`FsPath`], and a handle is a value.
//!
//! Invariant: a [`FileReader`] returns bytes of one content for its whole life (R1); a
//! [`FileWriter`] shows nothing under its name until it is committed (W1).

mod options;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arustio_types::meta::FileStatus;
use arustio_types::meta::command::AttributeChange;
use arustio_types::meta::mount::MountEntry;
use arustio_types::meta::setting::PathConf;
use arustio_types::{ContentId, FsPath, ObjectVersion};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use options::{
    CreateOptions, DeleteOptions, DeleteSummary, FreeSummary, ListOptions, LoadEvent, LoadOptions,
    LoadedFile, MkdirOptions, MountCheck, MountOutcome, MountRequest, OpenOptions, PathConfView,
    PendingItem, PendingKind, ReadStats, RenameOptions, StatOptions, SyncFinding, SyncOptions,
    SyncSummary, UnmountSummary, Usage, UsageOptions, WriteStats,
};

use crate::block::location::FileLocation;
use crate::error::Result;

/// A namespace over object stores.
///
/// # Contract
///
/// *Who calls.* Any task of a tokio runtime, concurrently; shared behind an `Arc`.
///
/// *Durable and visible.* What returned success is applied, linearizable, and survives
/// as the write type of the file says. Mutations have settled in the under file system
/// when they return.
///
/// *Errors.* [`FsError::kind`](crate::FsError::kind) says what to do.
/// [`ErrorKind::Unknown`](arustio_types::ErrorKind::Unknown) means that the outcome
/// could not be established: look at the path before repeating.
///
/// *Retries* of lost replies are inside, under the same request id: callers do not loop.
///
/// *Dropping a future.* Reads and listings may be dropped freely. A mutation whose
/// future is dropped may or may not have happened; what it owes is finished by whoever
/// comes next.
#[async_trait]
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Opens a file for reading, pinned to one content.
    async fn open(&self, path: &FsPath, options: OpenOptions) -> Result<Box<dyn FileReader>>;

    /// Opens a name for writing; it appears whole at [`FileWriter::commit`].
    async fn create(&self, path: &FsPath, options: CreateOptions) -> Result<Box<dyn FileWriter>>;

    /// Cuts or extends a file in place. No store can do that: it is refused with
    /// [`ErrorKind::Unsupported`](arustio_types::ErrorKind::Unsupported) (W6).
    async fn truncate(&self, path: &FsPath, length: u64) -> Result<()>;

    /// What stands under a name.
    async fn stat(&self, path: &FsPath, options: StatOptions) -> Result<FileStatus>;

    /// The entries of a directory in name order, or of everything below it, parents
    /// first; of a file, itself. An error ends the stream.
    fn list(&self, path: &FsPath, options: ListOptions) -> BoxStream<'static, Result<FileStatus>>;

    /// Makes a directory, and its marker in the under file system.
    async fn mkdir(&self, path: &FsPath, options: MkdirOptions) -> Result<FileStatus>;

    /// Moves a file or directory inside one mount.
    async fn rename(&self, from: &FsPath, to: &FsPath, options: RenameOptions) -> Result<()>;

    /// Removes a name and its objects.
    async fn delete(&self, path: &FsPath, options: DeleteOptions) -> Result<DeleteSummary>;

    /// Changes mode, owner, group or modification time.
    async fn set_attributes(&self, path: &FsPath, change: AttributeChange) -> Result<()>;

    /// Mounts an under file system after having tried it.
    async fn mount(&self, request: MountRequest) -> Result<MountOutcome>;

    /// Replaces options and credential of a mount.
    async fn update_mount(&self, request: MountRequest) -> Result<MountOutcome>;

    /// Tries an under file system as a mount would, and mounts nothing.
    async fn check_mount(&self, request: MountRequest) -> Result<MountCheck>;

    /// Forgets a mount; never touches its objects.
    async fn unmount(&self, path: &FsPath, force: bool) -> Result<UnmountSummary>;

    /// The mount table, by path.
    async fn mounts(&self) -> Result<Vec<MountEntry>>;

    /// Settings of a path, its own and with everything inherited.
    async fn conf(&self, path: &FsPath) -> Result<PathConfView>;

    /// Changes settings of a path; `unset` are canonical keys.
    async fn set_conf(&self, path: &FsPath, set: PathConf, unset: Vec<String>) -> Result<()>;

    /// Looks at the under file system now, whatever the sync interval says.
    async fn sync(&self, path: &FsPath, options: SyncOptions) -> Result<SyncSummary>;

    /// Walks the under file system below a path and names every key that cannot be a
    /// path (U3).
    fn sync_report(&self, path: &FsPath) -> BoxStream<'static, Result<SyncFinding>>;

    /// What is announced or owed, oldest first.
    async fn pending(&self) -> Result<Vec<PendingItem>>;

    /// Files, directories and bytes at and below a path.
    async fn usage(&self, path: &FsPath, options: UsageOptions) -> Result<Usage>;

    /// Bytes of each of these files that block nodes hold; `None` for a directory and
    /// where it cannot be found out. An estimate while others read and write.
    async fn cached_bytes(&self, files: &[FileStatus]) -> Result<Vec<Option<u64>>>;

    /// On which block nodes the blocks of a file belong, and how much of it is there. An
    /// estimate while others read and write.
    async fn location(&self, path: &FsPath) -> Result<FileLocation>;

    /// Brings everything at and below these paths to the block nodes, several files and
    /// blocks at once, in bounded memory. What is there is not read again, and of several
    /// that load or read the same bytes one asks the under file system.
    ///
    /// The bytes of a file that did not fail were acknowledged by the nodes they belong on.
    /// An error ends the stream; that a file failed is told with it and ends nothing.
    /// Dropping the stream ends the work; what was loaded stays.
    fn load(
        &self,
        paths: Vec<FsPath>,
        options: LoadOptions,
    ) -> BoxStream<'static, Result<LoadEvent>>;

    /// Drops cached blocks of everything at and below a path.
    async fn free(&self, path: &FsPath) -> Result<FreeSummary>;

    /// Stops background work in order: writers that were dropped are aborted, fills
    /// end, the session closes. Later calls fail; calling it again does nothing.
    async fn close(&self) -> Result<()>;
}

/// An open file, pinned to one content.
///
/// # Contract
///
/// Every byte is of the content that [`status`](Self::status) names, or the call fails
/// with [`ErrorKind::Stale`](arustio_types::ErrorKind::Stale) (R1). Calls may run
/// concurrently. Dropping a future or the handle is safe at any point.
#[async_trait]
pub trait FileReader: Send + Sync + fmt::Debug {
    /// The file as it was when it was opened. It changes at most once, before the first
    /// byte was returned, when the very first read finds that the version is gone.
    fn status(&self) -> Arc<FileStatus>;

    /// Up to `length` bytes from `offset`; fewer only at the end of the file, none past
    /// it.
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes>;

    /// The bytes of a range in order, in pieces of any size, read ahead; the range is
    /// cut to the file's length. `0..u64::MAX` is the whole file.
    fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>>;

    /// Where the bytes came from so far.
    fn stats(&self) -> ReadStats;
}

/// A file being written; invisible until it is committed.
///
/// # Contract
///
/// [`write`](Self::write) buffers at most `write.buffer` and waits when that is full
/// (W5). Once it failed or was dropped only [`abort`](Self::abort) or dropping make sense.
/// Dropping without a commit aborts in the background; [`FileSystem::close`] waits for it.
///
/// Dropping the future of `commit` aborts too, as long as parts are being sent. Once the
/// last request is on its way nothing can call it back; the commit then goes on by
/// itself, and either the whole file appears or nothing does.
#[async_trait]
pub trait FileWriter: Send + fmt::Debug {
    /// Adds bytes at the end.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Publishes the file, whole.
    async fn commit(self: Box<Self>) -> Result<Committed>;

    /// Leaves nothing behind: no name, no object, no upload.
    async fn abort(self: Box<Self>) -> Result<()>;

    /// What has been sent so far.
    fn stats(&self) -> WriteStats;
}

/// A published file.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// As it stands.
    pub status: FileStatus,
    /// The content's id.
    pub content: ContentId,
    /// The version in the under file system.
    pub version: ObjectVersion,
    /// Where the bytes went.
    pub stats: WriteStats,
}
