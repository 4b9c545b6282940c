//! Listing that streams: the first entries come while the store is still being asked.
//!
//! A directory that has to be looked at is walked page by page; after each page the
//! names that are settled by it are read from the namespace and handed on, in name
//! order. One task does it all, at the pace of whoever takes the entries; dropping the
//! stream ends it. Memory is a few pages for each directory on the way down.
//!
//! The task hands on what it has in parts, not entry by entry, and asks for the next page
//! before it reads the one that came: the service makes it while this one is read and
//! taken. A whole page stays packed until then: its entries become statuses one by one,
//! where they are used.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arustio_types::meta::FileStatus;
use arustio_types::meta::entries::{Entries, Statuses};
use arustio_types::meta::query::MAX_LISTED;
use arustio_types::meta::sync::SyncTarget;
use arustio_types::{ErrorKind, FsPath};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::Knowledge;
use crate::client::Client;
use crate::error::{FsError, Result};
use crate::fs::ListOptions;
use crate::metadata::ArrivedPage;
use crate::sync::listing::DirWalk;
use crate::sync::order::settled_below;
use crate::sync::{LookDir, Ticket, Turn};

/// Parts between the task that lists and whoever takes them: one is enough to ask for the
/// next page while the one before is being taken.
const AHEAD: usize = 1;
/// Entries of a part that is no whole page.
const FEW: usize = 256;

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
        Listed {
            part: Part::Few(Vec::new().into_iter()),
            receiver,
            _task: AbortOnDropHandle::new(task),
        }
        .boxed()
    }
}

/// Some entries, in order.
#[derive(Debug)]
enum Part {
    /// A page, or its beginning.
    Page(Statuses),
    /// Up to [`FEW`].
    Few(std::vec::IntoIter<FileStatus>),
}

impl Part {
    fn next(&mut self) -> Option<FileStatus> {
        match self {
            Self::Page(statuses) => statuses.next(),
            Self::Few(statuses) => statuses.next(),
        }
    }
}

/// What the task hands on, entry by entry.
struct Listed {
    part: Part,
    receiver: mpsc::Receiver<Result<Part>>,
    _task: AbortOnDropHandle<()>,
}

impl Stream for Listed {
    type Item = Result<FileStatus>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.part.next() {
                return Poll::Ready(Some(Ok(entry)));
            }
            match ready!(self.receiver.poll_recv(context)) {
                Some(Ok(part)) => self.part = part,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

struct Lister<'a> {
    client: &'a Arc<Client>,
    sender: mpsc::Sender<Result<Part>>,
    recursive: bool,
    knowledge: Knowledge,
}

impl Lister<'_> {
    async fn run(&self, path: &FsPath) -> Result<()> {
        let status = self.client.stat(path, self.knowledge).await?;
        if status.is_dir() {
            self.directory(status).await
        } else {
            self.hand_on_few(vec![status]).await
        }
    }

    fn directory(&self, dir: FileStatus) -> BoxFuture<'_, Result<()>> {
        async move {
            match self.turn(&dir).await? {
                Some((look, ticket)) => self.looking(look, ticket).await,
                None => self.show_rest(&dir.path, None).await,
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
        // The last name that was handed on.
        let mut shown = None;
        while let Some(stretch) = walk.next().await? {
            if let Some(to) = &stretch.to {
                self.show_below(&path, &mut shown, settled_below(to))
                    .await?;
            }
        }
        let walked = walk.finish().await?;
        self.show_rest(&path, shown).await?;
        Ok(walked.complete)
    }

    /// Hands on what the namespace has behind what was handed on.
    async fn show_rest(&self, dir: &FsPath, after: Option<String>) -> Result<()> {
        let mut coming = Some(self.ask(dir, after));
        while let Some(page) = coming.take() {
            let page = page.await.map_err(|error| ended(&error))??;
            let next = page.next.clone();
            coming = next.map(|after| self.ask(dir, Some(after)));
            self.entries(page.entries()?).await?;
        }
        Ok(())
    }

    /// Asks for a page beside this task.
    fn ask(&self, dir: &FsPath, after: Option<String>) -> AbortOnDropHandle<Result<ArrivedPage>> {
        let (client, dir) = (Arc::clone(self.client), dir.clone());
        let consistency = self.knowledge.consistency();
        AbortOnDropHandle::new(tokio::spawn(async move {
            client.arrived_page(&dir, after, consistency).await
        }))
    }

    /// Hands on what the namespace has up to an exclusive name. Later pages of the store may
    /// still add names behind it.
    async fn show_below(
        &self,
        dir: &FsPath,
        shown: &mut Option<String>,
        below: &str,
    ) -> Result<()> {
        while shown.as_deref().is_none_or(|after| after < below) {
            let consistency = self.knowledge.consistency();
            let page = self
                .client
                .page(dir, shown.clone(), MAX_LISTED, consistency);
            let mut page = page.await?;
            let settled = page.entries.iter().take_while(|e| e.name < below).count();
            let last = settled < page.entries.len() || page.next.is_none();
            page.entries.truncate(settled);
            if let Some(entry) = page.entries.iter().next_back() {
                *shown = Some(entry.name.to_owned());
            }
            self.entries(page.entries).await?;
            if last {
                break;
            }
        }
        Ok(())
    }

    async fn entries(&self, entries: Entries) -> Result<()> {
        if !self.recursive || !entries.has_directories() {
            return self.hand_on(Part::Page(entries.into_iter())).await;
        }
        let mut few = Vec::new();
        for entry in entries {
            let dir = entry.is_dir().then(|| entry.clone());
            few.push(entry);
            if dir.is_some() || few.len() == FEW {
                self.hand_on_few(std::mem::take(&mut few)).await?;
            }
            if let Some(dir) = dir {
                self.below(dir).await?;
            }
        }
        self.hand_on_few(few).await
    }

    async fn below(&self, dir: FileStatus) -> Result<()> {
        match self.directory(dir).await {
            // It went while its parent was being listed.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            listed => listed,
        }
    }

    async fn hand_on_few(&self, few: Vec<FileStatus>) -> Result<()> {
        self.hand_on(Part::Few(few.into_iter())).await
    }

    async fn hand_on(&self, part: Part) -> Result<()> {
        let sent = self.sender.send(Ok(part)).await;
        sent.map_err(|_| FsError::new(ErrorKind::Internal, "nobody takes the entries"))
    }
}

/// The task that asked for a page ended without an answer.
fn ended(error: &JoinError) -> FsError {
    FsError::new(
        ErrorKind::Internal,
        format!("asking for a page ended: {error}"),
    )
}
