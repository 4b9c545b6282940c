//! The handle of a file being written.
//!
//! Bytes are held until they make a part; what fits into one part is one request. When
//! the handle is dropped without a commit, a task of the client aborts it, and closing
//! the client waits for that.

use std::sync::Arc;

use arustio_types::meta::FileStatus;
use arustio_types::meta::mount::WriteType;
use arustio_types::{ErrorKind, ObjectVersion};
use arustio_ufs::{AbortOptions, CompleteOptions, Payload, WriteOptions};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::Announced;
use super::commit::Landed;
use super::tee::Tee;
use super::upload::{Begun, Sending, part_size};
use crate::error::{FsError, Result};
use crate::fs::{Committed, FileWriter, WriteStats};
use crate::job::{LARGE_REQUEST, SMALL_REQUEST, Sent};

/// Smaller pieces are gathered, so that a buffer of single bytes costs what it holds.
const SMALL_PIECE: usize = 64 << 10;
/// Bytes that are gathered into one piece.
const GATHERED: usize = 256 << 10;

/// A file being written.
#[derive(Debug)]
pub(crate) struct Writer(Option<Work>);

#[derive(Debug)]
struct Work {
    write: Arc<Announced>,
    held: Held,
    /// An upload is being begun.
    beginning: Option<oneshot::Receiver<Begun>>,
    sending: Option<Sending>,
    /// The last request that left, or may still leave, an upload that nobody holds.
    unheld: Option<Sent>,
    /// The request that makes the object, if it got no answer and may still be carried out.
    open: Option<Sent>,
    tee: Option<Tee>,
    stats: WriteStats,
    failed: bool,
}

/// Bytes that are not sent yet.
#[derive(Debug, Default)]
struct Held {
    pieces: Vec<Bytes>,
    small: BytesMut,
    bytes: u64,
}

impl Held {
    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        if bytes.len() >= SMALL_PIECE {
            self.gather();
            self.pieces.push(bytes);
            return;
        }
        self.small.extend_from_slice(&bytes);
        if self.small.len() >= GATHERED {
            self.gather();
        }
    }

    /// Takes exactly so many bytes from the front, or all that there are.
    fn take(&mut self, wanted: u64) -> Payload {
        self.gather();
        let mut left = wanted.min(self.bytes);
        self.bytes -= left;
        let mut taken = Vec::new();
        let mut rest = std::mem::take(&mut self.pieces).into_iter();
        for mut piece in rest.by_ref() {
            let length = piece.len() as u64;
            if length > left {
                let cut = usize::try_from(left).unwrap_or(usize::MAX);
                if cut > 0 {
                    taken.push(piece.split_to(cut));
                }
                self.pieces.push(piece);
                break;
            }
            left -= length;
            taken.push(piece);
        }
        self.pieces.extend(rest);
        Payload::from(taken)
    }

    fn gather(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }
}

impl Writer {
    pub(crate) fn new(write: Announced) -> Self {
        let grant = &write.grant;
        let cached = grant.write_type == WriteType::CacheThrough && write.client.config.read.cache;
        let tee = cached.then(|| {
            let filler = write.client.filler.clone();
            Tee::new(filler, grant.content, grant.block_size, grant.mount)
        });
        Self(Some(Work {
            write: Arc::new(write),
            held: Held::default(),
            beginning: None,
            sending: None,
            unheld: None,
            open: None,
            tee,
            stats: WriteStats::default(),
            failed: false,
        }))
    }

