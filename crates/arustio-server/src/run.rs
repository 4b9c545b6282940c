//! The program: read settings, start, say where, wait for the end.
//!
//! Results of the program (`--print-config`, the `ready:` line) go to stdout, everything
//! else to stderr. The first signal stops the server in order, a second one at once. A
//! metadata node that can no longer keep its promises ends the process with code 1.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;

use arustio_types::Classify as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Args, Command};
use crate::compose::{Engine, Server};
use crate::config::{self, CheckedServer};
use crate::data_dir::make_key;
use crate::error::ServerError;
use crate::{health, offline, telemetry};

/// Exit code after a second signal.
const INTERRUPTED: u8 = 130;

/// Runs the program to its end.
pub fn main(args: &Args) -> ExitCode {
    match start(args) {
        Ok(code) => code,
        Err(error) => {
            let kind = error.kind();
            // Nobody is left to be told when stderr is gone.
            let _ = writeln!(io::stderr(), "error[{kind}]: {error}");
            ExitCode::from(kind.exit_code())
        }
    }
}

fn start(args: &Args) -> Result<ExitCode, ServerError> {
    if let Some(path) = &args.make_key {
        make_key(path)?;
        say(&format!(
            "made the cluster key {}; copy it to every metadata server, and let nobody else read it\n",
            path.display()
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let env = environment();
    let loaded = config::load(args, &env)?;
    if args.print_config {
        say(&config::print(&loaded)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Command::Health { ready }) = &args.command {
        return health::run(loaded.config.health_address()?, *ready);
    }
    telemetry::install(&loaded.config.log, env.get("ARUSTIO_LOG"))?;
    let checked = loaded.config.validate()?;
    if let Some(Command::Metadata { verb }) = &args.command {
        return offline::run(verb, &checked.data_dir);
    }
    raise_descriptors();
    let runtime = Runtime::new().map_err(|error| ServerError::Start {
        action: "start the threads of the runtime",
        reason: error.to_string(),
    })?;
    let code = runtime.block_on(serve(checked));
    // What still runs is either done or may be repeated; waiting for it is over.
    runtime.shutdown_background();
    code
}

/// Takes as many descriptors as the process may have: a block in memory is one.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::info!("the limit of descriptors stays as it is: {error}");
    }
}

async fn serve(checked: CheckedServer) -> Result<ExitCode, ServerError> {
    let mut signals = Signals::new()?;
    let mut server = tokio::select! {
        server = Server::open(checked, Engine::default()) => server?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    // A server that waits for others can be stopped meanwhile.
    let result = tokio::select! {
        result = live(&mut server) => result,
        () = signals.next() => Ok(ExitCode::SUCCESS),
    };
    tracing::info!("stopping");
    tokio::select! {
        () = server.stop() => {
            tracing::info!("stopped");
            result
        }
        () = signals.next() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// From the start to a failure.
async fn live(server: &mut Server) -> Result<ExitCode, ServerError> {
    server.ready().await?;
    say(&format!("{}\n", server.ready_line()))?;
    let error = server.failed().await;
    tracing::error!("{error}; this server ends, since it can no longer keep its promises");
    Ok(ExitCode::from(1))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServerError> {
        let listen = |kind| {
            signal(kind).map_err(|error| ServerError::Start {
                action: "listen for signals",
                reason: error.to_string(),
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn environment() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

pub(crate) fn say(text: &str) -> Result<(), ServerError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| ServerError::Start {
        action: "write to stdout",
        reason: error.to_string(),
    })
}
