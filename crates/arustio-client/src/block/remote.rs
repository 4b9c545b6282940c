//! Block nodes over gRPC.
//!
//! Every run of bytes carries a checksum of exactly itself, which is compared here; what
//! a node says about lengths is compared with what was asked for before anything is kept.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arustio_proto::block::v1 as wire;
use arustio_proto::block::v1::block_service_client::BlockServiceClient;
use arustio_proto::common::v1::Caller;
use arustio_types::BlockKey;
use arustio_types::cluster::NodeInfo;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use super::{
    BlockClient, BlockError, BlockPart, BlockRead, BlockSelector, BlockStored, BlockWrite,
};

/// Largest message: a run of bytes is much smaller.
const MOST_BYTES: usize = 8 << 20;
/// Bytes of one run that is sent.
const RUN: usize = 1 << 20;
/// Connections that are kept.
const MOST_CHANNELS: usize = 256;

/// Connections to block nodes by gRPC, made when they are first used.
#[derive(Debug)]
pub struct GrpcBlocks {
    channels: Mutex<HashMap<String, BlockServiceClient<Channel>>>,
    client: u128,
    requests: AtomicU64,
}

impl GrpcBlocks {
    /// `client` is random: it tells this client's requests from others'.
    pub fn new(client: u128) -> Self {
        Self {
            channels: Mutex::default(),
            client,
            requests: AtomicU64::new(0),
        }
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
            .tcp_nodelay(true)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(32 << 20)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5));
        let channel = BlockServiceClient::new(endpoint.connect_lazy())
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

/// Runs of bytes as they come, checked and put together.
#[derive(Debug)]
struct Arriving {
    wanted: Range<u64>,
    parts: Vec<(u64, BytesMut)>,
    end: u64,
}

impl Arriving {
    fn new(wanted: Range<u64>) -> Self {
        Self {
            end: wanted.start,
            wanted,
            parts: Vec::new(),
        }
    }

    /// Takes a run. Runs ascend and lie in what was asked for, whatever the node says.
    fn take(&mut self, node: &NodeInfo, key: BlockKey, data: wire::Data) -> Result<(), BlockError> {
        let bytes = Bytes::from(data.bytes);
        let end = data.offset.checked_add(bytes.len() as u64);
        let fits = end.is_some_and(|end| data.offset >= self.end && end <= self.wanted.end);
        let (true, Some(end)) = (fits, end) else {
            return Err(refused(node, "it sent bytes that were not asked for"));
        };
        if crc32c::crc32c(&bytes) != data.crc32c {
            return Err(BlockError::Corrupt {
                address: node.address.clone(),
                key,
            });
        }
        match self.parts.last_mut() {
            Some((_, part)) if data.offset == self.end => part.extend_from_slice(&bytes),
            _ => self.parts.push((data.offset, BytesMut::from(bytes))),
        }
        self.end = end;
        Ok(())
    }

    fn finish(self) -> Vec<BlockPart> {
        let part = |(offset, bytes): (u64, BytesMut)| BlockPart {
            offset,
            bytes: bytes.freeze(),
        };
        let parts = self.parts.into_iter().map(part);
        parts.filter(|part| !part.bytes.is_empty()).collect()
    }
}

/// A write as the messages that carry it.
fn messages(write: BlockWrite, caller: Caller) -> Vec<wire::WriteChunk> {
    use wire::write_chunk::Kind;
    let header = wire::WriteHeader {
        caller: Some(caller),
        key: Some((&write.key).into()),
        range: Some(wire::ByteRange {
            offset: write.offset,
            length: write.len(),
        }),
        block_length: write.block_length,
        mount: write.mount.get(),
        durable: false,
        pinned: false,
    };
    let mut at = write.offset;
    let mut messages = vec![wire::WriteChunk {
        kind: Some(Kind::Header(header)),
    }];
    for mut piece in write.pieces {
        while !piece.is_empty() {
            let bytes = piece.split_to(piece.len().min(RUN));
            let data = wire::Data {
                offset: at,
                crc32c: crc32c::crc32c(&bytes),
                bytes: bytes.into(),
            };
            at += data.bytes.len() as u64;
            messages.push(wire::WriteChunk {
                kind: Some(Kind::Data(data)),
            });
        }
    }
    messages
}

