//! A new cluster from a backup.
//!
//! The restored state belongs to a new incarnation of the same cluster, so that clients
//! and servers of the lost one are refused. What is not taken over as it is:
//!
//! - **Counters** skip 2^32 numbers: no id that the lost future gave out is given again,
//!   and no cached block of it is taken for one of the new (N9). Content ids that follow
//!   from an object follow from the incarnation too.
//! - **Sessions** are gone. A request that was sent before the restore is refused, never
//!   applied twice.
//! - **Intents and effects** stay, held by sessions that no longer exist: whoever comes
//!   first takes them over and finishes them (W3, P4). Their last holders may still be at
//!   it, and may have been since the backup; so none is taken over before the longest
//!   lease that any session had has passed in the new cluster's time (P5).
//! - **Credentials** are marked as set and missing: a mount that needs one says so until
//!   it is given again.
//! - **Members**: the new group is this one member, and its log starts at the position of
//!   the backup.
//!
//! The identity is written last, so that what a crash leaves behind belongs to nobody.

use std::io::Read;

use arustio_types::meta::effect::Effect;
use arustio_types::meta::intent::Intent;
use arustio_types::{FsPath, MountId};

use super::frame::{End, FrameReader, Kind};
use super::{BackupError, FAMILIES, Header, Summary};
use crate::consensus::{self, MemberIdentity};
use crate::engine::record::{Counters, IdentityRecord, Reader, Record, RecordError};
use crate::engine::{Batch, Durability, Family, KvEngine, key};
use crate::error::StateMachineError;
use crate::inspect;
use crate::namespace::txn::Txn;
use crate::namespace::{StateHash, Verified};

/// How far the counters skip (N9).
const SKIPPED: u64 = 1 << 32;
/// The least time for which nothing restored is taken over, in milliseconds: the lease
/// that clients ask for.
const LEAST_LEASE: u64 = 60_000;

/// Bytes that one batch takes, roughly.
const BATCH: usize = 4 << 20;

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub summary: Summary,
    /// Mount points whose credentials have to be given again.
    pub without_credential: Vec<FsPath>,
    /// What a check of the restored state found.
    pub verified: Verified,
}

/// Takes what a backup holds.
trait Sink {
    fn header(&mut self, header: &Header);
    fn record(&mut self, family: Family, at: &[u8], value: &[u8]) -> Result<(), BackupError>;
}

/// Takes it and keeps nothing.
struct Nothing;

impl Sink for Nothing {
    fn header(&mut self, _: &Header) {}

    fn record(&mut self, _: Family, _: &[u8], _: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Reads a backup to its end, and believes nothing before that.
pub fn check(from: &mut dyn Read) -> Result<Summary, BackupError> {
    read(from, &mut Nothing)
}

fn read(from: &mut dyn Read, sink: &mut dyn Sink) -> Result<Summary, BackupError> {
    let mut frames = FrameReader::begin(from)?;
    let (Kind::Header, payload) = frames.next()? else {
        return Err(frames.damaged("its header is missing"));
    };
    let header = Header::decode(&payload).map_err(|error| unreadable(&frames, error))?;
    sink.header(&header);
    let mut found = End::default();
    loop {
        found.hash = frames.hash();
        let (kind, payload) = frames.next()?;
        match kind {
            Kind::Header => return Err(frames.damaged("it has two headers")),
            Kind::Records => records(&frames, &payload, &mut found, sink)?,
            Kind::End => {
                let end = End::decode(&payload).map_err(|error| unreadable(&frames, error))?;
                if end != found {
                    return Err(frames.damaged("its end does not fit to what is before it"));
                }
                frames.finish()?;
                return Ok(Summary {
                    header,
                    records: end.records,
                    bytes: frames.at(),
                });
            }
        }
    }
}

fn unreadable(frames: &FrameReader<'_>, error: RecordError) -> BackupError {
    match error {
        RecordError::Newer(found) => BackupError::NewerFormat {
            found: u32::from(found),
            supported: 1,
        },
        other => frames.damaged(other.to_string()),
    }
}

fn records(
    frames: &FrameReader<'_>,
    payload: &[u8],
    found: &mut End,
    sink: &mut dyn Sink,
) -> Result<(), BackupError> {
    let mut reader = Reader::new(payload);
    let mut next = || -> Result<_, RecordError> {
        Ok((
            reader.byte()?,
            reader.bytes()?,
            reader.bytes()?,
            reader.rest().is_empty(),
        ))
    };
    loop {
        let (number, at, value, last) = next().map_err(|error| unreadable(frames, error))?;
        let known = FAMILIES.iter().find(|(own, _)| *own == number);
        let Some((_, family)) = known else {
            return Err(frames.damaged(format!("a record is of the unknown family {number}")));
        };
        found.count(*family, at, value);
        sink.record(*family, at, value)?;
        if last {
            return Ok(());
        }
    }
}

/// Makes a new cluster of a backup, in empty engines, with this member as its only one.
/// The cluster of `identity` is ignored, it is that of the backup; the incarnation has to
/// be new. Durable on return.
pub fn restore(
    from: &mut dyn Read,
    log: &dyn KvEngine,
    state: &dyn KvEngine,
    identity: MemberIdentity,
) -> Result<Restored, BackupError> {
    refuse_occupied(log, state)?;
    let mut writer = StateWriter::new(state);
    let summary = read(from, &mut writer)?;
    let header = &summary.header;
    for mount in &header.sealed {
        writer.put(Family::Credentials, key::mount(*mount), Vec::new())?;
    }
    let cluster = header.cluster;
    let identity = MemberIdentity {
        cluster,
        ..identity
    };
    writer.finish(&identity)?;
    consensus::found_restored(log, identity, header.applied.position)
        .map_err(|error| BackupError::Log(Box::new(error)))?;
    Ok(Restored {
        without_credential: mount_points(state, &header.sealed)?,
        verified: inspect::verify(state)?,
        summary,
    })
}

fn refuse_occupied(log: &dyn KvEngine, state: &dyn KvEngine) -> Result<(), BackupError> {
    let refuse = |cluster| Err(BackupError::NotEmpty { cluster });
    let kept: Option<IdentityRecord> = Txn::new(state).get(Family::Meta, key::IDENTITY)?;
    if let Some(kept) = kept {
        return refuse(kept.cluster);
    }
    let logged = MemberIdentity::read(log);
    match logged.map_err(|error| BackupError::Log(Box::new(error)))? {
        Some(kept) => refuse(kept.cluster),
        None => Ok(()),
    }
}

fn mount_points(state: &dyn KvEngine, mounts: &[MountId]) -> Result<Vec<FsPath>, BackupError> {
    let txn = Txn::new(state);
    let mut paths = Vec::new();
    for mount in mounts {
        paths.extend(txn.mount(*mount)?.map(|entry| entry.spec.path));
    }
    Ok(paths)
}

/// Writes records into an engine, a batch at a time.
struct StateWriter<'e> {
    state: &'e dyn KvEngine,
    batch: Batch,
    bytes: usize,
    sum: StateHash,
    /// Replicated milliseconds before which nothing is taken over.
    silent_at: u64,
}

impl<'e> StateWriter<'e> {
    fn new(state: &'e dyn KvEngine) -> Self {
        Self {
            state,
            batch: Batch::new(),
            bytes: 0,
            sum: StateHash::default(),
            silent_at: 0,
        }
    }

