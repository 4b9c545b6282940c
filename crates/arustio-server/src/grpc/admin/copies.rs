//! Looks into a copy of the state, for somebody who waits for what they find.
//!
//! ```text
//! request -> copy of the state -> a thread reads it -> channel -> stream of the answer
//! ```
//!
//! One look at a time: a copy keeps files that the engine has replaced meanwhile, and reading
//! all of a state takes the disk from others. The stream says something every second, so
//! that whoever waits knows that the server lives. However it ends (done, failed, the caller
//! gone or silent, the server stopping), the thread ends and the copy is removed. When the
//! last message arrives, nothing is left.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use arustio_meta::Consensus;
use arustio_meta::consensus::StateCopy;
use arustio_meta::engine::KvEngine;
use arustio_meta::inspect::Watch;
use arustio_meta::namespace::Namespace;
use arustio_proto::failure::Failure;
use arustio_proto::raft::v1::SnapshotData;
use arustio_types::{ByteSize, ErrorKind};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::super::store_failure;
use crate::compose::Opened;
use crate::raft_transport::{PIECE, Pace, blocking};
use crate::tasks::Tasks;

/// How long making a copy may take.
const COPY: Duration = Duration::from_secs(120);
/// Messages that wait for the network.
const WAITING: usize = 2;
/// The stream is never silent for longer.
const BEAT: Duration = Duration::from_secs(1);
/// A caller that takes nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);

/// What goes back to the caller.
pub(super) type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// The looks of one server.
#[derive(Debug)]
pub(crate) struct Copies {
    turn: Arc<Semaphore>,
    rate: ByteSize,
    tasks: Tasks,
}

impl Copies {
    /// At most so many bytes leave in a second; the work belongs to these tasks.
    pub(crate) fn new(rate: ByteSize, tasks: Tasks) -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            rate,
            tasks,
        }
    }

    /// Begins a look; the last message is what the job returns. `seen` says how far it is
    /// where there is nothing else to say.
    pub(super) fn look<T: Send + 'static>(
        &self,
        opened: &Opened,
        seen: fn(u64) -> T,
        job: impl FnOnce(&dyn KvEngine, &Out<T>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Answers<T>, Failure> {
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            let message = "another backup, dump or check of the metadata is under way on this \
                           server: repeat when it has ended";
            return Err(Failure::new(ErrorKind::Conflict, message));
        };
        let (to, from) = mpsc::channel(WAITING);
        let watch = Arc::new(Watch::default());
        let stop = self.tasks.stopping();
        let look = Look {
            store: Arc::clone(&opened.store),
            state: Arc::clone(&opened.state),
            watch: Arc::clone(&watch),
            out: Out {
                to: to.clone(),
                stop: stop.clone(),
                runtime: Handle::current(),
                rate: self.rate,
            },
        };
        self.tasks.spawn("look into a copy", async move {
            let done = look.run(job).await;
            drop(turn);
            if let Err(failure) = &done {
                tracing::debug!("a look into a copy of the state failed: {failure}");
            }
            // Whoever has gone learns nothing, and nobody waits for him.
            let last = to.send(done.map_err(Status::from));
            let _ = tokio::time::timeout(SILENCE, last).await;
        });
        Ok(feed(from, watch, seen, stop))
    }
}

fn stopping() -> Failure {
    Failure::new(ErrorKind::Unavailable, "this metadata server is stopping")
}

/// The answer: what the job sends, and how far it is meanwhile.
fn feed<T: Send + 'static>(
    from: mpsc::Receiver<Result<T, Status>>,
    watch: Arc<Watch>,
    seen: fn(u64) -> T,
    stop: CancellationToken,
) -> Answers<T> {
    let next = move |from: Option<mpsc::Receiver<Result<T, Status>>>| {
        let (watch, stop) = (Arc::clone(&watch), stop.clone());
        async move {
            let mut from = from?;
            let item = tokio::select! {
                biased;
                () = stop.cancelled() => return Some((Err(stopping().into()), None)),
                item = from.recv() => item?,
                () = tokio::time::sleep(BEAT) => Ok(seen(watch.seen())),
            };
            Some((item, Some(from)))
        }
    };
    stream::unfold(Some(from), next).boxed()
}

/// A look that is under way.
struct Look<T> {
    store: Arc<Consensus<Namespace>>,
    state: Arc<dyn KvEngine>,
    watch: Arc<Watch>,
    out: Out<T>,
}

