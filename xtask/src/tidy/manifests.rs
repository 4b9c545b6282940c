//! Rules about manifests: versions and lints are decided once, in the workspace.

use toml::Table;

use super::Finding;
use crate::source::Source;

/// What a member takes from `[workspace.package]`.
const INHERITED: [&str; 4] = ["version", "edition", "license", "rust-version"];

/// Members with a table of lints of their own: they print, read the clock and start threads.
const OWN_LINTS: [&str; 5] = [
    "benches/Cargo.toml",
    "crates/arustio-cli/Cargo.toml",
    "crates/arustio-testkit/Cargo.toml",
    "examples/Cargo.toml",
    "xtask/Cargo.toml",
];

/// No member: fuzzers need a compiler that the workspace does not.
const OUTSIDE: &str = "proto/fuzz/Cargo.toml";

pub(super) fn workspace_tables(sources: &[Source]) -> Vec<Finding> {
    let manifests = sources
        .iter()
        .filter(|source| source.path.ends_with("/Cargo.toml") && source.path != OUTSIDE);
    manifests.flat_map(manifest).collect()
}

fn manifest(source: &Source) -> Vec<Finding> {
    let Ok(table) = source.text.parse::<Table>() else {
        return vec![Finding::new(source, 1, "the manifest is not TOML")];
    };
    let package = table.get("package").and_then(|package| package.as_table());
    let missing = INHERITED
        .iter()
        .filter(|key| !package.is_some_and(|package| from_workspace(package.get(**key))));
    let mut findings: Vec<_> = missing
        .map(|key| Finding::new(source, 1, format!("`{key}.workspace = true` is missing")))
        .collect();
    let lints = table.get("lints").and_then(|lints| lints.as_table());
    let shared = lints.is_some_and(|lints| {
        lints
            .get("workspace")
            .is_some_and(|value| value.as_bool() == Some(true))
    });
    let own = lints.is_some() && OWN_LINTS.contains(&source.path.as_str());
    if !(shared || own) {
        findings.push(Finding::new(
            source,
            1,
            "`[lints] workspace = true` is missing",
        ));
    }
    findings
}

fn from_workspace(value: Option<&toml::Value>) -> bool {
    value
        .and_then(|value| value.get("workspace"))
        .is_some_and(|value| value.as_bool() == Some(true))
}
