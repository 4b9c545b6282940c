//! Who may do what.
//!
//! As long as nobody is authenticated, everything is allowed: a check by a name that
//! anyone may state would only look like one. What the bits mean is written down here,
//! in one place, for when principals can be trusted.

use arustio_types::ErrorKind;
use arustio_types::FsPath;
use arustio_types::meta::command::{Principal, Refusal};

use super::resolve::Under;
use crate::engine::record::Attributes;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read a file, list a directory.
    Read,
    /// Change a file, add and remove names of a directory.
    Write,
    /// Look up a name in a directory.
    Search,
}

/// Whether the bits of a file or directory grant an access.
pub fn grants(attributes: &Attributes, principal: &Principal, access: Access) -> bool {
    let bit = match access {
        Access::Read => 0o4,
        Access::Write => 0o2,
        Access::Search => 0o1,
    };
    let class = if principal.user == attributes.owner {
        6
    } else if principal.groups.contains(&attributes.group) {
        3
    } else {
        0
    };
    attributes.mode >> class & bit != 0
}

/// Refuses a change below a read-only mount (U5).
pub(crate) fn writable(under: &Under, path: &FsPath) -> Result<(), Refusal> {
    if !under.entry.spec.readonly {
        return Ok(());
    }
    let message = format!(
        "{} is mounted read-only; mount it again without --readonly to change it",
        under.entry.spec.path
    );
    Err(Refusal::on(ErrorKind::ReadOnly, path, message))
}

/// Refuses permission bits that are none.
pub(crate) fn valid_mode(mode: u32, path: &FsPath) -> Result<(), Refusal> {
    match mode & !0o7777 {
        0 => Ok(()),
        _ => Err(Refusal::on(
            ErrorKind::InvalidArgument,
            path,
            format!("mode {mode:o} is out of range; give at most 7777"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::Timestamp;

    #[test]
    fn the_first_class_that_fits_decides() {
        let attributes = Attributes {
            mode: 0o640,
            owner: "ann".to_owned(),
            group: "staff".to_owned(),
            modified: Timestamp::default(),
        };
        let who = |user: &str, group: &str| Principal {
            user: user.to_owned(),
            groups: vec![group.to_owned()],
        };
        assert!(grants(&attributes, &who("ann", "x"), Access::Write));
        assert!(grants(&attributes, &who("bob", "staff"), Access::Read));
        assert!(!grants(&attributes, &who("bob", "staff"), Access::Write));
        assert!(!grants(&attributes, &who("eve", "x"), Access::Read));
    }
}
