//! A writer's durable announcement (W3).

use crate::content::{ContentId, ObjectVersion, UfsKey, WriteId};
use crate::id::{IntentId, LogIndex, MountId, SessionId};
use crate::path::FsPath;

/// Recorded before a writer's first UFS request, cleared by publishing or by the
/// proof that nothing was, or will be, written.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// Its number.
    pub id: IntentId,
    /// The mount it writes through.
    pub mount: MountId,
    /// The name that will appear.
    pub path: FsPath,
    /// The key that is written.
    pub key: UfsKey,
    /// The version that may be replaced; `None`: create only.
    pub expected: Option<ObjectVersion>,
    /// Stands in the object's metadata.
    pub write_id: WriteId,
    /// Names the bytes.
    pub content: ContentId,
    /// log2 of the block size.
    pub block_size_log2: u8,
    /// Multipart uploads recorded so far.
    pub upload_ids: Vec<String>,
    /// Whoever may act under it; its lease is the session's.
    pub holder: SessionId,
    /// Replicated milliseconds until which an unanswered request may still arrive.
    pub unanswered_until: u64,
    /// Already published; it only stays until `unanswered_until` (P5).
    pub published: bool,
    /// Where it was recorded.
    pub begun_at: LogIndex,
    /// When, in replicated milliseconds.
    pub begun_time: u64,
}
