//! Connections: accepting them, serving HTTP/1 on them, ending them.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::front::Front;

/// More connections than this wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// How long answers that are under way may take once the server stops.
const GRACE: Duration = Duration::from_secs(1);
/// How long to wait when accepting fails, as it does without free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections until the server stops.
pub(crate) async fn accept(listener: TcpListener, front: Front) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = front.tasks.clone();
    let accepting = async {
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => drop(tasks.spawn(serve(stream, front.clone(), permit))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    front.stopping.run_until_cancelled(accepting).await;
}

async fn serve(stream: TcpStream, front: Front, _permit: OwnedSemaphorePermit) {
    front.stats.connected();
    // Without it small answers wait for acknowledgements; failing changes nothing else.
    let _ = stream.set_nodelay(true);
    let fate = Arc::new(ConnectionFate::default());
    let io = FatefulStream {
        stream,
        fate: Arc::clone(&fate),
    };
    let stopping = front.stopping.clone();
    let handle = service_fn(move |request| front.clone().handle(request, Arc::clone(&fate)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(io), handle);
    let mut connection = pin!(connection);
    // How a connection ended concerns its client; the counters have the rest.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopping.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}

/// Whether a connection shall end by a reset.
#[derive(Debug, Default)]
pub(crate) struct ConnectionFate(AtomicBool);

impl ConnectionFate {
    /// The connection ends by a reset when it is dropped.
    pub(crate) fn reset(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A stream that ends as its fate says: dropping it closes it in good order,
/// or resets it.
#[derive(Debug)]
struct FatefulStream {
    stream: TcpStream,
    fate: Arc<ConnectionFate>,
}

impl Drop for FatefulStream {
    fn drop(&mut self) {
        if self.fate.0.load(Ordering::Relaxed) {
            // A socket closed without lingering sends a reset. Where that
            // cannot be set the client sees a plain end, which is no answer either.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for FatefulStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for FatefulStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fate.0.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
}
