//! Bringing what an under file system says into the namespace (L1 to L4).
//!
//! A look begins with a position of the log, asks the store, and merges what it said
//! under that position; the namespace skips what changed later. Nothing is locked while
//! the store is asked. Of the same name or directory one client looks at a time, by a
//! ticket of the metadata service; losing a ticket costs time, nothing else.
//!
//! [`ticket`] is the turn, [`probe`] looks at one name, [`listing`] at a directory, [`tree`] at
//! everything below, [`many`] at a directory instead of name after name; [`order`] holds the
//! arithmetic of keys and names, [`memory`] what was looked at lately; [`report`] names keys
//! that cannot be paths (U3).

pub(crate) mod listing;
mod many;
pub(crate) mod memory;
pub(crate) mod order;
pub(crate) mod probe;
pub(crate) mod report;
mod ticket;
pub(crate) mod tree;

use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::command::Proof;
use arustio_types::meta::merge::{KeyRange, Merge, MergeEntry, MergeReport};
use arustio_types::meta::query::{Absent, MAX_LISTED, Page};
use arustio_types::meta::setting::SyncInterval;
use arustio_types::meta::status::Persistence;
use arustio_types::meta::sync::{SyncRequest, SyncTarget, SyncTurn};
use arustio_types::meta::{Answer, Command, Consistency, FileStatus, Outcome, Query};
use arustio_types::{FsPath, InodeId, LogIndex, MountId};
use tokio::time::Instant;

use crate::client::{Client, unexpected};
use crate::error::{FsError, Result};
use crate::metadata::session;
use crate::metadata::{ArrivedPage, PageAnswer};
use crate::resolve::Mounted;
use probe::Found;
pub(crate) use ticket::Ticket;

/// How long to wait for somebody else's look before looking as well.
const LONGEST_TURN: Duration = Duration::from_secs(30);
/// Any age will do.
const ANY_AGE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A directory that is about to be looked at.
#[derive(Debug, Clone)]
pub(crate) struct LookDir {
    pub(crate) path: FsPath,
    pub(crate) inode: InodeId,
    pub(crate) mount: MountId,
    /// Every name is known: only what differs has to be told.
    pub(crate) loaded: bool,
    /// Read before the store was asked.
    pub(crate) seen: LogIndex,
    /// The directory's own entry, to compare its marker.
    pub(crate) status: Option<FileStatus>,
}

/// The turn to look.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Somebody looked recently enough.
    Fresh,
    /// Ours; the ticket is given back with [`Ticket::give_back`].
    Ours(Ticket),
}

/// What came of making sure that a name is known well enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It was: what the namespace said holds.
    Nothing,
    /// The namespace was told something: ask it again.
    Something,
    /// Somebody else looked, maybe after the namespace was asked: ask it once more.
    ByOthers,
}

impl From<bool> for Learned {
    /// Whether the namespace was told something.
    fn from(told: bool) -> Self {
        match told {
            true => Self::Something,
            false => Self::Nothing,
        }
    }
}

impl Client {
    /// Makes sure that a name that exists is known well enough (R3).
    pub(crate) async fn refresh(&self, status: &FileStatus, force: bool) -> Result<Learned> {
        let (Some(mount), Some(name), Some(parent)) =
            (status.mount, status.path.name(), status.path.parent())
        else {
            return Ok(Learned::Nothing);
        };
        if status.mount_point || status.persistence != Persistence::Persisted {
            return Ok(Learned::Nothing);
        }
        if !force && status.freshness.is_some_and(|known| known.holds()) {
            return Ok(Learned::Nothing);
        }
        let mounted = self.mounted(mount).await?;
        let key = if status.is_dir() {
            mounted.directory_key(&status.path)?
        } else {
            mounted.file_key(&status.path)?
        };
        // On its way to its key: what is owed decides, not a look.
        if status
            .source
            .as_ref()
            .is_some_and(|source| source.key != key)
        {
            return Ok(Learned::Nothing);
        }
        let max_age = if force {
            Duration::ZERO
        } else {
            match self.may_be_old(status).await? {
                Some(age) => age,
                None => return Ok(Learned::Nothing),
            }
        };
        if self.looked.within(mount, key.as_str(), max_age) {
            return Ok(Learned::Nothing);
        }
        let Some(dir) = self.holder(status, &parent).await? else {
            return Ok(Learned::Something);
        };
        self.look_in(&mounted, (&parent, dir), name, Some(status), max_age)
            .await
    }

    /// The directory that holds a name, at `parent`; `None` when it is there no more.
    async fn holder(&self, status: &FileStatus, parent: &FsPath) -> Result<Option<InodeId>> {
        if let Some(dir) = status.freshness.and_then(|known| known.dir) {
            return Ok(Some(dir));
        }
        Ok(match self.ask_stat(parent).await? {
            Answer::Status(dir) => Some(dir.inode),
            _ => None,
        })
    }

