//! The programs that show and measure the whole system: built here, then started in our place.
//!
//! What they do is theirs: `arustio-demo`, `arustio-cluster` and `arustio-containers` belong to `arustio-testkit`, `arustio-bench-rows` to
//! `arustio-benches`. They learn where the binaries are by `--bin-dir` and get the flags unchanged.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cargo_metadata::TargetKind;
use clap::{Args, ValueEnum};

use crate::setup;
use crate::shell::Cmd;
use crate::{suite, workspace};

/// What is built together for people: the features of a shared dependency follow from who asks for it, and another
/// choice of packages would compile half of them again. For developers everything is, since the tests need it.
pub(crate) const SYSTEM: [&str; 3] = ["arustio-server", "arustio-cli", "arustio-testkit"];

const DEMO: (&str, &str) = ("arustio-testkit", "arustio-demo");
const CLUSTER: (&str, &str) = ("arustio-testkit", "arustio-cluster");
const CONTAINERS: (&str, &str) = ("arustio-testkit", "arustio-containers");
const BENCH: (&str, &str) = ("arustio-benches", "arustio-bench-rows");

/// Build both servers and the command, and show the main job on real data.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Less data, for a quick look
    #[arg(long)]
    small: bool,
    /// The S3 server: the one of this repository, or MinIO
    #[arg(long, value_enum)]
    s3: Option<S3>,
    /// Leave everything running, and say how to talk to it
    #[arg(long)]
    keep: bool,
    /// How to compile: `dev` reuses what the tests have built
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum S3 {
    #[value(alias = "testkit")]
    Builtin,
    Minio,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    Release,
    Dev,
}

impl S3 {
    /// As the programs know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Minio => "minio",
        }
    }
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }
}

impl Demo {
    pub(crate) fn run(&self) -> Result<()> {
        start(DEMO, self.profile, &SYSTEM, self.flags())
    }

    fn flags(&self) -> Vec<OsString> {
        let mut flags = Vec::new();
        if self.small {
            flags.push("--small".into());
        }
        if let Some(s3) = self.s3 {
            flags.extend(["--s3".into(), s3.name().into()]);
        }
        if self.keep {
            flags.push("--keep".into());
        }
        flags
    }
}

/// Start, stop and hurt a cluster of real daemons.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Cluster {
    /// How to compile: `dev` reuses what the tests have built
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
    /// The verb and its flags; see them with: cargo xtask cluster help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

impl Cluster {
    pub(crate) fn run(&self) -> Result<()> {
        let words = match self.words.is_empty() {
            true => vec!["help".into()],
            false => self.words.clone(),
        };
        // Ending something must not wait for a compiler.
        let starts = words[0] == "up" || words[0] == "start";
        if !starts && let Some(folder) = built(CLUSTER, self.profile)? {
            return become_program(CLUSTER, &folder, words);
        }
        start(CLUSTER, self.profile, &SYSTEM, words)
    }
}

/// Run the compose files of deploy/ with a real Docker daemon; exit code 77 where it cannot run.
#[derive(Debug, Args)]
pub(crate) struct Containers {
    /// Only make the image arustio/arustio:local, with the daemon that runs
    #[arg(long)]
    image: bool,
    /// Compile the source in a container too, which takes long, and say how long it took
    #[arg(long)]
    source: bool,
    /// How to compile: `dev` reuses what the tests have built
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

impl Containers {
    pub(crate) fn run(&self) -> Result<()> {
        let metadata = workspace::members()?;
        let deploy = metadata.workspace_root.join("deploy");
        let mut flags: Vec<OsString> = vec!["--deploy".into(), deploy.into()];
        let given = [("--image", self.image), ("--source", self.source)];
        let given = given.iter().filter(|(_, given)| *given);
        flags.extend(given.map(|(name, _)| OsString::from(name)));
        start(CONTAINERS, self.profile, &SYSTEM, flags)
    }
}

/// Measure a row of docs/performance.md beside its limit.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The number of the row, or `memory`; without it, all of them
    #[arg(long)]
    row: Option<String>,
    /// One JSON object a line on stdout, and nothing else
    #[arg(long)]
    json: bool,
    /// Rounds of ours and the limit in turn
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of one measurement of rows 8 and 9
    #[arg(long)]
    seconds: Option<f64>,
    /// How many times as large rows 10 to 12 are
    #[arg(long)]
    scale: Option<u64>,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        let packages = [
            "arustio-server",
            "arustio-cli",
            "arustio-testkit",
            "arustio-benches",
        ];
        start(BENCH, Profile::Release, &packages, self.flags())
    }

    fn flags(&self) -> Vec<OsString> {
        let mut flags = Vec::new();
        if let Some(row) = &self.row {
            flags.extend(["--row".into(), row.into()]);
        }
        if self.json {
            flags.push("--json".into());
        }
        let numbers = [
            ("--rounds", self.rounds.map(|number| number.to_string())),
            ("--seconds", self.seconds.map(|number| number.to_string())),
            ("--scale", self.scale.map(|number| number.to_string())),
        ];
        for (flag, value) in numbers {
            flags.extend(
                value
                    .into_iter()
                    .flat_map(|value| [flag.into(), value.into()]),
            );
        }
        flags
    }
}

