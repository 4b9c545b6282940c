//! The real file system: every operation named, everything else in the parts.

use std::sync::Arc;

use arustio_types::FsPath;
use arustio_types::meta::FileStatus;
use arustio_types::meta::command::AttributeChange;
use arustio_types::meta::mount::MountEntry;
use arustio_types::meta::setting::PathConf;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::block::BlockSelector;
use crate::block::hedge::HedgeStats;
use crate::block::location::FileLocation;
use crate::client::Client;
use crate::error::Result;
use crate::fs::{
    CreateOptions, DeleteOptions, DeleteSummary, FileReader, FileSystem, FileWriter, FreeSummary,
    ListOptions, LoadEvent, LoadOptions, MkdirOptions, MountCheck, MountOutcome, MountRequest,
    OpenOptions, PathConfView, PendingItem, RenameOptions, StatOptions, SyncFinding, SyncOptions,
    SyncSummary, UnmountSummary, Usage, UsageOptions,
};
use crate::job::pending::{PendingReport, PendingRounds};
use crate::names::Knowledge;
use crate::read::load;

/// Files that nodes are asked about at a time.
const TOGETHER: usize = 256;

/// A client of an Arustio cluster. Cheap to clone; all clones are one client.
#[derive(Debug, Clone)]
pub struct ArustioFileSystem(pub(crate) Arc<Client>);

impl ArustioFileSystem {
    /// Looks for work that dead clients left and nobody does any more, and does at most
    /// `limit` pieces of it. For daemons that do this regularly: `rounds` remembers from
    /// call to call what is not worth another try yet.
    pub async fn run_pending(
        &self,
        rounds: &mut PendingRounds,
        limit: usize,
    ) -> Result<PendingReport> {
        self.0.run_pending(rounds, limit).await
    }

    /// How often this client asked a metadata server again, since one did not answer, or had to
    /// find out who leads. Callers see nothing of it but time.
    pub fn metadata_repeats(&self) -> u64 {
        self.0.metadata.repeats()
    }

    /// How often block nodes were asked by all readers of this client together, and how
    /// often somebody else as well. For whoever exports metrics.
    pub fn hedge_stats(&self) -> HedgeStats {
        self.0.hedges.stats()
    }
}

#[async_trait]
impl FileSystem for ArustioFileSystem {
    async fn open(&self, path: &FsPath, options: OpenOptions) -> Result<Box<dyn FileReader>> {
        self.0.check_open()?;
        let opened = self.0.open(path, options).await;
        let reader = opened.map_err(|error| error.at(path).during("open"))?;
        Ok(Box::new(reader))
    }

    async fn create(&self, path: &FsPath, options: CreateOptions) -> Result<Box<dyn FileWriter>> {
        self.0.check_open()?;
        let created = self.0.create(path, options).await;
        let writer = created.map_err(|error| error.at(path).during("create"))?;
        Ok(Box::new(writer))
    }

    async fn truncate(&self, path: &FsPath, length: u64) -> Result<()> {
        self.0.check_open()?;
        let refused = self.0.truncate(path, length).await;
        refused.map_err(|error| error.at(path).during("truncate"))
    }

    async fn stat(&self, path: &FsPath, options: StatOptions) -> Result<FileStatus> {
        let knowledge = if options.stale_ok {
            Knowledge::Stale
        } else {
            Knowledge::Fresh
        };
        let status = self.0.stat(path, knowledge).await;
        status.map_err(|error| error.at(path).during("stat"))
    }

