//! Block nodes over gRPC.
//!
//! Every part comes with the checksum that its bytes had when they arrived at the node,
//! which is compared here; what a node says about lengths is compared with what was asked
//! for before anything is kept.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arustio_proto::block::v1 as wire;
use arustio_proto::block::v1::block_service_client::BlockServiceClient;
use arustio_proto::common::v1::Caller;
use arustio_types::BlockKey;
use arustio_types::cluster::NodeInfo;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::net;

use super::epoch::Epoch;
use super::{
    Alone, BlockClient, BlockError, BlockExtent, BlockFilled, BlockLease, BlockOffer, BlockPart,
    BlockRead, BlockSelector, BlockStored, BlockWant, BlockWrite, LeaseWord,
};

/// Largest message: a run of bytes is much smaller.
const MOST_BYTES: usize = 8 << 20;
/// Bytes of one run that is sent.
const RUN: usize = 1 << 20;
/// Largest HTTP/2 frame that a node may send: fewer, larger pieces cost less.
const FRAME: u32 = 1 << 20;
/// Connections that are kept.
const MOST_CHANNELS: usize = 256;

/// Connections to block nodes by gRPC, made when they are first used.
#[derive(Debug)]
pub struct GrpcBlocks {
    channels: Mutex<HashMap<String, BlockServiceClient<Channel>>>,
    client: u128,
    requests: AtomicU64,
    pub(super) epoch: Arc<Epoch>,
}

impl GrpcBlocks {
    /// `client` is random: it tells this client's requests from others'.
    pub fn new(client: u128) -> Self {
        Self {
            channels: Mutex::default(),
            client,
            requests: AtomicU64::new(0),
            epoch: Arc::default(),
        }
    }

    /// Says here which views nodes tell of; so does what falls back to this.
    #[must_use]
    pub fn telling(mut self, epoch: Arc<Epoch>) -> Self {
        self.epoch = epoch;
        self
    }

    fn channel(&self, address: &str) -> Result<BlockServiceClient<Channel>, BlockError> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| BlockError::Unreachable {
            address: address.to_owned(),
            cause: error.to_string(),
        })?;
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(1))
            .max_frame_size(FRAME)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(32 << 20)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5));
        let channel = BlockServiceClient::new(net::channel(&endpoint))
            .max_decoding_message_size(MOST_BYTES)
            .max_encoding_message_size(MOST_BYTES);
        if channels.len() >= MOST_CHANNELS {
            channels.clear();
        }
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    fn caller(&self) -> Caller {
        Caller {
            client: Some(self.client.into()),
            request: self.requests.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// One call within its deadline.
async fn within<T>(
    node: &NodeInfo,
    deadline: Duration,
    call: impl Future<Output = Result<T, BlockError>> + Send,
) -> Result<T, BlockError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(BlockError::Timeout {
            address: node.address.clone(),
            after: deadline,
        }),
    }
}

fn failed(node: &NodeInfo, status: &tonic::Status) -> BlockError {
    let failure = arustio_proto::failure::Failure::from(status);
    let address = node.address.clone();
    let cause = failure.message;
    if failure.answered {
        BlockError::Refused { address, cause }
    } else {
        BlockError::Unreachable { address, cause }
    }
}

fn refused(node: &NodeInfo, cause: &str) -> BlockError {
    BlockError::Refused {
        address: node.address.clone(),
        cause: cause.to_owned(),
    }
}

fn byte_range(range: &Range<u64>) -> wire::ByteRange {
    wire::ByteRange {
        offset: range.start,
        length: range.end - range.start,
    }
}

fn extent(extent: &BlockExtent) -> wire::Extent {
    wire::Extent {
        content: Some(extent.content.get().into()),
        size_log2: extent.size.log2().into(),
        blocks: extent.blocks,
        first: extent.first,
    }
}

/// The parts that a node said it would send, and the bytes as they come, never copied.
#[derive(Debug)]
struct Arriving {
    announced: Vec<wire::Part>,
    /// The part that is being filled, how many of its bytes came, and their checksum.
    at: usize,
    filled: u64,
    checksum: u32,
    arrived: Vec<BlockPart>,
}

