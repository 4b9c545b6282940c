//! One connection to a node, with the requests that wait for their answers on it.
//!
//! A request is entered under its id before it is sent. One task reads: it looks up the
//! id, compares what is announced with what was asked for, and only then makes room for
//! it. A caller that is dropped takes its entry away, and a node that knows how is told that
//! nobody waits for the read any more; what comes all the same is read past. Anything that
//! no node of ours would send ends the connection, and everybody who
//! waits on it is told. A descriptor that came is given back when it is dropped, whether
//! somebody waited for it or not.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arustio_proto::frame::body::{self, Hello, Versions};
use arustio_proto::frame::{Flags, Header, Operation, Status};
use arustio_types::NodeId;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::catch::{Catching, Caught};
use super::inlet::Inlet;
use super::outbox::{Outbox, WriteHalf};
use crate::block::buffers::{Buffer, Buffers};
use crate::block::{BlockPart, PartSink};
use crate::metadata::ClusterIdentity;
use crate::net;

/// A node that takes nothing for so long is gone.
const STALL: Duration = Duration::from_secs(10);
/// Bytes that wait to be sent on one connection before callers wait.
const WINDOW: usize = 16 << 20;

/// Where a node is spoken to in frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// `host:port`.
    Tcp(String),
    /// The path of a UNIX socket on this host.
    Unix(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(place) | Self::Unix(place) => f.write_str(place),
        }
    }
}

/// What is asked.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) header: Header,
    pub(super) payload: Vec<Bytes>,
    /// A file instead of a payload, which goes over a UNIX socket alone.
    pub(super) file: Option<Arc<File>>,
    /// Of a read: which bytes may be answered.
    pub(super) wanted: Range<u64>,
    /// Who takes the parts of a read as they come.
    pub(super) sink: Option<PartSink>,
    /// Whose answers come one after the other.
    pub(super) lane: Option<u32>,
    /// What the node has to know, as the features of a `Hello`.
    pub(super) needs: u32,
}

impl Question {
    pub(super) fn new(header: Header) -> Self {
        Self {
            header,
            payload: Vec::new(),
            file: None,
            wanted: 0..0,
            sink: None,
            lane: None,
            needs: 0,
        }
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Of the last frame.
    pub(super) header: Header,
    /// Of a read, in order; their bytes were compared with their checksums. Without those
    /// that were handed over.
    pub(super) parts: Vec<BlockPart>,
    /// Bytes of the parts that were handed over.
    pub(super) handed_over: u64,
    /// Of anything else.
    pub(super) payload: Bytes,
    /// Bytes did not match their checksum; there are no parts then.
    pub(super) damaged: bool,
    /// Of a `Pass`.
    pub(super) passed: Option<Passed>,
}

/// A descriptor that a node passed, given back on drop.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) file: File,
    pub(super) hold: Hold,
}

/// What a node keeps for us until this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    shared: Weak<Shared>,
    request: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // A node that was lost has let go by itself.
        if let Some(shared) = self.shared.upgrade() {
            shared.say(Operation::Release, self.request);
        }
    }
}

/// Why a connection cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoConnection {
    /// Nobody answers there, or not a node of ours.
    Unreachable(String),
    /// A node of ours that speaks another version.
    OtherVersion(String),
}

impl From<io::Error> for NoConnection {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    /// What the node knows beside its versions.
    features: u32,
    _reader: AbortOnDropHandle<()>,
    _writer: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    outbox: Outbox,
    /// The id of the next request.
    next: AtomicU64,
    /// Descriptors that came before their frames were looked at.
    caught: Caught,
    opened: Instant,
    /// When something last came, in milliseconds since it was opened.
    heard: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// Who waits, by id; why nobody does any more.
#[derive(Debug, Default)]
struct Waiting {
    entries: HashMap<u64, Entry>,
    ended: Option<String>,
}

struct Entry {
    operation: Operation,
    /// What is still to come of a read.
    wanted: Range<u64>,
    sink: Option<PartSink>,
    handed_over: u64,
    /// Bytes in a row that are being received, and where they begin.
    run: Option<(u64, Buffer)>,
    parts: Vec<BlockPart>,
    damaged: bool,
    answer: oneshot::Sender<Answer>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("operation", &self.operation)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and greets. Safe to drop.
    pub(super) async fn open(
        place: &Place,
        node: NodeId,
        cluster: ClusterIdentity,
        buffers: &Buffers,
    ) -> Result<Self, NoConnection> {
        let caught = Caught::default();
        match place {
            Place::Tcp(address) => {
                let (read, write) = net::connect(address).await?.into_split();
                let inlet = Inlet::new(read, buffers.clone());
                Self::greeted(inlet, WriteHalf::Tcp(write), caught, node, cluster).await
            }
            Place::Unix(path) => {
                let (read, write) = UnixStream::connect(path).await?.into_split();
                let read = Catching::new(read, caught.clone());
                let inlet = Inlet::new(read, buffers.clone());
                Self::greeted(inlet, WriteHalf::Unix(write), caught, node, cluster).await
            }
        }
    }

