//! What cargo and the source files say, in the few types that the rules need.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Metadata, Package};

use super::table::{Names, Table};
use crate::shell::Cmd;
use crate::source::{self, Source};
use crate::workspace;

#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) packages: Vec<Member>,
    /// Every package that is built for this machine, tests included.
    pub(super) built: Names,
    /// For the packages in `only_through`: who names them.
    pub(super) dependents: BTreeMap<String, Names>,
    pub(super) mentions: Vec<Mention>,
}

#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) dependencies: Vec<Dependency>,
    /// Names of everything below it: normal dependencies, every feature on, itself excluded.
    pub(super) tree: Names,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) internal: bool,
    pub(super) normal: bool,
    pub(super) features: Vec<String>,
}

/// A line of code that names an outside package which has its place.
#[derive(Debug, Clone)]
pub(super) struct Mention {
    pub(super) package: String,
    pub(super) outside: String,
    pub(super) path: String,
    pub(super) line: usize,
}

pub(super) fn gather(table: &Table) -> Result<Facts> {
    let resolved = workspace::resolved()?;
    let members = resolved.workspace_packages();
    let packages = members
        .iter()
        .map(|package| member(package, &members))
        .collect::<Result<_>>()?;
    let sources = source::read_all()?;
    Ok(Facts {
        packages,
        built: tree("--workspace --edges normal,build,dev")?,
        dependents: table
            .only_through
            .keys()
            .map(|name| (name.clone(), dependents(&resolved, name)))
            .collect(),
        mentions: table
            .named
            .iter()
            .flat_map(|rule| {
                mentions(
                    &sources,
                    &rule.package,
                    folder(&members, &rule.package),
                    &rule.outside,
                )
            })
            .collect(),
    })
}

fn member(package: &Package, members: &[&Package]) -> Result<Member> {
    let mut tree = tree(&format!(
        "--package {} --edges normal,no-proc-macro",
        package.name
    ))?;
    tree.remove(package.name.as_str());
    let dependencies = package.dependencies.iter().map(|dependency| Dependency {
        name: dependency.name.clone(),
        internal: members
            .iter()
            .any(|member| member.name.as_str() == dependency.name),
        normal: dependency.kind != DependencyKind::Development,
        features: dependency.features.clone(),
    });
    Ok(Member {
        name: package.name.to_string(),
        dependencies: dependencies.collect(),
        tree,
    })
}

/// Names of the packages in a tree of this machine, every feature on.
fn tree(words: &str) -> Result<Names> {
    let command = Cmd::cargo("tree --quiet --all-features --prefix none --format {p}").words(words);
    let lines = command
        .read()
        .context("cargo cannot show a tree of dependencies")?;
    Ok(lines
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

fn dependents(resolved: &Metadata, name: &str) -> Names {
    let nodes = resolved.resolve.iter().flat_map(|resolve| &resolve.nodes);
    let naming = nodes.filter(|node| {
        node.dependencies
            .iter()
            .any(|id| resolved[id].name.as_str() == name)
    });
    naming
        .map(|node| resolved[&node.id].name.to_string())
        .collect()
}

/// The folder of a member, relative to the workspace.
fn folder(members: &[&Package], name: &str) -> Option<String> {
    let package = members
        .iter()
        .find(|package| package.name.as_str() == name)?;
    let root = workspace::root().ok()?;
    let folder = package
        .manifest_path
        .parent()?
        .as_std_path()
        .strip_prefix(root)
        .ok()?;
    Some(format!("{}/", folder.to_str()?))
}

fn mentions(
    sources: &[Source],
    package: &str,
    folder: Option<String>,
    outside: &str,
) -> Vec<Mention> {
    let Some(folder) = folder else {
        return Vec::new();
    };
    let files = sources
        .iter()
        .filter(|source| source.path.starts_with(&folder) && source.is_rust());
    let lines = files.flat_map(|source| source.code_lines().map(move |line| (source, line)));
    let naming = lines.filter(|(_, line)| names(line.text, outside));
    naming
        .map(|(source, line)| Mention {
            package: package.to_owned(),
            outside: outside.to_owned(),
            path: source.path.clone(),
            line: line.number,
        })
        .collect()
}

/// Whether a line starts a path with that package: `raft::Config`, not `crate::raft::Config`.
pub(super) fn names(line: &str, package: &str) -> bool {
    let found = |(at, _): (usize, &str)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + package.len()..];
        let is_start =
            before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':' || c == '"'));
        is_start
            && (after.starts_with("::")
                || (line.trim_start().starts_with("use ") && after.starts_with(';')))
    };
    line.match_indices(package).any(found)
}