impl<T: Send + 'static> Look<T> {
    async fn run(
        self,
        job: impl FnOnce(&dyn KvEngine, &Out<T>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let copied = tokio::select! {
            copied = self.store.copy(COPY) => copied,
            gone = self.out.gone() => return Err(gone),
        };
        let copy = copied.map_err(|error| store_failure(&self.store, &error))?;
        self.read(copy, job).await
    }

    /// Reads the copy on a thread of its own, until somebody no longer wants it.
    async fn read(
        &self,
        copy: StateCopy,
        job: impl FnOnce(&dyn KvEngine, &Out<T>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (state, watch) = (Arc::clone(&self.state), Arc::clone(&self.watch));
        let out = self.out.clone();
        let work = blocking(move || {
            // Closed before the folder is removed, which is dropped last.
            let engine = state.open_copy(copy.folder.path());
            let engine = engine.map_err(|error| Failure::of(&error))?;
            job(&watch.over(&*engine), &out)
        });
        let mut work = std::pin::pin!(work);
        let gone = tokio::select! {
            done = &mut work => return done,
            gone = self.out.gone() => gone,
        };
        self.watch.stop();
        work.await.map_err(|_| gone)
    }
}

/// Where a job sends what it finds.
#[derive(Debug)]
pub(super) struct Out<T> {
    to: mpsc::Sender<Result<T, Status>>,
    stop: CancellationToken,
    runtime: Handle,
    rate: ByteSize,
}

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        Self {
            to: self.to.clone(),
            stop: self.stop.clone(),
            runtime: self.runtime.clone(),
            rate: self.rate,
        }
    }
}

impl<T> Out<T> {
    /// Waits until nobody wants the answer any more; says why.
    async fn gone(&self) -> Failure {
        tokio::select! {
            () = self.stop.cancelled() => stopping(),
            () = self.to.closed() => {
                Failure::new(ErrorKind::Unavailable, "whoever asked has gone")
            }
        }
    }

    /// Sends a message at its time, once there is room for it. Blocks.
    fn send(&self, message: T, due: impl Future<Output = ()>) -> io::Result<()> {
        let sent = async {
            due.await;
            tokio::time::timeout(SILENCE, self.to.send(Ok(message))).await
        };
        self.runtime.block_on(async {
            let sent = tokio::select! {
                gone = self.gone() => return Err(broken(gone)),
                sent = sent => sent,
            };
            match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(broken(self.gone().await)),
                Err(_) => {
                    let silent = format!("the caller took nothing for {} s", SILENCE.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, silent))
                }
            }
        })
    }

    /// Sends what is written in pieces.
    pub(super) fn pieces(&self, wrap: fn(SnapshotData) -> T) -> Pieces<'_, T> {
        Pieces {
            out: self,
            wrap,
            pace: Pace::new(self.rate.get()),
            buffer: Vec::new(),
            at: 0,
            crc32c: 0,
        }
    }
}

fn broken(gone: Failure) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, gone)
}

/// Bytes on their way in pieces, each with a checksum, at a bounded rate.
#[derive(Debug)]
pub(super) struct Pieces<'o, T> {
    out: &'o Out<T>,
    wrap: fn(SnapshotData) -> T,
    pace: Pace,
    buffer: Vec<u8>,
    /// Where the buffer begins.
    at: u64,
    /// Of everything before the buffer.
    crc32c: u32,
}

impl<T> Pieces<'_, T> {
    /// Sends what is left, with the checksum of all.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.piece(true)
    }

    fn piece(&mut self, last: bool) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        let (offset, length) = (self.at, bytes.len());
        self.at += length as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
        let piece = SnapshotData {
            file: 0,
            offset,
            crc32c: crc32c::crc32c(&bytes),
            bytes: bytes.into(),
            file_crc32c: last.then_some(self.crc32c),
        };
        self.out.send((self.wrap)(piece), self.pace.wait(length))
    }
}

impl<T> Write for Pieces<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= PIECE {
            self.piece(false)?;
        }
        let taken = bytes.len().min(PIECE - self.buffer.len());
        self.buffer
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    /// Small writes are gathered whatever their writer thinks.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(
        room: usize,
    ) -> (
        Out<SnapshotData>,
        mpsc::Receiver<Result<SnapshotData, Status>>,
    ) {
        let (to, from) = mpsc::channel(room);
        let out = Out {
            to,
            stop: CancellationToken::new(),
            runtime: Handle::current(),
            rate: ByteSize::mib(1024),
        };
        (out, from)
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_in_bounded_pieces_with_checksums() {
        let (out, mut from) = out(8);
        let content: Vec<u8> = (0..2 * PIECE + 10).map(|at| at as u8).collect();
        let sent = content.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let mut pieces = out.pieces(std::convert::identity);
            pieces.write_all(&sent).unwrap();
            pieces.flush().unwrap();
            pieces.finish().unwrap();
        });
        let mut arrived = Vec::new();
        let mut whole = None;
        while let Some(piece) = from.recv().await {
            let piece = piece.unwrap();
            assert!(piece.bytes.len() <= PIECE && whole.is_none());
            assert_eq!(piece.offset, arrived.len() as u64);
            assert_eq!(piece.crc32c, crc32c::crc32c(&piece.bytes));
            arrived.extend_from_slice(&piece.bytes);
            whole = piece.file_crc32c;
        }
        writing.await.unwrap();
        assert_eq!(arrived, content);
        assert_eq!(whole, Some(crc32c::crc32c(&content)));
    }

    #[tokio::test]
    async fn a_job_whose_caller_has_gone_fails_at_its_next_piece() {
        let (out, from) = out(1);
        drop(from);
        let writing = tokio::task::spawn_blocking(move || {
            let mut pieces = out.pieces(std::convert::identity);
            pieces.write_all(&vec![0; PIECE + 1])
        });
        let error = writing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
