//! A metadata cluster of real processes, which are killed, stopped, wiped and replaced.

#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do, and clippy excuses only the tests"
)]

mod faults;
mod group;
mod house;
mod launcher;
mod state;
