//! What is published: that each package says what it is, holds only what belongs to it, and that
//! its documents build as docs.rs builds them.
//!
//! Nothing is uploaded and nothing is built here. That the library is of use to somebody outside
//! the workspace is shown by `cargo xtask e2e`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Metadata, Package};

use crate::shell::{Cmd, human_size};
use crate::workspace;

/// What cargo itself puts into every package.
const CARGO: [&str; 5] = [
    ".cargo_vcs_info.json",
    "Cargo.lock",
    "Cargo.toml",
    "Cargo.toml.orig",
    "LICENSE",
];
/// Beside that: sources, tests with their data, and protocol files.
const FOLDERS: [&str; 6] = [
    "benches/",
    "examples/",
    "proto/",
    "src/",
    "testdata/",
    "tests/",
];
const FILES: [&str; 2] = ["README.md", "build.rs"];
const SUFFIXES: [&str; 5] = ["md", "proptest-regressions", "proto", "rs", "txt"];
/// Samples of formats have the names of their formats.
const SAMPLES: &str = "testdata/";
/// Of one file. Larger ones are data that somebody has forgotten.
const LARGEST: u64 = 256 << 10;
/// What crates.io takes.
const MOST_KEYWORDS: usize = 5;

/// Checks every package that is published.
pub(crate) fn run() -> Result<()> {
    let metadata = workspace::members()?;
    let mut findings = Vec::new();
    let mut count = 0;
    for package in published(&metadata) {
        count += 1;
        let name = package.name.as_str();
        let said = manifest(package).into_iter().chain(contents(package)?);
        findings.extend(said.map(|finding| format!("{name}: {finding}")));
    }
    for finding in &findings {
        eprintln!("package: {finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings in what would be published", findings.len());
    }
    println!("package: {count} packages in order");
    Ok(())
}

/// The documents of each published package, with the features that it names for docs.rs.
pub(crate) fn docs(metadata: &Metadata) -> Vec<Cmd> {
    let docs = published(metadata).map(|package| {
        let doc = Cmd::cargo("doc --no-deps --package").arg(package.name.as_str());
        let doc = doc.args(docs_features(package));
        doc.env("RUSTDOCFLAGS", "-D warnings --cfg docsrs")
    });
    docs.collect()
}

fn published(metadata: &Metadata) -> impl Iterator<Item = &Package> {
    let packages = metadata.packages.iter();
    packages.filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()))
}

fn docs_features(package: &Package) -> Vec<String> {
    let docs = &package.metadata["docs"]["rs"];
    let flag = |key: &str| docs[key].as_bool() == Some(true);
    let flags = ["all-features", "no-default-features"].into_iter();
    let mut words: Vec<String> = flags
        .filter(|key| flag(key))
        .map(|key| format!("--{key}"))
        .collect();
    let features = docs["features"].as_array().into_iter().flatten();
    let features: Vec<&str> = features.filter_map(|feature| feature.as_str()).collect();
    if !features.is_empty() {
        words.extend(["--features".to_owned(), features.join(",")]);
    }
    words
}

/// What a stranger has to be told.
fn manifest(package: &Package) -> Vec<String> {
    let keywords = package.keywords.len();
    let checks = [
        (package.description.is_some(), "it has no description"),
        (package.license.is_some(), "it has no licence"),
        (package.rust_version.is_some(), "it has no rust-version"),
        (!package.categories.is_empty(), "it has no categories"),
        (
            (1..=MOST_KEYWORDS).contains(&keywords),
            "it needs 1 to 5 keywords",
        ),
        (
            package.documentation.as_deref() == Some(&format!("https://docs.rs/{}", package.name)),
            "its documentation is not at docs.rs/NAME",
        ),
        // The project has no address of its own: links would name the machine of whoever hosts it.
        (
            package.repository.is_none() && package.homepage.is_none(),
            "it names a repository or a home page, which may move",
        ),
        (
            !package.metadata["docs"]["rs"].is_null(),
            "it says nothing about its features in [package.metadata.docs.rs]",
        ),
    ];
    let failed = checks.into_iter().filter(|(fine, _)| !fine);
    failed.map(|(_, said)| said.to_owned()).collect()
}

/// What `cargo package` would pack.
fn contents(package: &Package) -> Result<Vec<String>> {
    let list = Cmd::cargo("package --list --allow-dirty --quiet --package");
    let list = list.arg(package.name.as_str()).read()?;
    let folder = package
        .manifest_path
        .parent()
        .context("a manifest in a folder")?;
    let mut findings: Vec<String> = list
        .lines()
        .filter_map(|file| strange(file, folder.as_std_path()))
        .collect();
    for needed in ["LICENSE", "Cargo.toml"] {
        if !list.lines().any(|file| file == needed) {
            findings.push(format!("{needed} is not packed"));
        }
    }
    Ok(findings)
}

/// What is wrong with a file, if anything is.
fn strange(file: &str, folder: &Path) -> Option<String> {
    if CARGO.contains(&file) {
        return None;
    }
    if !belongs(file) {
        return Some(format!("{file} does not belong into it"));
    }
    let size = std::fs::metadata(folder.join(file)).map_or(0, |found| found.len());
    (size > LARGEST).then(|| format!("{file} has {}", human_size(size)))
}

fn belongs(file: &str) -> bool {
    let suffix = Path::new(file)
        .extension()
        .and_then(|suffix| suffix.to_str());
    let known = suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix));
    let known = known || file.starts_with(SAMPLES);
    let hidden = file.split('/').any(|part| part.starts_with('.'));
    let placed = FOLDERS.iter().any(|folder| file.starts_with(folder)) || FILES.contains(&file);
    known && placed && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_belong_into_a_package_and_leftovers_do_not() {
        for file in ["src/lib.rs", "tests/x/y.rs", "testdata/a.hex", "build.rs"] {
            assert!(belongs(file), "{file}");
        }
        for file in [
            "notes.txt",
            "src/.swp.rs",
            "src/core",
            "target/x.rs",
            "src/a.orig",
        ] {
            assert!(!belongs(file), "{file}");
        }
    }

    #[test]
    fn every_published_package_has_its_documents_built_with_its_features() {
        let metadata = workspace::members().expect("cargo reads the workspace");
        let shown: Vec<String> = docs(&metadata).iter().map(Cmd::to_string).collect();
        let client = shown.iter().find(|line| line.contains(" arustio-client "));
        assert!(
            client.is_some_and(|line| line.ends_with("--all-features")),
            "{shown:?}"
        );
        assert!(
            !shown.iter().any(|line| line.contains("arustio-testkit")),
            "{shown:?}"
        );
    }
}
