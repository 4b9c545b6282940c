//! Sending a large object in parts.

use std::sync::Arc;

use arustio_types::ErrorKind;
use arustio_types::meta::{Command, Outcome};
use arustio_ufs::{Payload, Upload, UploadOptions};
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

/// How large the part is that comes after `sent` others, for a buffer of `buffer` bytes.
pub(crate) fn part_size(sent: u64, first: u64, buffer: u64, most: u64) -> u64 {
    let doubled = first.saturating_mul(1 << (sent / PARTS_PER_SIZE).min(16));
    let share = (buffer / 2).max(first);
    doubled.min(share).min(most)
}

impl Announced {
    /// Begins an upload and records its id before the first part (W3). The second value
    /// is a request that got no answer and may still begin another one.
    pub(crate) async fn begin_upload(&self) -> Result<(Sending, Option<Sent>)> {
        let mut open = None;
        let upload = loop {
            let sessions = &self.client.sessions;
            let deadline = sessions.deadline(self.session, SMALL_REQUEST).await?;
            let sent = Sent::now(deadline);
            let options = UploadOptions {
                write_id: self.write_id,
                deadline,
            };
            match self
                .mounted
                .ufs
                .begin_upload(&self.grant.key, options)
                .await
            {
                Ok(upload) => break upload,
                // It may stand there under an id that nobody knows.
                Err(error) if error.unanswered() && open.is_none() => {
                    self.client
                        .note_unanswered(self.session, self.owed(), sent)
                        .await?;
                    self.abort_uploads(&[]).await?;
                    open = Some(sent);
                }
                Err(error) => {
                    return Err(self.client.ufs_failed(&self.mounted, &self.path, error));
                }
            }
        };
        let sending = Sending {
            upload: upload.into(),
            parts: JoinSet::new(),
            in_flight: 0,
            sent: 0,
        };
        self.record_upload(sending)
            .await
            .map(|sending| (sending, open))
    }

    async fn record_upload(&self, sending: Sending) -> Result<Sending> {
        let record = Command::RecordUpload {
            intent: self.grant.intent,
            upload_id: sending.upload.id().as_str().to_owned(),
        };
        let refused = match self.client.sessions.propose_in(self.session, record).await {
            Ok(Outcome::Done) => return Ok(sending),
            Ok(Outcome::Refused(refusal)) => FsError::refused(refusal),
            Ok(_) => self.lost(),
            Err(error) => error,
        };
        // The lease may be over: then this is the last chance to leave no upload.
        let deadline = SMALL_REQUEST;
        let aborted = sending
            .upload
            .abort(arustio_ufs::AbortOptions { deadline })
            .await;
        if let Err(error) = aborted {
            tracing::debug!(%error, "an upload is left to recovery");
        }
        Err(refused)
    }

    /// Aborts every upload of this key that was begun since the intent.
    pub(crate) async fn abort_uploads(&self, recorded: &[String]) -> Result<()> {
        let slack = std::time::Duration::from_secs(60);
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
