//! The shared vocabulary of failure.
//!
//! Callers decide by kind, people by message. A kind says what the caller should
//! do next; this table is the only one, and everything else (gRPC codes, exit
//! codes, errnos) is mapped from it without a wildcard.

use std::fmt;
use std::str::FromStr;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, exit $exit:literal, $retry:ident;)*) => {
        /// What the caller should do about a failure. Stable on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $($(#[$doc])* $name,)* }

        impl ErrorKind {
            /// Every kind, in the order of their codes.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$name,)*];

            /// The number on the wire; never reused.
            pub const fn code(self) -> u32 {
                match self { $(Self::$name => $code,)* }
            }

            /// The kind with this number on the wire.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The exit code of the command line.
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }

            /// Whether repeating can help.
            pub const fn advice(self) -> RetryAdvice {
                match self { $(Self::$name => RetryAdvice::$retry,)* }
            }

            /// The name that `error[KIND]` shows.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

kinds! {
    /// There is no such thing; decide.
    NotFound = 1, exit 3, Never;
    /// The name is taken; decide.
    AlreadyExists = 2, exit 4, Never;
    /// A directory was needed; decide.
    NotADirectory = 3, exit 9, Never;
    /// A file was needed; decide.
    IsADirectory = 4, exit 9, Never;
    /// The directory has entries; decide.
    NotEmpty = 5, exit 9, Never;
    /// The path breaks a rule; fix the call.
    InvalidPath = 6, exit 2, Never;
    /// An argument makes no sense; fix the call.
    InvalidArgument = 7, exit 2, Never;
    /// This cannot be done here; the message says what to do instead.
    Unsupported = 8, exit 9, Never;
    /// The mount is read-only; write elsewhere.
    ReadOnly = 9, exit 9, Never;
    /// The rights do not suffice; fix them.
    PermissionDenied = 10, exit 5, Never;
    /// Nobody knows who is asking; fix the credentials.
    Unauthenticated = 11, exit 5, Never;
    /// Somebody else's update is there; re-read, then decide.
    Conflict = 12, exit 6, Never;
    /// This version is gone; open again.
    Stale = 13, exit 6, Never;
    /// Full; free something or wait.
    NoSpace = 14, exit 8, Later;
    /// Not reachable now; repeat with back-off and the same request id.
    Unavailable = 15, exit 7, Later;
    /// It took too long; repeat with back-off and the same request id.
    Timeout = 16, exit 7, Later;
    /// This copy cannot be trusted; an operator should look.
    Corrupt = 17, exit 1, Never;
    /// The outcome could not be established; look before repeating.
    Unknown = 18, exit 10, Never;
    /// A defect of ours; report it.
    Internal = 19, exit 1, Never;
}

/// Whether repeating the same call can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAdvice {
    /// The answer will not change by itself.
    Never,
    /// Repeat after a back-off.
    Later,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ErrorKind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.name() == text)
            .ok_or(UnknownKind)
    }
}

/// A name that is no [`ErrorKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an error kind")]
pub struct UnknownKind;

/// An error that knows its kind.
///
/// # Contract
/// Implemented by an exhaustive match without a wildcard arm, so that a new variant
/// forces a decision. Never changes for one value.
pub trait Classify: std::error::Error {
    /// What the caller should do.
    fn kind(&self) -> ErrorKind;

    /// Whether repeating can help; follows the kind unless the error knows better.
    fn advice(&self) -> RetryAdvice {
        self.kind().advice()
    }
}

impl Classify for crate::path::InvalidPath {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidPath
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_round_trip() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_code(kind.code()), Some(*kind));
            assert_eq!(kind.name().parse(), Ok(*kind));
            assert_ne!(kind.exit_code(), 0);
        }
        assert_eq!(ErrorKind::from_code(0), None);
    }
}
