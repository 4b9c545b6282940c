//! A failure as it travels in a gRPC status.
//!
//! The status carries the kind as its code for whoever only knows gRPC, and the whole
//! failure as an `ErrorDetail` in its details. A status without details was not made by
//! us but by the transport: for callers that means "not reachable now, or the outcome
//! never arrived", which is [`ErrorKind::Unavailable`] and repeated with the same
//! request id.

use std::fmt;

use arustio_types::{Classify, ErrorKind, FsPath, NodeId};
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
    /// The number of the metadata server that is thought to lead.
    pub leader_member: Option<NodeId>,
    /// The server does not lead and did nothing; the leader, or another server, should be
    /// asked.
    pub not_leader: bool,
    /// Our own service said that what was asked for may have been done, or may yet be.
    pub undecided: bool,
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
            leader_member: None,
            not_leader: false,
            undecided: false,
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

    /// The answer of a server that does not lead: nothing was done, and this one leads, as
    /// far as is known.
    #[must_use]
    pub fn not_leader(mut self, member: Option<NodeId>, address: Option<String>) -> Self {
        self.not_leader = true;
        self.leader_member = member;
        self.leader = address;
        self
    }

    /// Says that what was asked for may have been done, or may yet be.
    #[must_use]
    pub fn undecided(mut self) -> Self {
        self.undecided = true;
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
            leader_member: failure.leader_member.map_or(0, NodeId::get),
            not_leader: failure.not_leader,
            undecided: failure.undecided,
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
                leader_member: Some(NodeId::new(detail.leader_member))
                    .filter(|member| member.get() != 0),
                not_leader: detail.not_leader,
                undecided: detail.undecided,
                answered: true,
            },
            None => Self {
                kind: transport_kind(status.code()),
                message: transport_message(status),
                path: None,
                leader: None,
                leader_member: None,
                not_leader: false,
                undecided: false,
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
    fn who_leads_survives_its_journey() {
        let leader = Some("host:7411".to_owned());
        let failure = Failure::new(ErrorKind::Unavailable, "another server leads")
            .not_leader(Some(NodeId::new(3)), leader)
            .undecided();
        let arrived = Failure::from(&Status::from(failure.clone()));
        assert!(arrived.not_leader && arrived.undecided);
        assert_eq!(arrived, failure);
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