    fn list(&self, path: &FsPath, options: ListOptions) -> BoxStream<'static, Result<FileStatus>> {
        self.0.list(path.clone(), options)
    }

    async fn mkdir(&self, path: &FsPath, options: MkdirOptions) -> Result<FileStatus> {
        self.0.check_open()?;
        let made = self.0.mkdir(path, options).await;
        made.map_err(|error| error.at(path).during("make directory"))
    }

    async fn rename(&self, from: &FsPath, to: &FsPath, options: RenameOptions) -> Result<()> {
        self.0.check_open()?;
        let moved = self.0.rename(from, to, options).await;
        moved.map_err(|error| error.at(from).during("move"))
    }

    async fn delete(&self, path: &FsPath, options: DeleteOptions) -> Result<DeleteSummary> {
        self.0.check_open()?;
        let removed = self.0.delete(path, options).await;
        removed.map_err(|error| error.at(path).during("remove"))
    }

    async fn set_attributes(&self, path: &FsPath, change: AttributeChange) -> Result<()> {
        self.0.check_open()?;
        let changed = self.0.set_attributes(path, change).await;
        changed.map_err(|error| error.at(path).during("change"))
    }

    async fn mount(&self, request: MountRequest) -> Result<MountOutcome> {
        self.0.check_open()?;
        let (uri, path) = (request.uri.clone(), request.path.clone());
        let mounted = self.0.mount(request).await;
        mounted.map_err(|error| error.at_text(&format!("{uri} at {path}")).during("mount"))
    }

    async fn update_mount(&self, request: MountRequest) -> Result<MountOutcome> {
        self.0.check_open()?;
        let path = request.path.clone();
        let updated = self.0.update_mount(request).await;
        updated.map_err(|error| error.at(&path).during("update mount"))
    }

    async fn check_mount(&self, request: MountRequest) -> Result<MountCheck> {
        let uri = request.uri.clone();
        let checked = self.0.check_mount(request).await;
        checked.map_err(|error| error.at_text(&uri).during("check"))
    }

    async fn unmount(&self, path: &FsPath, force: bool) -> Result<UnmountSummary> {
        self.0.check_open()?;
        let unmounted = self.0.unmount(path, force).await;
        unmounted.map_err(|error| error.at(path).during("unmount"))
    }

    async fn mounts(&self) -> Result<Vec<MountEntry>> {
        let mounts = self.0.mounts().await;
        mounts.map_err(|error| error.during("list mounts"))
    }

    async fn conf(&self, path: &FsPath) -> Result<PathConfView> {
        let conf = self.0.path_conf(path).await;
        conf.map_err(|error| error.at(path).during("read settings of"))
    }

    async fn set_conf(&self, path: &FsPath, set: PathConf, unset: Vec<String>) -> Result<()> {
        self.0.check_open()?;
        let changed = self.0.set_conf(path, set, unset).await;
        changed.map_err(|error| error.at(path).during("change settings of"))
    }

    async fn sync(&self, path: &FsPath, options: SyncOptions) -> Result<SyncSummary> {
        let synced = self.0.sync(path, options).await;
        synced.map_err(|error| error.at(path).during("sync"))
    }

    fn sync_report(&self, path: &FsPath) -> BoxStream<'static, Result<SyncFinding>> {
        let of = path.clone();
        Arc::clone(&self.0)
            .sync_report(path.clone())
            .map_err(move |error| error.at(&of).during("report on"))
            .boxed()
    }

    async fn pending(&self) -> Result<Vec<PendingItem>> {
        let items = self.0.pending_items().await;
        let items = items.map_err(|error| error.during("list what is pending"))?;
        Ok(items.into_iter().map(|owed| owed.item).collect())
    }

    async fn usage(&self, path: &FsPath, options: UsageOptions) -> Result<Usage> {
        let usage = self.0.usage(path, options).await;
        usage.map_err(|error| error.at(path).during("count"))
    }

    async fn cached_bytes(&self, files: &[FileStatus]) -> Result<Vec<Option<u64>>> {
        Ok(self.0.cached_bytes(files).await)
    }

    async fn location(&self, path: &FsPath) -> Result<FileLocation> {
        let found = self.0.location(path).await;
        found.map_err(|error| error.at(path).during("find the blocks of"))
    }

    fn load(
        &self,
        paths: Vec<FsPath>,
        options: LoadOptions,
    ) -> BoxStream<'static, Result<LoadEvent>> {
        load::load(Arc::clone(&self.0), paths, options)
    }

    async fn free(&self, path: &FsPath) -> Result<FreeSummary> {
        let freed = self.free_blocks(path).await;
        freed.map_err(|error| error.at(path).during("free"))
    }

    async fn close(&self) -> Result<()> {
        self.0.tasks.finish_owed().await;
        self.0.tasks.stop(self.0.config.read.fill_linger).await;
        self.0.sessions.close().await;
        self.0.tell_last().await;
        Ok(())
    }
}

impl ArustioFileSystem {
    async fn free_blocks(&self, path: &FsPath) -> Result<FreeSummary> {
        let status = self.0.stat(path, Knowledge::Fresh).await?;
        let everything = ListOptions {
            recursive: true,
            ..ListOptions::default()
        };
        let mut summary = FreeSummary::default();
        let mut entries = self.0.list(path.clone(), everything).ready_chunks(TOGETHER);
        while let Some(some) = entries.next().await {
            let some = some.into_iter().collect::<Result<Vec<_>>>()?;
            let files: Vec<FileStatus> = some.into_iter().filter(|e| !e.is_dir()).collect();
            summary.files += files.len() as u64;
            let cached = self.0.cached_bytes(&files).await;
            summary.bytes += cached.into_iter().flatten().sum::<u64>();
            if !status.mount_point {
                self.forget_all(&files, &mut summary).await;
            }
        }
        if let Some(mount) = status.mount.filter(|_| status.mount_point) {
            summary.unreachable = self.0.remove_blocks(BlockSelector::Mount(mount)).await;
        }
        Ok(summary)
    }

    async fn forget_all(&self, files: &[FileStatus], summary: &mut FreeSummary) {
        for content in files.iter().filter_map(FileStatus::content_id) {
            let removed = self.0.remove_blocks(BlockSelector::Content(content));
            summary.unreachable = summary.unreachable.max(removed.await);
        }
    }
}
