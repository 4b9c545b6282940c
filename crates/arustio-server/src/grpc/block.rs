//! The block service over gRPC.
//!
//! A miss is a header without parts, a rejection is an answer. Limits are those of
//! [`crate::blocks`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_block::{
    BlockError, BlockStore, BlockWrite, Ending, FillOffer, FillOutcome, FillWant, Fills, Holder,
    LeaseId, Parts, Refusal, Rejection, Selector, WriteHint, WriteOutcome,
};
use arustio_proto::block::v1 as wire;
use arustio_proto::block::v1::block_service_server::BlockService;
use arustio_proto::failure::Failure;
use arustio_types::{BlockKey, ByteSize, Checksum, ContentId, ErrorKind, MountId};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{answer, given};
use crate::blocks::{
    Budget, Identity, MOST_WAIT, check_write, clipped, no_room, present, reason, usage, wanted,
};
use crate::metrics::{Metrics, Traffic, Way};

/// The service.
#[derive(Debug)]
pub(crate) struct Blocks {
    store: Arc<dyn BlockStore>,
    fills: Arc<Fills>,
    identity: Identity,
    chunk: usize,
    receiving: Budget,
    sending: Budget,
    metrics: Metrics,
    traffic: Traffic,
}

impl Blocks {
    pub(crate) fn new(
        store: Arc<dyn BlockStore>,
        fills: Arc<Fills>,
        identity: Identity,
        chunk: ByteSize,
        receiving: Budget,
        sending: Budget,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            fills,
            identity,
            chunk: super::size(chunk),
            receiving,
            sending,
            traffic: metrics.traffic(Way::Grpc),
            metrics,
        }
    }
}

#[async_trait]
impl BlockService for Blocks {
    type ReadStream = BoxStream<'static, Result<wire::ReadChunk, Status>>;

    async fn read(
        &self,
        request: Request<wire::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "block_read", self.found(request)).await
    }

    async fn write(
        &self,
        request: Request<Streaming<wire::WriteChunk>>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let chunks = request.into_inner();
        answer(&self.metrics, "block_write", self.take(chunks)).await
    }

    async fn lease(
        &self,
        request: Request<wire::LeaseRequest>,
    ) -> Result<Response<wire::LeaseResponse>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "block_lease", async { self.word(&request) }).await
    }

    async fn cached(
        &self,
        request: Request<wire::CachedRequest>,
    ) -> Result<Response<wire::CachedResponse>, Status> {
        let extents = request.into_inner().extents;
        answer(&self.metrics, "block_cached", self.count(extents)).await
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveRequest>,
    ) -> Result<Response<wire::RemoveResponse>, Status> {
        let work = async {
            let selector = selector(request.into_inner())?;
            let removed = self.store.remove(selector).await.map_err(failed)?;
            Ok(wire::RemoveResponse {
                blocks: removed.blocks,
                bytes: removed.bytes,
            })
        };
        answer(&self.metrics, "block_remove", work).await
    }

    async fn ping(
        &self,
        _: Request<wire::PingRequest>,
    ) -> Result<Response<wire::PingResponse>, Status> {
        Ok(Response::new(wire::PingResponse {
            software: concat!("arustio-server ", env!("CARGO_PKG_VERSION")).to_owned(),
            node: self.identity.node.lock().map_or(0, |node| node.get()),
            instance: Some(self.identity.instance.into()),
            tiers: usage(&*self.store),
        }))
    }
}

impl Blocks {
    async fn count(&self, extents: Vec<wire::Extent>) -> Result<wire::CachedResponse, Failure> {
        let blocks = |extent: wire::Extent| {
            let first = wire::BlockKey {
                content: extent.content,
                size_log2: extent.size_log2,
                index: extent.first,
            };
            let first: BlockKey = given(Some(first), "the content")?;
            Ok((first, extent.blocks))
        };
        let extents: Vec<_> = extents
            .into_iter()
            .map(blocks)
            .collect::<Result<_, Failure>>()?;
        let present = present(&*self.store, &extents).await?;
        Ok(wire::CachedResponse {
            present,
            runs: true,
        })
    }

    async fn found(
        &self,
        request: wire::ReadRequest,
    ) -> Result<<Self as BlockService>::ReadStream, Failure> {
        let key: BlockKey = given(request.key, "the block's key")?;
        let wanted = request.range.unwrap_or_default();
        let range = clipped(&key, wanted.offset, wanted.length);
        if let Some(fill) = request.fill {
            return self.want(key, range, fill).await;
        }
        if let Some(parts) = self.store.try_read_memory(key, range.clone()) {
            return Ok(self.sent(parts, None, Vec::new()));
        }
        // Bytes from disk are ours until they are sent; those from memory are shared.
        let held = self.sending.wait(range.end - range.start).await;
        let parts = self.store.read(key, range).await.map_err(failed)?;
        Ok(self.sent(parts, None, held.into_iter().collect()))
    }

