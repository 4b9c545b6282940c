//! Several ranges in flight, delivered in order.
//!
//! The range is cut into segments; each is fetched by a task of its own that sends its
//! bytes as they come. The number in flight doubles with each segment that was taken
//! whole. Reading ahead is paid from the budget; the segment that is needed next goes
//! ahead in any case. Dropping the stream ends all tasks.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::fetch::{Fetcher, Piece, StreamMark};
use super::plan::{self, Window};
use super::reader::Handle;
use crate::error::Result;

/// One segment under way. Its channel holds at most the bytes of the segment.
struct Segment {
    bytes: mpsc::UnboundedReceiver<Result<Bytes>>,
    _task: AbortOnDropHandle<()>,
    _share: Option<OwnedSemaphorePermit>,
}

struct Flow {
    handle: Arc<Handle>,
    mark: StreamMark,
    wanted: Range<u64>,
    fetcher: Fetcher,
    waiting: VecDeque<Range<u64>>,
    active: VecDeque<Segment>,
    window: Window,
    ended: bool,
}

/// The bytes of a range, in order.
pub(crate) fn stream(handle: Arc<Handle>, wanted: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let mark = StreamMark::new(handle.client.next_lane());
    let fetcher = marked(&handle, &mark);
    let flow = Flow {
        window: Window::new(handle.client.config.read.parallel),
        waiting: cut(&fetcher, &wanted),
        active: VecDeque::new(),
        fetcher,
        handle,
        mark,
        wanted,
        ended: false,
    };
    futures::stream::unfold(flow, |mut flow| async {
        let item = flow.next().await?;
        Some((item, flow))
    })
    .boxed()
}

fn marked(handle: &Handle, mark: &StreamMark) -> Fetcher {
    Fetcher {
        stream: Some(mark.clone()),
        ..handle.fetcher()
    }
}

fn cut(fetcher: &Fetcher, wanted: &Range<u64>) -> VecDeque<Range<u64>> {
    let config = &fetcher.client.config.read;
    let end = wanted.end.min(fetcher.pin.length());
    let range = wanted.start.min(end)..end;
    plan::segments(range, config.part.get(), config.whole_object.get()).into()
}

impl Flow {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        while !self.ended {
            self.fill_window();
            let head = self.active.front_mut()?;
            match head.bytes.recv().await {
                Some(Ok(bytes)) => {
                    self.handle.returned();
                    return Some(Ok(bytes));
                }
                Some(Err(error)) => match self.handle.reopen(&error).await {
                    Ok(true) => self.restart(),
                    Ok(false) => return self.end(error),
                    Err(error) => return self.end(error),
                },
                None => {
                    self.active.pop_front();
                    self.window.grow();
                }
            }
        }
        None
    }

    fn end(&mut self, error: crate::error::FsError) -> Option<Result<Bytes>> {
        self.ended = true;
        self.active.clear();
        Some(Err(error))
    }

    /// The handle is pinned to another version now, and nothing was handed out yet.
    fn restart(&mut self) {
        self.active.clear();
        self.fetcher = marked(&self.handle, &self.mark);
        self.waiting = cut(&self.fetcher, &self.wanted);
    }

    fn fill_window(&mut self) {
        while self.active.len() < self.window.size()
            && let Some(range) = self.waiting.front()
        {
            let share = self.handle.client.budget.take(range.end - range.start);
            if share.is_none() && !self.active.is_empty() {
                return;
            }
            if let Some(range) = self.waiting.pop_front() {
                let segment = begin(self.fetcher.clone(), range, share);
                self.active.push_back(segment);
            }
        }
    }
}

fn begin(fetcher: Fetcher, range: Range<u64>, share: Option<OwnedSemaphorePermit>) -> Segment {
    let (sender, bytes) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        if let Err(error) = fetch(&fetcher, range, &sender).await {
            // Whoever took the bytes may be gone.
            let _ = sender.send(Err(error));
        }
    });
    Segment {
        bytes,
        _task: AbortOnDropHandle::new(task),
        _share: share,
    }
}

/// Sends a segment: what the nodes have as it comes, and each gap as one request.
async fn fetch(
    fetcher: &Fetcher,
    range: Range<u64>,
    sender: &mpsc::UnboundedSender<Result<Bytes>>,
) -> Result<()> {
    fetcher.check_mount().await?;
    let mut order = Order {
        at: range.start,
        early: BTreeMap::new(),
        sender,
    };
    warm(fetcher, &range, &mut order).await;
    while order.at < range.end {
        let gap = order.gap(range.end);
        let grid = fetcher.client.config.read.min_fetch.get();
        let wide = plan::widen(std::slice::from_ref(&gap), grid, fetcher.pin.length());
        let wide = wide.into_iter().next().unwrap_or(gap.clone());
        let mut pieces = fetcher.cold(wide).await?;
        while let Some(piece) = pieces.next().await {
            if let Some(piece) = piece?.within(&gap) {
                order.take(piece);
            }
        }
    }
    Ok(())
}

/// What the nodes have.
async fn warm(fetcher: &Fetcher, range: &Range<u64>, order: &mut Order<'_>) {
    // It holds at most the bytes of the range.
    let (sink, mut pieces) = mpsc::unbounded_channel();
    let asking = fetcher.cached_into(range, sink);
    let taking = async {
        while let Some(piece) = pieces.recv().await {
            order.take(piece);
        }
    };
    // The one who is asked lets go of the channel when everything is there.
    tokio::join!(asking, taking);
}

/// Puts pieces in order. Those of several blocks come side by side.
struct Order<'a> {
    /// Up to here everything was handed on.
    at: u64,
    /// What came before its turn.
    early: BTreeMap<u64, Piece>,
    sender: &'a mpsc::UnboundedSender<Result<Bytes>>,
}

impl Order<'_> {
    fn take(&mut self, piece: Piece) {
        if piece.at > self.at {
            self.early.insert(piece.at, piece);
            return;
        }
        self.hand_on(piece);
        while let Some(next) = self.early.first_entry().filter(|e| *e.key() <= self.at) {
            let next = next.remove();
            self.hand_on(next);
        }
    }

    /// Without what was handed on before: a piece may come twice.
    fn hand_on(&mut self, piece: Piece) {
        if let Some(rest) = piece.within(&(self.at..u64::MAX)) {
            self.at = rest.range().end;
            // Whoever takes the bytes may be gone.
            let _ = self.sender.send(Ok(rest.bytes));
        }
    }

    /// What is missing next.
    fn gap(&self, end: u64) -> Range<u64> {
        let next = self.early.first_key_value().map(|(at, _)| *at);
        self.at..next.unwrap_or(end)
    }
}
