//! The local side of a command: paths as typed, files, and their errors.

mod file;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use arustio_client::FsError;
use arustio_types::{ErrorKind, FsPath};

pub(crate) use file::LocalFile;

/// A path of the namespace, as the shell handed it over.
pub(crate) fn fs_path(typed: &OsStr) -> Result<FsPath, FsError> {
    FsPath::from_bytes(typed.as_bytes()).map_err(FsError::from)
}

/// An error of the local file system, on what and during what.
pub(crate) fn local_error(verb: &'static str, path: &Path, error: &io::Error) -> FsError {
    use io::ErrorKind as Io;
    let kind = match error.kind() {
        Io::NotFound => ErrorKind::NotFound,
        Io::AlreadyExists => ErrorKind::AlreadyExists,
        Io::PermissionDenied => ErrorKind::PermissionDenied,
        Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
        Io::NotADirectory => ErrorKind::NotADirectory,
        Io::IsADirectory => ErrorKind::IsADirectory,
        Io::DirectoryNotEmpty => ErrorKind::NotEmpty,
        Io::ReadOnlyFilesystem => ErrorKind::ReadOnly,
        Io::TimedOut => ErrorKind::Timeout,
        _ => ErrorKind::Internal,
    };
    let message = match kind {
        ErrorKind::NotFound => "no such local file or directory".to_owned(),
        ErrorKind::NoSpace => {
            "the local disk is full; free some space and repeat the command".to_owned()
        }
        ErrorKind::PermissionDenied => "permission denied on the local disk".to_owned(),
        _ => format!("local {error}"),
    };
    FsError::new(kind, message)
        .during(verb)
        .at_text(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_utf8_is_refused_by_kind() {
        let error = fs_path(OsStr::from_bytes(b"/a\xff")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidPath);
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_full_disk_has_its_own_exit_code() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = local_error("write", Path::new("/x"), &full);
        assert_eq!(error.exit_code(), 8);
    }
}