    /// As [`found`](Self::found), for a reader who would bring what is missing.
    async fn want(
        &self,
        key: BlockKey,
        range: Range<u64>,
        fill: wire::FillWant,
    ) -> Result<<Self as BlockService>::ReadStream, Failure> {
        let wait: Duration = fill.wait.unwrap_or_default().into();
        let want = FillWant {
            key,
            range,
            block_len: fill.block_length,
            // Nothing tells when such a peer is gone: its leases are overdue then.
            holder: Holder::default(),
        };
        let until = Instant::now() + wait.min(MOST_WAIT);
        let (offer, held) = wanted(&self.fills, &[&self.sending], &want, until).await?;
        let told = wire_offer(&offer);
        Ok(self.sent(offer.parts, Some(told), held))
    }

    fn word(&self, request: &wire::LeaseRequest) -> Result<wire::LeaseResponse, Failure> {
        let lease = LeaseId(request.lease);
        let held = match request.word() {
            wire::LeaseWord::Renew => self.fills.renew(lease),
            wire::LeaseWord::GiveUp => self.fills.end(lease, Ending::GaveUp),
            wire::LeaseWord::Stale => self.fills.end(lease, Ending::Stale),
            wire::LeaseWord::Uncacheable => self.fills.end(lease, Ending::Uncacheable),
            wire::LeaseWord::Unspecified => {
                let message = "it does not say what becomes of the lease";
                return Err(Failure::new(ErrorKind::InvalidArgument, message));
            }
        };
        Ok(wire::LeaseResponse { held })
    }

    /// The header, then the bytes, cut into messages without copying.
    fn sent(
        &self,
        parts: Parts,
        fill: Option<wire::FillOffer>,
        held: Vec<OwnedSemaphorePermit>,
    ) -> <Self as BlockService>::ReadStream {
        use wire::read_chunk::Kind;
        let header = wire::ReadHeader {
            parts: parts.parts.iter().map(wire_part).collect(),
            block_length: parts.block_len,
            epoch: self.identity.epoch(),
            fill,
        };
        let bytes = parts.parts.iter().map(|part| part.bytes.len() as u64);
        self.traffic.given(bytes.sum());
        let chunk = self.chunk;
        let data = parts
            .parts
            .into_iter()
            .flat_map(move |part| cut(part.bytes, chunk));
        let kinds = std::iter::once(Kind::Header(header)).chain(data.map(Kind::Data));
        stream::iter(kinds)
            .map(move |kind| {
                let _ = &held;
                Ok(wire::ReadChunk { kind: Some(kind) })
            })
            .boxed()
    }

    async fn take(
        &self,
        mut chunks: Streaming<wire::WriteChunk>,
    ) -> Result<wire::WriteResponse, Failure> {
        let header = header(&mut chunks).await?;
        let part = header.part.unwrap_or_default();
        let key: BlockKey = given(header.key, "the block's key")?;
        check_write(&key, part.offset, part.length, header.block_length)?;
        let hint = match header.hint() {
            wire::WriteHint::Durable => WriteHint::Durable,
            wire::WriteHint::Cache | wire::WriteHint::Unspecified => WriteHint::Cache,
        };
        // Filling a cache never waits: who comes too many is turned away.
        let Some(_held) = self.receiving.try_take(part.length) else {
            // Who waits for these bytes is told.
            if let Some(lease) = header.lease {
                no_room(&self.fills, lease);
            }
            return Ok(rejected(Rejection::Busy));
        };
        let payload = payload(&mut chunks, part.length).await?;
        self.traffic.taken(payload.len() as u64);
        let write = BlockWrite {
            key,
            offset: part.offset,
            payload,
            checksum: Checksum(part.crc32c),
            block_len: header.block_length,
            mount: MountId::new(header.mount),
            hint,
        };
        match header.lease {
            Some(lease) => self.fill(LeaseId(lease), write).await,
            None => self.store(write).await,
        }
    }

    async fn store(&self, write: BlockWrite) -> Result<wire::WriteResponse, Failure> {
        let key = write.key;
        Ok(match self.store.write(write).await.map_err(failed)? {
            WriteOutcome::Stored => {
                self.fills.came(&key);
                said(wire::WriteOutcome::Stored)
            }
            WriteOutcome::AlreadyPresent => said(wire::WriteOutcome::AlreadyPresent),
            WriteOutcome::Rejected(why) => rejected(why),
        })
    }

    async fn fill(
        &self,
        lease: LeaseId,
        write: BlockWrite,
    ) -> Result<wire::WriteResponse, Failure> {
        let awaited = self.fills.is_awaited(&write.key);
        let response = match self.fills.fill(lease, write).await.map_err(failed)? {
            FillOutcome::Stored => said(wire::WriteOutcome::Stored),
            FillOutcome::AlreadyPresent | FillOutcome::Late { agrees: true } => {
                said(wire::WriteOutcome::AlreadyPresent)
            }
            FillOutcome::Late { agrees: false } => said(wire::WriteOutcome::Late),
            FillOutcome::Rejected(why) => rejected(why),
        };
        Ok(wire::WriteResponse {
            awaited,
            ..response
        })
    }
}

