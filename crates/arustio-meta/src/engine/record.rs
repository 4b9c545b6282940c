//! Records as bytes: compact, versioned, readable for ever.
//!
//! A record is one format byte, then its fields: numbers as variable-length integers,
//! text and bytes with their length in front, what is absent or usual left out by a flag.
//! Every released format stays readable; samples of each are kept in `testdata` and read
//! by a test. Decoding never panics, never allocates more than what it was given, and
//! refuses what it does not consume to the last byte.

pub mod inode;
pub mod mount;
pub mod owed;
pub mod session;

use crate::error::StateMachineError;

pub use inode::{
    Attributes, AttributesView, DentryRecord, DirRecord, Direct, FileRecord, FileView, InodeRecord,
    InodeView, Loaded, Marker, VersionView,
};
pub use mount::{Decided, NodeRecord};
pub use session::{Counters, IdentityRecord, SessionRecord};

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// They end too early.
    #[error("it is cut short")]
    Short,
    /// They go on after the last field.
    #[error("{0} bytes follow its last field")]
    Trailing(usize),
    /// A number is out of its range.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// Text is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// Written by a later release.
    #[error("it has format {0}")]
    Newer(u8),
}

/// Something that is stored.
///
/// # Contract
/// `read` accepts every format up to `VERSION` and gives back what `write` took.
pub trait Record: Sized {
    /// What it is, in messages.
    const WHAT: &'static str;
    /// The newest format that is written and read.
    const VERSION: u8 = 1;

    /// The format that this record is written in: the oldest that can hold it.
    fn version(&self) -> u8 {
        Self::VERSION
    }

    /// Writes the fields.
    fn write(&self, to: &mut Writer);

    /// Reads the fields of one format.
    fn read(from: &mut Reader<'_>, version: u8) -> Result<Self, RecordError>;

    /// The record as bytes.
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.byte(self.version());
        self.write(&mut writer);
        writer.0
    }

    /// The record in these bytes, all of them.
    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode_all(bytes, Self::VERSION, Self::read)
    }

    /// The record in stored bytes; what cannot be read ends this replica.
    fn decode_stored(bytes: &[u8]) -> Result<Self, StateMachineError> {
        Self::decode(bytes).map_err(|error| unreadable(Self::WHAT, Self::VERSION, error))
    }
}

/// Reads what stands behind the format byte, to the last byte.
fn decode_all<'a, T>(
    bytes: &'a [u8],
    newest: u8,
    read: impl FnOnce(&mut Reader<'a>, u8) -> Result<T, RecordError>,
) -> Result<T, RecordError> {
    let mut reader = Reader::new(bytes);
    let version = reader.byte()?;
    if version > newest {
        return Err(RecordError::Newer(version));
    }
    let record = read(&mut reader, version)?;
    match reader.rest.len() {
        0 => Ok(record),
        left => Err(RecordError::Trailing(left)),
    }
}

fn unreadable(what: &'static str, newest: u8, error: RecordError) -> StateMachineError {
    match error {
        RecordError::Newer(found) => StateMachineError::NewerFormat {
            what,
            found: u32::from(found),
            supported: u32::from(newest),
        },
        other => StateMachineError::Corrupt {
            what,
            detail: other.to_string(),
        },
    }
}

/// Bytes in the making.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// A number; small ones take one byte.
    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number with a sign.
    pub fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)) as u64);
    }

    /// 128 bits.
    pub fn bits(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Yes or no.
    pub fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Text with its length.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// Something that may be absent.
    pub fn option<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Many, with their number.
    pub fn list<'t, T: 't>(
        &mut self,
        values: impl ExactSizeIterator<Item = &'t T>,
        mut write: impl FnMut(&mut Self, &T),
    ) {
        self.number(values.len() as u64);
        for value in values {
            write(self, value);
        }
    }
}

/// Bytes being read.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, RecordError> {
        let (first, rest) = self.rest.split_first().ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A number.
    pub fn number(&mut self) -> Result<u64, RecordError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(RecordError::Range("a number"));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Range("a number"))
    }

    /// A number of at most 32 bits.
    pub fn number32(&mut self) -> Result<u32, RecordError> {
        u32::try_from(self.number()?).map_err(|_| RecordError::Range("a 32-bit number"))
    }

    /// A number with a sign.
    pub fn signed(&mut self) -> Result<i64, RecordError> {
        let raw = self.number()?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    /// 128 bits.
    pub fn bits(&mut self) -> Result<u128, RecordError> {
        let (raw, rest) = self
            .rest
            .split_first_chunk::<16>()
            .ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(u128::from_be_bytes(*raw))
    }

    /// Yes or no.
    pub fn flag(&mut self) -> Result<bool, RecordError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Range("a flag")),
        }
    }

    /// Bytes with their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let length = usize::try_from(self.number()?).map_err(|_| RecordError::Short)?;
        let (part, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(part)
    }

    /// Text with its length.
    pub fn text(&mut self, what: &'static str) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| RecordError::NotUtf8(what))
    }

    /// Something that may be absent.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        match self.flag()? {
            true => read(self).map(Some),
            false => Ok(None),
        }
    }

    /// Many, with their number: each takes at least a byte, so that a false number fails
    /// before it costs memory.
    pub fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let count = usize::try_from(self.number()?).map_err(|_| RecordError::Short)?;
        if count > self.rest.len() {
            return Err(RecordError::Short);
        }
        let mut found = Vec::new();
        for _ in 0..count {
            found.push(read(self)?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
