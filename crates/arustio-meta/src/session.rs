//! Sessions and the outcomes of their requests: exactly once, as long as they live (N2).
//!
//! A session is opened by a command and renewed by another; it is expired by replicated
//! time, which only entries of the log move. Each request carries a sequence number; its
//! outcome is recorded with it, refusals included, and given again when the request is
//! repeated. The client says below which number it has every answer; those are forgotten,
//! and a late copy of such a request is refused, never applied again.
//!
//! The lease of what a session holds is the session's. A session that its client closed
//! takes no more commands, but its record stays until the lease would have ended, so that
//! nobody takes over what a request of it may still touch.

use std::ops::ControlFlow;
use std::time::Duration;

use arustio_types::meta::command::{Command, Outcome, Refusal};
use arustio_types::{ErrorKind, RequestId, SessionId};

use crate::engine::record::SessionRecord;
use crate::engine::{Family, key};
use crate::error::StateMachineError;
use crate::namespace::txn::{Read, Step, Txn};

/// Shortest and longest life without renewal.
const TTL_MILLIS: std::ops::RangeInclusive<u64> = 1..=24 * 60 * 60 * 1_000;
/// Requests of one session whose outcomes are kept at once.
pub const MAX_UNACKED: u64 = 4_096;
/// So many outcomes are forgotten by their numbers, more are searched.
const FEW: u64 = 16;
/// Expired sessions forgotten with each one that is opened.
const SWEPT: usize = 16;

/// What is to be done with a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Apply it, and record what comes of it where that is wanted.
    Apply {
        /// Record the outcome under the request's number.
        record: bool,
    },
    /// Nothing: this is the answer.
    Answered(Box<Outcome>),
}

/// Decides whether a request is applied.
pub(crate) fn admit(
    txn: &mut Txn<'_>,
    now: u64,
    id: RequestId,
    command: &Command,
) -> Read<Admission> {
    let answer = |outcome| Ok(Admission::Answered(Box::new(outcome)));
    match command {
        Command::OpenSession { .. } | Command::RegisterNode { .. } | Command::ChangeNode { .. }
            if id.sequence == 0 =>
        {
            return Ok(Admission::Apply { record: false });
        }
        _ => {}
    }
    let Some(mut session) = load(txn, id.session)? else {
        return answer(Outcome::SessionExpired);
    };
    if matches!(command, Command::CloseSession) && session.closed {
        return answer(Outcome::Done);
    }
    if session.closed || now >= session.expires_at {
        return answer(Outcome::SessionExpired);
    }
    if id.sequence == 0 {
        return match command {
            Command::KeepSession | Command::CloseSession => Ok(Admission::Apply { record: false }),
            _ => answer(Outcome::Refused(Refusal::new(
                ErrorKind::InvalidArgument,
                "a command that changes something needs a sequence number; this is a defect of \
                 the client",
            ))),
        };
    }
    if let Some(bytes) = txn.raw(Family::Sessions, &key::outcome(id.session, id.sequence))? {
        return answer(decode_outcome(&bytes)?);
    }
    if id.sequence < session.first_unacked {
        return answer(Outcome::Refused(Refusal::new(
            ErrorKind::Unknown,
            "this request was answered before, and its answer was acknowledged; look at the path",
        )));
    }
    // What was said to be acknowledged cannot lie behind the request that says so.
    let first_unacked = id.first_unacked.min(id.sequence);
    if first_unacked > session.first_unacked {
        forget_acknowledged(txn, id.session, session.first_unacked, first_unacked)?;
        session.first_unacked = first_unacked;
        txn.put(Family::Sessions, key::session(id.session), &session);
    }
    if id.sequence - session.first_unacked >= MAX_UNACKED {
        return answer(Outcome::Refused(Refusal::new(
            ErrorKind::Unavailable,
            format!("{MAX_UNACKED} requests of this session wait for their answers; repeat later"),
        )));
    }
    Ok(Admission::Apply { record: true })
}

fn load(txn: &Txn<'_>, id: SessionId) -> Read<Option<SessionRecord>> {
    txn.get(Family::Sessions, &key::session(id))
}

pub(crate) fn decode_outcome(bytes: &[u8]) -> Read<Outcome> {
    arustio_proto::convert::decode_outcome(bytes).map_err(|error| StateMachineError::Corrupt {
        what: "the recorded outcome of a request",
        detail: error.to_string(),
    })
}

/// Records what came of a request.
pub(crate) fn record(txn: &mut Txn<'_>, id: RequestId, outcome: &Outcome) {
    let bytes = arustio_proto::convert::encode_outcome(outcome);
    txn.put_raw(
        Family::Sessions,
        key::outcome(id.session, id.sequence),
        bytes,
    );
}

