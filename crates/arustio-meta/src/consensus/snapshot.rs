//! Snapshots on their way: made here, shipped, received, installed.
//!
//! A snapshot is a checkpoint of the state engine alone: a folder. It never travels inside
//! a message of the Raft library; that message is small and is delivered to the receiver's
//! library only after the folder has arrived whole, was checked and synced.
//!
//! ```text
//! leader   library wants one -> settle (another thread) -> checkpoint -> offer
//!          library sends its message -> Shipment to the transport -> folder and message
//! follower folder staged and synced -> message stepped -> round with an installation:
//!          mark in the log engine (synced) -> state engine swaps by one rename
//!          -> log starts anew at the position, own term and vote kept (synced)
//! ```
//!
//! A crash anywhere in an installation leaves either the old state and log, or the new
//! state and a mark by which the log is started anew when the member opens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::consensus::transport::Envelope;
use crate::state_machine::{Applied, LogPosition, StateMachineError};

/// A folder that is removed when nobody needs it any more.
pub struct SnapshotFolder(PathBuf);

impl SnapshotFolder {
    /// Takes charge of a folder.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Debug for SnapshotFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Drop for SnapshotFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            let path = self.0.display();
            tracing::warn!(%path, "cannot remove a snapshot that nobody needs: {error}");
        }
    }
}

/// A snapshot for another member: the folder first, then the message.
#[derive(Debug, Clone)]
pub struct Shipment {
    /// The library's message, to be given to the receiver together with the folder.
    pub envelope: Envelope,
    /// The state at the position; it stays until the last clone is dropped.
    pub folder: Arc<SnapshotFolder>,
    /// What it holds.
    pub position: LogPosition,
}

/// A copy of the state as it was at a position, for whoever looks into it. The folder is
/// removed when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct StateCopy {
    /// What a state machine's `snapshot` has made.
    pub folder: Arc<SnapshotFolder>,
    /// What it holds.
    pub applied: Applied,
}

/// Does what takes long beside the consensus thread.
///
/// # Contract
/// Called by the consensus thread, never blocks. Each call that succeeds is answered once,
/// at any later time, by the member's input `Settled`.
pub(crate) trait Workshop: Send + Sync + fmt::Debug {
    /// Prepares the state for a snapshot, so that making it takes no time.
    fn settle(&self) -> Result<(), StateMachineError>;
}
