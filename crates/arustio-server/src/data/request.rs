//! From a header to an answer: look at what was asked for, ask the store, put the answer
//! into frames. No reading and no writing of sockets here.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use arustio_block::{BlockWrite, Borrowed, Parts, Sealed, Selector, WriteHint, WriteOutcome};
use arustio_client::block::framed::inlet::Payload;
use arustio_client::block::framed::outbox::{Broken, Outbox, Piece};
use arustio_proto::failure::Failure;
use arustio_proto::frame::{Flags, Header, Operation, Status, body};
use arustio_types::{BlockKey, Checksum, ErrorKind};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::Endpoint;
use super::pass::{Holds, Lent};
use crate::blocks;
use crate::metrics::Traffic;

/// Longest time that a request is worked on, whatever its client says.
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// When to come back, in milliseconds, for whom there is no descriptor or no place now.
pub(super) const AGAIN: u32 = 1000;

/// The bytes of a write, and the file that they came in, if they came in one.
pub(super) struct Brought {
    pub(super) bytes: Bytes,
    pub(super) sealed: Option<Sealed>,
}

impl Brought {
    pub(super) fn in_file(sealed: Sealed) -> Self {
        Self {
            bytes: sealed.bytes(),
            sealed: Some(sealed),
        }
    }
}

impl From<Payload> for Brought {
    fn from(payload: Payload) -> Self {
        Self {
            bytes: payload.bytes,
            sealed: None,
        }
    }
}

/// The frames that answer a request.
#[derive(Debug)]
pub(super) struct Reply {
    frames: Vec<(Header, Piece)>,
    /// Bytes that are counted until they are sent.
    held: Vec<OwnedSemaphorePermit>,
    /// What goes with the only frame.
    file: Option<Arc<File>>,
}

impl Reply {
    fn one(header: Header, payload: Bytes) -> Self {
        Self {
            frames: vec![(header, payload.into())],
            held: Vec::new(),
            file: None,
        }
    }

    pub(super) fn status(asked: &Header, status: Status) -> Self {
        Self::one(
            Header::answer(asked.operation, asked.request, status),
            Bytes::new(),
        )
    }

    pub(super) fn words(asked: &Header, status: Status, words: &str) -> Self {
        let words = body::encode_text(words);
        let header = Header::answer(asked.operation, asked.request, status).with(&words);
        Self::one(header, words.into())
    }

    /// What a failure says.
    pub(super) fn refused(asked: &Header, failure: &Failure) -> Self {
        Self::words(asked, Status::Failed(failure.kind), &failure.message)
    }

    /// One frame for each part, or a miss.
    pub(super) fn parts(asked: &Header, parts: Parts, held: Vec<OwnedSemaphorePermit>) -> Self {
        let block_length = parts
            .block_len
            .and_then(|length| u32::try_from(length).ok());
        let answer = |status| Header {
            content: asked.content,
            size_log2: asked.size_log2,
            index: asked.index,
            block_length: block_length.unwrap_or(0),
            ..Header::answer(Operation::Read, asked.request, status)
        };
        let Some(last) = parts.parts.len().checked_sub(1) else {
            return Self::one(answer(Status::Miss), Bytes::new());
        };
        let frame = |(at, part): (usize, arustio_block::Part)| {
            let mut header = answer(Status::Ok);
            header.offset = part.range.start;
            header.length = part.bytes.len() as u64;
            // A part lies in a block, and a block has at most 256 MiB.
            header.payload_length = part.bytes.len() as u32;
            header.payload_crc32c = part.checksum.0;
            if at < last {
                header.flags = header.flags.with(Flags::MORE);
            }
            let piece = match part.file {
                Some(file) => Piece::of_file(part.bytes, file, part.range.start),
                None => part.bytes.into(),
            };
            (header, piece)
        };
        Self {
            frames: parts.parts.into_iter().enumerate().map(frame).collect(),
            held,
            file: None,
        }
    }

    /// With one frame more; a miss before it goes without saying.
    pub(super) fn and(mut self, more: Option<(Header, Bytes)>) -> Self {
        let Some(more) = more else {
            return self;
        };
        self.frames
            .retain(|(header, _)| header.status != Status::Miss);
        for (header, _) in &mut self.frames {
            header.flags = header.flags.with(Flags::MORE);
        }
        self.frames.push((more.0, more.1.into()));
        self
    }

