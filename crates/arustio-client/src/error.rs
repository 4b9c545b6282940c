//! The public error: what was attempted, on which path, what stood in the way.
//!
//! Programs decide by [`FsError::kind`], people read the one line of `Display`. A
//! struct and not an enum, because the causes come from three vocabularies (refusals
//! of the metadata service, the under file system, the transport) and a caller never
//! needs to tell those apart. No field ever holds a secret.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use arustio_types::meta::Refusal;
use arustio_types::{Classify, ErrorKind, FsPath, InvalidPath};

/// Results of this crate.
pub type Result<T, E = FsError> = std::result::Result<T, E>;

/// A failed operation. Cheap to clone; one line as `Display`.
#[derive(Clone)]
pub struct FsError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    path: Option<String>,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl FsError {
    /// A failure that is about no path, of no operation yet.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: "",
            path: None,
            message: message.into(),
            source: None,
        }))
    }

    /// A failure on a path.
    pub fn on(kind: ErrorKind, path: &FsPath, message: impl Into<String>) -> Self {
        Self::new(kind, message).at(path)
    }

    /// A refusal of the metadata service.
    pub fn refused(refusal: Refusal) -> Self {
        let mut error = Self::new(refusal.kind, refusal.message);
        error.0.path = refusal.path.map(|path| path.to_string());
        error
    }

    /// Any classified error, with its own text as the message.
    pub fn caused_by<E: Classify + Send + Sync + 'static>(cause: E) -> Self {
        let mut error = Self::new(cause.kind(), cause.to_string());
        error.0.source = Some(Arc::new(cause));
        error
    }

    /// Names the operation, unless one is named already; a verb such as `open`.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        if self.0.operation.is_empty() {
            self.0.operation = operation;
        }
        self
    }

    /// Names the operation that somebody asked for, in place of the step of it that failed.
    #[must_use]
    pub fn as_part_of(mut self, operation: &'static str) -> Self {
        self.0.operation = operation;
        self
    }

    /// Names the path, unless one is named already.
    #[must_use]
    pub fn at(self, path: &FsPath) -> Self {
        self.at_text(path.as_str())
    }

    /// Names what the failure is about, unless something is named already.
    #[must_use]
    pub fn at_text(mut self, what: &str) -> Self {
        if self.0.path.is_none() {
            self.0.path = Some(what.to_owned());
        }
        self
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The verb, such as `open`; empty where none was named.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The path, or whatever else the operation was about.
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// What stood in the way and what to do, without operation and path.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The exit code of a command that ends with this.
    pub fn exit_code(&self) -> u8 {
        self.0.kind.exit_code()
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            operation,
            path,
            message,
            ..
        } = &*self.0;
        match (operation.is_empty(), path) {
            (false, Some(path)) => write!(f, "cannot {operation} {path}: {message}"),
            (false, None) => write!(f, "cannot {operation}: {message}"),
            (true, Some(path)) => write!(f, "{path}: {message}"),
            (true, None) => f.write_str(message),
        }
    }
}

impl fmt::Debug for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsError")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("path", &self.0.path)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl Error for FsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + Send + Sync) = self.0.source.as_deref()?;
        Some(source)
    }
}

impl Classify for FsError {
    fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl From<InvalidPath> for FsError {
    fn from(error: InvalidPath) -> Self {
        Self::caused_by(error)
    }
}

/// Lets `AsyncRead` and `AsyncWrite` adapters carry the error through.
impl From<FsError> for std::io::Error {
    fn from(error: FsError) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ErrorKind::NotFound => Io::NotFound,
            ErrorKind::AlreadyExists => Io::AlreadyExists,
            ErrorKind::NotADirectory => Io::NotADirectory,
            ErrorKind::IsADirectory => Io::IsADirectory,
            ErrorKind::NotEmpty => Io::DirectoryNotEmpty,
            ErrorKind::InvalidPath | ErrorKind::InvalidArgument => Io::InvalidInput,
            ErrorKind::Unsupported => Io::Unsupported,
            ErrorKind::ReadOnly => Io::ReadOnlyFilesystem,
            ErrorKind::PermissionDenied | ErrorKind::Unauthenticated => Io::PermissionDenied,
            ErrorKind::NoSpace => Io::StorageFull,
            ErrorKind::Timeout => Io::TimedOut,
            ErrorKind::Stale => Io::StaleNetworkFileHandle,
            ErrorKind::Corrupt => Io::InvalidData,
            ErrorKind::Conflict
            | ErrorKind::Unavailable
            | ErrorKind::Unknown
            | ErrorKind::Internal => Io::Other,
        };
        std::io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_was_attempted_on_what_and_why() {
        let path = FsPath::new("/data/f").unwrap();
        let error = FsError::on(ErrorKind::NotFound, &path, "no such file or directory")
            .during("open")
            .during("stat");
        assert_eq!(
            error.to_string(),
            "cannot open /data/f: no such file or directory"
        );
        let error = error.as_part_of("load");
        assert_eq!(
            error.to_string(),
            "cannot load /data/f: no such file or directory"
        );
        assert_eq!(error.exit_code(), 3);
        let io: std::io::Error = error.into();
        assert_eq!(io.kind(), std::io::ErrorKind::NotFound);
    }
}
