//! Paths of the namespace.
//!
//! An [`FsPath`] is absolute, normalised and checked once, at construction (N6):
//! whoever holds one needs no further check. Nothing is decoded, expanded or
//! folded: a path is taken literally, and what is not a path is refused with the
//! component and the reason.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest path in bytes (N6).
pub const MAX_PATH: usize = 4096;
/// Longest single name in bytes (N6).
pub const MAX_NAME: usize = 255;

/// An absolute, `/`-separated, UTF-8 path without empty, `.` or `..` components.
///
/// Cheap to clone. The root is `/`; no other path ends in `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FsPath(Arc<str>);

impl FsPath {
    /// The root of the namespace.
    pub fn root() -> Self {
        Self(Arc::from("/"))
    }

    /// Checks and takes a path. One trailing `/` is dropped, as shells add it.
    pub fn new(path: &str) -> Result<Self, InvalidPath> {
        if path == "/" {
            return Ok(Self::root());
        }
        let refuse = |component: &str, reason| Err(InvalidPath::new(path, component, reason));
        let Some(rest) = path.strip_prefix('/') else {
            return refuse("", PathFault::Relative);
        };
        if path.len() > MAX_PATH {
            return refuse("", PathFault::TooLong);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        for name in rest.split('/') {
            if let Some(fault) = name_fault(name) {
                return refuse(name, fault);
            }
        }
        Ok(Self(Arc::from(&path[..=rest.len()])))
    }

    /// Takes a path that may not be UTF-8, as the operating system hands it over.
    pub fn from_bytes(path: &[u8]) -> Result<Self, InvalidPath> {
        match std::str::from_utf8(path) {
            Ok(text) => Self::new(text),
            Err(_) => Err(InvalidPath::new(
                &String::from_utf8_lossy(path),
                "",
                PathFault::NotUtf8,
            )),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.rfind('/').unwrap_or(0);
        Some(if cut == 0 {
            Self::root()
        } else {
            Self(Arc::from(&self.0[..cut]))
        })
    }

    /// The last component; `None` for the root.
    pub fn name(&self) -> Option<&str> {
        let cut = self.0.bytes().rposition(|byte| byte == b'/')?;
        self.0.get(cut + 1..).filter(|name| !name.is_empty())
    }

    /// The components in order; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// Number of components; 0 for the root.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// This path with one more component.
    pub fn join(&self, name: &str) -> Result<Self, InvalidPath> {
        self.check_child(name)?;
        Ok(Self(Arc::from(self.child_text(name))))
    }

    /// Whether this path can have one more component.
    pub(crate) fn check_child(&self, name: &str) -> Result<(), InvalidPath> {
        // The separator counts for the root too, which can only refuse a name that is
        // too long by itself.
        match name_fault(name) {
            Some(fault) => Err(InvalidPath::new(&self.child_text(name), name, fault)),
            None if self.0.len() + 1 + name.len() > MAX_PATH => Err(InvalidPath::new(
                &self.child_text(name),
                "",
                PathFault::TooLong,
            )),
            None => Ok(()),
        }
    }

    /// A text that [`FsPath::check_child`] has accepted, with what it was accepted for.
    pub(crate) fn of_checked(text: &str) -> Self {
        Self(Arc::from(text))
    }

    fn child_text(&self, name: &str) -> String {
        let slash = if self.is_root() { "" } else { "/" };
        [&*self.0, slash, name].concat()
    }

    /// This path with a relative path of any depth below it; `""` is the path itself.
    pub fn join_relative(&self, relative: &str) -> Result<Self, InvalidPath> {
        if relative.is_empty() {
            return Ok(self.clone());
        }
        let slash = if self.is_root() { "" } else { "/" };
        Self::new(&format!("{}{slash}{relative}", self.0))
    }

    /// Whether this path is `ancestor` or lies below it, compared by component.
    pub fn starts_with(&self, ancestor: &FsPath) -> bool {
        self.relative_to(ancestor).is_some()
    }

    /// What follows `ancestor`, without a leading `/`; `""` when they are equal,
    /// `None` when this path does not lie below it.
    pub fn relative_to(&self, ancestor: &FsPath) -> Option<&str> {
        if ancestor.is_root() {
            return Some(&self.0[1..]);
        }
        let rest = self.0.strip_prefix(ancestor.as_str())?;
        if rest.is_empty() {
            return Some(rest);
        }
        rest.strip_prefix('/')
    }

    /// Every ancestor from the root down to the parent; none for the root.
    pub fn ancestors(&self) -> Vec<FsPath> {
        let mut found = Vec::new();
        let mut next = self.parent();
        while let Some(path) = next {
            next = path.parent();
            found.push(path);
        }
        found.reverse();
        found
    }
}

/// Why `name` cannot be one component of a path; `None` when it can.
pub fn name_fault(name: &str) -> Option<PathFault> {
    match name {
        "" => Some(PathFault::Empty),
        "." => Some(PathFault::Dot),
        ".." => Some(PathFault::DotDot),
        _ if name.len() > MAX_NAME => Some(PathFault::NameTooLong),
        // Nearly every name has neither; looked at without a branch for each byte.
        _ if !name
            .bytes()
            .fold(false, |bad, byte| bad | (byte == 0) | (byte == b'/')) =>
        {
            None
        }
        _ if name.contains('\0') => Some(PathFault::Nul),
        _ => Some(PathFault::Slash),
    }
}

impl fmt::Display for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl FromStr for FsPath {
    type Err = InvalidPath;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl AsRef<str> for FsPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The rule that a refused path broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFault {
    /// It does not start with `/`.
    Relative,
    /// More than [`MAX_PATH`] bytes.
    TooLong,
    /// A component of no characters.
    Empty,
    /// A component `.`.
    Dot,
    /// A component `..`.
    DotDot,
    /// A component of more than [`MAX_NAME`] bytes.
    NameTooLong,
    /// A component with a NUL character.
    Nul,
    /// A name that contains the separator.
    Slash,
    /// Bytes that are not UTF-8.
    NotUtf8,
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relative => "it must start with '/'",
            Self::TooLong => "it is longer than 4096 bytes",
            Self::Empty => "it has an empty component ('//')",
            Self::Dot => "a component '.' is not allowed",
            Self::DotDot => "a component '..' is not allowed",
            Self::NameTooLong => "a component is longer than 255 bytes",
            Self::Nul => "a component contains a NUL character",
            Self::Slash => "a name cannot contain '/'",
            Self::NotUtf8 => "it is not valid UTF-8",
        })
    }
}

