//! A client that sends exactly what it is told, signed (version 4).
//!
//! Ordinary clients cannot be used for much of this: they normalise `..` and
//! `//` away, retry, and hide what a broken connection looked like.

use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Percent-encodes everything but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// Signs and sends, one connection for each request.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    host: String,
    access_key: String,
    secret_key: String,
}

/// A request that is being put together.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Bytes,
}

/// An answer, whole or broken off.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// `Err` holds what arrived before the body broke off.
    pub(crate) body: Result<Bytes, Bytes>,
}

impl Client {
    pub(crate) fn new(endpoint: &str, access_key: &str, secret_key: &str) -> Self {
        Self {
            host: endpoint.strip_prefix("http://").unwrap().to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
        }
    }

    /// A request for `/bucket/key`, not encoded yet.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call {
            client: self,
            method: method.parse().unwrap(),
            path: encode_path(path),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) async fn put(&self, key: &str, body: impl Into<Bytes>) -> Answer {
        self.call("PUT", &format!("/data/{key}"))
            .body(body)
            .send()
            .await
    }

    pub(crate) async fn get(&self, key: &str) -> Answer {
        self.call("GET", &format!("/data/{key}")).send().await
    }

    pub(crate) async fn delete(&self, key: &str) -> Answer {
        self.call("DELETE", &format!("/data/{key}")).send().await
    }
}

impl Answer {
    /// The whole body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.as_ref().unwrap().to_vec()).unwrap()
    }

    /// One header as text, empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn etag(&self) -> String {
        self.header("etag").to_owned()
    }

    /// The content of every `<tag>` in an XML body, entities resolved.
    pub(crate) fn all(&self, tag: &str) -> Vec<String> {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let text = self.text();
        let parts = text.split(&open).skip(1);
        parts
            .map(|part| unescape(part.split(&close).next().unwrap()))
            .collect()
    }

    pub(crate) fn one(&self, tag: &str) -> String {
        let all = self.all(tag);
        assert_eq!(all.len(), 1, "<{tag}> in {}", self.text());
        all.into_iter().next().unwrap()
    }

    /// The status and the code of the error in the body.
    pub(crate) fn error(&self) -> (u16, String) {
        (self.status.as_u16(), self.one("Code"))
    }
}

fn unescape(text: &str) -> String {
    let text = text
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    text.replace("&apos;", "'").replace("&amp;", "&")
}

impl Call<'_> {
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((encode(name), encode(value)));
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it; panics if the connection ends without an answer.
    pub(crate) async fn send(self) -> Answer {
        self.try_send().await.unwrap()
    }

    /// Sends it; `Err` if the connection ends without an answer.
    pub(crate) async fn try_send(self) -> Result<Answer, hyper::Error> {
        let stream = TcpStream::connect(&self.client.host).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let talking = tokio::spawn(connection);
        let response = sender.send_request(self.sign()).await?;
        let (parts, body) = response.into_parts();
        let body = collect(body).await;
        drop(sender);
        talking.abort();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// Sends it and leaves the body where it is.
    pub(crate) async fn send_streaming(self) -> hyper::body::Incoming {
        let stream = TcpStream::connect(&self.client.host).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(self.sign()).await.unwrap().into_body()
    }

    /// The request without a body, as it goes over the wire.
    pub(crate) fn as_text(&self) -> String {
        let request = self.sign();
        let mut text = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            text += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        text + "\r\n"
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the server checks the date of a signature against the real clock"
    )]
    fn sign(&self) -> Request<Full<Bytes>> {
        let now = chrono::Utc::now();
        let date = now.format("%Y%m%d").to_string();
        let time = now.format("%Y%m%dT%H%M%SZ").to_string();
        let payload = hex::encode(Sha256::digest(&self.body));
        let query = self.canonical_query();

        let mut headers = self.headers.clone();
        headers.push(("host".to_owned(), self.client.host.clone()));
        headers.push(("x-amz-date".to_owned(), time.clone()));
        headers.push(("x-amz-content-sha256".to_owned(), payload.clone()));
        headers.sort();
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let canonical = format!(
            "{}\n{}\n{query}\n{lines}\n{names}\n{payload}",
            self.method, self.path
        );
        let scope = format!("{date}/us-east-1/s3/aws4_request");
        let digest = hex::encode(Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let secret = format!("AWS4{}", self.client.secret_key);
        let key = [&date, "us-east-1", "s3", "aws4_request"]
            .iter()
            .fold(secret.into_bytes(), |key, part| hmac(&key, part));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.client.access_key,
            hex::encode(hmac(&key, &to_sign))
        );

        let separator = if query.is_empty() { "" } else { "?" };
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("{}{separator}{query}", self.path))
            .header("authorization", authorization);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body.clone())).unwrap()
    }

    fn canonical_query(&self) -> String {
        let mut query = self.query.clone();
        query.sort();
        let pairs: Vec<_> = query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("&")
    }
}

async fn collect(mut body: hyper::body::Incoming) -> Result<Bytes, Bytes> {
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => seen.extend_from_slice(frame.data_ref().unwrap()),
            Err(_) => return Err(seen.into()),
        }
    }
    Ok(seen.into())
}

fn hmac(key: &[u8], data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
