//! One HTTP client for `object_store` and for our own requests.
//!
//! Every answer of the store that is no success becomes a typed [`Refusal`], before
//! `object_store` turns it into text. What it says is bounded before it is read.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use http::HeaderMap;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};

use super::fault::{Fault, Refusal, shorten};
use super::s3_answers::ErrorAnswer;

/// Longest answer that is read as a whole.
const LONGEST_ANSWER: usize = 16 << 20;
/// Longest refusal that is read.
const LONGEST_REFUSAL: usize = 64 << 10;
/// For a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// For the next byte of an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// For the peer to acknowledge what was sent (P5).
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// Idle connections kept for each host.
const IDLE: usize = 64;

/// A client that turns what `authority` refuses into a [`Refusal`].
pub(super) fn client(authority: &str) -> Result<HttpClient, reqwest::Error> {
    let client = reqwest::Client::builder()
        .http1_only()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .tcp_user_timeout(UNACKNOWLEDGED)
        .tcp_keepalive(Duration::from_secs(15))
        .pool_max_idle_per_host(IDLE)
        .pool_idle_timeout(Duration::from_secs(20))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("arustio/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(HttpClient::new(Strict {
        inner: HttpClient::new(client),
        authority: authority.to_owned(),
    }))
}

/// Gives `object_store` our client instead of one of its own.
#[derive(Debug)]
pub(super) struct Connector(pub(super) HttpClient);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

#[derive(Debug)]
struct Strict {
    inner: HttpClient,
    authority: String,
}

#[async_trait]
impl HttpService for Strict {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let authority = request
            .uri()
            .authority()
            .map(|authority| authority.as_str());
        // Credential services are asked through the same client; they are read as they are.
        let ours = authority == Some(self.authority.as_str());
        let answer = self.inner.execute(request).await?;
        if !ours || answer.status().is_success() {
            return Ok(answer);
        }
        let (parts, body) = answer.into_parts();
        let text = collect(body, LONGEST_REFUSAL).await.unwrap_or_default();
        let refusal = refusal(parts.status.as_u16(), &parts.headers, &text);
        Err(HttpError::new(HttpErrorKind::Unknown, refusal))
    }
}

fn refusal(status: u16, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let said = ErrorAnswer::parse(body).unwrap_or_default();
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let size = header("content-range").and_then(|range| range.rsplit('/').next()?.parse().ok());
    Refusal {
        status,
        code: shorten(&said.code),
        message: shorten(&said.message),
        size,
        region: header("x-amz-bucket-region").map(shorten),
    }
}

/// Reads an answer that has to be small.
pub(super) async fn answer(body: HttpResponseBody) -> Result<Vec<u8>, Fault> {
    collect(body, LONGEST_ANSWER).await
}

async fn collect(body: HttpResponseBody, at_most: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let mut pieces = body.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Fault::of(&error))?;
        if bytes.len() + piece.len() > at_most {
            return Err(Fault::BadAnswer(format!(
                "it is longer than {at_most} bytes"
            )));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
