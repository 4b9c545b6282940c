//! The metadata store: the replicated namespace without a transport.
//!
//! Three layers, each a seam with a fake and a conformance suite. The [`engine`] keeps
//! ordered keys in families and survives crashes. A [`state_machine`] turns committed
//! entries into batches of that engine, deterministically. `consensus` agrees on the
//! order of entries with raft-rs, and offers a [`state_machine`] to the process as a
//! store.
//!
//! This crate knows no gRPC, no object store, no environment and no configuration file:
//! a server composes it. Raft types are named inside `consensus` only, RocksDB inside
//! `engine/rocks.rs` only.
#![forbid(unsafe_code)]

pub mod engine;
pub mod error;
pub mod state_machine;
