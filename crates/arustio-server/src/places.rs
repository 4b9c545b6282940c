//! So many connections at a time, so that peers cannot use up the descriptors of the process.
//!
//! A connection beyond that is taken and closed at once: a queue of the system in which it
//! waits for ever would tell nobody anything. Where the system itself has no descriptor left,
//! taking is tried again after a pause; without one the attempt would cost a core for as long
//! as that lasts.
//!
//! A peer that says nothing at first would keep its place for ever: what is spoken on top asks
//! for signs of life only once it has been greeted. So the first bytes have to come in time.
//!
//! Frames are bounded where they are spoken ([`crate::data`]), since they can say "busy".

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// After the system refused a connection, for lack of descriptors for example.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// How long a peer may take for its first bytes.
const GREETING: Duration = Duration::from_secs(10);
/// Bytes with which a peer of HTTP/2 begins, and the least that one of HTTP/1 says.
const FIRST_BYTES: usize = 16;

/// Places for connections of one port.
#[derive(Debug)]
pub(crate) struct Places {
    port: &'static str,
    free: Arc<Semaphore>,
    /// The last peer was turned away: said once, and again after one was taken.
    full: bool,
}

/// A connection that gives its place back when it ends.
#[derive(Debug)]
pub(crate) struct Placed {
    stream: TcpStream,
    /// Bytes that have to come, and until when; `None` once they did.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
    _place: OwnedSemaphorePermit,
}

impl Places {
    /// `port` is for the log.
    pub(crate) fn new(port: &'static str, count: usize) -> Self {
        Self {
            port,
            free: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))),
            full: false,
        }
    }

    /// A place for a connection, which is closed where there is none.
    fn seat(&mut self, stream: TcpStream) -> Option<Placed> {
        let place = Arc::clone(&self.free).try_acquire_owned().ok();
        let port = self.port;
        if place.is_none() && !self.full {
            tracing::warn!(port, "all connections are taken; more are closed at once");
        }
        self.full = place.is_none();
        place.map(|place| Placed {
            stream,
            greeting: Some((FIRST_BYTES, Box::pin(sleep(GREETING)))),
            _place: place,
        })
    }

    async fn pause(&self, error: &io::Error) {
        let port = self.port;
        tracing::warn!(port, "cannot take a connection: {error}");
        sleep(PAUSE).await;
    }
}

/// Connections of gRPC as they come; never an error.
pub(crate) fn seated(
    incoming: impl Stream<Item = io::Result<TcpStream>> + Send,
    places: Places,
) -> impl Stream<Item = io::Result<Placed>> {
    let incoming = Box::pin(incoming);
    stream::unfold((incoming, places), |(mut incoming, mut places)| async {
        loop {
            match incoming.next().await? {
                Ok(stream) => {
                    if let Some(placed) = places.seat(stream) {
                        return Some((Ok(placed), (incoming, places)));
                    }
                }
                Err(error) => places.pause(&error).await,
            }
        }
    })
}

/// Connections of HTTP.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) places: Places,
}

impl axum::serve::Listener for Door {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(placed) = self.places.seat(stream) {
                        return (placed, peer);
                    }
                }
                Err(error) => self.places.pause(&error).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected for Placed {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some((left, patience)) = &mut self.greeting else {
            return read;
        };
        *left = left.saturating_sub(buf.filled().len() - before);
        if *left == 0 {
            self.greeting = None;
            return read;
        }
        // Also for one that sends a byte now and then.
        match patience.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => read,
        }
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
