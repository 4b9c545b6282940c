//! The table of layers against what cargo resolves.
//!
//! `layers.toml` says who may know whom. This module reads the same facts from cargo, in three forms:
//! the dependencies that our manifests name (`cargo metadata`), the resolved tree of each package with
//! every feature on (`cargo tree`, because the workspace-wide resolution mixes the features of all
//! packages), and the lines of code that name an outside package.
//!
//! The rules in [`check`] are pure: facts in, findings out. They never build anything.

mod check;
mod facts;
mod table;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::shell::human_time;

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    let table = table::read()?;
    let facts = facts::gather(&table)?;
    let findings = check::all(&table, &facts);
    for finding in &findings {
        eprintln!("layers: {finding}");
    }
    if !findings.is_empty() {
        bail!(
            "{} against the table in xtask/layers.toml",
            plural(findings.len(), "finding")
        );
    }
    let packages = plural(facts.packages.len(), "package");
    println!(
        "layers: {packages} as the table says ({})",
        human_time(start.elapsed())
    );
    Ok(())
}

pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
