//! What can fail in this crate, by who has to react.
//!
//! [`EngineError`] is the disk; most of them end the process. [`StateMachineError`] is a
//! replica that cannot go on. [`FatalError`] is what the consensus thread ends with: the
//! server logs it and aborts. [`StoreError`] is what a caller of the store sees, and most
//! of them mean "repeat with the same request id". A refused command is none of these:
//! it is an outcome.

use std::io;
use std::path::PathBuf;

use arustio_types::{Classify, ErrorKind};

use crate::engine::{EngineKind, Family};

/// A failure of a key/value engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another process holds the folder.
    #[error(
        "the {} engine in {} is in use by another process: stop the other server, or choose \
         another data folder", .kind.name(), .path.display()
    )]
    Locked {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
    },
    /// What is stored cannot be trusted.
    #[error(
        "the {} engine in {} is damaged: {detail}; restore this server from a backup, or remove \
         the folder and let it join its cluster anew", .kind.name(), .path.display()
    )]
    Corrupt {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The disk is full.
    #[error("no space left for the {} engine in {}: free some and start again", .kind.name(), .path.display())]
    NoSpace {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
    },
    /// Written by a later release.
    #[error(
        "the {} engine in {} has format {found}, this release reads up to {supported}: use the \
         release that wrote it", .kind.name(), .path.display()
    )]
    NewerFormat {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
        /// What is there.
        found: u32,
        /// What we know.
        supported: u32,
    },
    /// The folder holds something else.
    #[error("{} does not hold a {} engine: {found}", .path.display(), .expected.name())]
    NotAnEngine {
        /// What was asked for.
        expected: EngineKind,
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The engine lacks this family: a defect of the caller.
    #[error("the {} engine has no family {family}", .kind.name())]
    NoSuchFamily {
        /// Which engine.
        kind: EngineKind,
        /// Which family.
        family: Family,
    },
    /// The engine was left without content by a failed restore.
    #[error("the {} engine in {} is closed: a restore failed, start the server again", .kind.name(), .path.display())]
    Closed {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot {action} in {}: {source}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The engine's library refused something.
    #[error("cannot {action} in the {} engine in {}: {detail}", .kind.name(), .path.display())]
    Backend {
        /// Which engine.
        kind: EngineKind,
        /// Its folder.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// Why not.
        detail: String,
    },
}

impl Classify for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. } => ErrorKind::Conflict,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::NoSpace { .. } => ErrorKind::NoSpace,
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
            Self::NotAnEngine { .. } => ErrorKind::InvalidArgument,
            Self::NoSuchFamily { .. } => ErrorKind::Internal,
            Self::Closed { .. } => ErrorKind::Unavailable,
            Self::Io { .. } => ErrorKind::Internal,
            Self::Backend { .. } => ErrorKind::Internal,
        }
    }
}

/// A replica that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StateMachineError {
    /// Its engine failed.
    #[error("the state engine failed: {0}")]
    Engine(#[from] EngineError),
    /// A stored record or a committed command cannot be read.
    #[error("cannot read {what}: {detail}")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// What was found.
        detail: String,
    },
    /// A committed command is newer than this release.
    #[error("{what} has format {found}, this release reads up to {supported}: upgrade this server")]
    NewerFormat {
        /// What was read.
        what: &'static str,
        /// What is there.
        found: u32,
        /// What we know.
        supported: u32,
    },
}

impl Classify for StateMachineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
        }
    }
}
