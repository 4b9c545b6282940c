//! `chmod`, `chown`, `chgrp`: what a namespace knows of a name beside its object.

use std::ffi::OsString;

use arustio_client::{FileSystem, FsError, ListOptions};
use arustio_types::ErrorKind;
use arustio_types::meta::command::AttributeChange;
use futures::TryStreamExt;

use crate::local::fs_path;

fn invalid(message: impl Into<String>) -> FsError {
    FsError::new(ErrorKind::InvalidArgument, message)
}

/// Changes permission bits.
pub(crate) async fn chmod(
    fs: &dyn FileSystem,
    paths: &[OsString],
    mode: &str,
    recursive: bool,
) -> Result<u8, FsError> {
    let change = AttributeChange {
        mode: Some(octal(mode)?),
        ..AttributeChange::default()
    };
    change_all(fs, paths, &change, recursive).await
}

fn octal(mode: &str) -> Result<u32, FsError> {
    let bits = u32::from_str_radix(mode, 8).ok();
    bits.filter(|bits| *bits <= 0o7777).ok_or_else(|| {
        invalid(format!(
            "cannot read the mode {mode:?}: give it in octal, such as 640 or 0755"
        ))
    })
}

/// Changes the owner, the group, or both.
pub(crate) async fn chown(
    fs: &dyn FileSystem,
    paths: &[OsString],
    owner: &str,
    recursive: bool,
) -> Result<u8, FsError> {
    change_all(fs, paths, &owner_and_group(owner)?, recursive).await
}

fn owner_and_group(text: &str) -> Result<AttributeChange, FsError> {
    let (owner, group) = text.split_once(':').unwrap_or((text, ""));
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    match (named(owner), named(group)) {
        (None, None) => Err(invalid(
            "nothing to change: give OWNER, OWNER:GROUP or :GROUP",
        )),
        (owner, group) => Ok(AttributeChange {
            owner,
            group,
            ..AttributeChange::default()
        }),
    }
}

/// Changes the group.
pub(crate) async fn chgrp(
    fs: &dyn FileSystem,
    paths: &[OsString],
    group: String,
    recursive: bool,
) -> Result<u8, FsError> {
    let change = AttributeChange {
        group: Some(group),
        ..AttributeChange::default()
    };
    change_all(fs, paths, &change, recursive).await
}

async fn change_all(
    fs: &dyn FileSystem,
    paths: &[OsString],
    change: &AttributeChange,
    recursive: bool,
) -> Result<u8, FsError> {
    for path in paths {
        let path = fs_path(path)?;
        fs.set_attributes(&path, change.clone()).await?;
        if !recursive {
            continue;
        }
        let mut entries = fs.list(
            &path,
            ListOptions {
                recursive: true,
                ..ListOptions::default()
            },
        );
        while let Some(entry) = entries.try_next().await? {
            if entry.path != path {
                fs.set_attributes(&entry.path, change.clone()).await?;
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_owners_may_bring_a_group() {
        assert_eq!(octal("0755").unwrap(), 0o755);
        for wrong in ["u+x", "99999", "8", ""] {
            assert_eq!(octal(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
        let both = owner_and_group("ann:staff").unwrap();
        assert_eq!(both.owner.as_deref(), Some("ann"));
        assert_eq!(both.group.as_deref(), Some("staff"));
        assert_eq!(owner_and_group(":staff").unwrap().owner, None);
        assert!(owner_and_group(":").is_err());
    }
}
