//! Bodies on their way through the front door: counted in, counted out, and
//! cut short where a fault says so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use s3s::StdError;

use super::exchange::Exchange;

/// A request's body, counted. Whoever drops it before its end leaves the rest
/// in the [`Remainder`].
#[derive(Debug)]
pub(crate) struct CountedBody {
    inner: Option<Incoming>,
    exchange: Arc<Exchange>,
    remainder: Remainder,
}

/// Where the unread rest of a request's body is left.
pub(crate) type Remainder = Arc<Mutex<Option<Incoming>>>;

impl CountedBody {
    pub(crate) fn new(body: Incoming, exchange: Arc<Exchange>) -> (Self, Remainder) {
        let remainder = Remainder::default();
        let counted = Self {
            inner: Some(body),
            exchange,
            remainder: Arc::clone(&remainder),
        };
        (counted, remainder)
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, Bytes::len);
                let stats = self.exchange.stats();
                stats.received(self.exchange.operation(), len as u64);
            }
            Some(Err(_)) | None => self.inner = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        *self.remainder.lock() = self.inner.take().filter(|body| !body.is_end_stream());
    }
}

/// Reads and discards what is left of a request's body, so that a refused
/// client finds the answer and not a broken connection. Gives up behind
/// `limit` bytes.
pub(crate) async fn discard(remainder: &Remainder, limit: u64) {
    let Some(mut body) = remainder.lock().take() else {
        return;
    };
    let mut seen = 0;
    while seen < limit {
        let next = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(Ok(frame)) = next else { return };
        seen += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
}

/// An answer's body, counted and perhaps cut.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    inner: s3s::Body,
    exchange: Arc<Exchange>,
    cut: Cut,
}

/// Where a body ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nowhere.
    No,
    /// It ends well after so many bytes.
    Short(u64),
    /// It breaks off after so many bytes, `flushed` once these are sent.
    Break { left: u64, flushed: bool },
}

impl AnswerBody {
    pub(crate) fn new(inner: s3s::Body, exchange: Arc<Exchange>, cut: Cut) -> Self {
        Self {
            inner,
            exchange,
            cut,
        }
    }

    /// Cuts a frame to what may still be sent.
    fn trim(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let left = match &mut self.cut {
            Cut::No => return frame,
            Cut::Short(left) | Cut::Break { left, .. } => left,
        };
        let Ok(mut data) = frame.into_data() else {
            return Frame::data(Bytes::new());
        };
        data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= data.len() as u64;
        Frame::data(data)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        match &mut self.cut {
            Cut::Short(0) => return Poll::Ready(None),
            // One turn without a frame makes the connection send what it has.
            Cut::Break { left: 0, flushed } if !*flushed => {
                *flushed = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Cut::Break { left: 0, .. } => {
                return Poll::Ready(Some(Err("an injected fault".into())));
            }
            Cut::No | Cut::Short(_) | Cut::Break { .. } => {}
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        let frame = self.trim(frame);
        let len = frame.data_ref().map_or(0, Bytes::len);
        self.exchange
            .stats()
            .sent(self.exchange.operation(), len as u64);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self.cut {
            Cut::No => self.inner.is_end_stream(),
            Cut::Short(left) => left == 0,
            Cut::Break { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.cut {
            Cut::Short(left) => SizeHint::with_exact(left),
            // A broken body promises all of it.
            Cut::No | Cut::Break { .. } => self.inner.size_hint(),
        }
    }
}
