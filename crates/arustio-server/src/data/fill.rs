//! Leases over frames: who would bring what is missing, bytes that are brought, and words
//! about a lease. The rules are those of [`arustio_block::fills`].

use std::sync::Arc;

use arustio_block::{
    BlockWrite, Ending, FillOffer, FillOutcome, FillWant, Holder, LeaseId, Refusal, WriteHint,
};
use arustio_proto::failure::Failure;
use arustio_proto::frame::{Flags, Header, Operation, Status, body};
use arustio_types::{Checksum, ErrorKind};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Endpoint;
use super::request::{AGAIN, Reply, busy, key, patience};
use crate::blocks::{self, Budget, MOST_WAIT};

/// The answer to a reader who would bring what is missing. Where others bring it, it is
/// waited for: safe to drop.
pub(super) async fn want(
    endpoint: &Endpoint,
    share: &Budget,
    header: &Header,
    holder: Holder,
) -> Result<Reply, Failure> {
    let until = Instant::now() + patience(header).min(MOST_WAIT);
    let key = key(header)?;
    let want = FillWant {
        key,
        range: blocks::clipped(&key, header.offset, header.length),
        block_len: header.block_length.into(),
        holder,
    };
    let budgets = [share, &endpoint.sending];
    let (offer, held) = blocks::wanted(&endpoint.fills, &budgets, &want, until).await?;
    Ok(offered(header, offer, held).at_epoch(endpoint.identity.epoch()))
}

/// One frame for each part, and one for what else there is to say.
fn offered(header: &Header, offer: FillOffer, held: Vec<OwnedSemaphorePermit>) -> Reply {
    let answer = |status| Header::answer(Operation::Read, header.request, status);
    let words = |status, why| {
        let words = body::encode_text(blocks::refusal(why));
        (answer(status).with(&words), Bytes::from(words))
    };
    let grant = |grant: &arustio_block::Grant| body::Grant {
        lease: grant.lease.0,
        offset: grant.range.start,
        length: grant.range.end - grant.range.start,
    };
    let last = match (offer.grants.first(), offer.refused) {
        (Some(first), _) => {
            let grants: Vec<_> = offer.grants.iter().map(grant).collect();
            let payload = body::encode_grants(&grants);
            let mut yours = answer(Status::YouFill).with(&payload);
            yours.millis = u32::try_from(first.lasts.as_millis()).unwrap_or(u32::MAX);
            Some((yours, Bytes::from(payload)))
        }
        (None, Some(why @ Refusal::Stale)) => Some(words(Status::Stale, why)),
        (None, Some(why @ Refusal::Uncacheable)) => Some(words(Status::Rejected, why)),
        (None, Some(Refusal::Busy)) => Some((busy(header, AGAIN), Bytes::new())),
        (None, None) => None,
    };
    Reply::parts(header, offer.parts, held).and(last)
}

/// The answer to bytes that were brought.
pub(super) async fn fill(
    endpoint: &Endpoint,
    header: &Header,
    payload: Bytes,
) -> Result<Reply, Failure> {
    let write = BlockWrite {
        key: key(header)?,
        offset: header.offset,
        payload,
        checksum: Checksum(header.payload_crc32c),
        block_len: header.block_length.into(),
        mount: header.mount,
        hint: WriteHint::Cache,
    };
    let awaited = endpoint.fills.is_awaited(&write.key);
    let outcome = endpoint.fills.fill(LeaseId(header.epoch), write).await;
    let reply = match outcome.map_err(|error| Failure::of(&error))? {
        FillOutcome::Stored => Reply::status(header, Status::Ok),
        FillOutcome::AlreadyPresent | FillOutcome::Late { agrees: true } => {
            Reply::status(header, Status::AlreadyPresent)
        }
        FillOutcome::Late { agrees: false } => Reply::status(header, Status::Miss),
        FillOutcome::Rejected(why) => Reply::words(header, Status::Rejected, blocks::reason(why)),
    };
    Ok(reply.awaited(awaited))
}

/// The answer to a word about a lease.
pub(super) fn word(endpoint: &Arc<Endpoint>, header: &Header) -> Result<Reply, Failure> {
    let (fills, lease) = (&endpoint.fills, LeaseId(header.epoch));
    let held = match header.status {
        Status::Ok => fills.renew(lease),
        Status::Miss => fills.end(lease, Ending::GaveUp),
        Status::Stale => fills.end(lease, Ending::Stale),
        Status::Rejected => fills.end(lease, Ending::Uncacheable),
        Status::YouFill
        | Status::Busy
        | Status::AlreadyPresent
        | Status::Unsupported
        | Status::UnknownVersion
        | Status::UnknownOperation
        | Status::Failed(_) => {
            let message = "it does not say what becomes of the lease";
            return Err(Failure::new(ErrorKind::InvalidArgument, message));
        }
    };
    Ok(match held {
        true => Reply::status(header, Status::Ok),
        false => Reply::status(header, Status::Miss),
    })
}

/// Whether a read is one of a reader who would bring what is missing.
pub(super) fn is_want(header: &Header) -> bool {
    header.operation == Operation::Read && header.flags.has(Flags::WANT_FILL)
}
