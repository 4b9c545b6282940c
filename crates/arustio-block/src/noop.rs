//! A store that keeps nothing: for nodes without a cache, and as the plainest answer to
//! what the contract allows.

use std::ops::Range;

use arustio_types::BlockKey;
use async_trait::async_trait;

use crate::error::BlockError;
use crate::image::Image;
use crate::metrics::TierMetrics;
use crate::store::{
    BlockStore, BlockSummary, BlockWrite, Borrowed, Parts, Presence, Rejection, Removed, Selector,
    TierUsage, WriteOutcome,
};

/// Always misses.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoopStore;

#[async_trait]
impl BlockStore for NoopStore {
    fn try_read_memory(&self, _key: BlockKey, _range: Range<u64>) -> Option<Parts> {
        None
    }

    async fn read(&self, _key: BlockKey, _range: Range<u64>) -> Result<Parts, BlockError> {
        Ok(Parts::none())
    }

    async fn borrow(
        &self,
        _key: BlockKey,
        _range: Range<u64>,
    ) -> Result<Option<Borrowed>, BlockError> {
        Ok(None)
    }

    async fn write(&self, write: BlockWrite) -> Result<WriteOutcome, BlockError> {
        let reason = Image::of_write(&write)?.err();
        Ok(WriteOutcome::Rejected(reason.unwrap_or(Rejection::NoSpace)))
    }

    async fn contains(&self, _key: BlockKey) -> Result<Option<Presence>, BlockError> {
        Ok(None)
    }

    async fn remove(&self, _selector: Selector) -> Result<Removed, BlockError> {
        Ok(Removed::default())
    }

    async fn pin(&self, _key: BlockKey) -> Result<bool, BlockError> {
        Ok(false)
    }

    async fn unpin(&self, _key: BlockKey) -> Result<bool, BlockError> {
        Ok(false)
    }

    fn usage(&self) -> Vec<TierUsage> {
        Vec::new()
    }

    fn metrics(&self) -> Vec<TierMetrics> {
        Vec::new()
    }

    async fn scan(
        &self,
        _after: Option<BlockKey>,
        _limit: usize,
    ) -> Result<Vec<BlockSummary>, BlockError> {
        Ok(Vec::new())
    }

    async fn close(&self) {}
}
