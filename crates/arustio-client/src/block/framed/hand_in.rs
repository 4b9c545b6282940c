//! Blocks that a node on this host gets as files.
//!
//! A block that is sent is copied into the socket, out of it, and once more into the memory
//! file in which the node keeps it. A node on the same running system is handed that file
//! instead: the block is copied once, by whoever has it, and the node seals the file and
//! makes it its own. Only whole blocks from some size on: of a part the node would have to
//! make a copy all the same.
//!
//! Whatever stands in the way is silent: no memory file, no socket, a node that does not
//! take files. Then the bytes go as bytes.
//!
//! The system charges the pages of a file to the control group of whoever wrote it, and
//! blocks outlive their writer. A client whose memory is limited by such a group would fill
//! it with the node's cache; it hands in nothing ([`is_limited`]).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arustio_proto::frame::{Flags, Header, Status, body};
use arustio_types::cluster::NodeInfo;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::connection::{Answer, Place, Question};
use super::pool::Way;
use super::{Asked, FramedBlocks, left};
use crate::block::{BlockError, BlockWrite};

/// From here on a file costs less than the copies that it spares: of a block of 1 MiB it
/// costs as much, below it more.
pub(crate) const WORTH_IT: u64 = 2 << 20;
/// The name that the system shows for the files.
const NAME: &str = "arustio-brought";
/// Where the system shows control groups.
const GROUPS: &str = "/sys/fs/cgroup";
/// What the first kind of control groups calls no limit is above this.
const NO_LIMIT: u64 = 1 << 60;

/// Who gets files, and for which blocks.
#[derive(Debug)]
pub(super) struct Files {
    /// The running system on which nodes get them.
    host: String,
    /// Bytes of the smallest block.
    smallest: u64,
}

impl FramedBlocks {
    /// Hands in whole blocks of so many bytes and more as files to nodes on this running
    /// system ([`running_system`](crate::block::local::running_system)).
    #[must_use]
    pub fn handing_in(mut self, host: String, smallest: u64) -> Self {
        self.files = Some(Files { host, smallest });
        self
    }

    /// Gives bytes to a node: as a file where that is possible, or as a question.
    pub(super) async fn give(
        &self,
        node: &NodeInfo,
        write: &BlockWrite,
        question: Question,
        deadline: Duration,
    ) -> Result<Asked, BlockError> {
        let until = Instant::now() + deadline;
        if let Some(socket) = self.takes_file(node, write) {
            let place = Place::Unix(socket);
            let given = self.hand_in(place, node, write, &question, until).await?;
            if let Some(answer) = given {
                return Ok(Asked::Answered(answer));
            }
        }
        self.ask(node, question, left(until)).await
    }

    /// The socket of a node that could take a file with these bytes.
    fn takes_file(&self, node: &NodeInfo, write: &BlockWrite) -> Option<String> {
        let files = self.files.as_ref()?;
        let here = node.data.host.as_ref() == Some(&files.host);
        let whole = write.len() == write.block_length && write.len() >= files.smallest;
        node.data.socket.clone().filter(|_| here && whole)
    }

    /// `None`: the bytes have to go another way.
    async fn hand_in(
        &self,
        place: Place,
        node: &NodeInfo,
        write: &BlockWrite,
        question: &Question,
        until: Instant,
    ) -> Result<Option<Answer>, BlockError> {
        let pool = self.pool(place.clone());
        match pool.connection(node.id, None, until).await {
            Way::Frames(connection) if connection.knows(body::FILES) => {}
            Way::Frames(_) | Way::Grpc => return Ok(None),
        }
        let Some(file) = file_of(write).await else {
            return Ok(None);
        };
        let question = Question {
            header: Header {
                flags: question.header.flags.with(Flags::IN_FILE),
                payload_length: 0,
                ..question.header
            },
            payload: Vec::new(),
            file: Some(Arc::new(file)),
            needs: question.needs | body::FILES,
            ..question.clone()
        };
        match self.ask_at(place, node, question, left(until)).await {
            Ok(Asked::Answered(answer)) => {
                let takes_none = answer.header.status == Status::Unsupported;
                Ok(Some(answer).filter(|_| !takes_none))
            }
            Ok(Asked::Elsewhere(_) | Asked::Unknown) => Ok(None),
            Err(BlockError::Unreachable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A memory file of these bytes; `None` where the system does not give one.
async fn file_of(write: &BlockWrite) -> Option<File> {
    let pieces = write.pieces.clone();
    let written = spawn_blocking(move || {
        let mut file = create()?;
        let written = pieces.iter().try_for_each(|piece| file.write_all(piece));
        written.map(|()| file)
    });
    match written.await {
        Ok(Ok(file)) => Some(file),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no memory file for a block, which goes as bytes");
            None
        }
        Err(_) => None,
    }
}

fn create() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        // Systems before Linux 6.3 do not know that it is not to be executed.
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        other => other,
    };
    Ok(File::from(fd?))
}

/// Whether a control group limits the memory of this process, as far as that can be seen.
pub(crate) fn is_limited() -> bool {
    // A system without control groups limits nobody.
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limited_by(&groups, Path::new(GROUPS))
}

/// Whether one of the groups that a process is in, or one above it, has a limit.
fn limited_by(groups: &str, root: &Path) -> bool {
    groups.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(group)) = (fields.next(), fields.next()) else {
            return false;
        };
        let (top, limit) = match kinds {
            "" => (root.to_owned(), "memory.max"),
            kinds if kinds.split(',').any(|kind| kind == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return false,
        };
        let group = top.join(group.trim_start_matches('/'));
        // A container may see its own group only, at the top.
        let above = group.ancestors().take_while(|path| path.starts_with(&top));
        above.map(|path| path.join(limit)).any(has_limit)
    })
}

fn has_limit(file: PathBuf) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().parse::<u64>().is_ok_and(|most| most < NO_LIMIT)
}

#[cfg(test)]
mod tests;
