//! What can go wrong with an under file system.
//!
//! Callers decide by [`Classify::kind`], people by the message: it names the UFS, the
//! key, the attempts and the last cause (U6). No variant holds a secret: causes are our
//! own words or the store's, never a request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::{Classify, ErrorKind, RetryAdvice, UfsKey};

/// Results of this crate.
pub type Result<T, E = UfsError> = std::result::Result<T, E>;

/// A key in a UFS, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Scheme, authority and root, such as `s3://bucket/prefix`.
    pub ufs: Arc<str>,
    /// The key below it; empty for the store itself.
    pub key: UfsKey,
}

impl Place {
    /// A key below a root.
    pub fn new(ufs: &Arc<str>, key: &UfsKey) -> Self {
        Self {
            ufs: Arc::clone(ufs),
            key: key.clone(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_str();
        match (key.is_empty(), self.ufs.ends_with('/')) {
            (true, _) => write!(f, "{}", self.ufs),
            (false, true) => write!(f, "{}{}", self.ufs, key.escape_debug()),
            (false, false) => write!(f, "{}/{}", self.ufs, key.escape_debug()),
        }
    }
}

/// A failure of an under file system.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UfsError {
    /// Nothing is there.
    #[error("{at}: no such object")]
    NotFound {
        /// What was asked for.
        at: Place,
    },
    /// The bucket or the directory that everything lies in is not there.
    #[error("{ufs}: {what} does not exist; create it first, or correct the URI")]
    RootMissing {
        /// The store.
        ufs: Arc<str>,
        /// What is missing, such as `the bucket "b"`.
        what: String,
    },
    /// A create-only write found the name taken.
    #[error("{at}: something is there already")]
    AlreadyExists {
        /// The name.
        at: Place,
    },
    /// Another version is there than the one that the request required.
    #[error("{at}: somebody else changed it meanwhile")]
    Conflict {
        /// The name.
        at: Place,
    },
    /// The version that was to be read or copied is gone.
    #[error("{at}: this version is gone, it was replaced or deleted")]
    Stale {
        /// The object.
        at: Place,
    },
    /// A range that the object does not have.
    #[error("{at}: the range {start}..{end} lies outside its {size} bytes")]
    InvalidRange {
        /// The object.
        at: Place,
        /// First byte asked for.
        start: u64,
        /// First byte not asked for.
        end: u64,
        /// Length of the object.
        size: u64,
    },
    /// The store refuses this key or this request as malformed.
    #[error("{at}: {what}")]
    InvalidArgument {
        /// What was asked for.
        at: Place,
        /// What is wrong with it.
        what: String,
    },
    /// More bytes than the store, or the caller, takes at once.
    #[error("{at}: {size} bytes are more than the {largest} that are taken at once")]
    TooLarge {
        /// The object.
        at: Place,
        /// How many there are.
        size: u64,
        /// How many are taken.
        largest: u64,
    },
    /// An option or a URI is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store cannot do this.
    #[error("{at}: {what} is not supported here; {instead}")]
    Unsupported {
        /// What was asked for.
        at: Place,
        /// What cannot be done.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// The credentials do not suffice.
    #[error("{at}: access denied{}; see what the credentials may do there", Detail(.detail))]
    PermissionDenied {
        /// What was asked for.
        at: Place,
        /// The store's words.
        detail: String,
    },
    /// The credentials are not known, or there are none.
    #[error("{at}: the credentials were refused{}; check them, or where they come from", Detail(.detail))]
    Unauthenticated {
        /// What was asked for.
        at: Place,
        /// The store's words.
        detail: String,
    },
    /// The store is full.
    #[error("{at}: no space left{}", Detail(.detail))]
    NoSpace {
        /// What was to be written.
        at: Place,
        /// The store's words.
        detail: String,
    },
    /// The endpoint does not take connections.
    #[error("the endpoint {endpoint} {what}")]
    Unreachable {
        /// What was asked for.
        at: Place,
        /// Scheme, host and port.
        endpoint: String,
        /// What it did, such as `refused the connection`.
        what: String,
    },
    /// The store did not answer usefully.
    #[error("{at}: {cause}")]
    Unavailable {
        /// What was asked for.
        at: Place,
        /// What happened.
        cause: String,
        /// The request may still take effect.
        unanswered: bool,
    },
    /// The store asks to slow down.
    #[error("{at}: the store is busy{}", Detail(.detail))]
    Busy {
        /// What was asked for.
        at: Place,
        /// The store's words.
        detail: String,
    },
    /// No answer within the deadline.
    #[error("{at}: no answer within {}", arustio_types::unit::format_duration(*.after))]
    Timeout {
        /// What was asked for.
        at: Place,
        /// How long was waited.
        after: Duration,
        /// The request may still take effect.
        unanswered: bool,
    },
    /// Every attempt failed.
    #[error("{last} ({attempts} attempts in {:.1} s){}", .elapsed.as_secs_f64(), Hint(.last))]
    Exhausted {
        /// How often it was tried.
        attempts: u32,
        /// How long all attempts took.
        elapsed: Duration,
        /// What the last one failed with.
        last: Box<UfsError>,
        /// One of the attempts may still take effect.
        unanswered: bool,
    },
    /// The answer breaks the protocol or contradicts itself.
    #[error("{at}: the store's answer cannot be used: {what}")]
    BadAnswer {
        /// What was asked for.
        at: Place,
        /// What is wrong with it.
        what: String,
        /// The request may have taken effect, or may still.
        unanswered: bool,
    },
    /// Something else failed that repeating does not help.
    #[error("{at}: {what}")]
    Failed {
        /// What was asked for.
        at: Place,
        /// The store's words.
        what: String,
    },
}

/// `: detail` unless there is none.
struct Detail<'a>(&'a String);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0)
    }
}

