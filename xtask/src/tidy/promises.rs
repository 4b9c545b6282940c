//! Every promise has a test that carries its number, and every such test has a promise.
//!
//! A promise is a line of `docs/semantics.md` that starts with `- N1.`; its test has `n1` as a word of
//! its name, as in `n1_a_stat_after_a_create_sees_it`. The tests in files named `semantics_*.rs` exist
//! for promises only, so there the reverse holds as well.

use std::collections::BTreeMap;

use super::Finding;
use crate::source::{Line, Source};

const CONTRACT: &str = "docs/semantics.md";

pub(super) fn matched(sources: &[Source]) -> Vec<Finding> {
    let Some(contract) = sources.iter().find(|source| source.path == CONTRACT) else {
        return Vec::new();
    };
    let promises: BTreeMap<String, usize> = contract
        .lines()
        .filter_map(|line| Some((promise(line.text)?, line.number)))
        .collect();
    let tests: Vec<_> = sources
        .iter()
        .filter(|source| source.is_rust())
        .flat_map(tests)
        .collect();

    let untested = promises.iter().filter(|(number, _)| {
        !tests
            .iter()
            .any(|test| test.words().any(|word| word == *number))
    });
    let mut findings: Vec<_> = untested
        .map(|(number, line)| {
            let message = format!(
                "no test carries the number of promise {}",
                number.to_uppercase()
            );
            Finding::new(contract, *line, message)
        })
        .collect();

    let for_promises = tests
        .iter()
        .filter(|test| test.source.file_name().starts_with("semantics_"));
    let stray = for_promises.filter(|test| !test.words().any(|word| promises.contains_key(word)));
    findings.extend(stray.map(|test| {
        let message = format!(
            "the test {} carries no number of a promise in {CONTRACT}",
            test.name
        );
        Finding::new(test.source, test.line, message)
    }));
    findings
}

/// `- N1. Every ...` gives `n1`.
fn promise(line: &str) -> Option<String> {
    let (number, _) = line
        .strip_prefix("- ")?
        .trim_start_matches("**")
        .split_once('.')?;
    let digits = number.strip_prefix(|c: char| c.is_ascii_uppercase())?;
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    is_number.then(|| number.to_lowercase())
}

struct Test<'a> {
    source: &'a Source,
    line: usize,
    name: &'a str,
}

impl Test<'_> {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.name.split('_')
    }
}

/// The functions below an attribute such as `#[test]` or `#[tokio::test(...)]`.
fn tests(source: &Source) -> Vec<Test<'_>> {
    let mut tests = Vec::new();
    let mut expected = false;
    for Line { number, text } in source.code_lines() {
        let text = text.trim_start();
        expected |= is_test_attribute(text);
        let Some(name) = function_name(text) else {
            continue;
        };
        if expected {
            tests.push(Test {
                source,
                line: number,
                name,
            });
        }
        expected = false;
    }
    tests
}

fn is_test_attribute(text: &str) -> bool {
    let Some(inside) = text.strip_prefix("#[") else {
        return false;
    };
    let path = inside.split(['(', ']']).next().unwrap_or(inside);
    path == "test" || path.ends_with("::test")
}

fn function_name(text: &str) -> Option<&str> {
    let rest = text
        .trim_start_matches("pub ")
        .trim_start_matches("async ")
        .strip_prefix("fn ")?;
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .next()
}
