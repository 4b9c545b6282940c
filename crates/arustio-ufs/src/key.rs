//! From paths below a mount to keys, and back (U3).
//!
//! A file `a/b` is the object `a/b`. A directory `a` is the prefix `a/`, and exists by
//! itself where there is a marker, an empty object `a/`. Stores hold keys that no path
//! can name; they are told with the reason, never dropped silently and never a reason
//! to refuse their neighbours.

use std::fmt;

use arustio_types::UfsKey;
use arustio_types::path::{MAX_PATH, PathFault, name_fault};

/// The key of a file at a path relative to the mount, such as `a/b`.
pub fn file_key(relative: &str) -> UfsKey {
    UfsKey::new(relative)
}

/// The prefix of everything below a directory, and the key of its marker: `a/` for `a`,
/// the empty key for the mount itself.
pub fn directory_key(relative: &str) -> UfsKey {
    if relative.is_empty() {
        return UfsKey::default();
    }
    UfsKey::new(&format!("{relative}/"))
}

/// What an object stands for below the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// A file at this relative path.
    File(&'a str),
    /// A directory at this relative path; empty for the mount itself.
    Directory(&'a str),
}

/// What an object of this key and size stands for, or why no path can name it.
pub fn meaning(key: &UfsKey, size: u64) -> Result<Meaning<'_>, KeyFault> {
    let text = key.as_str();
    if text.is_empty() {
        return Ok(Meaning::Directory(""));
    }
    let (path, directory) = match text.strip_suffix('/') {
        Some(path) => (path, true),
        None => (text, false),
    };
    if path.len() >= MAX_PATH {
        return Err(KeyFault::Path(PathFault::TooLong));
    }
    if let Some(fault) = path.split('/').find_map(name_fault) {
        return Err(KeyFault::Path(fault));
    }
    match (directory, size) {
        (false, _) => Ok(Meaning::File(path)),
        (true, 0) => Ok(Meaning::Directory(path)),
        (true, _) => Err(KeyFault::BytesUnderSlash),
    }
}

/// One name of a directory level, as a listing with a delimiter gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child<'a> {
    /// The marker of the listed directory.
    Itself,
    /// A file of this name.
    File(&'a str),
    /// A directory of this name.
    Directory(&'a str),
}

/// The name of an object or common prefix in the directory whose prefix (empty or with
/// a `/` at its end) was listed, or why it cannot be one.
pub fn child<'a>(prefix: &UfsKey, key: &'a UfsKey, size: u64) -> Result<Child<'a>, KeyFault> {
    let Some(rest) = key.as_str().strip_prefix(prefix.as_str()) else {
        return Err(KeyFault::Elsewhere);
    };
    if rest.is_empty() {
        return match size {
            0 => Ok(Child::Itself),
            _ => Err(KeyFault::BytesUnderSlash),
        };
    }
    let (name, directory) = match rest.strip_suffix('/') {
        Some(name) => (name, true),
        None => (rest, false),
    };
    match name_fault(name) {
        Some(fault) => Err(KeyFault::Path(fault)),
        None if directory => Ok(Child::Directory(name)),
        None => Ok(Child::File(name)),
    }
}

/// Why a key is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// It breaks a rule of paths.
    Path(PathFault),
    /// It ends in `/` like a directory marker, but has bytes.
    BytesUnderSlash,
    /// There is a directory of the same name; the directory wins.
    Shadowed,
    /// It does not lie below the listed prefix.
    Elsewhere,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(PathFault::Empty) => {
                f.write_str("the key has an empty component ('//' or a leading '/')")
            }
            Self::Path(PathFault::Dot) => f.write_str("the key has a component '.'"),
            Self::Path(PathFault::DotDot) => f.write_str("the key has a component '..'"),
            Self::Path(fault) => write!(f, "{fault}"),
            Self::BytesUnderSlash => f.write_str("the key ends in '/' but the object has bytes"),
            Self::Shadowed => f.write_str("a directory of the same name hides this object"),
            Self::Elsewhere => f.write_str("the store listed a key outside the prefix asked for"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(key: &str, size: u64) -> String {
        meaning(&UfsKey::new(key), size).unwrap_err().to_string()
    }

    #[test]
    fn u3_keys_that_cannot_be_paths_say_why() {
        assert!(fault("a//b", 1).contains("empty component"));
        assert!(fault("/a", 1).contains("empty component"));
        assert!(fault("a/", 5).contains("has bytes"));
        assert!(fault("a/../b", 1).contains("'..'"));
        assert!(fault("./b", 1).contains("'.'"));
        assert!(fault(&"x".repeat(256), 1).contains("255"));
        assert!(fault("a\0b", 0).contains("NUL"));
    }

    #[test]
    fn paths_and_keys_go_both_ways() {
        assert_eq!(directory_key("a/b").as_str(), "a/b/");
        assert_eq!(directory_key("").as_str(), "");
        assert_eq!(meaning(&directory_key("a"), 0), Ok(Meaning::Directory("a")));
        assert_eq!(meaning(&file_key("a/b"), 7), Ok(Meaning::File("a/b")));
    }

    #[test]
    fn names_of_a_level_are_told_apart() {
        let prefix = UfsKey::new("d/");
        let child_of = |key: &str, size| {
            let key = UfsKey::new(key);
            format!("{:?}", child(&prefix, &key, size))
        };
        assert_eq!(child_of("d/", 0), "Ok(Itself)");
        assert_eq!(child_of("d/f", 9), "Ok(File(\"f\"))");
        assert_eq!(child_of("d/s/", 0), "Ok(Directory(\"s\"))");
        assert!(child_of("d//", 0).starts_with("Err"));
        assert!(child_of("e/f", 0).contains("Elsewhere"));
    }
}
