//! What waits to be sent on one connection.
//!
//! Whoever has a frame writes it at once as far as the socket takes it; the rest waits,
//! and [`Outbox::run`] sends it on. Nothing is awaited between the bytes of a frame, so a
//! caller that is dropped leaves no half frame behind, and a small answer costs no switch
//! of tasks. Bytes are never copied on the way, and those that also lie in a memory file are
//! not even read: the system sends its pages (`sendfile`). A frame may carry a descriptor,
//! with its first byte. What nobody waits for any more is not sent, as far as its frames
//! have not begun. One short lock, held while a frame is handed to the system, never
//! across an await.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use arustio_proto::frame::{Header, Operation};
use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown};
use tokio::io::Interest;
use tokio::net::{tcp, unix};
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Pieces that are handed to the system at once.
const MOST_SLICES: usize = 16;
/// Below this a copy costs less than another call.
const SMALLEST_OF_FILE: usize = 64 << 10;

/// The writing half of a connection.
#[derive(Debug)]
pub enum WriteHalf {
    /// Of TCP.
    Tcp(tcp::OwnedWriteHalf),
    /// Of a UNIX socket.
    Unix(unix::OwnedWriteHalf),
}

impl WriteHalf {
    /// `more`: something follows at once.
    fn try_write(&self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        match self {
            Self::Tcp(half) if more => half.as_ref().try_io(Interest::WRITABLE, || {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::MORE;
                let control = &mut SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(half.as_ref(), slices, control, flags)?)
            }),
            Self::Tcp(half) => half.try_write_vectored(slices),
            Self::Unix(half) => half.try_write_vectored(slices),
        }
    }

    /// Sends a part of a file without looking at it.
    fn try_send_file(&self, file: &File, offset: u64, length: usize) -> io::Result<usize> {
        let Self::Tcp(half) = self else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        half.as_ref().try_io(Interest::WRITABLE, || {
            let mut offset = offset;
            let sent = rustix::fs::sendfile(half.as_ref(), file, Some(&mut offset), length);
            Ok(sent?)
        })
    }

    /// The same with a descriptor, which goes with the first byte.
    fn try_pass(&self, slices: &[IoSlice<'_>], file: &File) -> io::Result<usize> {
        let Self::Unix(half) = self else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let files = [file.as_fd()];
        half.as_ref().try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&files)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            Ok(rustix::net::sendmsg(
                half.as_ref(),
                slices,
                &mut control,
                flags,
            )?)
        })
    }

    fn shutdown(&self, how: Shutdown) {
        let socket = match self {
            Self::Tcp(half) => half.as_ref().as_fd(),
            Self::Unix(half) => half.as_ref().as_fd(),
        };
        // A connection that is gone cannot be told, and needs not be.
        let _ = rustix::net::shutdown(socket, how);
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(half) => half.writable().await,
            Self::Unix(half) => half.writable().await,
        }
    }
}

/// Frames on their way to one peer.
#[derive(Debug)]
pub struct Outbox {
    half: WriteHalf,
    /// Whether what lies in files is sent from there.
    files: bool,
    queue: Mutex<Queue>,
    /// Something waits that the socket did not take.
    grew: Notify,
    /// Something went that had waited.
    shrank: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    broken: bool,
}

/// Bytes to be sent.
#[derive(Debug, Clone)]
pub struct Piece {
    bytes: Bytes,
    /// The same bytes in a file that is never written again, and where they begin in it.
    file: Option<(Arc<File>, u64)>,
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, file: None }
    }
}

impl Piece {
    /// Bytes that also lie in a file from `offset` on. The file must never be written again,
    /// and must be in memory: whoever sends does not wait for a disk.
    pub fn of_file(bytes: Bytes, file: Arc<File>, offset: u64) -> Self {
        let file = (bytes.len() >= SMALLEST_OF_FILE).then_some((file, offset));
        Self { bytes, file }
    }

    fn advance(&mut self, gone: usize) {
        self.bytes.advance(gone);
        if let Some((_, offset)) = &mut self.file {
            *offset += gone as u64;
        }
    }
}

