//! A snapshot on its way out: file by file, in pieces, at a bounded rate.
//!
//! A stream that breaks is begun again, and goes on where the receiver stands if what it
//! has is what is here. One snapshot is under way at a time; others wait in line.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arustio_meta::consensus::Shipment;
use arustio_meta::store::{MetadataStore as _, Role};
use arustio_proto::failure::Failure;
use arustio_proto::raft::v1 as wire;
use arustio_proto::raft::v1::raft_service_client::RaftServiceClient;
use arustio_proto::raft::v1::snapshot_request::Kind;
use arustio_proto::raft::v1::snapshot_response::Kind as Answer;
use arustio_types::ErrorKind;
use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::arrival::sum;
use super::pace::{PIECE, Pace};
use super::{Inner, blocking};
use crate::introduction::{connect, say_peer};

/// Pieces that wait for the network.
const WAITING: usize = 2;
/// How often a snapshot is begun; a leader that still wants it begins another one.
const TRIES: u32 = 6;
/// A receiver that takes or says nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Brings a snapshot to its member; says whether it has arrived.
pub(super) async fn ship(inner: &Arc<Inner>, shipment: Shipment) -> bool {
    let to = shipment.envelope.to;
    let stop = inner.stopping();
    let work = async {
        let Ok(_turn) = inner.shipping.acquire().await else {
            return false;
        };
        for failures in 0..TRIES {
            match attempt(inner, &shipment, failures).await {
                Ok(()) => return true,
                Err(failure) => {
                    tracing::warn!(member = %to, "a snapshot did not arrive: {failure}");
                    if failure.kind == ErrorKind::NotFound || !leads(inner).await {
                        return false;
                    }
                }
            }
            tokio::time::sleep(inner.pause(failures.saturating_add(2))).await;
        }
        false
    };
    tokio::select! {
        arrived = work => arrived,
        () = stop.cancelled() => false,
    }
}

/// Only a leader's snapshot is of any use to the receiver.
async fn leads(inner: &Inner) -> bool {
    match inner.member().await {
        Some(member) => member.status().role == Role::Leader,
        None => false,
    }
}

fn broken(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Unavailable, message)
}

fn disk(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.to_owned();
    move |error| {
        let message = format!("cannot read a snapshot in {}: {error}", path.display());
        Failure::new(ErrorKind::Internal, message)
    }
}

async fn attempt(inner: &Arc<Inner>, shipment: &Shipment, failures: u32) -> Result<(), Failure> {
    let to = shipment.envelope.to;
    let folder = shipment.folder.path().to_owned();
    let listed = folder.clone();
    let files = blocking(move || list(&listed)).await?;
    let address = Inner::link(inner, to).map(|link| link.address(failures));
    let address = address.ok_or_else(|| broken("no address of the member is known"))?;
    let mut client = RaftServiceClient::new(connect(&address).await?);
    let (pieces, outgoing) = mpsc::channel(WAITING);
    let header = wire::SnapshotHeader {
        from: Some(say_peer(inner.identity)),
        to: to.get(),
        id: Some(name(inner.run, &folder).into()),
        files: files.clone(),
        message: shipment.envelope.bytes.clone().into(),
    };
    // The channel is empty, so there is room.
    let _ = pieces.try_send(request(Kind::Header(header)));
    let asked = client.snapshot(ReceiverStream::new(outgoing));
    let answers = within(asked).await?;
    let mut answers = answers
        .map_err(|status| Failure::from(&status))?
        .into_inner();
    let have = match next(&mut answers).await? {
        Answer::Have(have) if have.removed => {
            let message = "the group has removed this member, says the receiver";
            return Err(Failure::new(ErrorKind::NotFound, message));
        }
        Answer::Have(have) => have.parts,
        Answer::Taken(_) => return Err(broken("the receiver took it before it was sent")),
    };
    let source = Source {
        folder,
        files,
        have,
    };
    let mut pace = Pace::new(inner.rate.get());
    tokio::select! {
        sent = send(source, &pieces, &mut pace) => sent?,
        answer = answers.message() => return Err(match answer {
            Err(status) => Failure::from(&status),
            Ok(_) => broken("the receiver has ended the stream"),
        }),
    }
    drop(pieces);
    match next(&mut answers).await? {
        Answer::Taken(_) => {
            tracing::info!(member = %to, index = %shipment.position.index, "sent a snapshot");
            Ok(())
        }
        Answer::Have(_) => Err(broken("the receiver begins anew")),
    }
}

fn request(kind: Kind) -> wire::SnapshotRequest {
    wire::SnapshotRequest { kind: Some(kind) }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| broken(format!("nothing moved for {} s", SILENCE.as_secs()));
    tokio::time::timeout(SILENCE, work).await.map_err(late)
}

async fn next(answers: &mut Streaming<wire::SnapshotResponse>) -> Result<Answer, Failure> {
    let answer = within(answers.message()).await?;
    let answer = answer.map_err(|status| Failure::from(&status))?;
    let kind = answer.and_then(|answer| answer.kind);
    kind.ok_or_else(|| broken("the receiver has ended the stream"))
}

