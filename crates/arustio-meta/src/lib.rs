//! The metadata store: the replicated namespace without a transport.
//!
//! Three layers, each a seam with a fake and a conformance suite. The [`engine`] keeps
//! ordered keys in families and survives crashes. A [`state_machine`] turns committed
//! entries into batches of that engine, deterministically. [`consensus`] agrees on the
//! order of entries with raft-rs, and offers the state to its process as a [`store`].
//!
//! This crate knows no gRPC, no object store, no environment and no configuration file:
//! a server composes it. Raft types are named inside `consensus` only, RocksDB inside
//! `engine/rocks.rs` only.
#![forbid(unsafe_code)]

pub mod backup;
pub mod config;
pub mod consensus;
pub mod engine;
pub mod error;
pub mod inspect;
mod mutation;
pub mod namespace;
pub mod session;
pub mod state_machine;
pub mod store;
pub mod sync_table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use config::{CheckedConfig, MetaConfig};
pub use consensus::{Consensus, ConsensusBuilder, MemberIdentity};
pub use error::{EngineError, FatalError, StateMachineError, StoreError};
pub use state_machine::StateMachine;
pub use store::{MetadataStore, Proposed, ReadOptions, Role, StoreStatus};
