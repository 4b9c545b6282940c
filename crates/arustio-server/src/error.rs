//! Why a server cannot start or go on.
//!
//! People read these; each says what to do. The exit code follows from the kind.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arustio_block::BlockError;
use arustio_meta::backup::BackupError;
use arustio_meta::error::{EngineError, FatalError, StateMachineError, StoreError};
use arustio_meta::inspect::DumpError;
use arustio_types::{Classify, ErrorKind};

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file of settings cannot be used.
    #[error("cannot use the configuration file {}: {reason}", .path.display())]
    ConfigFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A setting makes no sense.
    #[error("{setting}: {reason}")]
    Setting {
        /// Which, or where it stands.
        setting: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// Another server has the folder.
    #[error(
        "the data folder {} is in use by another arustio-server{}: stop that one, or give \
         another --data-dir", .path.display(), .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other server, where it says so.
        pid: Option<u32>,
    },
    /// The folder was written by a later release.
    #[error(
        "the data folder {} has format {found}, this release reads up to {supported}: use the \
         release that wrote it", .path.display()
    )]
    NewerData {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: u32,
        /// What we know.
        supported: u32,
    },
    /// A file of the folder cannot be used.
    #[error("{}: {reason}", .path.display())]
    DataFile {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A cluster key was to be made where something is.
    #[error(
        "cannot make a cluster key in {}: the file exists already, and a key that is lost makes \
         the credentials of mounts unreadable. Choose another name", .path.display()
    )]
    KeyExists {
        /// The file.
        path: PathBuf,
    },
    /// The cluster key that a server of several was given is not there.
    #[error(
        "cannot read the cluster key {0}: there is no such file. Every metadata server of a \
         cluster needs the same key: make it once (arustio-server --make-key {0}), or take that \
         of a server that has it, and copy it to {0} on each", .path.display()
    )]
    KeyMissing {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} for {what}: {source}. Does another server run there? Give another address with {flag}"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// The flag that changes it.
        flag: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The metadata engine cannot be opened.
    #[error("cannot open the metadata: {0}")]
    Engine(#[from] EngineError),
    /// The metadata node cannot start, or ended.
    #[error("the metadata node failed: {0}")]
    Metadata(Arc<FatalError>),
    /// The metadata node gave no answer while the server was starting.
    #[error("the metadata node does not answer: {0}")]
    Store(#[from] StoreError),
    /// A backup cannot be written or restored.
    #[error("{}: {source}", .path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: BackupError,
    },
    /// The metadata cannot be read.
    #[error("cannot read the metadata: {0}")]
    State(#[from] StateMachineError),
    /// The metadata cannot be shown.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// A restore was asked for where something is.
    #[error(
        "a backup is restored only into an empty data folder, and {} holds {found}: give another \
         --data-dir, or empty this one", .path.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// The block cache cannot be opened.
    #[error("cannot open the block cache: {0}")]
    Block(#[from] BlockError),
    /// The server can never be a member of its cluster like this.
    #[error("this server cannot take part in its cluster: {0}")]
    Unfit(#[from] crate::founding::Unfit),
    /// The cluster does not take this block node, now or later.
    #[error("the cluster does not take this block node: {reason}")]
    Refused {
        /// Why not, and what to do.
        reason: String,
    },
    /// What ended the start of the metadata node; several may be told of it.
    #[error("{0}")]
    Ended(Arc<ServerError>),
    /// Something else that has to work at start.
    #[error("cannot {action}: {reason}")]
    Start {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        reason: String,
    },
}

impl Classify for ServerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ConfigFile { .. } | Self::Setting { .. } => ErrorKind::InvalidArgument,
            Self::InUse { .. } | Self::Refused { .. } => ErrorKind::Conflict,
            Self::NewerData { .. } => ErrorKind::Unsupported,
            Self::DataFile { .. } => ErrorKind::Corrupt,
            Self::Io { .. } => ErrorKind::Internal,
            Self::Listen { .. } => ErrorKind::Unavailable,
            Self::Engine(error) => error.kind(),
            Self::Metadata(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Backup { source, .. } => source.kind(),
            Self::State(error) => error.kind(),
            Self::Dump(error) => error.kind(),
            Self::Occupied { .. } | Self::KeyExists { .. } => ErrorKind::AlreadyExists,
            Self::KeyMissing { .. } => ErrorKind::NotFound,
            Self::Block(error) => error.kind(),
            Self::Unfit(error) => error.kind(),
            Self::Ended(error) => error.kind(),
            Self::Start { .. } => ErrorKind::Internal,
        }
    }
}
