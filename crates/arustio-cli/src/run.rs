//! From the command line to an exit code.
//!
//! One place decides how a command ends: 0, the code of an error's kind, 2 for a
//! line that cannot be understood, 130 for ctrl-C. A first ctrl-C ends the work in
//! order (an upload is aborted, its intent cleared), a second one at once.

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;

use arustio_client::FsError;
use arustio_types::ErrorKind;
use clap::error::ErrorKind as ClapError;
use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command, Global};
use crate::command;
use crate::connect::Connection;
use crate::output::Output;

const INTERRUPTED: u8 = 130;

/// Parses the arguments of this process, runs, reports; returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    telemetry(&cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("cannot start: {error}");
            return report(&FsError::new(ErrorKind::Internal, message), false);
        }
    };
    let verbose = cli.global.verbose;
    let ended = runtime.block_on(run(cli));
    // Reads of a terminal or a pipe cannot be cancelled; nobody waits for them.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => report(&error, verbose),
    }
}

async fn run(cli: Cli) -> Result<u8, FsError> {
    match cli.command {
        Command::Version => {
            println!("arustio {}", env!("CARGO_PKG_VERSION"));
            Ok(0)
        }
        Command::Completions { shell } => {
            let mut tree = Cli::command();
            clap_complete::generate(shell, &mut tree, "arustio", &mut std::io::stdout());
            Ok(0)
        }
        Command::Fs { verb } => {
            let connection = Connection::open(&cli.global).await?;
            let work = command::fs(&connection, &cli.global, verb);
            interruptible(&connection, work).await
        }
        Command::Admin { verb } => tokio::select! {
            ended = Box::pin(command::admin::run(&cli.global, verb)) => ended,
            _ = tokio::signal::ctrl_c() => Ok(INTERRUPTED),
        },
        Command::Bench { no_limit, workload } => {
            let connection = Connection::open(&cli.global).await?;
            let work = command::bench::run(&connection, &cli.global, workload, !no_limit);
            interruptible(&connection, work).await
        }
    }
}

/// Runs `work` until it ends or ctrl-C; either way the connection is closed in order.
async fn interruptible(
    connection: &Connection,
    work: impl Future<Output = Result<u8, FsError>>,
) -> Result<u8, FsError> {
    let ended = {
        // Boxed: the work of a command is a large future.
        let work = Box::pin(work);
        tokio::select! {
            ended = work => Some(ended),
            _ = tokio::signal::ctrl_c() => None,
        }
    };
    let Some(ended) = ended else {
        eprintln!("interrupted, cleaning up (ctrl-C again ends at once)");
        tokio::select! {
            closed = connection.close() => closed?,
            _ = tokio::signal::ctrl_c() => {}
        }
        return Ok(INTERRUPTED);
    };
    let closed = connection.close().await;
    let code = ended?;
    closed.map(|()| code)
}

/// Clap's own text is good; its help goes to stdout and is no error.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ClapError::DisplayHelp | ClapError::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

fn report(error: &FsError, verbose: bool) -> ExitCode {
    if error.message() == Output::CLOSED {
        // Whoever read our output has seen enough, as in `arustio fs cat f | head`.
        return ExitCode::SUCCESS;
    }
    eprintln!("error[{}]: {error}", error.kind());
    if verbose {
        let mut cause = error.source();
        while let Some(inner) = cause {
            eprintln!("  caused by: {inner}");
            cause = inner.source();
        }
    }
    ExitCode::from(error.exit_code())
}

/// Logs go to stderr, and only when somebody asks.
fn telemetry(global: &Global) {
    let default = if global.verbose { "info" } else { "error" };
    let filter = EnvFilter::try_from_env("ARUSTIO_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}
