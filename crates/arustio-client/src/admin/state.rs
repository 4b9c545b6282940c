//! The state of a metadata server on its way here: a backup, or its records.
//!
//! Both come as streams that are never silent for long; dropping one ends the work on the
//! server, and leaves nothing there. Bytes come in pieces with checksums and are given on in
//! order, without a gap, or not at all.

use std::time::Duration;

use arustio_proto::admin::v1 as wire;
use arustio_proto::admin::v1::admin_client::AdminClient;
use arustio_proto::admin::v1::back_up_state_response::Kind as BackUp;
use arustio_proto::admin::v1::dump_state_response::Kind as Dump;
use arustio_proto::failure::Failure;
use arustio_proto::raft::v1::SnapshotData;
use arustio_types::{ClusterId, ErrorKind, FsPath, Incarnation, LogIndex, NodeId, Timestamp};
use bytes::Bytes;
use tonic::Streaming;
use tonic::transport::Channel;

use super::Admin;
use crate::error::{FsError, Result};
use crate::metadata::route::{Repeat, Want};

/// A server that says nothing for so long has gone: it speaks every second.
const SILENCE: Duration = Duration::from_secs(30);
/// Largest piece that is believed.
const MOST: usize = 2 << 20;

const BACK_UP: &str = "back up the metadata";
const DUMP: &str = "dump the metadata";

/// A backup on its way here.
#[derive(Debug)]
pub struct BackupStream {
    from: Streaming<wire::BackUpStateResponse>,
    server: String,
    pieces: Pieces,
    made: Option<BackupMade>,
}

/// A backup that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupMade {
    /// The number of the server that made it.
    pub by: NodeId,
    /// Of which cluster.
    pub cluster: ClusterId,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// Up to which entry.
    pub index: LogIndex,
    /// When, by the server's clock.
    pub made: Timestamp,
    /// Records in it.
    pub records: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Records on their way here, as lines of JSON.
#[derive(Debug)]
pub struct DumpStream {
    from: Streaming<wire::DumpStateResponse>,
    server: String,
    pieces: Pieces,
    records: Option<u64>,
}

impl Admin {
    /// Begins a backup of everything that was acknowledged before; the leader makes it, or
    /// else any server. Dropping what is returned ends it.
    ///
    /// # Errors
    /// `Unavailable` when no server answers that knows what is newest; `Conflict` when the
    /// server is at another backup, dump or check.
    pub async fn back_up(&self) -> Result<BackupStream> {
        let asked = wire::BackUpStateRequest::default();
        let call = self.call(Want::Newest, Repeat::Freely);
        let answered = self
            .ask(call, |mut admin, _| {
                // Without a limit: it takes as long as it takes.
                let asked = tonic::Request::new(asked);
                async move { admin.back_up_state(asked).await }
            })
            .await;
        let answered = answered.map_err(|failed| failed.explain().during(BACK_UP))?;
        Ok(BackupStream {
            from: answered.value,
            server: answered.server,
            pieces: Pieces::default(),
            made: None,
        })
    }

    /// Begins a dump: of what is at or below a path, or of everything; of one member as it
    /// is, or of what is newest. Dropping what is returned ends it.
    ///
    /// # Errors
    /// As for [`back_up`](Self::back_up); `NotFound` where there is no such member.
    pub async fn dump(&self, path: Option<&FsPath>, member: Option<NodeId>) -> Result<DumpStream> {
        let asked = wire::DumpStateRequest {
            member: member.map_or(0, NodeId::get),
            path: path.map(ToString::to_string).unwrap_or_default(),
        };
        let dump = |mut admin: AdminClient<Channel>| {
            let asked = tonic::Request::new(asked.clone());
            async move { admin.dump_state(asked).await }
        };
        let (server, from) = match member {
            None => {
                let call = self.call(Want::Newest, Repeat::Freely);
                let answered = self.ask(call, |admin, _| dump(admin)).await;
                let answered = answered.map_err(|failed| failed.explain().during(DUMP))?;
                (answered.server, answered.value)
            }
            Some(member) => {
                let server = self.member(member).await?.reached()?.to_owned();
                let ask = |channel, _| dump(AdminClient::new(channel));
                let answered = self.route.one(&server, self.timeout, ask).await;
                let answered = answered.map_err(|failed| failed.explain().during(DUMP))?;
                (server, answered.into_inner())
            }
        };
        Ok(DumpStream {
            from,
            server,
            pieces: Pieces::default(),
            records: None,
        })
    }
}

impl BackupStream {
    /// The next bytes; `None` after the last, when all of it has arrived as it was sent.
    ///
    /// # Errors
    /// Whatever ended it early: nothing that has arrived is of any use then.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.advance().await.map_err(|error| error.during(BACK_UP))
    }

    async fn advance(&mut self) -> Result<Option<Bytes>> {
        while self.made.is_none() {
            match next(&mut self.from, &self.server, |said| said.kind).await? {
                BackUp::Seen(_) => {}
                BackUp::Piece(piece) => return self.pieces.take(piece).map(Some),
                BackUp::Made(made) => self.made = Some(self.pieces.complete(&made)?),
            }
        }
        Ok(None)
    }

    /// What was made, once all has arrived.
    pub fn made(&self) -> Option<&BackupMade> {
        self.made.as_ref()
    }
}

