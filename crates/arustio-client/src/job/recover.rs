//! Ending what a dead writer left (W3).
//!
//! Uploads are aborted before the object is looked for: an upload that could still be
//! completed would make the look worthless. The object is recognised by its write id.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::command::{CommitWrite, Owed};
use arustio_types::meta::intent::Intent;
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query};
use arustio_types::{ErrorKind, SessionId, Timestamp, UfsKey};
use arustio_ufs::{AbortOptions, UploadId};
use futures::StreamExt as _;

use super::SMALL_REQUEST;
use crate::client::{Client, unexpected};
use crate::error::{FsError, Result};
use crate::metadata::session;
use crate::resolve::Mounted;

/// How much earlier than by our reckoning an upload may have begun and still be the dead
/// writer's: clocks differ, and replicated time stands still without a leader.
const UPLOAD_SLACK: Duration = Duration::from_secs(15 * 60);

impl Client {
    /// Ends an intent that `session` has taken over: the whole file, or nothing.
    pub(crate) async fn recover(
        self: &Arc<Self>,
        intent: Intent,
        session: SessionId,
    ) -> Result<()> {
        let Some(_running) = self.running.begin(Owed::Intent(intent.id)) else {
            return Ok(());
        };
        let mounted = self.mounted(intent.mount).await?;
        let since = self.begun(intent.begun_time).await?;
        self.abort_uploads(&mounted, &intent.key, &intent.upload_ids, since, session)
            .await?;
        let found = mounted.ufs.head(&intent.key).await;
        let found = found.map_err(|error| self.ufs_failed(&mounted, &intent.path, error))?;
        let ours = found.filter(|object| object.write_id == Some(intent.write_id));
        // A published write only waited for a request without an answer.
        if let Some(object) = ours.filter(|_| !intent.published) {
            let commit = Command::CommitWrite(CommitWrite {
                intent: intent.id,
                length: object.size,
                version: object.version,
                modified: object.modified,
                unanswered: None,
            });
            match self.when_silent(session, commit).await? {
                Outcome::Committed(_) | Outcome::Done | Outcome::Superseded => return Ok(()),
                // The name changed meanwhile: the object stays, the next sync shows it.
                Outcome::Refused(refusal) if refusal.kind == ErrorKind::Conflict => {}
                Outcome::Refused(refusal) => return Err(FsError::refused(refusal)),
                other => return Err(session::unexpected("publishing a write", &other)),
            }
        }
        self.clear_intent(&intent, session).await
    }

    pub(crate) async fn clear_intent(&self, intent: &Intent, session: SessionId) -> Result<()> {
        let abort = Command::AbortWrite { intent: intent.id };
        match self.when_silent(session, abort).await? {
            Outcome::Done | Outcome::Superseded => Ok(()),
            Outcome::Refused(refusal) => Err(FsError::refused(refusal)),
            other => Err(session::unexpected("clearing an intent", &other)),
        }
    }

    /// Aborts the recorded uploads and every other one of this very key that was begun
    /// since.
    pub(crate) async fn abort_uploads(
        &self,
        mounted: &Arc<Mounted>,
        key: &UfsKey,
        recorded: &[String],
        since: Timestamp,
        session: SessionId,
    ) -> Result<()> {
        let failed = |error| self.ufs_failed(mounted, &mounted.entry.spec.path, error);
        let mut ids: Vec<UploadId> = recorded.iter().map(|id| UploadId::new(id)).collect();
        let mut listed = mounted.ufs.list_uploads(key);
        while let Some(upload) = listed.next().await {
            let upload = upload.map_err(failed)?;
            if upload.key == *key && upload.begun >= since && !ids.contains(&upload.id) {
                ids.push(upload.id);
            }
        }
        for id in ids {
            let deadline = self.sessions.deadline(session, SMALL_REQUEST).await?;
            let aborted = mounted
                .ufs
                .abort_upload(key, &id, AbortOptions { deadline })
                .await;
            aborted.map_err(failed)?;
        }
        Ok(())
    }

    /// Wall clock of the beginning of something that is owed since this replicated time,
    /// rather too early than too late.
    pub(crate) async fn begun(&self, time: u64) -> Result<Timestamp> {
        let query = Query::Pending {
            after: None,
            limit: 1,
        };
        let now = match self.ask(query, Consistency::Linearizable).await? {
            Answer::Pending { now, .. } => now,
            other => return Err(unexpected("asking for the time", &other)),
        };
        let age = Duration::from_millis(now.saturating_sub(time)) + UPLOAD_SLACK;
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Ok(Timestamp::from_millis(
            self.clock.now().millis().saturating_sub(age),
        ))
    }
}