    fn put(&mut self, family: Family, at: Vec<u8>, value: Vec<u8>) -> Result<(), BackupError> {
        if StateHash::counts(family, &at) {
            self.sum.add(family, &at, &value);
        }
        self.bytes += at.len() + value.len();
        self.batch.put(family, at, value);
        if self.bytes >= BATCH {
            self.bytes = 0;
            let batch = std::mem::take(&mut self.batch);
            self.state.write(batch, Durability::Buffered)?;
        }
        Ok(())
    }

    fn finish(mut self, identity: &MemberIdentity) -> Result<(), BackupError> {
        let record = IdentityRecord {
            cluster: identity.cluster,
            incarnation: identity.incarnation,
        };
        self.put(Family::Meta, key::IDENTITY.to_vec(), record.encode())?;
        let mut batch = self.batch;
        self.sum.store(&mut batch);
        self.state.write(batch, Durability::Buffered)?;
        self.state.make_durable()?;
        Ok(())
    }

    /// A record as it stands in the new cluster; `None`: not at all.
    fn carried_over(
        &self,
        family: Family,
        at: &[u8],
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, StateMachineError> {
        let owed = at.starts_with(&key::all_owed());
        Ok(Some(match family {
            Family::Meta if at == key::IDENTITY => return Ok(None),
            Family::Meta if at == key::COUNTERS => {
                skipped(Counters::decode_stored(value)?).encode()
            }
            Family::Intents if owed => {
                let mut intent = Intent::decode_stored(value)?;
                intent.unanswered_until = intent.unanswered_until.max(self.silent_at);
                intent.encode()
            }
            Family::Effects if owed => {
                let mut effect = Effect::decode_stored(value)?;
                effect.unanswered_until = effect.unanswered_until.max(self.silent_at);
                effect.encode()
            }
            Family::Dentries
            | Family::Inodes
            | Family::Mounts
            | Family::Credentials
            | Family::Intents
            | Family::Effects
            | Family::Settings
            | Family::Nodes
            | Family::Sessions
            | Family::Jobs
            | Family::Meta
            | Family::Log => value.to_vec(),
        }))
    }
}

impl Sink for StateWriter<'_> {
    fn header(&mut self, header: &Header) {
        let lease = header.longest_lease.max(LEAST_LEASE);
        self.silent_at = header.applied.time.millis().saturating_add(lease);
    }

    fn record(&mut self, family: Family, at: &[u8], value: &[u8]) -> Result<(), BackupError> {
        match self.carried_over(family, at, value)? {
            Some(value) => self.put(family, at.to_vec(), value),
            None => Ok(()),
        }
    }
}

fn skipped(counters: Counters) -> Counters {
    let skip = |number: u64| number.saturating_add(SKIPPED);
    Counters {
        inode: skip(counters.inode),
        mount: skip(counters.mount),
        session: skip(counters.session),
        intent: skip(counters.intent),
        effect: skip(counters.effect),
        node: skip(counters.node),
        epoch: skip(counters.epoch),
    }
}
