//! Several metadata servers in this process, on loopback: how they form a cluster, what
//! they survive, and how members come and go.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod forming;
mod group;
mod house;
mod members;
mod state;
