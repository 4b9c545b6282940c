//! Carrying out effects (P1 to P5, U4, U7).
//!
//! Order of a rename: look at the destination, copy, verify, record the copy as the
//! source (the effect is then only a removal), remove. A look decides, never a reply: a
//! request that got no answer is waited out before anything is recorded that it could
//! contradict. Only recorded (key, version) pairs are touched.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_types::meta::command::Owed;
use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::meta::query::DetachedFile;
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query};
use arustio_types::{
    Classify, ErrorKind, FsPath, InodeId, ObjectVersion, RetryAdvice, SessionId, UfsKey, WriteId,
};
use arustio_ufs::{
    CopyOptions, DeleteOptions, DeleteRequest, DeleteResult, Guard, ObjectEntry, Payload,
    RenameOptions, UfsError, WriteMode, WriteOptions, Written,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use super::{LARGE_REQUEST, SMALL_REQUEST, Sent};
use crate::client::{Client, unexpected};
use crate::error::{FsError, Result};
use crate::metadata::session;
use crate::resolve::Mounted;

/// Effects of one command that are carried out at the same time.
const AT_ONCE: usize = 8;
/// Objects of a detached tree that are removed between two records of it.
const TREE_PAGE: usize = 500;
/// Rounds of looking and copying before an effect is left to the next executor.
const MOST_ROUNDS: usize = 8;

/// Somebody else carries the effect out now, or it has ended.
#[derive(Debug)]
struct Superseded;

/// How a step ends: with a value, taken over, or failed.
type Step<T> = Result<Result<T, Superseded>>;

macro_rules! go_on {
    ($step:expr) => {
        match $step {
            Ok(value) => value,
            Err(Superseded) => return Ok(Err(Superseded)),
        }
    };
}

impl Client {
    /// Carries out effects that `session` holds, in order. All are tried; the first
    /// failure is returned.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        effects: Vec<Effect>,
        session: SessionId,
    ) -> Result<()> {
        let mut first = Ok(());
        let mut work = futures::stream::iter(effects)
            .map(|effect| self.settle_one(effect, session))
            .buffer_unordered(AT_ONCE);
        while let Some(settled) = work.next().await {
            if first.is_ok() {
                first = settled;
            }
        }
        first
    }

    /// Carries out one effect. Success also when somebody else took it over. Goes on when
    /// the future is dropped: a request that is on its way is better seen through.
    async fn settle_one(self: &Arc<Self>, effect: Effect, session: SessionId) -> Result<()> {
        self.settle_from(Past::None, effect, session).await
    }

    /// The same of an effect that was taken over: somebody else may have begun it.
    pub(crate) async fn settle_claimed(
        self: &Arc<Self>,
        effect: Effect,
        session: SessionId,
    ) -> Result<()> {
        self.settle_from(Past::Unknown, effect, session).await
    }

    async fn settle_from(
        self: &Arc<Self>,
        past: Past,
        effect: Effect,
        session: SessionId,
    ) -> Result<()> {
        let Some(running) = self.running.begin(Owed::Effect(effect.id)) else {
            return Ok(());
        };
        let client = Arc::clone(self);
        self.see_through(async move {
            let _running = running;
            let mounted = client.mounted(effect.mount).await?;
            let settler = Settler {
                client: &client,
                session,
                mounted,
            };
            settler.run(effect, past).await
        })
        .await
    }
}

/// What was done of an effect before it came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    None,
    /// Another executor may have died in the middle of anything.
    Unknown,
}

struct Settler<'a> {
    client: &'a Arc<Client>,
    session: SessionId,
    mounted: Arc<Mounted>,
}

/// What is to be removed of a tree, until something was refused.
fn removals(
    files: Vec<DetachedFile>,
    refused: Arc<AtomicBool>,
) -> BoxStream<'static, DeleteRequest> {
    let sources = files.into_iter().filter_map(|file| file.source);
    let requests = sources.map(|source| DeleteRequest {
        key: source.key,
        required: Some(source.version),
    });
    let goes_on = move |_: &DeleteRequest| !refused.load(Ordering::Relaxed);
    futures::stream::iter(requests.take_while(goes_on)).boxed()
}