    /// Looks for the first missing component of a path: something was learned when it is
    /// there now.
    pub(crate) async fn discover(&self, absent: &Absent, force: bool) -> Result<Learned> {
        let Some(mount) = absent.mount else {
            return Ok(Learned::Nothing);
        };
        let path = absent.dir.join(&absent.name)?;
        let max_age = if force {
            Duration::ZERO
        } else {
            self.max_age(&path).await?.unwrap_or(ANY_AGE)
        };
        let mounted = self.mounted(mount).await?;
        let key = mounted.file_key(&path)?;
        if self.looked.within(mount, key.as_str(), max_age) {
            return Ok(Learned::Nothing);
        }
        let dir = (&absent.dir, absent.dir_inode);
        self.look_in(&mounted, dir, &absent.name, None, max_age)
            .await
    }

    /// Looks at a name of a directory, or at all of them where that pays; unless somebody
    /// else has within `max_age`.
    async fn look_in(
        &self,
        mounted: &Mounted,
        (dir, inode): (&FsPath, InodeId),
        name: &str,
        known: Option<&FileStatus>,
        max_age: Duration,
    ) -> Result<Learned> {
        if let Some(learned) = self.look_at_all(mounted, dir, inode, max_age).await? {
            return Ok(learned);
        }
        let target = SyncTarget {
            dir: inode,
            name: Some(name.to_owned()),
        };
        let Turn::Ours(ticket) = self.turn(target, max_age).await? else {
            return Ok(Learned::ByOthers);
        };
        let look = LookDir {
            path: dir.clone(),
            inode,
            mount: mounted.id(),
            loaded: false,
            seen: ticket.seen,
            status: None,
        };
        let told = self.look_at(mounted, &look, name, known, ticket);
        told.await.map(Learned::from)
    }

    /// Makes a name what the namespace will say after this, and proves it where that is
    /// nothing (L3). What was found needs no proof: the namespace has it now. Of a directory
    /// that was found it would say that nothing lies in it.
    pub(crate) async fn prove_name(&self, dir: &FsPath, name: &str) -> Result<Option<Proof>> {
        let path = dir.join(name)?;
        let (look, known) = match self.ask_stat(&path).await? {
            Answer::Absent(absent) if absent.dir == *dir && absent.name == name => {
                let mount = absent.mount.ok_or_else(|| outside(&path))?;
                let look = LookDir {
                    path: absent.dir,
                    inode: absent.dir_inode,
                    mount,
                    loaded: false,
                    seen: absent.position,
                    status: None,
                };
                (look, None)
            }
            Answer::Status(status) => (self.look_dir(dir).await?, Some(status)),
            _ => (self.look_dir(dir).await?, None),
        };
        let began = Instant::now();
        let mounted = self.mounted(look.mount).await?;
        let found = self.probe(&mounted, &path).await?;
        let mut complete = true;
        for (range, entries) in probe::tell(name, known.as_ref(), &found) {
            let report = self.merge(&look, range, entries).await?;
            complete &= report.skipped.is_empty() && !report.moved_on;
        }
        if complete {
            let key = mounted.file_key(&path)?;
            self.looked.name(look.mount, key.as_str(), began);
        }
        Ok((found == Found::Nothing).then_some(Proof {
            path,
            seen: look.seen,
        }))
    }

    /// Status and position of a directory in one question.
    pub(crate) async fn look_dir(&self, dir: &FsPath) -> Result<LookDir> {
        let page = self.page(dir, None, 1, Consistency::Linearizable).await?;
        let mount = page.dir.mount.ok_or_else(|| outside(dir))?;
        Ok(LookDir {
            path: dir.clone(),
            inode: page.dir.inode,
            mount,
            loaded: page.dir.loaded,
            seen: page.position,
            status: Some(page.dir),
        })
    }

