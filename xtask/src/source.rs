//! The text files of the tree, read once, and what a rule wants to know about a line.
//!
//! This is no parser of Rust. It knows comments that begin a line, which is all that our style allows,
//! and leaves the rest to the compiler and clippy.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::workspace;

/// The folders that hold our own text.
const FOLDERS: [&str; 9] = [
    "crates", "proto", "benches", "examples", "xtask", "docs", "deploy", ".ci", ".cargo",
];
const SUFFIXES: [&str; 8] = ["rs", "toml", "proto", "md", "sh", "yml", "yaml", "txt"];

/// One text file, named relative to the workspace and with slashes.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A line with its number, counted from one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Marked by its generator in the first line.
    pub(crate) fn is_generated(&self) -> bool {
        self.text
            .lines()
            .next()
            .is_some_and(|line| line.contains(concat!("@", "generated")))
    }

    /// The name of the file without folders.
    pub(crate) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub(crate) fn lines(&self) -> impl DoubleEndedIterator<Item = Line<'_>> {
        let lines: Vec<_> = self.text.lines().enumerate().collect();
        lines.into_iter().map(|(index, text)| Line {
            number: index + 1,
            text,
        })
    }

    /// Lines that are neither blank nor comment.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut in_block = false;
        self.lines().filter(move |line| {
            let text = line.text.trim();
            let comment = in_block || text.starts_with("//") || text.starts_with("/*");
            in_block = (in_block || text.starts_with("/*")) && !text.contains("*/");
            !comment && !text.is_empty()
        })
    }
}

/// Reads every text file of ours; what git ignores does not lie in these folders.
pub(crate) fn read_all() -> Result<Vec<Source>> {
    let root = workspace::root()?;
    let mut sources = Vec::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        if folder.is_dir() {
            read_folder(&root, &folder, &mut sources)?;
        }
    }
    for entry in fs::read_dir(&root).context("cannot read the workspace")? {
        read_file(&root, &entry?.path(), &mut sources)?;
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn read_folder(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let skipped = path
            .file_name()
            .is_some_and(|name| name == "target" || name == "results");
        match path.is_dir() {
            true if skipped => {}
            true => read_folder(root, &path, sources)?,
            false => read_file(root, &path, sources)?,
        }
    }
    Ok(())
}

fn read_file(root: &Path, path: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let known = path
        .extension()
        .and_then(|suffix| suffix.to_str())
        .is_some_and(|suffix| SUFFIXES.contains(&suffix));
    let ours = known || path.starts_with(root.join(".ci"));
    if !ours || !path.is_file() {
        return Ok(());
    }
    // A file that somebody removes or saves while we look is not worth a failure.
    let Ok(text) = fs::read_to_string(path) else {
        return Ok(());
    };
    let relative = path
        .strip_prefix(root)
        .context("a file outside of the workspace")?;
    let path = relative.to_string_lossy().replace('\\', "/");
    sources.push(Source { path, text });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_not_code() {
        let text =
            "//! Head.\n\nfn f() {} // tail\n/* one */\n/*\nlong\n*/\nfn g() {}\n    /// doc\n";
        let source = Source {
            path: "a/b.rs".to_owned(),
            text: text.to_owned(),
        };
        let code: Vec<_> = source.code_lines().map(|line| line.number).collect();
        assert_eq!(code, [3, 8]);
        assert_eq!(source.file_name(), "b.rs");
    }
}
