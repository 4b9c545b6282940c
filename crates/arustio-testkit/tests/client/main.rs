//! The promises of the client, against a server and an object store in this process.
//!
//! What a process does as a whole is tested by `cli`; here several clients meet on one
//! namespace, die at chosen requests, and are cut off from the metadata service.

#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do, and clippy excuses only the tests"
)]

mod errors;
mod herd;
mod house;
mod listing;
mod load;
mod mounts;
mod names;
mod nodes;
mod owed;
mod reads;
mod stores;
mod takeover;
mod unanswered;
mod writes;
