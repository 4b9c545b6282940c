//! Building and running the tests, and saying meanwhile what a long build is doing.
//!
//! The one long part of a cold build is RocksDB: one build script that compiles several hundred C++
//! files and prints nothing for many minutes. [`build`] runs a cargo command and, beside it, counts the
//! object files that this script has written, so that nobody has to guess whether it hangs.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::setup::{self, BuildEnv};
use crate::shell::{Cmd, find_program, human_time};
use crate::workspace;

/// How many C++ files the pinned version of RocksDB has, for the sake of a percentage.
const ROCKSDB_FILES: usize = 329;
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// Build and run all tests.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Only tests whose name contains this
    filter: Option<String>,
}

impl Test {
    pub(crate) fn run(&self) -> Result<()> {
        let start = Instant::now();
        let env = setup::ready()?;
        for command in phases().into_iter().chain([doc_tests()]) {
            let command = match (&self.filter, command.runs_tests) {
                (Some(filter), true) => command.cmd.arg(filter),
                _ => command.cmd,
            };
            eprintln!("$ {command}");
            build(command, &env)?;
        }
        println!("test: all tests passed in {}", human_time(start.elapsed()));
        Ok(())
    }
}

/// One cargo command of the test run.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) cmd: Cmd,
    runs_tests: bool,
}

/// All but the doc tests. The programs come first, because tests of whole processes start them.
pub(crate) fn phases() -> [Phase; 2] {
    [
        Phase {
            cmd: programs(),
            runs_tests: false,
        },
        Phase {
            cmd: Cmd::cargo("test --workspace --tests").quiet_env(&threads()),
            runs_tests: true,
        },
    ]
}

/// Most tests wait for other threads and processes rather than compute: with one for each core half of
/// the machine is idle.
fn threads() -> BuildEnv {
    const PER_CORE: usize = 3;
    const VAR: &str = "RUST_TEST_THREADS";
    if std::env::var_os(VAR).is_some() {
        return BuildEnv::new();
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.saturating_mul(PER_CORE);
    vec![(VAR.to_owned(), threads.to_string().into())]
}

/// Builds every program, with the features that the tests need: naming the examples makes cargo count
/// the development dependencies, and without them every crate would be compiled twice.
pub(crate) fn programs() -> Cmd {
    Cmd::cargo("build --workspace --bins --examples")
}

pub(crate) fn doc_tests() -> Phase {
    Phase {
        cmd: Cmd::cargo("test --workspace --doc"),
        runs_tests: true,
    }
}

/// Runs a cargo command that may build RocksDB, and reports on that while it does.
pub(crate) fn build(cmd: Cmd, env: &BuildEnv) -> Result<()> {
    let folder = workspace::build_folder(&workspace::members()?);
    let (done, ended) = channel::<()>();
    let watch = thread::Builder::new()
        .name("build-watch".to_owned())
        .spawn(move || Watch::new(folder).until(&ended))
        .context("cannot start a thread")?;
    let result = cmd.quiet_env(env).run();
    drop(done);
    if watch.join().is_err() {
        eprintln!("xtask: the progress display failed; the build did not");
    }
    result
}

/// Looks from time to time how far RocksDB has come.
struct Watch {
    folder: PathBuf,
    start: Instant,
    before: usize,
    seen: usize,
    explained: bool,
}

impl Watch {
    fn new(folder: PathBuf) -> Self {
        let before = rocksdb_objects(&folder);
        Self {
            folder,
            start: Instant::now(),
            before,
            seen: before,
            explained: false,
        }
    }

    fn until(mut self, ended: &Receiver<()>) {
        while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            self.look();
        }
    }

    fn look(&mut self) {
        let now = rocksdb_objects(&self.folder);
        if now > self.seen {
            self.explain();
            let time = human_time(self.start.elapsed());
            let done = now - self.before;
            eprintln!(
                "xtask: RocksDB: {done} of about {ROCKSDB_FILES} C++ files compiled, {time} into this step"
            );
        }
        self.seen = now;
    }

    fn explain(&mut self) {
        if self.explained {
            return;
        }
        self.explained = true;
        let cache = match find_program("ccache") {
            Some(_) => "ccache keeps the result, the next cold build is short",
            None => "with ccache installed the next cold build would be short",
        };
        eprintln!(
            "xtask: RocksDB is C++ and the longest part of a first build: about 17 minutes on two cores; {cache}"
        );
    }
}

/// How many object files RocksDB's build script has written, over all profiles.
///
/// A finished build leaves its files there, so only a growing number means work.
fn rocksdb_objects(folder: &Path) -> usize {
    let scripts = entries(folder).flat_map(|profile| entries(&profile.join("build")));
    scripts
        .filter(|script| {
            script
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("librocksdb-sys-"))
        })
        .map(|script| objects_in(&script.join("out")))
        .sum()
}

fn objects_in(out: &Path) -> usize {
    entries(out)
        .filter(|file| file.extension().is_some_and(|suffix| suffix == "o"))
        .count()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_built_before_the_tests_that_start_them() {
        let shown = phases().map(|phase| phase.cmd.to_string());
        assert_eq!(
            shown,
            [
                "cargo build --workspace --bins --examples",
                "cargo test --workspace --tests"
            ]
        );
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_counts_nothing() {
        assert_eq!(rocksdb_objects(Path::new("no/such/folder")), 0);
    }
}
