//! Listing that streams: the first entries come while the store is still being asked.
//!
//! A directory that has to be looked at is walked page by page; after each page the
//! names that are settled by it are read from the namespace and handed on, in name
//! order. One task does it all, at the pace of whoever takes the entries; dropping the
//! stream ends it. Memory is a few pages for each directory on the way down.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::FileStatus;
use arustio_types::meta::query::MAX_PAGE;
use arustio_types::meta::sync::SyncTarget;
use arustio_types::{ErrorKind, FsPath};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Knowledge;
use crate::client::Client;
use crate::error::{FsError, Result};
use crate::fs::ListOptions;
use crate::sync::listing::DirWalk;
use crate::sync::order::settled_below;
use crate::sync::{LookDir, Ticket, Turn};

/// Entries between the task that lists and whoever takes them.
const AHEAD: usize = 256;

impl Client {
    /// Entries of a directory, or of everything below it; of a file, itself.
    pub(crate) fn list(
        self: &Arc<Self>,
        path: FsPath,
        options: ListOptions,
    ) -> BoxStream<'static, Result<FileStatus>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let client = Arc::clone(self);
        let task = tokio::spawn(async move {
            let lister = Lister {
                client: &client,
                sender,
                recursive: options.recursive,
                knowledge: match options.stale_ok {
                    true => Knowledge::Stale,
                    false => Knowledge::Fresh,
                },
            };
            if let Err(error) = lister.run(&path).await {
                let error = error.at(&path).during("list");
                // Nobody listens any more: then nobody misses it.
                let _ = lister.sender.send(Err(error)).await;
            }
        });
        let task = AbortOnDropHandle::new(task);
        futures::stream::unfold((receiver, task), |(mut receiver, task)| async {
            let entry = receiver.recv().await?;
            Some((entry, (receiver, task)))
        })
        .boxed()
    }
}

struct Lister<'a> {
    client: &'a Client,
    sender: mpsc::Sender<Result<FileStatus>>,
    recursive: bool,
    knowledge: Knowledge,
}

/// How far the entries of one directory have been handed on.
#[derive(Debug, Default)]
struct Shown {
    after: Option<String>,
    end: bool,
}

impl Lister<'_> {
    async fn run(&self, path: &FsPath) -> Result<()> {
        let status = self.client.stat(path, self.knowledge).await?;
        if status.is_dir() {
            self.directory(status).await
        } else {
            self.hand_on(status).await
        }
    }

    fn directory(&self, dir: FileStatus) -> BoxFuture<'_, Result<()>> {
        async move {
            match self.turn(&dir).await? {
                Some((look, ticket)) => self.looking(look, ticket).await,
                None => self.show(&dir.path, &mut Shown::default(), None).await,
            }
        }
        .boxed()
    }

    /// Whether the store has to be asked, and whether that is up to us.
    async fn turn(&self, dir: &FileStatus) -> Result<Option<(LookDir, Ticket)>> {
        if self.knowledge == Knowledge::Stale {
            return Ok(None);
        }
        let Some(mount) = dir.mount else {
            return Ok(None);
        };
        let max_age = match self.client.max_age(&dir.path).await? {
            _ if !dir.loaded => Duration::ZERO,
            Some(age) => age,
            None => return Ok(None),
        };
        let mounted = self.client.mounted(mount).await?;
        let prefix = mounted.directory_key(&dir.path)?;
        let looked = &self.client.looked;
        if looked.listed_within(mount, prefix.as_str(), max_age) {
            return Ok(None);
        }
        let target = SyncTarget {
            dir: dir.inode,
            name: None,
        };
        let Turn::Ours(ticket) = self.client.turn(target, max_age).await? else {
            return Ok(None);
        };
        let look = LookDir {
            path: dir.path.clone(),
            inode: dir.inode,
            mount,
            loaded: dir.loaded,
            seen: ticket.seen,
            status: Some(dir.clone()),
        };
        Ok(Some((look, ticket)))
    }

    async fn looking(&self, look: LookDir, ticket: Ticket) -> Result<()> {
        let listed = self.walk(look).await;
        let complete = matches!(listed, Ok(true));
        ticket.give_back(complete).await;
        listed.map(|_| ())
    }

    async fn walk(&self, look: LookDir) -> Result<bool> {
        let path = look.path.clone();
        let mut walk = DirWalk::begin(self.client, look).await?;
        let mut shown = Shown::default();
        while let Some(stretch) = walk.next().await? {
            if let Some(to) = &stretch.to {
                self.show(&path, &mut shown, Some(settled_below(to)))
                    .await?;
            }
        }
        let walked = walk.finish().await?;
        self.show(&path, &mut shown, None).await?;
        Ok(walked.complete)
    }

    /// Hands on what the namespace has, up to an exclusive name.
    async fn show(&self, dir: &FsPath, shown: &mut Shown, below: Option<&str>) -> Result<()> {
        while !shown.end {
            if let (Some(after), Some(below)) = (shown.after.as_deref(), below)
                && after >= below
            {
                return Ok(());
            }
            let after = shown.after.clone();
            let consistency = self.knowledge.consistency();
            let page = self.client.page(dir, after, MAX_PAGE, consistency).await?;
            for entry in page.entries {
                let name = entry.path.name().unwrap_or_default().to_owned();
                if below.is_some_and(|below| name.as_str() >= below) {
                    return Ok(());
                }
                shown.after = Some(name);
                self.entry(entry).await?;
            }
            if page.next.is_none() {
                // Later pages of the store may still add names behind this.
                shown.end = below.is_none();
                return Ok(());
            }
        }
        Ok(())
    }

    async fn entry(&self, entry: FileStatus) -> Result<()> {
        if !self.recursive || !entry.is_dir() {
            return self.hand_on(entry).await;
        }
        self.hand_on(entry.clone()).await?;
        match self.directory(entry).await {
            // It went while its parent was being listed.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            listed => listed,
        }
    }

    async fn hand_on(&self, entry: FileStatus) -> Result<()> {
        let sent = self.sender.send(Ok(entry)).await;
        sent.map_err(|_| FsError::new(ErrorKind::Internal, "nobody takes the entries"))
    }
}
