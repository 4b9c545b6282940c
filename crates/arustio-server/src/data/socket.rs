//! The UNIX socket, for clients on this host.
//!
//! It lies in the data folder, which this process has locked, so a file of that name is
//! left over from a process that was killed. Only the user that the server runs as may
//! connect, unless descriptors are for anyone.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::config::Passing;
use crate::error::ServerError;

/// Longest path that every system takes, and then some room.
pub(crate) const LONGEST: usize = 100;
/// Its name in the data folder.
pub(crate) const NAME: &str = "block.sock";
/// Read and written by its owner.
const OURS: u32 = 0o600;
/// Read and written by anyone.
const ANYONES: u32 = 0o666;

/// A socket that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at a path. `None`, with a line in the log, where the path is too long.
    pub(crate) fn bind(path: &Path, passing: Passing) -> Result<Option<Self>, ServerError> {
        if path.as_os_str().len() > LONGEST {
            tracing::info!(
                path = %path.display(),
                "no UNIX socket for block frames: its path is longer than {LONGEST} bytes; \
                 frames.socket names another one"
            );
            return Ok(None);
        }
        let failed = |action| {
            move |source| ServerError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the old socket")(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on the socket"))?;
        let socket = Self {
            listener,
            path: path.to_owned(),
        };
        let mode = match passing {
            Passing::Anyone => ANYONES,
            Passing::Nobody | Passing::SameUser => OURS,
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(failed("set who may use the socket"))?;
        Ok(Some(socket))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next peer. Safe to drop.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The next start removes it otherwise.
        let _ = fs::remove_file(&self.path);
    }
}