/// A path that was refused, with the component that broke the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPath {
    path: String,
    component: String,
    fault: PathFault,
}

impl InvalidPath {
    fn new(path: &str, component: &str, fault: PathFault) -> Self {
        Self {
            path: shorten(path),
            component: shorten(component),
            fault,
        }
    }

    /// The rule that was broken.
    pub fn fault(&self) -> PathFault {
        self.fault
    }
}

impl fmt::Display for InvalidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid path {:?}: {}", self.path, self.fault)?;
        if !self.component.is_empty() && self.component.len() > 2 {
            write!(f, " (component {:?})", self.component)?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidPath {}

/// Keeps messages readable when a path is absurdly long.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 120;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    let head: String = text.chars().take(SHOWN).collect();
    format!("{head}... ({} bytes)", text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(path: &str) -> PathFault {
        FsPath::new(path).unwrap_err().fault()
    }

    #[test]
    fn n6_paths_that_break_a_rule_are_refused_with_it() {
        assert_eq!(fault("a/b"), PathFault::Relative);
        assert_eq!(fault(""), PathFault::Relative);
        assert_eq!(fault("/a//b"), PathFault::Empty);
        assert_eq!(fault("//"), PathFault::Empty);
        assert_eq!(fault("/a/./b"), PathFault::Dot);
        assert_eq!(fault("/a/.."), PathFault::DotDot);
        assert_eq!(fault("/a\0b"), PathFault::Nul);
        assert_eq!(
            fault(&format!("/{}", "x".repeat(256))),
            PathFault::NameTooLong
        );
        assert_eq!(fault(&"/abc".repeat(1025)), PathFault::TooLong);
        assert!(FsPath::new(&format!("/{}", "x".repeat(255))).is_ok());
        assert_eq!(
            FsPath::from_bytes(b"/a\xff").unwrap_err().fault(),
            PathFault::NotUtf8
        );
    }

    #[test]
    fn parent_name_and_join_agree() {
        let path = FsPath::new("/a/b/").unwrap();
        assert_eq!(path.as_str(), "/a/b");
        assert_eq!(path.parent().unwrap().as_str(), "/a");
        assert_eq!(path.name(), Some("b"));
        assert_eq!(path.parent().unwrap().join("b").unwrap(), path);
        assert_eq!(FsPath::root().parent(), None);
        assert_eq!(path.ancestors().len(), 2);
    }

    #[test]
    fn prefixes_are_compared_by_component() {
        let path = FsPath::new("/data/ab").unwrap();
        assert!(!path.starts_with(&FsPath::new("/data/a").unwrap()));
        assert!(path.starts_with(&FsPath::new("/data").unwrap()));
        assert_eq!(path.relative_to(&FsPath::root()), Some("data/ab"));
        assert_eq!(path.relative_to(&path), Some(""));
    }

    proptest! {
        #[test]
        fn an_accepted_path_reads_back_as_itself(text in "(/[a-zA-Z0-9 ._é-]{1,12}){1,8}") {
            if let Ok(path) = FsPath::new(&text) {
                prop_assert_eq!(FsPath::new(path.as_str()).unwrap(), path.clone());
                let rebuilt = path.components().try_fold(FsPath::root(), |p, c| p.join(c)).unwrap();
                prop_assert_eq!(rebuilt, path);
            }
        }
    }
}
