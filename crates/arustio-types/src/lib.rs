//! The nouns every Arustio crate agrees on.
//!
//! Paths, ids, contents, blocks, the commands that change the namespace and the
//! queries that read it. This crate does no I/O, has no async function and knows
//! no wire format: wire and durable types live elsewhere and convert explicitly.
//!
//! Read [`path`], [`content`] and [`block`] first: a cached byte is never wrong
//! because its key names an immutable content, and everything else follows.
#![forbid(unsafe_code)]

pub mod block;
pub mod cluster;
pub mod content;
pub mod error;
pub mod id;
pub mod meta;
pub mod path;
pub mod placement;
pub mod time;
pub mod unit;
pub mod used;

pub use block::{BlockKey, BlockSize, BlockSlice};
pub use content::{Checksum, ContentId, Identity, ObjectVersion, Source, UfsKey, WriteId};
pub use error::{Classify, ErrorKind, RetryAdvice};
pub use id::{
    ClusterId, EffectId, Incarnation, InodeId, IntentId, LogIndex, MountId, NodeId, RequestId,
    SessionId,
};
pub use path::{FsPath, InvalidPath};
pub use time::{ManualClock, SystemClock, Timestamp, WallClock};
pub use unit::ByteSize;