impl Arriving {
    /// Takes what a node announces: parts ascend and lie in what was asked for, whatever
    /// it says.
    fn announced(
        node: &NodeInfo,
        wanted: &Range<u64>,
        parts: Vec<wire::Part>,
    ) -> Result<Self, BlockError> {
        let mut end = wanted.start;
        for part in &parts {
            let stop = part.offset.checked_add(part.length);
            let fits = stop.is_some_and(|stop| part.offset >= end && stop <= wanted.end);
            match stop {
                Some(stop) if fits && part.length > 0 => end = stop,
                _ => return Err(refused(node, "it announced bytes that were not asked for")),
            }
        }
        Ok(Self {
            announced: parts,
            at: 0,
            filled: 0,
            checksum: 0,
            arrived: Vec::new(),
        })
    }

    /// Takes bytes: those of one part after the other, each compared with its checksum.
    fn take(&mut self, node: &NodeInfo, key: BlockKey, mut bytes: Bytes) -> Result<(), BlockError> {
        while !bytes.is_empty() {
            let Some(part) = self.announced.get(self.at) else {
                return Err(refused(node, "it sent more bytes than it announced"));
            };
            let left = usize::try_from(part.length - self.filled).unwrap_or(usize::MAX);
            let piece = bytes.split_to(left.min(bytes.len()));
            let offset = part.offset + self.filled;
            self.checksum = crc32c::crc32c_append(self.checksum, &piece);
            self.filled += piece.len() as u64;
            self.arrived.push(BlockPart {
                offset,
                bytes: piece,
            });
            if self.filled < part.length {
                continue;
            }
            if self.checksum != part.crc32c {
                return Err(BlockError::Corrupt {
                    address: node.address.clone(),
                    key,
                });
            }
            (self.at, self.filled, self.checksum) = (self.at + 1, 0, 0);
        }
        Ok(())
    }

    fn finish(self, node: &NodeInfo) -> Result<Vec<BlockPart>, BlockError> {
        if self.at < self.announced.len() {
            return Err(refused(node, "it sent fewer bytes than it announced"));
        }
        Ok(self.arrived)
    }
}

/// A write as the messages that carry it.
fn messages(write: BlockWrite, lease: Option<u64>, caller: Caller) -> Vec<wire::WriteChunk> {
    use wire::write_chunk::Kind;
    let header = wire::WriteHeader {
        caller: Some(caller),
        key: Some((&write.key).into()),
        part: Some(wire::Part {
            offset: write.offset,
            length: write.len(),
            crc32c: write.checksum.0,
        }),
        block_length: write.block_length,
        mount: write.mount.get(),
        hint: wire::WriteHint::Cache.into(),
        lease,
    };
    let mut messages = vec![wire::WriteChunk {
        kind: Some(Kind::Header(header)),
    }];
    for mut piece in write.pieces {
        while !piece.is_empty() {
            let bytes = piece.split_to(piece.len().min(RUN));
            messages.push(wire::WriteChunk {
                kind: Some(Kind::Data(bytes)),
            });
        }
    }
    messages
}

/// What a node offers beside the parts.
fn offer(node: &NodeInfo, offered: wire::FillOffer) -> Result<BlockOffer, BlockError> {
    let alone = match offered.refusal() {
        wire::FillRefusal::Unspecified => None,
        wire::FillRefusal::Busy => Some(Alone::Busy),
        wire::FillRefusal::Stale => Some(Alone::Stale),
        wire::FillRefusal::Uncacheable => Some(Alone::Uncacheable),
    };
    let lease = |grant: wire::Grant| {
        let range = grant.range?;
        Some(BlockLease {
            lease: grant.lease,
            range: range.offset..range.offset.checked_add(range.length)?,
            lasts: grant.lasts.unwrap_or_default().into(),
        })
    };
    let leases = offered.grants.into_iter().map(lease).collect::<Option<_>>();
    Ok(BlockOffer {
        parts: Vec::new(),
        leases: leases.ok_or_else(|| refused(node, "its answer cannot be read"))?,
        alone,
    })
}

