//! Plays seeds of the simulation on several threads and ends with a table; one seed is
//! told line by line. `cargo xtask sim` builds and starts it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program that a person starts"
)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arustio_meta::testing::Mutation;
use arustio_meta::testing::sim::{self, Failure, Report, Setup, Tally};
use parking_lot::Mutex;

const USAGE: &str = "usage: sim [--seeds N] [--seed FIRST] [--peers 3|5] [--steps N] \
                     [--threads N] [--mutation NAME] [--trace]";
/// Failures after which no further seed is started.
const ENOUGH: usize = 10;
/// Between two lines of progress.
const SPEAK_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Asked {
    seeds: u64,
    first: u64,
    threads: u64,
    trace: bool,
    setup: Setup,
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("sim: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match asked.trace {
        true => trace(asked),
        false => play(asked),
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let mut asked = Asked {
        seeds: 100,
        first: 1,
        threads: cores,
        trace: false,
        setup: Setup::default(),
    };
    while let Some(flag) = words.next() {
        if flag == "--trace" {
            asked.trace = true;
            continue;
        }
        let value = words.next().ok_or(format!("{flag} needs a value"))?;
        let number = || {
            let parsed = value.parse::<u64>();
            parsed.map_err(|_| format!("{flag} {value}: not a number"))
        };
        match flag.as_str() {
            "--seeds" => asked.seeds = number()?,
            "--seed" => asked.first = number()?,
            "--threads" => asked.threads = number()?.max(1),
            "--steps" => asked.setup.steps = number()?,
            "--peers" => asked.setup.peers = Some(peers(number()?)?),
            "--mutation" => asked.setup.broken = Some(mutation(&value)?),
            _ => return Err(format!("there is no flag {flag}")),
        }
    }
    Ok(asked)
}

fn peers(count: u64) -> Result<u8, String> {
    match count {
        3 => Ok(3),
        5 => Ok(5),
        _ => Err(format!("--peers {count}: a group has 3 or 5")),
    }
}

fn mutation(name: &str) -> Result<Mutation, String> {
    let known = || Mutation::ALL.map(Mutation::name).join(", ");
    Mutation::from_name(name).ok_or_else(|| format!("--mutation {name}: one of {}", known()))
}

/// One seed, told.
fn trace(asked: Asked) -> ExitCode {
    match sim::tell(asked.first, asked.setup, &mut |line| println!("{line}")) {
        Ok(report) => {
            println!(
                "seed {} found nothing; trace {:016x}",
                report.seed, report.trace
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    reports: Vec<Report>,
    failures: Vec<Failure>,
}

fn play(asked: Asked) -> ExitCode {
    let start = Instant::now();
    let next = AtomicU64::new(asked.first);
    let end = asked.first.saturating_add(asked.seeds);
    let found = Mutex::new(Found::default());
    let spoken = Mutex::new(start);
    std::thread::scope(|scope| {
        for _ in 0..asked.threads {
            scope.spawn(|| {
                while found.lock().failures.len() < ENOUGH {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    one(seed, asked, &found);
                    speak(asked, &found, &spoken);
                }
            });
        }
    });
    let found = found.into_inner();
    table(&found, start.elapsed());
    for failure in &found.failures {
        println!("\n{failure}\nreplay: {}", replay(asked, failure.seed));
    }
    match found.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn one(seed: u64, asked: Asked, found: &Mutex<Found>) {
    let result = sim::run(seed, asked.setup);
    let mut found = found.lock();
    match result {
        Ok(report) => found.reports.push(report),
        Err(failure) => {
            eprintln!("sim: {failure}");
            found.failures.push(*failure);
        }
    }
}

fn speak(asked: Asked, found: &Mutex<Found>, spoken: &Mutex<Instant>) {
    let mut spoken = spoken.lock();
    if spoken.elapsed() >= SPEAK_EVERY {
        *spoken = Instant::now();
        let found = found.lock();
        let (done, failed) = (found.reports.len(), found.failures.len());
        eprintln!("sim: {done} of {} seeds done, {failed} failed", asked.seeds);
    }
}

fn replay(asked: Asked, seed: u64) -> String {
    let mut line = format!("cargo xtask sim --seed {seed} --trace");
    if let Some(peers) = asked.setup.peers {
        line += &format!(" --peers {peers}");
    }
    if asked.setup.steps != Setup::default().steps {
        line += &format!(" --steps {}", asked.setup.steps);
    }
    if let Some(broken) = asked.setup.broken {
        line += &format!(" --mutation {}", broken.name());
    }
    line
}

fn table(found: &Found, time: Duration) {
    let sum = |of: fn(&Report) -> u64| found.reports.iter().map(of).sum::<u64>();
    let least = |of: fn(&Report) -> u64| found.reports.iter().map(of).min().unwrap_or(0);
    let mut faults = Tally::default();
    for report in &found.reports {
        faults.add(&report.faults);
    }
    let row = |name: &str, value: u64| println!("{name:<38} {value:>12}");
    row("seeds", (found.reports.len() + found.failures.len()) as u64);
    row("steps", sum(|report| report.steps));
    row("  in the shortest seed", least(|report| report.steps));
    row("client operations", sum(|report| report.operations));
    row("calls in histories", sum(|report| report.calls));
    row("  in the shortest seed", least(|report| report.calls));
    row("entries decided on", sum(|report| report.entries));
    row(
        "faults from the schedule",
        sum(|report| report.faults.scheduled()),
    );
    row(
        "  in the shortest seed",
        least(|report| report.faults.scheduled()),
    );
    print!("{faults}");
    row("histories checked", sum(|report| report.histories));
    row("  given up undecided", sum(|report| report.undecided));
    row("violations", found.failures.len() as u64);
    let virtual_time = sum(|report| report.virtual_time.as_secs());
    row("seconds there", virtual_time);
    println!("{:<38} {:>12.1}", "seconds here", time.as_secs_f64());
}
