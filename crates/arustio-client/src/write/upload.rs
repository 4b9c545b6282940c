//! Sending a large object in parts.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::ErrorKind;
use arustio_types::meta::{Command, Outcome};
use arustio_ufs::{AbortOptions, Payload, Upload, UploadOptions};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Announced;
use crate::error::{FsError, Result};
use crate::job::{LARGE_REQUEST, SMALL_REQUEST, Sent};

/// Parts after which their size doubles, so that the number of parts bounds nothing.
const PARTS_PER_SIZE: u64 = 1_000;

/// An upload under way.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) upload: Arc<dyn Upload>,
    parts: JoinSet<Result<u64>>,
    in_flight: u64,
    pub(crate) sent: u64,
}

/// What came of beginning an upload.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) sending: Result<Sending>,
    /// The last request that left, or may still leave, an upload that nobody holds.
    pub(crate) unheld: Option<Sent>,
}

impl Begun {
    /// The task that would have told has gone: anything may be on its way.
    pub(crate) fn untold() -> Self {
        let message = "the client was closed while an upload was begun";
        Self {
            sending: Err(FsError::new(ErrorKind::Unknown, message)),
            unheld: Some(Sent::now(SMALL_REQUEST)),
        }
    }
}

/// How large the part is that comes after `sent` others, for a buffer of `buffer` bytes.
pub(crate) fn part_size(sent: u64, first: u64, buffer: u64, most: u64) -> u64 {
    let doubled = first.saturating_mul(1 << (sent / PARTS_PER_SIZE).min(16));
    let share = (buffer / 2).max(first);
    doubled.min(share).min(most)
}

impl Announced {
    /// Begins an upload and records its id before the first part (W3). Goes on when nobody
    /// waits any more: whoever gives the write up needs to know which upload there is.
    pub(crate) fn begin_upload(self: &Arc<Self>) -> oneshot::Receiver<Begun> {
        let (told, begun) = oneshot::channel();
        let write = Arc::clone(self);
        self.client.tasks.owed(async move {
            let mut unheld = None;
            let sending = write.try_begin(&mut unheld).await;
            // The writer may be gone together with its runtime.
            let _ = told.send(Begun { sending, unheld });
        });
        begun
    }

    async fn try_begin(&self, unheld: &mut Option<Sent>) -> Result<Sending> {
        let sending = Sending {
            upload: self.ask_for_upload(unheld).await?.into(),
            parts: JoinSet::new(),
            in_flight: 0,
            sent: 0,
        };
        if let Err(error) = self.record_upload(&sending).await {
            // The lease may be over: then this is the last chance to leave no upload.
            let deadline = SMALL_REQUEST;
            let aborted = sending.upload.abort(AbortOptions { deadline }).await;
            if aborted.is_err() {
                *unheld = Some(Sent::now(Duration::ZERO));
            }
            return Err(error);
        }
        Ok(sending)
    }

    /// Asks once more when there was no answer.
    async fn ask_for_upload(&self, unheld: &mut Option<Sent>) -> Result<Box<dyn Upload>> {
        loop {
            let sessions = &self.client.sessions;
            let deadline = sessions.deadline(self.session, SMALL_REQUEST).await?;
            let sent = Sent::now(deadline);
            let options = UploadOptions {
                write_id: self.write_id,
                deadline,
            };
            let key = &self.grant.key;
            let error = match self.mounted.ufs.begin_upload(key, options).await {
                Ok(upload) => return Ok(upload),
                Err(error) => error,
            };
            let again = error.unanswered() && unheld.is_none();
            if error.unanswered() {
                *unheld = Some(sent);
            }
            if !again {
                return Err(self.client.ufs_failed(&self.mounted, &self.path, error));
            }
            // An upload may stand there under an id that nobody knows, or come.
            let (client, owed) = (&self.client, self.owed());
            client.note_unanswered(self.session, owed, sent).await?;
            self.abort_uploads(&[]).await?;
        }
    }

    async fn record_upload(&self, sending: &Sending) -> Result<()> {
        let record = Command::RecordUpload {
            intent: self.grant.intent,
            upload_id: sending.upload.id().as_str().to_owned(),
        };
        match self
            .client
            .sessions
            .propose_in(self.session, record)
            .await?
        {
            Outcome::Done => Ok(()),
            Outcome::Refused(refusal) => Err(FsError::refused(refusal)),
            _ => Err(self.lost()),
        }
    }

    /// Aborts every upload of this key that was begun since the intent.
    pub(crate) async fn abort_uploads(&self, recorded: &[String]) -> Result<()> {
        let slack = Duration::from_secs(60);
        let since = arustio_types::Timestamp::from_millis(
            self.begun.millis().saturating_sub(slack.as_millis() as i64),
        );
        let key = &self.grant.key;
        self.client
            .abort_uploads(&self.mounted, key, recorded, since, self.session)
            .await
    }

    /// Somebody else decides about this write now.
    pub(crate) fn lost(&self) -> FsError {
        FsError::on(
            ErrorKind::Unknown,
            &self.path,
            "the lease of this write is over and recovery has taken it on: look whether the file \
             is there before writing it again",
        )
    }
}

impl Sending {
    /// Sends the next part once there is room for it.
    pub(crate) async fn send(
        &mut self,
        write: &Arc<Announced>,
        payload: Payload,
        room: u64,
        parallel: usize,
    ) -> Result<()> {
        let bytes = payload.len();
        while !self.parts.is_empty()
            && (self.in_flight + bytes > room || self.parts.len() >= parallel)
        {
            self.join_one().await?;
        }
        let sessions = &write.client.sessions;
        let deadline = sessions.deadline(write.session, LARGE_REQUEST).await?;
        let number = u32::try_from(self.sent + 1).unwrap_or(u32::MAX);
        let (upload, write) = (Arc::clone(&self.upload), Arc::clone(write));
        self.parts.spawn(async move {
            let failed = |error| write.client.ufs_failed(&write.mounted, &write.path, error);
            let sent = upload.put_part(number, payload, deadline).await;
            sent.map_err(failed)?;
            Ok(bytes)
        });
        self.in_flight += bytes;
        self.sent += 1;
        Ok(())
    }

    /// Waits for all parts.
    pub(crate) async fn join_all(&mut self) -> Result<()> {
        while !self.parts.is_empty() {
            self.join_one().await?;
        }
        Ok(())
    }

    /// Stops sending.
    pub(crate) async fn stop(&mut self) {
        self.parts.shutdown().await;
    }

    async fn join_one(&mut self) -> Result<()> {
        match self.parts.join_next().await {
            Some(Ok(sent)) => self.in_flight -= sent?,
            Some(Err(error)) => {
                let message = format!("sending a part broke off: {error}");
                return Err(FsError::new(ErrorKind::Internal, message));
            }
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w5_parts_grow_slowly_and_never_beyond_half_the_buffer() {
        const MIB: u64 = 1 << 20;
        let size = |sent| part_size(sent, 8 * MIB, 64 * MIB, u64::MAX);
        assert_eq!(size(0), 8 * MIB);
        assert_eq!(size(999), 8 * MIB);
        assert_eq!(size(1_000), 16 * MIB);
        assert_eq!(size(9_999), 32 * MIB);
        assert_eq!(part_size(5_000, 8 * MIB, 8 * MIB, u64::MAX), 8 * MIB);
    }
}