    /// Tells a peer that brings bytes that others wait for more of them.
    pub(super) fn awaited(mut self, awaited: bool) -> Self {
        if let Some((header, _)) = self.frames.first_mut().filter(|_| awaited) {
            header.flags = header.flags.with(Flags::AWAITED);
        }
        self
    }

    /// Tells the peer of the newest view that this node heard of.
    pub(super) fn at_epoch(mut self, epoch: u64) -> Self {
        for (header, _) in &mut self.frames {
            header.epoch = epoch;
        }
        self
    }

    /// The kind of failure, where it is one.
    pub(super) fn failed(&self) -> Option<ErrorKind> {
        match self.frames.first()?.0.status {
            Status::Failed(kind) => Some(kind),
            _ => None,
        }
    }

    /// Hands it to the connection, and counts it.
    pub(super) fn send(self, outbox: &Outbox, traffic: &Traffic) -> Result<(), Broken> {
        let last = self.frames.len().saturating_sub(1);
        let mut held = self.held;
        let mut file = self.file;
        for (at, (header, payload)) in self.frames.into_iter().enumerate() {
            let held = match at == last {
                true => std::mem::take(&mut held),
                false => Vec::new(),
            };
            traffic.answered(&header);
            match file.take() {
                Some(file) => outbox.pass(&header, payload, file)?,
                None => outbox.send_piece(&header, payload, held)?,
            }
        }
        Ok(())
    }
}

/// The answer to somebody for whom there is no room, who may come again after so many
/// milliseconds.
pub(super) fn busy(asked: &Header, again: u32) -> Header {
    let mut busy = Header::answer(asked.operation, asked.request, Status::Busy);
    busy.millis = again;
    busy
}

/// How long a request may take.
pub(super) fn patience(header: &Header) -> Duration {
    match header.millis {
        0 => MOST_PATIENCE,
        millis => Duration::from_millis(millis.into()).min(MOST_PATIENCE),
    }
}

/// The answer to a read that needs no waiting: from memory, or a refusal.
pub(super) fn in_memory(endpoint: &Endpoint, header: &Header) -> Option<Reply> {
    let key = match key(header) {
        Ok(key) => key,
        Err(failure) => return Some(Reply::refused(header, &failure)),
    };
    let range = blocks::clipped(&key, header.offset, header.length);
    let parts = endpoint.store.try_read_memory(key, range)?;
    let reply = Reply::parts(header, parts, Vec::new());
    Some(reply.at_epoch(endpoint.identity.epoch()))
}

/// The answer to a read, from wherever the bytes are. `held` is kept until it is sent.
pub(super) async fn read(
    endpoint: &Endpoint,
    header: &Header,
    mut held: Vec<OwnedSemaphorePermit>,
) -> Result<Reply, Failure> {
    let key = key(header)?;
    let range = blocks::clipped(&key, header.offset, header.length);
    // Bytes from disk are ours until they are sent; those from memory are shared.
    held.extend(endpoint.sending.wait(range.end - range.start).await);
    let parts = endpoint.store.read(key, range).await;
    let parts = parts.map_err(|error| Failure::of(&error))?;
    Ok(Reply::parts(header, parts, held).at_epoch(endpoint.identity.epoch()))
}

/// The answer to a peer that wants a descriptor: what the store lends, if it is all of the
/// block, and kept for the peer from now on.
pub(super) async fn pass(
    endpoint: &Endpoint,
    holds: &Holds,
    header: &Header,
) -> Result<Reply, Failure> {
    let key = key(header)?;
    let busy = || Ok(Reply::one(busy(header, AGAIN), Bytes::new()));
    let miss = || Ok(Reply::status(header, Status::Miss));
    let Some(place) = holds.place() else {
        return busy();
    };
    let there = endpoint.store.contains(key).await;
    let there = there.map_err(|error| Failure::of(&error))?;
    let Some(there) = there.filter(|there| there.is_complete()) else {
        return miss();
    };
    let borrowed = endpoint.store.borrow(key, 0..there.block_len).await;
    let Some(Borrowed::File(file)) = borrowed.map_err(|error| Failure::of(&error))? else {
        return miss();
    };
    let Some(checksum) = file.checksum else {
        return miss();
    };
    let usage = endpoint.store.usage();
    let usage = usage.iter().find(|usage| usage.tier == file.tier);
    let capacity = usage.map_or(0, |usage| usage.capacity);
    let share = endpoint.lending.take(file.tier, there.block_len, capacity);
    let Some(share) = share else {
        // About this tier, and so about this block: others may lie on another one.
        return miss();
    };
    let payload = body::encode_passed(checksum);
    let mut answer = Header::answer(Operation::Pass, header.request, Status::Ok).of(&key);
    answer.offset = file.offset;
    answer.length = there.block_len;
    // A block has at most 256 MiB.
    answer.block_length = there.block_len as u32;
    let (file, hold) = file.into_parts();
    let lent = Lent {
        _hold: hold,
        _share: share,
        _place: place,
    };
    holds.keep(header.request, lent);
    Ok(Reply {
        file: Some(file),
        ..Reply::one(answer.with(&payload), payload.into())
    })
}

