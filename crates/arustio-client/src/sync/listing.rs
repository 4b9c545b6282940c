//! Listing a directory of a store, page by page, into the namespace.
//!
//! A [`DirWalk`] takes one page at a time while the next one is fetched, tells the
//! namespace what differs, and says how far it has come, so that entries can be shown
//! long before the end. Memory: a few pages, whatever the size of the directory.

use std::sync::Arc;

use arustio_types::meta::Consistency;
use arustio_types::meta::merge::{MergeEntry, MergeKind};
use arustio_types::meta::query::MAX_PAGE;
use arustio_types::{ObjectVersion, UfsKey};
use arustio_ufs::{ListOptions, ListPage};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::LookDir;
use super::order::{self, Known, Slice};
use crate::client::Client;
use crate::error::Result;
use crate::fs::SyncSummary;
use crate::resolve::Mounted;

/// Pages fetched ahead.
const AHEAD: usize = 2;
/// Skipped names that one listing looks at again.
const MOST_AGAIN: usize = 16;

/// One listing under way.
#[derive(Debug)]
pub(crate) struct DirWalk<'a> {
    client: &'a Client,
    mounted: Arc<Mounted>,
    look: LookDir,
    prefix: UfsKey,
    began: Instant,
    pages: mpsc::Receiver<arustio_ufs::Result<ListPage>>,
    _fetch: AbortOnDropHandle<()>,
    from: String,
    known: Option<KnownNames>,
    marker: Option<ObjectVersion>,
    skipped: Vec<String>,
    moved_on: bool,
    summary: SyncSummary,
}

/// The namespace's own names of a loaded directory, read along.
#[derive(Debug, Default)]
struct KnownNames {
    names: Known,
    after: Option<String>,
    end: bool,
}

/// A part of a directory that the namespace knows now.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Exclusive end in key order; `None`: the whole directory.
    pub(crate) to: Option<String>,
    /// Directories in it.
    pub(crate) directories: Vec<String>,
    /// It holds at least one name.
    pub(crate) any: bool,
}

/// A listing that came to its end.
#[derive(Debug)]
pub(crate) struct Walked {
    /// What it brought.
    pub(crate) summary: SyncSummary,
    /// Everything was taken.
    pub(crate) complete: bool,
}

impl<'a> DirWalk<'a> {
    pub(crate) async fn begin(client: &'a Client, look: LookDir) -> Result<DirWalk<'a>> {
        let mounted = client.mounted(look.mount).await?;
        let prefix = mounted.directory_key(&look.path)?;
        let began = Instant::now();
        let mut listing = mounted.ufs.list(ListOptions::level(prefix.as_str()));
        let (sender, pages) = mpsc::channel(AHEAD);
        let fetch = tokio::spawn(async move {
            while let Some(page) = listing.next().await {
                if sender.send(page).await.is_err() {
                    return;
                }
            }
        });
        Ok(DirWalk {
            known: look.loaded.then(KnownNames::default),
            client,
            mounted,
            look,
            prefix,
            began,
            pages,
            _fetch: AbortOnDropHandle::new(fetch),
            from: String::new(),
            marker: None,
            skipped: Vec::new(),
            moved_on: false,
            summary: SyncSummary {
                directories: 1,
                ..SyncSummary::default()
            },
        })
    }

    /// Tells the next page; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Stretch>> {
        if self.moved_on {
            return Ok(None);
        }
        let Some(page) = self.pages.recv().await else {
            return Ok(None);
        };
        let failed = |error| {
            self.client
                .ufs_failed(&self.mounted, &self.look.path, error)
        };
        let page = page.map_err(failed)?;
        let slice = order::slice(&self.prefix, std::mem::take(&mut self.from), page)?;
        self.from = slice.range.to.clone().unwrap_or_default();
        self.summary.unusable += slice.unusable;
        if slice.marker.is_some() {
            self.marker = slice.marker.clone();
        }
        let stretch = Stretch {
            to: slice.range.to.clone(),
            directories: directories(&slice.entries),
            any: !slice.entries.is_empty(),
        };
        if self.differs(&slice).await? {
            self.tell(slice).await?;
        }
        Ok(Some(stretch))
    }

    /// After the last page: looks again at what was skipped, and remembers the look.
    pub(crate) async fn finish(mut self) -> Result<Walked> {
        let again: Vec<String> = self.skipped.iter().take(MOST_AGAIN).cloned().collect();
        for name in &again {
            self.client.prove_name(&self.look.path, name).await?;
        }
        self.tell_marker().await?;
        let complete = !self.moved_on && self.skipped.len() <= MOST_AGAIN;
        if complete && self.skipped.is_empty() {
            let looked = &self.client.looked;
            looked.listing(self.look.mount, self.prefix.as_str(), self.began);
        }
        Ok(Walked {
            summary: std::mem::take(&mut self.summary),
            complete,
        })
    }

    async fn differs(&mut self, slice: &Slice) -> Result<bool> {
        let Some(known) = &mut self.known else {
            return Ok(true);
        };
        let to = slice.range.to.as_deref();
        while !known.end && to.is_none_or(|to| known.after.as_deref().is_none_or(|at| at < to)) {
            let page = self
                .client
                .page(
                    &self.look.path,
                    known.after.take(),
                    MAX_PAGE,
                    Consistency::Linearizable,
                )
                .await?;
            known.end = page.next.is_none();
            known.after = page.next;
            known.names.extend(page.entries);
        }
        Ok(known.names.differs(slice))
    }

    async fn tell(&mut self, slice: Slice) -> Result<()> {
        for (range, entries) in order::cut(slice) {
            let report = self.client.merge(&self.look, range, entries).await?;
            self.summary.added += report.added;
            self.summary.changed += report.changed;
            self.summary.removed += report.removed;
            self.skipped.extend(report.skipped);
            self.moved_on |= report.moved_on;
        }
        Ok(())
    }

    /// The marker stands in the listing of the directory itself, the namespace keeps it
    /// with the name in the parent: it has to be known before the directory is removed.
    async fn tell_marker(&mut self) -> Result<()> {
        let (Some(marker), Some(status)) = (self.marker.take(), &self.look.status) else {
            return Ok(());
        };
        let (Some(name), Some(parent)) = (status.path.name(), status.path.parent()) else {
            return Ok(());
        };
        let entry = MergeEntry {
            name: name.to_owned(),
            kind: MergeKind::Directory {
                marker: Some(marker),
            },
        };
        if status.mount_point || order::agrees(status, &entry) {
            return Ok(());
        }
        let parent = LookDir {
            // The marker was seen under the position of this listing.
            seen: self.look.seen,
            ..self.client.look_dir(&parent).await?
        };
        let range = order::only(&order::child_key(&entry));
        self.client.merge(&parent, range, vec![entry]).await?;
        Ok(())
    }
}

fn directories(entries: &[MergeEntry]) -> Vec<String> {
    let is_directory = |entry: &&MergeEntry| matches!(entry.kind, MergeKind::Directory { .. });
    let names = entries.iter().filter(is_directory);
    names.map(|entry| entry.name.clone()).collect()
}
