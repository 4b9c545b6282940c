//! Block keys.

use arustio_types::BlockKey;

use super::ConvertError;
use super::field::{bits, block_size, content_id};
use crate::block::v1 as wire;

impl From<&BlockKey> for wire::BlockKey {
    fn from(key: &BlockKey) -> Self {
        Self {
            content: bits(key.content.get()),
            size_log2: key.size.log2().into(),
            index: key.index,
        }
    }
}

impl TryFrom<wire::BlockKey> for BlockKey {
    type Error = ConvertError;
    fn try_from(key: wire::BlockKey) -> Result<Self, ConvertError> {
        Ok(Self {
            content: content_id(key.content, "block.content")?,
            size: block_size(key.size_log2, "block.size")?,
            index: key.index,
        })
    }
}

impl From<u128> for crate::common::v1::Bits128 {
    fn from(value: u128) -> Self {
        bits(value).unwrap_or_default()
    }
}

impl From<crate::common::v1::Bits128> for u128 {
    fn from(value: crate::common::v1::Bits128) -> Self {
        super::field::raw_bits(value)
    }
}

impl From<std::time::Duration> for crate::common::v1::Millis {
    /// Rounded up to whole milliseconds.
    fn from(value: std::time::Duration) -> Self {
        super::field::millis(value).unwrap_or_default()
    }
}

impl From<crate::common::v1::Millis> for std::time::Duration {
    fn from(value: crate::common::v1::Millis) -> Self {
        super::field::duration(value)
    }
}
