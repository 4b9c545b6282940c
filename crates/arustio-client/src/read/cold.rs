//! A range that is cold, shared with everybody else who reads it (R5).
//!
//! The node that owns a block says what of it is there, what this reader is to bring, and
//! what others bring. What is this reader's is one request to the store for each run; its
//! bytes go to the reader, and in pieces to the node. For what is others' it asks again:
//! the node answers as soon as something has come.
//!
//! The first block of a range decides: only who was given its end asks for the next ones
//! before their turn. So one of many who begin together gets all of them, and a small
//! object stays one request (R6).
//!
//! Nothing here is needed for the bytes: a node that fails, has no room or knows no leases,
//! and others who bring nothing for `read.fill_wait`, leave this reader with the store, as
//! if there were no cache (R4).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::block::{BlockSlice, CHUNK, slices};
use arustio_types::{BlockKey, ErrorKind};
use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{BoxStream, try_unfold};
use futures::{StreamExt as _, pin_mut};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::fetch::{Cut, Cutter, Fetcher, Piece, Source};
use super::gather::Gather;
use crate::block::fill::{Filler, Lease};
use crate::block::{Alone, BlockOffer, BlockWant, LeaseWord};
use crate::error::{FsError, Result};

/// The grid of what is sent to a node.
pub(super) const FEED: u64 = 256 << 10;
/// How long a node waits for others before it says that it is still there.
pub(super) const POLL: Duration = Duration::from_secs(1);
/// Time to wait for others where there is something else to do.
const NO_WAIT: Duration = Duration::ZERO;
/// Blocks that are asked for together, once the ones before them are this reader's.
pub(super) const AHEAD: usize = 8;
/// Nodes that may fail before the store is asked.
const MOST_FAILURES: u32 = 3;

impl Fetcher {
    /// The bytes of a range that the nodes did not have, in order.
    pub(super) async fn cold(
        &self,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Piece>>> {
        if !self.shares(&range) {
            return Ok(self.ask_ufs(range).await?.boxed());
        }
        let cold = Cold::new(self.clone(), range);
        let pieces = try_unfold(cold, |mut cold| async move {
            let piece = cold.next().await?;
            Ok(piece.map(|piece| (piece, cold)))
        });
        Ok(pieces.boxed())
    }

    fn shares(&self, range: &Range<u64>) -> bool {
        let config = &self.client.config.read;
        let end = range.end.is_multiple_of(CHUNK) || range.end == self.pin.length();
        let chunks = range.start.is_multiple_of(CHUNK) && end;
        chunks && config.cache && !config.fill_wait.is_zero() && self.client.filler.enabled()
    }
}

/// What is at hand, or on its way.
enum Ready {
    Bytes(Bytes),
    Run(Run),
}

/// Bytes that this reader gets from the store. The channel holds at most those of its range.
struct Run {
    pieces: mpsc::UnboundedReceiver<Result<Piece>>,
    /// Nobody but this reader needs what it does.
    _task: Option<AbortOnDropHandle<()>>,
}

/// A lease, and which bytes of the content it is on. Unless all of them were sent it is
/// given up when it is dropped.
struct Held {
    filler: Filler,
    lease: Arc<Lease>,
    range: Range<u64>,
    lasts: Duration,
    sent: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.sent {
            self.filler.say(&self.lease, LeaseWord::GiveUp);
        }
    }
}

struct Cold {
    fetcher: Fetcher,
    range: Range<u64>,
    /// Up to here everything was handed on.
    at: u64,
    ready: BTreeMap<u64, Ready>,
    /// Nodes that failed.
    failures: u32,
    /// When this reader has waited long enough for others.
    patience: Instant,
}

impl Cold {
    fn new(fetcher: Fetcher, range: Range<u64>) -> Self {
        let mut cold = Self {
            fetcher,
            at: range.start,
            range,
            ready: BTreeMap::new(),
            failures: 0,
            patience: Instant::now(),
        };
        cold.be_patient();
        cold
    }

