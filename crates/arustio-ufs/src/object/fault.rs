//! What went wrong with a request, before it is known what the request was for.
//!
//! A [`Fault`] is found in whatever error carries it; [`Context`] says what was asked,
//! and the two together are a [`UfsError`].

use std::error::Error;
use std::io;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};

use crate::error::{Place, UfsError};

/// Longest text that is taken from a store into a message.
const LONGEST_TEXT: usize = 300;

/// A store's refusal: a status with whatever it said.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{status} {code} {message}")]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// The store's code, such as `NoSuchKey`; empty when it gave none.
    pub(super) code: String,
    /// The store's words.
    pub(super) message: String,
    /// The length of the object, where a range was refused.
    pub(super) size: Option<u64>,
    /// The region where the bucket is, where it said so.
    pub(super) region: Option<String>,
}

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The store answered no.
    Refused(Refusal),
    /// There was no connection; nothing was sent.
    Unreachable(String),
    /// The connection broke off; the request may have arrived.
    Broken(String),
    /// No answer within this time.
    TimedOut(Duration),
    /// There are no credentials to sign with.
    NoCredentials(String),
    /// The answer makes no sense.
    BadAnswer(String),
}

impl Fault {
    /// Finds the fault in an error of `object_store` or of the HTTP client.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(link) = next {
            if let Some(refusal) = link.downcast_ref::<Refusal>() {
                return Self::Refused(refusal.clone());
            }
            next = link.source();
        }
        let mut next = Some(error);
        while let Some(link) = next {
            if let Some(http) = link.downcast_ref::<HttpError>() {
                return Self::of_http(http);
            }
            next = link.source();
        }
        Self::BadAnswer(shorten(&error.to_string()))
    }

    fn of_http(error: &HttpError) -> Self {
        match error.kind() {
            HttpErrorKind::Connect => Self::Unreachable(unreachable_words(error)),
            HttpErrorKind::Decode => Self::BadAnswer(root_cause(error)),
            _ => Self::Broken(root_cause(error)),
        }
    }
}

/// What an endpoint did instead of taking a connection.
fn unreachable_words(error: &HttpError) -> String {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(link) = next {
        if let Some(io) = link.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return "refused the connection".to_owned(),
                io::ErrorKind::TimedOut => return "did not take the connection in time".to_owned(),
                _ => {}
            }
        }
        next = link.source();
    }
    let cause = root_cause(error);
    if cause.contains("dns") || cause.contains("lookup") {
        return format!("has no address: {cause}");
    }
    if cause.contains("timed out") || cause.contains("elapsed") {
        return "did not take the connection in time".to_owned();
    }
    format!("cannot be reached: {cause}")
}

/// The innermost cause, which says most in fewest words.
fn root_cause(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(link) = next {
        text = link.to_string();
        next = link.source();
    }
    shorten(&text)
}

/// Bounds what a store can put into a message.
pub(super) fn shorten(text: &str) -> String {
    let clean: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST_TEXT)
        .collect();
    clean.trim().to_owned()
}

/// What a precondition that does not hold means for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// The version that was to be read is gone.
    Stale,
    /// The name is taken.
    Exists,
    /// Another version is there.
    Conflict,
}

/// What a request was for.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// What was asked for.
    pub(super) at: Place,
    /// Scheme, host and port of the store.
    pub(super) endpoint: String,
    /// The bucket.
    pub(super) bucket: String,
    /// The request changes something.
    pub(super) mutates: bool,
    /// What a failed precondition means.
    pub(super) lost: Lost,
    /// The range that was asked for.
    pub(super) range: Option<(u64, u64)>,
}

