//! Single fields: required ones, ids, paths, durations, bounded texts and lists.
//!
//! Everything that a peer sends passes one of these, so that a value is either valid or
//! a typed error that names its field.

use std::time::Duration;

use arustio_types::{
    BlockSize, ContentId, ErrorKind, FsPath, ObjectVersion, Timestamp, UfsKey, WriteId, content,
};

use super::ConvertError;
use crate::common::v1 as common;
use crate::meta::v1 as wire;

/// Longest text that has no limit of its own (a URI, a message, an option).
pub(super) const MAX_TEXT: usize = 64 * 1024;
/// Longest list that has no limit of its own.
pub(super) const MAX_LIST: usize = 1 << 20;

pub(super) type Result<T> = std::result::Result<T, ConvertError>;

pub(super) fn required<T>(value: Option<T>, field: &'static str) -> Result<T> {
    value.ok_or(ConvertError::Missing { field })
}

/// Converts a required message.
pub(super) fn message<W, T>(value: Option<W>, field: &'static str) -> Result<T>
where
    T: TryFrom<W, Error = ConvertError>,
{
    required(value, field)?.try_into()
}

/// Converts a message that may be absent.
pub(super) fn optional<W, T>(value: Option<W>) -> Result<Option<T>>
where
    T: TryFrom<W, Error = ConvertError>,
{
    value.map(T::try_from).transpose()
}

/// Converts each of a bounded list.
pub(super) fn list<W, T>(values: Vec<W>, limit: usize, field: &'static str) -> Result<Vec<T>>
where
    T: TryFrom<W, Error = ConvertError>,
{
    bounded(values.len(), limit, field)?;
    values.into_iter().map(T::try_from).collect()
}

/// Converts each of a list into messages.
pub(super) fn messages<'a, T, W>(values: &'a [T]) -> Vec<W>
where
    W: From<&'a T>,
{
    values.iter().map(W::from).collect()
}

pub(super) fn bounded(length: usize, limit: usize, field: &'static str) -> Result<()> {
    if length > limit {
        return Err(ConvertError::TooLong {
            field,
            length,
            limit,
        });
    }
    Ok(())
}

pub(super) fn text(value: String, limit: usize, field: &'static str) -> Result<String> {
    bounded(value.len(), limit, field)?;
    Ok(value)
}

pub(super) fn texts(values: Vec<String>, limit: usize, field: &'static str) -> Result<Vec<String>> {
    bounded(values.len(), limit, field)?;
    for value in &values {
        bounded(value.len(), MAX_TEXT, field)?;
    }
    Ok(values)
}

pub(super) fn path(value: &str, field: &'static str) -> Result<FsPath> {
    FsPath::new(value).map_err(|source| ConvertError::Path { field, source })
}

pub(super) fn key(value: &str, field: &'static str) -> Result<UfsKey> {
    bounded(value.len(), content::MAX_KEY, field)?;
    Ok(UfsKey::new(value))
}

pub(super) fn bits(value: u128) -> Option<common::Bits128> {
    Some(common::Bits128 {
        high: (value >> 64) as u64,
        low: value as u64,
    })
}

pub(super) fn raw_bits(value: common::Bits128) -> u128 {
    u128::from(value.high) << 64 | u128::from(value.low)
}

pub(super) fn required_bits(value: Option<common::Bits128>, field: &'static str) -> Result<u128> {
    required(value, field).map(raw_bits)
}

pub(super) fn content_id(value: Option<common::Bits128>, field: &'static str) -> Result<ContentId> {
    required_bits(value, field).map(ContentId::new)
}

pub(super) fn write_id(value: Option<common::Bits128>, field: &'static str) -> Result<WriteId> {
    required_bits(value, field).map(WriteId::new)
}

/// Whole milliseconds, rounded up and saturating.
pub(super) fn whole_millis(value: Duration) -> u64 {
    let millis = value.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

pub(super) fn millis(value: Duration) -> Option<common::Millis> {
    Some(common::Millis {
        millis: whole_millis(value),
    })
}

pub(super) fn duration(value: common::Millis) -> Duration {
    Duration::from_millis(value.millis)
}

pub(super) fn required_duration(
    value: Option<common::Millis>,
    field: &'static str,
) -> Result<Duration> {
    required(value, field).map(duration)
}

pub(super) fn timestamp(value: i64) -> Timestamp {
    Timestamp::from_millis(value)
}

pub(super) fn block_size(log2: u32, field: &'static str) -> Result<BlockSize> {
    u8::try_from(log2)
        .ok()
        .and_then(BlockSize::from_log2)
        .ok_or(ConvertError::Value {
            field,
            value: i64::from(log2),
        })
}

/// An exponent that is stored as a bare number.
pub(super) fn small(value: u32, field: &'static str) -> Result<u8> {
    u8::try_from(value).map_err(|_| ConvertError::Value {
        field,
        value: i64::from(value),
    })
}

pub(super) fn error_kind(code: u32, field: &'static str) -> Result<ErrorKind> {
    ErrorKind::from_code(code).ok_or(ConvertError::Value {
        field,
        value: i64::from(code),
    })
}

pub(super) fn version(
    value: Option<wire::ObjectVersion>,
    field: &'static str,
) -> Result<ObjectVersion> {
    message(value, field)
}

pub(super) fn limit(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

pub(super) fn wire_limit(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