#[async_trait]
impl BlockClient for GrpcBlocks {
    async fn read(
        &self,
        node: &NodeInfo,
        asked: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        let mut channel = self.channel(&node.address)?;
        let request = wire::ReadRequest {
            key: Some((&asked.key).into()),
            range: Some(byte_range(&asked.range)),
            epoch: asked.epoch,
        };
        within(node, deadline, async move {
            let response = channel.read(request).await;
            let mut chunks = response.map_err(|status| failed(node, &status))?.into_inner();
            let mut arriving = Arriving::new(asked.range);
            while let Some(chunk) = chunks
                .message()
                .await
                .map_err(|status| failed(node, &status))?
            {
                if let Some(wire::read_chunk::Kind::Data(data)) = chunk.kind {
                    arriving.take(node, asked.key, data)?;
                }
            }
            Ok(arriving.finish())
        })
        .await
    }

    async fn write(
        &self,
        node: &NodeInfo,
        write: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockStored, BlockError> {
        let mut channel = self.channel(&node.address)?;
        let messages = futures::stream::iter(messages(write, self.caller()));
        within(node, deadline, async move {
            let response = channel.write(messages).await;
            let response = response.map_err(|status| failed(node, &status))?.into_inner();
            Ok(match response.outcome() {
                wire::WriteOutcome::Stored => BlockStored::Stored,
                wire::WriteOutcome::AlreadyPresent => BlockStored::AlreadyPresent,
                wire::WriteOutcome::Rejected => BlockStored::Rejected(response.reason),
                wire::WriteOutcome::Unspecified => {
                    return Err(refused(node, "its answer cannot be read"));
                }
            })
        })
        .await
    }

    async fn stat(
        &self,
        node: &NodeInfo,
        key: BlockKey,
        deadline: Duration,
    ) -> Result<Vec<Range<u64>>, BlockError> {
        let mut channel = self.channel(&node.address)?;
        let request = wire::StatRequest {
            key: Some((&key).into()),
        };
        within(node, deadline, async move {
            let response = channel.stat(request).await;
            let response = response.map_err(|status| failed(node, &status))?.into_inner();
            let range = |range: wire::ByteRange| {
                range.offset..range.offset.saturating_add(range.length)
            };
            Ok(response.present.into_iter().map(range).collect())
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
        }
    }

    fn key() -> BlockKey {
        BlockKey {
            content: ContentId::new(1),
            size: BlockSize::DEFAULT,
            index: 0,
        }
    }

    fn run(offset: u64, bytes: &'static [u8]) -> wire::Data {
        wire::Data {
            offset,
            crc32c: crc32c::crc32c(bytes),
            bytes: bytes.to_vec().into(),
        }
    }

    #[test]
    fn r4_runs_that_were_not_asked_for_or_do_not_match_are_never_taken() {
        let mut arriving = Arriving::new(10..20);
        arriving.take(&node(), key(), run(10, b"ab")).unwrap();
        arriving.take(&node(), key(), run(12, b"cd")).unwrap();
        arriving.take(&node(), key(), run(16, b"ef")).unwrap();
        let before = arriving.take(&node(), key(), run(11, b"x"));
        assert!(matches!(before, Err(BlockError::Refused { .. })));
        let behind = arriving.take(&node(), key(), run(19, b"xy"));
        assert!(matches!(behind, Err(BlockError::Refused { .. })));
        let huge = arriving.take(&node(), key(), run(u64::MAX, b"x"));
        assert!(matches!(huge, Err(BlockError::Refused { .. })));
        let flipped = wire::Data {
            crc32c: 1,
            ..run(18, b"x")
        };
        let flipped = arriving.take(&node(), key(), flipped);
        assert!(matches!(flipped, Err(BlockError::Corrupt { .. })));
        let parts = arriving.finish();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].bytes, "abcd");
        assert_eq!(parts[1].offset, 16);
    }
}
