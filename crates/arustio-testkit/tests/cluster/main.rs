//! Clusters of real daemons, and the command of their operators.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do, and clippy excuses only the tests"
)]

mod house;
mod launcher;
