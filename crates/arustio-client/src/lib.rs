//! The client-side file system: resolve, plan, read through the cache, write through
//! to the under file system.
//!
//! Read [`fs`] first: the trait [`FileSystem`] with its reader and writer, which the
//! command line, programs and tests use. [`builder`] makes the real one.
//!
//! A client asks the metadata service for names, and fetches bytes itself: from the
//! block nodes while they answer well, else from the object store. It owns no truth;
//! dropping it at any point loses nothing that was acknowledged.
//!
//! ```no_run
//! use arustio_client::{CreateOptions, FileSystem, FsPath, OpenOptions};
//!
//! # async fn example() -> arustio_client::Result<()> {
//! let fs = arustio_client::connect("127.0.0.1:7411").await?;
//! let path = FsPath::new("/data/greeting")?;
//! let mut writer = fs.create(&path, CreateOptions::default()).await?;
//! writer.write("hello".into()).await?;
//! writer.commit().await?;
//! let reader = fs.open(&path, OpenOptions::default()).await?;
//! assert_eq!(reader.read_at(0, 100).await?, "hello");
//! fs.close().await
//! # }
//! ```
// `block::local::map` maps memory, and nothing else does.
#![deny(unsafe_code)]

pub mod admin;
pub mod block;
pub mod builder;
mod client;
mod command;
pub mod config;
pub mod entropy;
pub mod error;
pub mod filesystem;
pub mod fs;
mod job;
pub mod metadata;
mod mount;
mod names;
pub mod net;
pub mod read;
mod resolve;
mod sync;
mod tasks;
mod told;
pub mod write;

/// The nouns: everything that appears in a signature of this crate.
pub use arustio_types as types;
pub use arustio_types::{ByteSize, ErrorKind, FsPath};
pub use block::location::{FileLocation, NodeShare};
pub use builder::{Builder, Notice, connect};
pub use config::{ClientConfig, Transport, Verify};
pub use error::{FsError, Result};
pub use filesystem::ArustioFileSystem;
pub use fs::{
    Committed, CreateOptions, DeleteOptions, DeleteSummary, FileReader, FileSystem, FileWriter,
    FreeSummary, ListOptions, LoadEvent, LoadOptions, LoadedFile, MkdirOptions, MountCheck,
    MountOutcome, MountRequest, OpenOptions, PathConfView, PendingItem, PendingKind, ReadStats,
    RenameOptions, StatOptions, SyncFinding, SyncOptions, SyncSummary, UnmountSummary, Usage,
    UsageOptions, WriteStats,
};
pub use job::pending::{PendingReport, PendingRounds};
pub use read::sequential::SequentialReader;
pub use write::sequential::SequentialWriter;
