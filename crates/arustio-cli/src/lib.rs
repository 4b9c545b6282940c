//! The command `arustio`, as a library: parse, call the client, print.
//!
//! The binary is one line over [`main`], so that the tests run the same command in
//! processes of their own. Nothing here knows how the cluster works: every verb is a
//! function over the `FileSystem` trait of `arustio-client`.
#![forbid(unsafe_code)]

pub mod args;
mod command;
mod config;
mod connect;
pub mod limit;
mod local;
mod output;
mod process;
mod progress;
mod run;

pub use run::main;