    async fn greeted<R: AsyncRead + Unpin + Send + 'static>(
        mut inlet: Inlet<R>,
        write: WriteHalf,
        caught: Caught,
        node: NodeId,
        cluster: ClusterIdentity,
    ) -> Result<Self, NoConnection> {
        let shared = Arc::new(Shared {
            outbox: Outbox::new(write),
            next: AtomicU64::new(1),
            caught,
            opened: Instant::now(),
            heard: AtomicU64::new(0),
            waiting: Mutex::default(),
        });
        let writer = Arc::clone(&shared);
        let writer = tokio::spawn(async move { writer.outbox.run(STALL).await });
        let writer = AbortOnDropHandle::new(writer);
        let features = greet(&shared.outbox, &mut inlet, node, cluster).await?;
        let reading = Arc::clone(&shared);
        let reader = tokio::spawn(async move {
            let why = match reading.read(&mut inlet).await {
                Ok(()) => "the node closed the connection".to_owned(),
                Err(error) => error.to_string(),
            };
            reading.end(&why);
        });
        Ok(Self {
            shared,
            features,
            _reader: AbortOnDropHandle::new(reader),
            _writer: writer,
        })
    }

    /// How many wait for answers.
    pub(super) fn load(&self) -> usize {
        self.shared.waiting.lock().entries.len()
    }

    /// Whether the node knows these features.
    pub(super) fn knows(&self, needs: u32) -> bool {
        self.features & needs == needs
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        !self.shared.outbox.is_closed() && self.shared.waiting.lock().ended.is_none()
    }

    /// Asks and waits for the answer. Safe to drop: then nobody waits for it any more.
    ///
    /// # Errors
    /// When the connection ends before the answer is there, with the reason.
    pub(super) async fn ask(&self, question: &Question, until: Instant) -> Result<Answer, String> {
        let shared = &self.shared;
        shared.outbox.room(WINDOW).await;
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        let (entry, answered) = Entry::new(question);
        let mut ticket = shared.enter(id, entry)?;
        let left = until.saturating_duration_since(Instant::now());
        let millis = match question.header.millis {
            0 => u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            // The question says it itself.
            millis => millis,
        };
        let header = Header {
            request: id,
            millis,
            ..question.header
        };
        let sent = match question.file.clone() {
            Some(file) => shared.outbox.pass(&header, Bytes::new().into(), file),
            None => {
                let payload = question.payload.iter().cloned();
                shared.outbox.send(&header, payload, Vec::new())
            }
        };
        if sent.is_err() {
            shared.end("the connection is closed");
        }
        ticket.cancels = header.operation == Operation::Read && self.knows(body::CANCELS);
        answered.await.map_err(|_| shared.why())
    }

    /// An answer did not come in time. A node that has not said anything since `asked` is
    /// not waited for again on this connection.
    pub(super) fn missed(&self, asked: Instant) {
        let heard = Duration::from_millis(self.shared.heard.load(Ordering::Relaxed));
        if self.shared.opened + heard < asked {
            self.shared.end("the node says nothing any more");
        }
    }
}

/// An entry that is taken away when nobody waits for it any more.
struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
    /// The node is told when it is dropped before the answer is there.
    cancels: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let unanswered = self.shared.waiting.lock().entries.remove(&self.id);
        if self.cancels && unanswered.is_some() {
            self.shared.say(Operation::Cancel, self.id);
        }
    }
}

