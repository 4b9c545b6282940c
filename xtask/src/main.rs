//! `cargo xtask`: starts programs and checks the tree.
//!
//! What one command of cargo cannot do lives here: finding the tools that a build needs, saying what a
//! long build is doing, running the checks of the continuous integration in order, and comparing the
//! tree with the rules of `docs/style.md` and the table in `layers.toml`.
//!
//! Not here: anything that needs a network protocol. Such programs belong to `arustio-testkit` and
//! `arustio-benches`; this one builds and starts them, so that it stays small enough to compile in
//! seconds. It depends on no other package of the workspace, and therefore works while they do not.

mod ci;
mod e2e;
mod install;
mod layers;
mod package;
mod programs;
mod setup;
mod shell;
mod source;
mod suite;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::shell::Exit;

/// Everything about this workspace that one cargo command cannot do.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find the tools that a build needs, and install or name what is missing
    Setup,
    /// Build both servers and the command, and show the main job on real data
    Demo(programs::Demo),
    /// Play the whole system from end to end: real processes, real files, every byte compared
    E2e(e2e::E2e),
    /// Start, stop and hurt a cluster of real daemons: up, down, kill, start, status
    Cluster(programs::Cluster),
    /// Run the compose files of deploy/ with a real Docker daemon, and look at what a person sees
    Containers(programs::Containers),
    /// Build and run all tests
    Test(suite::Test),
    /// Put `arustio` and `arustio-server` on the PATH
    Install(install::Install),
    /// Remove what `install` put there
    Uninstall(install::Uninstall),
    /// Measure a row of docs/performance.md beside its limit
    Bench(programs::Bench),
    /// Play groups of metadata servers from seeds, and judge every step
    Sim(programs::Sim),
    /// Run every check, the quickest first, as continuous integration does
    Ci,
    /// Check headers, file sizes, contracts, promises and paths
    Tidy,
    /// Check what would be published: metadata, and what each package holds
    Package,
    /// Compare the dependencies with the table in xtask/layers.toml
    Layers,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            error
                .downcast_ref::<Exit>()
                .map_or(ExitCode::FAILURE, |exit| exit.code())
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup => setup::command(),
        Command::Demo(demo) => demo.run(),
        Command::E2e(e2e) => e2e.run(),
        Command::Cluster(cluster) => cluster.run(),
        Command::Containers(containers) => containers.run(),
        Command::Test(test) => test.run(),
        Command::Install(install) => install.run(),
        Command::Uninstall(uninstall) => uninstall.run(),
        Command::Bench(bench) => bench.run(),
        Command::Sim(sim) => sim.run(),
        Command::Ci => ci::run(),
        Command::Tidy => tidy::run(),
        Command::Package => package::run(),
        Command::Layers => layers::run(),
    }
}
