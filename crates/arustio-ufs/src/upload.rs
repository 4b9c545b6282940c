//! Large objects that arrive in parts.
//!
//! An [`Upload`] is invisible until it is completed. Its id is known before the first
//! part, so that a caller can record it first (W3) and somebody else can clean up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::WriteId;
use async_trait::async_trait;

use crate::error::Result;
use crate::ufs::{Guard, Payload, WriteMode, Written};

/// What a store knows an upload by. Opaque.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(Arc<str>);

impl UploadId {
    /// Takes an id as the store states it.
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// How to begin an upload.
#[derive(Debug, Clone)]
pub struct UploadOptions {
    /// Stands in the object once it is complete.
    pub write_id: WriteId,
    /// How long the request may live.
    pub deadline: Duration,
}

/// How to complete an upload.
#[derive(Debug, Clone)]
pub struct CompleteOptions {
    /// The condition under which the object takes the name.
    pub mode: WriteMode,
    /// How long the request may live.
    pub deadline: Duration,
    /// Who sees to the condition.
    pub guard: Guard,
}

impl CompleteOptions {
    /// A completion that is careful about its condition.
    pub fn new(mode: WriteMode, deadline: Duration) -> Self {
        Self {
            mode,
            deadline,
            guard: Guard::Careful,
        }
    }
}

/// How to abort an upload.
#[derive(Debug, Clone)]
pub struct AbortOptions {
    /// How long the request may live.
    pub deadline: Duration,
}

/// An object that is being written in parts.
///
/// # Contract
///
/// *Parts* are numbered from 1 without gaps, may be sent concurrently (share the upload
/// in an `Arc`), and may be sent again under their number, which replaces them. All but
/// the last are at least [`Capabilities::min_part`](crate::Capabilities::min_part) long.
///
/// *Visibility.* Nothing is visible until [`complete`](Self::complete) returned; a lost
/// condition is [`AlreadyExists`](crate::UfsError::AlreadyExists) or
/// [`Conflict`](crate::UfsError::Conflict), leaves the object as it was, and the upload
/// is to be aborted. An upload without parts completes to an empty object.
///
/// *Dropping* it without completing aborts it in the background as far as a runtime is
/// there to do so; never a visible object is left. An upload whose completion got no
/// answer is left alone. Whoever must be sure calls [`abort`](Self::abort), which
/// succeeds also when the upload is gone already.
#[async_trait]
pub trait Upload: Send + Sync + fmt::Debug {
    /// What the store knows it by.
    fn id(&self) -> &UploadId;

    /// Sends a part.
    async fn put_part(&self, number: u32, payload: Payload, deadline: Duration) -> Result<()>;

    /// Makes the object visible, whole. Every part must have been taken.
    async fn complete(&self, options: CompleteOptions) -> Result<Written>;

    /// Ends it without an object.
    async fn abort(&self, options: AbortOptions) -> Result<()>;
}
