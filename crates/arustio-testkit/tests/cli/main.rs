//! The command and the daemon as people meet them: real processes, a real S3 protocol,
//! what is printed and how it ends.

#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do, and clippy excuses only the tests"
)]

mod bad_input;
mod cache;
mod getting_started;
mod house;
mod kills;
mod main_job;
mod nodes;
mod restarts;