impl GrpcBlocks {
    /// Reads what a node has, and what it offers.
    async fn get(
        &self,
        node: &NodeInfo,
        request: wire::ReadRequest,
        key: BlockKey,
        wanted: &Range<u64>,
        deadline: Duration,
    ) -> Result<(Vec<BlockPart>, Option<wire::FillOffer>), BlockError> {
        let mut channel = self.channel(&node.address)?;
        within(node, deadline, async move {
            let response = channel.read(request).await;
            let mut chunks = response
                .map_err(|status| failed(node, &status))?
                .into_inner();
            let mut arriving = None;
            let mut offered = None;
            loop {
                let chunk = chunks.message().await;
                let Some(chunk) = chunk.map_err(|status| failed(node, &status))? else {
                    break;
                };
                match (chunk.kind, &mut arriving) {
                    (Some(wire::read_chunk::Kind::Header(header)), None) => {
                        offered = header.fill;
                        self.epoch.heard(header.epoch);
                        arriving = Some(Arriving::announced(node, wanted, header.parts)?);
                    }
                    (Some(wire::read_chunk::Kind::Data(bytes)), Some(arriving)) => {
                        arriving.take(node, key, bytes)?;
                    }
                    _ => return Err(refused(node, "its answer cannot be read")),
                }
            }
            let arriving = arriving.ok_or_else(|| refused(node, "its answer is empty"))?;
            Ok((arriving.finish(node)?, offered))
        })
        .await
    }

    async fn put(
        &self,
        node: &NodeInfo,
        write: BlockWrite,
        lease: Option<u64>,
        deadline: Duration,
    ) -> Result<BlockFilled, BlockError> {
        let mut channel = self.channel(&node.address)?;
        let messages = futures::stream::iter(messages(write, lease, self.caller()));
        within(node, deadline, async move {
            let response = channel.write(messages).await;
            let response = response
                .map_err(|status| failed(node, &status))?
                .into_inner();
            let awaited = response.awaited;
            let stored = match response.outcome() {
                wire::WriteOutcome::Stored => BlockStored::Stored,
                wire::WriteOutcome::AlreadyPresent => BlockStored::AlreadyPresent,
                wire::WriteOutcome::Rejected => BlockStored::Rejected(response.reason),
                wire::WriteOutcome::Late => BlockStored::Late,
                wire::WriteOutcome::Unspecified => {
                    return Err(refused(node, "its answer cannot be read"));
                }
            };
            Ok(BlockFilled { stored, awaited })
        })
        .await
    }
}

#[async_trait]
impl BlockClient for GrpcBlocks {
    async fn read(
        &self,
        node: &NodeInfo,
        asked: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        let request = wire::ReadRequest {
            key: Some((&asked.key).into()),
            range: Some(byte_range(&asked.range)),
            epoch: asked.epoch,
            fill: None,
        };
        let (arrived, _) = self
            .get(node, request, asked.key, &asked.range, deadline)
            .await?;
        Ok(arrived)
    }