/// The same for every try to send the same copy, and for no other.
fn name(run: u64, folder: &Path) -> u128 {
    let text = [&run.to_le_bytes(), folder.as_os_str().as_encoded_bytes()].concat();
    let hash = digest(&SHA256, &text);
    hash.as_ref()
        .first_chunk()
        .copied()
        .map_or(0, u128::from_le_bytes)
}

/// The files of a copy, by name.
fn list(folder: &Path) -> Result<Vec<wire::SnapshotFile>, Failure> {
    let failed = disk(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let found = entry.metadata().map_err(&failed)?;
        let name = entry.file_name().into_string().ok();
        let Some(name) = name.filter(|_| found.is_file()) else {
            let message = format!("{} is no file of a snapshot", entry.path().display());
            return Err(Failure::new(ErrorKind::Internal, message));
        };
        let bytes = found.len();
        files.push(wire::SnapshotFile { name, bytes });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// What is to be sent, and what of it is there already.
struct Source {
    folder: PathBuf,
    files: Vec<wire::SnapshotFile>,
    have: Vec<wire::SnapshotPart>,
}

async fn send(
    source: Source,
    pieces: &mpsc::Sender<wire::SnapshotRequest>,
    pace: &mut Pace,
) -> Result<(), Failure> {
    let Source {
        folder,
        files,
        have,
    } = source;
    for (file, expected) in (0_u32..).zip(files) {
        let path = folder.join(&expected.name);
        let part = have.iter().find(|part| part.file == file).copied();
        let mut reading =
            blocking(move || Reading::open(&path, file, expected.bytes, part)).await?;
        while !reading.done {
            let (back, piece) = blocking(move || {
                let piece = reading.next();
                piece.map(|piece| (reading, piece))
            })
            .await?;
            reading = back;
            pace.wait(piece.bytes.len()).await;
            let sent = within(pieces.send(request(Kind::Data(piece)))).await?;
            sent.map_err(|_| broken("the stream is broken"))?;
        }
    }
    Ok(())
}

/// A file that is being sent.
struct Reading {
    path: PathBuf,
    file: u32,
    from: File,
    at: u64,
    bytes: u64,
    crc32c: u32,
    done: bool,
}

impl Reading {
    /// Stands behind what the receiver has, if that is what is here.
    fn open(
        path: &Path,
        file: u32,
        bytes: u64,
        part: Option<wire::SnapshotPart>,
    ) -> Result<Self, Failure> {
        let failed = disk(path);
        let mut from = File::open(path).map_err(&failed)?;
        let mut stands = (0, 0);
        if let Some(part) = part.filter(|part| part.bytes <= bytes) {
            let (read, crc32c) = sum((&from).take(part.bytes)).map_err(&failed)?;
            if (read, crc32c) == (part.bytes, part.crc32c) {
                stands = (read, crc32c);
            }
        }
        from.seek(SeekFrom::Start(stands.0)).map_err(&failed)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            from,
            at: stands.0,
            bytes,
            crc32c: stands.1,
            done: false,
        })
    }

    /// The next piece; the last one carries the checksum of the whole.
    fn next(&mut self) -> Result<wire::SnapshotData, Failure> {
        let left = self.bytes.saturating_sub(self.at);
        let wanted = left.min(PIECE as u64);
        let mut buffer = Vec::with_capacity(usize::try_from(wanted).unwrap_or(PIECE));
        let read = (&self.from).take(wanted).read_to_end(&mut buffer);
        let read = read.map_err(disk(&self.path))? as u64;
        if read != wanted {
            let message = format!("{} has become shorter", self.path.display());
            return Err(Failure::new(ErrorKind::Corrupt, message));
        }
        let offset = self.at;
        self.at += read;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &buffer);
        self.done = self.at == self.bytes;
        Ok(wire::SnapshotData {
            file: self.file,
            offset,
            crc32c: crc32c::crc32c(&buffer),
            bytes: buffer.into(),
            file_crc32c: self.done.then_some(self.crc32c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_on_where_the_receiver_stands_only_if_it_has_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..PIECE as u32 + 10).map(|i| i as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let bytes = content.len() as u64;
        let part = |crc32c| wire::SnapshotPart {
            file: 0,
            bytes: 100,
            crc32c,
        };
        let same = part(crc32c::crc32c(&content[..100]));
        let mut reading = Reading::open(&path, 0, bytes, Some(same)).unwrap();
        let first = reading.next().unwrap();
        assert_eq!(
            (first.offset, first.file_crc32c),
            (100, Some(crc32c::crc32c(&content)))
        );
        let other = Reading::open(&path, 0, bytes, Some(part(1)));
        let first = other.unwrap().next().unwrap();
        assert_eq!((first.offset, first.file_crc32c), (0, None));
    }
}
