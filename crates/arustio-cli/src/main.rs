//! The command `arustio`.
#![forbid(unsafe_code)]

mod args;
mod command;
mod config;
mod connect;
mod local;
mod output;
mod progress;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::main()
}
