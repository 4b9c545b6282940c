//! Rules about files that neither the compiler nor clippy knows.
//!
//! Each rule is a pure function from the text of files to findings, so that its tests need no files.
//! What a rule is for stands in `docs/style.md`; here stands how it is recognised. A rule has no list of
//! exceptions: a file that cannot follow it is a reason to change the rule.

mod files;
mod manifests;
mod promises;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::layers::plural;
use crate::shell::human_time;
use crate::source::{self, Source};

/// Something to mend, at a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(source: &Source, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: source.path.clone(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

type Rule = fn(&[Source]) -> Vec<Finding>;

const RULES: [Rule; 9] = [
    files::headers,
    files::budgets,
    files::open_ends,
    files::contracts,
    files::machine_paths,
    files::unsafe_forbidden,
    files::nouns_stay_small,
    manifests::workspace_tables,
    promises::matched,
];

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    let sources = source::read_all()?;
    let mut findings: Vec<_> = RULES.iter().flat_map(|rule| rule(&sources)).collect();
    findings.sort();
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if !findings.is_empty() {
        bail!(
            "{}; docs/style.md says what the rules are for",
            plural(findings.len(), "finding")
        );
    }
    println!(
        "tidy: {} in order ({})",
        plural(sources.len(), "file"),
        human_time(start.elapsed())
    );
    Ok(())
}
