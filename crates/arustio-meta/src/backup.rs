//! The whole state in one file, and a new cluster from such a file (N9).
//!
//! ```text
//! magic (8) | format (4)
//! frame = kind (1) | length (4) | CRC-32C of kind and payload (4) | payload
//!   header    once, first: whose state this is, at which position, made when
//!   records   many: family, key and value of each record
//!   end       once, last: number of records, their sum, hash of every byte before it
//! ```
//!
//! Numbers are big-endian. Written and read as a stream: memory is one frame. A file that
//! was cut, changed or written by a later release is refused before anything is believed.
//!
//! A backup holds everything that is replicated except what belongs to a running group:
//! its members, sessions with the outcomes of their requests, and credentials, of which
//! only is kept which mounts had one. What a restore makes of the rest is told in
//! `restore`.

pub(crate) mod frame;
pub mod restore;

use std::io::{self, Write};
use std::ops::ControlFlow;

use arustio_types::{Classify, ClusterId, ErrorKind, Incarnation, MountId, Timestamp};

use crate::engine::record::{IdentityRecord, Reader, Record, RecordError, SessionRecord, Writer};
use crate::engine::{EngineError, Family, KvEngine, Scan, key};
use crate::error::{FatalError, StateMachineError};
use crate::namespace::StateHash;
use crate::namespace::txn::Txn;
use crate::state_machine::Applied;

pub use restore::{Restored, check, restore};

use frame::{End, FrameWriter, Kind};

/// Payload bytes after which a frame of records is closed.
const FRAME: usize = 256 << 10;
/// Who writes.
const SOFTWARE: &str = concat!("arustio ", env!("CARGO_PKG_VERSION"));

/// The families of a backup and their numbers in it, which never change.
pub(crate) const FAMILIES: [(u8, Family); 9] = [
    (1, Family::Dentries),
    (2, Family::Inodes),
    (3, Family::Mounts),
    (5, Family::Intents),
    (6, Family::Effects),
    (7, Family::Settings),
    (8, Family::Nodes),
    (10, Family::Jobs),
    (11, Family::Meta),
];

/// What stands in `meta` and in a backup.
const META: [&[u8]; 4] = [key::APPLIED, key::COUNTERS, key::IDENTITY, key::ROOT];

/// Why a backup cannot be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be written or read.
    #[error("cannot {action} the backup: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something else than a backup.
    #[error(
        "this is no backup of Arustio's metadata: give a file that arustio admin metadata backup, \
         or arustio-server metadata backup, wrote"
    )]
    NotABackup,
    /// Written by a later release.
    #[error(
        "the backup has format {found}, this release reads up to {supported}: restore it with the \
         release that wrote it, or a later one"
    )]
    NewerFormat {
        /// What the file says.
        found: u32,
        /// What we know.
        supported: u32,
    },
    /// The file ends too early.
    #[error(
        "the backup is cut short after {at} bytes: copy the file again, or use an earlier backup"
    )]
    Cut {
        /// Where it ends.
        at: u64,
    },
    /// The file is not as it was written.
    #[error(
        "the backup is damaged near byte {at} ({detail}): copy the file again, or use an earlier \
         backup"
    )]
    Damaged {
        /// Where.
        at: u64,
        /// What does not fit.
        detail: String,
    },
    /// There is something where the state would go.
    #[error(
        "a backup is restored only into an empty data folder, and this one holds the state of \
         cluster {cluster}: give another folder, or empty this one"
    )]
    NotEmpty {
        /// Whose state is there.
        cluster: ClusterId,
    },
    /// An engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateMachineError),
    /// The new log cannot be founded.
    #[error("cannot found the log of the restored cluster: {0}")]
    Log(#[source] Box<FatalError>),
}

impl Classify for BackupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Internal,
            Self::NotABackup => ErrorKind::InvalidArgument,
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
            Self::Cut { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::NotEmpty { .. } => ErrorKind::AlreadyExists,
            Self::Engine(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Log(error) => error.kind(),
        }
    }
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// The position that it reflects.
    pub applied: Applied,
    /// When it was made, wall clock.
    pub made: Timestamp,
    /// Which release made it.
    pub software: String,
    /// The longest that a session of it lives without renewal, in milliseconds.
    pub longest_lease: u64,
    /// Mounts whose credential was left out.
    pub sealed: Vec<MountId>,
}