/// Play groups of metadata servers from seeds, and judge every step.
#[derive(Debug, Args)]
pub(crate) struct Sim {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Members that found the group, 3 or 5; otherwise the seed decides
    #[arg(long)]
    peers: Option<u8>,
    /// Steps of a seed, at least
    #[arg(long)]
    steps: Option<u64>,
    /// Threads; otherwise one for each core
    #[arg(long)]
    threads: Option<u64>,
    /// A rule to break, by name, to see who notices
    #[arg(long)]
    mutation: Option<String>,
    /// Tell the first seed line by line
    #[arg(long)]
    trace: bool,
}

impl Sim {
    pub(crate) fn run(&self) -> Result<()> {
        let build = Cmd::cargo("build --release -p arustio-meta --no-default-features")
            .words("--features testing --example sim");
        eprintln!("$ {build}");
        build.run()?;
        let metadata = workspace::members()?;
        let folder = metadata.target_directory.as_std_path().join("release");
        let run = Cmd::new(folder.join("examples").join("sim")).args(self.flags());
        eprintln!("$ {run}");
        run.exec()
    }

    fn flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        let mut flag = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                flags.extend([name.into(), value.into()]);
            }
        };
        flag("--seeds", Some(self.seeds.to_string()));
        flag("--seed", Some(self.seed.to_string()));
        flag("--peers", self.peers.map(|peers| peers.to_string()));
        flag("--steps", self.steps.map(|steps| steps.to_string()));
        flag("--threads", self.threads.map(|threads| threads.to_string()));
        flag("--mutation", self.mutation.clone());
        if self.trace {
            flags.push("--trace".into());
        }
        flags
    }
}

/// Whether the demo can be run at the present state of the tree.
pub(crate) fn demo_exists() -> Result<bool> {
    let metadata = workspace::members()?;
    Ok(has_program(&metadata, DEMO))
}

fn has_program(metadata: &cargo_metadata::Metadata, (package, program): (&str, &str)) -> bool {
    workspace::find(metadata, package).is_some_and(|package| {
        workspace::targets(package, TargetKind::Bin)
            .iter()
            .any(|bin| bin.name == program)
    })
}

pub(crate) fn start(
    program: (&str, &str),
    profile: Profile,
    packages: &[&str],
    flags: Vec<OsString>,
) -> Result<()> {
    let env = setup::ready()?;
    let metadata = workspace::members()?;
    if !has_program(&metadata, program) {
        bail!("the package {} has no program {} yet", program.0, program.1);
    }
    let build = match profile {
        Profile::Dev => suite::programs(),
        Profile::Release => release_of(packages),
    };
    eprintln!("$ {build}");
    suite::build(build, &env)?;

    become_program(program, &folder(&metadata, profile), flags)
}

pub(crate) fn release_of(packages: &[&str]) -> Cmd {
    let build = Cmd::cargo("build --release --bins");
    let add = |build: Cmd, package: &&str| build.arg("-p").arg(package);
    packages.iter().fold(build, add)
}

/// Where the programs of a profile are once they are built.
pub(crate) fn folder(metadata: &cargo_metadata::Metadata, profile: Profile) -> PathBuf {
    let target = metadata.target_directory.as_std_path();
    target.join(profile.folder())
}

/// The folder of a program that was built before.
fn built(program: (&str, &str), profile: Profile) -> Result<Option<PathBuf>> {
    let folder = folder(&workspace::members()?, profile);
    Ok(folder.join(program.1).is_file().then_some(folder))
}

fn become_program(program: (&str, &str), folder: &Path, flags: Vec<OsString>) -> Result<()> {
    let run = Cmd::new(folder.join(program.1))
        .arg("--bin-dir")
        .arg(folder)
        .args(flags);
    eprintln!("$ {run}");
    run.exec()
}