/// What to try about an endpoint that does not answer.
struct Hint<'a>(&'a UfsError);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UfsError::Unreachable { endpoint, .. } = self.0 else {
            return Ok(());
        };
        write!(f, ". Is it running? From this machine try: curl {endpoint}")
    }
}

impl UfsError {
    /// Whether the request, or an earlier attempt of it, got no answer: it may still
    /// take effect until its deadline (P5).
    pub fn unanswered(&self) -> bool {
        match self {
            Self::Unavailable { unanswered, .. }
            | Self::Timeout { unanswered, .. }
            | Self::Exhausted { unanswered, .. }
            | Self::BadAnswer { unanswered, .. } => *unanswered,
            _ => false,
        }
    }

    /// What was asked for, where the error is about a place.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::NotFound { at }
            | Self::AlreadyExists { at }
            | Self::Conflict { at }
            | Self::Stale { at }
            | Self::InvalidRange { at, .. }
            | Self::InvalidArgument { at, .. }
            | Self::TooLarge { at, .. }
            | Self::Unsupported { at, .. }
            | Self::PermissionDenied { at, .. }
            | Self::Unauthenticated { at, .. }
            | Self::NoSpace { at, .. }
            | Self::Unreachable { at, .. }
            | Self::Unavailable { at, .. }
            | Self::Busy { at, .. }
            | Self::Timeout { at, .. }
            | Self::BadAnswer { at, .. }
            | Self::Failed { at, .. } => Some(at),
            Self::Exhausted { last, .. } => last.place(),
            Self::RootMissing { .. } | Self::Config(_) => None,
        }
    }
}

impl Classify for UfsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::RootMissing { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Stale { .. } => ErrorKind::Stale,
            Self::InvalidRange { .. }
            | Self::InvalidArgument { .. }
            | Self::TooLarge { .. }
            | Self::Config(_) => ErrorKind::InvalidArgument,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::PermissionDenied { .. } => ErrorKind::PermissionDenied,
            Self::Unauthenticated { .. } => ErrorKind::Unauthenticated,
            Self::NoSpace { .. } => ErrorKind::NoSpace,
            Self::Unreachable { .. } | Self::Unavailable { .. } | Self::Busy { .. } => {
                ErrorKind::Unavailable
            }
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Exhausted { last, .. } => last.kind(),
            Self::BadAnswer { .. } => ErrorKind::Unavailable,
            Self::Failed { .. } => ErrorKind::Internal,
        }
    }

    fn advice(&self) -> RetryAdvice {
        match self {
            // The layers repeated it already; the store is full until somebody acts.
            Self::NoSpace { .. } => RetryAdvice::Never,
            _ => self.kind().advice(),
        }
    }
}

/// A URI or an option that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is no URI of an under file system.
    #[error("{uri:?} is not a URI of an under file system: {reason}")]
    InvalidUri {
        /// What was given.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No provider serves the scheme.
    #[error("unknown scheme {scheme:?}; known are {known}{}", DidYouMean(.nearest))]
    UnknownScheme {
        /// What was given.
        scheme: String,
        /// The nearest known one.
        nearest: Option<String>,
        /// All known ones.
        known: String,
    },
    /// A scheme that this build has no provider for.
    #[error("{scheme}:// is not supported by this build; it has {known}")]
    NotInBuild {
        /// The canonical name of what was given.
        scheme: &'static str,
        /// What there is.
        known: String,
    },
    /// A scheme that is refused on purpose.
    #[error("the scheme {scheme}:// is not supported: {hint}")]
    RefusedScheme {
        /// What was given.
        scheme: String,
        /// What to use instead.
        hint: &'static str,
    },
    /// No such option for this scheme.
    #[error("unknown option {key:?} for {scheme}://{}", DidYouMean(.nearest))]
    UnknownOption {
        /// What was given.
        key: String,
        /// The scheme.
        scheme: &'static str,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// An option's value makes no sense. Never holds the value of a secret.
    #[error("option {key}: {reason}")]
    InvalidOption {
        /// The canonical key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An option was given twice under different names.
    #[error("option {key} was given twice, with different values")]
    Contradiction {
        /// The canonical key.
        key: &'static str,
    },
}

impl Classify for ConfigError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidUri { .. }
            | Self::UnknownScheme { .. }
            | Self::UnknownOption { .. }
            | Self::InvalidOption { .. }
            | Self::Contradiction { .. } => ErrorKind::InvalidArgument,
            Self::NotInBuild { .. } | Self::RefusedScheme { .. } => ErrorKind::Unsupported,
        }
    }
}

/// `; did you mean "x"?` where something is near.
struct DidYouMean<'a>(&'a Option<String>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nearest) => write!(f, "; did you mean {nearest:?}?"),
            None => Ok(()),
        }
    }
}