async fn header(chunks: &mut Streaming<wire::WriteChunk>) -> Result<wire::WriteHeader, Failure> {
    use wire::write_chunk::Kind;
    match next(chunks).await? {
        Some(Kind::Header(header)) => Ok(header),
        Some(Kind::Data(_)) | None => {
            let message = "a write begins with its header";
            Err(Failure::new(ErrorKind::InvalidArgument, message))
        }
    }
}

/// Exactly the announced bytes.
async fn payload(chunks: &mut Streaming<wire::WriteChunk>, length: u64) -> Result<Bytes, Failure> {
    use wire::write_chunk::Kind;
    let wrong = |message: &str| Failure::new(ErrorKind::InvalidArgument, message);
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(kind) = next(chunks).await? {
        let Kind::Data(data) = kind else {
            return Err(wrong("a write has one header"));
        };
        let before = all.len() + first.as_ref().map_or(0, Bytes::len);
        if (before + data.len()) as u64 > length {
            return Err(wrong("more bytes than the header announced"));
        }
        match first.take() {
            // One message is kept as it came, without a copy.
            None if all.is_empty() => first = Some(data),
            held => {
                if all.capacity() == 0 {
                    // What it announced lies inside a block and inside the budget.
                    all.reserve(usize::try_from(length).unwrap_or_default());
                }
                all.extend_from_slice(&held.unwrap_or_default());
                all.extend_from_slice(&data);
            }
        }
    }
    let whole = first.unwrap_or_else(|| all.freeze());
    if whole.len() as u64 != length {
        return Err(wrong("fewer bytes than the header announced"));
    }
    Ok(whole)
}

async fn next(
    chunks: &mut Streaming<wire::WriteChunk>,
) -> Result<Option<wire::write_chunk::Kind>, Failure> {
    let chunk = chunks
        .try_next()
        .await
        .map_err(|status| Failure::from(&status))?;
    match chunk {
        None => Ok(None),
        Some(chunk) => {
            let unknown = || Failure::new(ErrorKind::InvalidArgument, "an empty message");
            chunk.kind.ok_or_else(unknown).map(Some)
        }
    }
}

fn selector(request: wire::RemoveRequest) -> Result<Selector, Failure> {
    use wire::remove_request::Selector as Kind;
    let missing = || Failure::new(ErrorKind::InvalidArgument, "it does not say what to remove");
    Ok(match request.selector.ok_or_else(missing)? {
        Kind::Block(key) => Selector::Block(given(Some(key), "the block's key")?),
        Kind::Content(content) => Selector::Content(ContentId::new(content.into())),
        Kind::Mount(mount) => Selector::Mount(MountId::new(mount)),
        Kind::IdleLongerThan(idle) => Selector::Idle(idle.into()),
    })
}

fn wire_part(part: &arustio_block::Part) -> wire::Part {
    wire::Part {
        offset: part.range.start,
        length: part.bytes.len() as u64,
        crc32c: part.checksum.0,
    }
}

fn cut(mut bytes: Bytes, chunk: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = bytes.len().min(chunk);
        (length > 0).then(|| bytes.split_to(length))
    })
}

fn wire_offer(offer: &FillOffer) -> wire::FillOffer {
    let grant = |grant: &arustio_block::Grant| wire::Grant {
        lease: grant.lease.0,
        range: Some(wire::ByteRange {
            offset: grant.range.start,
            length: grant.range.end - grant.range.start,
        }),
        lasts: Some(grant.lasts.into()),
    };
    let refusal = match offer.refused {
        None => wire::FillRefusal::Unspecified,
        Some(Refusal::Busy) => wire::FillRefusal::Busy,
        Some(Refusal::Stale) => wire::FillRefusal::Stale,
        Some(Refusal::Uncacheable) => wire::FillRefusal::Uncacheable,
    };
    wire::FillOffer {
        grants: offer.grants.iter().map(grant).collect(),
        refusal: refusal.into(),
    }
}

fn said(outcome: wire::WriteOutcome) -> wire::WriteResponse {
    response(outcome, String::new())
}

fn response(outcome: wire::WriteOutcome, reason: String) -> wire::WriteResponse {
    wire::WriteResponse {
        outcome: outcome.into(),
        reason,
        awaited: false,
    }
}

fn rejected(why: Rejection) -> wire::WriteResponse {
    response(wire::WriteOutcome::Rejected, reason(why).to_owned())
}

fn failed(error: BlockError) -> Failure {
    Failure::of(&error)
}