/// Files, then directories from the deepest on: where directories are real, one with content
/// stays. What is returned together is removed together.
fn deepest_first(files: Vec<DetachedFile>) -> Vec<Vec<DetachedFile>> {
    let mut groups: BTreeMap<Reverse<usize>, Vec<DetachedFile>> = BTreeMap::new();
    for file in files {
        let Some(source) = &file.source else {
            continue;
        };
        let key = source.key.as_str();
        let depth = match key.ends_with('/') {
            true => key.matches('/').count(),
            false => usize::MAX,
        };
        groups.entry(Reverse(depth)).or_default().push(file);
    }
    groups.into_values().collect()
}

/// The directories at and below `prefix` that these objects lay in, the deepest first.
fn folders_of(files: &[DetachedFile], prefix: &UfsKey) -> Vec<UfsKey> {
    let mut folders = BTreeSet::new();
    for source in files.iter().filter_map(|file| file.source.as_ref()) {
        let mut rest = source.key.as_str();
        while let Some(slash) = rest.trim_end_matches('/').rfind('/') {
            rest = &rest[..=slash];
            if !rest.starts_with(prefix.as_str()) || !folders.insert(rest) {
                break;
            }
        }
    }
    // A directory sorts before what is in it.
    folders.into_iter().rev().map(UfsKey::new).collect()
}

/// The parts of a rename that every step needs.
struct Move<'a> {
    effect: &'a Effect,
    from: &'a UfsKey,
    version: &'a ObjectVersion,
    to: &'a UfsKey,
    expected: Option<&'a ObjectVersion>,
    write_id: WriteId,
    old_path: &'a FsPath,
    new_path: &'a FsPath,
}

/// What stands at the destination of a rename.
enum Destination {
    Ours(ObjectVersion),
    AsExpected,
    Foreign,
}

