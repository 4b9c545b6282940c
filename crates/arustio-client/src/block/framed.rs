//! Block nodes over the framed protocol.
//!
//! The default between our own parts: a warm byte is copied once from the socket, into the
//! buffer that the caller gets, and compared with the checksum that it had when it arrived
//! at the node. A few connections per node carry all requests; answers come in any order
//! and are matched by their id.
//!
//! A node that does not offer frames, that speaks another version, or whose frames cannot
//! be reached is asked over gRPC, and tried again after a pause that grows: a port that a
//! firewall closes costs speed, never the cache.
//!
//! - [`outbox`] and [`inlet`]: the two directions of a stream, shared with the node's side.
//! - `connection`: one connection, with the requests that wait for answers.
//! - `catch`: descriptors that come along.
//! - `hand_in`: blocks that a node on this host gets as files.
//! - `pool`: the connections of a node, and when not to try.
//!
//! A node on this host also passes descriptors, over its UNIX socket; what they are good for
//! is in [`local`](super::local).

pub mod catch;
mod connection;
pub(crate) mod hand_in;
pub mod inlet;
pub mod outbox;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arustio_proto::frame::{Flags, Header, MAX_EXTENTS, Operation, Status, body};
use arustio_types::cluster::NodeInfo;
use arustio_types::{BlockKey, ErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::buffers::Buffers;
use super::{
    Alone, BlockClient, BlockError, BlockExtent, BlockFilled, BlockLease, BlockLoan, BlockOffer,
    BlockPart, BlockRead, BlockSelector, BlockStored, BlockWant, BlockWrite, GrpcBlocks, LeaseWord,
    PartSink,
};
use crate::metadata::ClusterIdentity;
use connection::{Answer, Place, Question};
use hand_in::Files;
use pool::{Pool, Way};

/// Nodes whose connections are kept.
const MOST_NODES: usize = 256;

/// Connections to block nodes by frames, made when they are first used, and by gRPC where
/// there are none. Dropping it closes them.
#[derive(Debug)]
pub struct FramedBlocks {
    grpc: GrpcBlocks,
    cluster: ClusterIdentity,
    buffers: Buffers,
    /// Nodes on this host are handed files.
    files: Option<Files>,
    pools: Mutex<HashMap<Place, Arc<Pool>>>,
}

/// What came of asking.
enum Asked {
    Answered(Answer),
    /// Over gRPC instead, in what is left of the time.
    Elsewhere(Duration),
    /// The node does not know what is asked.
    Unknown,
}

impl FramedBlocks {
    /// Speaks to nodes of this cluster only; a default identity stands for any. `grpc` is
    /// for nodes without frames.
    pub fn new(cluster: ClusterIdentity, grpc: GrpcBlocks) -> Self {
        Self {
            grpc,
            cluster,
            buffers: Buffers::default(),
            files: None,
            pools: Mutex::default(),
        }
    }

    /// Receives into these buffers.
    #[must_use]
    pub fn receiving_into(mut self, buffers: Buffers) -> Self {
        self.buffers = buffers;
        self
    }

    fn pool(&self, place: Place) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&place) {
            return Arc::clone(pool);
        }
        if pools.len() >= MOST_NODES {
            pools.clear();
        }
        let pool = Arc::new(Pool::new(place.clone(), self.cluster, self.buffers.clone()));
        pools.insert(place, Arc::clone(&pool));
        pool
    }

    async fn ask(
        &self,
        node: &NodeInfo,
        question: Question,
        deadline: Duration,
    ) -> Result<Asked, BlockError> {
        let Some(address) = node.data.frames.clone() else {
            return Ok(Asked::Elsewhere(deadline));
        };
        let place = Place::Tcp(address);
        self.ask_at(place, node, question, deadline).await
    }

    /// Asks once, and once more where a connection turned out to be gone: nothing that is
    /// asked for does harm when it is done twice.
    async fn ask_at(
        &self,
        place: Place,
        node: &NodeInfo,
        question: Question,
        deadline: Duration,
    ) -> Result<Asked, BlockError> {
        let began = Instant::now();
        let until = began + deadline;
        let address = place.to_string();
        let pool = self.pool(place);
        let mut lost = None;
        for _ in 0..2 {
            let connection = match pool.connection(node.id, question.lane, until).await {
                Way::Frames(connection) => connection,
                Way::Grpc => return Ok(Asked::Elsewhere(left(until))),
            };
            if !connection.knows(question.needs) {
                return Ok(Asked::Unknown);
            }
            match tokio::time::timeout_at(until, connection.ask(&question, until)).await {
                Ok(Ok(answer)) => {
                    self.grpc.epoch.heard(answer.header.epoch);
                    return Ok(Asked::Answered(answer));
                }
                Ok(Err(gone)) => lost = Some(gone),
                Err(_) => {
                    connection.missed(began);
                    return Err(BlockError::Timeout {
                        address,
                        after: deadline,
                    });
                }
            }
        }
        Err(BlockError::Unreachable {
            address,
            cause: lost.unwrap_or_default(),
        })
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn address(node: &NodeInfo) -> String {
    let frames = node.data.frames.as_ref();
    frames.unwrap_or(&node.address).clone()
}

fn refused(node: &NodeInfo, cause: impl Into<String>) -> BlockError {
    BlockError::Refused {
        address: address(node),
        cause: cause.into(),
    }
}

fn unknown(node: &NodeInfo) -> BlockError {
    refused(node, "it does not know what is asked")
}

/// A read as a question.
fn reading(asked: &BlockRead) -> Question {
    let mut header = Header::request(Operation::Read, 0).of(&asked.key);
    header.epoch = asked.epoch;
    header.offset = asked.range.start;
    header.length = asked.range.end.saturating_sub(asked.range.start);
    Question {
        wanted: asked.range.clone(),
        lane: asked.lane,
        ..Question::new(header)
    }
}

/// The answer to a read, if it is one: a miss has no parts.
fn read(node: &NodeInfo, asked: &BlockRead, answer: Answer) -> Result<Answer, BlockError> {
    match answer.header.status {
        Status::Ok if answer.damaged => Err(BlockError::Corrupt {
            address: address(node),
            key: asked.key,
        }),
        Status::Ok | Status::Miss | Status::YouFill => Ok(answer),
        _ => Err(unwanted(node, &answer)),
    }
}

/// A write as a question; `None` if it is larger than any block.
fn writing(operation: Operation, write: &BlockWrite) -> Option<Question> {
    let mut header = Header::request(operation, 0).of(&write.key);
    header.mount = write.mount;
    header.offset = write.offset;
    header.length = write.len();
    header.block_length = u32::try_from(write.block_length).ok()?;
    header.payload_length = u32::try_from(write.len()).ok()?;
    header.payload_crc32c = write.checksum.0;
    Some(Question {
        payload: write.pieces.clone(),
        ..Question::new(header)
    })
}

/// What became of a write.
fn stored(node: &NodeInfo, answer: &Answer) -> Result<BlockStored, BlockError> {
    match answer.header.status {
        Status::Ok => Ok(BlockStored::Stored),
        Status::AlreadyPresent => Ok(BlockStored::AlreadyPresent),
        Status::Miss => Ok(BlockStored::Late),
        Status::Rejected => Ok(BlockStored::Rejected(body::decode_text(&answer.payload))),
        Status::Busy => Ok(BlockStored::Rejected("too much is under way".to_owned())),
        _ => Err(unwanted(node, answer)),
    }
}

/// Nobody is known to wait for more.
fn filled(stored: BlockStored) -> BlockFilled {
    BlockFilled {
        stored,
        awaited: false,
    }
}

/// A want as a question; `None` if it is about no block that there can be.
fn wanting(wanted: &BlockWant) -> Option<Question> {
    let mut header = Header::request(Operation::Read, 0).of(&wanted.key);
    header.flags = Flags::WANT_FILL;
    header.epoch = wanted.epoch;
    header.offset = wanted.range.start;
    header.length = wanted.range.end.saturating_sub(wanted.range.start);
    header.block_length = u32::try_from(wanted.block_length).ok()?;
    let millis = u32::try_from(wanted.wait.as_millis());
    header.millis = millis.unwrap_or(u32::MAX).max(1);
    Some(Question {
        wanted: wanted.range.clone(),
        needs: body::LEASES,
        ..Question::new(header)
    })
}

/// What a want was answered with.
fn offer(node: &NodeInfo, wanted: &BlockWant, answer: Answer) -> Result<BlockOffer, BlockError> {
    if answer.damaged {
        return Err(BlockError::Corrupt {
            address: address(node),
            key: wanted.key,
        });
    }
    let mut offer = BlockOffer::default();
    match answer.header.status {
        Status::Ok | Status::Miss => {}
        Status::YouFill => offer.leases = leases(node, &answer)?,
        Status::Busy => offer.alone = Some(Alone::Busy),
        Status::Stale => offer.alone = Some(Alone::Stale),
        Status::Rejected => offer.alone = Some(Alone::Uncacheable),
        Status::Unsupported => offer.alone = Some(Alone::Unsupported),
        _ => return Err(unwanted(node, &answer)),
    }
    offer.parts = answer.parts;
    match offer.fits(&wanted.range) {
        true => Ok(offer),
        false => Err(refused(node, "it gave leases that were not asked for")),
    }
}

fn leases(node: &NodeInfo, answer: &Answer) -> Result<Vec<BlockLease>, BlockError> {
    let grants = body::decode_grants(&answer.payload);
    let grants = grants.map_err(|error| refused(node, error.to_string()))?;
    let lasts = Duration::from_millis(answer.header.millis.into());
    let lease = |grant: body::Grant| BlockLease {
        lease: grant.lease,
        range: grant.offset..grant.offset + grant.length,
        lasts,
    };
    Ok(grants.into_iter().map(lease).collect())
}

/// What an answer means that has not what was asked for.
fn unwanted(node: &NodeInfo, answer: &Answer) -> BlockError {
    let said = body::decode_text(&answer.payload);
    let cause = match answer.header.status {
        Status::Busy => format!("it is busy for {} ms", answer.header.millis),
        Status::Failed(ErrorKind::Timeout) => "it was too slow".to_owned(),
        Status::Failed(kind) => format!("{kind}: {said}"),
        Status::Stale => "the content is gone".to_owned(),
        Status::Unsupported | Status::UnknownVersion | Status::UnknownOperation => said,
        Status::Ok | Status::Miss | Status::YouFill | Status::Rejected | Status::AlreadyPresent => {
            format!("its answer {:?} cannot be used", answer.header.status)
        }
    };
    refused(node, cause)
}

#[async_trait]
impl BlockClient for FramedBlocks {
    async fn read(
        &self,
        node: &NodeInfo,
        asked: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        match self.ask(node, reading(&asked), deadline).await? {
            Asked::Answered(answer) => Ok(read(node, &asked, answer)?.parts),
            Asked::Elsewhere(left) => self.grpc.read(node, asked, left).await,
            Asked::Unknown => Err(unknown(node)),
        }
    }

    async fn read_into(
        &self,
        node: &NodeInfo,
        asked: BlockRead,
        deadline: Duration,
        sink: PartSink,
    ) -> Result<u64, BlockError> {
        let question = Question {
            sink: Some(Arc::clone(&sink)),
            ..reading(&asked)
        };
        match self.ask(node, question, deadline).await? {
            Asked::Answered(answer) => Ok(read(node, &asked, answer)?.handed_over),
            Asked::Elsewhere(left) => self.grpc.read_into(node, asked, left, sink).await,
            Asked::Unknown => Err(unknown(node)),
        }
    }

    async fn write(
        &self,
        node: &NodeInfo,
        write: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockStored, BlockError> {
        let Some(question) = writing(Operation::Write, &write) else {
            return Ok(BlockStored::Rejected("larger than a block".to_owned()));
        };
        let answer = match self.give(node, &write, question, deadline).await? {
            Asked::Answered(answer) => answer,
            Asked::Elsewhere(left) => return self.grpc.write(node, write, left).await,
            Asked::Unknown => return Err(unknown(node)),
        };
        stored(node, &answer)
    }

    async fn want(
        &self,
        node: &NodeInfo,
        wanted: BlockWant,
        deadline: Duration,
    ) -> Result<BlockOffer, BlockError> {
        let Some(question) = wanting(&wanted) else {
            return Ok(BlockOffer::alone(Alone::Unsupported));
        };
        let answer = match self.ask(node, question, deadline).await? {
            Asked::Answered(answer) => answer,
            Asked::Elsewhere(left) => return self.grpc.want(node, wanted, left).await,
            Asked::Unknown => return Ok(BlockOffer::alone(Alone::Unsupported)),
        };
        offer(node, &wanted, answer)
    }

    async fn fill(
        &self,
        node: &NodeInfo,
        lease: u64,
        write: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockFilled, BlockError> {
        let Some(mut question) = writing(Operation::Fill, &write) else {
            let stored = BlockStored::Rejected("larger than a block".to_owned());
            return Ok(filled(stored));
        };
        question.header.epoch = lease;
        question.needs = body::LEASES;
        let answer = match self.give(node, &write, question, deadline).await? {
            Asked::Answered(answer) => answer,
            Asked::Elsewhere(left) => return self.grpc.fill(node, lease, write, left).await,
            Asked::Unknown => return Ok(filled(BlockStored::Late)),
        };
        Ok(BlockFilled {
            stored: stored(node, &answer)?,
            awaited: answer.header.flags.has(Flags::AWAITED),
        })
    }

    async fn lease(
        &self,
        node: &NodeInfo,
        lease: u64,
        word: LeaseWord,
        deadline: Duration,
    ) -> Result<bool, BlockError> {
        let mut header = Header::request(Operation::Fill, 0);
        header.epoch = lease;
        header.status = match word {
            LeaseWord::Renew => Status::Ok,
            LeaseWord::GiveUp => Status::Miss,
            LeaseWord::Stale => Status::Stale,
            LeaseWord::Uncacheable => Status::Rejected,
        };
        let question = Question {
            needs: body::LEASES,
            ..Question::new(header)
        };
        match self.ask(node, question, deadline).await? {
            Asked::Answered(answer) => match answer.header.status {
                Status::Ok => Ok(true),
                Status::Miss => Ok(false),
                _ => Err(unwanted(node, &answer)),
            },
            Asked::Elsewhere(left) => self.grpc.lease(node, lease, word, left).await,
            Asked::Unknown => Ok(false),
        }
    }

    async fn cached(
        &self,
        node: &NodeInfo,
        extents: &[BlockExtent],
        deadline: Duration,
    ) -> Result<Vec<u64>, BlockError> {
        let until = Instant::now() + deadline;
        let mut counts = Vec::with_capacity(extents.len());
        for some in extents.chunks(MAX_EXTENTS) {
            counts.extend(self.count(node, some, left(until)).await?);
        }
        Ok(counts)
    }

    async fn remove(
        &self,
        node: &NodeInfo,
        selector: BlockSelector,
        deadline: Duration,
    ) -> Result<u64, BlockError> {
        let mut header = Header::request(Operation::Remove, 0);
        match selector {
            BlockSelector::Block(key) => header = header.of(&key),
            BlockSelector::Content(content) => {
                header.content = content;
                header.flags = Flags::OF_CONTENT;
            }
            BlockSelector::Mount(mount) => {
                header.mount = mount;
                header.flags = Flags::OF_MOUNT;
            }
        }
        match self.ask(node, Question::new(header), deadline).await? {
            Asked::Answered(answer) if answer.header.status == Status::Ok => {
                Ok(answer.header.length)
            }
            Asked::Answered(answer) => Err(unwanted(node, &answer)),
            Asked::Elsewhere(left) => self.grpc.remove(node, selector, left).await,
            Asked::Unknown => Err(unknown(node)),
        }
    }

    async fn borrow(
        &self,
        node: &NodeInfo,
        key: BlockKey,
        deadline: Duration,
    ) -> Result<Option<BlockLoan>, BlockError> {
        let Some(path) = node.data.socket.clone() else {
            return Err(refused(node, "it has no UNIX socket"));
        };
        let place = Place::Unix(path);
        let question = Question::new(Header::request(Operation::Pass, 0).of(&key));
        let answer = match self.ask_at(place, node, question, deadline).await? {
            Asked::Answered(answer) => answer,
            Asked::Elsewhere(_) | Asked::Unknown => {
                return Err(BlockError::Unreachable {
                    address: node.data.socket.clone().unwrap_or_default(),
                    cause: "its socket cannot be reached".to_owned(),
                });
            }
        };
        match answer.header.status {
            Status::Ok => loan(node, &key, answer).map(Some),
            Status::Miss => Ok(None),
            _ => Err(unwanted(node, &answer)),
        }
    }
}

/// What a node passed, once it is sure that it can be what was asked for.
fn loan(node: &NodeInfo, key: &BlockKey, answer: Answer) -> Result<BlockLoan, BlockError> {
    let Answer {
        header,
        payload,
        passed,
        ..
    } = answer;
    let passed = passed.ok_or_else(|| refused(node, "it passed no descriptor"))?;
    let checksum = body::decode_passed(&payload);
    let checksum = checksum.map_err(|error| refused(node, error.to_string()))?;
    let end = header.offset.checked_add(header.length);
    let lies = passed.file.metadata().is_ok_and(|file| {
        file.is_file() && end.is_some_and(|end| end <= file.len()) && header.length > 0
    });
    let sound = header.key() == Some(*key) && header.length <= key.size.bytes();
    if !(lies && sound) {
        return Err(refused(node, "it passed what is not the block"));
    }
    Ok(BlockLoan {
        file: passed.file,
        offset: header.offset,
        length: header.length,
        checksum,
        hold: Box::new(passed.hold),
    })
}

impl FramedBlocks {
    async fn count(
        &self,
        node: &NodeInfo,
        extents: &[BlockExtent],
        deadline: Duration,
    ) -> Result<Vec<u64>, BlockError> {
        let asked: Vec<_> = extents.iter().map(extent).collect();
        let payload = body::encode_extents(&asked);
        let header = Header::request(Operation::Stat, 0).with(&payload);
        let runs = extents.iter().any(|extent| extent.first > 0);
        let question = Question {
            payload: vec![Bytes::from(payload)],
            needs: if runs { body::RUNS } else { 0 },
            ..Question::new(header)
        };
        let answer = match self.ask(node, question, deadline).await? {
            Asked::Answered(answer) => answer,
            Asked::Elsewhere(left) => return self.grpc.cached(node, extents, left).await,
            Asked::Unknown if runs => {
                // It would count all of them from the first block on.
                let heads = extents.iter().map(|extent| extent.head());
                let heads: Vec<_> = heads.collect();
                return Box::pin(self.count(node, &heads, deadline)).await;
            }
            Asked::Unknown => return Err(unknown(node)),
        };
        if answer.header.status != Status::Ok {
            return Err(unwanted(node, &answer));
        }
        let counts = body::decode_counts(&answer.payload);
        let counts = counts.map_err(|error| refused(node, error.to_string()))?;
        if counts.len() != extents.len() {
            let cause = "it answered for other contents than asked for";
            return Err(refused(node, cause));
        }
        Ok(counts)
    }
}

fn extent(extent: &BlockExtent) -> body::Extent {
    body::Extent {
        content: extent.content,
        size: extent.size,
        first: extent.first,
        blocks: extent.blocks,
    }
}
