//! Under file systems: one trait over object stores.
//!
//! The under file system (UFS) owns the bytes; Arustio only names and caches them.
//! This crate is the one place that talks to it. Read [`ufs`] first: the trait
//! [`UnderFileSystem`] and its contract. Then one backend ([`memory`] is complete and
//! small).
//!
//! Nothing here knows the namespace, metadata or the network of Arustio itself, reads
//! the environment on its own, or holds process-wide state.
#![forbid(unsafe_code)]

pub mod capability;
pub mod config;
pub mod error;
pub mod key;
pub mod layer;
pub mod local;
pub mod memory;
pub mod metrics;
#[cfg(feature = "s3")]
pub mod object;
pub mod probe;
pub mod registry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod ufs;
pub mod upload;
pub mod uri;

pub use capability::{Capabilities, IdentityKind, Support};
pub use error::{Place, Result, UfsError};
pub use ufs::{
    CopyOptions, DeleteOptions, DeleteRequest, DeleteResult, Deleted, Description, EntryKind,
    Guard, ListOptions, ListPage, ObjectEntry, Payload, ReadBody, ReadOptions, RenameOptions,
    Skipped, UfsExt, UnderFileSystem, UploadEntry, WriteMode, WriteOptions, Written,
};
pub use upload::{AbortOptions, CompleteOptions, Upload, UploadId, UploadOptions};