    async fn next(&mut self) -> Result<Option<Piece>> {
        while self.at < self.range.end {
            let Some(mut first) = self.ready.first_entry().filter(|e| *e.key() <= self.at) else {
                self.look().await;
                continue;
            };
            let start = *first.key();
            let piece = match first.get_mut() {
                Ready::Bytes(bytes) => Some(Ok(Piece {
                    at: start,
                    bytes: std::mem::take(bytes),
                })),
                Ready::Run(run) => run.pieces.recv().await,
            };
            // Bytes are here once, a run until it has no more.
            if matches!(first.get(), Ready::Bytes(_)) || piece.is_none() {
                first.remove();
            }
            let rest = self.at..self.range.end;
            if let Some(piece) = piece.transpose()?.and_then(|piece| piece.within(&rest)) {
                self.at = piece.range().end;
                self.be_patient();
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn be_patient(&mut self) {
        self.patience = Instant::now() + self.fetcher.client.config.read.fill_wait;
    }

    /// Where the next bytes are that are at hand or on their way.
    fn gap(&self) -> Range<u64> {
        let next = self.ready.first_key_value().map(|(start, _)| *start);
        self.at..next.unwrap_or(self.range.end)
    }

    /// Sees to the bytes that come next: they are at hand or on their way then, or there is
    /// reason to look again.
    async fn look(&mut self) {
        let gap = self.gap();
        let left = self.patience.saturating_duration_since(Instant::now());
        if self.failures >= MOST_FAILURES || left.is_zero() {
            return self.alone(gap);
        }
        let mut blocks = self.blocks(&gap);
        let Some((key, slice)) = blocks.pop_front() else {
            return self.alone(gap);
        };
        let mut held = Vec::new();
        let (asked, wait) = (Instant::now(), POLL.min(left));
        let offered = self.fetcher.want(key, slice.clone(), wait).await;
        let Some(offered) = offered else {
            self.failures += 1;
            return;
        };
        if offered.is_empty() {
            match offered.alone {
                Some(_) => self.alone(gap),
                // It has not waited: asking it on and on is no waiting either.
                None if asked.elapsed() < wait / 2 => self.failures += 1,
                None => {}
            }
            return;
        }
        let mut whole = self.take(offered, &slice, &mut held);
        while whole && !blocks.is_empty() {
            let some: Vec<_> = blocks.drain(..blocks.len().min(AHEAD)).collect();
            whole = self.look_ahead(some, &mut held).await;
        }
        self.bring(held);
    }

    /// The blocks of a range, with what is wanted of each.
    fn blocks(&self, gap: &Range<u64>) -> VecDeque<(BlockKey, Range<u64>)> {
        let pin = &self.fetcher.pin;
        let slices = slices(pin.block_size, gap.clone(), pin.length());
        let wanted = |slice: BlockSlice| (self.fetcher.key(slice.index), slice.range);
        slices.map(wanted).collect()
    }

    /// Asks for further blocks without waiting. True: all of them are this reader's.
    async fn look_ahead(
        &mut self,
        blocks: Vec<(BlockKey, Range<u64>)>,
        held: &mut Vec<Held>,
    ) -> bool {
        let fetcher = &self.fetcher;
        let offers = blocks
            .iter()
            .map(|(key, slice)| fetcher.want(*key, slice.clone(), NO_WAIT));
        let offers = join_all(offers).await;
        let mut whole = true;
        for (offer, (_, slice)) in offers.into_iter().zip(&blocks) {
            let offer = offer.unwrap_or_default();
            whole &= self.take(offer, slice, held);
        }
        whole
    }

    /// Takes what a node offers of a slice of a block. True: the end of it is this reader's.
    fn take(&mut self, offered: Offered, slice: &Range<u64>, held: &mut Vec<Held>) -> bool {
        for piece in offered.pieces {
            self.ready.insert(piece.at, Ready::Bytes(piece.bytes));
        }
        let last = offered.held.last().map(|last| last.range.end);
        let first = offered.start;
        held.extend(offered.held);
        last == Some(first + slice.end)
    }

    /// Begins to bring what this reader has leases on: one request for each run.
    fn bring(&mut self, held: Vec<Held>) {
        let mut run: Vec<Held> = Vec::new();
        for next in held {
            if run
                .last()
                .is_some_and(|last| last.range.end != next.range.start)
            {
                self.begin(std::mem::take(&mut run));
            }
            run.push(next);
        }
        self.begin(run);
    }

    fn begin(&mut self, run: Vec<Held>) {
        let Some(first) = run.first() else {
            return;
        };
        let start = first.range.start;
        let (sender, pieces) = mpsc::unbounded_channel();
        let fetcher = self.fetcher.clone();
        // It may have to go on when this reader has all of its bytes: others wait for them.
        let tasks = &self.fetcher.client.tasks;
        tasks.lingering(bring(fetcher, run, sender));
        let run = Run {
            pieces,
            _task: None,
        };
        self.ready.insert(start, Ready::Run(run));
    }

    /// Reads a range from the store, without a lease.
    fn alone(&mut self, gap: Range<u64>) {
        let (sender, pieces) = mpsc::unbounded_channel();
        let start = gap.start;
        let task = tokio::spawn(read_alone(self.fetcher.clone(), gap, sender));
        let run = Run {
            pieces,
            _task: Some(AbortOnDropHandle::new(task)),
        };
        self.ready.insert(start, Ready::Run(run));
    }
}

/// What a node offered, in bytes of the content.
#[derive(Default)]
struct Offered {
    /// Where the block begins.
    start: u64,
    pieces: Vec<Piece>,
    held: Vec<Held>,
    alone: Option<Alone>,
}

impl Offered {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.held.is_empty()
    }
}

impl Fetcher {
    /// Asks the owner of a block; `None` if it cannot be asked.
    async fn want(&self, key: BlockKey, range: Range<u64>, wait: Duration) -> Option<Offered> {
        let client = &self.client;
        let Ok(view) = client.metadata.cluster_view().await else {
            return None;
        };
        let nobody = || Offered {
            alone: Some(Alone::Unsupported),
            ..Offered::default()
        };
        let Some(node) = client.owners.choose(&view, &key, Instant::now()) else {
            return Some(nobody());
        };
        let request = BlockWant {
            key,
            range,
            block_length: key.len_in(self.pin.length()),
            epoch: view.epoch,
            wait,
        };
        let deadline = wait + client.config.read.node_timeout;
        let offer = match client.blocks.want(node, request, deadline).await {
            Ok(offer) => offer,
            Err(error) => {
                self.failed_at(node, key, &error).await;
                return None;
            }
        };
        client.owners.succeeded(node.id);
        let BlockOffer {
            parts,
            leases,
            alone,
        } = offer;
        self.count_cached(&parts);
        let start = key.start();
        let pieces = parts.into_iter().map(|part| Piece {
            at: start + part.offset,
            bytes: part.bytes,
        });
        let held = leases.into_iter().map(|lease| Held {
            filler: client.filler.clone(),
            lease: Lease::new(node.clone(), lease.lease),
            range: start + lease.range.start..start + lease.range.end,
            lasts: lease.lasts,
            sent: false,
        });
        Some(Offered {
            start,
            pieces: pieces.collect(),
            held: held.collect(),
            alone,
        })
    }
}

type Sender = mpsc::UnboundedSender<Result<Piece>>;

async fn read_alone(fetcher: Fetcher, range: Range<u64>, sender: Sender) {
    let pieces = match fetcher.ask_ufs(range).await {
        Ok(pieces) => pieces,
        Err(error) => {
            // Whoever took the bytes may be gone.
            let _ = sender.send(Err(error));
            return;
        }
    };
    pin_mut!(pieces);
    while let Some(piece) = pieces.next().await {
        let _ = sender.send(piece);
    }
}

async fn bring(fetcher: Fetcher, held: Vec<Held>, sender: Sender) {
    let mut errand = Errand {
        renewed: Instant::now(),
        held: held.into(),
        gather: Gather::new(fetcher.client.config.read.fill_buffer.get()),
        fetcher,
    };
    if let Err(error) = errand.run(&sender).await {
        errand.flush().await;
        errand.failed(&error);
        let _ = sender.send(Err(error));
    }
}

/// A run of leases whose bytes are on their way from the store.
struct Errand {
    fetcher: Fetcher,
    /// Those whose bytes were not all sent.
    held: VecDeque<Held>,
    /// Bytes under the first of them.
    gather: Gather,
    renewed: Instant,
}

/// What comes next of the errand's bytes.
enum Next {
    Piece(Piece),
    AllCame,
    /// A reader that leaves early brings nothing any more.
    ReaderLeft,
}

impl Errand {
    async fn run(&mut self, sender: &Sender) -> Result<()> {
        let (Some(first), Some(last)) = (self.held.front(), self.held.back()) else {
            return Ok(());
        };
        let range = first.range.start..last.range.end;
        let grid = FEED.min(self.fetcher.pin.block_size.bytes());
        let mut cutter = Cutter::new(range.start, grid);
        let mut source = self.fetcher.open(range).await?;
        if !source.cacheable {
            self.end(LeaseWord::Uncacheable);
        }
        while !source.is_done() {
            let piece = match self.next(&mut source, sender).await? {
                Next::Piece(piece) => piece,
                Next::AllCame => break,
                Next::ReaderLeft => return Ok(()),
            };
            let cuts = cutter.push(piece.bytes.clone());
            // The reader may have left in this moment.
            let _ = sender.send(Ok(piece));
            for cut in cuts {
                self.gather(cut).await;
            }
            self.renew();
        }
        self.gather(cutter.finish()).await;
        self.flush().await;
        Ok(())
    }

    /// Waits for bytes, and meanwhile lets no others wait for longer than they may.
    async fn next(&mut self, source: &mut Source, sender: &Sender) -> Result<Next> {
        let fetcher = self.fetcher.clone();
        let next = source.next(&fetcher);
        pin_mut!(next);
        loop {
            let due = self.gather.due();
            tokio::select! {
                biased;
                next = &mut next => return Ok(next?.map_or(Next::AllCame, Next::Piece)),
                () = sender.closed() => return Ok(Next::ReaderLeft),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.flush().await;
                }
            }
        }
    }

    async fn gather(&mut self, cut: Cut) {
        let Some(end) = self.held.front().map(|held| held.range.end) else {
            return;
        };
        if let Some(cut) = self.gather.push(cut, end, Instant::now()) {
            self.send(cut).await;
        }
    }

    async fn flush(&mut self) {
        if let Some(cut) = self.gather.take() {
            self.send(cut).await;
        }
    }

    /// Sends bytes to the node whose lease they are under.
    async fn send(&mut self, cut: Cut) {
        let Some(held) = self.held.front_mut() else {
            return;
        };
        let Some(write) = self.fetcher.write(cut) else {
            return;
        };
        let end = write.key.start() + write.offset + write.len();
        let crowd = &self.fetcher.pin.crowd;
        let taken = held.filler.fill(&held.lease, held.lasts, write, crowd);
        let taken = taken.await;
        self.fetcher.offered(taken);
        if end >= held.range.end {
            held.sent = true;
            self.held.pop_front();
        }
    }

    /// Bytes have come, so that the leases whose turn comes later are kept alive.
    fn renew(&mut self) {
        let Some(last) = self.held.back() else {
            return;
        };
        if self.held.len() < 2 || self.renewed.elapsed() < last.lasts / 3 {
            return;
        }
        self.renewed = Instant::now();
        for held in self.held.iter().skip(1) {
            held.filler.say(&held.lease, LeaseWord::Renew);
        }
    }

    fn failed(&mut self, error: &FsError) {
        match error.kind() {
            ErrorKind::Stale => self.end(LeaseWord::Stale),
            _ => self.end(LeaseWord::GiveUp),
        }
    }

    fn end(&mut self, word: LeaseWord) {
        for mut held in self.held.drain(..) {
            held.filler.say(&held.lease, word);
            held.sent = true;
        }
    }
}
