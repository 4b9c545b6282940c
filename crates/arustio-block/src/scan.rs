//! Pages of a scan, cut from what the tiers list.

use arustio_types::BlockKey;

use crate::store::BlockSummary;

/// The page after `after`; of two summaries of one block the fuller one stays.
pub(crate) fn page(
    mut all: Vec<BlockSummary>,
    after: Option<BlockKey>,
    limit: usize,
) -> Vec<BlockSummary> {
    all.retain(|summary| after.is_none_or(|after| summary.key > after));
    all.sort_by(|a, b| (a.key, b.presence.present).cmp(&(b.key, a.presence.present)));
    all.dedup_by(|later, kept| {
        let same = later.key == kept.key;
        kept.pinned |= same && later.pinned;
        same
    });
    all.truncate(limit);
    all
}