impl Entry {
    fn new(question: &Question) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let entry = Self {
            operation: question.header.operation,
            wanted: question.wanted.clone(),
            sink: question.sink.clone(),
            handed_over: 0,
            run: None,
            parts: Vec::new(),
            damaged: false,
            answer,
        };
        (entry, answered)
    }

    /// Whether these bytes may come now: parts ascend, and lie in what was asked for.
    fn admits(&self, header: &Header) -> bool {
        let end = header.offset.checked_add(header.payload_length.into());
        header.payload_length > 0
            && header.offset >= self.wanted.start
            && end.is_some_and(|end| end <= self.wanted.end)
    }

    /// What to receive bytes into that may come: the run that they continue, or a buffer of
    /// their own. What is handed over is let go of soon, so each part has its own.
    fn buffer(&mut self, header: &Header, buffers: &Buffers) -> Buffer {
        let length = header.payload_length as usize;
        if let Some((start, buffer)) = self.run.take() {
            let room = buffer.length() - buffer.filled().len();
            if start + buffer.filled().len() as u64 == header.offset && length <= room {
                return buffer;
            }
            self.part(start, buffer);
        }
        // The rest of what was asked for, however much of it comes.
        let rest = usize::try_from(self.wanted.end - header.offset).unwrap_or(length);
        let more = header.flags.has(Flags::MORE) && self.sink.is_none();
        buffers.take(if more { rest } else { length })
    }

    fn part(&mut self, offset: u64, buffer: Buffer) {
        self.parts.push(BlockPart {
            offset,
            bytes: buffer.freeze(),
        });
    }

    /// Takes bytes that came; what is to be handed over now.
    fn take(&mut self, header: &Header, buffer: Buffer, matches: bool) -> Option<BlockPart> {
        let length = u64::from(header.payload_length);
        self.wanted.start = header.offset + length;
        self.damaged |= !matches;
        if self.damaged {
            self.parts.clear();
            return None;
        }
        let start = self.wanted.start - buffer.filled().len() as u64;
        if self.sink.is_none() {
            self.run = Some((start, buffer));
            return None;
        }
        self.handed_over += length;
        Some(BlockPart {
            offset: start,
            bytes: buffer.freeze(),
        })
    }
}

/// What to do with the payload of an answer.
enum Use {
    /// Bytes of a read, to be received into this.
    Part(Buffer),
    /// A text or a list.
    Whole,
    /// Nobody waits for it.
    Nothing,
}

impl Shared {
    fn enter(&self, id: u64, entry: Entry) -> Result<Ticket<'_>, String> {
        let mut waiting = self.waiting.lock();
        if let Some(why) = &waiting.ended {
            return Err(why.clone());
        }
        waiting.entries.insert(id, entry);
        Ok(Ticket {
            shared: self,
            id,
            cancels: false,
        })
    }

    fn why(&self) -> String {
        let waiting = self.waiting.lock();
        waiting.ended.clone().unwrap_or_default()
    }

    fn heard(&self) {
        let millis = self.opened.elapsed().as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.heard.store(millis, Ordering::Relaxed);
    }

    /// Nobody waits any more: dropping the entries tells them.
    fn end(&self, why: &str) {
        let mut waiting = self.waiting.lock();
        waiting.ended.get_or_insert_with(|| why.to_owned());
        waiting.entries.clear();
        drop(waiting);
        self.outbox.close();
    }

    /// Tells the node that what it was asked is not needed any more: a descriptor, or the
    /// bytes of a read. Nobody waits for an answer.
    fn say(&self, operation: Operation, asked: u64) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let header = Header {
            offset: asked,
            ..Header::request(operation, id)
        };
        if self.outbox.send(&header, [], Vec::new()).is_err() {
            self.end("the connection is closed");
        }
    }

    /// The descriptor that came with an answer, where one has to.
    fn passed(self: &Arc<Self>, header: &Header) -> io::Result<Option<Passed>> {
        if header.operation != Operation::Pass || header.status != Status::Ok {
            return Ok(None);
        }
        let fd = self.caught.take();
        let fd = fd.ok_or_else(|| io::Error::other("it passed no descriptor"))?;
        let hold = Hold {
            shared: Arc::downgrade(self),
            request: header.request,
        };
        Ok(Some(Passed {
            file: File::from(fd),
            hold,
        }))
    }

    async fn read<R: AsyncRead + Unpin>(self: &Arc<Self>, inlet: &mut Inlet<R>) -> io::Result<()> {
        while let Some(bytes) = inlet.header().await? {
            self.heard();
            let header = Header::decode(&bytes).map_err(io::Error::other)?;
            let passed = self.passed(&header)?;
            match self.usage(&header, inlet.buffers())? {
                Use::Nothing => inlet.skip(&header).await?,
                Use::Part(mut buffer) => {
                    let length = header.payload_length as usize;
                    let sum = inlet.receive(&mut buffer, length, || self.heard()).await?;
                    self.part(&header, buffer, sum == header.payload_crc32c);
                }
                Use::Whole => {
                    let payload = inlet.payload(&header, || self.heard()).await?;
                    if payload.crc32c != header.payload_crc32c {
                        return Err(io::Error::other("its answer is damaged"));
                    }
                    self.whole(header, payload.bytes, passed);
                }
            }
        }
        Ok(())
    }

    fn usage(&self, header: &Header, buffers: &Buffers) -> io::Result<Use> {
        let strange = header.flags.strange() != Flags::NONE;
        if strange || !header.is_answer() {
            return Err(io::Error::other("it sent what is no answer"));
        }
        let mut waiting = self.waiting.lock();
        let Some(entry) = waiting.entries.get_mut(&header.request) else {
            return match header.request {
                // About the connection, not about a request.
                0 => Err(io::Error::other(format!(
                    "it ends the connection: {:?}",
                    header.status
                ))),
                _ => Ok(Use::Nothing),
            };
        };
        let has_it = header.status == Status::Ok;
        if has_it && header.operation != entry.operation {
            return Err(io::Error::other("it answers what was not asked"));
        }
        match has_it && entry.operation == Operation::Read {
            true if entry.admits(header) => Ok(Use::Part(entry.buffer(header, buffers))),
            true => Err(io::Error::other("it sent bytes that were not asked for")),
            false => Ok(Use::Whole),
        }
    }

    fn part(&self, header: &Header, buffer: Buffer, matches: bool) {
        let mut waiting = self.waiting.lock();
        let Some(entry) = waiting.entries.get_mut(&header.request) else {
            return;
        };
        if let Some(part) = entry.take(header, buffer, matches)
            && let Some(sink) = &entry.sink
        {
            sink(part);
        }
        if header.flags.has(Flags::MORE) {
            return;
        }
        if let Some(entry) = waiting.entries.remove(&header.request) {
            entry.deliver(*header, Bytes::new(), None);
        }
    }

    fn whole(&self, header: Header, payload: Bytes, passed: Option<Passed>) {
        let entry = self.waiting.lock().entries.remove(&header.request);
        if let Some(entry) = entry {
            entry.deliver(header, payload, passed);
        }
    }
}