    fn work(&mut self) -> Result<&mut Work> {
        self.0
            .as_mut()
            .ok_or_else(|| FsError::new(ErrorKind::Internal, "the writer has ended"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            let tasks = work.write.client.tasks.clone();
            tasks.owed(async move {
                let path = work.write.path.clone();
                if let Err(error) = work.abort().await {
                    tracing::debug!(%path, %error, "an abandoned write is left to recovery");
                }
            });
        }
    }
}

#[async_trait]
impl FileWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let work = self.work()?;
        let written = work.write(bytes).await;
        let path = &work.write.path;
        written.map_err(|error| error.at(path).during("write"))
    }

    async fn commit(mut self: Box<Self>) -> Result<Committed> {
        // A caller that stops waiting before the last request takes the write back.
        let sent = self.work()?.send_rest().await;
        let Some(work) = self.0.take() else {
            return Err(FsError::new(ErrorKind::Internal, "the writer has ended"));
        };
        let path = work.write.path.clone();
        let client = Arc::clone(&work.write.client);
        let committed = client.see_through(work.commit(sent)).await;
        committed.map_err(|error| error.at(&path).during("write"))
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        let Some(work) = self.0.take() else {
            return Ok(());
        };
        let path = work.write.path.clone();
        let client = Arc::clone(&work.write.client);
        let aborted = client.see_through(work.abort()).await;
        aborted.map_err(|error| error.at(&path).during("abort"))
    }

    fn stats(&self) -> WriteStats {
        self.0.as_ref().map(|work| work.stats).unwrap_or_default()
    }
}

