//! Names, files and identities below one directory.
//!
//! Every step down is an `openat` that follows no link, so that nothing outside the root
//! can be reached, whoever changes links meanwhile. Everything here blocks.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::{ObjectVersion, Timestamp, UfsKey, WallClock, WriteId};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::Until;
use super::commit::TEMPORARY;
use crate::error::{Place, Result, UfsError};
use crate::key::{Meaning, meaning};
use crate::ufs::{Deleted, EntryKind, ObjectEntry, WriteMode, WriteOptions, Written};

/// The attribute that holds the write id (W2).
const WRITE_ID: &str = "user.arustio.write-id";
/// Identities younger than this may hide a change (U8).
const YOUNG: Duration = Duration::from_secs(2);

/// How directories on the way are opened.
pub(super) fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// What a key means here: a relative path without slashes at its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    File(String),
    Directory(String),
}

/// The directory that everything lies in.
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    text: Arc<str>,
    clock: Arc<dyn WallClock>,
    attributes: bool,
    /// Held from a comparison to the rename or unlink that follows it, by this process.
    pub(super) commits: Mutex<()>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({})", self.text)
    }
}

impl Tree {
    pub(super) fn open(root: &Path, text: Arc<str>, clock: Arc<dyn WallClock>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(root, flags, Mode::empty());
        let at = || Place::new(&text, &UfsKey::default());
        let root = match opened {
            Ok(root) => root,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let what = format!("the directory {}", root.display());
                return Err(UfsError::RootMissing { ufs: text, what });
            }
            Err(error) => return Err(failed(at(), error.into())),
        };
        // Asking for an attribute that is not there tells whether there are any.
        let mut none = [0u8; 0];
        let asked = rustix::fs::fgetxattr(&root, WRITE_ID, &mut none);
        Ok(Self {
            root,
            text,
            clock,
            attributes: !matches!(asked, Err(Errno::NOTSUP)),
            commits: Mutex::new(()),
        })
    }

    pub(super) fn has_attributes(&self) -> bool {
        self.attributes
    }

    pub(super) fn place(&self, key: &UfsKey) -> Place {
        Place::new(&self.text, key)
    }

    pub(super) fn failed(&self, key: &UfsKey, error: io::Error) -> UfsError {
        failed(self.place(key), error)
    }

    /// What a key means, or why it cannot stand in a directory.
    pub(super) fn name(&self, key: &UfsKey) -> Result<Name> {
        let refuse = |what: String| {
            Err(UfsError::InvalidArgument {
                at: self.place(key),
                what,
            })
        };
        let name = match meaning(key, 0) {
            Ok(Meaning::File(path)) => Name::File(path.to_owned()),
            Ok(Meaning::Directory(path)) => Name::Directory(path.to_owned()),
            Err(fault) => return refuse(fault.to_string()),
        };
        let (Name::File(path) | Name::Directory(path)) = &name;
        if path.split('/').next() == Some(TEMPORARY) {
            return refuse("this name is kept for temporary files".to_owned());
        }
        Ok(name)
    }

    /// Opens the directory that holds the last component, and gives both.
    pub(super) fn parent<'a>(
        &self,
        path: &'a str,
        create: bool,
    ) -> Result<(OwnedFd, &'a str), Errno> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.directory(folder, create)?, name))
    }

    /// Opens a directory below the root; `""` is the root.
    pub(super) fn directory(&self, path: &str, create: bool) -> Result<OwnedFd, Errno> {
        let root = rustix::fs::openat(&self.root, ".", directory_flags(), Mode::empty())?;
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(root, |folder, part| step_down(&folder, part, create))
    }

    /// What stands under a key.
    pub(super) fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        Ok(self.open_object(key)?.map(|(_, entry)| entry))
    }

    /// Opens what stands under a key; a directory is opened as a marker without file.
    pub(super) fn open_object(
        &self,
        key: &UfsKey,
    ) -> Result<Option<(Option<OwnedFd>, ObjectEntry)>> {
        let name = match self.name(key) {
            Ok(name) => name,
            // What cannot be here is not here.
            Err(_) => return Ok(None),
        };
        let opened = match &name {
            Name::Directory(path) => self.directory(path, false),
            Name::File(path) => self.open_file(path),
        };
        let file = match opened {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return Ok(None);
            }
            Err(error) => return Err(self.failed(key, error.into())),
        };
        let stat = self.stat(key, &file)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut entry = self.entry(key, &stat);
        entry.write_id = read_write_id(&file);
        Ok(match (&name, kind) {
            (Name::Directory(_), FileType::Directory) => Some((None, entry)),
            (Name::File(_), FileType::RegularFile) => Some((Some(file), entry)),
            _ => None,
        })
    }

    fn open_file(&self, path: &str) -> Result<OwnedFd, Errno> {
        let (folder, name) = self.parent(path, false)?;
        // A pipe must not make us wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&folder, name, flags, Mode::empty())
    }

    fn stat(&self, key: &UfsKey, file: impl AsFd) -> Result<Stat> {
        rustix::fs::fstat(file).map_err(|error| self.failed(key, error.into()))
    }

    pub(super) fn version_of_file(&self, key: &UfsKey, file: impl AsFd) -> Result<ObjectVersion> {
        Ok(version(&self.stat(key, file)?))
    }

    pub(super) fn entry(&self, key: &UfsKey, stat: &Stat) -> ObjectEntry {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let size = if directory { 0 } else { stat.st_size as u64 };
        let changed = millis(stat.st_ctime, stat.st_ctime_nsec as i64);
        let modified = millis(stat.st_mtime, stat.st_mtime_nsec as i64);
        let newest = changed.max(modified);
        ObjectEntry {
            key: key.clone(),
            kind: if directory {
                EntryKind::Marker
            } else {
                EntryKind::Object
            },
            size,
            modified,
            version: version(stat),
            write_id: None,
            // A change in the future is as good as one just now.
            young: !directory && self.clock.now().since(newest) < YOUNG,
        }
    }

    /// The version that stands under a path now.
    pub(super) fn current(
        &self,
        key: &UfsKey,
        folder: &OwnedFd,
        name: &str,
    ) -> Result<Option<ObjectVersion>> {
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(version(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed(key, error.into())),
        }
    }

    /// Makes the directory that a marker stands for.
    pub(super) fn make_directory(
        &self,
        key: &UfsKey,
        path: &str,
        bytes: u64,
        options: &WriteOptions,
        until: Until,
    ) -> Result<Written> {
        let at = self.place(key);
        if bytes > 0 || path.is_empty() {
            let what = "a directory cannot hold bytes, and the root is there already".to_owned();
            return Err(UfsError::InvalidArgument { at, what });
        }
        let here = |error: Errno| self.failed(key, error.into());
        let (folder, name) = self.parent(path, true).map_err(here)?;
        let _alone = self.commits.lock();
        until.check(at.clone())?;
        let current = self.current(key, &folder, name)?;
        match (&options.mode, current) {
            (WriteMode::CreateOnly, Some(_)) => return Err(UfsError::AlreadyExists { at }),
            (WriteMode::ReplaceIf(version), current) if current.as_ref() != Some(version) => {
                return Err(UfsError::Conflict { at });
            }
            (WriteMode::CreateOnly | WriteMode::Replace | WriteMode::ReplaceIf(_), _) => {}
        }
        let made = rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o777));
        let exists = matches!(made, Err(Errno::EXIST));
        match made {
            Err(Errno::EXIST) if options.mode == WriteMode::CreateOnly => {
                return Err(UfsError::AlreadyExists { at });
            }
            Err(error) if !exists => return Err(here(error)),
            _ => {}
        }
        let made = rustix::fs::openat(&folder, name, directory_flags(), Mode::empty());
        let made = made.map_err(here)?;
        self.set_write_id(key, &made, options.write_id)?;
        rustix::fs::fsync(&folder).map_err(here)?;
        Ok(Written::answered(self.version_of_file(key, &made)?))
    }

    pub(super) fn set_write_id(&self, key: &UfsKey, file: impl AsFd, id: WriteId) -> Result<()> {
        if !self.attributes {
            return Ok(());
        }
        let text = id.to_string();
        let set = rustix::fs::fsetxattr(file, WRITE_ID, text.as_bytes(), XattrFlags::empty());
        match set {
            Ok(()) | Err(Errno::NOTSUP) => Ok(()),
            Err(error) => Err(self.failed(key, error.into())),
        }
    }

    pub(super) fn delete(
        &self,
        key: &UfsKey,
        required: Option<&ObjectVersion>,
        until: Until,
    ) -> Result<Deleted> {
        let Ok(name) = self.name(key) else {
            return Ok(Deleted::default());
        };
        let (path, flags) = match &name {
            Name::File(path) => (path, AtFlags::empty()),
            Name::Directory(path) => (path, AtFlags::REMOVEDIR),
        };
        let (folder, last) = match self.parent(path, false) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Deleted::default()),
            Err(error) => return Err(self.failed(key, error.into())),
        };
        let _alone = super::commit::exclusively(self, key)?;
        until.check(self.place(key))?;
        let Some(current) = self.current(key, &folder, last)? else {
            return Ok(Deleted::default());
        };
        if required.is_some_and(|version| *version != current) {
            return Err(UfsError::Conflict {
                at: self.place(key),
            });
        }
        match rustix::fs::unlinkat(&folder, last, flags) {
            // A directory with content stays, as a prefix does; a file of the same name
            // is no directory, and a directory no file.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {}
            Err(error) => return Err(self.failed(key, error.into())),
        }
        rustix::fs::fsync(&folder).map_err(|error| self.failed(key, error.into()))?;
        Ok(Deleted::default())
    }
}

