//! The handle of an open file.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_types::meta::FileStatus;
use arustio_types::{ErrorKind, FsPath};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;

use super::fetch::{Fetcher, Piece};
use super::pin::{Counters, Pin};
use super::plan::{self, Pattern};
use super::stream;
use crate::client::Client;
use crate::error::{FsError, Result};
use crate::fs::{FileReader, OpenOptions, ReadStats};
use crate::names::Knowledge;

/// Requests to the store of one `read_at`.
const GAPS_AT_ONCE: usize = 4;

impl Client {
    /// Opens a file for reading.
    pub(crate) async fn open(
        self: &Arc<Self>,
        path: &FsPath,
        options: OpenOptions,
    ) -> Result<Reader> {
        let knowledge = if options.stale_ok {
            Knowledge::Stale
        } else {
            Knowledge::Fresh
        };
        let status = self.stat(path, knowledge).await?;
        let pin = Arc::new(Pin::new(self, status).await?);
        Ok(Reader(Arc::new(Handle {
            client: Arc::clone(self),
            pin: Mutex::new(pin),
            counters: Arc::default(),
            returned: AtomicBool::new(false),
            reopened: AtomicBool::new(false),
            pattern: Mutex::default(),
        })))
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Reader(Arc<Handle>);

/// What the handle and its streams share.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) client: Arc<Client>,
    pin: Mutex<Arc<Pin>>,
    counters: Arc<Counters>,
    /// A byte was handed out: the content is fixed.
    returned: AtomicBool,
    reopened: AtomicBool,
    pattern: Mutex<Pattern>,
}

impl Handle {
    pub(crate) fn fetcher(&self) -> Fetcher {
        Fetcher {
            client: Arc::clone(&self.client),
            pin: Arc::clone(&self.pin.lock()),
            counters: Arc::clone(&self.counters),
            stream: None,
        }
    }

    /// Fixes the content for ever.
    pub(crate) fn returned(&self) {
        self.returned.store(true, Ordering::Relaxed);
    }

    /// After a refused read: true when the handle, of which nothing was handed out yet,
    /// is pinned to the version that is there now (R1). At most once.
    pub(crate) async fn reopen(&self, error: &FsError) -> Result<bool> {
        if error.kind() != ErrorKind::Stale
            || self.returned.load(Ordering::Relaxed)
            || self.reopened.swap(true, Ordering::Relaxed)
        {
            return Ok(false);
        }
        let path = self.pin.lock().status.path.clone();
        let status = self.client.stat(&path, Knowledge::Now).await?;
        let pin = Pin::new(&self.client, status).await?;
        *self.pin.lock() = Arc::new(pin);
        Ok(true)
    }

    async fn read_at(self: &Arc<Self>, offset: u64, length: usize) -> Result<Bytes> {
        loop {
            let fetcher = self.fetcher();
            match self.read_pinned(&fetcher, offset, length).await {
                Ok(bytes) => {
                    self.returned();
                    return Ok(bytes);
                }
                Err(error) => {
                    if !self.reopen(&error).await? {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn read_pinned(
        self: &Arc<Self>,
        fetcher: &Fetcher,
        offset: u64,
        length: usize,
    ) -> Result<Bytes> {
        let size = fetcher.pin.length();
        let end = offset.saturating_add(length as u64).min(size);
        let range = offset.min(end)..end;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let config = &self.client.config.read;
        if range.end - range.start > config.whole_object.get() {
            let pieces = stream::stream(Arc::clone(self), range);
            let pieces: Vec<Bytes> = pieces.try_collect().await?;
            return Ok(join(pieces));
        }
        fetcher.check_mount().await?;
        let grid = if self.pattern.lock().sequential(&range) {
            config.min_fetch.get().max(fetcher.pin.block_size.bytes())
        } else {
            config.min_fetch.get()
        };
        let mut pieces = fetcher.cached(&range).await;
        let gaps = plan::gaps(&range, pieces.iter().map(Piece::range));
        pieces.extend(fetch_gaps(fetcher, &range, &gaps, grid).await?);
        pieces.sort_by_key(|piece| piece.at);
        let whole = plan::gaps(&range, pieces.iter().map(Piece::range)).is_empty();
        debug_assert!(whole, "gaps were fetched");
        Ok(join(pieces.into_iter().map(|piece| piece.bytes).collect()))
    }
}

/// Fetches the gaps of a range; only what lies in a gap is returned.
async fn fetch_gaps(
    fetcher: &Fetcher,
    range: &Range<u64>,
    gaps: &[Range<u64>],
    grid: u64,
) -> Result<Vec<Piece>> {
    // Nothing behind the last block of the range is asked for.
    let wide = plan::widen(gaps, grid, fetcher.pin.length());
    let reads = futures::stream::iter(wide).map(|wide| async move {
        let pieces = fetcher.cold(wide).await?;
        pieces.try_collect::<Vec<Piece>>().await
    });
    let fetched: Vec<Vec<Piece>> = reads.buffered(GAPS_AT_ONCE).try_collect().await?;
    let mut found = Vec::new();
    for piece in fetched.iter().flatten() {
        for gap in gaps {
            found.extend(piece.within(gap).and_then(|piece| piece.within(range)));
        }
    }
    Ok(found)
}

/// One run of bytes; copies only where there are several.
fn join(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.swap_remove(0);
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}

#[async_trait]
impl FileReader for Reader {
    fn status(&self) -> Arc<FileStatus> {
        Arc::clone(&self.0.pin.lock().status)
    }

    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
        let read = self.0.read_at(offset, length).await;
        read.map_err(|error| error.at(&self.status().path).during("read"))
    }

    fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let path = self.status().path.clone();
        stream::stream(Arc::clone(&self.0), range)
            .map_err(move |error| error.at(&path).during("read"))
            .boxed()
    }

    fn stats(&self) -> ReadStats {
        self.0.counters.snapshot()
    }
}