/// The most bytes that the answer to a read can have.
pub(super) fn most(header: &Header) -> u64 {
    let range = key(header).map(|key| blocks::clipped(&key, header.offset, header.length));
    range.map_or(0, |range| range.end - range.start)
}

/// Whether the payload of a write may be received.
pub(super) fn check_write(header: &Header) -> Result<(), Failure> {
    let length = header.payload_length.into();
    let block_length = header.block_length.into();
    blocks::check_write(&key(header)?, header.offset, length, block_length)
}

/// The answer to a write whose payload is there.
pub(super) async fn write(
    endpoint: &Endpoint,
    header: &Header,
    brought: Brought,
) -> Result<Reply, Failure> {
    let durable = header.flags.has(Flags::DURABLE);
    let key = key(header)?;
    let write = BlockWrite {
        key,
        offset: header.offset,
        payload: brought.bytes,
        checksum: Checksum(header.payload_crc32c),
        block_len: header.block_length.into(),
        mount: header.mount,
        hint: match durable {
            true => WriteHint::Durable,
            false => WriteHint::Cache,
        },
        sealed: brought.sealed,
    };
    let outcome = endpoint.store.write(write).await;
    Ok(match outcome.map_err(|error| Failure::of(&error))? {
        WriteOutcome::Stored => {
            endpoint.fills.came(&key);
            Reply::status(header, Status::Ok)
        }
        WriteOutcome::AlreadyPresent => Reply::status(header, Status::AlreadyPresent),
        WriteOutcome::Rejected(why) => Reply::words(header, Status::Rejected, blocks::reason(why)),
    })
}

/// How much is there of the contents that a payload names.
pub(super) async fn stat(
    endpoint: &Endpoint,
    header: &Header,
    payload: &Payload,
) -> Result<Reply, Failure> {
    let wrong = |what: String| Failure::new(ErrorKind::InvalidArgument, what);
    if payload.crc32c != header.payload_crc32c {
        return Err(wrong("the payload does not match its checksum".to_owned()));
    }
    let extents = body::decode_extents(&payload.bytes);
    let extents = extents.map_err(|error| wrong(error.to_string()))?;
    let first = |extent: &body::Extent| {
        let key = BlockKey {
            content: extent.content,
            size: extent.size,
            index: extent.first,
        };
        (key, extent.blocks)
    };
    let extents: Vec<_> = extents.iter().map(first).collect();
    let counts = blocks::present(&*endpoint.store, &extents).await?;
    let payload = body::encode_counts(&counts);
    let answer = Header::answer(Operation::Stat, header.request, Status::Ok);
    Ok(Reply::one(answer.with(&payload), payload.into()))
}

/// Forgets blocks.
pub(super) async fn remove(endpoint: &Endpoint, header: &Header) -> Result<Reply, Failure> {
    let of = |flag| header.flags.has(flag);
    let selector = match (of(Flags::OF_CONTENT), of(Flags::OF_MOUNT)) {
        (false, false) => Selector::Block(key(header)?),
        (true, false) => Selector::Content(header.content),
        (false, true) => Selector::Mount(header.mount),
        (true, true) => {
            let message = "it says twice what to remove";
            return Err(Failure::new(ErrorKind::InvalidArgument, message));
        }
    };
    let removed = endpoint.store.remove(selector).await;
    let removed = removed.map_err(|error| Failure::of(&error))?;
    let mut answer = Header::answer(Operation::Remove, header.request, Status::Ok);
    answer.length = removed.blocks;
    Ok(Reply::one(answer, Bytes::new()))
}

pub(super) fn key(header: &Header) -> Result<BlockKey, Failure> {
    let wrong = || Failure::new(ErrorKind::InvalidArgument, "no block is named");
    header.key().ok_or_else(wrong)
}