impl Record for Header {
    const WHAT: &'static str = "the header of a backup";

    fn write(&self, to: &mut Writer) {
        to.bits(self.cluster.get());
        to.number(self.incarnation.get());
        self.applied.write(to);
        to.signed(self.made.millis());
        to.text(&self.software);
        to.number(self.longest_lease);
        to.list(self.sealed.iter(), |to, mount| to.number(mount.get()));
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            cluster: ClusterId::new(from.bits()?),
            incarnation: Incarnation::new(from.number()?),
            applied: Applied::read(from, 1)?,
            made: Timestamp::from_millis(from.signed()?),
            software: from.text("a release")?.to_owned(),
            longest_lease: from.number()?,
            sealed: from.list(|from| from.number().map(MountId::new))?,
        })
    }
}

/// A backup that was written or read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What it says of itself.
    pub header: Header,
    /// Records in it.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the state in an engine that nobody writes to: a checkpoint, or the folder of a
/// server that is stopped. The caller makes the file durable.
pub fn write(
    engine: &dyn KvEngine,
    to: &mut dyn Write,
    made: Timestamp,
) -> Result<Summary, BackupError> {
    let header = header(engine, made)?;
    let mut frames = FrameWriter::begin(to)?;
    frames.frame(Kind::Header, &header.encode())?;
    let mut end = End::default();
    for (number, family) in FAMILIES {
        family_records(engine, number, family, &mut frames, &mut end)?;
    }
    end.hash = frames.hash();
    frames.frame(Kind::End, &end.encode())?;
    Ok(Summary {
        header,
        records: end.records,
        bytes: frames.finish()?,
    })
}

fn header(engine: &dyn KvEngine, made: Timestamp) -> Result<Header, BackupError> {
    let txn = Txn::new(engine);
    let identity: Option<IdentityRecord> = txn.get(Family::Meta, key::IDENTITY)?;
    let identity = identity.ok_or_else(|| StateMachineError::Corrupt {
        what: "the identity of the cluster",
        detail: "there is none: this server has not founded or joined a cluster yet".to_owned(),
    })?;
    let mut longest_lease = 0;
    let all = key::all_sessions();
    txn.each(Family::Sessions, &all, &all, usize::MAX, &mut |_, value| {
        longest_lease = longest_lease.max(SessionRecord::decode_stored(value)?.ttl);
        Ok(ControlFlow::Continue(()))
    })?;
    let sealed = txn.keys(Family::Credentials, &[], usize::MAX)?;
    let sealed = sealed.iter().filter_map(|at| key::parent_of_dentry(at));
    Ok(Header {
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        applied: txn.get(Family::Meta, key::APPLIED)?.unwrap_or_default(),
        made,
        software: SOFTWARE.to_owned(),
        longest_lease,
        sealed: sealed.map(|id| MountId::new(id.get())).collect(),
    })
}

fn family_records(
    engine: &dyn KvEngine,
    number: u8,
    family: Family,
    frames: &mut FrameWriter<'_>,
    end: &mut End,
) -> Result<(), BackupError> {
    let mut frame = Writer::default();
    let mut fault = Ok(());
    engine.scan(family, Scan::all(), &mut |at, value| {
        if family == Family::Meta && !META.contains(&at) {
            return ControlFlow::Continue(());
        }
        frame.byte(number);
        frame.bytes(at);
        frame.bytes(value);
        end.count(family, at, value);
        if frame.len() < FRAME {
            return ControlFlow::Continue(());
        }
        fault = frames.frame(Kind::Records, &std::mem::take(&mut frame).into_bytes());
        match fault {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    fault?;
    match frame.len() {
        0 => Ok(()),
        _ => frames.frame(Kind::Records, &frame.into_bytes()),
    }
}

impl End {
    /// Counts a record.
    fn count(&mut self, family: Family, at: &[u8], value: &[u8]) {
        self.records += 1;
        let mut sum = StateHash::from_raw(self.sum);
        sum.add(family, at, value);
        self.sum = sum.get();
    }
}
