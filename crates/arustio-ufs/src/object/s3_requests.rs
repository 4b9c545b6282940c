//! Signed requests of our own: what `object_store` lacks, or does without a condition.
//!
//! Signed by its public [`AwsAuthorizer`], sent by the client that it uses itself.
//! This file knows how a request is put together; what the requests are for stands in
//! the files beside it.
//!
//! A key with a `.` or `..` component cannot be sent: HTTP clients fold it away, and the
//! request would name another object. Such keys are refused here, and listed all the
//! same (U3).

use std::time::Duration;

use arustio_types::UfsKey;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody, HttpResponse};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::fault::{Fault, Refusal};
use super::http::answer;
use super::s3_settings::S3Settings;

/// What stays as it is in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// What stays as it is in a path.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// A header that says nothing when its value cannot be stated.
pub(super) type Header<'a> = (&'static str, &'a str);

/// Sends signed requests to one bucket.
#[derive(Debug)]
pub(super) struct Requests {
    http: HttpClient,
    credentials: AwsCredentialProvider,
    bucket: String,
    bucket_url: String,
    region: String,
    request_payer: bool,
    encryption: HeaderMap,
}

/// One request, before it is signed.
#[derive(Debug, Default)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) key: Option<&'a UfsKey>,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: &'a [Header<'a>],
    /// Headers of another object that are carried over.
    pub(super) carried: HeaderMap,
    /// The request makes an object, which is encrypted as the mount says.
    pub(super) encrypts: bool,
    pub(super) body: Bytes,
}

impl Requests {
    /// Requests to the bucket of `settings`.
    pub(super) fn new(
        http: HttpClient,
        credentials: AwsCredentialProvider,
        settings: &S3Settings,
    ) -> Self {
        Self {
            http,
            credentials,
            bucket: settings.bucket.clone(),
            bucket_url: settings.bucket_url(),
            region: settings.region.clone(),
            request_payer: settings.request_payer,
            encryption: settings.encryption_headers(),
        }
    }

    /// Sends a request and gives the beginning of its answer.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<HttpResponse, Fault> {
        let mut request = self.build(ask)?;
        self.signed(&mut request).await?;
        let sent = self.http.execute(request).await;
        sent.map_err(|error| Fault::of(&error))
    }

    /// Sends a request and reads its answer as a whole.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Vec<u8>, Fault> {
        let response = self.send(ask).await?;
        answer(response.into_body()).await
    }

    /// Whether there are credentials to sign with; asked before `object_store` signs, so
    /// that a missing one is not taken for a store that cannot be reached.
    pub(super) async fn has_credentials(&self) -> Result<(), Fault> {
        let found = self.credentials.get_credential().await;
        found.map(drop).map_err(|_| no_credentials())
    }

    /// The value of `x-amz-copy-source`.
    pub(super) fn copy_source(&self, key: &UfsKey) -> String {
        format!(
            "/{}/{}",
            self.bucket,
            utf8_percent_encode(key.as_str(), PATH)
        )
    }

    fn build(&self, ask: Ask<'_>) -> Result<HttpRequest, Fault> {
        let mut request = HttpRequest::new(HttpRequestBody::from(ask.body));
        *request.method_mut() = ask.method;
        *request.headers_mut() = ask.carried;
        let url = self.url(ask.key, ask.query)?;
        let url = url
            .parse()
            .map_err(|_| refused_key("it is too long for a request"))?;
        *request.uri_mut() = url;
        if ask.encrypts {
            request.headers_mut().extend(self.encryption.clone());
        }
        for (name, value) in ask.headers {
            let value = HeaderValue::from_str(value);
            let value = value.map_err(|_| refused_key("it cannot stand in a header"))?;
            request
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        Ok(request)
    }

    async fn signed(&self, request: &mut HttpRequest) -> Result<(), Fault> {
        let credential = self
            .credentials
            .get_credential()
            .await
            .map_err(|_| no_credentials())?;
        let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_request_payer(self.request_payer);
        let signed = authorizer.try_authorize(request, None);
        signed.map_err(|error| Fault::BadAnswer(format!("the request cannot be signed: {error}")))
    }

    fn url(&self, key: Option<&UfsKey>, query: &[(&str, &str)]) -> Result<String, Fault> {
        let mut url = self.bucket_url.clone();
        if let Some(key) = key {
            if key
                .as_str()
                .split('/')
                .any(|part| part == "." || part == "..")
            {
                return Err(refused_key(
                    "a component '.' or '..' cannot be sent over HTTP",
                ));
            }
            url.push('/');
            url.extend(utf8_percent_encode(key.as_str(), PATH));
        }
        for (index, (name, value)) in query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, QUERY));
        }
        Ok(url)
    }
}

/// Ends a request that takes longer than it may; dropping it closes its connection.
pub(super) async fn within<T>(
    deadline: Duration,
    request: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(deadline, request).await {
        Ok(result) => result,
        Err(_) => Err(Fault::TimedOut(deadline)),
    }
}

fn no_credentials() -> Fault {
    Fault::NoCredentials(
        "there are none: give -o access_key_id and -o secret_access_key, set AWS_ACCESS_KEY_ID \
         and AWS_SECRET_ACCESS_KEY, or use a profile"
            .to_owned(),
    )
}

fn refused_key(why: &str) -> Fault {
    Fault::Refused(Refusal {
        status: 400,
        message: format!("the key cannot be used: {why}"),
        ..Refusal::default()
    })
}