impl Entry {
    fn deliver(mut self, header: Header, payload: Bytes, passed: Option<Passed>) {
        if let Some((start, buffer)) = self.run.take().filter(|_| !self.damaged) {
            self.part(start, buffer);
        }
        // Nobody may be waiting any more.
        let _ = self.answer.send(Answer {
            header,
            parts: self.parts,
            handed_over: self.handed_over,
            payload,
            damaged: self.damaged,
            passed,
        });
    }
}

/// Says who we are, and hears who answers and what it knows.
async fn greet<R: AsyncRead + Unpin>(
    outbox: &Outbox,
    inlet: &mut Inlet<R>,
    node: NodeId,
    cluster: ClusterIdentity,
) -> Result<u32, NoConnection> {
    let unreachable = |why: &str| NoConnection::Unreachable(why.to_owned());
    let hello = Hello {
        cluster: cluster.cluster,
        incarnation: cluster.incarnation,
        node,
        ..Hello::default()
    };
    let payload = hello.encode();
    let header = Header::request(Operation::Hello, 0).with(&payload);
    let sent = outbox.send(&header, [Bytes::from(payload)], Vec::new());
    sent.map_err(|broken| NoConnection::Unreachable(broken.to_string()))?;
    let header = inlet.header().await?;
    let header = header.ok_or_else(|| unreachable("it closed the connection"))?;
    // What cannot be read is another version, or nobody of ours.
    let header =
        Header::decode(&header).map_err(|error| NoConnection::OtherVersion(error.to_string()))?;
    if header.status == Status::Ok && header.operation != Operation::Hello {
        return Err(unreachable("it answers what was not asked"));
    }
    let payload = inlet.payload(&header, || {}).await?.bytes;
    match header.status {
        Status::Ok => {}
        Status::UnknownVersion | Status::UnknownOperation | Status::Unsupported => {
            return Err(NoConnection::OtherVersion(format!("{:?}", header.status)));
        }
        other => return Err(NoConnection::Unreachable(format!("it says {other:?}"))),
    }
    let theirs = Hello::decode(&payload);
    let theirs = theirs.map_err(|error| NoConnection::OtherVersion(error.to_string()))?;
    if Versions::HERE.common(theirs.versions).is_none() {
        let versions = theirs.versions;
        return Err(NoConnection::OtherVersion(format!("{versions:?}")));
    }
    let unknown = NodeId::default();
    if theirs.node != unknown && node != unknown && theirs.node != node {
        return Err(unreachable("another node answers there"));
    }
    Ok(theirs.features)
}