impl Work {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if self.failed {
            let message = "an earlier write failed; abort this file and begin anew";
            return Err(FsError::new(ErrorKind::InvalidArgument, message));
        }
        // Also when it is dropped half-way: a part may be lost with it.
        self.failed = true;
        self.stats.bytes += bytes.len() as u64;
        if let Some(tee) = &mut self.tee {
            tee.push(bytes.clone());
        }
        self.held.push(bytes);
        while self.held.bytes > self.part() {
            self.send_part().await?;
        }
        self.failed = false;
        Ok(())
    }

    /// Size of the next part; also the largest object that is one request.
    fn part(&self) -> u64 {
        let config = &self.write.client.config.write;
        let capabilities = self.write.mounted.ufs.capabilities();
        let first = config.part.get().max(capabilities.min_part);
        let sent = self.sending.as_ref().map_or(0, |sending| sending.sent);
        let most = match self.sending {
            None => capabilities.max_part.min(capabilities.max_write),
            Some(_) => capabilities.max_part,
        };
        part_size(sent, first, config.buffer.get(), most)
    }

    async fn send_part(&mut self) -> Result<()> {
        if self.sending.is_none() {
            self.begin_upload().await?;
        }
        let part = self.part();
        let payload = self.held.take(part);
        let config = &self.write.client.config.write;
        // The part that is being gathered counts as well.
        let room = config.buffer.get().saturating_sub(part);
        let parallel = config.parallel;
        if let Some(sending) = &mut self.sending {
            sending.send(&self.write, payload, room, parallel).await?;
            self.stats.ufs_requests += 1;
        }
        Ok(())
    }

    async fn begin_upload(&mut self) -> Result<()> {
        let write = &self.write;
        let begun = self.beginning.get_or_insert_with(|| write.begin_upload());
        let begun = begun.await.unwrap_or_else(|_| Begun::untold());
        self.beginning = None;
        self.unheld = begun.unheld;
        self.stats.ufs_requests += 1;
        self.sending = Some(begun.sending?);
        Ok(())
    }

    /// Sends everything but the last request, the one that makes the object.
    async fn send_rest(&mut self) -> Result<()> {
        if self.failed {
            let message = "an earlier write failed; nothing was published";
            return Err(FsError::new(ErrorKind::InvalidArgument, message));
        }
        if self.sending.is_some() && self.held.bytes > 0 {
            self.send_part().await?;
        }
        match &mut self.sending {
            Some(sending) => sending.join_all().await,
            None => Ok(()),
        }
    }

    /// Ends the write, whose other bytes were `sent` or not.
    async fn commit(mut self, sent: Result<()>) -> Result<Committed> {
        if let Err(error) = sent {
            self.give_up_quietly().await;
            return Err(error);
        }
        match self.finish_object().await {
            Ok(Landed::There(version)) => {
                let status = self.publish(version.clone()).await?;
                if let Some(tee) = &mut self.tee {
                    let wait = self.write.client.config.read.node_timeout;
                    let finished = tokio::time::timeout(wait, tee.finish()).await;
                    self.stats.cached_blocks = finished.unwrap_or(0);
                }
                Ok(Committed {
                    content: self.write.grant.content,
                    status,
                    version,
                    stats: self.stats,
                })
            }
            Ok(Landed::Not(error)) => {
                self.give_up_quietly().await;
                Err(error)
            }
            Err(error) => {
                // Whether the object is there is recovery's to find out.
                if let Some(sending) = &mut self.sending {
                    sending.stop().await;
                }
                self.write.leave(self.last_open());
                Err(error)
            }
        }
    }

    /// The last request that may still be carried out.
    fn last_open(&self) -> Option<Sent> {
        self.open.or(self.unheld)
    }

    async fn publish(&self, version: ObjectVersion) -> Result<FileStatus> {
        let open = self.last_open();
        let published = self.write.publish(self.stats.bytes, version, open).await;
        match (&published, open) {
            (Ok(_), Some(open)) => self.write.end_when_silent(open),
            (Ok(_), None) => {}
            (Err(_), open) => self.write.leave(open),
        }
        published
    }

    /// The last request: the object is there, or it is not.
    async fn finish_object(&mut self) -> Result<Landed> {
        self.stats.ufs_requests += 1;
        let write = &self.write;
        let mode = write.mode();
        match &mut self.sending {
            None => {
                let sessions = &write.client.sessions;
                let deadline = sessions.deadline(write.session, LARGE_REQUEST).await?;
                let sent = Sent::now(deadline);
                let payload = self.held.take(u64::MAX);
                let options = WriteOptions::new(mode, write.write_id, deadline);
                let key = &write.grant.key;
                let answer = write.mounted.ufs.write(key, payload, options).await;
                write.landed(answer, sent, &mut self.open).await
            }
            Some(sending) => {
                let sessions = &write.client.sessions;
                let deadline = sessions.deadline(write.session, LARGE_REQUEST).await?;
                let sent = Sent::now(deadline);
                let options = CompleteOptions::new(mode, deadline);
                let answer = sending.upload.complete(options).await;
                write.landed(answer, sent, &mut self.open).await
            }
        }
    }

    async fn give_up_quietly(mut self) {
        if let Err(error) = self.give_up().await {
            let path = &self.write.path;
            tracing::debug!(%path, %error, "a failed write is left to recovery");
        }
    }

    async fn abort(mut self) -> Result<()> {
        self.give_up().await
    }

    /// Leaves no upload and no intent. In this order: an upload that can still be
    /// completed keeps the intent.
    async fn give_up(&mut self) -> Result<()> {
        if let Some(tee) = &self.tee {
            tee.abandon();
        }
        if self.beginning.is_some() {
            // Only what is there now matters; why it failed does not.
            let _ = self.begin_upload().await;
        }
        if let Some(sending) = &mut self.sending {
            sending.stop().await;
            let sessions = &self.write.client.sessions;
            let deadline = sessions.deadline(self.write.session, SMALL_REQUEST).await?;
            let aborted = sending.upload.abort(AbortOptions { deadline }).await;
            aborted.map_err(|error| {
                let write = &self.write;
                write.client.ufs_failed(&write.mounted, &write.path, error)
            })?;
        }
        if let Some(unheld) = self.unheld {
            // It may still come; after that it can be listed.
            let (write, place) = (&self.write, self.write.place());
            let client = &write.client;
            client
                .wait_out(write.session, write.owed(), unheld, &place)
                .await?;
            write.abort_uploads(&[]).await?;
        }
        self.write.clear().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w5_held_bytes_are_cut_exactly_and_small_ones_gathered() {
        let mut held = Held::default();
        for byte in 0..100_000u32 {
            held.push(Bytes::from(vec![byte as u8]));
        }
        held.push(Bytes::from(vec![7; SMALL_PIECE]));
        assert!(held.pieces.len() <= 2, "{}", held.pieces.len());
        let first = held.take(70_000);
        assert_eq!(first.len(), 70_000);
        assert_eq!(first.to_bytes()[69_999], 69_999u32 as u8);
        let rest = held.take(u64::MAX);
        assert_eq!(rest.len(), 100_000 - 70_000 + SMALL_PIECE as u64);
        assert_eq!(rest.to_bytes()[0], 70_000u32 as u8);
        assert_eq!(held.bytes, 0);
    }
}