impl Settler<'_> {
    async fn run(&self, effect: Effect, past: Past) -> Result<()> {
        let done = match &effect.kind {
            EffectKind::Delete { key, version } => self.delete(&effect, key, version).await,
            EffectKind::DeleteTree { prefix, root } => {
                self.delete_tree(&effect, prefix, *root).await
            }
            EffectKind::PutMarker { key, write_id, .. } => {
                self.put_marker(&effect, key, *write_id).await
            }
            EffectKind::RenameTree(_) => self.rename_tree(&effect).await,
            EffectKind::Rename {
                from,
                version,
                to,
                expected,
                write_id,
                old_path,
                new_path,
                ..
            } => {
                let step = Move {
                    effect: &effect,
                    from,
                    version,
                    to,
                    expected: expected.as_ref(),
                    write_id: *write_id,
                    old_path,
                    new_path,
                };
                self.rename(&step, past).await
            }
        };
        match done {
            Ok(Ok(()) | Err(Superseded)) => Ok(()),
            Err(error) => {
                self.report(&effect, &error).await;
                Err(error)
            }
        }
    }

    // ---- removing ----

    async fn delete(&self, effect: &Effect, key: &UfsKey, version: &ObjectVersion) -> Step<()> {
        go_on!(self.remove(effect, key, version).await?);
        self.finish(effect, None).await
    }

    /// Removes one version of one object; another version is left alone.
    async fn remove(&self, effect: &Effect, key: &UfsKey, version: &ObjectVersion) -> Step<()> {
        for _ in 0..MOST_ROUNDS {
            let deadline = self
                .client
                .sessions
                .deadline(self.session, SMALL_REQUEST)
                .await?;
            let sent = Sent::now(deadline);
            let options = DeleteOptions::new(Some(version.clone()), deadline);
            let (open, done) = match self.mounted.ufs.delete(key, options).await {
                Ok(deleted) => (deleted.unanswered, true),
                Err(error) if error.kind() == ErrorKind::Conflict => (error.unanswered(), true),
                Err(error) if error.unanswered() => (true, false),
                Err(error) => return Err(self.failed(key, error)),
            };
            if open {
                self.wait_out(effect, sent, key).await?;
            }
            if done {
                return Ok(Ok(()));
            }
        }
        Err(self.gave_up(key, "the store did not answer"))
    }

    async fn delete_tree(&self, effect: &Effect, prefix: &UfsKey, root: InodeId) -> Step<()> {
        loop {
            // What is finished is freed, so the next page is always the first.
            let files = self.detached(root).await?;
            // The directory itself comes last, and ends with the effect.
            let last_page = files.iter().any(|file| file.inode == root);
            let mut inodes: Vec<_> = files.iter().map(|file| file.inode).collect();
            inodes.retain(|inode| *inode != root);
            let folders = folders_of(&files, prefix);
            for some in deepest_first(files) {
                go_on!(self.remove_all(effect, some).await?);
            }
            self.remove_empty(folders).await?;
            if !inodes.is_empty() {
                let free = Command::FreeDetached {
                    effect: effect.id,
                    inodes,
                };
                go_on!(self.record(free).await?);
            }
            if last_page {
                return self.finish(effect, None).await;
            }
        }
    }

    /// Directories that a store has made on the way to objects: they are no markers and have no
    /// record, but would be found by the next sync. One with content stays, whoever put it there;
    /// nothing is made below the prefix until the effect has ended.
    async fn remove_empty(&self, folders: Vec<UfsKey>) -> Result<()> {
        if self.mounted.ufs.describe().scheme != "file" {
            return Ok(());
        }
        for key in folders {
            let deadline = self.client.sessions.deadline(self.session, SMALL_REQUEST);
            let options = DeleteOptions::new(None, deadline.await?);
            let removed = self.mounted.ufs.delete(&key, options).await;
            removed.map_err(|error| self.failed(&key, error))?;
        }
        Ok(())
    }

    async fn detached(&self, root: InodeId) -> Result<Vec<DetachedFile>> {
        let query = Query::Detached {
            root,
            after: None,
            limit: TREE_PAGE,
        };
        match self.client.ask(query, Consistency::Linearizable).await? {
            Answer::Detached { files, .. } => Ok(files),
            other => Err(unexpected("reading a removed tree", &other)),
        }
    }

    /// Removes many. A refusal ends it, but only after every request that was sent has
    /// been answered or waited out: one that travels on could meet a newer object (P5).
    async fn remove_all(&self, effect: &Effect, files: Vec<DetachedFile>) -> Step<()> {
        let deadline = self
            .client
            .sessions
            .deadline(self.session, SMALL_REQUEST)
            .await?;
        let refused = Arc::new(AtomicBool::new(false));
        let requests = removals(files, Arc::clone(&refused));
        let mut last = Sent::now(deadline);
        let mut results = self.mounted.ufs.delete_many(requests, deadline);
        let mut open = None;
        let mut again = Vec::new();
        let mut first = Ok(());
        while let Some(DeleteResult { request, result }) = results.next().await {
            // Each request has the deadline for itself, from when it was sent.
            last.at = Instant::now();
            let (unanswered, error) = match result {
                Ok(deleted) => (deleted.unanswered, None),
                Err(error) if error.kind() == ErrorKind::Conflict => (error.unanswered(), None),
                Err(error) => (error.unanswered(), Some(error)),
            };
            if unanswered {
                open = Some(request.key.clone());
            }
            match error {
                None => {}
                Some(_) if unanswered => again.push(request),
                Some(error) => {
                    refused.store(true, Ordering::Relaxed);
                    first = first.and(Err(self.failed(&request.key, error)));
                }
            }
        }
        if let Some(key) = open {
            self.wait_out(effect, last, &key).await?;
        }
        first?;
        for DeleteRequest { key, required } in again {
            if let Some(version) = required {
                go_on!(self.remove(effect, &key, &version).await?);
            }
        }
        Ok(Ok(()))
    }

    // ---- markers ----

    async fn put_marker(&self, effect: &Effect, key: &UfsKey, write_id: WriteId) -> Step<()> {
        for _ in 0..MOST_ROUNDS {
            let deadline = self
                .client
                .sessions
                .deadline(self.session, SMALL_REQUEST)
                .await?;
            let sent = Sent::now(deadline);
            let options = WriteOptions::new(WriteMode::CreateOnly, write_id, deadline);
            let written = self
                .mounted
                .ufs
                .write(key, Payload::default(), options)
                .await;
            match written {
                Ok(Written {
                    version,
                    unanswered: false,
                }) => return self.finish(effect, Some(version)).await,
                Ok(_) => self.wait_out(effect, sent, key).await?,
                Err(error) if error.unanswered() => self.wait_out(effect, sent, key).await?,
                Err(error)
                    if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Conflict) => {}
                Err(error) => return Err(self.failed(key, error)),
            }
            if let Some(found) = self.head(key).await? {
                // A marker is a marker, whoever wrote it; bytes under it are not one.
                let marker = (found.size == 0).then_some(found.version);
                return self.finish(effect, marker).await;
            }
        }
        Err(self.gave_up(key, "the store did not answer"))
    }

    // ---- moving ----

    async fn rename(&self, step: &Move<'_>, past: Past) -> Step<()> {
        if past == Past::Unknown {
            self.abort_uploads(step).await?;
        }
        for _ in 0..MOST_ROUNDS {
            match self.destination(step).await? {
                Destination::Ours(version) => return self.copied(step, version).await,
                Destination::Foreign => return self.undo(step).await,
                Destination::AsExpected => {}
            }
            let deadline = self
                .client
                .sessions
                .deadline(self.session, LARGE_REQUEST)
                .await?;
            let sent = Sent::now(deadline);
            let (unanswered, error) = match self.copy(step, deadline).await {
                // Verified by the look of the next round: it must be ours now.
                Ok(written) => (written.unanswered, None),
                Err(error) => (error.unanswered(), Some(error)),
            };
            if unanswered {
                self.wait_out(step.effect, sent, step.to).await?;
                self.abort_uploads(step).await?;
            }
            let Some(error) = error else {
                continue;
            };
            match error.kind() {
                ErrorKind::Stale => return self.source_gone(step).await,
                ErrorKind::AlreadyExists | ErrorKind::Conflict => {}
                _ if unanswered => {}
                _ if error.advice() == RetryAdvice::Later => {
                    return Err(self.failed(step.to, error));
                }
                _ => return self.refused(step, error).await,
            }
        }
        Err(self.gave_up(step.to, "the destination keeps changing"))
    }

    /// Ends copies that are uploads and whose ids nobody knows: their sender died, or the
    /// store's answer was lost.
    async fn abort_uploads(&self, step: &Move<'_>) -> Result<()> {
        let since = self.client.begun(step.effect.recorded_time).await?;
        let (mounted, to) = (&self.mounted, step.to);
        self.client
            .abort_uploads(mounted, to, &[], since, self.session)
            .await
    }

    /// Gives a directory's objects effects of their own, some at a time, and carries those
    /// out. An object that could not be moved stays recorded and keeps none of the others.
    async fn rename_tree(&self, effect: &Effect) -> Step<()> {
        let mut first = Ok(());
        loop {
            let expand = Command::ExpandRename { effect: effect.id };
            let effects = match self.client.when_silent(self.session, expand).await? {
                Outcome::Renamed { effects } => effects,
                Outcome::Superseded => return Ok(Err(Superseded)),
                Outcome::Refused(refusal) => return Err(FsError::refused(refusal)),
                other => return Err(session::unexpected("moving a directory", &other)),
            };
            let goes_on = effects.iter().any(|one| one.id == effect.id);
            let own = effects.into_iter().filter(|one| one.id != effect.id);
            let settled = self.settle_all(own.collect()).await;
            if first.is_ok() {
                first = settled;
            }
            if !goes_on {
                return first.map(Ok);
            }
        }
    }

    /// Effects of effects: the one place where this goes round.
    fn settle_all(&self, effects: Vec<Effect>) -> BoxFuture<'_, Result<()>> {
        self.client.settle(effects, self.session).boxed()
    }

    async fn copy(
        &self,
        step: &Move<'_>,
        deadline: std::time::Duration,
    ) -> Result<Written, UfsError> {
        let mode = match step.expected {
            Some(version) => WriteMode::ReplaceIf(version.clone()),
            None => WriteMode::CreateOnly,
        };
        let ufs = &self.mounted.ufs;
        if ufs.capabilities().atomic_rename {
            let options = RenameOptions {
                source_version: step.version.clone(),
                mode,
                write_id: step.write_id,
                deadline,
            };
            return ufs.rename(step.from, step.to, options).await;
        }
        let options = CopyOptions {
            source_version: step.version.clone(),
            mode,
            write_id: step.write_id,
            deadline,
            guard: Guard::Careful,
        };
        ufs.copy(step.from, step.to, options).await
    }

    async fn destination(&self, step: &Move<'_>) -> Result<Destination> {
        let found = self.head(step.to).await?;
        Ok(match found {
            Some(found) if found.write_id == Some(step.write_id) => {
                Destination::Ours(found.version)
            }
            Some(found) if step.expected == Some(&found.version) => Destination::AsExpected,
            None if step.expected.is_none() => Destination::AsExpected,
            Some(_) | None => Destination::Foreign,
        })
    }

    async fn copied(&self, step: &Move<'_>, version: ObjectVersion) -> Step<()> {
        let settled = Command::CopySettled {
            effect: step.effect.id,
            version,
        };
        match self.client.when_silent(self.session, settled).await? {
            Outcome::CopySettled(effect) => match &effect.kind {
                EffectKind::Delete { key, version } => self.delete(&effect, key, version).await,
                _ => Err(session::unexpected(
                    "recording a copy",
                    &Outcome::CopySettled(effect.clone()),
                )),
            },
            Outcome::Done | Outcome::Superseded => Ok(Err(Superseded)),
            Outcome::Refused(refusal) => Err(FsError::refused(refusal)),
            other => Err(session::unexpected("recording a copy", &other)),
        }
    }

    async fn source_gone(&self, step: &Move<'_>) -> Step<()> {
        if let Destination::Ours(version) = self.destination(step).await? {
            return self.copied(step, version).await;
        }
        let drop = Command::DropRename {
            effect: step.effect.id,
        };
        go_on!(self.record(drop).await?);
        Err(FsError::on(
            ErrorKind::Conflict,
            step.new_path,
            format!(
                "the object of {} was replaced or deleted in the under file system before it \
                 could be moved; the name is gone",
                step.old_path
            ),
        ))
    }

    async fn undo(&self, step: &Move<'_>) -> Step<()> {
        go_on!(self.undone(step).await?);
        Err(FsError::on(
            ErrorKind::Conflict,
            step.new_path,
            format!(
                "somebody put another object there; {} has its name again",
                step.old_path
            ),
        ))
    }

    /// The store will never do this: the old name returns.
    async fn refused(&self, step: &Move<'_>, error: UfsError) -> Step<()> {
        if let Destination::Ours(version) = self.destination(step).await? {
            return self.copied(step, version).await;
        }
        let failed = self.failed(step.to, error);
        go_on!(self.undone(step).await?);
        Err(failed)
    }

    async fn undone(&self, step: &Move<'_>) -> Step<()> {
        let undo = Command::UndoRename {
            effect: step.effect.id,
        };
        self.record(undo).await
    }

    // ---- common ----

    async fn finish(&self, effect: &Effect, marker: Option<ObjectVersion>) -> Step<()> {
        let finish = Command::FinishEffect {
            effect: effect.id,
            marker,
        };
        self.record(finish).await
    }

    async fn record(&self, command: Command) -> Step<()> {
        match self.client.when_silent(self.session, command).await? {
            Outcome::Superseded => Ok(Err(Superseded)),
            Outcome::Refused(refusal) => Err(FsError::refused(refusal)),
            _ => Ok(Ok(())),
        }
    }

    async fn wait_out(&self, effect: &Effect, sent: Sent, key: &UfsKey) -> Result<()> {
        let owed = Owed::Effect(effect.id);
        let what = self.mounted.ufs.describe().place(key).to_string();
        self.client.wait_out(self.session, owed, sent, &what).await
    }

    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        let found = self.mounted.ufs.head(key).await;
        found.map_err(|error| self.failed(key, error))
    }

    fn failed(&self, _key: &UfsKey, error: UfsError) -> FsError {
        self.client
            .ufs_failed(&self.mounted, &self.mounted.entry.spec.path, error)
    }

    fn gave_up(&self, key: &UfsKey, why: &str) -> FsError {
        FsError::new(
            ErrorKind::Unavailable,
            format!(
                "{}: {why}; it stays recorded and will be tried again (see `arustio fs pending`)",
                self.mounted.ufs.describe().place(key)
            ),
        )
    }

    /// Says in the record why the effect stays; only a courtesy to `fs pending`.
    async fn report(&self, effect: &Effect, error: &FsError) {
        if error.kind() == ErrorKind::Unknown {
            return;
        }
        let failed = Command::EffectFailed {
            effect: effect.id,
            error: error.message().to_owned(),
        };
        if let Err(error) = self.client.sessions.propose_in(self.session, failed).await {
            tracing::debug!(effect = %effect.id, %error, "a failure could not be recorded");
        }
    }
}
