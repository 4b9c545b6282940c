//! What is said to the metadata service, and what it answers.
//!
//! A [`Command`] changes the namespace and is applied exactly
//! once; its [`Outcome`] is the same on every replica, refusals
//! included. A [`Query`] reads. Both resolve paths where they are
//! applied, at one instant.

pub mod command;
pub mod credential;
pub mod effect;
pub mod entries;
pub mod intent;
pub mod merge;
pub mod mount;
pub mod query;
pub mod setting;
pub mod status;
pub mod sync;

pub use command::{Command, Outcome, Refusal, RequestContext};
pub use query::{Answer, Consistency, Query};
pub use status::{FileKind, FileStatus, Freshness};