/// There are at most [`MAX_UNACKED`] of them. As a rule it is the last one or two, which
/// are taken away without looking for them.
fn forget_acknowledged(txn: &mut Txn<'_>, id: SessionId, from: u64, to: u64) -> Read<()> {
    if to - from <= FEW {
        for sequence in from..to {
            txn.delete(Family::Sessions, key::outcome(id, sequence));
        }
        return Ok(());
    }
    let (first, end) = (key::outcome(id, from), key::outcome(id, to));
    let mut doomed = Vec::new();
    let of_session = &first[..first.len() - 8];
    txn.each(
        Family::Sessions,
        of_session,
        &first,
        usize::MAX,
        &mut |at, _| {
            if at >= &end[..] {
                return Ok(ControlFlow::Break(()));
            }
            doomed.push(at.to_vec());
            Ok(ControlFlow::Continue(()))
        },
    )?;
    for at in doomed {
        txn.delete(Family::Sessions, at);
    }
    Ok(())
}

fn outcomes(txn: &Txn<'_>, id: SessionId, limit: usize) -> Read<Vec<Vec<u8>>> {
    let first = key::outcome(id, 0);
    let of_session = &first[..first.len() - 8];
    txn.keys(Family::Sessions, of_session, limit)
}

/// Opens a session; the same nonce again is the same session.
pub(crate) fn open(txn: &mut Txn<'_>, now: u64, nonce: u128, ttl: Duration) -> Step<Outcome> {
    sweep(txn, now)?;
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    if !TTL_MILLIS.contains(&ttl) {
        let message = "a session lives between a millisecond and a day without renewal";
        return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
    }
    let known = txn.raw(Family::Sessions, &key::session_nonce(nonce))?;
    let known = known.and_then(|raw| raw.first_chunk().map(|raw| u64::from_be_bytes(*raw)));
    if let Some(id) = known.map(SessionId::new)
        && load(txn, id)?.is_some_and(|record| !record.closed && now < record.expires_at)
    {
        return Ok(Outcome::SessionOpened { session: id });
    }
    let id = txn.next_session()?;
    let record = SessionRecord {
        nonce,
        ttl,
        expires_at: now.saturating_add(ttl),
        closed: false,
        first_unacked: 1,
    };
    let number = id.get().to_be_bytes().to_vec();
    txn.put_raw(Family::Sessions, key::session_nonce(nonce), number);
    store(txn, id, &record);
    Ok(Outcome::SessionOpened { session: id })
}

fn store(txn: &mut Txn<'_>, id: SessionId, record: &SessionRecord) {
    txn.put(Family::Sessions, key::session(id), record);
    let at = key::session_expiry(record.expires_at, id);
    txn.put_raw(Family::Sessions, at, Vec::new());
}

/// Renews a session.
pub(crate) fn keep(txn: &mut Txn<'_>, now: u64, id: SessionId) -> Step<Outcome> {
    let mut record = load(txn, id)?.ok_or(Outcome::SessionExpired)?;
    txn.delete(Family::Sessions, key::session_expiry(record.expires_at, id));
    record.expires_at = record.expires_at.max(now.saturating_add(record.ttl));
    store(txn, id, &record);
    Ok(Outcome::Done)
}

/// Ends a session; its lease runs out by itself.
pub(crate) fn close(txn: &mut Txn<'_>, id: SessionId) -> Step<Outcome> {
    let mut record = load(txn, id)?.ok_or(Outcome::SessionExpired)?;
    record.closed = true;
    store(txn, id, &record);
    Ok(Outcome::Done)
}

/// Replicated milliseconds until which nobody may take over what a session holds.
pub(crate) fn lease_end(txn: &Txn<'_>, id: SessionId) -> Read<u64> {
    Ok(load(txn, id)?.map_or(0, |record| record.expires_at))
}

/// Forgets a few sessions whose lease is over.
fn sweep(txn: &mut Txn<'_>, now: u64) -> Read<()> {
    let by_expiry = &key::session_expiry(0, SessionId::new(0))[..1];
    for at in txn.keys(Family::Sessions, by_expiry, SWEPT)? {
        let (Some(expires_at), Some(id)) = (key::tagged_number(&at), key::last_number(&at)) else {
            continue;
        };
        if expires_at > now {
            break;
        }
        let id = SessionId::new(id);
        if forget(txn, id)? {
            txn.delete(Family::Sessions, at);
        }
    }
    Ok(())
}

/// Forgets a session, its outcomes first; says whether it is gone.
fn forget(txn: &mut Txn<'_>, id: SessionId) -> Read<bool> {
    let limit = usize::try_from(MAX_UNACKED).unwrap_or(usize::MAX);
    let kept = outcomes(txn, id, limit)?;
    let gone = kept.len() < limit;
    for at in kept {
        txn.delete(Family::Sessions, at);
    }
    if !gone {
        return Ok(false);
    }
    if let Some(record) = load(txn, id)? {
        let nonce = key::session_nonce(record.nonce);
        let number = id.get().to_be_bytes();
        if txn.raw(Family::Sessions, &nonce)?.as_deref() == Some(&number[..]) {
            txn.delete(Family::Sessions, nonce);
        }
        txn.delete(Family::Sessions, key::session(id));
    }
    Ok(true)
}
