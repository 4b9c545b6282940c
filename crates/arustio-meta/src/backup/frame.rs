//! Frames of a backup: written with checksums, read without trust.

use std::io::{self, Read, Write};

use xxhash_rust::xxh3::Xxh3;

use super::BackupError;
use crate::engine::record::{Reader, Record, RecordError, Writer};

/// First bytes of a backup.
pub(crate) const MAGIC: &[u8; 8] = b"ARUSTIOB";
/// The newest format that is written and read.
pub(crate) const FORMAT: u32 = 1;
/// Largest payload of a frame that is believed.
const MAX_FRAME: u32 = 16 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What the backup says of itself.
    Header,
    /// Records.
    Records,
    /// What the reader must have found.
    End,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Records => 2,
            Self::End => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Header),
            2 => Some(Self::Records),
            3 => Some(Self::End),
            _ => None,
        }
    }
}

/// What the reader must have found when it comes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct End {
    pub(crate) records: u64,
    /// Over all records, as the state hash is.
    pub(crate) sum: u128,
    /// Of every byte before this frame.
    pub(crate) hash: u128,
}

impl Record for End {
    const WHAT: &'static str = "the end of a backup";

    fn write(&self, to: &mut Writer) {
        to.number(self.records);
        to.bits(self.sum);
        to.bits(self.hash);
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            records: from.number()?,
            sum: from.bits()?,
            hash: from.bits()?,
        })
    }
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload)
}

/// Writes frames.
pub(crate) struct FrameWriter<'w> {
    to: &'w mut dyn Write,
    hash: Xxh3,
    bytes: u64,
}

impl<'w> FrameWriter<'w> {
    pub(crate) fn begin(to: &'w mut dyn Write) -> Result<Self, BackupError> {
        let mut frames = Self {
            to,
            hash: Xxh3::new(),
            bytes: 0,
        };
        frames.put(MAGIC)?;
        frames.put(&FORMAT.to_be_bytes())?;
        Ok(frames)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let action = "write";
        let written = self.to.write_all(bytes);
        written.map_err(|source| BackupError::Io { action, source })?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), BackupError> {
        let length = u32::try_from(payload.len()).ok();
        let length = length.filter(|length| *length <= MAX_FRAME);
        let length = length.ok_or_else(|| BackupError::Io {
            action: "write a record into",
            source: io::Error::other("it is larger than a frame may be; report this"),
        })?;
        self.put(&[kind.code()])?;
        self.put(&length.to_be_bytes())?;
        self.put(&checksum(kind.code(), payload).to_be_bytes())?;
        self.put(payload)
    }

    /// Of every byte so far.
    pub(crate) fn hash(&self) -> u128 {
        self.hash.digest128()
    }

    /// Hands everything on; says how many bytes there were.
    pub(crate) fn finish(self) -> Result<u64, BackupError> {
        let action = "write";
        let flushed = self.to.flush();
        flushed.map_err(|source| BackupError::Io { action, source })?;
        Ok(self.bytes)
    }
}

/// Reads frames.
pub(crate) struct FrameReader<'r> {
    from: &'r mut dyn Read,
    hash: Xxh3,
    at: u64,
}

impl<'r> FrameReader<'r> {
    /// Refuses what is no backup, or one of a later release.
    pub(crate) fn begin(from: &'r mut dyn Read) -> Result<Self, BackupError> {
        let mut frames = Self {
            from,
            hash: Xxh3::new(),
            at: 0,
        };
        let mut magic = [0; MAGIC.len()];
        match frames.take(&mut magic) {
            Ok(()) if magic == *MAGIC => {}
            Ok(()) | Err(BackupError::Cut { .. }) => return Err(BackupError::NotABackup),
            Err(error) => return Err(error),
        }
        let mut format = [0; 4];
        frames.take(&mut format)?;
        let found = u32::from_be_bytes(format);
        match found {
            1..=FORMAT => Ok(frames),
            0 => Err(frames.damaged("its format is 0")),
            _ => Err(BackupError::NewerFormat {
                found,
                supported: FORMAT,
            }),
        }
    }

    fn take(&mut self, into: &mut [u8]) -> Result<(), BackupError> {
        let at = self.at;
        self.from.read_exact(into).map_err(|source| {
            match source.kind() == io::ErrorKind::UnexpectedEof {
                true => BackupError::Cut { at },
                false => BackupError::Io {
                    action: "read",
                    source,
                },
            }
        })?;
        self.hash.update(into);
        self.at += into.len() as u64;
        Ok(())
    }

    /// The next frame, checked.
    pub(crate) fn next(&mut self) -> Result<(Kind, Vec<u8>), BackupError> {
        let mut head = [0; 9];
        self.take(&mut head)?;
        let [code, length @ .., _, _, _, _] = head;
        let length = u32::from_be_bytes(length);
        if length > MAX_FRAME {
            return Err(self.damaged(format!("a frame says that it has {length} bytes")));
        }
        let mut payload = vec![0; length as usize];
        self.take(&mut payload)?;
        let [.., a, b, c, d] = head;
        if checksum(code, &payload) != u32::from_be_bytes([a, b, c, d]) {
            return Err(self.damaged("a checksum does not match"));
        }
        match Kind::from_code(code) {
            Some(kind) => Ok((kind, payload)),
            None => Err(self.damaged(format!("a frame is of the unknown kind {code}"))),
        }
    }

    /// Of every byte so far.
    pub(crate) fn hash(&self) -> u128 {
        self.hash.digest128()
    }

    /// Bytes so far.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Nothing may follow.
    pub(crate) fn finish(&mut self) -> Result<(), BackupError> {
        let mut more = [0; 1];
        match self.from.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged("something follows its end")),
            Err(source) => Err(BackupError::Io {
                action: "read",
                source,
            }),
        }
    }

    pub(crate) fn damaged(&self, detail: impl Into<String>) -> BackupError {
        BackupError::Damaged {
            at: self.at,
            detail: detail.into(),
        }
    }
}
