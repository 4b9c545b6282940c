//! What this machine can do without us: the limits that measurements stand beside.
//!
//! TCP over loopback carries bytes, and small messages to and fro; memory is copied. `bench`
//! measures them in its own process, both ends together, right after its workload; the row
//! harness of `benches/` runs each end as a process of its own. Congestion control is cubic,
//! as block nodes have it on loopback.
//!
//! What is sent are more different bytes than a processor keeps, as in a file: a message that
//! is sent again and again stays in its cache, and is sent about half as fast again.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of one write, and of one copy.
const FRAME: usize = 1 << 20;
/// Different bytes that are sent, by all connections together.
const PAYLOAD: usize = 64 << 20;
/// Bytes of a small message.
const SMALL: usize = 64;

/// A listener on a free port of loopback.
///
/// # Errors
/// No port, or a kernel without cubic.
pub async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    rustix::net::sockopt::set_tcp_congestion(&listener, "cubic")?;
    Ok(listener)
}

/// Sends so many bytes to the first `streams` that connect, each a share; less where they
/// leave before that.
///
/// # Errors
/// Of the sockets, but not that a receiver has left.
pub async fn send(listener: TcpListener, streams: usize, bytes: usize) -> io::Result<()> {
    let mut sockets = Vec::new();
    for _ in 0..streams.max(1) {
        sockets.push(listener.accept().await?.0);
    }
    let frames = bytes / FRAME / sockets.len();
    let payload = Arc::new(vec![7; PAYLOAD]);
    let sending = sockets.into_iter().map(|mut socket| {
        let payload = Arc::clone(&payload);
        tokio::spawn(async move {
            for frame in payload.chunks(FRAME).cycle().take(frames) {
                socket.write_all(frame).await?;
            }
            socket.shutdown().await
        })
    });
    for sent in try_join_all(sending).await? {
        sent.or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
            _ => Err(error),
        })?;
    }
    Ok(())
}

/// Receives by so many connections and discards, to the end or for so long; bytes a second.
///
/// # Errors
/// Of the sockets.
pub async fn receive(address: &str, streams: usize, longest: Option<Duration>) -> io::Result<f64> {
    let mut sockets = Vec::new();
    for _ in 0..streams.max(1) {
        sockets.push(TcpStream::connect(address).await?);
    }
    let started = Instant::now();
    let end = longest.map(|longest| started + longest);
    let receiving = sockets
        .into_iter()
        .map(|socket| tokio::spawn(discard(socket, end)));
    let mut bytes = 0;
    for received in try_join_all(receiving).await? {
        bytes += received?;
    }
    Ok(bytes as f64 / started.elapsed().as_secs_f64())
}

async fn discard(mut socket: TcpStream, end: Option<Instant>) -> io::Result<usize> {
    let mut frame = vec![0; FRAME];
    let mut bytes = 0;
    while end.is_none_or(|end| Instant::now() < end) {
        match socket.read(&mut frame).await? {
            0 => break,
            read => bytes += read,
        }
    }
    Ok(bytes)
}

/// Sends back what the first that comes sends, until it leaves.
///
/// # Errors
/// Of the sockets.
pub async fn pong(listener: TcpListener) -> io::Result<()> {
    let (mut socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    let mut message = [0; SMALL];
    while socket.read_exact(&mut message).await.is_ok() {
        socket.write_all(&message).await?;
    }
    Ok(())
}

/// Sends a small message and waits for it, so many times or for so long; microseconds of
/// each, ascending.
///
/// # Errors
/// Of the sockets.
pub async fn ping(address: &str, turns: usize, longest: Duration) -> io::Result<Vec<f64>> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let end = Instant::now() + longest;
    let mut message = [7; SMALL];
    let mut micros = Vec::new();
    while micros.len() < turns {
        let started = Instant::now();
        if started >= end {
            break;
        }
        socket.write_all(&message).await?;
        socket.read_exact(&mut message).await?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    Ok(micros)
}

/// Bytes a second that TCP over loopback carries by so many connections, both ends here.
///
/// # Errors
/// Of the sockets.
pub async fn loopback(streams: usize, longest: Duration) -> io::Result<f64> {
    let listener = listen().await?;
    let address = listener.local_addr()?.to_string();
    let sending = tokio::spawn(send(listener, streams, usize::MAX));
    let rate = receive(&address, streams, Some(longest)).await;
    sending.abort();
    rate
}

/// Small messages to and fro a second over so many connections, one under way on each, both
/// ends here.
///
/// # Errors
/// Of the sockets.
pub async fn ping_pong(streams: usize, longest: Duration) -> io::Result<f64> {
    let started = Instant::now();
    let pairs = (0..streams.max(1)).map(|_| async move {
        let listener = listen().await?;
        let address = listener.local_addr()?.to_string();
        let other = tokio::spawn(pong(listener));
        let pinging = async move { ping(&address, usize::MAX, longest).await };
        let done = tokio::spawn(pinging).await?;
        other.abort();
        done.map(|micros| micros.len())
    });
    let turns: usize = try_join_all(pairs).await?.into_iter().sum();
    Ok(turns as f64 / started.elapsed().as_secs_f64())
}

/// Bytes a second that one thread copies from memory to memory, `request` at a time, each
/// into memory of its own as a caller gets it. Blocks its thread.
pub fn copy(request: usize, longest: Duration) -> f64 {
    let from = vec![7u8; request.clamp(4096, 64 << 20)];
    let started = Instant::now();
    let mut bytes = 0;
    while started.elapsed() < longest {
        black_box(from.to_vec());
        bytes += from.len();
    }
    bytes as f64 / started.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_limit_ends_in_time_and_is_something() {
        assert!(loopback(2, SHORT).await.unwrap() > 0.0);
        assert!(ping_pong(2, SHORT).await.unwrap() > 0.0);
        assert!(copy(1 << 20, SHORT) > 0.0);
    }

    #[tokio::test]
    async fn what_is_sent_is_received() {
        let listener = listen().await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sending = tokio::spawn(send(listener, 1, 3 * FRAME));
        let rate = receive(&address, 1, None).await.unwrap();
        sending.await.unwrap().unwrap();
        assert!(rate > 0.0);
    }
}