    async fn write(
        &self,
        node: &NodeInfo,
        write: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockStored, BlockError> {
        let filled = self.put(node, write, None, deadline).await;
        filled.map(|filled| filled.stored)
    }

    async fn want(
        &self,
        node: &NodeInfo,
        wanted: BlockWant,
        deadline: Duration,
    ) -> Result<BlockOffer, BlockError> {
        let request = wire::ReadRequest {
            key: Some((&wanted.key).into()),
            range: Some(byte_range(&wanted.range)),
            epoch: wanted.epoch,
            fill: Some(wire::FillWant {
                block_length: wanted.block_length,
                wait: Some(wanted.wait.into()),
            }),
        };
        let got = self.get(node, request, wanted.key, &wanted.range, deadline);
        let (parts, offered) = got.await?;
        let mut offer = match offered {
            Some(offered) => offer(node, offered)?,
            None => BlockOffer::alone(Alone::Unsupported),
        };
        offer.parts = parts;
        match offer.fits(&wanted.range) {
            true => Ok(offer),
            false => Err(refused(node, "it gave leases that were not asked for")),
        }
    }

    async fn fill(
        &self,
        node: &NodeInfo,
        lease: u64,
        write: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockFilled, BlockError> {
        self.put(node, write, Some(lease), deadline).await
    }

    async fn lease(
        &self,
        node: &NodeInfo,
        lease: u64,
        word: LeaseWord,
        deadline: Duration,
    ) -> Result<bool, BlockError> {
        let mut channel = self.channel(&node.address)?;
        let word = match word {
            LeaseWord::Renew => wire::LeaseWord::Renew,
            LeaseWord::GiveUp => wire::LeaseWord::GiveUp,
            LeaseWord::Stale => wire::LeaseWord::Stale,
            LeaseWord::Uncacheable => wire::LeaseWord::Uncacheable,
        };
        let request = wire::LeaseRequest {
            lease,
            word: word.into(),
        };
        within(node, deadline, async move {
            let response = channel.lease(request).await;
            let response = response.map_err(|status| failed(node, &status))?;
            Ok(response.into_inner().held)
        })
        .await
    }

    async fn cached(
        &self,
        node: &NodeInfo,
        extents: &[BlockExtent],
        deadline: Duration,
    ) -> Result<Vec<u64>, BlockError> {
        let mut channel = self.channel(&node.address)?;
        let asked = extents;
        let extents: Vec<_> = extents.iter().map(extent).collect();
        within(node, deadline, async move {
            let response = channel.cached(wire::CachedRequest { extents }).await;
            let response = response.map_err(|status| failed(node, &status))?;
            let wire::CachedResponse { mut present, runs } = response.into_inner();
            if !runs {
                // It has counted all of them from the first block on.
                let elsewhere = asked.iter().zip(&mut present);
                let elsewhere = elsewhere.filter(|(extent, _)| extent.first > 0);
                elsewhere.for_each(|(_, count)| *count = 0);
            }
            if present.len() != asked.len() {
                return Err(refused(
                    node,
                    "it answered for other contents than asked for",
                ));
            }
            Ok(present)
        })
        .await
    }

    async fn remove(
        &self,
        node: &NodeInfo,
        selector: BlockSelector,
        deadline: Duration,
    ) -> Result<u64, BlockError> {
        use wire::remove_request::Selector;
        let mut channel = self.channel(&node.address)?;
        let selector = match selector {
            BlockSelector::Block(key) => Selector::Block((&key).into()),
            BlockSelector::Content(content) => Selector::Content(content.get().into()),
            BlockSelector::Mount(mount) => Selector::Mount(mount.get()),
        };
        let request = wire::RemoveRequest {
            caller: Some(self.caller()),
            selector: Some(selector),
        };
        within(node, deadline, async move {
            let response = channel.remove(request).await;
            let response = response.map_err(|status| failed(node, &status))?;
            Ok(response.into_inner().blocks)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::{BlockSize, ContentId, NodeId};

    fn node() -> NodeInfo {
        NodeInfo {
            id: NodeId::new(1),
            address: "n:1".to_owned(),
            weight: 1,
            draining: false,
            data: arustio_types::cluster::DataEndpoints::default(),
        }
    }

    fn key() -> BlockKey {
        BlockKey {
            content: ContentId::new(1),
            size: BlockSize::DEFAULT,
            index: 0,
        }
    }

    fn part(offset: u64, bytes: &[u8]) -> wire::Part {
        wire::Part {
            offset,
            length: bytes.len() as u64,
            crc32c: crc32c::crc32c(bytes),
        }
    }

    #[test]
    fn r4_parts_that_were_not_asked_for_are_never_taken() {
        let refuses = |parts: Vec<wire::Part>| {
            matches!(
                Arriving::announced(&node(), &(10..20), parts),
                Err(BlockError::Refused { .. })
            )
        };
        assert!(refuses(vec![part(9, b"ab")]));
        assert!(refuses(vec![part(19, b"ab")]));
        assert!(refuses(vec![part(12, b"ab"), part(13, b"ab")]));
        assert!(refuses(vec![part(12, b"")]));
        let huge = wire::Part {
            length: u64::MAX,
            ..part(12, b"")
        };
        assert!(refuses(vec![huge]));
    }

    #[test]
    fn r4_bytes_that_do_not_match_their_checksum_are_never_returned() {
        let announced = || {
            let parts = vec![part(10, b"abcd"), part(16, b"ef")];
            Arriving::announced(&node(), &(10..20), parts).unwrap()
        };
        let mut good = announced();
        good.take(&node(), key(), Bytes::from_static(b"abc"))
            .unwrap();
        good.take(&node(), key(), Bytes::from_static(b"def"))
            .unwrap();
        let parts = good.finish(&node()).unwrap();
        let parts: Vec<_> = parts.iter().map(|p| (p.offset, &p.bytes[..])).collect();
        assert_eq!(parts, [(10, &b"abc"[..]), (13, b"d"), (16, b"ef")]);

        let flipped = announced().take(&node(), key(), Bytes::from_static(b"abcxef"));
        assert!(matches!(flipped, Err(BlockError::Corrupt { .. })));

        let mut short = announced();
        short
            .take(&node(), key(), Bytes::from_static(b"abcde"))
            .unwrap();
        assert!(short.finish(&node()).is_err());
        let long = announced().take(&node(), key(), Bytes::from_static(b"abcdefg"));
        assert!(long.is_err());
    }
}
