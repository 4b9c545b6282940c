//! Rules that look at one file at a time.

use super::Finding;
use crate::source::{Line, Source};

/// Code lines of one file. Half of it is comfortable.
const FILE_BUDGET: usize = 800;
/// Code lines of arustio-types, which every other package compiles and everybody has to know.
const NOUNS_BUDGET: usize = 3000;

/// The libraries, whose traits are seams. The other packages compose.
const LIBRARIES: [&str; 7] = [
    "crates/arustio-types/",
    "proto/",
    "crates/arustio-ufs/",
    "crates/arustio-meta/",
    "crates/arustio-block/",
    "crates/arustio-client/",
    "crates/arustio-fuse/",
];

/// Packages that map memory in one module, which cannot forbid `unsafe`, only deny it.
const MAY_MAP_MEMORY: [&str; 2] = ["crates/arustio-block/", "crates/arustio-client/"];

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources
        .iter()
        .filter(|source| source.is_rust() && !source.is_generated())
}

/// Every Rust file opens with a header that says something.
pub(super) fn headers(sources: &[Source]) -> Vec<Finding> {
    let silent = rust(sources).filter(|source| !has_header(source));
    silent
        .map(|source| {
            Finding::new(
                source,
                1,
                "the file has no `//!` header that says what it is",
            )
        })
        .collect()
}

fn has_header(source: &Source) -> bool {
    let mut lines = source.lines().map(|line| line.text.trim());
    let before = |text: &&str| {
        text.is_empty() || *text == "//!" || is_plain_comment(text) || text.starts_with("#!")
    };
    lines
        .find(|text| !before(text))
        .is_some_and(|text| text.starts_with("//!"))
}

fn is_plain_comment(text: &str) -> bool {
    text.starts_with("//") && !text.starts_with("///") && !text.starts_with("//!")
}

/// No file is too long to be read in one sitting. Tests in a file of their own may be.
pub(super) fn budgets(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in rust(sources).filter(|source| source.file_name() != "tests.rs") {
        let lines = source.code_lines().count();
        if lines > FILE_BUDGET {
            findings.push(Finding::new(
                source,
                1,
                format!("{lines} code lines; the budget is {FILE_BUDGET}"),
            ));
        }
    }
    findings
}

/// Open ends name an issue, or nobody will ever look for them.
pub(super) fn open_ends(sources: &[Source]) -> Vec<Finding> {
    const MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut findings = Vec::new();
    for source in sources
        .iter()
        .filter(|source| !source.path.ends_with(".md"))
    {
        let open = source
            .lines()
            .filter(|line| MARKS.iter().any(|mark| has_word(line.text, mark)));
        let unnamed = open.filter(|line| !names_an_issue(line.text));
        findings.extend(unnamed.map(|line| {
            Finding::new(
                source,
                line.number,
                "an open end without the issue, as in (#12)",
            )
        }));
    }
    findings
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|found| found == word)
}

fn names_an_issue(text: &str) -> bool {
    text.split('#')
        .skip(1)
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// A public trait of a library is a seam, and says what it promises.
pub(super) fn contracts(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in rust(sources).filter(|source| {
        LIBRARIES
            .iter()
            .any(|library| source.path.starts_with(library))
    }) {
        let lines: Vec<_> = source.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(name) = trait_name(line.text) else {
                continue;
            };
            if !documentation(&lines[..index]).any(|text| text == "/// # Contract") {
                let message = format!("the trait {name} has no `# Contract` section");
                findings.push(Finding::new(source, line.number, message));
            }
        }
    }
    findings
}

fn trait_name(text: &str) -> Option<&str> {
    let rest = text.trim_start().strip_prefix("pub trait ")?;
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .next()
}

/// The doc comment above an item, attributes skipped, from the bottom up.
fn documentation<'a>(above: &'a [Line<'a>]) -> impl Iterator<Item = &'a str> {
    let texts = above.iter().rev().map(|line| line.text.trim());
    texts
        .take_while(|text| !(text.is_empty() || text.ends_with('}') || text.ends_with(';')))
        .filter(|text| text.starts_with("///"))
}

/// Nothing knows the machine that it was written on.
pub(super) fn machine_paths(sources: &[Source]) -> Vec<Finding> {
    const HOMES: [&str; 3] = [
        concat!("/ro", "ot"),
        concat!("/ho", "me"),
        concat!("/wo", "rk"),
    ];
    let mut findings = Vec::new();
    for source in sources {
        for line in source.lines() {
            if let Some(home) = HOMES.iter().find(|home| names_folder(line.text, home)) {
                let message = format!("the path {home} belongs to one machine");
                findings.push(Finding::new(source, line.number, message));
            }
        }
    }
    findings
}

/// Whether an absolute path in that line begins with the folder.
fn names_folder(text: &str, folder: &str) -> bool {
    text.match_indices(folder).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + folder.len()..].chars().next();
        let starts = before.is_none_or(|c| c.is_whitespace() || "\"'`(=:<[,".contains(c));
        starts && !after.is_some_and(|c| c.is_alphanumeric() || "-_.".contains(c))
    })
}

/// Every library and program forbids `unsafe`, or denies it where one module maps memory.
pub(super) fn unsafe_forbidden(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in rust(sources).filter(|source| is_crate_root(&source.path)) {
        let forbids = source.text.contains("#![forbid(unsafe_code)]");
        let denies = source.text.contains("#![deny(unsafe_code)]");
        let may_deny = MAY_MAP_MEMORY
            .iter()
            .any(|folder| source.path.starts_with(folder));
        if !(forbids || denies && may_deny) {
            findings.push(Finding::new(
                source,
                1,
                "the crate does not say `#![forbid(unsafe_code)]`",
            ));
        }
    }
    findings
}

fn is_crate_root(path: &str) -> bool {
    path.starts_with("crates/") && (path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs"))
        || path == "proto/src/lib.rs"
}

/// The package that everybody depends on stays small.
pub(super) fn nouns_stay_small(sources: &[Source]) -> Vec<Finding> {
    let own = |source: &&Source| {
        source.path.starts_with("crates/arustio-types/src/") && source.file_name() != "tests.rs"
    };
    let lines: usize = rust(sources)
        .filter(own)
        .map(|source| source.code_lines().count())
        .sum();
    let root = sources
        .iter()
        .find(|source| source.path == "crates/arustio-types/src/lib.rs");
    let too_many = root.filter(|_| lines > NOUNS_BUDGET);
    let message = format!("arustio-types has {lines} code lines; the budget is {NOUNS_BUDGET}");
    too_many
        .map(|root| Finding::new(root, 1, message))
        .into_iter()
        .collect()
}
