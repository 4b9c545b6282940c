//! A writer as `AsyncWrite`.
//!
//! Bytes are gathered into pieces, and a piece goes to the writer below while the next one
//! is gathered. Shutting down hands on what was gathered and publishes nothing: that is
//! what [`commit`](SequentialWriter::commit) is for, so that a copy that failed half-way
//! never becomes a file.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::AsyncWrite;

use crate::error::{FsError, Result};
use crate::fs::{Committed, FileWriter};

/// Bytes of one piece.
const PIECE: usize = 256 << 10;

/// The end of a file that is being written.
pub struct SequentialWriter {
    below: Below,
    gathered: BytesMut,
}

enum Below {
    Idle(Box<dyn FileWriter>),
    Writing(BoxFuture<'static, (Box<dyn FileWriter>, Result<()>)>),
    /// Only while it is being taken or after a failure.
    Gone,
}

impl SequentialWriter {
    /// Starts at the beginning.
    pub fn new(writer: Box<dyn FileWriter>) -> Self {
        Self {
            below: Below::Idle(writer),
            gathered: BytesMut::new(),
        }
    }

    /// Publishes the file, whole, with everything that was written.
    ///
    /// # Errors
    /// As [`FileWriter::commit`]; after an error nothing was published, unless it is
    /// `Unknown`.
    pub async fn commit(mut self) -> Result<Committed> {
        let gathered = self.gathered.split().freeze();
        let mut writer = self.writer().await?;
        if !gathered.is_empty() {
            writer.write(gathered).await?;
        }
        writer.commit().await
    }

    /// Gives up: nothing is published, and nothing stays in the store.
    ///
    /// # Errors
    /// As [`FileWriter::abort`].
    pub async fn abort(mut self) -> Result<()> {
        self.writer().await?.abort().await
    }

    async fn writer(&mut self) -> Result<Box<dyn FileWriter>> {
        match std::mem::replace(&mut self.below, Below::Gone) {
            Below::Idle(writer) => Ok(writer),
            Below::Writing(work) => {
                let (writer, written) = work.await;
                written.map(|()| writer)
            }
            Below::Gone => Err(failed_before()),
        }
    }

    /// Waits until the writer below can take a piece.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Below::Writing(work) = &mut self.below {
            let (writer, written) = ready!(work.poll_unpin(cx));
            self.below = match written {
                Ok(()) => Below::Idle(writer),
                Err(error) => {
                    self.below = Below::Gone;
                    return Poll::Ready(Err(error));
                }
            };
        }
        match self.below {
            Below::Gone => Poll::Ready(Err(failed_before())),
            Below::Idle(_) | Below::Writing(_) => Poll::Ready(Ok(())),
        }
    }

    /// Hands on what was gathered; the writer below has to be idle.
    fn hand_on(&mut self) {
        let piece = self.gathered.split().freeze();
        if let Below::Idle(writer) = std::mem::replace(&mut self.below, Below::Gone) {
            self.below = Below::Writing(write(writer, piece).boxed());
        }
    }
}

async fn write(mut writer: Box<dyn FileWriter>, piece: Bytes) -> (Box<dyn FileWriter>, Result<()>) {
    let written = writer.write(piece).await;
    (writer, written)
}

fn failed_before() -> FsError {
    FsError::new(
        arustio_types::ErrorKind::InvalidArgument,
        "an earlier write failed; begin the file anew",
    )
}

impl fmt::Debug for SequentialWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SequentialWriter")
            .field("gathered", &self.gathered.len())
            .finish_non_exhaustive()
    }
}

impl AsyncWrite for SequentialWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= PIECE {
            ready!(self.poll_idle(cx))?;
            self.hand_on();
        }
        let take = bytes.len().min(PIECE - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..take]);
        Poll::Ready(Ok(take))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_idle(cx))?;
        if !self.gathered.is_empty() {
            self.hand_on();
            ready!(self.poll_idle(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arustio_types::ErrorKind;
    use async_trait::async_trait;
    use parking_lot::Mutex;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::fs::WriteStats;

    /// Keeps what it is given; refuses after so many bytes.
    #[derive(Debug, Clone)]
    struct Kept {
        bytes: Arc<Mutex<Vec<u8>>>,
        most: usize,
    }

    #[async_trait]
    impl FileWriter for Kept {
        async fn write(&mut self, bytes: Bytes) -> Result<()> {
            tokio::task::yield_now().await;
            let mut kept = self.bytes.lock();
            if kept.len() + bytes.len() > self.most {
                return Err(FsError::new(ErrorKind::NoSpace, "no more"));
            }
            kept.extend_from_slice(&bytes);
            Ok(())
        }

        async fn commit(self: Box<Self>) -> Result<Committed> {
            Err(FsError::new(ErrorKind::Unsupported, "committed"))
        }

        async fn abort(self: Box<Self>) -> Result<()> {
            Ok(())
        }

        fn stats(&self) -> WriteStats {
            WriteStats::default()
        }
    }

    fn kept(most: usize) -> Kept {
        Kept {
            bytes: Arc::default(),
            most,
        }
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_and_once_and_the_last_ones_at_commit() {
        let below = kept(usize::MAX);
        let mut writer = SequentialWriter::new(Box::new(below.clone()));
        let content: Vec<u8> = (0..3 * PIECE + 777).map(|n| (n % 251) as u8).collect();
        for piece in content.chunks(60_001) {
            writer.write_all(piece).await.unwrap();
        }
        let committed = writer.commit().await.unwrap_err();
        assert_eq!(committed.kind(), ErrorKind::Unsupported);
        assert_eq!(*below.bytes.lock(), content);
    }

    #[tokio::test]
    async fn flushing_hands_on_everything() {
        let below = kept(usize::MAX);
        let mut writer = SequentialWriter::new(Box::new(below.clone()));
        writer.write_all(b"hello").await.unwrap();
        assert!(below.bytes.lock().is_empty());
        writer.flush().await.unwrap();
        assert_eq!(*below.bytes.lock(), b"hello");
    }

    #[tokio::test]
    async fn a_failed_write_is_told_and_nothing_can_be_committed_after_it() {
        let mut writer = SequentialWriter::new(Box::new(kept(3)));
        writer.write_all(b"four").await.unwrap();
        let failed = writer.flush().await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        let again = writer.flush().await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::InvalidInput);
        let committed = writer.commit().await.unwrap_err();
        assert_eq!(committed.kind(), ErrorKind::InvalidArgument);
    }
}
