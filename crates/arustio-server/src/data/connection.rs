//! One connection: greeting, requests, end.
//!
//! The task that reads is also the one that holds back: while too many bytes of answers
//! wait, or too many requests are worked on, it reads nothing, and the peer's own sending
//! comes to a halt. What breaks the protocol is answered where that makes sense, logged
//! once, and ends the connection; a peer that just goes away is not worth a line.

mod ahead;
mod bring;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ahead::{Ahead, Request};
use arustio_block::{Ending, Holder};
use arustio_client::block::framed::catch::Caught;
use arustio_client::block::framed::inlet::{Inlet, Payload};
use arustio_client::block::framed::outbox::{Outbox, WriteHalf};
use arustio_proto::failure::Failure;
use arustio_proto::frame::body::{self, Hello};
use arustio_proto::frame::{Flags, FrameError, HEADER, Header, Operation, Status};
use arustio_types::{ClusterId, ErrorKind};
use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::fill;
use super::pass::Holds;
use super::request::{self, Brought, Reply};
use super::running::{Running, Working};
use super::{Endpoint, Peer};
use crate::blocks::{self, Budget};
use crate::metrics::{Opened, Traffic};

/// How long a peer may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);
/// How long answers that are under way may take when a connection ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Readers of one connection that wait at a time for what others bring. They hold nothing,
/// and a client has no more of them than readers of cold blocks.
const WAITS: usize = 256;
/// When to come back, in milliseconds, for whom there is no memory now.
const AGAIN: u32 = 50;