/// A frame, or what is left of it.
#[derive(Debug)]
struct Frame {
    pieces: VecDeque<Piece>,
    /// Goes with the first byte, and is gone then.
    file: Option<Arc<File>>,
    /// The read that it answers, if it answers one.
    read: Option<u64>,
    /// Some of it was sent.
    begun: bool,
    /// Given back when the frame is gone.
    held: Vec<OwnedSemaphorePermit>,
}

/// The connection takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Broken;

impl Outbox {
    /// Nothing waits yet.
    pub fn new(half: WriteHalf) -> Self {
        Self {
            half,
            files: true,
            queue: Mutex::default(),
            grew: Notify::new(),
            shrank: Notify::new(),
        }
    }

    /// Sends no files, but the bytes in them. For peers on this host: no device fetches the
    /// pages there, so that the reader has to, alone, what both could share (measured: half
    /// the speed).
    #[must_use]
    pub fn copying(self) -> Self {
        Self {
            files: false,
            ..self
        }
    }

    /// Sends a frame as far as the socket takes it, and keeps the rest. `held` is given
    /// back when all of it is gone. Does not wait.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send(
        &self,
        header: &Header,
        payload: impl IntoIterator<Item = Bytes>,
        held: Vec<OwnedSemaphorePermit>,
    ) -> Result<(), Broken> {
        self.push(header, payload.into_iter().map(Piece::from), held, None)
    }

    /// The same with a payload that may lie in a file.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send_piece(
        &self,
        header: &Header,
        payload: Piece,
        held: Vec<OwnedSemaphorePermit>,
    ) -> Result<(), Broken> {
        let file = payload.file.filter(|_| self.files);
        let payload = Piece { file, ..payload };
        self.push(header, [payload], held, None)
    }

    /// The same with a descriptor, which only a UNIX socket carries.
    ///
    /// # Errors
    /// When the connection is closed, which it is afterwards if it is no UNIX socket.
    pub fn pass(&self, header: &Header, payload: Piece, file: Arc<File>) -> Result<(), Broken> {
        self.push(header, [payload], Vec::new(), Some(file))
    }

    fn push(
        &self,
        header: &Header,
        payload: impl IntoIterator<Item = Piece>,
        held: Vec<OwnedSemaphorePermit>,
        file: Option<Arc<File>>,
    ) -> Result<(), Broken> {
        let is_read = header.is_answer() && header.operation == Operation::Read;
        let read = is_read.then_some(header.request);
        let header = Piece::from(Bytes::copy_from_slice(&header.encode()));
        let payload = payload.into_iter().filter(|piece| !piece.bytes.is_empty());
        let pieces: VecDeque<Piece> = std::iter::once(header).chain(payload).collect();
        let mut queue = self.queue.lock();
        if queue.broken {
            return Err(Broken);
        }
        let idle = queue.frames.is_empty();
        queue.bytes += pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>();
        queue.frames.push_back(Frame {
            pieces,
            file,
            read,
            begun: false,
            held,
        });
        if idle {
            queue.push_out(&self.half);
        }
        if !queue.frames.is_empty() {
            self.grew.notify_one();
        }
        match queue.broken {
            true => Err(Broken),
            false => Ok(()),
        }
    }

    /// Drops the frames that answer this read, but for one that has begun to be sent.
    pub fn give_up(&self, request: u64) {
        let gone = self.queue.lock().take_out(request);
        if !gone.is_empty() {
            // Freed after the lock.
            drop(gone);
            self.shrank.notify_waiters();
        }
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Waits until fewer bytes than this wait, or the connection is closed. Safe to drop.
    pub async fn room(&self, most: usize) {
        loop {
            let shrank = self.shrank.notified();
            tokio::pin!(shrank);
            shrank.as_mut().enable();
            {
                let queue = self.queue.lock();
                if queue.bytes < most || queue.broken {
                    return;
                }
            }
            shrank.await;
        }
    }

    /// Sends what waits, until the connection is closed, by [`close`](Self::close) or by a
    /// peer that took nothing for `stall`. To be run by one task for each connection.
    pub async fn run(&self, stall: Duration) {
        loop {
            self.grew.notified().await;
            loop {
                {
                    let queue = self.queue.lock();
                    if queue.broken {
                        return;
                    }
                    if queue.frames.is_empty() {
                        break;
                    }
                }
                let ready = tokio::time::timeout(stall, self.half.writable()).await;
                if !matches!(ready, Ok(Ok(()))) {
                    self.close();
                    return;
                }
                self.queue.lock().push_out(&self.half);
                self.shrank.notify_waiters();
            }
        }
    }

    /// Tells the peer that nothing more will come; what was handed over still arrives.
    pub fn finish(&self) {
        self.half.shutdown(Shutdown::Write);
    }

    /// Drops what waits, takes nothing more, and closes the connection in both directions.
    pub fn close(&self) {
        self.queue.lock().fail();
        self.half.shutdown(Shutdown::Both);
        self.grew.notify_one();
        self.shrank.notify_waiters();
    }

    /// Whether it takes nothing any more.
    pub fn is_closed(&self) -> bool {
        self.queue.lock().broken
    }
}

