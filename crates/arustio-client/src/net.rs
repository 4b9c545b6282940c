//! Connections to and between our own servers.
//!
//! One thing differs from the library's default: a peer on this machine is spoken to with
//! the cubic congestion control, from both ends. A machine's default may be BBR, which
//! paces, and pacing halves the rate of loopback. It is not a setting: where it cannot be
//! set nothing is lost.

use std::io;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Error};

/// A connection that is made when it is first used, and again after it was lost.
pub(crate) fn channel(endpoint: &Endpoint) -> Channel {
    endpoint.connect_with_connector_lazy(tower::service_fn(connect_uri))
}

/// A connection that is made now, within the time that the endpoint gives it.
///
/// # Errors
///
/// Why it could not be made; nothing was sent.
pub async fn channel_now(endpoint: &Endpoint) -> Result<Channel, Error> {
    let connector = tower::service_fn(connect_uri);
    endpoint.connect_with_connector(connector).await
}

/// Speaks to a peer on this machine with the cubic congestion control; other peers are
/// left with the machine's default.
pub fn spare_loopback(stream: &TcpStream) {
    let peer = stream.peer_addr();
    if peer.is_ok_and(|peer| peer.ip().to_canonical().is_loopback()) {
        // Where it is not to be had the machine's default will do.
        let _ = rustix::net::sockopt::set_tcp_congestion(stream, "cubic");
    }
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
    spare_loopback(&stream);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_peer_on_this_machine_is_spoken_to_with_cubic() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else {
                // A machine without IPv6.
                continue;
            };
            if set_tcp_congestion(&listener, "cubic").is_err() {
                // Not to be had here: nothing is asked of the machine's default.
                return;
            }
            // Every kernel has this one, and lets everybody use it.
            set_tcp_congestion(&listener, "reno").unwrap();
            let uri = format!("http://{}", listener.local_addr().unwrap());
            let (made, accepted) =
                tokio::join!(connect_uri(uri.parse().unwrap()), listener.accept());
            let (made, (accepted, _)) = (made.unwrap().into_inner(), accepted.unwrap());
            assert_eq!(tcp_congestion(&made).unwrap(), "cubic");
            assert_eq!(tcp_congestion(&accepted).unwrap(), "reno");
            spare_loopback(&accepted);
            assert_eq!(tcp_congestion(&accepted).unwrap(), "cubic");
        }
    }
}