    /// One page of a directory of the namespace.
    pub(crate) async fn page(
        &self,
        dir: &FsPath,
        after: Option<String>,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page> {
        let query = Query::List {
            path: dir.clone(),
            after,
            limit,
        };
        match self.ask(query, consistency).await? {
            Answer::Page(page) => Ok(page),
            other => Err(no_page(dir, other)),
        }
    }

    /// A page behind a name as it came: its entries are still to be read.
    pub(crate) async fn arrived_page(
        &self,
        dir: &FsPath,
        after: Option<String>,
        consistency: Consistency,
    ) -> Result<ArrivedPage> {
        let query = Query::List {
            path: dir.clone(),
            after,
            limit: MAX_LISTED,
        };
        match self.metadata.query_page(query, consistency).await? {
            PageAnswer::Page(page) => Ok(page),
            PageAnswer::Other(other) => Err(no_page(dir, *other)),
        }
    }

    /// Proposes what a store said of a range.
    pub(crate) async fn merge(
        &self,
        look: &LookDir,
        range: KeyRange,
        entries: Vec<MergeEntry>,
    ) -> Result<MergeReport> {
        let merge = Merge {
            dir: look.path.clone(),
            dir_inode: look.inode,
            mount: look.mount,
            seen: look.seen,
            range,
            entries,
        };
        match self.sessions.propose(Command::Merge(merge)).await?.0 {
            Outcome::Merged(report) => Ok(report),
            Outcome::Refused(refusal) => Err(FsError::refused(refusal)),
            other => Err(session::unexpected("merging a listing", &other)),
        }
    }

    /// Waits for the turn to look at something of which knowledge of `max_age` will do.
    pub(crate) async fn turn(&self, target: SyncTarget, max_age: Duration) -> Result<Turn> {
        let began = Instant::now();
        loop {
            let request = SyncRequest {
                target: target.clone(),
                max_age: (max_age < ANY_AGE).then_some(max_age),
            };
            let asked = Instant::now();
            match self.metadata.begin_sync(request).await? {
                SyncTurn::Fresh { .. } => return Ok(Turn::Fresh),
                SyncTurn::Yours { ticket, seen } => {
                    let held = ticket::Held {
                        metadata: Arc::clone(&self.metadata),
                        tasks: self.tasks.clone(),
                        target,
                        number: ticket,
                    };
                    return Ok(Turn::Ours(Ticket {
                        seen,
                        began: asked,
                        held: Some(held),
                    }));
                }
                SyncTurn::Busy { .. } if began.elapsed() > LONGEST_TURN => {
                    return self.without_turn().await;
                }
                SyncTurn::Busy { retry_in } => {
                    let wait = retry_in.clamp(Duration::from_millis(5), Duration::from_secs(1));
                    tokio::time::sleep(self.entropy.jitter(wait)).await;
                }
            }
        }
    }

    /// How old knowledge of a path may be; `None`: any age will do.
    pub(crate) async fn max_age(&self, path: &FsPath) -> Result<Option<Duration>> {
        let interval = match self.looked.interval(path) {
            Some(interval) => interval,
            None => {
                let conf = self.path_conf(path).await?;
                let interval = conf.effective.effective_sync_interval();
                self.looked.learn(path, interval);
                interval
            }
        };
        Ok(age_of(interval))
    }

    /// The same of a name of which the namespace has told.
    async fn may_be_old(&self, status: &FileStatus) -> Result<Option<Duration>> {
        match status.freshness {
            Some(known) => Ok(age_of(known.interval)),
            None => self.max_age(&status.path).await,
        }
    }

    async fn look_at(
        &self,
        mounted: &Mounted,
        look: &LookDir,
        name: &str,
        known: Option<&FileStatus>,
        ticket: Ticket,
    ) -> Result<bool> {
        let told = self
            .look_and_tell(mounted, look, name, known, ticket.began)
            .await;
        ticket.give_back(matches!(told, Ok((_, true)))).await;
        told.map(|(told, _)| told)
    }

    /// Whether anything was told, and whether everything of it was taken.
    async fn look_and_tell(
        &self,
        mounted: &Mounted,
        look: &LookDir,
        name: &str,
        known: Option<&FileStatus>,
        began: Instant,
    ) -> Result<(bool, bool)> {
        let path = look.path.join(name)?;
        let found = self.probe(mounted, &path).await?;
        let merges = probe::tell(name, known, &found);
        let told = !merges.is_empty();
        let mut taken = true;
        for (range, entries) in merges {
            let report = self.merge(look, range, entries).await?;
            taken &= report.skipped.is_empty() && !report.moved_on;
        }
        if taken {
            let key = match known {
                Some(status) if status.is_dir() => mounted.directory_key(&path)?,
                _ => mounted.file_key(&path)?,
            };
            self.looked.name(look.mount, key.as_str(), began);
        }
        Ok((told, taken))
    }

    async fn without_turn(&self) -> Result<Turn> {
        let began = Instant::now();
        let answer = self.ask(Query::Identity, Consistency::Linearizable).await?;
        let Answer::Identity { applied, .. } = answer else {
            return Err(unexpected("asking for the position", &answer));
        };
        Ok(Turn::Ours(Ticket {
            seen: applied,
            began,
            held: None,
        }))
    }
}

/// What was said instead of a page.
/// How old knowledge may be; `None`: any age will do.
fn age_of(interval: SyncInterval) -> Option<Duration> {
    match interval {
        SyncInterval::Every(age) => Some(age),
        SyncInterval::Never => None,
    }
}

fn no_page(dir: &FsPath, answer: Answer) -> FsError {
    match answer {
        Answer::Refused(refusal) => FsError::refused(refusal),
        Answer::Absent(_) => crate::names::not_found(dir),
        other => unexpected("listing a directory", &other),
    }
}

/// The namespace asked for a proof where no store is.
fn outside(path: &FsPath) -> FsError {
    FsError::on(
        arustio_types::ErrorKind::Conflict,
        path,
        "the mount was removed meanwhile; repeat the command",
    )
}