impl Queue {
    /// Hands over what the socket takes now.
    fn push_out(&mut self, half: &WriteHalf) {
        while !self.frames.is_empty() {
            match self.hand_over(half) {
                Ok(0) => return self.fail(),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.fail(),
            }
        }
    }

    /// One call: a piece of a file, a frame with a descriptor, or what comes before the next
    /// such.
    fn hand_over(&mut self, half: &WriteHalf) -> io::Result<usize> {
        if let Some(sent) = self.send_file(half) {
            return sent;
        }
        let alone = self.frames.front().and_then(|frame| frame.file.clone());
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let frames = self.frames.iter().enumerate();
        let together = frames.take_while(|(at, frame)| match &alone {
            Some(_) => *at == 0,
            None => frame.file.is_none(),
        });
        let pieces = together.flat_map(|(_, frame)| &frame.pieces);
        let (mut count, mut more) = (0, false);
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            more = piece.file.is_some();
            if more {
                break;
            }
            *slice = IoSlice::new(&piece.bytes);
            count += 1;
        }
        let Some(file) = alone else {
            return half.try_write(&slices[..count], more);
        };
        let written = half.try_pass(&slices[..count], &file)?;
        if let Some(frame) = self.frames.front_mut() {
            frame.file = None;
        }
        Ok(written)
    }

    /// Sends of the first piece, if it lies in a file. A socket or a file that cannot do
    /// that gets the bytes.
    fn send_file(&mut self, half: &WriteHalf) -> Option<io::Result<usize>> {
        let piece = self.frames.front_mut()?.pieces.front_mut()?;
        let (file, offset) = piece.file.as_ref()?;
        match half.try_send_file(file, *offset, piece.bytes.len()) {
            Err(error) if cannot(&error) => {
                piece.file = None;
                None
            }
            sent => Some(sent),
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(frame) = self.frames.front_mut() {
            frame.begun |= written > 0;
            while let Some(piece) = frame.pieces.front_mut() {
                let gone = written.min(piece.bytes.len());
                piece.advance(gone);
                written -= gone;
                if !piece.bytes.is_empty() {
                    return;
                }
                frame.pieces.pop_front();
            }
            self.frames.pop_front();
        }
    }

    /// Takes out what answers a read and has not begun to be sent. What they held stays with
    /// the frame that has begun, until that is sent.
    fn take_out(&mut self, request: u64) -> Vec<Frame> {
        let answers = |frame: &Frame| frame.read == Some(request);
        if !self.frames.iter().any(answers) {
            return Vec::new();
        }
        let frames = std::mem::take(&mut self.frames).into_iter();
        let (mut gone, kept): (Vec<_>, Vec<_>) =
            frames.partition(|frame| answers(frame) && !frame.begun);
        self.frames = kept.into();
        if let Some(begun) = self.frames.front_mut().filter(|frame| answers(frame)) {
            let held = gone.iter_mut().flat_map(|frame| frame.held.drain(..));
            begun.held.extend(held);
        }
        let pieces = gone.iter().flat_map(|frame| &frame.pieces);
        self.bytes -= pieces.map(|piece| piece.bytes.len()).sum::<usize>();
        gone
    }

    fn fail(&mut self) {
        self.broken = true;
        self.frames.clear();
        self.bytes = 0;
    }
}