/// Why a connection ends before its peer closes it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The peer is gone, or takes or sends nothing any more.
    #[error("it is gone: {0}")]
    Gone(#[from] io::Error),
    /// It does not keep to the protocol.
    #[error("{0}")]
    Protocol(#[from] FrameError),
    /// It does not keep to the order of things.
    #[error("{0}")]
    Disorder(&'static str),
}

/// Serves a peer until it goes, breaks the protocol, or the server stops.
pub(super) async fn serve<R: AsyncRead + Unpin + Send>(
    endpoint: Arc<Endpoint>,
    read: R,
    write: WriteHalf,
    peer: Peer,
    stop: CancellationToken,
) {
    let outbox = Outbox::new(write);
    let outbox = Arc::new(match peer.is_here {
        true => outbox.copying(),
        false => outbox,
    });
    let (sending, stall) = (Arc::clone(&outbox), endpoint.config.stall_timeout);
    let _sender = AbortOnDropHandle::new(tokio::spawn(async move { sending.run(stall).await }));
    let holder = endpoint.holders.fetch_add(1, Ordering::Relaxed) + 1;
    let running = Running::new(Arc::clone(&outbox));
    let mut connection = Connection {
        permits: Arc::new(Semaphore::new(endpoint.config.concurrency_per_connection)),
        share: Budget::new(endpoint.config.window),
        inlet: Inlet::new(read, endpoint.buffers.clone()),
        endpoint,
        outbox,
        work: JoinSet::new(),
        running,
        ahead: Ahead::default(),
        caught: peer.caught,
        holds: peer.holds,
        waits: Arc::new(Semaphore::new(WAITS)),
        gone: CancellationToken::new(),
        holder: Holder(holder),
        asked: false,
        traffic: peer.traffic,
    };
    let _opened: Opened = connection.traffic.opened();
    let peer = &peer.name;
    match connection.live(&stop).await {
        Ok(()) => tracing::debug!(peer, "a connection of frames ended"),
        Err(Trouble::Gone(error)) => tracing::debug!(peer, "a peer of frames is gone: {error}"),
        Err(trouble) => tracing::warn!(peer, "closed a connection of frames: {trouble}"),
    }
    connection.end().await;
}

struct Connection<R> {
    endpoint: Arc<Endpoint>,
    inlet: Inlet<R>,
    outbox: Arc<Outbox>,
    /// Requests that are worked on beside the reading.
    work: JoinSet<()>,
    /// Which of them are reads, so that the peer can give them up.
    running: Arc<Running>,
    /// Requests that were read before their turn.
    ahead: Ahead,
    /// Descriptors that came with requests.
    caught: Caught,
    permits: Arc<Semaphore>,
    /// Bytes of reads from disk that are worked on or wait to be sent.
    share: Budget,
    /// Descriptors that the peer has; `None` if it gets none.
    holds: Option<Arc<Holds>>,
    /// Readers that may wait for what others bring.
    waits: Arc<Semaphore>,
    /// Ends their waiting: nobody hears the answer any more.
    gone: CancellationToken,
    /// Who holds the peer's leases, if it ever asked for any.
    holder: Holder,
    asked: bool,
    /// Counts what it sends and gets.
    traffic: Traffic,
}

impl<R: AsyncRead + Unpin + Send> Connection<R> {
    async fn live(&mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        let greeted = tokio::select! {
            greeted = timeout(GREETING, self.greeting()) => greeted,
            () = stop.cancelled() => return Ok(()),
        };
        let silent = |_| Trouble::Gone(io::ErrorKind::TimedOut.into());
        if !greeted.map_err(silent)?? {
            return Ok(());
        }
        loop {
            while self.work.try_join_next().is_some() {}
            let next = tokio::select! {
                next = self.next() => next?,
                () = stop.cancelled() => return Ok(()),
            };
            let Some(request) = next else {
                return Ok(());
            };
            tokio::select! {
                taken = self.request(request) => taken?,
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Lets go: what is under way is given a moment, then everything is dropped.
    async fn end(mut self) {
        self.gone.cancel();
        self.abandon();
        let quiet = async {
            while self.work.join_next().await.is_some() {}
            self.outbox.room(1).await;
            self.outbox.finish();
            // What was sent last is lost if what came last was not read.
            self.inlet.exhaust().await;
        };
        // Whoever takes nothing by then has lost it.
        let _ = timeout(LAST_WORDS, quiet).await;
        self.outbox.close();
        // A lease may have been given while the connection ended.
        self.work.shutdown().await;
        self.abandon();
    }

    /// The peer brings nothing any more.
    fn abandon(&self) {
        if self.asked {
            self.endpoint.fills.abandon(self.holder);
        }
    }

    /// The next request, once there is room for its answer; `None` when the peer is done.
    async fn next(&mut self) -> Result<Option<Request>, Trouble> {
        let window = self.endpoint.config.window.get();
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        let outbox = Arc::clone(&self.outbox);
        self.meanwhile(outbox.room(window)).await;
        if self.outbox.is_closed() {
            return Err(Trouble::Gone(io::ErrorKind::BrokenPipe.into()));
        }
        let next = loop {
            if let Some(next) = self.ahead.next() {
                break next;
            }
            match self.header().await {
                Some(bytes) => self.heard(bytes),
                None => return Ok(None),
            }
        };
        if let Err(Trouble::Protocol(error)) = &next
            && let Some((header, words)) = error.answer()
        {
            self.say(&header, words.into())?;
        }
        next
    }

    /// What comes next; `None` from a peer that is silent for too long. One that has
    /// descriptors may be silent: it reads by itself.
    async fn header(&mut self) -> Option<io::Result<Option<[u8; HEADER]>>> {
        let idle = self.endpoint.config.idle_timeout;
        let mut header = pin!(self.inlet.header());
        loop {
            if let Ok(bytes) = timeout(idle, &mut header).await {
                return Some(bytes);
            }
            if self.holds.as_ref().is_none_or(|holds| holds.is_empty()) {
                return None;
            }
        }
    }

    /// The first frame has to be a `Hello`. False: the peer went without a word, or is told
    /// why it has to go.
    async fn greeting(&mut self) -> Result<bool, Trouble> {
        match self.next().await? {
            None => Ok(false),
            Some(Request { header, .. }) if header.operation == Operation::Hello => {
                self.hello(&header).await
            }
            Some(Request { header, .. }) => {
                self.refuse(&header, ErrorKind::InvalidArgument, "say hello first")?;
                Err(Trouble::Disorder("a peer did not say hello first"))
            }
        }
    }

    async fn hello(&mut self, header: &Header) -> Result<bool, Trouble> {
        let payload = self.payload(header).await?;
        if payload.crc32c != header.payload_crc32c {
            return Err(FrameError::Damaged.into());
        }
        let theirs = Hello::decode(&payload.bytes)?;
        let (cluster, incarnation) = (self.endpoint.cluster)();
        let unknown = ClusterId::default();
        if cluster != theirs.cluster && cluster != unknown && theirs.cluster != unknown {
            let words = "this node belongs to another cluster";
            self.refuse(header, ErrorKind::Conflict, words)?;
            return Ok(false);
        }
        let known = Hello::default().features;
        // A peer that speaks none of our versions sees that here, and goes.
        let ours = Hello {
            features: match self.takes_files() {
                true => known | body::FILES,
                false => known,
            },
            cluster,
            incarnation,
            node: self.endpoint.identity.node.lock().unwrap_or_default(),
            instance: self.endpoint.identity.instance,
            ..Hello::default()
        };
        let payload = ours.encode();
        let answer = Header::answer(Operation::Hello, header.request, Status::Ok).with(&payload);
        self.say(&answer, payload.into())?;
        Ok(true)
    }

    async fn request(&mut self, request: Request) -> Result<(), Trouble> {
        let header = request.header;
        if header.flags.strange() != Flags::NONE {
            let words = format!(
                "the flags {:#06x} are not known here",
                header.flags.strange().bits()
            );
            return self.unsupported(&header, &words).await;
        }
        if header.flags.has(Flags::IN_FILE) {
            return self.bring(request).await;
        }
        match header.operation {
            Operation::Read if fill::is_want(&header) => self.want(header),
            Operation::Read => self.read(header).await,
            Operation::Write => self.write(header).await,
            Operation::Stat => {
                let payload = self.payload(&header).await?;
                let endpoint = Arc::clone(&self.endpoint);
                let work = async move { request::stat(&endpoint, &header, &payload).await };
                self.beside(header, work).await
            }
            Operation::Remove => {
                let endpoint = Arc::clone(&self.endpoint);
                let work = async move { request::remove(&endpoint, &header).await };
                self.beside(header, work).await
            }
            Operation::Ping => {
                let answer = Header::answer(Operation::Ping, header.request, Status::Ok);
                self.say(&answer, Bytes::new())
            }
            Operation::Hello => self.hello(&header).await.map(|_| ()),
            Operation::Pass => self.pass(header).await,
            Operation::Release => {
                let released = self
                    .holds
                    .as_ref()
                    .map(|holds| holds.release(header.offset));
                let mut answer = Header::answer(Operation::Release, header.request, Status::Ok);
                answer.length = released.unwrap_or(0);
                self.say(&answer, Bytes::new())
            }
            Operation::Fill if header.payload_length == 0 => {
                let answer = fill::word(&self.endpoint, &header);
                let reply = answer.unwrap_or_else(|failure| Reply::refused(&header, &failure));
                reply.send(&self.outbox, &self.traffic).map_err(gone)
            }
            Operation::Fill => self.fill(header).await,
            // It was heard before its turn.
            Operation::Cancel => Ok(()),
        }
    }

    async fn read(&mut self, header: Header) -> Result<(), Trouble> {
        let began = Instant::now();
        if let Some(reply) = request::in_memory(&self.endpoint, &header) {
            let (metrics, name) = (&self.endpoint.metrics, header.operation.name());
            metrics.request(name, reply.failed(), began.elapsed());
            return reply.send(&self.outbox, &self.traffic).map_err(gone);
        }
        let working = self.running.enter(header.request);
        // One peer's share of the bytes that may be read from disk and not be sent yet.
        let share = self.share.clone();
        let held = self.meanwhile(share.wait(request::most(&header))).await;
        let held = held.into_iter().collect();
        let endpoint = Arc::clone(&self.endpoint);
        let work = async move { request::read(&endpoint, &header, held).await };
        self.work_on(header, Some(working), work).await
    }

    /// A reader that may have to wait takes none of the places of those who do not.
    fn want(&mut self, header: Header) -> Result<(), Trouble> {
        let Ok(place) = Arc::clone(&self.waits).try_acquire_owned() else {
            return self.say(&request::busy(&header, request::AGAIN), Bytes::new());
        };
        self.asked = true;
        let endpoint = Arc::clone(&self.endpoint);
        let (share, gone, holder) = (self.share.clone(), self.gone.clone(), self.holder);
        let traffic = self.traffic.clone();
        let working = self.running.enter(header.request);
        self.work.spawn(async move {
            let work = fill::want(&endpoint, &share, &header, holder);
            let work = working.until_given_up(gone.run_until_cancelled(work));
            let Some(Some(result)) = work.await else {
                return;
            };
            let refused = |failure| (Reply::refused(&header, &failure), Vec::new());
            let (reply, leases) = result.unwrap_or_else(refused);
            endpoint.metrics.ended("frame_want", reply.failed());
            for lease in working.answer(reply, leases, &traffic) {
                endpoint.fills.end(lease, Ending::GaveUp);
            }
            drop(place);
        });
        Ok(())
    }

    async fn fill(&mut self, header: Header) -> Result<(), Trouble> {
        let (payload, held) = match self.receive(&header).await? {
            Received::Payload(payload, held) => (payload, held),
            Received::Nothing => {
                // Who waits for these bytes is told.
                blocks::no_room(&self.endpoint.fills, header.epoch);
                return Ok(());
            }
        };
        let endpoint = Arc::clone(&self.endpoint);
        let work = async move {
            let reply = fill::fill(&endpoint, &header, Brought::from(payload)).await;
            drop::<OwnedSemaphorePermit>(held);
            reply
        };
        self.beside(header, work).await
    }

    async fn pass(&mut self, header: Header) -> Result<(), Trouble> {
        let Some(holds) = self.holds.clone() else {
            let words = "descriptors are passed over the UNIX socket, to the user that the \
                         server runs as";
            return self.unsupported(&header, words).await;
        };
        let endpoint = Arc::clone(&self.endpoint);
        let work = async move { request::pass(&endpoint, &holds, &header).await };
        self.beside(header, work).await
    }

    async fn write(&mut self, header: Header) -> Result<(), Trouble> {
        let Received::Payload(payload, held) = self.receive(&header).await? else {
            return Ok(());
        };
        let endpoint = Arc::clone(&self.endpoint);
        let work = async move {
            let reply = request::write(&endpoint, &header, Brought::from(payload)).await;
            drop::<OwnedSemaphorePermit>(held);
            reply
        };
        self.beside(header, work).await
    }

    /// The payload of a write, where there is room for it; whoever sent one that cannot be
    /// taken was told so.
    async fn receive(&mut self, header: &Header) -> Result<Received, Trouble> {
        if let Err(failure) = request::check_write(header) {
            self.skip(header).await?;
            self.refuse(header, failure.kind, &failure.message)?;
            return Ok(Received::Nothing);
        }
        let length = header.payload_length.into();
        // Filling a cache never waits: who comes too many is turned away.
        let Some(held) = self.endpoint.receiving.try_take(length) else {
            self.skip(header).await?;
            self.say(&request::busy(header, AGAIN), Bytes::new())?;
            return Ok(Received::Nothing);
        };
        let payload = self.payload(header).await?;
        self.traffic.taken(length);
        Ok(Received::Payload(payload, held))
    }

    /// Works on a request beside the reading, within the time that its client waits.
    async fn beside(
        &mut self,
        header: Header,
        work: impl Future<Output = Result<Reply, Failure>> + Send + 'static,
    ) -> Result<(), Trouble> {
        self.work_on(header, None, work).await
    }

    /// The same for what may be given up.
    async fn work_on(
        &mut self,
        header: Header,
        working: Option<Working>,
        work: impl Future<Output = Result<Reply, Failure>> + Send + 'static,
    ) -> Result<(), Trouble> {
        let began = Instant::now();
        let permits = Arc::clone(&self.permits);
        let Ok(permit) = self.meanwhile(permits.acquire_owned()).await else {
            return Err(Trouble::Disorder("the connection is closing"));
        };
        let outbox = Arc::clone(&self.outbox);
        let (metrics, traffic) = (self.endpoint.metrics.clone(), self.traffic.clone());
        self.work.spawn(async move {
            let within = request::patience(&header);
            let late = |_| Err(Failure::new(ErrorKind::Timeout, "it took too long"));
            let work = timeout(within, work);
            let result = match &working {
                Some(working) => working.until_given_up(work).await,
                None => Some(work.await),
            };
            let Some(result) = result else {
                return;
            };
            let result = result.unwrap_or_else(late);
            let reply = result.unwrap_or_else(|failure| Reply::refused(&header, &failure));
            let name = header.operation.name();
            metrics.request(name, reply.failed(), began.elapsed());
            match working {
                // It grants nothing, so that nothing comes back.
                Some(working) => drop(working.answer(reply, Vec::new(), &traffic)),
                None => {
                    // A peer that is gone needs no answer.
                    let _ = reply.send(&outbox, &traffic);
                }
            }
            drop(permit);
        });
        Ok(())
    }

    /// A payload whose length was accepted; it has to come without long pauses.
    async fn payload(&mut self, header: &Header) -> Result<Payload, Trouble> {
        let stall = self.endpoint.config.stall_timeout;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let payload = timeout(stall, self.inlet.payload(header, || {})).await;
        Ok(payload.map_err(late)??)
    }

    async fn skip(&mut self, header: &Header) -> Result<(), Trouble> {
        let stall = self.endpoint.config.stall_timeout;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        Ok(timeout(stall, self.inlet.skip(header))
            .await
            .map_err(late)??)
    }

    async fn unsupported(&mut self, header: &Header, words: &str) -> Result<(), Trouble> {
        self.skip(header).await?;
        let words = body::encode_text(words);
        let answer = Header::answer(header.operation, header.request, Status::Unsupported);
        self.say(&answer.with(&words), words.into())
    }

    fn refuse(&self, header: &Header, kind: ErrorKind, words: &str) -> Result<(), Trouble> {
        let reply = Reply::refused(header, &Failure::new(kind, words));
        let name = header.operation.name();
        let metrics = &self.endpoint.metrics;
        metrics.request(name, reply.failed(), Duration::ZERO);
        reply.send(&self.outbox, &self.traffic).map_err(gone)
    }

    fn say(&self, header: &Header, payload: Bytes) -> Result<(), Trouble> {
        self.traffic.answered(header);
        let sent = self.outbox.send(header, [payload], Vec::new());
        sent.map_err(gone)
    }
}

/// What came of a payload.
enum Received {
    /// It is here, and counts until the permit is dropped.
    Payload(Payload, OwnedSemaphorePermit),
    /// It was read past, and answered.
    Nothing,
}

fn gone(broken: arustio_client::block::framed::outbox::Broken) -> Trouble {
    Trouble::Gone(io::Error::new(io::ErrorKind::BrokenPipe, broken))
}
