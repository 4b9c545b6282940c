//! One question over HTTP to an address of this machine or of a test: a status and a text.
//!
//! For `arustio-server health`, and for programs that read what servers count. No redirects, no
//! TLS, no connection that is kept: whoever needs those needs another client.

use std::io;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::http::header::{CONNECTION, HOST};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// More than any answer has that we ask for; what is longer is an error.
const LONGEST: usize = 1 << 20;

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// The body.
    pub text: String,
}

/// `GET path` at `address`, such as `127.0.0.1:7413`.
///
/// Has no deadline of its own: dropped, it closes the connection. Fails where nobody listens, where
/// whoever does speaks something else than HTTP, and for an answer that is too long or no text.
pub async fn ask(address: &str, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let request = Request::get(path)
        .header(HOST, address)
        .header(CONNECTION, "close")
        .body(Body::empty())
        .map_err(io::Error::other)?;
    let answered = async move {
        let response = sender.send_request(request).await;
        let (head, body) = response.map_err(io::Error::other)?.into_parts();
        let bytes = to_bytes(Body::new(body), LONGEST).await;
        let text = String::from_utf8(bytes.map_err(io::Error::other)?.into());
        Ok(Answer {
            status: head.status.as_u16(),
            text: text.map_err(io::Error::other)?,
        })
    };
    // How the connection ends is told by the answer, too.
    let (answer, _) = futures::join!(answered, connection);
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What comes of an answer of these bytes.
    async fn asked(bytes: &str) -> io::Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
            // Whoever has read enough may be gone.
            let _ = stream.write_all(bytes.as_bytes()).await;
        };
        let (answer, ()) = futures::join!(ask(&address, "/readyz"), answering);
        answer
    }

    fn answer(status: u16, text: &str) -> Answer {
        let text = text.to_owned();
        Answer { status, text }
    }

    #[tokio::test]
    async fn an_answer_is_its_status_and_its_text() {
        let ready = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nready\n";
        assert_eq!(asked(ready).await.unwrap(), answer(200, "ready\n"));
        let waits = "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n\
                     9\r\nnot ready\r\n5\r\n: why\r\n0\r\n\r\n";
        assert_eq!(asked(waits).await.unwrap(), answer(503, "not ready: why"));
    }

    #[tokio::test]
    async fn what_is_no_http_is_too_long_or_stops_short_is_an_error() {
        assert!(asked("SSH-2.0-x\r\n").await.is_err());
        assert!(asked("").await.is_err());
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nready";
        assert!(asked(short).await.is_err());
        let long = format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(LONGEST + 1));
        assert!(asked(&long).await.is_err());
    }
}