impl DumpStream {
    /// The next bytes; `None` after the last. A piece may end inside a line.
    ///
    /// # Errors
    /// Whatever ended it early.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.advance().await.map_err(|error| error.during(DUMP))
    }

    async fn advance(&mut self) -> Result<Option<Bytes>> {
        while self.records.is_none() {
            match next(&mut self.from, &self.server, |said| said.kind).await? {
                Dump::Seen(_) => {}
                Dump::Piece(piece) => return self.pieces.take(piece).map(Some),
                Dump::Made(made) => {
                    self.pieces.end()?;
                    self.records = Some(made.records);
                }
            }
        }
        Ok(None)
    }

    /// How many records there were, once all have arrived.
    pub fn records(&self) -> Option<u64> {
        self.records
    }
}

/// What the server says next.
pub(super) async fn next<T, K>(
    from: &mut Streaming<T>,
    server: &str,
    kind: impl FnOnce(T) -> Option<K>,
) -> Result<K> {
    let said = tokio::time::timeout(SILENCE, from.message()).await;
    let said = said.map_err(|_| {
        let message = format!("{server} has said nothing for {} s", SILENCE.as_secs());
        FsError::new(ErrorKind::Timeout, message)
    })?;
    let said = said.map_err(|status| broken(server, Failure::from(&status)))?;
    said.and_then(kind).ok_or_else(|| {
        let message = format!("{server} ended it before it was complete; repeat the command");
        FsError::new(ErrorKind::Unavailable, message)
    })
}

fn broken(server: &str, failure: Failure) -> FsError {
    if failure.answered {
        let error = FsError::new(failure.kind, failure.message);
        return match &failure.path {
            Some(path) => error.at(path),
            None => error,
        };
    }
    let why = failure.message;
    let message = format!("the connection to {server} broke ({why}); repeat the command");
    FsError::new(ErrorKind::Unavailable, message)
}

/// Pieces in their order, each checked.
#[derive(Debug, Default)]
struct Pieces {
    at: u64,
    crc32c: u32,
    ended: bool,
}

impl Pieces {
    fn take(&mut self, piece: SnapshotData) -> Result<Bytes> {
        let bytes = piece.bytes;
        let fits = !self.ended && piece.offset == self.at && bytes.len() <= MOST;
        if !fits || crc32c::crc32c(&bytes) != piece.crc32c {
            return Err(self.damaged());
        }
        self.at += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
        if let Some(whole) = piece.file_crc32c {
            self.ended = true;
            if whole != self.crc32c {
                return Err(self.damaged());
            }
        }
        Ok(bytes)
    }

    fn end(&self) -> Result<()> {
        match self.ended {
            true => Ok(()),
            false => Err(self.damaged()),
        }
    }

    fn complete(&self, made: &wire::BackUpMade) -> Result<BackupMade> {
        self.end()?;
        if made.bytes != self.at {
            return Err(self.damaged());
        }
        Ok(BackupMade {
            by: NodeId::new(made.answered_by),
            cluster: ClusterId::new(made.cluster.map(u128::from).unwrap_or_default()),
            incarnation: Incarnation::new(made.incarnation),
            index: LogIndex::new(made.index),
            made: Timestamp::from_millis(made.made_millis),
            records: made.records,
            bytes: made.bytes,
        })
    }

    fn damaged(&self) -> FsError {
        let message = format!(
            "what arrived is not what was sent, near byte {}; repeat the command",
            self.at
        );
        FsError::new(ErrorKind::Corrupt, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, bytes: &'static [u8], whole: Option<&[u8]>) -> SnapshotData {
        SnapshotData {
            file: 0,
            offset,
            bytes: Bytes::from_static(bytes),
            crc32c: crc32c::crc32c(bytes),
            file_crc32c: whole.map(crc32c::crc32c),
        }
    }

    #[test]
    fn pieces_are_taken_in_order_without_a_gap_and_with_their_checksums() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.take(piece(0, b"ab", None)).unwrap(), "ab");
        assert!(pieces.end().is_err());
        assert_eq!(pieces.take(piece(2, b"c", Some(b"abc"))).unwrap(), "c");
        pieces.end().unwrap();
        let made = |bytes| wire::BackUpMade {
            bytes,
            ..wire::BackUpMade::default()
        };
        assert_eq!(pieces.complete(&made(3)).unwrap().bytes, 3);
        assert!(pieces.complete(&made(4)).is_err());
        assert!(pieces.take(piece(3, b"d", None)).is_err(), "it has ended");
    }

    #[test]
    fn a_gap_a_repeat_and_damage_are_refused() {
        let refused = |next| {
            let mut pieces = Pieces::default();
            pieces.take(piece(0, b"ab", None)).unwrap();
            let error = pieces.take(next).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        };
        refused(piece(3, b"d", None));
        refused(piece(0, b"ab", None));
        refused(piece(2, b"c", Some(b"abd")));
        let mut flipped = piece(2, b"c", None);
        flipped.crc32c ^= 1;
        refused(flipped);
    }
}
