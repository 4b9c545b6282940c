//! What the answer to the last request of a write means, and what follows.
//!
//! The object is recognised by its write id, never by equal bytes (W2). A refusal can be
//! our own earlier try; no answer can be a write that is still to come. So a look decides,
//! and where a request is open a look decides only after that request has expired.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::command::CommitWrite;
use arustio_types::meta::{Command, FileStatus, Outcome};
use arustio_types::{Classify, ErrorKind, ObjectVersion};
use arustio_ufs::{UfsError, Written};

use super::Announced;
use crate::error::{FsError, Result};
use crate::job::Sent;
use crate::metadata::session;

/// An intent that is published and must not end with that waits at least so long.
const SHORTEST: Duration = Duration::from_millis(1);

/// What follows from an answer.
#[derive(Debug)]
pub(crate) enum Next {
    /// The object is there; an earlier try may still be carried out when `open`.
    Publish { version: ObjectVersion, open: bool },
    /// Refused: somebody else's object, or our own earlier try.
    Look { open: bool, error: UfsError },
    /// No answer: it may be there, or come.
    Unclear(UfsError),
    /// Certainly not written.
    GiveUp(UfsError),
}

/// What an answer means, from it alone.
pub(crate) fn next(answer: arustio_ufs::Result<Written>) -> Next {
    let error = match answer {
        Ok(written) => {
            return Next::Publish {
                version: written.version,
                open: written.unanswered,
            };
        }
        Err(error) => error,
    };
    let open = error.unanswered();
    match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::Conflict => Next::Look { open, error },
        _ if open => Next::Unclear(error),
        _ => Next::GiveUp(error),
    }
}

/// How a write ended at the store.
#[derive(Debug)]
pub(crate) enum Landed {
    /// It is there.
    There(ObjectVersion),
    /// It is not there and will not be.
    Not(FsError),
}

impl Announced {
    /// Finds out whether the object is there. `open` is the request afterwards, as long as
    /// it, or an earlier try of it, may still be carried out; also with an error.
    pub(crate) async fn landed(
        &self,
        answer: arustio_ufs::Result<Written>,
        sent: Sent,
        open: &mut Option<Sent>,
    ) -> Result<Landed> {
        let (unanswered, error) = match next(answer) {
            Next::Publish {
                version,
                open: unanswered,
            } => {
                *open = unanswered.then_some(sent);
                return Ok(Landed::There(version));
            }
            Next::GiveUp(error) => {
                let error = self.client.ufs_failed(&self.mounted, &self.path, error);
                return Ok(Landed::Not(error));
            }
            Next::Look {
                open: unanswered,
                error,
            } => (unanswered, error),
            Next::Unclear(error) => (true, error),
        };
        *open = unanswered.then_some(sent);
        if let Some(version) = self.own_object().await? {
            return Ok(Landed::There(version));
        }
        if unanswered {
            let (client, place) = (&self.client, self.place());
            client
                .wait_out(self.session, self.owed(), sent, &place)
                .await?;
            *open = None;
            if let Some(version) = self.own_object().await? {
                return Ok(Landed::There(version));
            }
        }
        Ok(Landed::Not(self.lost_condition(error)))
    }

    /// Publishes the file; `open` is the last request that got no answer. With one the
    /// intent stays: what came of it is looked for after it has expired.
    pub(crate) async fn publish(
        &self,
        length: u64,
        version: ObjectVersion,
        open: Option<Sent>,
    ) -> Result<FileStatus> {
        let still_open = |sent| self.client.sessions.still_open(sent).max(SHORTEST);
        let commit = Command::CommitWrite(CommitWrite {
            intent: self.grant.intent,
            length,
            version,
            modified: self.client.clock.now(),
            unanswered: open.map(still_open),
        });
        match self
            .client
            .sessions
            .propose_in(self.session, commit)
            .await?
        {
            Outcome::Committed(status) => Ok(status),
            Outcome::Superseded => Err(self.lost()),
            Outcome::Refused(refusal) => Err(FsError::refused(refusal)),
            other => Err(session::unexpected("publishing a write", &other)),
        }
    }

