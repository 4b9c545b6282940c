//! What the programs have logged, read after each step.
//!
//! A clean run has no line of WARN or ERROR but those that its steps bring about; which these are
//! is the list [`EXPECTED`], each with its reason.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::stage::STOP;
use super::{backup, faults, files};
use crate::cluster::LocalCluster;

/// Lines that are shown of those that were not expected.
const SHOWN: usize = 10;

/// A line that may be there.
struct Expected {
    /// In these steps; in all of them where none is named.
    steps: &'static [&'static str],
    /// What it says.
    words: &'static str,
}

/// Steps in which servers start or stop while others run.
const RESTARTS: &[&str] = &[
    files::MOUNT_STEP,
    faults::KILL,
    faults::RESTART,
    backup::RESTORE,
    STOP,
];

const EXPECTED: &[Expected] = &[
    // A server that is not there yet, or not there any more, is noticed by the members of its
    // group, each once.
    Expected {
        steps: RESTARTS,
        words: "another metadata server cannot be reached",
    },
    // The same, by block nodes, which tell all metadata servers that they live.
    Expected {
        steps: RESTARTS,
        words: "cannot announce this block node",
    },
    // A leader that stops under load no longer hears what became of the last proposals; whoever
    // made them asks the next leader meanwhile.
    Expected {
        steps: &[faults::RESTART],
        words: "requests had not ended after",
    },
    // Founders wait for each other, and a member that comes back for a leader.
    Expected {
        steps: RESTARTS,
        words: "waiting for",
    },
];

/// How far each log was read.
#[derive(Debug)]
pub(crate) struct Logs {
    commands: PathBuf,
    read: BTreeMap<PathBuf, u64>,
}

impl Logs {
    /// Nothing was read yet.
    pub(crate) fn new(commands: PathBuf) -> Self {
        Self {
            commands,
            read: BTreeMap::new(),
        }
    }

    /// Reads on, and refuses what this step does not explain.
    pub(crate) fn check(&mut self, step: &str, cluster: &LocalCluster) -> Result<()> {
        let logs = cluster.plan().nodes.iter().map(|node| node.log.clone());
        let logs: Vec<PathBuf> = logs.chain([self.commands.clone()]).collect();
        let mut strange = Vec::new();
        for log in logs {
            let name = log
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let text = self.rest(&log)?;
            let lines = text.lines().filter(|line| is_strange(line, step));
            strange.extend(lines.map(|line| format!("{name}: {line}")));
        }
        let first = strange.iter().take(SHOWN).cloned().collect::<Vec<_>>();
        ensure!(
            strange.is_empty(),
            "{} lines in the logs of step {step:?} were not expected:\n{}",
            strange.len(),
            first.join("\n")
        );
        Ok(())
    }

    /// What was added since the last time, whole lines only.
    fn rest(&mut self, log: &Path) -> Result<String> {
        let read = self.read.entry(log.to_owned()).or_default();
        let added = read_from(log, *read).with_context(|| log.display().to_string())?;
        let whole = added.iter().rposition(|byte| *byte == b'\n');
        let whole = &added[..whole.map_or(0, |end| end + 1)];
        *read += whole.len() as u64;
        Ok(String::from_utf8_lossy(whole).into_owned())
    }
}

fn read_from(log: &Path, start: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_strange(line: &str, step: &str) -> bool {
    let level = line.split_whitespace().nth(1);
    let loud = matches!(level, Some("WARN" | "ERROR")) || line.contains("panicked");
    loud && !EXPECTED.iter().any(|expected| expected.covers(line, step))
}

impl Expected {
    fn covers(&self, line: &str, step: &str) -> bool {
        let here = self.steps.is_empty() || self.steps.contains(&step);
        here && line.contains(self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_strange_unless_its_step_explains_it() {
        let line = "2026-01-01T00:00:00Z  WARN link: another metadata server cannot be reached: x";
        assert!(!is_strange(line, faults::KILL));
        assert!(is_strange(line, "copy the tree in"));
        assert!(is_strange(
            "2026-01-01T00:00:00Z ERROR x: broken",
            faults::KILL
        ));
        assert!(!is_strange("2026-01-01T00:00:00Z  INFO x: WARN me", "any"));
        assert!(is_strange(
            "thread 'main' panicked at src/x.rs",
            faults::KILL
        ));
    }

    #[test]
    fn a_line_is_read_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        let mut logs = Logs::new(log.clone());
        std::fs::write(&log, "one\ntw").unwrap();
        assert_eq!(logs.rest(&log).unwrap(), "one\n");
        std::fs::write(&log, "one\ntwo\n").unwrap();
        assert_eq!(logs.rest(&log).unwrap(), "two\n");
    }
}
