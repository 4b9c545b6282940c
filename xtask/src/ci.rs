//! Every check, the quickest first, each with the one line that repeats it alone.
//!
//! The first failure ends the run: what comes later takes longer and would mostly say the same. The last
//! line says in words whether all is well. A step whose subject does not exist yet says so and passes.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use cargo_metadata::{Metadata, Package, TargetKind};

use crate::programs::{self, Profile};
use crate::setup::{self, BuildEnv};
use crate::shell::{Cmd, find_program, human_time};
use crate::{layers, package, suite, tidy, workspace};

/// What a step does: a command of this program, or commands of others.
enum Work {
    Own(fn() -> Result<()>),
    Commands(Vec<Cmd>),
    Nothing(&'static str),
}

struct Step {
    name: &'static str,
    /// What to type to repeat it, where it is a command of this program.
    own: &'static str,
    work: Work,
}

impl Step {
    fn own(name: &'static str, own: &'static str, work: fn() -> Result<()>) -> Self {
        Self {
            name,
            own,
            work: Work::Own(work),
        }
    }

    fn commands(name: &'static str, commands: Vec<Cmd>) -> Self {
        Self {
            name,
            own: "",
            work: Work::Commands(commands),
        }
    }

    fn nothing(name: &'static str, why: &'static str) -> Self {
        Self {
            name,
            own: "",
            work: Work::Nothing(why),
        }
    }

    fn run(self, env: &BuildEnv) -> Result<()> {
        match self.work {
            Work::Own(work) => {
                println!("$ {}", self.own);
                work()
            }
            Work::Commands(commands) => commands.into_iter().try_for_each(|command| {
                println!("$ {command}");
                suite::build(command, env)
            }),
            Work::Nothing(why) => {
                println!("{why}");
                Ok(())
            }
        }
    }
}

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    let env = setup::ready()?;
    let steps = steps(&workspace::members()?)?;
    let count = steps.len();
    let mut done = Vec::new();
    for (index, step) in steps.into_iter().enumerate() {
        let (name, step_start) = (step.name, Instant::now());
        let skipped = matches!(step.work, Work::Nothing(_));
        println!("\nci {}/{count}: {name}", index + 1);
        let result = step.run(&env);
        let time = human_time(step_start.elapsed());
        if let Err(error) = result {
            println!(
                "\nci: FAILED in step {}/{count}, {name}, after {time}",
                index + 1
            );
            return Err(error).with_context(|| format!("ci step {name}"));
        }
        let outcome = if skipped {
            "skipped".to_owned()
        } else {
            format!("passed in {time}")
        };
        println!("ci {}/{count}: {name} {outcome}", index + 1);
        done.push((name, outcome));
    }
    println!();
    for (name, outcome) in done {
        println!("{name:<10} {outcome}");
    }
    println!(
        "ci: all {count} steps passed in {}",
        human_time(start.elapsed())
    );
    Ok(())
}

fn steps(metadata: &Metadata) -> Result<Vec<Step>> {
    let clippy =
        Cmd::cargo("clippy --workspace --all-targets --all-features --").args(["-D", "warnings"]);
    let docs = Cmd::cargo("doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings");
    Ok(vec![
        Step::commands("format", vec![Cmd::cargo("fmt --all --check")]),
        Step::own("tidy", "cargo xtask tidy", tidy::run),
        Step::own("layers", "cargo xtask layers", layers::run),
        Step::own("package", "cargo xtask package", package::run),
        deny(),
        Step::commands("clippy", vec![clippy]),
        Step::commands("tests", suite::phases().map(|phase| phase.cmd).into()),
        Step::commands("doc tests", vec![suite::doc_tests().cmd]),
        Step::commands("docs", vec![docs]),
        Step::commands("alone", alone(metadata)),
        Step::commands("docs.rs", package::docs(metadata)),
        examples(metadata),
        benches(metadata),
        sim(),
        demo()?,
        e2e(),
    ])
}

/// The bans are in the table of layers as well; this adds licences and sources where the tool is.
fn deny() -> Step {
    match find_program("cargo-deny") {
        Some(_) => Step::commands(
            "deny",
            vec![Cmd::cargo(
                "deny --all-features check bans licenses sources",
            )],
        ),
        None => Step::nothing(
            "deny",
            "cargo-deny is not installed; the bans were checked by `cargo xtask layers`",
        ),
    }
}

/// Every library builds without what only its neighbours switch on.
fn alone(metadata: &Metadata) -> Vec<Cmd> {
    let mut libraries: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| is_library(package))
        .collect();
    libraries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut commands = Vec::new();
    for package in libraries {
        let check = Cmd::cargo("check --package").arg(package.name.as_str());
        commands.push(check.clone());
        if package.features.contains_key("default") {
            commands.push(check.arg("--no-default-features"));
        }
    }
    commands
}

fn is_library(package: &Package) -> bool {
    let beside =
        ["arustio-testkit", "arustio-benches", "arustio-examples"].contains(&package.name.as_str());
    !beside && !workspace::targets(package, TargetKind::Lib).is_empty()
}

/// Built by the tests already, now run: an example that only compiles teaches nothing. Started without
/// cargo, which would compile every crate again for the features that one package alone asks for.
fn examples(metadata: &Metadata) -> Step {
    let Some(package) = workspace::find(metadata, "arustio-examples") else {
        return Step::nothing("examples", "there is no package arustio-examples yet");
    };
    let built = programs::folder(metadata, Profile::Dev);
    let run = |kind: TargetKind, folder: PathBuf| {
        let targets = workspace::targets(package, kind).into_iter();
        targets.map(move |target| Cmd::new(folder.join(&target.name)))
    };
    let examples = run(TargetKind::Example, built.join("examples"));
    let programs: Vec<Cmd> = examples.chain(run(TargetKind::Bin, built)).collect();
    match programs.is_empty() {
        true => Step::nothing(
            "examples",
            "the package arustio-examples has no programs yet",
        ),
        false => {
            let build = [suite::programs()].into_iter();
            Step::commands("examples", build.chain(programs).collect())
        }
    }
}

/// Every benchmark runs once, to show that it still runs; it measures nothing here. All in one command:
/// a package alone has other features, and everything would be compiled again.
fn benches(metadata: &Metadata) -> Step {
    let mut names: Vec<&str> = metadata
        .packages
        .iter()
        .flat_map(|package| workspace::targets(package, TargetKind::Bench))
        .map(|bench| bench.name.as_str())
        .collect();
    names.sort_unstable();
    if names.is_empty() {
        return Step::nothing("benches", "there are no benchmarks yet");
    }
    let command = names
        .into_iter()
        .fold(Cmd::cargo("test --workspace"), |command, name| {
            command.arg("--bench").arg(name)
        });
    Step::commands("benches", vec![command])
}

/// Optimised: a thousand seeds take as long as a few unoptimised ones.
fn sim() -> Step {
    Step::commands("sim", vec![Cmd::cargo("xtask sim --seeds 1000 --seed 1")])
}

/// With what the tests have built: here it has to work, not to be quick.
fn demo() -> Result<Step> {
    Ok(match programs::demo_exists()? {
        true => Step::commands("demo", vec![Cmd::cargo("xtask demo --small --profile dev")]),
        false => Step::nothing(
            "demo",
            "the package arustio-testkit has no program arustio-demo yet",
        ),
    })
}

/// The same, and the small tree: the rows of docs/reliability.md are measured with release builds.
fn e2e() -> Step {
    Step::commands("e2e", vec![Cmd::cargo("xtask e2e --small --profile dev")])
}
