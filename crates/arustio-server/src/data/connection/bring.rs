//! Bytes that a peer on this host hands in as a memory file.
//!
//! The file is sealed, then looked at (`arustio_block::memory::Sealed`), and counts like a
//! payload that is being received until the store has it. A peer whose descriptor cannot be
//! taken is told so, and whoever waits for its bytes is served otherwise: the lease ends.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use arustio_block::{Ending, LeaseId, Sealed};
use arustio_proto::failure::Failure;
use arustio_proto::frame::{Header, Operation, Status};
use arustio_types::ErrorKind;
use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::task::spawn_blocking;

use super::ahead::Request;
use super::{AGAIN, Connection, Trouble};
use crate::blocks;
use crate::data::request::{Brought, Reply};
use crate::data::{Endpoint, fill, request};

impl<R: AsyncRead + Unpin + Send> Connection<R> {
    /// Whether the peer may hand in files: whoever is passed descriptors.
    pub(super) fn takes_files(&self) -> bool {
        self.holds.is_some()
    }

    /// A write or a fill whose bytes are in a file.
    pub(super) async fn bring(&mut self, request: Request) -> Result<(), Trouble> {
        let header = request.header;
        if !self.takes_files() {
            let words = "descriptors are taken over the UNIX socket, from the user that the \
                         server runs as";
            return self.unsupported(&header, words).await;
        }
        let file = match admitted(&header, request.file) {
            Ok(file) => file,
            Err(failure) => {
                self.skip(&header).await?;
                end(&self.endpoint, &header, Ending::GaveUp);
                return self.refuse(&header, failure.kind, &failure.message);
            }
        };
        let Some(held) = self.endpoint.receiving.try_take(header.length) else {
            end(&self.endpoint, &header, Ending::NoRoom);
            return self.say(&request::busy(&header, AGAIN), Bytes::new());
        };
        self.traffic.handed_in(header.length);
        let endpoint = Arc::clone(&self.endpoint);
        let work = async move {
            let reply = take(&endpoint, &header, file).await;
            drop(held);
            reply
        };
        self.beside(header, work).await
    }
}

/// The file of a request that makes sense.
fn admitted(header: &Header, file: Option<OwnedFd>) -> Result<File, Failure> {
    let wrong = |what: &str| Failure::new(ErrorKind::InvalidArgument, what);
    if !matches!(header.operation, Operation::Write | Operation::Fill) {
        return Err(wrong("only bytes to keep come in a file"));
    }
    if header.payload_length > 0 {
        return Err(wrong("the bytes come twice"));
    }
    let key = request::key(header)?;
    let block_length = header.block_length.into();
    blocks::check_write(&key, header.offset, header.length, block_length)?;
    let file = file.ok_or_else(|| wrong("no descriptor came with it"))?;
    Ok(File::from(file))
}

async fn take(endpoint: &Endpoint, header: &Header, file: File) -> Result<Reply, Failure> {
    let length = header.length;
    let sealed = spawn_blocking(move || Sealed::of(&file, length)).await;
    let sealed = sealed.map_err(|_| Failure::new(ErrorKind::Internal, "sealing has failed"))?;
    let brought = match sealed {
        Ok(sealed) => Brought::in_file(sealed),
        Err(why) => {
            end(endpoint, header, Ending::GaveUp);
            return Ok(Reply::words(header, Status::Rejected, &why.to_string()));
        }
    };
    match header.operation {
        Operation::Fill => fill::fill(endpoint, header, brought).await,
        _ => request::write(endpoint, header, brought).await,
    }
}

/// Nothing comes under the lease of a fill any more.
fn end(endpoint: &Endpoint, header: &Header, why: Ending) {
    if header.operation == Operation::Fill {
        endpoint.fills.end(LeaseId(header.epoch), why);
    }
}
