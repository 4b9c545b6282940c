//! A failure as it travels in a gRPC status.
//!
//! The status carries the kind as its code for whoever only knows gRPC, and the whole
//! failure as an `ErrorDetail` in its details. A status without details was not made by
//! us but by the transport: for callers that means "not reachable now, or the outcome
//! never arrived", which is [`ErrorKind::Unavailable`] and repeated with the same
//! request id.

use std::fmt;

use arustio_types::{Classify, ErrorKind, FsPath};
use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};

use crate::common::v1::ErrorDetail;

/// What went wrong on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the caller should do.
    pub kind: ErrorKind,
    /// One line for people, without secrets.
    pub message: String,
    /// On what.
    pub path: Option<FsPath>,
    /// Where the leader is thought to be.
    pub leader: Option<String>,
    /// Our own service said so; otherwise the transport did, and what was asked for may
    /// or may not have happened.
    pub answered: bool,
}

impl Failure {
    /// A failure that our own service states.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            path: None,
            leader: None,
            answered: true,
        }
    }

    /// A failure with the kind and the message of an error.
    pub fn of<E: Classify>(error: &E) -> Self {
        Self::new(error.kind(), error.to_string())
    }

    /// Says on what.
    #[must_use]
    pub fn on(mut self, path: &FsPath) -> Self {
        self.path = Some(path.clone());
        self
    }

    /// Says where the leader is thought to be.
    #[must_use]
    pub fn with_leader(mut self, leader: Option<String>) -> Self {
        self.leader = leader;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Classify for Failure {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let detail = ErrorDetail {
            kind: failure.kind.code(),
            message: failure.message.clone(),
            path: failure
                .path
                .map(|path| path.as_str().to_owned())
                .unwrap_or_default(),
            leader: failure.leader.unwrap_or_default(),
        };
        let details = Bytes::from(detail.encode_to_vec());
        Status::with_details(code(failure.kind), failure.message, details)
    }
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let detail = ErrorDetail::decode(status.details()).ok();
        let known = detail.and_then(|detail| Some((ErrorKind::from_code(detail.kind)?, detail)));
        match known {
            Some((kind, detail)) => Self {
                kind,
                message: detail.message,
                path: FsPath::new(&detail.path).ok(),
                leader: Some(detail.leader).filter(|leader| !leader.is_empty()),
                answered: true,
            },
            None => Self {
                kind: transport_kind(status.code()),
                message: transport_message(status),
                path: None,
                leader: None,
                answered: false,
            },
        }
    }
}

/// The gRPC code of a kind.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::NotADirectory => Code::FailedPrecondition,
        ErrorKind::IsADirectory => Code::FailedPrecondition,
        ErrorKind::NotEmpty => Code::FailedPrecondition,
        ErrorKind::InvalidPath => Code::InvalidArgument,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::ReadOnly => Code::FailedPrecondition,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::Stale => Code::Aborted,
        ErrorKind::NoSpace => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Unknown => Code::Unknown,
        ErrorKind::Internal => Code::Internal,
    }
}

/// What a status means that our services did not make.
fn transport_kind(code: Code) -> ErrorKind {
    match code {
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal | Code::Unavailable => {
            ErrorKind::Unavailable
        }
        Code::Aborted | Code::ResourceExhausted => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
            ErrorKind::InvalidArgument
        }
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::DataLoss => ErrorKind::Corrupt,
    }
}

/// The deepest cause says the most: "connection refused" rather than "transport error".
fn transport_message(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    let mut deepest = None;
    while let Some(error) = cause {
        deepest = Some(error.to_string());
        cause = error.source();
    }
    deepest.unwrap_or_else(|| status.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_its_journey() {
        for kind in ErrorKind::ALL {
            let failure = Failure::new(*kind, "what stood in the way")
                .on(&FsPath::new("/a/b").unwrap())
                .with_leader(Some("host:7411".to_owned()));
            let status = Status::from(failure.clone());
            assert_eq!(status.code(), code(*kind));
            assert_eq!(Failure::from(&status), failure);
        }
    }

    #[test]
    fn a_status_of_the_transport_is_told_apart() {
        let failure = Failure::from(&Status::new(Code::Unknown, "transport error"));
        assert_eq!(failure.kind, ErrorKind::Unavailable);
        assert!(!failure.answered);
        let failure = Failure::from(&Status::deadline_exceeded("late"));
        assert_eq!(failure.kind, ErrorKind::Timeout);
    }
}