/// Whether this is about the way, and not about the connection.
fn cannot(error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    error.kind() == io::ErrorKind::Unsupported
        || code.is_some_and(|code| [Errno::INVAL, Errno::NOSYS, Errno::SPIPE].contains(&code))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arustio_proto::frame::{HEADER, Operation, Status};
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::io::Write as _;
    use tokio::io::{AsyncRead, AsyncReadExt as _};
    use tokio::net::{TcpListener, TcpStream, UnixStream};
    use tokio::sync::Semaphore;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn pair() -> (Arc<Outbox>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_, write) = ours.into_split();
        (Arc::new(Outbox::new(WriteHalf::Unix(write))), theirs)
    }

    /// Pieces whose bytes tell where they belong.
    fn pieces(frame: u64) -> [Bytes; 3] {
        [1, 70_000, 5].map(|length| Bytes::from(vec![frame as u8; length]))
    }

    #[tokio::test]
    async fn frames_that_the_socket_does_not_take_arrive_whole_and_in_order() {
        let (outbox, mut theirs) = pair();
        let sending = Arc::clone(&outbox);
        let sender = tokio::spawn(async move { sending.run(LONG).await });
        let budget = Arc::new(Semaphore::new(100));
        for frame in 0..100 {
            let permit = Arc::clone(&budget).try_acquire_owned().unwrap();
            let header = Header::request(Operation::Ping, frame);
            outbox.send(&header, pieces(frame), vec![permit]).unwrap();
        }
        assert!(outbox.waiting() > 1 << 20, "the socket took everything");
        assert!(budget.available_permits() < 50, "given back too early");
        let length = 70_006;
        for frame in 0..100 {
            let mut bytes = vec![0; HEADER + length];
            theirs.read_exact(&mut bytes).await.unwrap();
            let header = Header::decode(bytes.first_chunk().unwrap()).unwrap();
            assert_eq!(header.request, frame);
            assert!(bytes[HEADER..].iter().all(|byte| *byte == frame as u8));
        }
        outbox.room(1).await;
        assert_eq!(budget.available_permits(), 100);
        outbox.close();
        sender.await.unwrap();
        assert_eq!(outbox.send(&Header::default(), [], Vec::new()), Err(Broken));
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    }

    /// A block in a memory file, as a part of which the pieces of a test lie in it.
    fn of_file(file: &Arc<File>, content: &Bytes, range: std::ops::Range<usize>) -> Piece {
        let offset = range.start as u64;
        Piece::of_file(content.slice(range), Arc::clone(file), offset)
    }

    fn block() -> (Arc<File>, Bytes) {
        let file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        let content: Bytes = (0..3_000_000_u32).map(|at| (at / 251) as u8).collect();
        (&file).write_all(&content).unwrap();
        (Arc::new(file), content)
    }

    /// Frames whose payloads lie in a file or do not, as a peer sees them.
    async fn heard(write: WriteHalf, mut theirs: impl AsyncRead + Unpin) {
        let (file, content) = block();
        let ranges = [0..3_000_000, 5..70_000, 100..200, 64..1_000_000, 0..65_536];
        let outbox = Outbox::new(write);
        let say = |at: usize| {
            let range = ranges[at % ranges.len()].clone();
            let header = Header::request(Operation::Ping, at as u64);
            match at % 3 {
                0 => outbox.send(&header, [content.slice(range.clone())], Vec::new()),
                _ => outbox.send_piece(&header, of_file(&file, &content, range), Vec::new()),
            }
        };
        (0..20).for_each(|at| say(at).unwrap());
        assert!(outbox.waiting() > 1 << 20, "the socket took everything");
        let hear = async {
            for at in 0..20 {
                let range = ranges[at % ranges.len()].clone();
                let mut bytes = vec![0; HEADER + range.len()];
                theirs.read_exact(&mut bytes).await.unwrap();
                let header = Header::decode(bytes.first_chunk().unwrap()).unwrap();
                assert_eq!(header.request, at as u64);
                assert!(bytes[HEADER..] == content[range], "frame {at}");
            }
            outbox.close();
        };
        tokio::join!(outbox.run(LONG), hear);
    }

    #[tokio::test]
    async fn what_lies_in_a_file_is_sent_from_there_over_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_, write) = ours.unwrap().into_split();
        heard(WriteHalf::Tcp(write), theirs.unwrap().0).await;
    }

    #[tokio::test]
    async fn a_socket_that_takes_no_files_gets_the_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_, write) = ours.into_split();
        heard(WriteHalf::Unix(write), theirs).await;
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_sent_is_sent_as_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_, write) = ours.unwrap().into_split();
        let outbox = Outbox::new(WriteHalf::Tcp(write));
        let content = Bytes::from(vec![7; SMALLEST_OF_FILE]);
        // A socket is no file of that kind.
        let other = std::os::unix::net::UnixStream::pair().unwrap().0;
        let file = Arc::new(File::from(std::os::fd::OwnedFd::from(other)));
        let header = Header::request(Operation::Ping, 1);
        let piece = Piece::of_file(content.clone(), file, 0);
        outbox.send_piece(&header, piece, Vec::new()).unwrap();
        let mut bytes = vec![0; HEADER + content.len()];
        let mut theirs = theirs.unwrap().0;
        theirs.read_exact(&mut bytes).await.unwrap();
        assert!(bytes[HEADER..] == content[..]);
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up_and_whoever_waits_goes_on() {
        let (outbox, _theirs) = pair();
        for frame in 0..100 {
            let header = Header::request(Operation::Ping, frame);
            outbox.send(&header, pieces(frame), Vec::new()).unwrap();
        }
        let stall = Duration::from_millis(50);
        tokio::join!(outbox.run(stall), outbox.room(1));
        assert!(outbox.is_closed());
        assert_eq!(outbox.waiting(), 0);
    }

    #[tokio::test]
    async fn what_is_given_up_is_not_sent_but_for_a_frame_that_has_begun() {
        const LARGE: usize = 1 << 20;
        let (outbox, mut theirs) = pair();
        outbox.half.writable().await.unwrap();
        let budget = Arc::new(Semaphore::new(6));
        let answer = |request| Header::answer(Operation::Read, request, Status::Ok);
        for frame in 0..6 {
            let permit = Arc::clone(&budget).try_acquire_owned().unwrap();
            let payload = Bytes::from(vec![frame; LARGE]);
            let header = answer(u64::from(frame) / 3);
            outbox.send(&header, [payload], vec![permit]).unwrap();
        }
        let ping = Header::answer(Operation::Ping, 0, Status::Ok);
        outbox.send(&ping, [], Vec::new()).unwrap();
        let waiting = outbox.waiting();
        outbox.give_up(7);
        assert_eq!(outbox.waiting(), waiting, "nobody asked for that");
        outbox.give_up(0);
        assert_eq!(outbox.waiting(), waiting - 2 * (HEADER + LARGE));
        assert_eq!(budget.available_permits(), 0, "the first is not sent yet");
        let hear = async {
            for (frame, request) in [(0, 0), (3, 1), (4, 1), (5, 1)] {
                let mut bytes = vec![0; HEADER + LARGE];
                theirs.read_exact(&mut bytes).await.unwrap();
                let header = Header::decode(bytes.first_chunk().unwrap()).unwrap();
                assert_eq!(header.request, request);
                assert!(bytes[HEADER..].iter().all(|byte| *byte == frame));
            }
            let mut last = [0; HEADER];
            theirs.read_exact(&mut last).await.unwrap();
            assert_eq!(Header::decode(&last), Ok(ping));
            outbox.close();
        };
        tokio::join!(hear, outbox.run(LONG));
        assert_eq!(budget.available_permits(), 6);
    }
}
