//! Connections to our own servers.
//!
//! One thing differs from the library's default: a peer on this machine is spoken to with
//! the cubic congestion control. A machine's default may be BBR, which paces, and pacing
//! halves the rate of loopback. It is not a setting: where it cannot be set nothing is lost.

use std::io;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// A connection that is made when it is first used, and again after it was lost.
pub(crate) fn channel(endpoint: &Endpoint) -> Channel {
    endpoint.connect_with_connector_lazy(tower::service_fn(connect_uri))
}

async fn connect_uri(uri: Uri) -> io::Result<TokioIo<TcpStream>> {
    let authority = uri.authority().ok_or_else(missing)?;
    connect(authority.as_str()).await.map(TokioIo::new)
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "an address is missing")
}

/// A connection to `host:port` that sends small messages at once.
pub(crate) async fn connect(address: &str) -> io::Result<TcpStream> {
    let (host, port) = address.rsplit_once(':').ok_or_else(missing)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().map_err(|_| missing())?;
    // A name that is not found is a host that is not reached: nothing was sent.
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|error| io::Error::new(io::ErrorKind::HostUnreachable, error))?;
    let stream = TcpStream::connect(found.collect::<Vec<_>>().as_slice()).await?;
    stream.set_nodelay(true)?;
    if stream.peer_addr()?.ip().is_loopback() {
        // Where it is not to be had the machine's default will do.
        let _ = rustix::net::sockopt::set_tcp_congestion(&stream, "cubic");
    }
    Ok(stream)
}
