//! `find`: names at and below a path, as they come.

use std::ffi::OsStr;

use arustio_client::{FileSystem, FsError, ListOptions, StatOptions};
use arustio_types::meta::status::FileStatus;
use futures::TryStreamExt;

use crate::local::fs_path;
use crate::output::{self, Output, printable};

/// Prints the paths whose last component matches.
pub(crate) async fn find(
    fs: &dyn FileSystem,
    out: &mut Output,
    path: &OsStr,
    pattern: Option<&str>,
) -> Result<u8, FsError> {
    let path = fs_path(path)?;
    let top = fs.stat(&path, StatOptions::default()).await?;
    show(out, &top, pattern)?;
    if !top.is_dir() {
        return Ok(0);
    }
    let mut entries = fs.list(
        &path,
        ListOptions {
            recursive: true,
            ..ListOptions::default()
        },
    );
    while let Some(entry) = entries.try_next().await? {
        show(out, &entry, pattern)?;
    }
    Ok(0)
}

fn show(out: &mut Output, entry: &FileStatus, pattern: Option<&str>) -> Result<(), FsError> {
    let name = entry.path.name().unwrap_or_default();
    if pattern.is_some_and(|pattern| !matches(pattern, name)) {
        return Ok(());
    }
    match out.is_json() {
        true => out.object(&output::entry_json(entry, None)),
        false => out.line(&printable(entry.path.as_str())),
    }
}

/// Whether a name is what a pattern says: `*` stands for any text, `?` for one character.
/// A star is given more only when what follows it does not fit, so that the time is
/// bounded by the product of both lengths.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(one) if *one == '?' || *one == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, taken)) = star else {
                    return false;
                };
                star = Some((after, taken + 1));
                p = after;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|one| *one == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_any_text_and_a_question_mark_one_character() {
        for (pattern, name) in [
            ("*.txt", "a.txt"),
            ("*", ""),
            ("a?c*", "abcdef"),
            ("*b*b", "abcabcb"),
            ("größe", "größe"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.txt", "a.txt~"), ("?", ""), ("a", "ab"), ("*b*b", "b")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
