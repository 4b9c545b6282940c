//! The daemon: settings in, a metadata node and a block node behind gRPC and frames out.
//!
//! Several metadata servers are one Raft group: `founding` decides how it begins, `forming`
//! acts on that, `opening` brings the member up, `raft_transport` and `grpc::raft` are the two
//! ends of what members say to one another.
//!
//! [`run`] is the program, [`compose`] the only place that picks implementations; start
//! there. A [`Server`] is a value: a test starts as many as it likes in one process, on
//! free ports, with [`ServerConfig::ephemeral`].
//!
//! Nothing here decides about names, blocks or objects. A service converts, calls what
//! it was given, and converts back; recovery is the client crate's work, which this
//! crate only schedules.
//!
//! Not here yet: TLS (the server stays on loopback unless told otherwise).
#![forbid(unsafe_code)]

pub mod args;
pub mod ask;
mod blocks;
pub mod compose;
pub mod config;
mod data;
pub mod data_dir;
mod engines;
pub mod error;
mod forming;
mod founding;
mod grpc;
mod health;
mod http;
mod introduction;
mod jobs;
mod late;
pub mod metrics;
mod offline;
mod opening;
mod places;
mod raft_transport;
mod registration;
pub mod run;
pub mod seal;
mod tasks;
pub mod telemetry;
mod view;

pub use args::Args;
pub use compose::{Addresses, Engine, Server};
pub use config::{CheckedServer, Role, ServerConfig};
pub use error::ServerError;
