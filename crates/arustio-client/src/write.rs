//! Writing through to the store (W1 to W3, W5).
//!
//! An intent is recorded before the first request, an upload's id before its first part,
//! and the file appears with one command at the end. `writer` is the handle and its
//! buffer; `upload` sends parts; `commit` decides what an answer, or none, means;
//! `tee` sends blocks to nodes beside. A request that got no answer is never forgotten:
//! it is waited out, or the intent stays until it cannot be carried out any more (P5).

pub(crate) mod commit;
pub mod sequential;
pub(crate) mod tee;
pub(crate) mod upload;
pub(crate) mod writer;

use std::sync::Arc;

use arustio_types::meta::command::{BeginWrite, CreateMode, Owed, WriteGrant};
use arustio_types::meta::{Answer, Command, Outcome};
use arustio_types::{ErrorKind, FsPath, SessionId, Timestamp, WriteId};
use arustio_ufs::WriteMode;

use crate::client::Client;
use crate::command::Depth;
use crate::error::{FsError, Result};
use crate::fs::CreateOptions;
use crate::job::RunningGuard;
use crate::metadata::session;
use crate::names::Knowledge;
use crate::resolve::Mounted;
use writer::Writer;

/// A write that is announced: what every step of it needs.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) client: Arc<Client>,
    pub(crate) session: SessionId,
    pub(crate) mounted: Arc<Mounted>,
    pub(crate) path: FsPath,
    pub(crate) grant: WriteGrant,
    pub(crate) write_id: WriteId,
    pub(crate) begun: Timestamp,
    /// Other tasks of this client wait for this instead of taking the intent over.
    _running: Option<RunningGuard>,
}

impl Announced {
    /// The condition under which the object takes its name (W2).
    pub(crate) fn mode(&self) -> WriteMode {
        match &self.grant.expected {
            Some(version) => WriteMode::ReplaceIf(version.clone()),
            None => WriteMode::CreateOnly,
        }
    }

    /// The intent.
    pub(crate) fn owed(&self) -> Owed {
        Owed::Intent(self.grant.intent)
    }

    /// The object, for messages.
    pub(crate) fn place(&self) -> String {
        let ufs = &self.mounted.ufs;
        ufs.describe().place(&self.grant.key).to_string()
    }
}

impl Client {
    /// An object is written whole (W6); what is wrong with the name comes first.
    pub(crate) async fn truncate(&self, path: &FsPath, length: u64) -> Result<()> {
        let status = self.stat(path, Knowledge::Fresh).await?;
        if status.is_dir() {
            return Err(FsError::on(
                ErrorKind::IsADirectory,
                path,
                "it is a directory",
            ));
        }
        let instead = format!("write the {length} bytes that it shall have anew, with overwrite");
        Err(written_whole(path, &instead))
    }

    /// Announces a write.
    pub(crate) async fn create(
        self: &Arc<Self>,
        path: &FsPath,
        options: CreateOptions,
    ) -> Result<Writer> {
        if path.is_root() {
            let message = "it is a directory; name a file in it";
            return Err(FsError::on(ErrorKind::IsADirectory, path, message));
        }
        if options.append {
            let instead = "read the file and write it again with what is new, or write what is \
                           new to a file of its own";
            return Err(written_whole(path, instead).during("append to"));
        }
        if options.overwrite
            && let Answer::Status(status) = self.ask_stat(path).await?
            && !status.is_dir()
        {
            // What is replaced is the version that is there now, not one of a minute ago.
            self.refresh(&status, true).await?;
        }
        let begin = BeginWrite {
            path: path.clone(),
            mode: if options.overwrite {
                CreateMode::Overwrite
            } else {
                CreateMode::Exclusive
            },
            parents: options.parents,
            write_id: self.write_id(),
            content: self.content_id(),
            write_type: options.write_type,
            block_size: options.block_size,
            proofs: Vec::new(),
        };
        let begun = self.clock.now();
        let make = |proofs| {
            Command::BeginWrite(BeginWrite {
                proofs,
                ..begin.clone()
            })
        };
        let (grant, session) = match self.carry_out(Depth::Entries, make).await? {
            (Outcome::WriteBegun(grant), session) => (grant, session),
            (other, _) => return Err(session::unexpected("announcing a write", &other)),
        };
        let running = self.running.begin(Owed::Intent(grant.intent));
        let mounted = self.mounted(grant.mount).await?;
        let announced = Announced {
            client: Arc::clone(self),
            session,
            mounted,
            path: path.clone(),
            grant,
            write_id: begin.write_id,
            begun,
            _running: running,
        };
        Ok(Writer::new(announced))
    }
}

/// The refusal of a change in place: stores have objects, and an object is written whole.
fn written_whole(path: &FsPath, instead: &str) -> FsError {
    let message = format!("a stored object cannot be changed in place; {instead}");
    FsError::on(ErrorKind::Unsupported, path, message)
}
