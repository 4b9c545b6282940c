//! What a row measures: the command against servers whose time on the CPU is known.

use anyhow::{Context, Result};
use arustio_testkit::processes::Cli;
use serde_json::Value;

/// A running service and the command that talks to it.
#[derive(Debug)]
pub(crate) struct Service<'a> {
    pub(crate) cli: &'a Cli,
    /// Its servers, by process id.
    pub(crate) processes: Vec<u32>,
    /// How many of them hold the namespace.
    pub(crate) servers: usize,
}

impl Service<'_> {
    /// Runs one command with `--json` and returns its result.
    pub(crate) async fn measure(&self, arguments: &[&str]) -> Result<Value> {
        // A limit is measured by the row, in processes of its own and at another time.
        let bench = arguments.first() == Some(&"bench");
        let more: &[&str] = if bench { &["--no-limit"] } else { &[] };
        let summary = self.cli.run(&[arguments, more].concat()).await?;
        summary.with_context(|| format!("arustio {} printed nothing", arguments.join(" ")))
    }

    /// CPU seconds that the servers and all ended commands have used so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = cpu_ticks("self", 15..17)?;
        for id in &self.processes {
            ticks += cpu_ticks(&id.to_string(), 13..15)?;
        }
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }
}

/// Sum of these fields of a process's `stat`, counted from 0: 13 and 14 are its own time in
/// user and kernel mode, 15 and 16 that of its ended children.
fn cpu_ticks(process: &str, fields: std::ops::Range<usize>) -> Result<u64> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name of the program stands in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(") ").context("an unknown format")?;
    let after_name = 2;
    let values = rest.split(' ').skip(fields.start - after_name);
    let ticks = values.take(fields.len()).map(str::parse::<u64>);
    ticks.sum::<Result<u64, _>>().context("an unknown format")
}