impl Context {
    /// The error that a caller of the trait sees.
    pub(super) fn explain(self, fault: Fault) -> UfsError {
        let at = self.at.clone();
        match fault {
            Fault::Refused(refusal) => self.explain_refusal(refusal),
            Fault::Unreachable(what) => UfsError::Unreachable {
                at,
                endpoint: self.endpoint,
                what,
            },
            Fault::Broken(cause) => UfsError::Unavailable {
                at,
                cause: format!("the connection broke off before the answer: {cause}"),
                unanswered: self.mutates,
            },
            Fault::TimedOut(after) => UfsError::Timeout {
                at,
                after,
                unanswered: self.mutates,
            },
            Fault::NoCredentials(detail) => UfsError::Unauthenticated { at, detail },
            Fault::BadAnswer(what) => UfsError::BadAnswer {
                at,
                what,
                unanswered: self.mutates,
            },
        }
    }

    fn lost_condition(self) -> UfsError {
        match self.lost {
            Lost::Stale => UfsError::Stale { at: self.at },
            Lost::Exists => UfsError::AlreadyExists { at: self.at },
            Lost::Conflict => UfsError::Conflict { at: self.at },
        }
    }

    fn explain_refusal(self, refusal: Refusal) -> UfsError {
        let at = self.at.clone();
        let detail = words(&refusal);
        match (refusal.code.as_str(), refusal.status) {
            ("NoSuchBucket", _) => UfsError::RootMissing {
                ufs: at.ufs,
                what: format!("the bucket {:?}", self.bucket),
            },
            ("NoSuchUpload", _) => UfsError::NotFound { at },
            ("PreconditionFailed", _) | (_, 412 | 304) => self.lost_condition(),
            (_, 404) => UfsError::NotFound { at },
            (
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "RequestTimeTooSkewed"
                | "TokenRefreshRequired"
                | "InvalidSecurity",
                _,
            )
            | (_, 401) => UfsError::Unauthenticated { at, detail },
            (_, 403) => UfsError::PermissionDenied { at, detail },
            (_, 416) => {
                let (start, end) = self.range.unwrap_or_default();
                UfsError::InvalidRange {
                    at,
                    start,
                    end,
                    size: refusal.size.unwrap_or_default(),
                }
            }
            ("XMinioStorageFull" | "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded", _)
            | (_, 507) => UfsError::NoSpace { at, detail },
            ("SlowDown" | "RequestLimitExceeded" | "TooManyRequests", _) | (_, 429 | 503) => {
                UfsError::Busy { at, detail }
            }
            ("ConditionalRequestConflict" | "OperationAborted", _) => UfsError::Unavailable {
                at,
                cause: "another request on this object is under way".to_owned(),
                unanswered: false,
            },
            (_, 409) => UfsError::Conflict { at },
            ("RequestTimeout", _) => UfsError::Unavailable {
                at,
                cause: "the store did not receive the request in time".to_owned(),
                unanswered: false,
            },
            ("EntityTooLarge", _) => UfsError::InvalidArgument {
                at,
                what: "more bytes than the store takes at once".to_owned(),
            },
            (_, 301 | 302 | 307 | 308) => UfsError::InvalidArgument {
                at,
                what: elsewhere(&refusal, &self.bucket),
            },
            (_, 405 | 501) => UfsError::Unsupported {
                at,
                what: "this request",
                instead: "the store does not know it",
            },
            (_, 400..=499) => UfsError::InvalidArgument {
                at,
                what: format!("the store refuses the request: {detail}"),
            },
            // A gateway or a crashed store: nobody knows whether the request got through.
            _ => UfsError::Unavailable {
                at,
                cause: format!("the store failed: {detail}"),
                unanswered: self.mutates,
            },
        }
    }
}

fn elsewhere(refusal: &Refusal, bucket: &str) -> String {
    match &refusal.region {
        Some(region) => {
            format!(
                "the bucket {bucket:?} is in the region {region}; mount it with -o region={region}"
            )
        }
        None => format!("the bucket {bucket:?} is not at this endpoint; check endpoint and region"),
    }
}

fn words(refusal: &Refusal) -> String {
    match (refusal.code.is_empty(), refusal.message.is_empty()) {
        (true, true) => format!("status {}", refusal.status),
        (true, false) => refusal.message.clone(),
        (false, true) => refusal.code.clone(),
        (false, false) => format!("{} ({})", refusal.message, refusal.code),
    }
}
