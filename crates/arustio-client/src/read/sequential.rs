//! A reader as `AsyncRead` and `AsyncSeek`.
//!
//! Reads go through one stream from the current position; a seek drops it, and the next
//! read opens another. Small seeks forward that stay inside what has arrived are free.

use std::fmt;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use crate::error::Result;
use crate::fs::FileReader;

/// A position in an open file.
pub struct SequentialReader {
    reader: Arc<dyn FileReader>,
    position: u64,
    stream: Option<BoxStream<'static, Result<Bytes>>>,
    arrived: Bytes,
}

impl SequentialReader {
    /// Starts at the beginning.
    pub fn new(reader: Arc<dyn FileReader>) -> Self {
        Self {
            reader,
            position: 0,
            stream: None,
            arrived: Bytes::new(),
        }
    }

    /// The reader below.
    pub fn get_ref(&self) -> &Arc<dyn FileReader> {
        &self.reader
    }

    fn go_to(&mut self, position: u64) {
        let ahead = position.checked_sub(self.position);
        match ahead.and_then(|ahead| usize::try_from(ahead).ok()) {
            Some(ahead) if ahead <= self.arrived.len() => self.arrived.advance(ahead),
            _ => {
                self.arrived.clear();
                self.stream = None;
            }
        }
        self.position = position;
    }
}

impl fmt::Debug for SequentialReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SequentialReader")
            .field("reader", &self.reader)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for SequentialReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.arrived.is_empty() {
            let stream = this
                .stream
                .get_or_insert_with(|| this.reader.stream(this.position..u64::MAX));
            match ready!(stream.poll_next_unpin(cx)) {
                Some(Ok(bytes)) => this.arrived = bytes,
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => return Poll::Ready(Ok(())),
            }
        }
        let take = this.arrived.len().min(buffer.remaining());
        buffer.put_slice(&this.arrived.split_to(take));
        this.position += take as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for SequentialReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let size = self.reader.status().size;
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "a seek before the first byte");
        let position = position.ok_or_else(before)?;
        self.go_to(position);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}