fn step_down(folder: &OwnedFd, part: &str, create: bool) -> Result<OwnedFd, Errno> {
    let open = || rustix::fs::openat(folder, part, directory_flags(), Mode::empty());
    match open() {
        Err(Errno::NOENT) if create => {
            match rustix::fs::mkdirat(folder, part, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(error) => Err(error),
            }
        }
        opened => opened,
    }
}

fn read_write_id(file: impl AsFd) -> Option<WriteId> {
    let mut text = [0u8; 32];
    let length = rustix::fs::fgetxattr(file, WRITE_ID, &mut text).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.parse().ok()
}

/// The identity of what `fstat` describes. A directory's times change with its entries,
/// so that it is told by its inode alone.
pub(super) fn version(stat: &Stat) -> ObjectVersion {
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return ObjectVersion::new(&format!("dir-{:x}-{:x}", stat.st_dev, stat.st_ino));
    }
    ObjectVersion::new(&format!(
        "{:x}-{:x}-{}.{:09}-{}.{:09}-{}",
        stat.st_dev,
        stat.st_ino,
        stat.st_ctime,
        stat.st_ctime_nsec,
        stat.st_mtime,
        stat.st_mtime_nsec,
        stat.st_size,
    ))
}

fn millis(seconds: i64, nanos: i64) -> Timestamp {
    Timestamp::from_millis(
        seconds
            .saturating_mul(1000)
            .saturating_add(nanos / 1_000_000),
    )
}