    /// Clears the intent of a write that is not there and will not be.
    pub(crate) async fn clear(&self) -> Result<()> {
        let abort = Command::AbortWrite {
            intent: self.grant.intent,
        };
        match self.client.when_silent(self.session, abort).await? {
            Outcome::Refused(refusal) => Err(FsError::refused(refusal)),
            _ => Ok(()),
        }
    }

    /// Ends the intent of a published write once `open` has expired, after a look for the
    /// upload that it may have left.
    pub(crate) fn end_when_silent(self: &Arc<Self>, open: Sent) {
        let write = Arc::clone(self);
        self.client.tasks.background(async move {
            tokio::time::sleep_until(write.client.sessions.expired_at(open)).await;
            let ended = async {
                write.abort_uploads(&[]).await?;
                write.clear().await
            };
            if let Err(error) = ended.await {
                let path = &write.path;
                tracing::debug!(%path, %error, "a published write is left to recovery");
            }
        });
    }

    /// Leaves the write to recovery. Others wait for our lease; this client may begin at
    /// once, but not before `open` has expired, which nobody else may know of.
    pub(crate) fn leave(self: &Arc<Self>, open: Option<Sent>) {
        let Some(open) = open else { return };
        let write = Arc::clone(self);
        self.client.tasks.background(async move {
            tokio::time::sleep_until(write.client.sessions.expired_at(open)).await;
            drop(write);
        });
    }

    async fn own_object(&self) -> Result<Option<ObjectVersion>> {
        let found = self.mounted.ufs.head(&self.grant.key).await;
        let found = found.map_err(|error| {
            let cause = self.client.ufs_failed(&self.mounted, &self.path, error);
            FsError::on(
                ErrorKind::Unknown,
                &self.path,
                format!(
                    "the write got no answer, and looking for it failed: look whether the file is \
                     there before writing it again ({})",
                    cause.message()
                ),
            )
        })?;
        let ours = found.filter(|object| object.write_id == Some(self.write_id));
        Ok(ours.map(|object| object.version))
    }

    fn lost_condition(&self, error: UfsError) -> FsError {
        match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::Conflict => {}
            _ => return self.client.ufs_failed(&self.mounted, &self.path, error),
        }
        let place = self.place();
        if self.grant.expected.is_none() {
            let message = format!("somebody else created {place} meanwhile; nothing was written");
            return FsError::on(ErrorKind::AlreadyExists, &self.path, message);
        }
        let message = format!(
            "somebody else replaced {place} since it was opened for writing; nothing was written: \
             look, then write again"
        );
        FsError::on(ErrorKind::Conflict, &self.path, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::UfsKey;
    use arustio_ufs::Place;
    use std::time::Duration;

    fn at() -> Place {
        Place::new(&"mem://x".into(), &UfsKey::new("k"))
    }

    #[test]
    fn w2_a_refusal_is_looked_at_and_no_answer_is_never_taken_for_a_failure() {
        let version = ObjectVersion::new("v");
        let answered = next(Ok(Written::answered(version)));
        assert!(matches!(answered, Next::Publish { open: false, .. }));
        let taken = next(Err(UfsError::AlreadyExists { at: at() }));
        assert!(matches!(taken, Next::Look { open: false, .. }));
        let silent = UfsError::Timeout {
            at: at(),
            after: Duration::from_secs(1),
            unanswered: true,
        };
        assert!(matches!(next(Err(silent)), Next::Unclear(_)));
        let denied = UfsError::PermissionDenied {
            at: at(),
            detail: String::new(),
        };
        assert!(matches!(next(Err(denied)), Next::GiveUp(_)));
        let late_conflict = UfsError::Exhausted {
            attempts: 2,
            elapsed: Duration::from_secs(1),
            last: Box::new(UfsError::Conflict { at: at() }),
            unanswered: true,
        };
        assert!(matches!(
            next(Err(late_conflict)),
            Next::Look { open: true, .. }
        ));
    }
}
