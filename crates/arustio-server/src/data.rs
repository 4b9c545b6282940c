//! The framed endpoint: block bytes for our own clients.
//!
//! One task for each connection reads requests and answers at once what is in memory;
//! what needs the disk is worked on beside it, a bounded number at a time, and answered
//! when it is done, in any order. A peer that does not take its answers is not read from
//! any more, and closed after a while: it holds up nobody else. Bytes go out as the store
//! lends them, without a copy.
//!
//! - [`socket`]: the UNIX socket in the data folder.
//! - `connection`: greeting, reading, and how it ends.
//! - `request`: from a header to an answer.
//! - `pass`: who gets descriptors, and what is kept for them.
//! - `fill`: leases of clients that bring what is missing.
//! - `running`: reads that a client may give up.
//!
//! # Not here yet
//! Who asks for bytes is not checked, as everywhere in this release. Bytes of the disk tier
//! are read and sent, not sent with `sendfile`: what the store lends of a file has a
//! checksum only for whole chunks, and a client compares every byte that comes through a
//! socket.

mod connection;
mod fill;
mod pass;
mod request;
mod running;
pub(crate) mod socket;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arustio_block::{BlockStore, Fills};
use arustio_client::block::buffers::Buffers;
use arustio_client::block::framed::catch::{Catching, Caught};
use arustio_client::block::framed::outbox::WriteHalf;
use arustio_client::net;
use arustio_proto::frame::{Header, Operation, Status};
use arustio_types::{ClusterId, Incarnation};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blocks::{Budget, Identity};
use crate::config::FramesConfig;
use crate::metrics::{Metrics, Traffic, Way};
use crate::places;
pub(crate) use pass::Lending;
use pass::{Holds, may_have};
use socket::Socket;

/// When a client that found no place may come again.
const AGAIN: u32 = 1000;

/// The cluster, as far as this process knows it by now.
type Cluster = Box<dyn Fn() -> (ClusterId, Incarnation) + Send + Sync>;

/// What all connections share.
pub(crate) struct Endpoint {
    pub(crate) store: Arc<dyn BlockStore>,
    pub(crate) fills: Arc<Fills>,
    /// Connections that there were: each holds its leases under a number of its own.
    pub(crate) holders: AtomicU64,
    pub(crate) identity: Identity,
    pub(crate) cluster: Cluster,
    pub(crate) receiving: Budget,
    pub(crate) sending: Budget,
    pub(crate) lending: Lending,
    /// What writes are received into.
    pub(crate) buffers: Buffers,
    pub(crate) config: FramesConfig,
    pub(crate) metrics: Metrics,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Where frames are spoken.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) tcp: TcpListener,
    pub(crate) unix: Option<Socket>,
}

enum Stream {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listeners {
    /// The next peer. Safe to drop.
    async fn accept(&self) -> io::Result<Stream> {
        let local = async {
            match &self.unix {
                Some(socket) => socket.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.tcp.accept() => accepted.map(|(stream, peer)| Stream::Tcp(stream, peer)),
            accepted = local => accepted.map(Stream::Unix),
        }
    }
}

/// Serves until it is stopped, and until the requests that are under way have ended.
pub(crate) async fn serve(listeners: Listeners, endpoint: Arc<Endpoint>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(endpoint.config.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listeners.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(stream) => welcome(stream, &places, &connections, &endpoint, &stop),
            Err(error) => {
                tracing::warn!("cannot take a connection for frames: {error}");
                tokio::time::sleep(places::PAUSE).await;
            }
        }
    }
    drop(listeners);
    connections.close();
    connections.wait().await;
}

/// Gives a peer a task of its own, or tells it that there is no place.
fn welcome(
    stream: Stream,
    places: &Arc<Semaphore>,
    connections: &TaskTracker,
    endpoint: &Arc<Endpoint>,
    stop: &CancellationToken,
) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        tracing::debug!("no place for another connection of frames");
        turn_away(&stream);
        return;
    };
    let (endpoint, stop) = (Arc::clone(endpoint), stop.clone());
    connections.spawn(async move {
        match stream {
            Stream::Tcp(stream, peer) => {
                // Without it small answers wait for acknowledgements; they still arrive.
                let _ = stream.set_nodelay(true);
                net::spare_loopback(&stream);
                let (read, write) = stream.into_split();
                let write = WriteHalf::Tcp(write);
                let peer = Peer {
                    name: peer.to_string(),
                    is_here: peer.ip().is_loopback(),
                    holds: None,
                    caught: Caught::default(),
                    traffic: endpoint.metrics.traffic(Way::Tcp),
                };
                connection::serve(endpoint, read, write, peer, stop).await;
            }
            Stream::Unix(stream) => {
                let peer = Peer::neighbour(&stream, &endpoint);
                let (read, write) = stream.into_split();
                let read = Catching::new(read, peer.caught.clone());
                let write = WriteHalf::Unix(write);
                connection::serve(endpoint, read, write, peer, stop).await;
            }
        }
        drop(place);
    });
}

/// Who is at the other end.
struct Peer {
    name: String,
    /// On this host.
    is_here: bool,
    /// What is kept for it; `None` for one that gets no descriptors.
    holds: Option<Arc<Holds>>,
    /// Descriptors that it sends; over TCP there are none.
    caught: Caught,
    /// Counts what goes to it and comes from it.
    traffic: Traffic,
}

impl Peer {
    /// Somebody on this host, whose user the system tells.
    fn neighbour(stream: &UnixStream, endpoint: &Endpoint) -> Self {
        let config = &endpoint.config;
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        let own = rustix::process::geteuid().as_raw();
        let may = may_have(config.pass, uid, own);
        let user = uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
        Self {
            name: format!("this host, user {user}"),
            is_here: true,
            holds: may.then(|| Arc::new(Holds::new(config.passes_per_connection))),
            caught: Caught::default(),
            traffic: endpoint.metrics.traffic(Way::Unix),
        }
    }
}

/// One frame, as far as it is taken at once.
fn turn_away(stream: &Stream) {
    let mut busy = Header::answer(Operation::Hello, 0, Status::Busy);
    busy.millis = AGAIN;
    let bytes = busy.encode();
    // Whoever does not get it sees that the connection is closed.
    let _ = match stream {
        Stream::Tcp(stream, _) => stream.try_write(&bytes),
        Stream::Unix(stream) => stream.try_write(&bytes),
    };
}