/// What the kernel's words mean for a caller.
fn failed(at: Place, error: io::Error) -> UfsError {
    let detail = error.to_string();
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => UfsError::NotFound { at },
        Some(Errno::ACCESS | Errno::PERM) => UfsError::PermissionDenied { at, detail },
        Some(Errno::ROFS) => UfsError::PermissionDenied {
            at,
            detail: "the file system is mounted read-only".to_owned(),
        },
        Some(Errno::NOSPC | Errno::DQUOT) => UfsError::NoSpace { at, detail },
        Some(Errno::EXIST) => UfsError::AlreadyExists { at },
        Some(Errno::NOTDIR | Errno::LOOP) => UfsError::InvalidArgument {
            at,
            what: "a file or a link stands where a directory is needed".to_owned(),
        },
        Some(Errno::ISDIR) => UfsError::InvalidArgument {
            at,
            what: "a directory of this name is there".to_owned(),
        },
        Some(Errno::NAMETOOLONG) => UfsError::InvalidArgument {
            at,
            what: "the name is too long for this file system".to_owned(),
        },
        Some(Errno::XDEV) => UfsError::Unsupported {
            at,
            what: "a file system mounted below the root",
            instead: "mount it by itself",
        },
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => {
            UfsError::Busy { at, detail }
        }
        _ => UfsError::Failed { at, what: detail },
    }
}
