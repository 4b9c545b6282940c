//! An S3 server that we control: real HTTP on loopback, real signatures,
//! objects in memory.
//!
//! It exists because the promises about under file systems can only be tested
//! against a store that fails on command: answers 503, resets connections,
//! carries a request out and loses the answer, or has its objects overwritten
//! behind our back. It also counts every request and byte, which is how "one
//! request for each range" becomes a test.
//!
//! The protocol (routes, XML, signature version 4) is the `s3s` crate's; the
//! store, the conditions, the faults and the counters are ours. It is strict
//! where AWS S3 is strict and, under [`Profile::Minio`], careless where MinIO
//! is: there a `DELETE` ignores its condition and a copy ignores the condition
//! on its destination. It has none of MinIO's limits on keys: `a//b`, `../x`,
//! `dir/` with bytes and line breaks are all ordinary keys.
//!
//! What it is not: durable, versioned, or safe to expose. There is one pair of
//! credentials, and it may do everything.
//!
//! Invariants: an object is immutable once it is visible, so a read that has
//! begun returns the bytes of one version whatever happens meanwhile; a
//! condition is checked and the change made under one lock; every task belongs
//! to the server and has ended when [`S3Server::stop`] returns.

mod answer;
mod backdoor;
mod blob;
mod condition;
mod connection;
mod control;
mod exchange;
mod faults;
mod front;
mod gate;
mod listing;
mod operation;
mod outside;
mod server;
mod service;
mod stats;
mod store;
mod upload;

pub use self::backdoor::{Backdoor, ObjectInfo, UploadInfo};
pub use self::faults::{FaultAction, FaultRule, Faults, RuleId};
pub use self::operation::Operation;
pub use self::server::{Profile, S3Server, S3ServerBuilder, StartError};
pub use self::stats::{OperationStats, Stats, StatsSnapshot};
